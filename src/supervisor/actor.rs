//! The actor that carries out what [`super::policy`] decides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use actix_rt::Arbiter;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::child::{Child, Started};
use super::policy::{Decision, History};
use super::roster::Roster;
use super::{Check, Exit, Fault, Provoke};
use crate::clock::Clock;

/// How often every actor is asked for its health.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long it may think about it. Longer than any pause that a busy host makes.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// A round of questions that comes later than this says that the whole process stood still.
const STAND_STILL: Duration = Duration::from_secs(1);
/// How many blocked threads may be left behind. A blocked thread cannot be ended; a process can.
pub const MOST_ABANDONED: usize = 3;

/// What the outside sees: the roster, and how many threads were left behind.
#[derive(Clone, Default)]
pub struct View(Arc<Mutex<(Roster, usize)>>);

impl View {
    /// The actors as they are now.
    pub fn roster(&self) -> Roster {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Blocked threads that were left behind and still have not ended.
    pub fn abandoned(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn publish(&self, roster: &Roster, abandoned: usize) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (roster.clone(), abandoned);
    }
}

/// What the supervisor tells the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// All goes on.
    Working,
    /// An actor that qosd cannot do without keeps failing.
    Escalated(String),
}

/// Lets the actors end without starting them again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain;

/// Passes a fault on to the actor of this name; says whether there is one.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct ProvokeIn(pub String, pub Fault);

/// The supervisor.
pub struct Supervisor {
    children: Vec<Child>,
    living: BTreeMap<String, Living>,
    histories: BTreeMap<String, History>,
    roster: Roster,
    /// Threads that are blocked, kept only to see them end.
    abandoned: Vec<Arbiter>,
    draining: bool,
    generation: u64,
    view: View,
    notice: watch::Sender<Notice>,
    clock: Clock,
    random: fn() -> f64,
    /// When everybody was last asked.
    asked_at: Duration,
    /// Until then nobody is judged: this process stood still, and everybody has to come to themselves first.
    lenient_until: Duration,
}

struct Living {
    generation: u64,
    since: Duration,
    abort: AbortHandle,
    reach: Reach,
    thread: Option<Arbiter>,
    asked: bool,
}

/// How a living actor is spoken to.
struct Reach {
    check: actix::Recipient<Check>,
    provoke: actix::Recipient<Provoke>,
}

impl Supervisor {
    /// Supervises these; tells what happens through `notice`.
    pub fn new(children: Vec<Child>, view: View, notice: watch::Sender<Notice>, clock: Clock, random: fn() -> f64) -> Self {
        Self {
            children,
            living: BTreeMap::new(),
            histories: BTreeMap::new(),
            roster: Roster::default(),
            abandoned: Vec::new(),
            draining: false,
            generation: 0,
            view,
            notice,
            asked_at: clock.now().mono,
            lenient_until: Duration::ZERO,
            clock,
            random,
        }
    }

    fn publish(&mut self) {
        self.abandoned.retain(Arbiter::alive);
        self.view.publish(&self.roster, self.abandoned.len());
    }

    fn start(&mut self, index: usize, ctx: &mut Context<Self>) {
        let Some(child) = self.children.get(index).cloned() else { return };
        if self.draining {
            return;
        }
        self.roster.starting(&child.name);
        self.publish();
        self.generation += 1;
        let generation = self.generation;
        let starting = async move { child.start().await };
        ctx.spawn(starting.into_actor(self).map(move |(outcome, thread), supervisor, ctx| match outcome {
            Ok(started) => supervisor.started(index, generation, started, thread, ctx),
            Err(exit) => {
                supervisor.dismiss(thread, &exit);
                supervisor.ended(index, Duration::ZERO, &exit, ctx);
            }
        }));
    }

    fn started(&mut self, index: usize, generation: u64, started: Started, thread: Option<Arbiter>, ctx: &mut Context<Self>) {
        let now = self.clock.now().mono;
        let name = self.children[index].name.clone();
        let Started { task, check, provoke } = started;
        let living = Living { generation, since: now, abort: task.abort_handle(), reach: Reach { check, provoke }, thread, asked: false };
        self.living.insert(name.clone(), living);
        self.roster.running(&name, now);
        self.publish();
        tracing::info!(actor = name, restarts = self.restarts(&name), "actor started");
        let ending = async move { task.await.unwrap_or(Exit::Cancelled) };
        ctx.spawn(ending.into_actor(self).map(move |exit, supervisor, ctx| supervisor.died(index, generation, &exit, ctx)));
    }

    fn restarts(&self, name: &str) -> u64 {
        self.roster.entries().iter().find(|entry| entry.name == name).map_or(0, |entry| entry.restarts)
    }

    /// The task of an actor has ended, unless it was given up before.
    fn died(&mut self, index: usize, generation: u64, exit: &Exit, ctx: &mut Context<Self>) {
        let name = self.children[index].name.clone();
        if self.living.get(&name).is_some_and(|living| living.generation == generation) {
            self.bury(index, exit, ctx);
        }
    }

    fn bury(&mut self, index: usize, exit: &Exit, ctx: &mut Context<Self>) {
        if let Some(living) = self.living.remove(&self.children[index].name) {
            living.abort.abort();
            self.dismiss(living.thread, exit);
            let lived = self.clock.now().mono.saturating_sub(living.since);
            self.ended(index, lived, exit, ctx);
        }
    }

    /// Ends an actor's thread. One that is blocked is left behind.
    fn dismiss(&mut self, thread: Option<Arbiter>, exit: &Exit) {
        if let Some(thread) = thread {
            thread.stop();
            if matches!(exit, Exit::Stuck(_)) {
                self.abandoned.push(thread);
            }
        }
    }

    fn ended(&mut self, index: usize, lived: Duration, exit: &Exit, ctx: &mut Context<Self>) {
        let now = self.clock.now().mono;
        let child = &self.children[index];
        self.roster.ended(&child.name, exit, !self.draining, now);
        if self.draining {
            tracing::debug!(actor = child.name, %exit, "actor ended");
            return self.publish();
        }
        let history = self.histories.entry(child.name.clone()).or_default();
        match history.ended(&child.policy, now, lived, (self.random)()) {
            Decision::Restart(after) => {
                tracing::error!(actor = child.name, %exit, restart_in = ?after, "actor failed");
                ctx.run_later(after, move |supervisor, ctx| supervisor.start(index, ctx));
            }
            Decision::Escalate => {
                tracing::error!(actor = child.name, %exit, "actor keeps failing, giving up");
                self.notice.send_replace(Notice::Escalated(format!("{}: {exit}", child.name)));
            }
        }
        self.publish();
    }

    /// Asks everybody for their health. The answer comes later; who has not answered yet is not asked again.
    fn check_all(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now().mono;
        if self.stood_still(now) {
            self.lenient_until = now + CHECK_TIMEOUT;
        }
        self.asked_at = now;
        for index in 0..self.children.len() {
            let Some(living) = self.living.get_mut(&self.children[index].name).filter(|living| !living.asked) else { continue };
            living.asked = true;
            let (generation, question) = (living.generation, living.reach.check.send(Check));
            let answer = async move { tokio::time::timeout(CHECK_TIMEOUT, question).await };
            ctx.spawn(answer.into_actor(self).map(move |answer, supervisor, ctx| {
                let problem = match answer {
                    // A closed mailbox is a death, which the task itself reports.
                    Ok(Ok(Ok(())) | Err(_)) => None,
                    Ok(Ok(Err(why))) => Some(why),
                    Err(_) => Some(format!("no answer within {CHECK_TIMEOUT:?}")),
                };
                supervisor.judge(index, generation, problem, ctx);
            }));
        }
        self.publish();
    }

    /// Whether this thread was away: stopped, or without a processor.
    fn stood_still(&self, now: Duration) -> bool {
        now.saturating_sub(self.asked_at) > CHECK_EVERY + STAND_STILL
    }

    fn judge(&mut self, index: usize, generation: u64, problem: Option<String>, ctx: &mut Context<Self>) {
        let name = self.children[index].name.clone();
        let now = self.clock.now().mono;
        let stood_still = self.stood_still(now);
        let Some(living) = self.living.get_mut(&name).filter(|living| living.generation == generation) else { return };
        living.asked = false;
        match problem {
            Some(why) if !self.draining && now >= self.lenient_until && !stood_still => self.bury(index, &Exit::Stuck(why), ctx),
            _ => self.roster.running(&name, now),
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for index in 0..self.children.len() {
            self.start(index, ctx);
        }
        ctx.run_interval(CHECK_EVERY, Self::check_all);
    }
}

impl Handler<Drain> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Self::Context) {
        self.draining = true;
    }
}

impl Handler<ProvokeIn> for Supervisor {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, ProvokeIn(name, fault): ProvokeIn, _: &mut Self::Context) -> Self::Result {
        let Some(living) = self.living.get(&name) else { return Box::pin(async { false }) };
        let provoke = living.reach.provoke.clone();
        Box::pin(async move { provoke.try_send(Provoke(fault)).is_ok() })
    }
}
