//! What an output is sent, and when: batches, retries, and the search for the row that it refuses. Pure.
//!
//! The shell asks [`Outbox::next`], does what it says, and reports: [`Outbox::loaded`] or [`Outbox::unreadable`] after a
//! read, [`Outbox::answered`] after a post. Asking twice is harmless. What is promised: a batch whose outcome is unknown
//! is sent again byte for byte; a refused batch is halved until the rows at fault stand alone; such a row is held, not
//! acknowledged, and tried again after an hour, while the rest flows on.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::Verdict;
use super::episode::Episode;
use crate::backoff::Backoff;
use crate::journal::Position;
use crate::journal::acknowledged::Acknowledged;

/// The most rows that may be held; then the output stops, lest it acknowledge more ranges than can be remembered.
pub const MOST_HELD: usize = 60;
/// How long after its refusal a held row is tried again.
pub const HELD_FOR: Duration = Duration::from_hours(1);
/// How long after its refusal the row that stopped the output is tried again, to notice soon that the server has been put right.
pub const STOPPED_FOR: Duration = Duration::from_mins(1);
/// After a batch was too large: so many accepted ones until twice its size is tried.
const GROW_AFTER: u32 = 32;

/// How rows are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most rows a request carries.
    pub batch_size: usize,
    /// The longest a durable row waits for others before it is sent.
    pub flush_interval: Duration,
}

/// What to read from the journal: at most `limit` rows after `after`, up to and with `upto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in Journal::read")]
pub struct Reading {
    pub after: Position,
    pub upto: Position,
    pub limit: usize,
}

/// What the shell is to do. Times are on the monotonic clock.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Read rows, encode them, and report.
    Read(Reading),
    /// Send this and report the verdict.
    Post {
        /// The request.
        body: Bytes,
        /// Rows in it.
        rows: usize,
    },
    /// Ask again at that time, or when the tip moves.
    Wait(Duration),
    /// Ask again when the tip moves.
    Idle,
}

/// What people are told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Nothing gets through since now, or for another reason than before.
    Failing {
        /// The reason.
        why: String,
    },
    /// A batch got through again.
    Works {
        /// How long it had been failing.
        after: Duration,
    },
    /// A row is refused even alone.
    Held {
        /// Which.
        position: Position,
        /// What the output said.
        why: String,
    },
    /// Too many rows are held; nothing else is sent until some are accepted.
    Stopped,
    /// Few enough are held again.
    Resumed,
}

/// What an output did since its outbox was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rows that the output accepted.
    pub delivered: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Rows refused when sent alone, once for each time.
    pub refused: u64,
}

/// First and last position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: Position,
    last: Position,
}

/// In flight: sent, or about to be.
#[derive(Debug)]
struct Batch {
    span: Span,
    positions: Vec<Position>,
    body: Bytes,
}

/// One output's outbox.
#[derive(Debug)]
pub struct Outbox {
    limits: Limits,
    acknowledged: Acknowledged,
    changed: bool,
    /// Rows a request carries at present; below `limits.batch_size` after a batch was too large.
    limit: usize,
    accepted_in_a_row: u32,
    flight: Option<Batch>,
    /// Parts of refused batches, the lowest on top.
    suspects: Vec<Span>,
    /// Rows refused alone, and when to try them again.
    held: BTreeMap<Position, Duration>,
    last_refusal: Option<String>,
    tip: Position,
    /// When the oldest row that was never in a batch became durable.
    waiting_since: Option<Duration>,
    not_before: Duration,
    backoff: Backoff,
    episode: Episode,
    events: Vec<Event>,
    counters: Counters,
}

impl Outbox {
    /// An outbox for what is not acknowledged yet.
    pub fn new(acknowledged: Acknowledged, limits: Limits) -> Self {
        let limits = Limits { batch_size: limits.batch_size.max(1), ..limits };
        Self {
            limits,
            acknowledged,
            changed: false,
            limit: limits.batch_size,
            accepted_in_a_row: 0,
            flight: None,
            suspects: Vec::new(),
            held: BTreeMap::new(),
            last_refusal: None,
            tip: Position(0),
            waiting_since: None,
            not_before: Duration::ZERO,
            backoff: Backoff::default(),
            episode: Episode::default(),
            events: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// What to do now, when rows are durable up to `tip`.
    pub fn next(&mut self, now: Duration, tip: Position) -> Step {
        if tip > self.tip {
            self.tip = tip;
            self.waiting_since.get_or_insert(now);
        }
        if now < self.not_before {
            return Step::Wait(self.not_before);
        }
        if let Some(batch) = &self.flight {
            return Step::Post { body: batch.body.clone(), rows: batch.positions.len() };
        }
        let (fresh, fresh_at) = match self.unsent() {
            Some((span, due)) if due <= now => (Some(span), None),
            Some((_, due)) => (None, Some(due)),
            None => (None, None),
        };
        let held_at = self.held.values().min().copied();
        let held = self.held.iter().find(|(_, at)| **at <= now).map(|(position, _)| Span { first: *position, last: *position });
        match fresh.or(held) {
            Some(span) => Step::Read(Reading { after: Position(span.first.0 - 1), upto: span.last, limit: self.limit }),
            None => fresh_at.into_iter().chain(held_at).min().map_or(Step::Idle, Step::Wait),
        }
    }

    /// What may be sent for the first time, or is suspected, and from when on.
    fn unsent(&self) -> Option<(Span, Duration)> {
        if self.is_stopped() {
            return None;
        }
        if let Some(span) = self.suspects.last() {
            return Some((*span, Duration::ZERO));
        }
        // Positions are worked through upwards, so every held row is below the first that was never sent.
        let mut first = self.acknowledged.next_unacknowledged(self.acknowledged.floor());
        while self.held.contains_key(&first) {
            first = self.acknowledged.next_unacknowledged(first);
        }
        if first > self.tip {
            return None;
        }
        let above = self.acknowledged.ranges().iter().map(|(from, _)| *from).find(|from| *from > first);
        let last = above.map_or(self.tip, |from| Position(from.0 - 1).min(self.tip));
        let full = last.0 - first.0 + 1 >= self.limit as u64;
        // Rows below others that are already sent have waited long enough.
        let at_once = full || last < self.tip;
        let due = if at_once { Duration::ZERO } else { self.waiting_since.unwrap_or_default().saturating_add(self.limits.flush_interval) };
        Some((Span { first, last }, due))
    }

    /// The rows that a [`Reading`] found, and their encoding: none if there is nothing to send in them.
    pub fn loaded(&mut self, reading: Reading, positions: Vec<Position>, body: Option<Bytes>) {
        let whole = Span { first: Position(reading.after.0 + 1), last: reading.upto };
        // A full batch may have left rows behind; otherwise there are no more, whatever positions are unused.
        let last = positions.last().filter(|_| positions.len() >= reading.limit).map_or(whole.last, |last| *last);
        if self.suspects.last() == Some(&whole) {
            self.suspects.pop();
            if last < whole.last {
                self.suspects.push(Span { first: Position(last.0 + 1), last: whole.last });
            }
        }
        if last >= self.tip {
            self.waiting_since = None;
        }
        let span = Span { first: whole.first, last };
        match body {
            Some(body) if !positions.is_empty() => self.flight = Some(Batch { span, positions, body }),
            _ => self.acknowledge(span),
        }
    }

    /// The journal could not be read. `fraction` is a random number in `0.0..1.0`.
    pub fn unreadable(&mut self, now: Duration, fraction: f64) {
        self.not_before = now.saturating_add(self.backoff.fail(fraction));
    }

    /// The verdict on the last [`Step::Post`]. `fraction` is a random number in `0.0..1.0`.
    pub fn answered(&mut self, now: Duration, fraction: f64, verdict: Verdict) {
        let Some(batch) = self.flight.take() else { return };
        match verdict {
            Verdict::Accepted => self.accepted(now, &batch),
            Verdict::Refused { why } => self.doubt(now, &batch, why),
            Verdict::TooLarge => {
                self.limit = (batch.positions.len() / 2).max(1);
                self.doubt(now, &batch, "a single row is too large".to_owned());
            }
            Verdict::After { wait, why } => self.again(now, batch, wait, why),
            Verdict::Hold { why } | Verdict::Unknown { why } => {
                let wait = self.backoff.fail(fraction);
                self.again(now, batch, wait, why);
            }
        }
    }

    fn accepted(&mut self, now: Duration, batch: &Batch) {
        self.backoff.reset();
        self.counters.delivered += batch.positions.len() as u64;
        self.acknowledge(batch.span);
        self.accepted_in_a_row += 1;
        if self.accepted_in_a_row >= GROW_AFTER {
            self.accepted_in_a_row = 0;
            self.limit = self.limit.saturating_mul(2).min(self.limits.batch_size);
        }
        self.events.extend(self.episode.works(now));
    }

    fn again(&mut self, now: Duration, batch: Batch, wait: Duration, why: String) {
        self.counters.retries += 1;
        self.not_before = now.saturating_add(wait);
        self.flight = Some(batch);
        self.events.extend(self.episode.fails(now, why));
    }

    /// Halves a batch that was not taken; holds a row that was not taken alone.
    fn doubt(&mut self, now: Duration, batch: &Batch, why: String) {
        self.backoff.reset();
        self.accepted_in_a_row = 0;
        let Span { first, last } = batch.span;
        if let [position] = *batch.positions {
            self.acknowledge(Span { first, last: Position(position.0 - 1) });
            self.acknowledge(Span { first: Position(position.0 + 1), last });
            self.hold(now, position, why);
        } else {
            let middle = batch.positions[batch.positions.len() / 2 - 1];
            self.suspects.push(Span { first: Position(middle.0 + 1), last });
            self.suspects.push(Span { first, last: middle });
        }
    }

    fn hold(&mut self, now: Duration, position: Position, why: String) {
        let stopped = self.is_stopped();
        self.counters.refused += 1;
        if self.held.insert(position, now.saturating_add(HELD_FOR)).is_none() {
            self.events.push(Event::Held { position, why: why.clone() });
        }
        self.last_refusal = Some(why);
        if self.is_stopped() {
            self.held.insert(position, now.saturating_add(STOPPED_FOR));
            if !stopped {
                self.events.push(Event::Stopped);
            }
        }
    }

    fn acknowledge(&mut self, span: Span) {
        if span.first > span.last {
            return;
        }
        let stopped = self.is_stopped();
        self.acknowledged.add(span.first, span.last);
        self.held.retain(|position, _| *position < span.first || *position > span.last);
        self.changed = true;
        if stopped && !self.is_stopped() {
            self.events.push(Event::Resumed);
        }
    }

    /// Whether so many rows are held that nothing else is sent.
    pub fn is_stopped(&self) -> bool {
        self.held.len() >= MOST_HELD || (self.acknowledged.is_full() && !self.held.is_empty())
    }

    /// What is acknowledged, if that has changed since this was last asked.
    pub fn take_changed(&mut self) -> Option<&Acknowledged> {
        std::mem::take(&mut self.changed).then_some(&self.acknowledged)
    }

    /// What people are to be told, once.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Positions up to the tip that are not acknowledged.
    pub fn pending(&self) -> u64 {
        let above: u64 = self.acknowledged.ranges().iter().map(|(from, to)| to.0 + 1 - from.0).sum();
        self.tip.0.saturating_sub(self.acknowledged.floor().0).saturating_sub(above)
    }

    /// Rows held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Why a row was last refused alone, while any is held.
    pub fn last_refusal(&self) -> Option<&str> {
        self.last_refusal.as_deref().filter(|_| !self.held.is_empty())
    }

    /// Since when nothing gets through, and why.
    pub fn failing(&self) -> Option<(Duration, &str)> {
        self.episode.failing()
    }

    /// Until when nothing is sent after a failure.
    pub fn backing_off(&self, now: Duration) -> Option<Duration> {
        (now < self.not_before).then_some(self.not_before)
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
