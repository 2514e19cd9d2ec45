//! What an output is sent in turn over one connection: rows as they become durable, and dead letters that were requeued. Pure.
//!
//! A round of letters has an outbox of its own, as their positions were acknowledged long ago. While one of the two backs off,
//! so does the other: they have the same server.

use std::time::Duration;

use super::outbox::{Counters, Event, Limits, Outbox, Step};
use crate::journal::acknowledged::Acknowledged;
use crate::journal::{Position, Round};

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Rows, from the journal's tip.
    Rows,
    /// Letters of a round.
    Letters,
}

/// The outboxes of one output.
pub(super) struct Lanes {
    rows: Outbox,
    letters: Option<(Round, Outbox)>,
    turn: Lane,
    /// What rounds that are over have counted.
    over: Counters,
}

impl Lanes {
    /// With no letters on their way.
    pub(super) fn new(rows: Outbox) -> Self {
        Self { rows, letters: None, turn: Lane::Rows, over: Counters::default() }
    }

    /// What to do now, and for which outbox. Who has posted lets the other one go first.
    pub(super) fn next(&mut self, now: Duration, tip: Position) -> (Lane, Step) {
        let rows = (Lane::Rows, self.rows.next(now, tip));
        // Letters that fail again and again do not hold up the rows, but who is asked for quiet is quiet.
        let quiet = self.letters.as_ref().and_then(|(_, outbox)| outbox.quiet(now));
        if let Some(until) = self.rows.backing_off(now).max(quiet) {
            return (Lane::Rows, Step::Wait(until));
        }
        let letters = self.letters.as_mut().map_or(Step::Idle, |(round, outbox)| outbox.next(now, round.last));
        let letters = (Lane::Letters, letters);
        let (first, second) = if self.turn == Lane::Rows { (rows, letters) } else { (letters, rows) };
        match (first, second) {
            ((lane, step @ (Step::Read(_) | Step::Post { .. })), _) | (_, (lane, step @ (Step::Read(_) | Step::Post { .. }))) => {
                self.turn = if matches!(step, Step::Post { .. }) { lane.other() } else { lane };
                (lane, step)
            }
            ((_, Step::Wait(one)), (_, Step::Wait(other))) => (Lane::Rows, Step::Wait(one.min(other))),
            ((_, wait @ Step::Wait(_)), _) | (_, (_, wait)) => (Lane::Rows, wait),
        }
    }

    /// The outbox of the rows, or of the letters, if there are any.
    pub(super) fn outbox(&mut self, lane: Lane) -> &mut Outbox {
        match (lane, &mut self.letters) {
            (Lane::Letters, Some((_, outbox))) => outbox,
            _ => &mut self.rows,
        }
    }

    /// The outbox of the rows.
    pub(super) fn rows(&self) -> &Outbox {
        &self.rows
    }

    /// The round that is on its way.
    pub(super) fn round(&self) -> Option<Round> {
        self.letters.as_ref().map(|(round, _)| *round)
    }

    /// Begins a round.
    pub(super) fn begin(&mut self, round: Round, limits: Limits) {
        let limits = Limits { flush_interval: Duration::ZERO, ..limits };
        self.letters = Some((round, Outbox::new(Acknowledged::default(), limits)));
    }

    /// Whether every letter of the round is dealt with.
    pub(super) fn is_over(&self) -> bool {
        self.letters.as_ref().is_some_and(|(round, outbox)| outbox.is_done_up_to(round.last))
    }

    /// Ends the round.
    pub(super) fn end(&mut self) {
        if let Some((_, outbox)) = self.letters.take() {
            self.over = sum(self.over, outbox.counters());
        }
    }

    /// Both, the rows first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Outbox> {
        std::iter::once(&self.rows).chain(self.letters.as_ref().map(|(_, outbox)| outbox))
    }

    /// What was done so far.
    pub(super) fn counters(&self) -> Counters {
        self.all().map(Outbox::counters).fold(self.over, sum)
    }

    /// What people are to be told, once.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        let mut events = self.rows.take_events();
        events.extend(self.letters.iter_mut().flat_map(|(_, outbox)| outbox.take_events()));
        events
    }

    /// Until when nothing is sent after a failure.
    pub(super) fn backing_off(&self, now: Duration) -> Option<Duration> {
        self.all().filter_map(|outbox| outbox.backing_off(now)).max()
    }
}

impl Lane {
    fn other(self) -> Self {
        match self {
            Self::Rows => Self::Letters,
            Self::Letters => Self::Rows,
        }
    }
}

fn sum(left: Counters, right: Counters) -> Counters {
    Counters {
        delivered: left.delivered + right.delivered,
        retries: left.retries + right.retries,
        refused: left.refused + right.refused,
        refused_fields: left.refused_fields + right.refused_fields,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::writer::Verdict;

    const LIMITS: Limits = Limits { batch_size: 1, flush_interval: Duration::from_secs(1) };

    fn lanes(letters: u64) -> Lanes {
        let mut lanes = Lanes::new(Outbox::new(Acknowledged::starting_at(Position(100)), LIMITS));
        lanes.begin(Round { number: 1, last: Position(letters) }, LIMITS);
        lanes
    }

    /// Goes on until there is something to post, or to wait for.
    fn posted(lanes: &mut Lanes, now: Duration, tip: u64) -> Option<Lane> {
        loop {
            let (lane, step) = lanes.next(now, Position(tip));
            match step {
                Step::Read(reading) => {
                    let position = Position(reading.after.0 + 1);
                    lanes.outbox(lane).loaded(now, reading, vec![position], Some(Bytes::from_static(b"row")));
                }
                Step::Post { .. } => return Some(lane),
                Step::Wait(_) | Step::Idle => return None,
            }
        }
    }

    #[test]
    fn rows_and_letters_take_turns_and_whoever_is_left_goes_on() {
        let (mut lanes, now) = (lanes(3), Duration::from_secs(1));
        let mut order = Vec::new();
        while let Some(lane) = posted(&mut lanes, now, 105) {
            order.push(lane);
            lanes.outbox(lane).answered(now, 0.5, Verdict::Accepted);
        }
        let (r, l) = (Lane::Rows, Lane::Letters);
        assert_eq!(order, [r, l, r, l, r, l, r, r]);
        assert!(lanes.is_over() && lanes.rows().pending() == 0);
        lanes.end();
        assert_eq!((lanes.counters().delivered, lanes.round(), lanes.is_over()), (8, None, false));
    }

    #[test]
    fn letters_that_fail_hold_up_nobody_else() {
        let (mut lanes, now) = (lanes(1), Duration::from_secs(1));
        let lane = posted(&mut lanes, now, 100).unwrap();
        assert_eq!(lane, Lane::Letters);
        lanes.outbox(lane).answered(now, 1.0, Verdict::Unknown { why: "reset".to_owned() });
        assert_eq!(posted(&mut lanes, now, 101), Some(Lane::Rows));
        lanes.outbox(Lane::Rows).answered(now, 1.0, Verdict::Unknown { why: "away".to_owned() });
        let until = now + Duration::from_millis(500);
        assert_eq!(lanes.next(now, Position(101)), (Lane::Rows, Step::Wait(until)), "but rows that fail hold up the letters");
    }

    #[test]
    fn a_server_that_asks_for_quiet_has_it_from_both() {
        let (mut lanes, now) = (lanes(1), Duration::from_secs(1));
        let lane = posted(&mut lanes, now, 100).unwrap();
        let wait = Duration::from_secs(7);
        lanes.outbox(lane).answered(now, 1.0, Verdict::After { wait, why: "429".to_owned() });
        assert_eq!(lanes.next(now, Position(101)), (Lane::Rows, Step::Wait(now + wait)));
        assert_eq!(lanes.rows().pending(), 1, "what comes meanwhile is known");
        assert!(posted(&mut lanes, now + wait, 101).is_some());
    }

    #[test]
    fn a_round_that_was_refused_again_is_over() {
        let (mut lanes, now) = (lanes(1), Duration::from_secs(1));
        let lane = posted(&mut lanes, now, 100).unwrap();
        assert!(!lanes.is_over());
        lanes.outbox(lane).answered(now, 1.0, Verdict::Refused { why: "400".to_owned(), refused: None });
        assert!(lanes.is_over());
        assert_eq!(lanes.outbox(lane).take_dead().len(), 1);
    }
}
