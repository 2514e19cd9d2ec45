//! How a series is, in a word: what an operator has to look at comes first. Pure.

use std::time::Duration;

use super::known::Known;
use super::pairs::Pair;
use crate::clock::Timestamp;
use crate::probe::Outcome;

/// How a series is. Ordered by how urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Health {
    /// The last run did not get through.
    Failing,
    /// No row came when one was due; of another host in a mesh, no result.
    Stale,
    /// The last run got through in part, or by an address that the name no longer has.
    Degraded,
    /// There is no row yet.
    Never,
    /// The last slot was not run, and the run before it did not fail.
    Skipped,
    /// The last run got through.
    Ok,
    /// It is not scheduled any more.
    Disabled,
}

impl Health {
    /// Those that a series can have that is scheduled, the most urgent first.
    pub const SCHEDULED: [Self; 6] = [Self::Failing, Self::Stale, Self::Degraded, Self::Never, Self::Skipped, Self::Ok];

    /// The word, in addresses and for style.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Stale => "stale",
            Self::Degraded => "degraded",
            Self::Never => "never",
            Self::Skipped => "skipped",
            Self::Ok => "ok",
            Self::Disabled => "disabled",
        }
    }

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Never => "never measured",
            Self::Disabled => "not scheduled",
            _ => self.name(),
        }
    }

    /// How a series is that another host measures, and that is known here as a pair of a mesh with rounds of that interval.
    pub fn of_pair(pair: &Pair, interval: Option<Duration>, now: Timestamp) -> Self {
        match pair.outcome {
            // Whoever measures is silent: of the target that says nothing.
            Outcome::PeerAbsent => Self::Stale,
            _ if pair.is_old(interval, now) => Self::Stale,
            Outcome::Ok => Self::Ok,
            Outcome::Partial => Self::Degraded,
            Outcome::Skipped => Self::Skipped,
            _ => Self::Failing,
        }
    }

    /// How a series is that is scheduled.
    pub fn of(known: &Known, now: Timestamp) -> Self {
        let Some(last) = known.last() else { return Self::Never };
        if known.pace().is_some_and(|pace| now.since(last.time) > patience(pace.interval, pace.longest)) {
            return Self::Stale;
        }
        match last.outcome {
            // Nothing says that it would get through now.
            None | Some(Outcome::Skipped) if known.failing_since().is_some() => Self::Failing,
            None | Some(Outcome::Skipped) => Self::Skipped,
            Some(Outcome::Ok) if has_loss(known) || last.is_dns_stale() => Self::Degraded,
            Some(Outcome::Ok) => Self::Ok,
            Some(Outcome::Partial) => Self::Degraded,
            Some(_) => Self::Failing,
        }
    }
}

/// How old a last row may be before one is missing: that of the next slot comes within an interval and the longest run, and
/// one slot may be taken late.
fn patience(interval: Duration, longest: Duration) -> Duration {
    interval.saturating_mul(2).saturating_add(longest)
}

fn has_loss(known: &Known) -> bool {
    known.last().and_then(|last| last.figure("ping_packet_loss_pct")).is_some_and(|loss| loss > 0.0)
}

#[cfg(test)]
mod tests {
    use super::super::known::{Layouts, Pace};
    use super::super::testing::{at, failed, ok};
    use super::*;
    use crate::measurement::{Row, Value};

    fn health(row: Option<&Row>, now: i64) -> Health {
        let mut known = Known::new(Some(Pace { interval: Duration::from_secs(10), longest: Duration::from_secs(3) }));
        if let Some(row) = row {
            known.observe(row, &mut Layouts::default());
        }
        Health::of(&known, at(now))
    }

    fn with(mut row: Row, name: &'static str, value: Value) -> Row {
        row.fields.put(name, value);
        row
    }

    #[test]
    fn each_last_row_means_one_state() {
        let table = [
            (ok("a", 100, 1.0), Health::Ok),
            (with(ok("a", 100, 1.0), "dns_stale", Value::Integer(1)), Health::Degraded),
            (with(ok("a", 100, 1.0), "ping_packet_loss_pct", Value::Float(20.0)), Health::Degraded),
            (with(ok("a", 100, 1.0), "ping_packet_loss_pct", Value::Float(0.0)), Health::Ok),
            (failed("a", 100, Outcome::Partial), Health::Degraded),
            (failed("a", 100, Outcome::Skipped), Health::Skipped),
            (failed("a", 100, Outcome::Timeout), Health::Failing),
            (failed("a", 100, Outcome::PeerAbsent), Health::Failing),
            (failed("a", 100, Outcome::LocalError), Health::Failing),
        ];
        for (row, expected) in table {
            assert_eq!(health(Some(&row), 101), expected, "{:?}", row.fields);
        }
        assert_eq!(health(None, 101), Health::Never);
    }

    #[test]
    fn a_series_is_stale_when_two_intervals_and_the_longest_run_have_passed() {
        let row = failed("a", 100, Outcome::Timeout);
        assert_eq!(health(Some(&row), 123), Health::Failing);
        assert_eq!(health(Some(&row), 124), Health::Stale);
        assert_eq!(health(Some(&row), 50), Health::Failing, "a clock that went back");
    }

    #[test]
    fn a_pair_is_as_its_last_result_until_three_rounds_have_passed_and_absence_is_no_loss() {
        let health = |outcome, now| {
            let pair = Pair { time: at(100), outcome, loss_pct: None, rtt_ms: None, heard: None };
            Health::of_pair(&pair, Some(Duration::from_secs(10)), at(now))
        };
        for (outcome, new) in [
            (Outcome::Ok, Health::Ok),
            (Outcome::Partial, Health::Degraded),
            (Outcome::Skipped, Health::Skipped),
            (Outcome::Timeout, Health::Failing),
            (Outcome::LocalError, Health::Failing),
            (Outcome::PeerAbsent, Health::Stale),
        ] {
            assert_eq!((health(outcome, 130), health(outcome, 131)), (new, Health::Stale), "{outcome:?}");
        }
        assert_eq!(health(Outcome::Ok, 80), Health::Stale, "a time that has not come yet");
    }

    #[test]
    fn without_a_pace_nothing_is_stale() {
        let mut known = Known::default();
        known.observe(&ok("a", 1, 1.0), &mut Layouts::default());
        assert_eq!(Health::of(&known, at(1_000_000)), Health::Ok);
    }

    #[test]
    fn the_order_of_urgency_is_the_order_of_the_list() {
        assert!(Health::SCHEDULED.is_sorted() && Health::SCHEDULED.iter().all(|health| *health < Health::Disabled));
    }
}
