//! What an output is sent, and when: batches, retries, and the search for the row that it refuses. Pure.
//!
//! The shell asks [`Outbox::next`], does what it says, and reports: [`Outbox::loaded`] or [`Outbox::unreadable`] after a
//! read, [`Outbox::answered`] after a post. Asking twice is harmless. What is promised: a batch whose outcome is unknown
//! is sent again byte for byte; a refused batch is halved until the rows at fault stand alone; such a row becomes a dead letter,
//! handed over by [`Outbox::take_dead`] no later than its acknowledgement by [`Outbox::take_changed`], while the rest flows on.
//! Where the output names a field that it refuses, the rows that have it are sent apart, and then without it, as
//! [`part`](super::part) says. An output that is far behind gets live rows in time all the same: the newest and the oldest
//! batch take turns, with what is acknowledged in between kept as a range.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Verdict;
use super::episode::{Burials, Episode};
use super::part::{Conflict, FieldName, Part};
use crate::backoff::Backoff;
use crate::journal::acknowledged::Acknowledged;
use crate::journal::{DeadLetter, Position};
pub use step::{Counters, Event, Limits, Reading, Step};

mod ahead;
mod step;

/// After a batch was too large: so many accepted ones until twice its size is tried.
const GROW_AFTER: u32 = 32;
/// With more rows than so many batches behind the tip, the newest go first, and the others in between.
const BACKLOG: u64 = 4;
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
    /// The last batch was of live rows, with older ones waiting: it is their turn.
    backlog_next: bool,
    /// Fields that were left out.
    refused_fields: BTreeSet<FieldName>,
    /// Rows that were refused alone before the last part of their span, and why: not acknowledged yet.
    refused: BTreeMap<Position, String>,
    /// Refused rows that are acknowledged.
    dead: Vec<DeadLetter>,
    last_refusal: Option<String>,
    burials: Burials,
    tip: Position,
    /// When the oldest row that was never in a batch became durable.
    waiting_since: Option<Duration>,
    not_before: Duration,
    /// Until when the server itself asked for quiet.
    told_until: Duration,
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
            backlog_next: false,
            refused_fields: BTreeSet::new(),
            refused: BTreeMap::new(),
            dead: Vec::new(),
            last_refusal: None,
            burials: Burials::default(),
            tip: Position(0),
            waiting_since: None,
            not_before: Duration::ZERO,
            told_until: Duration::ZERO,
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
        match self.unsent(now) {
            Some((Suspect { span, part }, due)) if due <= now => {
                // A part was in a batch before, so it is not too large to be read.
                let limit = if part.is_whole() { self.limit } else { self.limits.batch_size };
                Step::Read(Reading { after: Position(span.first.0 - 1), upto: span.last, limit, part })
            }
            Some((_, due)) => Step::Wait(due),
            None => Step::Idle,
        }
    }

    /// What may be sent for the first time, or is suspected, and from when on.
    fn unsent(&self, now: Duration) -> Option<(Suspect, Duration)> {
        if let Some(suspect) = self.suspects.last() {
            return Some((suspect.clone(), Duration::ZERO));
        }
        let first = self.acknowledged.next_unacknowledged(self.acknowledged.floor());
        if first > self.tip {
            return None;
        }
        let live = self.live().max(first);
        let full = live <= self.tip && self.tip.0 - live.0 + 1 >= self.limit as u64;
        let due = if full { Duration::ZERO } else { self.waiting_since.unwrap_or_default().saturating_add(self.limits.flush_interval) };
        let is_live_s_turn = live <= self.tip && due <= now && !self.backlog_next;
        if first == live || is_live_s_turn {
            return Some((whole(live, self.tip), due));
        }
        // Rows below others that are already sent, or to be sent first, have waited long enough.
        let above = self.acknowledged.ranges().iter().map(|(from, _)| *from).find(|from| *from > first);
        let last = above.map_or(live, |from| from.min(live));
        Some((whole(first, Position(last.0 - 1)), Duration::ZERO))
    }

    /// The first of the rows that are not to wait for older ones: all above what is acknowledged, or, when those are too many
    /// and another range can be kept, the newest batch.
    fn live(&self) -> Position {
        let above = self.acknowledged.ranges().last().map_or(self.acknowledged.floor(), |(_, to)| *to).0 + 1;
        let behind = (self.tip.0 + 1).saturating_sub(above) > BACKLOG * self.limits.batch_size as u64;
        let jump = behind && !self.acknowledged.is_full();
        Position(if jump { self.tip.0 + 1 - self.limit as u64 } else { above })
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
            false if nothing_left => self.doubt(now, &batch, "every field of it is refused"),
            false if !batch.body.is_empty() => self.flight = Some(batch),
            _ => self.done(&batch),
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
            // It stored none, and would store none of them alone.
            Verdict::Refused { why, refused: Some(rows) } if rows >= batch.positions.len() => self.refuse(now, &batch, &why),
            Verdict::Refused { why, .. } => self.doubt(now, &batch, &why),
            Verdict::Conflict(conflict) => self.conflict(now, &batch, &conflict),
            Verdict::TooLarge => {
                self.limit = (batch.positions.len() / 2).max(1);
                self.doubt(now, &batch, "a single row is too large");
            }
            Verdict::After { wait, why } => {
                self.told_until = now.saturating_add(wait);
                self.again(now, batch, wait, why);
            }
            Verdict::Hold { why } | Verdict::Unknown { why } => {
                let wait = self.backoff.fail(fraction);
                self.again(now, batch, wait, why);
            }
        }
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
    fn conflict(&mut self, now: Duration, batch: &Batch, conflict: &Conflict) {
        let Some(parts) = batch.part.split(batch.positions.len(), conflict) else {
            return self.doubt(now, batch, &conflict.field.why);
        };
        self.backoff.reset();
        self.suspects.extend(parts.into_iter().map(|part| Suspect { span: batch.span, part: Arc::new(part) }));
    }

    /// Halves a batch that was not taken; a row that was not taken alone is refused.
    fn doubt(&mut self, now: Duration, batch: &Batch, why: &str) {
        self.backoff.reset();
        self.accepted_in_a_row = 0;
        let Span { first, last } = batch.span;
        if batch.positions.len() == 1 {
            self.refuse(now, batch, why);
        } else {
            let middle = batch.positions[batch.positions.len() / 2 - 1];
            // Each half has to be refused anew before it goes without a field: it may be the other half that was.
            let part = Arc::new(batch.part.unabridged());
            self.suspects.push(Suspect { span: Span { first: Position(middle.0 + 1), last }, part: Arc::clone(&part) });
            self.suspects.push(Suspect { span: Span { first, last: middle }, part });
        }
    }

    /// None of these rows will ever be taken.
    fn refuse(&mut self, now: Duration, batch: &Batch, why: &str) {
        self.backoff.reset();
        // Like what was accepted, counted when it is acknowledged.
        self.refused.extend(batch.positions.iter().map(|position| (*position, why.to_owned())));
        self.events.extend(self.burials.add(now, batch.positions.len() as u64, why));
        self.last_refusal = Some(why.to_owned());
        // It answers, and the rest flows on.
        self.events.extend(self.episode.works(now));
        self.done(batch);
    }

    /// All rows of a batch are stored or refused, or there is nothing to send in them.
    fn done(&mut self, batch: &Batch) {
        if batch.part.is_last() && batch.span.first <= batch.span.last {
            self.acknowledge(batch.span);
        }
    }

    /// Acknowledges a span of which every part is dealt with.
    fn acknowledge(&mut self, Span { first, last }: Span) {
        self.backlog_next = first > self.acknowledged.next_unacknowledged(self.acknowledged.floor());
        let delivered = cut(&mut self.parted, first, last);
        self.counters.delivered += delivered.len() as u64;
        self.counters.refused_fields += delivered.values().sum::<u64>();
        let refused = cut(&mut self.refused, first, last);
        self.counters.refused += refused.len() as u64;
        self.dead.extend(refused.into_iter().map(|(position, reason)| DeadLetter { position, reason }));
        self.acknowledged.add(first, last);
        self.changed = true;
    }

    /// Rows that were refused and are acknowledged: to be kept before or together with what [`Outbox::take_changed`] says.
    pub fn take_dead(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.dead)
    }

    /// Whether everything up to there is acknowledged.
    pub fn is_done_up_to(&self, position: Position) -> bool {
        self.acknowledged.floor() >= position
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
        self.pending_from(Position(1))
    }

    /// Of those, the ones from here on: rows before it are there no more.
    pub fn pending_from(&self, first: Position) -> u64 {
        let floor = self.acknowledged.floor().0.max(first.0.saturating_sub(1));
        let above = |&(from, to): &(Position, Position)| (to.0 + 1).saturating_sub(from.0.max(floor + 1));
        let above: u64 = self.acknowledged.ranges().iter().map(above).sum();
        self.tip.0.saturating_sub(floor).saturating_sub(above)
    }

    /// The fields that were left out of rows.
    pub fn refused_fields(&self) -> impl Iterator<Item = &FieldName> {
        self.refused_fields.iter()
    }

    /// Why a row was last refused.
    pub fn last_refusal(&self) -> Option<&str> {
        self.last_refusal.as_deref()
    }

    /// Since when nothing gets through, and why.
    pub fn failing(&self) -> Option<(Duration, &str)> {
        self.episode.failing()
    }

    /// Until when nothing is sent after a failure.
    pub fn backing_off(&self, now: Duration) -> Option<Duration> {
        (now < self.not_before).then_some(self.not_before)
    }

    /// Until when the server itself asked for quiet, whatever would be sent.
    pub fn quiet(&self, now: Duration) -> Option<Duration> {
        (now < self.told_until).then_some(self.told_until)
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

/// Takes what is from `first` to `last` out of a map.
fn cut<T>(map: &mut BTreeMap<Position, T>, first: Position, last: Position) -> BTreeMap<Position, T> {
    let mut within = map.split_off(&first);
    map.append(&mut within.split_off(&Position(last.0.saturating_add(1))));
    within
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "outbox_conflict_tests.rs"]
mod conflict_tests;
