//! The axes: what is where, and at which places there is a mark. Pure, and safe for every number that there is.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::clock::Timestamp;
use crate::history::range::Span;

/// An axis that begins at 0. On that of time are seconds since the begin of the span.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// Where it ends.
    pub(super) end: f64,
    /// The marks, with their labels.
    pub(super) marks: Vec<(f64, String)>,
}

/// Beyond this nothing can be told from the axis any more, and sums would not be finite.
const LARGEST: f64 = 1e300;
const SMALLEST: f64 = 1e-9;

impl Axis {
    /// Of values up to `top`, with so many marks or a few less or more.
    pub(super) fn values(top: f64, marks: u32) -> Self {
        let top = if top > SMALLEST { top.min(LARGEST) } else { 1.0 };
        let rough = top / f64::from(marks.max(1));
        let power = rough.log10().floor();
        let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * 10f64.powf(power) >= rough * 0.999).unwrap_or(10.0);
        let step = factor * 10f64.powf(power);
        let count = (top / step * 0.999_999).ceil().clamp(1.0, 20.0) as u32;
        let decimals = (-power).max(0.0) as usize + usize::from(factor.to_bits() == 2.5f64.to_bits() && power <= 0.0);
        let label = |value: f64| if (1e-4..1e6).contains(&step) { format!("{value:.decimals$}") } else { format!("{value:.1e}") };
        let mark = |n: u32| (f64::from(n) * step, if n == 0 { "0".to_owned() } else { label(f64::from(n) * step) });
        Self { end: f64::from(count) * step, marks: (0..=count).map(mark).collect() }
    }

    /// Of time, with a mark about every so many pixels of a width.
    pub(super) fn time(span: Span, width: f64, every: f64) -> Self {
        let length = seconds(span.from, span.to).max(SMALLEST);
        let rough = length / (width / every).max(1.0);
        let days = [1.0, 2.0, 5.0, 10.0, 30.0, 90.0, 365.0, 1_825.0, 7_300.0].map(|days| days * DAY);
        let steps = STEPS.into_iter().chain(days);
        let step = nanos(steps.into_iter().find(|step| *step >= rough).unwrap_or(36_500.0 * DAY));
        let (from, to) = (i128::from(span.from.nanos()), i128::from(span.to.nanos()));
        let mut marks = Vec::new();
        let mut at = from.div_euclid(step) * step + if from.rem_euclid(step) == 0 { 0 } else { step };
        while at <= to && marks.len() < MOST {
            let time = Timestamp::from_nanos(at as i64);
            marks.push(((at - from) as f64 / 1e9, label(time, step, length)));
            at += step;
        }
        Self { end: length, marks }
    }
}

const DAY: f64 = 86_400.0;
/// The steps from mark to mark below a day, in seconds.
const STEPS: [f64; 22] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 10_800.0,
    21_600.0,
];
/// The most marks of an axis, whatever it spans.
const MOST: usize = 100;

fn nanos(seconds: f64) -> i128 {
    ((seconds * 1e9) as i128).max(1)
}

/// A time at a mark: as much of it as tells one from the next. Midnight is told by its date.
fn label(time: Timestamp, step: i128, length: f64) -> String {
    let text = time.to_string();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
    let midnight = text.get(11..23) == Some("00:00:00.000");
    match step {
        _ if length > 300.0 * DAY => part(0, 10),
        _ if midnight || step >= nanos(DAY) => part(5, 10),
        _ if step >= nanos(60.0) => part(11, 16),
        _ if step >= nanos(1.0) => part(11, 19),
        _ => part(14, 23),
    }
}

/// A time to the minute, and finer only if it has to be told from another.
pub(super) fn minute(time: Timestamp) -> String {
    time.to_string().get(..16).unwrap_or_default().replace('T', " ")
}

/// A span, with its zone.
pub(super) fn spell(span: Span) -> String {
    let (from, to) = (minute(span.from), minute(span.to));
    if from == to {
        return format!("{} – {} UTC", span.from, span.to).replace('T', " ").replace('Z', "");
    }
    let same_day = from.get(..10) == to.get(..10);
    format!("{from} – {} UTC", if same_day { to.get(11..).unwrap_or_default() } else { &to })
}

/// From one time to another, in seconds; before it, less than nothing.
pub(super) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    (i128::from(to.nanos()) - i128::from(from.nanos())) as f64 / 1e9
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value / self.end).clamp(0.0, 1.0);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.marks.iter().map(|(place, _)| *place).collect()
    }

    fn range(&self) -> Range<f64> {
        0.0..self.end
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let same = |(place, _): &&(f64, String)| place.to_bits() == value.to_bits();
        self.marks.iter().find(same).map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.marks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn an_axis_of_values_ends_at_a_round_one() {
        for (top, expected) in [
            (100.0, vec!["0", "25", "50", "75", "100"]),
            (0.83, vec!["0.0", "0.25", "0.50", "0.75", "1.00"]),
            (17.0, vec!["0", "5", "10", "15", "20"]),
            (1.0, vec!["0", "0.25", "0.50", "0.75", "1.00"]),
            (940.0, vec!["0", "250", "500", "750", "1000"]),
        ] {
            let mut expected = expected;
            expected[0] = "0";
            assert_eq!(labels(&Axis::values(top, 4)), expected, "{top}");
        }
    }

    #[test]
    fn no_number_is_too_strange_for_an_axis() {
        for top in [f64::NAN, f64::INFINITY, -1.0, 0.0, f64::MIN_POSITIVE, 1e-8, 1e308, f64::MAX] {
            let axis = Axis::values(top, 4);
            assert!(axis.end.is_finite() && axis.end > 0.0 && axis.marks.len() <= 21, "{top}: {axis:?}");
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -5.0, 1e308] {
                let place = axis.map(&value, (100, 900));
                assert!((100..=900).contains(&place));
            }
        }
    }

    fn time(text: &str) -> Timestamp {
        let since = humantime::parse_rfc3339(text).unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_nanos(since.as_nanos() as i64)
    }

    #[test]
    fn times_are_marked_at_round_ones_and_midnight_by_its_date() {
        for (from, to, expected) in [
            ("2026-01-31T12:07:00Z", "2026-01-31T13:07:00Z", vec!["12:10", "12:20", "12:30", "12:40", "12:50", "13:00"]),
            ("2026-01-30T18:00:00Z", "2026-01-31T06:00:00Z", vec!["18:00", "21:00", "01-31", "03:00", "06:00"]),
            ("2026-01-01T00:00:00Z", "2026-01-31T00:00:00Z", vec!["01-02", "01-07", "01-12", "01-17", "01-22", "01-27"]),
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:04Z", vec!["12:00:00", "12:00:01", "12:00:02", "12:00:03", "12:00:04"]),
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.004Z", vec!["00:00.000", "00:00.001", "00:00.002", "00:00.003", "00:00.004"]),
        ] {
            let axis = Axis::time(Span { from: time(from), to: time(to) }, 720.0, 100.0);
            assert_eq!(labels(&axis), expected);
        }
    }

    #[test]
    fn no_span_is_too_strange_for_an_axis() {
        for (from, to) in [(0, 1), (i64::MIN, i64::MAX), (-5, 5), (i64::MAX - 1, i64::MAX), (i64::MIN, i64::MIN + 1), (5, 5), (5, 4)] {
            let axis = Axis::time(Span { from: Timestamp::from_nanos(from), to: Timestamp::from_nanos(to) }, 720.0, 80.0);
            assert!(axis.end > 0.0 && axis.marks.len() <= MOST, "{from} {to}");
        }
    }
}
