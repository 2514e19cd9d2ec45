//! When the slots of a series are. Pure: the time is an argument.
//!
//! Slot k is at `phase + k·interval` since the Unix epoch, so slots are the same after a restart, and two series with the
//! same interval but other phases never meet.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Timestamp, nanos};
use crate::measurement::Series;

/// Where in the interval the slots of a series are, as a probe's table says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Anywhere, but always at the same place: by a hash of agent and series.
    Spread,
    /// At its start by the wall clock.
    Aligned,
}

impl Phase {
    /// The slots of a series.
    pub fn schedule(self, interval: Duration, series: &Series) -> Schedule {
        match self {
            Self::Aligned => Schedule::new(interval, Duration::ZERO),
            Self::Spread => Schedule::new(interval, spread(&series.key(), interval)),
        }
    }
}

/// A place in the interval that depends on the series (and so on the agent) alone.
fn spread(key: &str, interval: Duration) -> Duration {
    let share = u128::from(crc32c::crc32c(key.as_bytes()));
    Duration::from_nanos(((interval.as_nanos() * share) >> 32) as u64)
}

/// The slots of a series: an interval and a phase within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    interval: Duration,
    phase: Duration,
}

impl Schedule {
    /// Slots at `phase + k·interval`. An interval of nothing becomes a nanosecond; the phase is taken modulo the interval.
    pub fn new(interval: Duration, phase: Duration) -> Self {
        let interval = interval.max(Duration::from_nanos(1));
        let phase = Duration::from_nanos((phase.as_nanos() % interval.as_nanos()) as u64);
        Self { interval, phase }
    }

    /// From slot to slot.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// From the start of an interval to its slot.
    pub fn phase(&self) -> Duration {
        self.phase
    }

    /// The first slot at or after a time.
    pub fn at_or_after(&self, time: Timestamp) -> Timestamp {
        let interval = i128::from(nanos(self.interval));
        let behind = (i128::from(time.nanos()) - i128::from(nanos(self.phase))).rem_euclid(interval);
        let slot = i128::from(time.nanos()) + (interval - behind) % interval;
        Timestamp::from_nanos(i64::try_from(slot).unwrap_or(i64::MAX))
    }

    /// The first slot after a time.
    pub fn after(&self, time: Timestamp) -> Timestamp {
        self.at_or_after(time.plus(Duration::from_nanos(1)))
    }

    /// How many slots are in `[from, to)`.
    pub fn count(&self, from: Timestamp, to: Timestamp) -> u64 {
        let first = self.at_or_after(from);
        let span = i128::from(to.nanos()) - i128::from(first.nanos());
        if span <= 0 { 0 } else { ((span - 1) / i128::from(nanos(self.interval)) + 1) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * SECOND)
    }

    fn every(interval: u64, phase: u64) -> Schedule {
        Schedule::new(Duration::from_secs(interval), Duration::from_secs(phase))
    }

    #[test]
    fn slots_are_counted_from_the_epoch() {
        let schedule = every(60, 7);
        assert_eq!(schedule.at_or_after(at(0)), at(7));
        assert_eq!(schedule.at_or_after(at(7)), at(7));
        assert_eq!(schedule.after(at(7)), at(67));
        assert_eq!(schedule.at_or_after(at(8)), at(67));
        assert_eq!(schedule.at_or_after(at(-54)), at(-53));
    }

    #[test]
    fn slots_in_a_span_are_counted_with_its_start_and_without_its_end() {
        let schedule = every(10, 0);
        assert_eq!(schedule.count(at(0), at(0)), 0);
        assert_eq!(schedule.count(at(0), at(1)), 1);
        assert_eq!(schedule.count(at(0), at(10)), 1);
        assert_eq!(schedule.count(at(0), at(11)), 2);
        assert_eq!(schedule.count(at(1), at(10)), 0);
        assert_eq!(schedule.count(at(9), at(8)), 0);
    }

    #[test]
    fn absurd_times_do_not_panic() {
        let schedule = every(1, 0);
        schedule.after(Timestamp::from_nanos(i64::MAX));
        schedule.at_or_after(Timestamp::from_nanos(i64::MIN));
        Schedule::new(Duration::ZERO, Duration::MAX).after(at(1));
    }
}
