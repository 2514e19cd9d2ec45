//! Which slots are due, open and done: the account that makes every scheduled slot end as exactly one row. Pure.
//!
//! A kind's ledger outlives its actor. Whatever happens to an actor, the next one finds in the ledger which slots were left
//! open and which passed meanwhile, and writes them as skipped. An actor that was replaced but wakes up again is refused by
//! its generation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Assignment, Outcome, Skip, Slot};
use crate::clock::{Moment, Timestamp, millis, nanos};
use crate::measurement::Series;

/// A wall clock that moved by more than this against the monotonic clock was stepped.
const STEP: Duration = Duration::from_secs(1);
/// A slot that is noticed later than this is not run any more: this process stood still.
const LATEST: Duration = Duration::from_secs(1);
/// How many slots are taken at once: after a long stand-still their rows should not all be in memory together.
const AT_ONCE: usize = 10_000;
/// By how many nanoseconds at most the times of one process differ from those of the next that goes through them again.
const REPEATS: i64 = 999;
/// How many slots of a minute the lateness is taken from.
const LATENESS_SAMPLES: usize = 100_000;
/// The generation of the first actor: nobody was there before it who could have left something open.
const FIRST: u64 = 1;
/// Slots that passed longer ago get no row each, but one for all of them.
const HORIZON: Duration = Duration::from_hours(1);
/// How many runs of one series may be open: the one that waits for its last replies, and the next.
const OPEN_RUNS: usize = 2;

/// A slot that came due, and what is to be done with it.
#[derive(Clone, Debug)]
pub struct Due {
    /// What to run.
    pub assignment: Arc<Assignment>,
    /// For which slot.
    pub slot: Slot,
    /// Why it is not to be run, if it is not.
    pub skip: Option<Skip>,
    /// By how many milliseconds the wall clock was stepped within the last interval.
    pub clock_step_ms: Option<f64>,
}

/// What the row of a slot means for its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The slot was not open: it has its row already.
    AlreadyDone,
    /// Nothing new.
    Unchanged,
    /// The series gives no result any more.
    Down,
    /// It gives results again, after this long.
    UpAgain(Duration),
}

/// What the ledger counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Slots that came due.
    pub scheduled: u64,
    /// Slots that have their row.
    pub rows: u64,
    /// Of these, rows that say that the slot was skipped.
    pub skipped: u64,
}

#[derive(Debug)]
struct Account {
    id: u64,
    assignment: Arc<Assignment>,
    next: Timestamp,
    last_used: Option<Timestamp>,
    /// Slots without their row, and whether they are being run.
    open: BTreeMap<Timestamp, bool>,
    down_since: Option<Timestamp>,
    /// By how many milliseconds the wall clock was stepped, and until which slot rows say so.
    stepped: Option<(f64, Timestamp)>,
    scheduled: bool,
}

/// The slots of one kind.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<Series, Account>,
    /// The next slot of every account, soonest first.
    agenda: BTreeMap<(Timestamp, u64), Series>,
    last_id: u64,
    /// Series that are not scheduled any more and have slots open.
    leaving: BTreeMap<Series, Account>,
    /// The wall clock when the monotonic clock was at its origin, and when the one that never stands still was.
    offsets: Option<(i64, i64)>,
    generation: u64,
    /// Added to slots that the wall clock goes through again, so that no two rows share a time.
    repeat: (i64, Timestamp),
    counts: Counts,
    gap: Option<(Timestamp, Timestamp, u64)>,
    lateness: Vec<Duration>,
}

impl Ledger {
    /// Lends the ledger to a new actor; those before it are refused from now on.
    pub fn lend(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Schedules these assignments and no others. What is unchanged keeps its slots; what is new begins with its next one.
    /// Gives the slots that came due before, of what is removed or changed as well.
    pub fn assign(&mut self, assignments: &[Arc<Assignment>], now: Moment) -> Vec<Due> {
        let mut due = Vec::new();
        loop {
            let more = self.due(now);
            if more.is_empty() {
                break;
            }
            due.extend(more);
        }
        let mut before = std::mem::take(&mut self.accounts);
        self.agenda.clear();
        for assignment in assignments {
            let account = match before.remove(&assignment.series).or_else(|| self.leaving.remove(&assignment.series)) {
                Some(account) if account.assignment == *assignment && account.scheduled => account,
                Some(account) => account.changed(Arc::clone(assignment), now.unix),
                None => {
                    self.last_id += 1;
                    Account::new(self.last_id, Arc::clone(assignment), now.unix)
                }
            };
            self.agenda.insert((account.next, account.id), assignment.series.clone());
            self.accounts.insert(assignment.series.clone(), account);
        }
        before.retain(|_, account| !account.open.is_empty());
        for account in before.values_mut() {
            account.scheduled = false;
        }
        self.leaving.extend(before);
        due
    }

    /// The wall clock was set back while no qosd ran: rows up to this time are there already. Their times are not used again,
    /// nor, most likely, those that another process used in the same way.
    pub fn used_until(&mut self, time: Timestamp, now: Timestamp) {
        self.repeat = (1 + now.nanos().rem_euclid(REPEATS), self.repeat.1.max(time));
    }

    /// When the next slot is due on the monotonic clock.
    pub fn wake(&self) -> Option<Duration> {
        let ((next, _), _) = self.agenda.first_key_value()?;
        Some(self.mono(*next))
    }

    /// Takes slots that are due: each comes once, as one to run or one to skip, and is open until it is closed. To be
    /// called until nothing is due.
    pub fn due(&mut self, now: Moment) -> Vec<Due> {
        self.follow_clock(now);
        let mut due = Vec::new();
        while due.len() < AT_ONCE {
            let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now.unix) else { break };
            let ((grid, id), series) = entry.remove_entry();
            let slot = Slot { time: self.unused(grid), due: self.mono(grid) };
            let Some(account) = self.accounts.get_mut(&series) else { continue };
            let horizon = now.unix.minus(HORIZON);
            if grid < horizon {
                account.next = account.assignment.schedule.at_or_after(horizon);
                let slots = account.assignment.schedule.count(grid, account.next);
                self.gap =
                    Some(self.gap.map_or((grid, horizon, slots), |(from, to, more)| (from.min(grid), to.max(horizon), more + slots)));
            } else {
                if self.lateness.len() < LATENESS_SAMPLES {
                    self.lateness.push(now.unix.since(grid));
                }
                due.push(account.take(slot, grid, now.unix));
                self.counts.scheduled += 1;
            }
            self.agenda.insert((account.next, id), series);
        }
        due
    }

    /// What passed longer ago than anybody wants a row a slot for: from, to, how many slots. Told once.
    pub fn take_gap(&mut self) -> Option<(Timestamp, Timestamp, u64)> {
        self.gap.take()
    }

    /// Closes a slot with its row, exactly once.
    pub fn close(&mut self, series: &Series, time: Timestamp, outcome: Outcome) -> Closed {
        let leaving = self.leaving.get_mut(series);
        let Some(account) = self.accounts.get_mut(series).or(leaving) else { return Closed::AlreadyDone };
        if account.open.remove(&time).is_none() {
            return Closed::AlreadyDone;
        }
        self.counts.rows += 1;
        self.counts.skipped += u64::from(outcome == Outcome::Skipped);
        let closed = account.judge(time, outcome);
        self.leaving.retain(|_, account| !account.open.is_empty());
        closed
    }

    /// Every open slot, and with `passed` those that passed until now, to be written as skipped: after a restart, or before
    /// a stop. To be called until there is none.
    pub fn abandon(&mut self, now: Moment, passed: bool) -> Vec<(Series, Timestamp)> {
        if passed {
            self.due(now);
        }
        let all = self.accounts.iter().chain(&self.leaving);
        all.flat_map(|(series, account)| account.open.keys().map(|time| (series.clone(), *time))).collect()
    }

    /// How many slots are open.
    pub fn open(&self) -> usize {
        self.accounts.values().chain(self.leaving.values()).map(|account| account.open.len()).sum()
    }

    /// The 99th percentile (nearest rank) of how late slots were taken since the last call, in milliseconds.
    pub fn take_lateness_p99_ms(&mut self) -> Option<f64> {
        let mut late = std::mem::take(&mut self.lateness);
        late.sort_unstable();
        let rank = (late.len() * 99).div_ceil(100).checked_sub(1)?;
        late.get(rank).copied().map(millis)
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Notices a stepped wall clock: then every series is anchored anew at its next slot. A host that slept has stepped
    /// nothing: its slots are late.
    fn follow_clock(&mut self, now: Moment) {
        let offset = |clock: Duration| now.unix.nanos().saturating_sub(nanos(clock));
        let offsets = (offset(now.mono), offset(now.boot));
        let before = self.offsets.replace(offsets).unwrap_or(offsets);
        let step = offsets.1.saturating_sub(before.1);
        if step.unsigned_abs() <= STEP.as_nanos() as u64 {
            return;
        }
        tracing::warn!(step_s = step as f64 / 1e9, "wall clock was stepped, slots are anchored anew");
        let last_used = self.accounts.values().filter_map(|account| account.last_used).max();
        if let Some(last_used) = last_used.filter(|last| *last >= now.unix) {
            self.repeat = (self.repeat.0 + 1, self.repeat.1.max(last_used));
        }
        self.agenda.clear();
        for (series, account) in &mut self.accounts {
            let schedule = account.assignment.schedule;
            account.next = schedule.at_or_after(now.unix);
            account.stepped = Some((step as f64 / 1e6, account.next.plus(schedule.interval())));
            self.agenda.insert((account.next, account.id), series.clone());
        }
    }

    /// When the monotonic clock shows a time of the wall clock.
    fn mono(&self, time: Timestamp) -> Duration {
        time.since(Timestamp::from_nanos(self.offsets.unwrap_or_default().0))
    }

    /// The time of a slot's row: the slot's, or a little later if the wall clock goes through it again.
    fn unused(&self, grid: Timestamp) -> Timestamp {
        let (repeat, until) = self.repeat;
        if grid <= until { Timestamp::from_nanos(grid.nanos().saturating_add(repeat)) } else { grid }
    }
}

impl Account {
    fn new(id: u64, assignment: Arc<Assignment>, now: Timestamp) -> Self {
        let next = assignment.schedule.after(now);
        Self { id, assignment, next, last_used: None, open: BTreeMap::new(), down_since: None, stepped: None, scheduled: true }
    }

    /// The same series, doing something else from its next slot on that was not used yet.
    fn changed(self, assignment: Arc<Assignment>, now: Timestamp) -> Self {
        let next = assignment.schedule.after(self.last_used.map_or(now, |used| used.max(now)));
        Self { assignment, next, scheduled: true, ..self }
    }

    fn take(&mut self, slot: Slot, grid: Timestamp, now: Timestamp) -> Due {
        self.next = self.assignment.schedule.after(grid);
        let skip = if now.since(grid) >= LATEST {
            Some(Skip::Suspended)
        } else {
            (self.open.values().filter(|running| **running).count() >= OPEN_RUNS).then_some(Skip::Overrun)
        };
        self.last_used = self.last_used.max(Some(grid));
        self.open.insert(slot.time, skip.is_none());
        let clock_step_ms = self.stepped.filter(|(_, until)| grid <= *until).map(|(by, _)| by);
        Due { assignment: Arc::clone(&self.assignment), slot, skip, clock_step_ms }
    }

    fn judge(&mut self, time: Timestamp, outcome: Outcome) -> Closed {
        match (outcome, self.down_since) {
            (Outcome::Ok | Outcome::Partial, Some(since)) => {
                self.down_since = None;
                Closed::UpAgain(time.since(since))
            }
            (Outcome::Ok | Outcome::Partial | Outcome::Skipped, _) | (_, Some(_)) => Closed::Unchanged,
            (_, None) => {
                self.down_since = Some(time);
                Closed::Down
            }
        }
    }
}

/// A ledger as it is lent to one actor: of no use any more once it was lent to the next.
#[derive(Clone)]
pub struct Tenure {
    ledger: Arc<Mutex<Ledger>>,
    generation: u64,
}

impl Tenure {
    /// Lends the ledger; whoever had it before is refused from now on.
    pub fn begin(ledger: &Arc<Mutex<Ledger>>) -> Self {
        let generation = ledger.lock().unwrap_or_else(PoisonError::into_inner).lend();
        Self { ledger: Arc::clone(ledger), generation }
    }

    /// Whether somebody had the ledger before.
    pub fn has_predecessor(&self) -> bool {
        self.generation > FIRST
    }

    /// Uses the ledger; `None` if it was lent to somebody else meanwhile.
    pub fn with<T>(&self, use_it: impl FnOnce(&mut Ledger) -> T) -> Option<T> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        (ledger.generation == self.generation).then(|| use_it(&mut ledger))
    }
}

#[cfg(test)]
mod tests;
