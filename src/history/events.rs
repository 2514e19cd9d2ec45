//! What happened to a series in a span, out of what was so from when until when. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::piece::{Piece, start_of};
use super::range::{Event, Span, What};
use super::track::Run;
use crate::clock::Timestamp;
use crate::probe::Outcome;

/// The most events of a range: the latest.
const MOST: usize = 50;

/// The events of a span. That a target was lost counts if it was longer than `step`: what is shorter, its column shows.
pub(super) fn events(span: Span, pieces: &BTreeMap<i64, Piece>, step: Duration) -> Vec<Event> {
    let mut story = Story { step, ..Story::default() };
    for (number, piece) in pieces {
        let start = start_of(*number);
        for run in piece.addresses.runs() {
            story.address(at(start, run.from), piece.word(run.value));
        }
        for run in piece.states.runs() {
            story.state(start, run, piece.word(run.value >> 8));
        }
        for (when, step) in &piece.steps {
            story.stepped(at(start, *when), *step);
        }
    }
    story.end();
    let mut events = story.events;
    // What happens in the same millisecond stays in the order in which it was found.
    events.retain(|event| span.from <= event.time && event.time < span.to);
    events.sort_by_key(|event| event.time);
    events.drain(..events.len().saturating_sub(MOST));
    events
}

#[derive(Default)]
struct Story<'a> {
    step: Duration,
    events: Vec<Event>,
    answering: Option<&'a str>,
    /// Since when, and why, no run succeeded, and when the last one did not.
    lost: Option<(Timestamp, Outcome, Timestamp)>,
    skipping: Option<&'a str>,
    clock_step: Option<(Timestamp, f32)>,
}

impl<'a> Story<'a> {
    fn address(&mut self, time: Timestamp, address: Option<&'a str>) {
        let Some(address) = address else { return };
        if let Some(before) = self.answering.replace(address).filter(|before| *before != address) {
            self.tell(time, What::AddressChanged { from: before.to_owned(), to: address.to_owned() });
        }
    }

    fn state(&mut self, start: Timestamp, run: &Run, reason: Option<&'a str>) {
        let (from, until) = (at(start, run.from), at(start, run.until));
        let Some(outcome) = Outcome::ALL.into_iter().find(|outcome| outcome.code() == i64::from(run.value & 0xff)) else { return };
        if outcome == Outcome::Skipped {
            let reason = reason.unwrap_or_default();
            if self.skipping.replace(reason) != Some(reason) {
                self.tell(from, What::Skipped(reason.to_owned()));
            }
            return;
        }
        self.skipping = None;
        if outcome == Outcome::Ok {
            self.found(from);
        } else {
            let lost = self.lost.get_or_insert((from, outcome, until));
            lost.2 = until;
        }
    }

    fn found(&mut self, time: Timestamp) {
        let Some((since, outcome, _)) = self.lost.take() else { return };
        if time.since(since) > self.step {
            self.tell(since, What::Lost(outcome));
            self.tell(time, What::Back);
        }
    }

    fn stepped(&mut self, time: Timestamp, step: f32) {
        // Rows tell it for an interval, which may reach into the next piece.
        let is_told = self.clock_step.is_some_and(|(told, known)| known.to_bits() == step.to_bits() && time.since(told) <= AGAIN);
        self.clock_step = Some((time, step));
        if !is_told {
            self.tell(time, What::ClockStep(f64::from(step)));
        }
    }

    fn end(&mut self) {
        if let Some((since, outcome, _)) = self.lost.filter(|(since, _, until)| until.since(*since) >= self.step) {
            self.tell(since, What::Lost(outcome));
        }
    }

    fn tell(&mut self, time: Timestamp, what: What) {
        self.events.push(Event { time, what });
    }
}

/// The same step within this time is the same.
const AGAIN: Duration = Duration::from_hours(2);

fn at(start: Timestamp, millis: u32) -> Timestamp {
    start.plus(Duration::from_millis(u64::from(millis)))
}

#[cfg(test)]
mod tests {
    use super::super::piece::{PIECE, piece_of};
    use super::super::sample::Sample;
    use super::*;

    const START: i64 = 1000 * PIECE / 1_000_000_000;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_nanos((START + seconds) * 1_000_000_000)
    }

    /// A row: when, how it ended, who answered.
    fn row(seconds: i64, outcome: Outcome, address: Option<&str>) -> Sample {
        let skipped = (outcome == Outcome::Skipped).then(|| "restart".to_owned());
        let address = address.map(str::to_owned);
        Sample { time: time(seconds), outcome, loaded: false, figures: Vec::new(), address, skipped, clock_step: None }
    }

    fn told(rows: &[Sample], step: u64) -> Vec<(i64, What)> {
        let mut pieces: BTreeMap<i64, Piece> = BTreeMap::new();
        for row in rows {
            pieces.entry(piece_of(row.time).unwrap()).or_default().add(std::slice::from_ref(row));
        }
        let span = Span { from: time(0), to: time(100_000) };
        let events = events(span, &pieces, Duration::from_secs(step));
        events.into_iter().map(|event| (event.time.nanos() / 1_000_000_000 - START, event.what)).collect()
    }

    #[test]
    fn what_was_lost_and_came_back_is_told_if_it_was_longer_than_a_column() {
        use Outcome::{Ok, Partial, Timeout, Unreachable};
        let rows: Vec<_> =
            [(0, Ok), (60, Timeout), (120, Ok), (180, Unreachable), (240, Timeout), (300, Partial), (7300, Timeout), (7360, Timeout)]
                .map(|(at, outcome)| row(at, outcome, None))
                .into();
        assert_eq!(told(&rows, 60), [(180, What::Lost(Unreachable)), (300, What::Back), (7300, What::Lost(Timeout))]);
        assert_eq!(told(&rows, 600), []);
    }

    #[test]
    fn skipped_slots_one_after_the_other_are_told_once_also_from_piece_to_piece() {
        use Outcome::{Ok, Skipped, Timeout};
        let rows: Vec<_> = [
            (0, Ok),
            (60, Skipped),
            (120, Skipped),
            (7300, Skipped),
            (7400, Ok),
            (7460, Skipped),
            (7500, Timeout),
            (7560, Skipped),
            (7620, Timeout),
        ]
        .map(|(at, outcome)| row(at, outcome, None))
        .into();
        let skipped = || What::Skipped("restart".into());
        assert_eq!(told(&rows, 60), [(60, skipped()), (7460, skipped()), (7500, What::Lost(Timeout)), (7560, skipped())]);
    }

    #[test]
    fn another_address_and_a_step_of_the_clock_are_told_once() {
        let mut rows: Vec<_> = [(0, Some("a")), (60, None), (120, Some("a")), (7300, Some("b")), (7360, Some("b")), (7420, Some("a"))]
            .map(|(at, address)| row(at, Outcome::Ok, address))
            .into();
        rows[2].clock_step = Some(-1500.0);
        rows[3].clock_step = Some(-1500.0);
        let changed = |from: &str, to: &str| What::AddressChanged { from: from.into(), to: to.into() };
        assert_eq!(told(&rows, 60), [(120, What::ClockStep(-1500.0)), (7300, changed("a", "b")), (7420, changed("b", "a"))]);
    }

    #[test]
    fn the_latest_fifty_are_kept() {
        let rows: Vec<_> = (0..60).map(|n| row(n * 60, Outcome::Ok, Some(if n % 2 == 0 { "a" } else { "b" }))).collect();
        let told = told(&rows, 60);
        assert_eq!((told.len(), told[0].0, told[49].0), (50, 10 * 60, 59 * 60));
    }
}
