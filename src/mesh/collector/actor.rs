//! The actor that keeps the collector's server running: as the config says, and not at all when it says nothing.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::server::{Bound, Deadlines, ListenError, Serving, serve};
use super::settings::{Listen, Settings};
use super::surface::Surface;
use crate::clock::Clock;
use crate::listeners::Listeners;
use crate::settings::explain;
use crate::supervisor::{Check, Provoke};

/// How often it shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// One that has not done so for this long makes no progress.
const NO_PROGRESS: Duration = Duration::from_secs(5);
/// How long to wait before an address that could not be had is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How often it is looked for results that did not come.
const LOOK: Duration = Duration::from_secs(1);

/// What every incarnation is made of.
#[derive(Clone)]
pub struct CollectorParts {
    /// `[collector]`, if there is one; a reload sends a new one.
    pub settings: watch::Receiver<Option<Settings>>,
    /// What outlives the actor.
    pub surface: Arc<Surface>,
    /// Where is told whether it listens.
    pub listeners: Listeners,
    /// The clocks.
    pub clock: Clock,
}

/// The actor.
pub struct Collector {
    parts: CollectorParts,
    progress: Rc<Cell<Duration>>,
    task: Option<SpawnHandle>,
}

impl Collector {
    /// A fresh one, for every start.
    pub fn new(parts: CollectorParts) -> Self {
        let progress = Rc::new(Cell::new(parts.clock.now().mono));
        Self { parts, progress, task: None }
    }
}

impl Actor for Collector {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (parts, progress) = (self.parts.clone(), Rc::clone(&self.progress));
        let alive = async move {
            let task = collect(parts.settings, parts.surface, parts.listeners);
            tokio::pin!(task);
            // Each time that the heartbeat elapses the task goes on where it was.
            while timeout(HEARTBEAT, &mut task).await.is_err() {
                progress.set(parts.clock.now().mono);
            }
        };
        self.task = Some(ctx.spawn(alive.into_actor(self).map(|(), _, ctx| ctx.stop())));
    }
}

impl Handler<Check> for Collector {
    type Result = Result<(), String>;

    fn handle(&mut self, _: Check, _: &mut Self::Context) -> Self::Result {
        let silent = self.parts.clock.now().mono.saturating_sub(self.progress.get());
        if silent > NO_PROGRESS { Err(format!("no sign of life for {silent:?}")) } else { Ok(()) }
    }
}

impl Handler<Provoke> for Collector {
    type Result = ();

    fn handle(&mut self, Provoke(fault): Provoke, ctx: &mut Self::Context) {
        if let (true, Some(task)) = (fault.strike(), self.task) {
            ctx.cancel_future(task);
        }
    }
}

/// Serves what the settings say and notes who is silent, until nobody can change the settings any more.
async fn collect(mut settings: watch::Receiver<Option<Settings>>, surface: Arc<Surface>, listeners: Listeners) {
    let (mut told, mut place) = (None, None);
    loop {
        let now = settings.borrow_and_update().clone();
        surface.configure(now.as_ref());
        let changed = match now {
            None => {
                (told, place) = (None, None);
                settings.changed().await.is_ok()
            }
            Some(now) => match start(&now, &surface) {
                Ok(serving) => {
                    tracing::info!(listen = %now.listen, tls = now.tls.is_some(), probes = now.probes.probes.len(), "collector listens");
                    told = None;
                    place.insert(listeners.place("collector", &now.listen)).open();
                    serve_while_same(serving, &now, &mut settings, &surface).await
                }
                Err(error) => {
                    tell_once(&mut told, &now.listen, &error);
                    place.insert(listeners.place("collector", &now.listen)).closed(explain(&error));
                    wait(&mut settings, &surface).await
                }
            },
        };
        if !changed {
            return;
        }
    }
}

fn start(settings: &Settings, surface: &Arc<Surface>) -> Result<Serving, ListenError> {
    serve(Bound::new(&settings.listen)?, settings.tls.as_ref(), surface, Deadlines::default())
}

/// Serves until the settings name another place. Everything else in them is swapped beneath the connections. False if it
/// is to end.
async fn serve_while_same(serving: Serving, now: &Settings, settings: &mut watch::Receiver<Option<Settings>>, surface: &Surface) -> bool {
    let Serving { server, file } = serving;
    let handle = server.handle();
    tokio::pin!(server);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let go_on = loop {
        tokio::select! {
            ended = &mut server => {
                let error = ended.err().map(|error| error.to_string()).unwrap_or_default();
                tracing::error!(error, "collector's server ended by itself");
                return false;
            }
            _ = look.tick() => surface.store.absent(),
            changed = settings.changed() => {
                if changed.is_err() {
                    break false;
                }
                let new = settings.borrow_and_update().clone();
                surface.configure(new.as_ref());
                match new {
                    Some(new) if new.listen == now.listen && new.tls == now.tls => {
                        tracing::info!(probes = new.probes.probes.len(), "collector goes on with new settings");
                    }
                    _ => break true,
                }
            }
        }
    };
    // The place must be free before it is taken again; connections are cut.
    let _ = tokio::join!(handle.stop(false), server);
    drop(file);
    tracing::info!(listen = %now.listen, "collector does not listen any more");
    go_on
}

/// Waits for other settings, or a while. Nobody can post meanwhile: that is told like any other silence.
async fn wait(settings: &mut watch::Receiver<Option<Settings>>, surface: &Surface) -> bool {
    surface.store.absent();
    tokio::select! {
        changed = settings.changed() => changed.is_ok(),
        () = sleep(AGAIN) => true,
    }
}

/// Says why it does not listen, unless it was said before.
fn tell_once(told: &mut Option<(Listen, String)>, listen: &Listen, error: &ListenError) {
    let what = (listen.clone(), explain(error));
    if told.as_ref() != Some(&what) {
        tracing::error!(listen = %listen, error = what.1, "collector cannot listen, it is tried again");
        *told = Some(what);
    }
}
