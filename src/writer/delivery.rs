//! Carries out what one output's [outbox](super::outbox) decides: reads the journal, sends, acknowledges, tells.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::outbox::{Counters, Event, Limits, Outbox, Reading, Step};
use super::part::FieldName;
use super::status::OutputStatus;
use super::{Output, OutputSpec, WriterParts};
use crate::backoff::Backoff;
use crate::clock::{Moment, millis};
use crate::journal::Position;
use crate::journal::acknowledged::Acknowledged;

/// Delivers to one output for as long as it is polled. Dropping it is safe at any time: what was on its way is sent again.
pub(super) async fn deliver(spec: Rc<OutputSpec>, parts: WriterParts) {
    let output = connected(&spec, &parts).await;
    let acknowledged = acknowledged(&spec, &parts).await;
    let limits = Limits { batch_size: spec.batch_size, flush_interval: spec.flush_interval };
    let before = parts.statuses.get(&spec.name).unwrap_or_default();
    let outbox = Outbox::new(acknowledged, limits);
    let tip = parts.journal.tip();
    Delivery { spec, parts, output, outbox, tip, before }.run().await;
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
    outbox: Outbox,
    tip: watch::Receiver<Position>,
    /// What was counted before this delivery began.
    before: OutputStatus,
}

impl Delivery {
    async fn run(mut self) {
        loop {
            let tip = *self.tip.borrow_and_update();
            let step = self.outbox.next(self.parts.clock.now().mono, tip);
            // Before the step, so that the status is right while it waits.
            self.publish();
            match step {
                Step::Read(reading) => self.read(reading).await,
                Step::Post { body, .. } => {
                    let verdict = self.output.send(body).await;
                    self.outbox.answered(self.parts.clock.now().mono, (self.parts.random)(), verdict);
                }
                Step::Wait(until) => self.wait(until).await,
                Step::Idle => self.moved().await,
            }
            if let Some(acknowledged) = self.outbox.take_changed() {
                self.parts.journal.acknowledge(&self.spec.name, acknowledged);
            }
            self.tell();
        }
    }

    async fn read(&mut self, reading: Reading) {
        match self.parts.journal.read(reading.after, reading.upto, reading.limit).await {
            Ok(rows) => {
                let (positions, rows) = reading.part.of(rows);
                let body = rows.and_then(|rows| self.output.encode(&rows));
                self.outbox.loaded(self.parts.clock.now().mono, reading, positions, body);
            }
            Err(error) => {
                // The journal tells of its own troubles.
                debug!(output = self.spec.name, %error, "cannot read the journal for an output");
                self.outbox.unreadable(self.parts.clock.now().mono, (self.parts.random)());
            }
        }
    }

    async fn wait(&mut self, until: Duration) {
        let until = self.parts.clock.instant(until);
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = self.moved() => {}
        }
    }

    /// Waits until the tip moves; for ever once the journal is gone.
    async fn moved(&mut self) {
        if self.tip.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn tell(&mut self) {
        for event in self.outbox.take_events() {
            let output = self.spec.name.as_str();
            let pending = self.outbox.pending();
            match event {
                Event::Failing { why } => warn!(output, reason = why, pending, "output is failing"),
                Event::Works { after } => info!(output, failed_ms = millis(after), pending, "output works again"),
                Event::Held { position, why } => {
                    warn!(output, position = position.0, reason = why, "output refused a row, it is held");
                }
                Event::FieldRefused { name: FieldName { measurement, field }, why } => {
                    warn!(output, measurement, field, reason = why, "output refuses a field, rows go without it");
                }
                Event::Stopped => error!(output, held = self.outbox.held(), pending, "output refused too many rows, it is stopped"),
                Event::Resumed => info!(output, held = self.outbox.held(), pending, "output takes held rows again, it goes on"),
            }
        }
    }

    fn publish(&self) {
        let now = self.parts.clock.now();
        let Counters { delivered, retries, refused, refused_fields } = self.outbox.counters();
        let mut names = self.before.refused_field_names.clone();
        names.extend(self.outbox.refused_fields().map(ToString::to_string));
        let failing = self.outbox.failing();
        self.parts.statuses.put(OutputStatus {
            name: self.spec.name.clone(),
            delivered: self.before.delivered + delivered,
            pending: self.outbox.pending(),
            held: self.outbox.held() as u64,
            retries: self.before.retries + retries,
            refused: self.before.refused + refused,
            last_refusal: self.outbox.last_refusal().map(str::to_owned),
            refused_fields: self.before.refused_fields + refused_fields,
            refused_field_names: names,
            last_error: failing.map(|(_, why)| why.to_owned()),
            since: failing.map(|(since, _)| now.unix.minus(now.mono.saturating_sub(since))),
            backing_off_until: self.outbox.backing_off(now.mono).map(|until| wall(now, until)),
            stopped: self.outbox.is_stopped(),
        });
    }
}

/// The wall-clock time of a time to come on the monotonic clock.
fn wall(now: Moment, mono: Duration) -> crate::clock::Timestamp {
    now.plus(mono.saturating_sub(now.mono)).unix
}
