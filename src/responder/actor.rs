//! The actor that keeps the responder running: as the config says, and not at all when it says nothing.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::server;
use super::settings::Settings;
use crate::clock::Clock;
use crate::listeners::Listeners;
use crate::supervisor::{Check, Provoke};

/// How often it shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// One that has not done so for this long makes no progress.
const NO_PROGRESS: Duration = Duration::from_secs(5);
/// How long to wait before an address that could not be had is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What every incarnation is made of.
#[derive(Clone)]
pub struct ResponderParts {
    /// `[responder]`, if there is one; a reload sends a new one.
    pub settings: watch::Receiver<Option<Settings>>,
    /// Where is told whether it listens.
    pub listeners: Listeners,
    /// The clocks.
    pub clock: Clock,
}

/// The actor.
pub struct Responder {
    parts: ResponderParts,
    progress: Rc<Cell<Duration>>,
    task: Option<SpawnHandle>,
}

impl Responder {
    /// A fresh one, for every start.
    pub fn new(parts: ResponderParts) -> Self {
        let progress = Rc::new(Cell::new(parts.clock.now().mono));
        Self { parts, progress, task: None }
    }
}

impl Actor for Responder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (parts, progress) = (self.parts.clone(), Rc::clone(&self.progress));
        let alive = async move {
            let task = respond(parts.settings, parts.listeners);
            tokio::pin!(task);
            // Each time that the heartbeat elapses the task goes on where it was.
            while timeout(HEARTBEAT, &mut task).await.is_err() {
                progress.set(parts.clock.now().mono);
            }
        };
        self.task = Some(ctx.spawn(alive.into_actor(self).map(|(), _, ctx| ctx.stop())));
    }
}

impl Handler<Check> for Responder {
    type Result = Result<(), String>;

    fn handle(&mut self, _: Check, _: &mut Self::Context) -> Self::Result {
        let silent = self.parts.clock.now().mono.saturating_sub(self.progress.get());
        if silent > NO_PROGRESS { Err(format!("no sign of life for {silent:?}")) } else { Ok(()) }
    }
}

impl Handler<Provoke> for Responder {
    type Result = ();

    fn handle(&mut self, Provoke(fault): Provoke, ctx: &mut Self::Context) {
        if let (true, Some(task)) = (fault.strike(), self.task) {
            ctx.cancel_future(task);
        }
    }
}

/// Serves what the settings say, until nobody can change them any more.
async fn respond(mut settings: watch::Receiver<Option<Settings>>, listeners: Listeners) {
    let (mut told, mut place) = (None, None);
    loop {
        let now = settings.borrow_and_update().clone();
        let changed = match now {
            None => {
                place = None;
                settings.changed().await
            }
            Some(now) => match server::serve(now.clone()) {
                Ok(server) => {
                    tracing::info!(listen = %now.listen, "responder listens");
                    told = None;
                    place.insert(listeners.place("responder", now.listen)).open();
                    let handle = server.handle();
                    tokio::pin!(server);
                    let changed = tokio::select! {
                        ended = &mut server => return tell_end(ended),
                        changed = settings.changed() => changed,
                    };
                    // The address must be free before it is taken again; connections are cut.
                    let _ = tokio::join!(handle.stop(false), server);
                    changed
                }
                Err(error) => {
                    tell_once(&mut told, &now, &error);
                    place.insert(listeners.place("responder", now.listen)).closed(&error);
                    tokio::select! {
                        changed = settings.changed() => changed,
                        () = sleep(AGAIN) => Ok(()),
                    }
                }
            },
        };
        if changed.is_err() {
            return;
        }
    }
}

fn tell_end(ended: io::Result<()>) {
    let error = ended.err().map(|error| error.to_string()).unwrap_or_default();
    tracing::error!(error, "responder ended by itself");
}

/// Says why the address cannot be had, unless it was said before.
fn tell_once(told: &mut Option<(Settings, io::ErrorKind)>, settings: &Settings, error: &io::Error) {
    let what = (settings.clone(), error.kind());
    if told.as_ref() != Some(&what) {
        tracing::error!(listen = %settings.listen, %error, "responder cannot listen, it is tried again");
        *told = Some(what);
    }
}
