//! What an output is sent, and when: batches, retries, and the search for the row that it refuses. Pure.
//!
//! The shell asks [`Outbox::next`], does what it says, and reports: [`Outbox::loaded`] or [`Outbox::unreadable`] after a
//! read, [`Outbox::answered`] after a post. Asking twice is harmless. What is promised: a batch whose outcome is unknown
//! is sent again byte for byte; a refused batch is halved until the rows at fault stand alone; such a row is held, not
//! acknowledged, and tried again after an hour, while the rest flows on. Where the output names a field that it refuses, the
//! rows that have it are sent apart, and then without it, as [`part`](super::part) says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Verdict;
use super::episode::Episode;
use super::part::{Conflict, FieldName, Part};
use crate::backoff::Backoff;
use crate::journal::Position;
use crate::journal::acknowledged::Acknowledged;
pub use step::{Counters, Event, Limits, Reading, Step};

mod step;

/// The most rows that may be held; then the output stops, lest it acknowledge more ranges than can be remembered.
pub const MOST_HELD: usize = 60;
/// How long after its refusal a held row is tried again.
pub const HELD_FOR: Duration = Duration::from_hours(1);
/// How long after its refusal the row that stopped the output is tried again, to notice soon that the server has been put right.
pub const STOPPED_FOR: Duration = Duration::from_mins(1);
/// After a batch was too large: so many accepted ones until twice its size is tried.
const GROW_AFTER: u32 = 32;
/// The most refused fields whose names are kept; further ones are counted only.
const MOST_NAMES: usize = 64;

/// First and last position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: Position,
    last: Position,
}

/// Rows of a refused batch that are to be sent in another way.
#[derive(Clone, Debug, PartialEq)]
struct Suspect {
    span: Span,
    part: Arc<Part>,
}

/// In flight: sent, or about to be.
#[derive(Debug)]
struct Batch {
    span: Span,
    part: Arc<Part>,
    positions: Vec<Position>,
    body: Bytes,
}

/// All rows from `first` to `last`.
fn whole(first: Position, last: Position) -> Suspect {
    Suspect { span: Span { first, last }, part: Arc::default() }
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
    /// Parts of refused batches, the lowest on top; of one span, the last part is below the others.
    suspects: Vec<Suspect>,
    /// Rows that were accepted before the last part of their span, and fields left out of them: not acknowledged yet.
    parted: BTreeMap<Position, u64>,
    /// Fields that were left out.
    refused_fields: BTreeSet<FieldName>,
    /// Rows refused alone, and when to try them again.
    held: BTreeMap<Position, Duration>,
    last_refusal: Option<String>,
    told_stopped: bool,
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
            parted: BTreeMap::new(),
            refused_fields: BTreeSet::new(),
            held: BTreeMap::new(),
            last_refusal: None,
            told_stopped: false,
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
            Some((suspect, due)) if due <= now => (Some(suspect), None),
            Some((_, due)) => (None, Some(due)),
            None => (None, None),
        };
        let held_at = self.held.values().min().copied();
        let held = self.held.iter().find(|(_, at)| **at <= now).map(|(position, _)| whole(*position, *position));
        match fresh.or(held) {
            Some(Suspect { span, part }) => {
                // A part was in a batch before, so it is not too large to be read.
                let limit = if part.is_whole() { self.limit } else { self.limits.batch_size };
                Step::Read(Reading { after: Position(span.first.0 - 1), upto: span.last, limit, part })
            }
            None => fresh_at.into_iter().chain(held_at).min().map_or(Step::Idle, Step::Wait),
        }
    }

    /// What may be sent for the first time, or is suspected, and from when on.
    fn unsent(&self) -> Option<(Suspect, Duration)> {
        let suspect = self.suspects.last();
        // The parts of a held row are its trial, which goes on though the output is stopped.
        let trial = suspect.is_some_and(|Suspect { span, .. }| span.first == span.last && self.held.contains_key(&span.first));
        if self.is_stopped() && !trial {
            return None;
        }
        if let Some(suspect) = suspect {
            return Some((suspect.clone(), Duration::ZERO));
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
        Some((whole(first, last), due))
    }

    /// The rows of its part that a [`Reading`] found, and their encoding: none if there is nothing to send in them, or if what
    /// they go without leaves nothing of one.
    pub fn loaded(&mut self, now: Duration, reading: Reading, positions: Vec<Position>, body: Option<Bytes>) {
        let Reading { after, upto, limit, part } = reading;
        let asked = Suspect { span: Span { first: Position(after.0 + 1), last: upto }, part: Arc::clone(&part) };
        let first = asked.span.first;
        // A full batch may have left rows behind; otherwise there are no more, whatever positions are unused.
        let last = positions.last().filter(|_| positions.len() >= limit).map_or(upto, |last| *last);
        if self.suspects.last() == Some(&asked) {
            self.suspects.pop();
            if last < upto {
                self.suspects.push(Suspect { span: Span { first: Position(last.0 + 1), last: upto }, part: Arc::clone(&part) });
            }
        }
        if last >= self.tip {
            self.waiting_since = None;
        }
        let nothing_left = body.is_none() && !part.without().is_empty();
        let batch = Batch { span: Span { first, last }, part, positions, body: body.unwrap_or_default() };
        match batch.positions.is_empty() {
            false if nothing_left => self.doubt(now, &batch, "every field of it is refused".to_owned()),
            false if !batch.body.is_empty() => self.flight = Some(batch),
            _ => self.done(&batch),
        }
        self.tell_whether_stopped();
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
            Verdict::Conflict(conflict) => self.conflict(now, &batch, conflict),
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
        self.tell_whether_stopped();
    }

    fn accepted(&mut self, now: Duration, batch: &Batch) {
        self.backoff.reset();
        let without = batch.part.without();
        // Counted when they are acknowledged, so that no end of the writer makes one count twice.
        self.parted.extend(batch.positions.iter().map(|position| (*position, without.len() as u64)));
        self.done(batch);
        for refused in without {
            if self.refused_fields.len() < MOST_NAMES && self.refused_fields.insert(refused.name.clone()) {
                self.events.push(Event::FieldRefused { name: refused.name.clone(), why: refused.why.clone() });
            }
        }
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

    /// Sends the rows that have the refused field apart, or without it.
    fn conflict(&mut self, now: Duration, batch: &Batch, conflict: Conflict) {
        let Some(parts) = batch.part.split(batch.positions.len(), &conflict) else {
            return self.doubt(now, batch, conflict.field.why);
        };
        self.backoff.reset();
        self.suspects.extend(parts.into_iter().map(|part| Suspect { span: batch.span, part: Arc::new(part) }));
    }

    /// Halves a batch that was not taken; holds a row that was not taken alone.
    fn doubt(&mut self, now: Duration, batch: &Batch, why: String) {
        self.backoff.reset();
        self.accepted_in_a_row = 0;
        let Span { first, last } = batch.span;
        if let [position] = *batch.positions {
            if batch.part.is_last() {
                self.settle(Span { first, last: Position(position.0 - 1) });
                self.settle(Span { first: Position(position.0 + 1), last });
            }
            self.hold(now, position, why);
        } else {
            let middle = batch.positions[batch.positions.len() / 2 - 1];
            // Each half has to be refused anew before it goes without a field: it may be the other half that was.
            let part = Arc::new(batch.part.unabridged());
            self.suspects.push(Suspect { span: Span { first: Position(middle.0 + 1), last }, part: Arc::clone(&part) });
            self.suspects.push(Suspect { span: Span { first, last: middle }, part });
        }
    }

    fn hold(&mut self, now: Duration, position: Position, why: String) {
        self.counters.refused += 1;
        if self.held.insert(position, now.saturating_add(HELD_FOR)).is_none() {
            self.events.push(Event::Held { position, why: why.clone() });
        }
        if self.is_stopped() {
            self.held.insert(position, now.saturating_add(STOPPED_FOR));
        }
        self.last_refusal = Some(why);
    }

    fn tell_whether_stopped(&mut self) {
        let stopped = self.is_stopped();
        if std::mem::replace(&mut self.told_stopped, stopped) != stopped {
            self.events.push(if stopped { Event::Stopped } else { Event::Resumed });
        }
    }

    /// All rows of a batch are stored, or there is nothing to send in them.
    fn done(&mut self, batch: &Batch) {
        // Held rows that were looked for and not found are gone from the journal.
        let Span { first, last } = batch.span;
        let gone = |position: &Position| batch.part.is_whole() && (first..=last).contains(position);
        self.held.retain(|position, _| !gone(position) && batch.positions.binary_search(position).is_err());
        if batch.part.is_last() {
            self.settle(batch.span);
        }
    }

    /// Acknowledges what is not held of a span of which every part was sent.
    fn settle(&mut self, Span { mut first, last }: Span) {
        if first > last {
            return;
        }
        let held: Vec<Position> = self.held.range(first..=last).map(|(position, _)| *position).collect();
        for position in held {
            self.acknowledge(first, Position(position.0 - 1));
            first = Position(position.0 + 1);
        }
        self.acknowledge(first, last);
    }

    fn acknowledge(&mut self, first: Position, last: Position) {
        if first > last {
            return;
        }
        let mut acknowledged = self.parted.split_off(&first);
        self.parted.append(&mut acknowledged.split_off(&Position(last.0 + 1)));
        self.counters.delivered += acknowledged.len() as u64;
        self.counters.refused_fields += acknowledged.values().sum::<u64>();
        self.acknowledged.add(first, last);
        self.changed = true;
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

    /// The fields that were left out of rows.
    pub fn refused_fields(&self) -> impl Iterator<Item = &FieldName> {
        self.refused_fields.iter()
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

#[cfg(test)]
#[path = "outbox_conflict_tests.rs"]
mod conflict_tests;
