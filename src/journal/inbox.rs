//! What waits in memory for the next commit. Pure: the time is an argument.
//!
//! The rows wait in a ring: when the disk takes nothing for long, the oldest fall out and are counted. What is to be kept of
//! outputs and schedule is a value each, so it needs no bound: the newest replaces the one before.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;

use super::letter::{Letters, Requeue};
use super::missed::Promise;
use super::receipt::{Fate, Waiting};
use super::{JournalError, Position, Settings};
use crate::clock::Timestamp;
use crate::measurement::{Row, Series};
use crate::probe::schedule::Schedule;

mod outputs;

pub(super) use outputs::{KEEP_REMOVED, Output, Start};

/// Rows that the ring holds: an hour of 50 a second.
pub(super) const RING: usize = 200_000;
/// Rows in one commit, so that one after an outage does not take seconds.
pub(super) const COMMIT: usize = 20_000;
/// Damaged rows that wait to be set aside. What is over is found again by the next read.
const DAMAGED: usize = 10_000;
/// Kept back from `flush` for the commit itself.
const FOR_THE_COMMIT: Duration = Duration::from_millis(50);
/// Who waits for a commit.
pub(super) type Ticket = oneshot::Sender<Result<(), JournalError>>;

/// What one commit makes durable.
#[derive(Default)]
pub(super) struct Batch {
    /// Rows, oldest first.
    pub(super) rows: Vec<Waiting>,
    /// Outputs that changed; none = forgotten.
    pub(super) outputs: BTreeMap<String, Option<Output>>,
    /// The schedule, if it changed.
    pub(super) schedule: Option<Vec<Promise>>,
    /// Dead letters, and what becomes of them.
    pub(super) letters: Letters,
    /// Positions of rows to be set aside.
    pub(super) damaged: BTreeSet<u64>,
    /// Whether this is a clean stop.
    pub(super) clean: bool,
    /// Whether slots are promised, so that the time of this commit matters.
    pub(super) promised: bool,
    /// Rows that fell out of memory since the last commit.
    pub(super) dropped: u64,
    /// Who waits for this commit.
    pub(super) tickets: Vec<Ticket>,
}

impl Batch {
    /// Whether there is nothing to make durable.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.outputs.is_empty()
            && self.schedule.is_none()
            && self.letters.is_empty()
            && self.damaged.is_empty()
            && !self.clean
            && self.dropped == 0
    }

    /// Whether there may be more or fewer dead letters afterwards.
    pub(super) fn may_change_letters(&self) -> bool {
        !self.letters.is_empty() || self.outputs.values().any(Option::is_none)
    }
}

/// What waits.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own; they are no state together")]
pub(super) struct Inbox {
    /// The journal's settings.
    pub(super) settings: Settings,
    /// The file was read.
    read: bool,
    /// What the process before missed is still to be told: its schedule stays in the file until then.
    pub(super) unaccounted: bool,
    /// The outputs that there are, once they were named.
    named: Option<BTreeSet<String>>,
    /// Outputs that asked before the file was read, and, if it does not know them, from where on they have the rows.
    asked: BTreeMap<String, Option<Position>>,
    /// Every output, as it is to be kept.
    pub(super) outputs: BTreeMap<String, Output>,
    /// Dead letters, and what becomes of them. Whoever makes them waits while there are too many.
    pub(super) letters: Letters,
    /// Somebody waits: commit at once.
    pub(super) urgent: bool,
    /// Somebody waits for the last commit: try at once, also while the disk takes nothing.
    pub(super) closing: bool,
    /// The last handle is gone: commit and end.
    pub(super) stop: bool,
    /// There was a sign that the file is damaged.
    pub(super) suspect: bool,
    capacity: usize,
    rows: VecDeque<Waiting>,
    first: Option<Duration>,
    changed: BTreeSet<String>,
    promises: Vec<Promise>,
    promised: bool,
    promises_changed: bool,
    damaged: BTreeSet<u64>,
    clean: bool,
    dropped: u64,
    overflowing: bool,
    tickets: Vec<Ticket>,
    in_flight: usize,
}

impl Inbox {
    /// Nothing waits, and the file was not read yet.
    pub(super) fn new(settings: Settings, capacity: usize) -> Self {
        Self {
            settings,
            read: false,
            unaccounted: false,
            named: None,
            asked: BTreeMap::new(),
            outputs: BTreeMap::new(),
            letters: Letters::default(),
            urgent: false,
            closing: false,
            stop: false,
            suspect: false,
            capacity,
            rows: VecDeque::new(),
            first: None,
            changed: BTreeSet::new(),
            promises: Vec::new(),
            promised: false,
            promises_changed: false,
            damaged: BTreeSet::new(),
            clean: false,
            dropped: 0,
            overflowing: false,
            tickets: Vec::new(),
            in_flight: 0,
        }
    }

    /// The file was read: its outputs, and the position of its last row.
    pub(super) fn read(&mut self, outputs: BTreeMap<String, Output>, tip: Position, today: Timestamp, now: Duration) {
        self.read = true;
        self.outputs = outputs;
        self.asked.retain(|name, _| !self.outputs.contains_key(name));
        self.asked.values_mut().for_each(|start| *start = Some(tip));
        if let Some(names) = self.named.take() {
            self.name_outputs(&names, today, now);
        }
    }

    /// What the process before missed is among the rows that were appended.
    pub(super) fn accounted(&mut self, now: Duration) {
        self.unaccounted = false;
        self.arrived(now);
    }

    /// Another file takes the place of the one that was taken away: what is kept in it is to be written anew.
    pub(super) fn repeat(&mut self, now: Duration) {
        self.changed.extend(self.outputs.keys().cloned());
        self.promises_changed = self.promised;
        self.arrived(now);
    }

    /// What waits about positions is of rows that are gone with their file.
    pub(super) fn forget_positions(&mut self) {
        self.letters.forget_positions();
        self.damaged.clear();
    }

    /// Takes rows that arrive at `now` of the monotonic clock. Says whether rows began to be lost.
    pub(super) fn append(&mut self, rows: Vec<Row>, now: Duration) -> bool {
        if rows.is_empty() {
            return false;
        }
        self.rows.extend(rows.into_iter().map(Waiting::from));
        self.arrived(now);
        self.trim()
    }

    /// Takes rows of somebody else, if they take no room from our own: half of the ring is for those. Says whether it did.
    pub(super) fn append_watched(&mut self, rows: Vec<Waiting>, now: Duration) -> bool {
        let room = (self.capacity / 2).saturating_sub(self.waiting());
        if rows.is_empty() || rows.len() > room {
            return rows.is_empty();
        }
        self.rows.extend(rows);
        self.arrived(now);
        true
    }

    /// Something about dead letters waits.
    pub(super) fn letters_changed(&mut self, now: Duration) {
        self.arrived(now);
    }

    /// Requeue, and tell, at once.
    pub(super) fn requeue(&mut self, wish: Requeue, now: Duration) {
        self.letters.requeues.push(wish);
        self.urgent = true;
        self.arrived(now);
    }

    /// What is scheduled from `today` on. What was scheduled alike before stays promised since then; what was not ends now, and
    /// is kept while one of its slots may be open.
    pub(super) fn schedule(&mut self, series: Vec<(Series, Schedule)>, today: Timestamp, now: Duration) {
        let mut wanted: HashMap<Series, Schedule> = series.into_iter().collect();
        for promise in self.promises.iter_mut().filter(|promise| promise.until.is_none()) {
            if wanted.get(&promise.series) == Some(&promise.schedule) {
                wanted.remove(&promise.series);
            } else {
                promise.until = Some(today);
            }
        }
        self.promises.retain(|promise| promise.is_open(today));
        let new = wanted.into_iter().map(|(series, schedule)| Promise { series, schedule, since: today, until: None });
        self.promises.extend(new);
        self.promised = true;
        self.promises_changed = true;
        self.clean = false;
        self.arrived(now);
    }

    /// Rows that a reader found damaged.
    pub(super) fn set_aside(&mut self, positions: Vec<u64>, now: Duration) {
        let room = DAMAGED.saturating_sub(self.damaged.len());
        self.damaged.extend(positions.into_iter().take(room));
        self.arrived(now);
    }

    /// There was a sign that the file is damaged: have it looked through.
    pub(super) fn suspect(&mut self, now: Duration) {
        self.suspect = true;
        self.arrived(now);
    }

    /// Commit at once, and tell. A clean stop is noted with it.
    pub(super) fn wait(&mut self, ticket: Ticket, clean: bool) {
        self.tickets.push(ticket);
        self.clean |= clean;
        self.closing |= clean;
        self.urgent = true;
    }

    /// Nobody waits any more: gives everybody who did.
    pub(super) fn answer(&mut self) -> Vec<Ticket> {
        self.urgent = false;
        self.closing = false;
        std::mem::take(&mut self.tickets)
    }

    /// How long until the next commit is due; none if nothing waits.
    pub(super) fn due_in(&self, now: Duration) -> Option<Duration> {
        if self.urgent || self.stop {
            return Some(Duration::ZERO);
        }
        let flush = self.settings.flush;
        let wait = flush.saturating_sub(FOR_THE_COMMIT.min(flush / 4));
        // Whoever appended may have read another clock (paused time in tests): never wait longer than allowed.
        self.first.map(|first| first.saturating_add(wait).saturating_sub(now).min(wait))
    }

    /// Takes what the next commit makes durable. Who waits, and what follows from the rows, goes with the last of them; what outputs
    /// have is of rows that are durable, and goes first: a kill must not make one a new output.
    pub(super) fn take(&mut self) -> Batch {
        let count = self.rows.len().min(COMMIT);
        let rows: Vec<Waiting> = self.rows.drain(..count).collect();
        self.in_flight = count;
        let dropped = std::mem::take(&mut self.dropped);
        let changed = std::mem::take(&mut self.changed);
        let outputs = changed.into_iter().map(|name| (name.clone(), self.outputs.get(&name).cloned())).collect();
        let letters = std::mem::take(&mut self.letters);
        let accounted = !self.unaccounted;
        if !self.rows.is_empty() {
            return Batch { rows, outputs, letters, dropped, promised: self.promised && accounted, ..Batch::default() };
        }
        self.first = None;
        let tickets = self.answer();
        let schedule = (accounted && std::mem::take(&mut self.promises_changed)).then(|| self.promises.clone());
        Batch {
            rows,
            outputs,
            schedule,
            letters,
            damaged: std::mem::take(&mut self.damaged),
            clean: std::mem::take(&mut self.clean) && accounted,
            promised: self.promised && accounted,
            dropped,
            tickets,
        }
    }

    /// The batch is durable.
    pub(super) fn settled(&mut self) {
        self.in_flight = 0;
        self.overflowing = false;
    }

    /// The batch is not durable: what was in it waits again, unless something newer replaces it.
    pub(super) fn give_back(&mut self, batch: Batch, now: Duration) {
        self.in_flight = 0;
        if batch.is_empty() {
            return;
        }
        self.dropped += batch.dropped;
        self.changed.extend(batch.outputs.into_keys());
        self.promises_changed |= batch.schedule.is_some();
        self.letters.give_back(batch.letters);
        self.damaged.extend(batch.damaged);
        self.clean |= batch.clean;
        for row in batch.rows.into_iter().rev() {
            self.rows.push_front(row);
        }
        self.trim();
        self.arrived(now);
    }

    /// Rows in memory that are not durable.
    pub(super) fn waiting(&self) -> usize {
        self.rows.len() + self.in_flight
    }

    /// Rows lost from memory that no commit has written down yet.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.tickets.is_empty()
    }

    fn change(&mut self, name: &str, now: Duration) {
        self.changed.insert(name.to_owned());
        self.arrived(now);
    }

    fn arrived(&mut self, now: Duration) {
        self.first.get_or_insert(now);
    }

    fn trim(&mut self) -> bool {
        let over = self.rows.len().saturating_sub(self.capacity);
        self.rows.drain(..over).for_each(|waiting| waiting.decide(Fate::Lost));
        self.dropped += over as u64;
        over > 0 && !std::mem::replace(&mut self.overflowing, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::acknowledged::Acknowledged;
    use crate::journal::testing::{row, settings};

    fn inbox(capacity: usize) -> Inbox {
        Inbox::new(settings(), capacity)
    }

    fn rows(times: std::ops::Range<i64>) -> Vec<Row> {
        times.map(|time| row("a", time)).collect()
    }

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn the_oldest_rows_fall_out_of_a_full_ring_and_are_counted() {
        let mut inbox = inbox(10);
        assert!(!inbox.append(rows(0..8), NOW));
        assert!(inbox.append(rows(8..12), NOW), "the first loss is told");
        assert!(!inbox.append(rows(12..13), NOW), "the next is not");
        assert_eq!((inbox.waiting(), inbox.dropped()), (10, 3));
        let batch = inbox.take();
        assert_eq!((batch.rows[0].row.clone(), batch.dropped, inbox.waiting()), (row("a", 3), 3, 10));
        inbox.append(rows(13..16), NOW);
        inbox.give_back(batch, NOW);
        assert_eq!((inbox.waiting(), inbox.dropped()), (10, 6));
        assert_eq!(inbox.take().rows.into_iter().map(|waiting| waiting.row).collect::<Vec<_>>(), rows(6..16));
    }

    #[test]
    fn rows_of_others_take_half_of_the_ring_at_most_and_one_that_falls_out_is_told() {
        let mut inbox = inbox(10);
        let watched = |times| Waiting::watched(rows(times).into_iter().map(|row| (row, None)).collect());
        let (five, fates) = watched(0..5);
        assert!(inbox.append_watched(five, NOW));
        assert!(!inbox.append_watched(watched(5..6).0, NOW) && inbox.append_watched(Vec::new(), NOW));
        inbox.append(rows(6..12), NOW);
        assert_eq!(fates.iter().collect::<Vec<_>>(), [Some(Fate::Lost), None, None, None, None]);
        assert_eq!((inbox.waiting(), inbox.dropped()), (10, 1));
    }

    #[test]
    fn a_commit_is_due_in_time_after_the_first_arrival() {
        let mut inbox = inbox(10);
        assert_eq!(inbox.due_in(NOW), None);
        inbox.append(rows(0..1), NOW);
        assert_eq!(inbox.due_in(NOW), Some(Duration::from_millis(200)));
        inbox.append(rows(1..2), NOW + Duration::from_millis(150));
        assert_eq!(inbox.due_in(NOW + Duration::from_millis(150)), Some(Duration::from_millis(50)));
        assert_eq!(inbox.due_in(NOW + Duration::from_secs(9)), Some(Duration::ZERO));
        assert_eq!(inbox.due_in(Duration::ZERO), Some(Duration::from_millis(200)), "another clock");
        inbox.take();
        assert_eq!(inbox.due_in(NOW), None);
    }

    #[test]
    fn who_waits_is_told_with_the_last_row_not_with_the_first() {
        let mut inbox = inbox(RING);
        inbox.append(rows(0..COMMIT as i64 + 1), NOW);
        inbox.acknowledge("main", Acknowledged::default(), NOW);
        let (ticket, _answer) = oneshot::channel();
        inbox.wait(ticket, true);
        let first = inbox.take();
        assert_eq!((first.rows.len(), first.tickets.len(), first.clean), (COMMIT, 0, false));
        assert!(first.outputs.contains_key("main"), "an output is known no later than the rows that it lacks");
        assert_eq!(inbox.due_in(NOW), Some(Duration::ZERO));
        let last = inbox.take();
        assert_eq!((last.rows.len(), last.tickets.len(), last.clean), (1, 1, true));
        assert!(inbox.is_empty());
    }

    #[test]
    fn a_removed_output_is_kept_for_7_days() {
        let mut inbox = inbox(10);
        let day = |day: u64| Timestamp::default().plus(Duration::from_hours(24 * day));
        inbox.acknowledge("main", Acknowledged::default(), NOW);
        inbox.name_outputs(&BTreeSet::new(), day(1), NOW);
        inbox.forget_outputs(day(7), NOW);
        inbox.name_outputs(&BTreeSet::new(), day(7), NOW);
        inbox.acknowledge("main", Acknowledged::starting_at(Position(9)), NOW);
        assert_eq!(inbox.outputs["main"].removed, Some(day(1)));
        inbox.take();
        inbox.forget_outputs(day(8), NOW);
        assert!(inbox.outputs.is_empty());
        assert_eq!(inbox.take().outputs["main"], None);
    }

    #[test]
    fn what_was_told_before_the_file_was_read_waits_for_it() {
        let (mut inbox, today) = (inbox(10), Timestamp::from_nanos(7));
        inbox.name_outputs(&BTreeSet::from(["old".to_owned(), "new".to_owned()]), today, NOW);
        assert_eq!((inbox.output("new", NOW), inbox.start("new"), inbox.start("old")), (None, Start::Unread, Start::Unread));
        inbox.unaccounted = true;
        inbox.schedule(Vec::new(), today, NOW);
        let known = Output { acknowledged: Acknowledged::starting_at(Position(3)), removed: Some(today) };
        let left = Output { removed: None, ..known.clone() };
        inbox.read(BTreeMap::from([("old".to_owned(), known.clone()), ("left".to_owned(), left)]), Position(5), today, NOW);
        inbox.append(rows(0..2), NOW);
        let batch = inbox.take();
        assert_eq!((batch.rows.len(), batch.schedule, batch.promised), (2, None, false), "what was missed has to be told first");
        let expected =
            BTreeMap::from([("left".to_owned(), Some(known.clone())), ("old".to_owned(), Some(Output { removed: None, ..known }))]);
        assert_eq!(batch.outputs, expected);
        assert_eq!(inbox.start("new"), Start::After(Position(5)), "the rows that waited are its, too");
        assert_eq!(inbox.start("later"), Start::Now);
        inbox.unaccounted = false;
        let batch = inbox.take();
        assert_eq!((batch.schedule, batch.promised), (Some(Vec::new()), true));
    }

    #[test]
    fn a_schedule_that_did_not_change_stays_promised_since_then() {
        let mut inbox = inbox(10);
        let schedule = |seconds| Schedule::new(Duration::from_secs(seconds), Duration::ZERO);
        let (a, b) = (row("a", 0).series, row("b", 0).series);
        let at = Timestamp::from_nanos;
        inbox.schedule(vec![(a.clone(), schedule(1)), (b.clone(), schedule(60))], at(5), NOW);
        inbox.schedule(vec![(a.clone(), schedule(1)), (b.clone(), schedule(2))], at(3_000_000_005), NOW);
        let promise = |series: &Series, seconds, since, until: Option<i64>| Promise {
            series: series.clone(),
            schedule: schedule(seconds),
            since: at(since),
            until: until.map(at),
        };
        let mut promises = inbox.take().schedule.unwrap();
        promises.sort_by_key(|promise| (promise.since, promise.until));
        let kept = promise(&a, 1, 5, None);
        assert_eq!(promises, [kept.clone(), promise(&b, 2, 3_000_000_005, None)], "the old schedule of b had no slot");

        inbox.schedule(vec![(a.clone(), schedule(1))], at(9_000_000_000), NOW);
        let gone = promise(&b, 2, 3_000_000_005, Some(9_000_000_000));
        assert_eq!(inbox.take().schedule.unwrap(), [kept.clone(), gone], "a slot of b may be open");
        inbox.schedule(vec![(a.clone(), schedule(1))], at(9_000_000_000).plus(Duration::from_hours(2)), NOW);
        assert_eq!(inbox.take().schedule.unwrap(), [kept]);
    }
}
