//! Which rows have to go, and when. Pure; the store carries it out in small steps.
//!
//! Delivered rows go when they are too old. At the cap the oldest delivered rows go first, then the oldest undelivered.
//! Nothing is too old while the wall clock may be wrong: see [`Steady`].

use std::time::Duration;

use super::Position;
use super::acknowledged::Acknowledged;
use crate::clock::{Moment, Timestamp};

/// Rows deleted in one step, so that no commit waits long for it.
pub(super) const STEP: u64 = 2_000;

/// The most receipts of results of others.
const MOST_RECEIPTS: u64 = 1_000_000;
/// How long they are kept.
const KEEP_RECEIPTS: Duration = Duration::from_hours(7 * 24);
/// Those that are this much younger go with those that are too old.
const AT_ONCE: Duration = Duration::from_hours(1);
/// In a small journal they have this share of the cap at most: an eighth.
const SHARE_OF_RECEIPTS: u64 = 8;
/// What one takes of the file.
pub(super) const BYTES_OF_RECEIPT: u64 = 80;
/// How long the wall clock has to stand before anything goes because of its age.
const STANDING: Duration = Duration::from_hours(1);
/// A wall clock that goes away from the others by more than this between two looks was set.
const STEP_OF_CLOCK: Duration = Duration::from_secs(1);

/// Whether the wall clock is to be believed. One that jumps a year ahead, and back when somebody notices, must not cost the
/// history: it has to stand for an hour without having been set, also after a start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steady {
    seen: Moment,
    since: Duration,
}

impl Steady {
    /// Begins now.
    pub(crate) fn new(now: Moment) -> Self {
        Self { seen: now, since: now.boot }
    }

    /// The wall clock's time, once it is to be believed. To be asked every now and then.
    pub(crate) fn trusted(&mut self, now: Moment) -> Option<Timestamp> {
        let expected = self.seen.unix.plus(now.boot.saturating_sub(self.seen.boot));
        if expected.since(now.unix).max(now.unix.since(expected)) > STEP_OF_CLOCK {
            self.since = now.boot;
        }
        self.seen = now;
        (now.boot.saturating_sub(self.since) >= STANDING).then_some(now.unix)
    }
}

/// The most dead letters.
const MOST_LETTERS: u64 = 100_000;
/// In a small journal they have this share of the cap at most: an eighth.
const SHARE_OF_LETTERS: u64 = 8;
/// What one takes of the file: a row, a reason, and their places in two indexes.
const BYTES_OF_LETTER: u64 = 600;

/// What the decision rests on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Bytes of the file with its write-ahead file.
    pub(super) bytes: u64,
    /// Their cap.
    pub(super) max_size: u64,
    /// The wall clock, if it is to be believed.
    pub(super) now: Option<Timestamp>,
    /// How long delivered rows stay.
    pub(super) max_age: Duration,
    /// Time of the oldest delivered row.
    pub(super) oldest_delivered: Option<Timestamp>,
    /// Rows in the file.
    pub(super) rows: u64,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Everything may stay.
    Nothing,
    /// Delivered rows of before this time are too old.
    TooOld(Timestamp),
    /// The cap is reached: this many of the oldest delivered rows.
    Delivered(u64),
    /// The cap is reached and nothing is delivered: this many of the oldest rows are lost.
    Undelivered(u64),
}

/// Decides the next step. After it was taken, ask again.
pub(super) fn decide(facts: &Facts) -> Step {
    // A small journal loses a part of its rows at a time, never all at once.
    let count = (facts.rows / 16).clamp(1, STEP);
    let limit = facts.now.map(|now| now.minus(facts.max_age));
    match (facts.oldest_delivered, limit) {
        (Some(_), _) if facts.bytes > facts.max_size => Step::Delivered(count),
        (None, _) if facts.bytes > facts.max_size && facts.rows > 0 => Step::Undelivered(count),
        (Some(oldest), Some(limit)) if oldest < limit => Step::TooOld(limit),
        _ => Step::Nothing,
    }
}

/// Which receipts go: at most so many of the oldest, of those that came before this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forget {
    /// How many of the oldest are looked at.
    pub(super) count: u64,
    /// Those that came before this go.
    pub(super) before: Timestamp,
}

/// Decides the next step for receipts, of which there are `count`, the oldest from `oldest`; `now` only if it is to be
/// believed. After it was taken, ask again.
///
/// Each step takes many, so that not every commit has one behind it.
pub(super) fn forget(count: u64, oldest: Option<Timestamp>, max_size: u64, now: Option<Timestamp>) -> Option<Forget> {
    let most = MOST_RECEIPTS.min(max_size / SHARE_OF_RECEIPTS / BYTES_OF_RECEIPT);
    if count > most + STEP.min(most / 16) {
        return Some(Forget { count: (count - most).min(STEP), before: Timestamp::from_nanos(i64::MAX) });
    }
    let limit = now?.minus(KEEP_RECEIPTS);
    (oldest? < limit).then(|| Forget { count: STEP, before: limit.plus(AT_ONCE) })
}

/// How many of so many dead letters go at once.
pub(super) fn too_many_letters(count: u64, max_size: u64) -> u64 {
    count.saturating_sub(MOST_LETTERS.min(max_size / SHARE_OF_LETTERS / BYTES_OF_LETTER)).min(STEP)
}

/// The positions that every output has acknowledged, as ranges in order. Without outputs that is all of them.
pub(super) fn delivered<'a>(outputs: impl Iterator<Item = &'a Acknowledged>) -> Vec<(Position, Position)> {
    let all = vec![(Position(1), Position(i64::MAX as u64))];
    outputs.fold(all, |common, output| {
        let floor = (Position(1), output.floor());
        let ranges = std::iter::once(floor).filter(|(from, to)| from <= to).chain(output.ranges().iter().copied());
        intersection(&common, &ranges.collect::<Vec<_>>())
    })
}

fn intersection(left: &[(Position, Position)], right: &[(Position, Position)]) -> Vec<(Position, Position)> {
    let (mut l, mut r, mut both) = (0, 0, Vec::new());
    while let (Some(a), Some(b)) = (left.get(l), right.get(r)) {
        let overlap = (a.0.max(b.0), a.1.min(b.1));
        if overlap.0 <= overlap.1 {
            both.push(overlap);
        }
        if a.1 < b.1 { l += 1 } else { r += 1 }
    }
    both
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts() -> Facts {
        Facts {
            bytes: 10,
            max_size: 100,
            now: Some(Timestamp::from_nanos(1_000_000)),
            max_age: Duration::from_micros(1),
            oldest_delivered: Some(Timestamp::from_nanos(999_500)),
            rows: 1_000_000,
        }
    }

    #[test]
    fn every_case_of_the_decision() {
        let old = Some(Timestamp::from_nanos(998_999));
        let limit = Timestamp::from_nanos(999_000);
        for (case, expected) in [
            (facts(), Step::Nothing),
            (Facts { oldest_delivered: old, ..facts() }, Step::TooOld(limit)),
            (Facts { oldest_delivered: old, now: None, ..facts() }, Step::Nothing),
            (Facts { oldest_delivered: Some(limit), ..facts() }, Step::Nothing),
            (Facts { oldest_delivered: None, ..facts() }, Step::Nothing),
            (Facts { bytes: 100, ..facts() }, Step::Nothing),
            (Facts { bytes: 101, ..facts() }, Step::Delivered(2_000)),
            (Facts { bytes: 101, oldest_delivered: old, ..facts() }, Step::Delivered(2_000)),
            (Facts { bytes: 101, oldest_delivered: None, ..facts() }, Step::Undelivered(2_000)),
            (Facts { bytes: 101, oldest_delivered: None, rows: 160, ..facts() }, Step::Undelivered(10)),
            (Facts { bytes: 101, oldest_delivered: None, rows: 0, ..facts() }, Step::Nothing),
        ] {
            assert_eq!(decide(&case), expected, "{case:?}");
        }
    }

    #[test]
    fn receipts_go_by_number_by_age_and_by_the_size_of_the_journal() {
        let week = Duration::from_hours(7 * 24);
        let now = Timestamp::default().plus(week * 2);
        let young = Some(now.minus(week));
        let old = Some(now.minus(week).minus(Duration::from_nanos(1)));
        let any = Timestamp::from_nanos(i64::MAX);
        let aged = Forget { count: STEP, before: now.minus(week).plus(AT_ONCE) };
        for (count, oldest, max_size, expected) in [
            (0, None, 1 << 30, None),
            (5, young, 1 << 30, None),
            (5, old, 1 << 30, Some(aged)),
            (1_002_000, young, 1 << 30, None),
            (1_002_001, young, 1 << 30, Some(Forget { count: STEP, before: any })),
            (1_002_001, old, 1 << 30, Some(Forget { count: STEP, before: any })),
            (1_740, young, 1 << 20, None),
            (1_741, young, 1 << 20, Some(Forget { count: 103, before: any })),
        ] {
            assert_eq!(forget(count, oldest, max_size, Some(now)), expected, "{count} {oldest:?}");
        }
    }

    #[test]
    fn a_clock_is_believed_after_an_hour_in_which_nobody_set_it() {
        let minutes = |minutes: u64| Duration::from_mins(minutes);
        let start = Moment { unix: Timestamp::default().plus(minutes(1 << 20)), mono: minutes(3), boot: minutes(9) };
        let year = minutes(365 * 24 * 60);
        // When, how much the wall clock is ahead of what it was at the start, and whether it is believed.
        for told in [
            vec![(0, 0, false), (59, 0, false), (60, 0, true), (61, 0, true)],
            vec![(59, 0, false), (60, 1_100, false), (119, 1_100, false), (120, 1_100, true)],
            vec![(60, 900, true), (61, 1_800, true)],
            vec![(60, 0, true), (61, -1_100, false), (120, -1_100, false), (121, -1_100, true)],
        ] {
            let mut steady = Steady::new(start);
            for (at, ahead, expected) in told {
                let moved = start.plus(minutes(at));
                let ahead = Timestamp::from_nanos(moved.unix.nanos() + ahead * 1_000_000);
                assert_eq!(steady.trusted(Moment { unix: ahead, ..moved }), expected.then_some(ahead), "{at}");
            }
        }
        let mut steady = Steady::new(start);
        let ahead = Moment { unix: start.plus(year).unix, ..start.plus(minutes(70)) };
        assert_eq!(steady.trusted(ahead), None, "a year ahead");
        assert_eq!(steady.trusted(start.plus(minutes(80))), None, "and back");
        assert_eq!(steady.trusted(start.plus(minutes(140))), Some(start.plus(minutes(140)).unix));
        let asleep = Moment { mono: minutes(4), ..start.plus(minutes(600)) };
        assert!(steady.trusted(asleep).is_some(), "a host that slept did not set its clock");
    }

    #[test]
    fn dead_letters_go_by_number_and_by_the_size_of_the_journal() {
        for (count, max_size, expected) in [
            (0, 0, 0),
            (3, 0, 3),
            (100_000, 1 << 30, 0),
            (100_007, 1 << 30, 7),
            (200_000, 1 << 30, STEP),
            (218, 1 << 20, 0),
            (219, 1 << 20, 1),
        ] {
            assert_eq!(too_many_letters(count, max_size), expected, "{count} of {max_size}");
        }
    }

    fn acknowledged() -> impl Strategy<Value = Acknowledged> {
        (0..20u64, prop::collection::vec((1..60u64, 0..6u64), 0..8)).prop_map(|(floor, ranges)| {
            let mut acknowledged = Acknowledged::starting_at(Position(floor));
            for (from, more) in ranges {
                acknowledged.add(Position(from), Position(from + more));
            }
            acknowledged
        })
    }

    proptest! {
        #[test]
        fn a_row_is_delivered_when_every_output_has_it(outputs in prop::collection::vec(acknowledged(), 0..4)) {
            let ranges = delivered(outputs.iter());
            for position in (1..80).map(Position) {
                let expected = outputs.iter().all(|output| output.contains(position));
                prop_assert_eq!(ranges.iter().any(|&(from, to)| from <= position && position <= to), expected);
            }
        }
    }
}
