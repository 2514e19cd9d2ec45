//! The actor around the writer: one task that puts rows into the journal, and one per output that delivers.
//!
//! It has nothing to lose: rows are in the queue or in the journal, acknowledgements in the journal, counts in the status.
//! A panic costs the requests on their way, which are sent again.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use tokio::sync::watch;
use tracing::{error, info};

use super::delivery::deliver;
use super::{Intake, OutputSpec, Statuses};
use crate::clock::Clock;
use crate::journal::Journal;
use crate::measurement::Row;
use crate::supervisor::{Check, Provoke};

/// The longest that the task which takes rows sleeps, so that its progress tells that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A writer that has not taken rows for this long makes no progress.
const NO_PROGRESS: Duration = Duration::from_secs(5);

/// What every incarnation of the writer is made of. All of it outlives the actor.
#[derive(Clone)]
pub struct WriterParts {
    /// Where rows come from.
    pub intake: Intake,
    /// Where rows go.
    pub journal: Journal,
    /// Where rows go from there; a reload sends a new list.
    pub outputs: watch::Receiver<Arc<Vec<OutputSpec>>>,
    /// Where the outputs' status is kept.
    pub statuses: Statuses,
    /// Told of every row, just before it goes into the journal.
    pub observe: Arc<dyn Fn(&Row) + Send + Sync>,
    /// The clocks.
    pub clock: Clock,
    /// Random numbers in `0.0..1.0`, for the back-off.
    pub random: Arc<dyn Fn() -> f64 + Send + Sync>,
}

/// The actor.
pub struct Writer {
    parts: WriterParts,
    deliveries: BTreeMap<String, Running>,
    progress: Rc<Cell<Duration>>,
    intake_task: Option<SpawnHandle>,
}

struct Running {
    spec: Rc<OutputSpec>,
    task: SpawnHandle,
}

impl Writer {
    /// A fresh one, for every start.
    pub fn new(parts: WriterParts) -> Self {
        let progress = Rc::new(Cell::new(parts.clock.now().mono));
        Self { parts, deliveries: BTreeMap::new(), progress, intake_task: None }
    }

    /// When the task that takes rows last went round, on the monotonic clock.
    pub fn progress(&self) -> Duration {
        self.progress.get()
    }

    /// Makes the deliveries those that are asked for. Who is asked for as before is left alone.
    fn reconcile(&mut self, ctx: &mut Context<Self>) {
        let wanted = Arc::clone(&self.parts.outputs.borrow_and_update());
        let names: Vec<String> = wanted.iter().map(|spec| spec.name.clone()).collect();
        self.parts.journal.outputs(names.clone());
        self.deliveries.retain(|name, running| {
            let stays = wanted.iter().any(|spec| spec == &*running.spec);
            if !stays {
                ctx.cancel_future(running.task);
                if !names.contains(name) {
                    info!(output = name, "output removed");
                }
            }
            stays
        });
        self.parts.statuses.keep(&names);
        for spec in wanted.iter() {
            if !self.deliveries.contains_key(&spec.name) {
                let spec = Rc::new(spec.clone());
                let task = ctx.spawn(deliver(Rc::clone(&spec), self.parts.clone()).into_actor(self));
                self.deliveries.insert(spec.name.clone(), Running { spec, task });
            }
        }
    }

    /// Reconciles whenever the list changes; stops watching once nobody can change it.
    fn watch_outputs(&mut self, ctx: &mut Context<Self>) {
        self.reconcile(ctx);
        let mut outputs = self.parts.outputs.clone();
        let changed = async move { outputs.changed().await.is_ok() };
        ctx.spawn(changed.into_actor(self).map(|changed, writer, ctx| {
            if changed {
                writer.watch_outputs(ctx);
            }
        }));
    }
}

impl Actor for Writer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let intake = take_in(self.parts.clone(), Rc::clone(&self.progress));
        self.intake_task = Some(ctx.spawn(intake.into_actor(self)));
        self.watch_outputs(ctx);
    }
}

impl Handler<Check> for Writer {
    type Result = Result<(), String>;

    fn handle(&mut self, _: Check, _: &mut Self::Context) -> Self::Result {
        let silent = self.parts.clock.now().mono.saturating_sub(self.progress());
        if silent > NO_PROGRESS { Err(format!("no row was taken for {silent:?}")) } else { Ok(()) }
    }
}

impl Handler<Provoke> for Writer {
    type Result = ();

    fn handle(&mut self, Provoke(fault): Provoke, ctx: &mut Self::Context) {
        if let (true, Some(intake)) = (fault.strike(), self.intake_task) {
            ctx.cancel_future(intake);
        }
    }
}

async fn take_in(parts: WriterParts, progress: Rc<Cell<Duration>>) {
    loop {
        // An elapsed heartbeat finds no rows, which is fine.
        let _ = tokio::time::timeout(HEARTBEAT, parts.intake.ready()).await;
        store(&parts);
        progress.set(parts.clock.now().mono);
    }
}

/// Moves all rows from the queue to the journal. No await in between, and no panic of the observer, can lose one.
fn store(parts: &WriterParts) {
    let dropped = parts.intake.newly_dropped();
    if dropped > 0 {
        error!(dropped, "rows lost, the writer did not take them in time");
    }
    let observed = parts.intake.hand_over(|rows| {
        let observed = catch_unwind(AssertUnwindSafe(|| rows.iter().for_each(|row| (parts.observe)(row))));
        if !rows.is_empty() {
            parts.journal.append(rows);
        }
        observed
    });
    if let Err(panic) = observed {
        resume_unwind(panic);
    }
}
