//! The actor that keeps the page served: where the config says, and not at all when it says nothing.
//!
//! Each address has a server of its own. A reload touches those alone that come or go, and an address that cannot be had is
//! tried again while the others serve.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::host::Hosts;
use super::press::Press;
use super::server::{Names, serve};
use super::settings::Settings;
use crate::clock::Clock;
use crate::listeners::Listeners;
use crate::supervisor::{Check, Provoke};

/// How often it shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// One that has not done so for this long makes no progress.
const NO_PROGRESS: Duration = Duration::from_secs(5);
/// How long to wait before an address that could not be had is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// What every incarnation is made of.
#[derive(Clone)]
pub struct WebParts {
    /// `[web]`, if there is one; a reload sends a new one.
    pub settings: watch::Receiver<Option<Settings>>,
    /// Makes the pages.
    pub press: Press,
    /// The name of this host, if it has one.
    pub host: Option<String>,
    /// Where is told whether it listens.
    pub listeners: Listeners,
    /// The clocks.
    pub clock: Clock,
}

/// The actor.
pub struct Web {
    parts: WebParts,
    progress: Rc<Cell<Duration>>,
    task: Option<SpawnHandle>,
}

impl Web {
    /// A fresh one, for every start.
    pub fn new(parts: WebParts) -> Self {
        let progress = Rc::new(Cell::new(parts.clock.now().mono));
        Self { parts, progress, task: None }
    }
}

impl Actor for Web {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (parts, progress) = (self.parts.clone(), Rc::clone(&self.progress));
        let alive = async move {
            let task = follow(parts.settings, parts.press, parts.host, parts.listeners);
            tokio::pin!(task);
            // Each time that the heartbeat elapses the task goes on where it was.
            while timeout(HEARTBEAT, &mut task).await.is_err() {
                progress.set(parts.clock.now().mono);
            }
        };
        self.task = Some(ctx.spawn(alive.into_actor(self).map(|(), _, ctx| ctx.stop())));
    }
}

impl Handler<Check> for Web {
    type Result = Result<(), String>;

    fn handle(&mut self, _: Check, _: &mut Self::Context) -> Self::Result {
        let silent = self.parts.clock.now().mono.saturating_sub(self.progress.get());
        if silent > NO_PROGRESS { Err(format!("no sign of life for {silent:?}")) } else { Ok(()) }
    }
}

impl Handler<Provoke> for Web {
    type Result = ();

    fn handle(&mut self, Provoke(fault): Provoke, ctx: &mut Self::Context) {
        if let (true, Some(task)) = (fault.strike(), self.task) {
            ctx.cancel_future(task);
        }
    }
}

/// Serves where the settings say, until nobody can change them any more. All servers are polled here, so they end with it.
async fn follow(mut settings: watch::Receiver<Option<Settings>>, press: Press, host: Option<String>, listeners: Listeners) {
    let (names, known) = watch::channel(Arc::<Hosts>::default());
    let mut servers = FuturesUnordered::new();
    // What tells the server of an address to end: that this is dropped.
    let mut places: BTreeMap<SocketAddr, oneshot::Sender<()>> = BTreeMap::new();
    loop {
        let now = settings.borrow_and_update().clone();
        let hosts = now.as_ref().map(|now| now.hosts.as_slice()).unwrap_or_default();
        names.send_replace(Arc::new(Hosts::new(hosts, host.as_deref())));
        let wanted = now.map(|now| now.listen.into_iter().map(|endpoint| endpoint.0).collect::<Vec<_>>()).unwrap_or_default();
        places.retain(|address, _| wanted.contains(address));
        // What is given up must be free before anything is taken: a new address may hold an old one within it.
        while servers.len() > places.len() {
            servers.next().await;
        }
        for address in wanted {
            places.entry(address).or_insert_with(|| {
                let (stop, stopped) = oneshot::channel();
                servers.push(keep(address, press.clone(), known.clone(), listeners.clone(), stopped));
                stop
            });
        }
        loop {
            tokio::select! {
                changed = settings.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(()) = servers.next() => {}
            }
        }
    }
}

/// Serves an address, as soon as it can be had, until it is given up.
async fn keep(address: SocketAddr, press: Press, names: Names, listeners: Listeners, mut given_up: oneshot::Receiver<()>) {
    let (mut told, place) = (None, listeners.place("web", address));
    loop {
        match serve(address, press.clone(), names.clone()) {
            Ok(server) => {
                tracing::info!(listen = %address, "web listens");
                told = None;
                place.open();
                let handle = server.handle();
                tokio::pin!(server);
                tokio::select! {
                    ended = &mut server => {
                        place.closed("its server ended by itself");
                        tell_end(address, ended);
                    }
                    _ = &mut given_up => {
                        // The address must be free before another takes it; connections are cut.
                        let _ = tokio::join!(handle.stop(false), server);
                        tracing::info!(listen = %address, "web does not listen any more");
                        return;
                    }
                }
            }
            Err(error) => {
                tell_once(&mut told, address, &error);
                place.closed(&error);
            }
        }
        tokio::select! {
            _ = &mut given_up => return,
            () = sleep(AGAIN) => {}
        }
    }
}

fn tell_end(address: SocketAddr, ended: io::Result<()>) {
    let error = ended.err().map(|error| error.to_string()).unwrap_or_default();
    tracing::error!(listen = %address, error, "web ended by itself, it is started again");
}

/// Says why the address cannot be had, unless it was said before.
fn tell_once(told: &mut Option<io::ErrorKind>, address: SocketAddr, error: &io::Error) {
    if told.replace(error.kind()) != Some(error.kind()) {
        tracing::error!(listen = %address, %error, "web cannot listen, it is tried again");
    }
}
