//! The actor of a kind: takes slots from the ledger, runs them, and closes each with its row.
//!
//! It decides nothing about slots, the [`Ledger`] does; and nothing about measuring, the engine does. A panic in the run of
//! one series becomes that series' row; a panic anywhere else ends the actor, and the next one finds everything in the
//! ledger.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use actix_rt::task::JoinHandle;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::error::Elapsed;

use super::ledger::{Closed, Due, Ledger, Tenure};
use super::load::Load;
use super::{AnyEngine, Assignment, CLOCK, CLOCK_STEP, EngineSource, Finding, Outcome, Shared, Skip};
use crate::clock::{Moment, Timestamp};
use crate::measurement::{Fields, Row, Series, Value};
use crate::supervisor::guard::explain_panic;
use crate::supervisor::{Check, Provoke};
use crate::vitals;

/// The longest sleep, so that a stepped clock is noticed and progress is seen.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// An actor whose loop has not come round for this long makes no progress.
const NO_PROGRESS: Duration = Duration::from_secs(5);
/// How much longer than promised a run may take.
const RUN_GRACE: Duration = Duration::from_secs(1);
/// How long runs in flight may go on when qosd stops.
const DRAIN: Duration = Duration::from_secs(1);
/// How many figures of a row its log line shows.
const FIGURES: usize = 5;

/// Where rows go.
pub type RowSink = Arc<dyn Fn(Row) + Send + Sync>;

/// What a kind measures now; a reload sends a new list.
pub type Plan = watch::Receiver<Arc<Vec<Arc<Assignment>>>>;

/// What every incarnation of a kind's actor is made of. All of it outlives the actor.
#[derive(Clone)]
pub struct ProbeParts {
    /// The kind's name.
    pub kind: &'static str,
    /// Makes engines.
    pub engines: Arc<dyn EngineSource>,
    /// What engines may use.
    pub shared: Shared,
    /// The account of the kind's slots.
    pub ledger: Arc<Mutex<Ledger>>,
    /// What to measure: assignments of all kinds.
    pub plan: Plan,
    /// Where rows go.
    pub sink: RowSink,
    /// Becomes true when qosd stops.
    pub draining: watch::Receiver<bool>,
}

/// The actor.
pub struct Probe {
    scheduler: Rc<Scheduler>,
}

impl Probe {
    /// A fresh one, for every start.
    pub fn new(parts: ProbeParts) -> Result<Self, String> {
        // Before the engine: a start that hangs, is given up and comes to itself again must not take the ledger from its successor.
        let tenure = Tenure::begin(&parts.ledger);
        let engine = parts.engines.engine(parts.shared.clone())?.into();
        let progress = Cell::new(parts.shared.clock.now().mono);
        Ok(Self { scheduler: Rc::new(Scheduler { parts, engine, tenure, progress, frozen: Cell::default() }) })
    }
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(drive) = self.scheduler.engine.drive() {
            ctx.spawn(driven(drive).into_actor(self));
        }
        ctx.spawn(Rc::clone(&self.scheduler).run().into_actor(self).map(|_, _, ctx| ctx.stop()));
    }
}

/// Drives an engine in a task of its own, so that what wakes it does not wake the scheduler. It ends with the actor, and the
/// actor with its panic.
async fn driven(drive: LocalBoxFuture<'static, ()>) {
    struct EndsWithActor(JoinHandle<()>);
    impl Drop for EndsWithActor {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let mut task = EndsWithActor(actix_rt::spawn(drive));
    if let Err(error) = (&mut task.0).await
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

impl Handler<Check> for Probe {
    type Result = Result<(), String>;

    fn handle(&mut self, _: Check, _: &mut Self::Context) -> Self::Result {
        let Scheduler { parts, progress, .. } = &*self.scheduler;
        let silent = parts.shared.clock.now().mono.saturating_sub(progress.get());
        if silent > NO_PROGRESS { Err(format!("no slot was looked at for {silent:?}")) } else { Ok(()) }
    }
}

impl Handler<Provoke> for Probe {
    type Result = ();

    fn handle(&mut self, Provoke(fault): Provoke, _: &mut Self::Context) {
        self.scheduler.frozen.set(fault.strike());
    }
}

/// Runs in flight.
type Runs = FuturesUnordered<LocalBoxFuture<'static, ()>>;

/// The ledger was lent to the next actor: this one has nothing to say any more.
struct Replaced;

struct Scheduler {
    parts: ProbeParts,
    engine: Rc<dyn AnyEngine>,
    tenure: Tenure,
    progress: Cell<Duration>,
    frozen: Cell<bool>,
}

impl Scheduler {
    /// Until qosd stops.
    async fn run(self: Rc<Self>) -> Result<(), Replaced> {
        let mut plan = self.parts.plan.clone();
        let mut draining = self.parts.draining.clone();
        let mut runs: Runs = FuturesUnordered::new();
        if self.tenure.has_predecessor() {
            self.abandon(Skip::Restart, true).await?;
        }
        self.assign(&plan.borrow_and_update(), &mut runs)?;
        while !*draining.borrow_and_update() {
            self.take_due(&mut runs).await?;
            let next = self.next_wake()?;
            tokio::select! {
                () = tokio::time::sleep_until(self.parts.shared.clock.instant(next)) => {}
                Some(()) = runs.next() => {}
                Ok(()) = plan.changed() => self.assign(&plan.borrow_and_update(), &mut runs)?,
                _ = draining.changed() => {}
            }
            while self.frozen.get() {
                std::future::pending::<()>().await;
            }
        }
        let finished = async { while runs.next().await.is_some() {} };
        // What is still in flight after this is skipped.
        let _ = tokio::time::timeout(DRAIN, finished).await;
        self.abandon(Skip::Shutdown, false).await
    }

    fn now(&self) -> Moment {
        self.parts.shared.clock.now()
    }

    fn assign(self: &Rc<Self>, plan: &[Arc<Assignment>], runs: &mut Runs) -> Result<(), Replaced> {
        let own: Vec<_> = plan.iter().filter(|assignment| assignment.kind == self.parts.kind).cloned().collect();
        let due = self.tenure.with(|ledger| ledger.assign(&own, self.now())).ok_or(Replaced)?;
        self.take(due, runs);
        Ok(())
    }

    fn next_wake(&self) -> Result<Duration, Replaced> {
        let now = self.now().mono;
        self.progress.set(now);
        let heartbeat = now + HEARTBEAT;
        let wake = self.tenure.with(|ledger| ledger.wake()).ok_or(Replaced)?;
        Ok(wake.map_or(heartbeat, |wake| wake.min(heartbeat)))
    }

    async fn take_due(self: &Rc<Self>, runs: &mut Runs) -> Result<(), Replaced> {
        loop {
            let due = self.tenure.with(|ledger| ledger.due(self.now())).ok_or(Replaced)?;
            self.tell_gap()?;
            if due.is_empty() {
                return Ok(());
            }
            self.take(due, runs);
            // After a long stand-still there is much to skip, and others want this thread, too.
            tokio::task::yield_now().await;
        }
    }

    fn take(self: &Rc<Self>, due: Vec<Due>, runs: &mut Runs) {
        for due in due {
            match due.skip {
                Some(reason) => self.close(&due.assignment.series, due.slot.time, Finding::skipped(reason), None, due.clock_step_ms),
                None => runs.push(Rc::clone(self).run_slot(due).boxed_local()),
            }
        }
    }

    /// A row for all the slots that passed too long ago for rows of their own.
    fn tell_gap(&self) -> Result<(), Replaced> {
        if let Some(gap) = self.tenure.with(Ledger::take_gap).ok_or(Replaced)? {
            let agent = self.parts.plan.borrow().first().and_then(|first| first.series.tag("source").map(str::to_owned));
            (self.parts.sink)(vitals::gap(&agent.unwrap_or_default(), gap));
        }
        Ok(())
    }
}

impl Scheduler {
    /// One run, whatever comes of it.
    async fn run_slot(self: Rc<Self>, due: Due) {
        let Due { assignment, slot, clock_step_ms, .. } = due;
        if !assignment.offset.is_zero() {
            tokio::time::sleep_until(self.parts.shared.clock.instant(slot.due + assignment.offset)).await;
        }
        let (engine, began) = (Rc::clone(&self.engine), self.now().mono);
        let running = pin!(AssertUnwindSafe(async { engine.run(&assignment, slot).await }).catch_unwind());
        let limit = assignment.longest + RUN_GRACE;
        let finding = match within(limit, running).await {
            Ok(Ok(finding)) => finding,
            Ok(Err(panic)) => {
                let (message, at) = explain_panic(&*panic);
                tracing::error!(series = %assignment.series, at, message, "run panicked");
                Finding::failed(Outcome::LocalError, format!("panic at {at}: {message}"))
            }
            Err(_) => {
                tracing::error!(series = %assignment.series, ?limit, "run did not end");
                Finding::failed(Outcome::LocalError, format!("the run did not end within {limit:?}"))
            }
        };
        let load = self.parts.shared.load.overlapping(began, &Load::name(&assignment.series));
        self.close(&assignment.series, slot.time, finding, load, clock_step_ms);
    }

    /// Writes the row of a slot, unless it has one already.
    fn close(&self, series: &Series, time: Timestamp, finding: Finding, load: Option<String>, clock_step_ms: Option<f64>) {
        let outcome = finding.outcome;
        let mut fields = finding.into_fields(load);
        if let Some(step) = clock_step_ms {
            fields.float(CLOCK_STEP, step);
        }
        if self.parts.shared.clock.is_unsynced() {
            fields.text(CLOCK, "unsynced");
        }
        let closed = self.tenure.with(|ledger| {
            let closed = ledger.close(series, time, outcome);
            if closed != Closed::AlreadyDone {
                // Under the lock: whoever sees the slot closed finds its row in the queue.
                (self.parts.sink)(Row { series: series.clone(), time, fields: fields.clone() });
            }
            closed
        });
        if let Some(closed) = closed.filter(|closed| *closed != Closed::AlreadyDone) {
            log(series, outcome, &fields, closed);
        }
    }

    /// Skips every open slot, and with `passed` also those that went by while nobody looked.
    async fn abandon(&self, reason: Skip, passed: bool) -> Result<(), Replaced> {
        let now = self.now();
        loop {
            let open = self.tenure.with(|ledger| ledger.abandon(now, passed)).ok_or(Replaced)?;
            self.tell_gap()?;
            if open.is_empty() {
                return Ok(());
            }
            for (series, time) in open {
                self.close(&series, time, Finding::skipped(reason), None, None);
            }
            tokio::task::yield_now().await;
        }
    }
}

/// A run's end, if it ends within `limit`. The last of it is counted anew: where this process stood still for most of it, what
/// came meanwhile is to be read first.
async fn within<F: Future>(limit: Duration, mut run: Pin<&mut F>) -> Result<F::Output, Elapsed> {
    match tokio::time::timeout(limit.saturating_sub(RUN_GRACE / 2), &mut run).await {
        Ok(ended) => Ok(ended),
        Err(_) => tokio::time::timeout(RUN_GRACE / 2, run).await,
    }
}

/// A line a run for those who look, a line a change of state for all.
fn log(series: &Series, outcome: Outcome, fields: &Fields, closed: Closed) {
    let tag = |key| series.tag(key).unwrap_or_default();
    let (kind, probe, dst) = (tag("kind"), tag("probe"), tag("target"));
    let error = match fields.get(super::ERROR.info().name) {
        Some(Value::Text(error)) => Some(error.as_str()),
        _ => None,
    };
    tracing::debug!(kind, probe, dst, result = %outcome, error, figures = figures(fields), "run finished");
    match closed {
        Closed::Down => tracing::info!(kind, probe, dst, result = %outcome, error, "target fails"),
        Closed::UpAgain(after) => tracing::info!(kind, probe, dst, ?after, "target is ok again"),
        Closed::Unchanged | Closed::AlreadyDone => {}
    }
}

fn format_figure(name: &str, value: &Value) -> String {
    match value {
        Value::Float(figure) => format!("{name}={figure:.3}"),
        other => format!("{name}={other}"),
    }
}

/// The first figures of the kind, for the log.
fn figures(fields: &Fields) -> String {
    let own = fields.iter().filter(|(_, value)| matches!(value, Value::Float(_)));
    let words: Vec<String> = own.take(FIGURES).map(|(name, value)| format_figure(name, value)).collect();
    words.join(" ")
}
