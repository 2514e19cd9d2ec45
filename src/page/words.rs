//! Numbers, times and states, as people read them. Pure. What was not measured has no word: it is left to the page to say so.

use std::time::Duration;

use super::shown::{Shown, shown};
use crate::clock::Timestamp;
use crate::probe::Outcome;
use crate::status::age;
use crate::status::health::Health;
use crate::status::known::{Figure, Known, Last};

/// A number with its unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity {
    /// The number.
    pub number: String,
    /// Its unit; empty if it has none.
    pub unit: &'static str,
}

/// The value of a field.
pub fn quantity(field: &str, figure: Figure) -> Quantity {
    let number = match figure {
        Figure::Integer(-1) if field.contains("_status") => "no answer".to_owned(),
        Figure::Integer(value) => value.to_string(),
        Figure::Float(value) => number(value),
    };
    Quantity { number, unit: unit(field) }
}

/// The unit that stands last in a field's name.
pub fn unit(field: &str) -> &'static str {
    let units =
        [("_ms", "ms"), ("_pct", "%"), ("_mbps", "Mbit/s"), ("_bytes", "bytes"), ("_days_left", "days"), ("_s", "s"), ("_ttl", "hops")];
    units.into_iter().find(|(end, _)| field.ends_with(end)).map_or("", |(_, unit)| unit)
}

/// A number with about four digits that count.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.001 && value > 0.0 => "<0.001".to_owned(),
        size if size < 10.0 => format!("{value:.3}"),
        size if size < 100.0 => format!("{value:.2}"),
        size if size < 1000.0 => format!("{value:.1}"),
        size if size < 1e15 => format!("{value:.0}"),
        _ => format!("{value:e}"),
    }
}

/// A share in percent: 0 and 100 are exactly that.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0".to_owned(),
        some if some < 0.1 => "<0.1".to_owned(),
        some if some > 99.9 && some < 100.0 => ">99.9".to_owned(),
        some if some >= 100.0 => "100".to_owned(),
        some => format!("{some:.1}"),
    }
}

/// Bytes, as people say them.
pub fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// A number with a thin space after each thousand.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join("\u{202f}")
}

/// A moment in UTC, to the second: `2026-01-31T12:00:00Z`.
pub fn time(time: Timestamp) -> String {
    let whole = time.to_string();
    let to_the_second = whole.split('.').next().unwrap_or_default();
    format!("{to_the_second}Z")
}

/// How long ago something was.
pub fn ago(time: Timestamp, now: Timestamp) -> String {
    age(now.since(time))
}

/// How long something took or is old, from seconds of a report.
pub fn seconds(seconds: f64) -> String {
    age(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// What there is to be said of a state, in a few words: nothing of one that is well.
pub fn why(health: Health, known: &Known) -> Shown {
    let Some(last) = known.last() else { return Shown::default() };
    let skipped_after = known.ran().filter(|ran| ran.time != last.time);
    let silent = last.error.as_deref().is_none_or(str::is_empty);
    let text = match health {
        Health::Ok | Health::Never | Health::Disabled if silent => return Shown::default(),
        Health::Degraded if silent && last.is_dns_stale() => "the name does not resolve, its last address is used".to_owned(),
        Health::Stale => format!("no row since; the last was {}", ended(last)),
        _ => ended(last),
    };
    shown(&match skipped_after {
        Some(ran) => format!("{text}; the last run, of {}, was {}", time(ran.time), ended(ran)),
        None => text,
    })
}

/// How a row says that its run ended.
fn ended(last: &Last) -> String {
    let outcome = last.outcome.map(Outcome::name).unwrap_or_default();
    match last.error.as_deref().filter(|error| !error.is_empty()) {
        Some(error) => format!("{outcome}: {error}"),
        None => outcome.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Board;
    use crate::status::testing::{at, failed, ok, series};

    #[test]
    fn of_a_slot_that_was_not_run_the_run_before_it_is_told_as_well() {
        let said = |rows: &[crate::measurement::Row]| {
            let board = Board::default();
            board.schedule(&[series("a")]);
            for row in rows {
                board.observe(row);
            }
            let known = board.of(&series("a")).unwrap();
            let health = Health::of(&known, at(9));
            format!("{}: {}", health.name(), why(health, &known))
        };
        let skipped = |second| failed("a", second, Outcome::Skipped);
        let then = "the last run, of 1970-01-01T00:00:01Z, was";
        assert_eq!(said(&[ok("a", 1, 1.0)]), "ok: ");
        assert_eq!(said(&[ok("a", 1, 1.0), skipped(2)]), format!("skipped: skipped: no reply; {then} ok"));
        assert_eq!(
            said(&[failed("a", 1, Outcome::Timeout), skipped(2), skipped(3)]),
            format!("failing: skipped: no reply; {then} timeout: no reply")
        );
        assert_eq!(said(&[skipped(2)]), "skipped: skipped: no reply");
    }

    #[test]
    fn numbers_have_about_four_digits() {
        let table =
            [(0.0, "0"), (0.000_4, "<0.001"), (0.5, "0.500"), (12.345_6, "12.35"), (123.45, "123.5"), (9_876.5, "9876"), (-3.0, "-3.000")];
        for (value, expected) in table {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn a_share_that_is_not_nothing_or_all_is_not_shown_as_it() {
        let table = [(0.0, "0"), (0.000_01, "<0.1"), (0.2, "20.0"), (0.999_99, ">99.9"), (1.0, "100")];
        for (share, expected) in table {
            assert_eq!(percent(share), expected);
        }
    }

    #[test]
    fn units_stand_at_the_end_of_names() {
        let table = [
            ("ping_avg_ms", "ms"),
            ("ping_packet_loss_pct", "%"),
            ("iperf_udp_mbps", "Mbit/s"),
            ("http_download_bytes", "bytes"),
            ("ping_sent", ""),
        ];
        for (field, expected) in table {
            assert_eq!(unit(field), expected, "{field}");
        }
    }

    #[test]
    fn an_answer_that_did_not_come_has_no_number() {
        assert_eq!(quantity("http_status_code", Figure::Integer(-1)).number, "no answer");
        assert_eq!(quantity("http_status_code", Figure::Integer(204)).number, "204");
        assert_eq!(quantity("offset_ms", Figure::Float(-1.0)).number, "-1.000");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
    }

    #[test]
    fn times_are_in_utc_to_the_second() {
        assert_eq!(time(Timestamp::from_nanos(1_700_000_000_999_999_999)), "2023-11-14T22:13:20Z");
    }
}
