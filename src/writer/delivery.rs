//! Carries out what one output's [outboxes](super::lanes) decide: reads the journal, sends, acknowledges, buries, tells.
//!
//! While a batch is on its way, the next one of a backlog is read and encoded, so that the server need not wait for us.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::lanes::{Lane, Lanes};
use super::outbox::{Counters, Event, Limits, Outbox, Reading, Step};
use super::part::FieldName;
use super::status::OutputStatus;
use super::{Output, OutputSpec, Verdict, WriterParts};
use crate::backoff::Backoff;
use crate::clock::{Moment, millis};
use crate::journal::acknowledged::Acknowledged;
use crate::journal::{DeadLetter, Journal, JournalError, Position, Stored};

/// Dead letters that may wait for the disk; then delivery waits, too.
const MOST_WAITING: usize = 1_000;
/// How long after the journal failed letters that were requeued are looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Why a letter that was altered in the file is not sent.
const DAMAGED: &str = "it was damaged in the journal";

/// Delivers to one output for as long as it is polled. Dropping it is safe at any time: what was on its way is sent again.
pub(super) async fn deliver(spec: Rc<OutputSpec>, parts: WriterParts) {
    let output = connected(&spec, &parts).await;
    let acknowledged = acknowledged(&spec, &parts).await;
    let limits = Limits { batch_size: spec.batch_size, flush_interval: spec.flush_interval };
    let before = parts.statuses.get(&spec.name).unwrap_or_default();
    let lanes = Lanes::new(Outbox::new(acknowledged, limits));
    let (tip, requeues) = (parts.journal.tip(), parts.journal.requeues());
    let look_at = Some(Duration::ZERO);
    let (damaged, prepared) = (Vec::new(), None);
    Delivery { spec, parts, output, limits, lanes, tip, requeues, look_at, damaged, prepared, before }.run().await;
}

/// The output, as soon as it can be made: a bad token file may be put right by the next reload, missing certificates by hand.
async fn connected(spec: &OutputSpec, parts: &WriterParts) -> Box<dyn Output> {
    let mut backoff = Backoff::default();
    let mut said = None;
    loop {
        let why = match spec.destination.connect(&parts.clock) {
            Ok(output) => return output,
            Err(why) => why,
        };
        not_started(spec, parts, &mut said, why);
        tokio::time::sleep(backoff.fail((parts.random)())).await;
    }
}

/// What the output has acknowledged, as soon as the journal can be read.
async fn acknowledged(spec: &OutputSpec, parts: &WriterParts) -> Acknowledged {
    let mut backoff = Backoff::default();
    let mut said = None;
    loop {
        let why = match parts.journal.output(&spec.name, spec.replay).await {
            Ok(acknowledged) => return acknowledged,
            Err(error) => error.to_string(),
        };
        not_started(spec, parts, &mut said, why);
        tokio::time::sleep(backoff.fail((parts.random)())).await;
    }
}

/// Says why an output does not start: once a reason in the log, always in the status.
fn not_started(spec: &OutputSpec, parts: &WriterParts, said: &mut Option<String>, why: String) {
    if said.as_ref() != Some(&why) {
        warn!(output = spec.name, reason = why, "output cannot start");
        *said = Some(why.clone());
    }
    let before = parts.statuses.get(&spec.name).unwrap_or_default();
    let since = before.since.or_else(|| Some(parts.clock.now().unix));
    parts.statuses.put(OutputStatus { name: spec.name.clone(), last_error: Some(why), since, ..before });
}

struct Delivery {
    spec: Rc<OutputSpec>,
    parts: WriterParts,
    output: Box<dyn Output>,
    limits: Limits,
    lanes: Lanes,
    tip: watch::Receiver<Position>,
    requeues: watch::Receiver<u64>,
    /// When to look for letters that were requeued; none = when there are new ones.
    look_at: Option<Duration>,
    /// Letters of the round that were altered in the file.
    damaged: Vec<DeadLetter>,
    /// The next batch of the backlog, if it is known. Not kept over a failure: an outage may be long.
    prepared: Option<Prepared>,
    /// What was counted before this delivery began.
    before: OutputStatus,
}

/// What was read and encoded.
struct Prepared {
    reading: Reading,
    positions: Vec<Position>,
    body: Option<Bytes>,
}

impl Delivery {
    async fn run(mut self) {
        loop {
            let tip = *self.tip.borrow_and_update();
            let now = self.parts.clock.now().mono;
            if self.look_at.is_some_and(|at| at <= now) {
                self.look(now).await;
            }
            let (lane, step) = self.lanes.next(now, tip);
            // Before the step, so that the status is right while it waits.
            self.publish();
            match step {
                Step::Read(reading) => self.read(lane, reading).await,
                Step::Post { body, .. } => self.post(lane, body).await,
                Step::Wait(until) => self.wait(until).await,
                Step::Idle => self.wait(Duration::MAX).await,
            }
            self.keep(lane);
            self.tell();
            self.make_room().await;
        }
    }

    /// Ends the round that is over, and begins the next if there is one.
    async fn look(&mut self, now: Duration) {
        self.look_at = None;
        if self.lanes.round().is_some() && !self.lanes.is_over() {
            return;
        }
        match self.next_round().await {
            Ok(()) => {}
            Err(error) => {
                // The journal tells of its own troubles.
                debug!(output = self.spec.name, %error, "cannot look for requeued dead letters");
                self.look_at = Some(now.saturating_add(LOOK_AGAIN));
            }
        }
    }

    async fn next_round(&mut self) -> Result<(), JournalError> {
        // What became of a round is durable before it is forgotten here.
        let next = self.parts.journal.round(&self.spec.name).await?;
        self.lanes.end();
        if let Some(round) = next {
            info!(output = self.spec.name, round = round.number, "output is sent dead letters again");
            self.lanes.begin(round, self.limits);
        }
        Ok(())
    }

    /// Sends a batch, and prepares the next one meanwhile.
    async fn post(&mut self, lane: Lane, body: Bytes) {
        let ahead = if lane == Lane::Rows { self.lanes.rows().ahead() } else { None };
        drop(self.prepared.take_if(|prepared| lane == Lane::Rows && Some(&prepared.reading) != ahead.as_ref()));
        let missing = ahead.filter(|_| self.prepared.is_none());
        // The request goes first: what is polled first has it on its way before anything is encoded.
        let (verdict, prepared) = join(self.output.send(body), self.prepare(missing)).await;
        self.prepared = prepared.or(self.prepared.take()).filter(|_| verdict == Verdict::Accepted);
        self.lanes.outbox(lane).answered(self.parts.clock.now().mono, (self.parts.random)(), verdict);
    }

    /// Reads and encodes a batch of rows. One that cannot be read now is read when it is asked for.
    async fn prepare(&self, reading: Option<Reading>) -> Option<Prepared> {
        let reading = reading?;
        let rows = self.parts.journal.read(reading.after, reading.upto, reading.limit).await.ok()?;
        Some(self.encoded(reading, rows).await)
    }

    async fn encoded(&self, reading: Reading, rows: Vec<Stored>) -> Prepared {
        let (positions, rows) = reading.part.of(rows);
        let body = match rows {
            Some(rows) => self.output.encode_in_turns(&rows).await,
            None => None,
        };
        Prepared { reading, positions, body }
    }

    async fn read(&mut self, lane: Lane, reading: Reading) {
        let prepared = self.prepared.take_if(|prepared| lane == Lane::Rows && prepared.reading == reading);
        let found = match prepared {
            Some(prepared) => Ok(prepared),
            None => match self.found(lane, &reading).await {
                Ok(rows) => Ok(self.encoded(reading, rows).await),
                Err(error) => Err(error),
            },
        };
        match found {
            Ok(Prepared { reading, positions, body }) => {
                self.lanes.outbox(lane).loaded(self.parts.clock.now().mono, reading, positions, body);
            }
            Err(error) => {
                // The journal tells of its own troubles.
                debug!(output = self.spec.name, %error, "cannot read the journal for an output");
                self.lanes.outbox(lane).unreadable(self.parts.clock.now().mono, (self.parts.random)());
            }
        }
    }

    async fn found(&mut self, lane: Lane, &Reading { after, upto, limit, .. }: &Reading) -> Result<Vec<Stored>, JournalError> {
        match (lane, self.lanes.round()) {
            (Lane::Letters, Some(round)) => {
                let found = self.parts.journal.read_round(&self.spec.name, round, (after, upto), limit).await?;
                let damaged = found.damaged.into_iter().map(|position| DeadLetter { position, reason: DAMAGED.to_owned() });
                self.damaged.extend(damaged);
                Ok(found.rows)
            }
            _ => self.parts.journal.read(after, upto, limit).await,
        }
    }

    /// Gives the journal what changed by this step.
    fn keep(&mut self, lane: Lane) {
        let (name, round) = (&self.spec.name, self.lanes.round());
        let outbox = self.lanes.outbox(lane);
        let mut letters = outbox.take_dead();
        let Some(acknowledged) = outbox.take_changed() else { return };
        match (lane, round) {
            (Lane::Letters, Some(round)) => {
                letters.append(&mut self.damaged);
                self.parts.journal.settle(name, round, acknowledged, letters);
            }
            _ => self.parts.journal.bury(name, acknowledged, letters),
        }
        if self.lanes.is_over() {
            self.look_at = Some(Duration::ZERO);
        }
    }

    /// Waits for the disk while too many dead letters wait for it: they have no other bound.
    async fn make_room(&self) {
        let journal: &Journal = &self.parts.journal;
        let mut backoff = Backoff::default();
        while journal.letters_waiting() > MOST_WAITING && journal.flush().await.is_err() {
            tokio::time::sleep(backoff.fail((self.parts.random)())).await;
        }
    }

    /// Waits until then, or until something changes.
    async fn wait(&mut self, until: Duration) {
        let until = self.look_at.map_or(until, |at| at.min(until));
        if until == Duration::MAX {
            return self.moved().await;
        }
        let until = self.parts.clock.instant(until);
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = self.moved() => {}
        }
    }

    /// Waits until the tip moves or letters are requeued; for ever once the journal is gone.
    async fn moved(&mut self) {
        let there = tokio::select! {
            moved = self.tip.changed() => moved.is_ok(),
            requeued = self.requeues.changed() => {
                self.look_at = Some(Duration::ZERO);
                requeued.is_ok()
            }
        };
        if !there {
            std::future::pending::<()>().await;
        }
    }

    fn tell(&mut self) {
        for event in self.lanes.take_events() {
            let output = self.spec.name.as_str();
            let pending = self.lanes.rows().pending_from(self.parts.journal.first());
            match event {
                Event::Failing { why } => warn!(output, reason = why, pending, "output is failing"),
                Event::Works { after } => info!(output, failed_ms = millis(after), pending, "output works again"),
                Event::Dead { rows, why } => warn!(output, rows, reason = why, "output refused rows, they are dead letters"),
                Event::FieldRefused { name: FieldName { measurement, field }, why } => {
                    warn!(output, measurement, field, reason = why, "output refuses a field, rows go without it");
                }
            }
        }
    }

    fn publish(&self) {
        let now = self.parts.clock.now();
        let Counters { delivered, retries, refused, refused_fields } = self.lanes.counters();
        let mut names = self.before.refused_field_names.clone();
        names.extend(self.lanes.all().flat_map(Outbox::refused_fields).map(ToString::to_string));
        let failing = self.lanes.all().find_map(Outbox::failing);
        let last_refusal = self.lanes.all().find_map(Outbox::last_refusal);
        self.parts.statuses.put(OutputStatus {
            name: self.spec.name.clone(),
            delivered: self.before.delivered + delivered,
            pending: self.lanes.rows().pending_from(self.parts.journal.first()),
            retries: self.before.retries + retries,
            refused: self.before.refused + refused,
            last_refusal: last_refusal.map(str::to_owned).or_else(|| self.before.last_refusal.clone()),
            refused_fields: self.before.refused_fields + refused_fields,
            refused_field_names: names,
            last_error: failing.map(|(_, why)| why.to_owned()),
            since: failing.map(|(since, _)| now.unix.minus(now.mono.saturating_sub(since))),
            backing_off_until: self.lanes.backing_off(now.mono).map(|until| wall(now, until)),
            // Filled in from what the journal counts.
            ..OutputStatus::default()
        });
    }
}

/// The wall-clock time of a time to come on the monotonic clock.
fn wall(now: Moment, mono: Duration) -> crate::clock::Timestamp {
    now.plus(mono.saturating_sub(now.mono)).unix
}
