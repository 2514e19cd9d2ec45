//! The actor of the agent: asks the collector again and again, and hands on what is to be measured.
//!
//! It does not measure and does not post: that is done by the kind's own actor, and by the writer. All that it knows is in
//! a [`Standing`] that outlives it.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::cache;
use super::client::{Client, Fetched};
use super::output::Losses;
use super::pace::{self, Pace};
use super::plan::{Here, Plan, Unplannable};
use super::settings::Settings;
use super::standing::{AgentStatus, Standing, Told, show};
use crate::clock::Clock;
use crate::probe::{AnyKind, Assignment};
use crate::settings::explain;
use crate::supervisor::{Check, Provoke};

/// How often it shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// One that has not done so for this long makes no progress.
const NO_PROGRESS: Duration = Duration::from_secs(5);

/// Told what is to be measured, whenever that changes.
pub type Measure = Arc<dyn Fn(Vec<Arc<Assignment>>) + Send + Sync>;

/// What every incarnation is made of. All of it outlives the actor.
#[derive(Clone)]
pub struct AgentParts {
    /// `[mesh]`, if there is one; a reload sends a new one.
    pub settings: watch::Receiver<Option<Settings>>,
    /// What is known.
    pub desk: Desk,
    /// Where what is to be measured goes.
    pub measure: Measure,
    /// Random numbers in `0.0..1.0`.
    pub random: Arc<dyn Fn() -> f64 + Send + Sync>,
}

/// The agent's standing with what it needs of this host. Clones share it.
#[derive(Clone)]
pub struct Desk {
    /// `agent.name`: tag `source`.
    pub agent: String,
    /// Where the list is kept.
    pub folder: PathBuf,
    /// The kind that measures; none if this qosd has no such kind.
    pub kind: Option<&'static dyn AnyKind>,
    /// The addresses of this host.
    pub here: fn() -> Here,
    /// The clocks.
    pub clock: Clock,
    /// What the collector did not take.
    pub losses: Losses,
    /// What is known.
    pub standing: Arc<Mutex<Standing>>,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the settings, and the list from disk if no other is known; says what is to be measured, if that changed.
    pub fn follow(&self, settings: Option<&Settings>) -> Option<Vec<Arc<Assignment>>> {
        let mut standing = self.lock();
        standing.follow(settings);
        if let Some(settings) = settings.filter(|_| !standing.has_list()) {
            match cache::read(&self.folder, settings.collector.as_str()) {
                Ok(known) => {
                    tracing::info!(fetched = %known.fetched, probes = known.list.probes.len(), "mesh begins with the list on disk, which is stale");
                    standing.cached(known);
                }
                Err(error) if error.is_missing() => {}
                Err(error) => tracing::warn!(error = explain(&error), "mesh begins without the list on disk"),
            }
        }
        drop(standing);
        self.replan()
    }

    /// Plans with what is known now; says what is to be measured, if that changed.
    pub fn replan(&self) -> Option<Vec<Arc<Assignment>>> {
        let (kind, here, now) = (self.kind?, (self.here)(), self.clock.now().mono);
        let mut standing = self.lock();
        if let Some(planned) = standing.replan(&self.agent, &here, kind, now) {
            tell_plan(planned);
        }
        standing.next(now)
    }

    /// For `qosd status`; none without `[mesh]`.
    pub fn status(&self) -> Option<AgentStatus> {
        self.lock().status(self.clock.now(), self.losses.told())
    }
}

fn tell_plan(planned: &Result<Plan, Unplannable>) {
    match planned {
        Ok(Plan { assignments, ping, listed, refused_count, refused, .. }) => {
            let (peers, first) = (assignments.len(), refused.first().map(String::as_str).unwrap_or_default());
            tracing::info!(peers, schedule = show(ping), listed, refused = refused_count, first, "mesh is measured by a new list");
        }
        Err(error) => tracing::error!(%error, "mesh goes on with the old list"),
    }
}

/// The actor.
pub struct Agent {
    parts: AgentParts,
    progress: Rc<Cell<Duration>>,
    task: Option<SpawnHandle>,
}

impl Agent {
    /// A fresh one, for every start.
    pub fn new(parts: AgentParts) -> Self {
        let progress = Rc::new(Cell::new(parts.desk.clock.now().mono));
        Self { parts, progress, task: None }
    }
}

impl Actor for Agent {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (parts, progress) = (self.parts.clone(), Rc::clone(&self.progress));
        let alive = async move {
            let clock = parts.desk.clock.clone();
            let task = attend(parts);
            tokio::pin!(task);
            // Each time that the heartbeat elapses the task goes on where it was.
            while timeout(HEARTBEAT, &mut task).await.is_err() {
                progress.set(clock.now().mono);
            }
        };
        self.task = Some(ctx.spawn(alive.into_actor(self).map(|(), _, ctx| ctx.stop())));
    }
}

impl Handler<Check> for Agent {
    type Result = Result<(), String>;

    fn handle(&mut self, _: Check, _: &mut Self::Context) -> Self::Result {
        let silent = self.parts.desk.clock.now().mono.saturating_sub(self.progress.get());
        if silent > NO_PROGRESS { Err(format!("no sign of life for {silent:?}")) } else { Ok(()) }
    }
}

impl Handler<Provoke> for Agent {
    type Result = ();

    fn handle(&mut self, Provoke(fault): Provoke, ctx: &mut Self::Context) {
        if let (true, Some(task)) = (fault.strike(), self.task) {
            ctx.cancel_future(task);
        }
    }
}

/// Does what the settings say, until nobody can change them any more.
async fn attend(mut parts: AgentParts) {
    loop {
        let settings = parts.settings.borrow_and_update().clone();
        parts.measure_if(parts.desk.follow(settings.as_ref()));
        let following = Following { parts: parts.clone(), settings: settings.clone() };
        let changed = tokio::select! {
            changed = parts.settings.changed() => changed,
            () = following.run() => Ok(()),
        };
        if changed.is_err() {
            return;
        }
    }
}

impl AgentParts {
    fn measure_if(&self, changed: Option<Vec<Arc<Assignment>>>) {
        if let Some(assignments) = changed {
            (self.measure)(assignments);
        }
    }
}

/// One set of settings, for as long as it holds.
struct Following {
    parts: AgentParts,
    settings: Option<Settings>,
}

impl Following {
    /// For ever.
    async fn run(self) {
        tokio::join!(self.ask(), self.roll_out());
    }

    /// Asks the collector again and again.
    async fn ask(&self) {
        let Some(settings) = &self.settings else { return };
        let (mut pace, mut client) = (Pace::default(), None);
        let mut wait = pace::first(self.random());
        loop {
            sleep(wait).await;
            let fetched = match &client {
                Some(client) => fetch(client).await,
                None => match Client::new(settings, self.parts.desk.clock.clone()) {
                    Ok(new) => fetch(client.insert(new)).await,
                    Err(error) => Err(explain(&error)),
                },
            };
            wait = if fetched.is_ok() { pace.fetched(self.random()) } else { pace.failed(self.random()) };
            self.take(fetched).await;
        }
    }

    /// Hands on what had to wait until other runs were over.
    async fn roll_out(&self) {
        let desk = &self.parts.desk;
        loop {
            let now = desk.clock.now().mono;
            let wake = desk.lock().wake(now).map_or_else(|| Instant::now() + HEARTBEAT, |at| desk.clock.instant(at));
            // A list may come meanwhile that puts it off.
            sleep_until(wake.min(Instant::now() + HEARTBEAT)).await;
            let next = desk.lock().next(desk.clock.now().mono);
            self.parts.measure_if(next);
        }
    }

    async fn take(&self, fetched: Result<Fetched, String>) {
        let desk = &self.parts.desk;
        let now = desk.clock.now().unix;
        let (told, save) = {
            let mut standing = desk.lock();
            let told = match fetched {
                Ok(fetched) => standing.fetched(fetched, now),
                Err(why) => standing.failed(why, now),
            };
            (told, standing.to_save())
        };
        match told {
            Told::Answers => tracing::info!("mesh collector answers"),
            Told::Failing(why) => tracing::warn!(reason = why, "mesh collector is failing, the list goes on as it was"),
            Told::Nothing => {}
        }
        if let Some(known) = save {
            let folder = desk.folder.clone();
            // A disk that hangs must not hold up this thread.
            let written = tokio::task::spawn_blocking(move || cache::write(&folder, "new", &known)).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(%error, "mesh list cannot be kept on disk");
                desk.lock().not_saved();
            }
        }
        self.parts.measure_if(desk.replan());
    }

    fn random(&self) -> f64 {
        (self.parts.random)()
    }
}

async fn fetch(client: &Client) -> Result<Fetched, String> {
    client.fetch().await.map_err(|error| explain(&error))
}
