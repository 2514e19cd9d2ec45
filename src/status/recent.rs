//! The last rows of a series, for a line a finger long: one value and one share of losses each. Pure, and small: there may be
//! very many series.

use std::collections::VecDeque;

use crate::measurement::{Fields, Value};
use crate::probe::{Outcome, Says};

/// How many rows are remembered.
pub const KEPT: usize = 60;

/// The value of each kind that says the most, the better before the worse.
const MAIN: [&str; 5] = ["ping_avg_ms", "http_ping_ms", "iperf_bandwidth_mbps", "iperf_udp_mbps", "iperf_download_mbps"];
/// Loss as the rows of ping have it.
const LOSS: &str = "ping_packet_loss_pct";
/// What a share is counted in: 10 000 of it are all.
const SHARES: f64 = 10_000.0;
/// No share is known.
const NO_SHARE: u16 = u16::MAX;

/// What is remembered of a row. Six bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point([u16; 3]);

impl Point {
    fn new(value: Option<f64>, share: Option<f64>) -> Self {
        let bits = value.map_or(f32::NAN, |value| value as f32).to_bits();
        // What was lost is never rounded to nothing.
        let least = share.map_or(0, |share| u16::from(share > 0.0));
        let share = share.map_or(NO_SHARE, |share| ((share.clamp(0.0, 1.0) * SHARES).round() as u16).max(least));
        Self([(bits >> 16) as u16, bits as u16, share])
    }

    fn value(self) -> Option<f32> {
        Some(f32::from_bits(u32::from(self.0[0]) << 16 | u32::from(self.0[1]))).filter(|value| value.is_finite())
    }

    fn share(self) -> Option<f64> {
        (self.0[2] != NO_SHARE).then(|| f64::from(self.0[2]) / SHARES)
    }
}

/// What a row is in a line of the last ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slot {
    /// It has the value.
    Value(f32),
    /// It has none, as something was lost.
    Lost,
    /// It has none, and that says nothing about the target.
    Nothing,
}

/// The last rows of a series.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    points: VecDeque<Point>,
    /// Which value it is; none until a row has one.
    main: Option<&'static str>,
}

impl Recent {
    /// A row was made.
    pub(super) fn push(&mut self, outcome: Option<Outcome>, fields: &Fields) {
        if let Some(main) = main(fields).filter(|main| self.main.is_none_or(|now| rank(main) < rank(now))) {
            self.measure(main);
        }
        let value = self.main.and_then(|main| float(fields, main));
        if self.points.len() == KEPT {
            self.points.pop_front();
        } else if self.points.len() == self.points.capacity() {
            // Not twice as many as before: that would be more than are ever kept.
            self.points.reserve_exact((KEPT / 4).min(KEPT - self.points.len()));
        }
        self.points.push_back(Point::new(value, share(outcome, fields)));
    }

    /// Puts what was before in front of it.
    pub(super) fn precede(&mut self, mut older: Self) {
        if let Some(main) = older.main.filter(|main| self.main.is_none_or(|now| rank(main) < rank(now))) {
            self.measure(main);
        } else if let Some(main) = self.main.filter(|_| older.main != self.main) {
            older.measure(main);
        }
        let room = KEPT - self.points.len();
        let surplus = older.points.len().saturating_sub(room);
        self.points.reserve_exact(older.points.len() - surplus);
        for point in older.points.into_iter().skip(surplus).rev() {
            self.points.push_front(point);
        }
    }

    /// From now on it is about another value: two are not drawn as one line.
    fn measure(&mut self, main: &'static str) {
        if self.main.is_some_and(|before| before != main) {
            self.points.iter_mut().for_each(|point| *point = Point::new(None, point.share()));
        }
        self.main = Some(main);
    }

    /// Which field the values are of; none as long as there was none.
    pub fn main(&self) -> Option<&'static str> {
        self.main
    }

    /// The values, oldest first; none = the row has none.
    pub fn values(&self) -> Vec<Option<f32>> {
        self.points.iter().map(|point| point.value()).collect()
    }

    /// What each row is, oldest first.
    pub fn slots(&self) -> Vec<Slot> {
        let slot = |point: &Point| match (point.value(), point.share()) {
            (Some(value), _) => Slot::Value(value),
            (None, Some(share)) if share > 0.0 => Slot::Lost,
            (None, _) => Slot::Nothing,
        };
        self.points.iter().map(slot).collect()
    }

    /// Which share of packets was lost, or of runs failed: 0 to 1, of the rows that tell it; none if no row does.
    pub fn loss(&self) -> Option<f64> {
        let shares: Vec<f64> = self.points.iter().filter_map(|point| point.share()).collect();
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    }

    /// Whether as many rows are known as are kept.
    pub(super) fn is_full(&self) -> bool {
        self.points.len() >= KEPT
    }
}

fn float(fields: &Fields, name: &str) -> Option<f64> {
    match fields.get(name)? {
        Value::Float(value) => Some(*value),
        Value::Integer(_) | Value::Text(_) => None,
    }
}

/// The field that says the most of a row: of a kind that is not known here, its first figure.
fn main(fields: &Fields) -> Option<&'static str> {
    let known = MAIN.into_iter().find(|name| float(fields, name).is_some());
    let first = || fields.iter().find(|(name, value)| matches!(value, Value::Float(_)) && is_measured(name)).map(|(name, _)| name);
    known.or_else(first)
}

/// Whether a field is a value of the target: a step of the clock is not, and loss is told beside the value.
fn is_measured(name: &str) -> bool {
    name != crate::probe::CLOCK_STEP.info().name && name != LOSS
}

fn rank(name: &str) -> usize {
    MAIN.iter().position(|main| *main == name).unwrap_or(MAIN.len())
}

/// The loss of a row if it has one; else whether its run failed. One that says nothing about the target has none.
fn share(outcome: Option<Outcome>, fields: &Fields) -> Option<f64> {
    if let Some(loss) = float(fields, LOSS) {
        return Some(loss / 100.0);
    }
    match outcome?.says() {
        Says::Answered => Some(0.0),
        Says::Failed => Some(1.0),
        Says::Nothing => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::field_name;

    fn fields(figures: &[(&str, f64)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in figures {
            fields.put(field_name(name), Value::Float(*value));
        }
        fields
    }

    fn of(rows: &[(Outcome, &[(&str, f64)])]) -> Recent {
        let mut recent = Recent::default();
        for (outcome, figures) in rows {
            recent.push(Some(*outcome), &fields(figures));
        }
        recent
    }

    #[test]
    fn a_row_without_a_value_is_a_gap_and_no_zero() {
        let recent = of(&[
            (Outcome::Ok, &[("ping_avg_ms", 1.5), ("ping_packet_loss_pct", 0.0)]),
            (Outcome::Timeout, &[("ping_packet_loss_pct", 100.0)]),
            (Outcome::Skipped, &[]),
        ]);
        assert_eq!(recent.values(), [Some(1.5), None, None]);
        assert_eq!(recent.slots(), [Slot::Value(1.5), Slot::Lost, Slot::Nothing], "only what was lost is told as lost");
        assert_eq!((recent.main(), recent.loss()), (Some("ping_avg_ms"), Some(0.5)));
        assert_eq!(of(&[(Outcome::Skipped, &[])]).loss(), None);
        assert_eq!(of(&[(Outcome::Timeout, &[("ping_packet_loss_pct", 100.0)])]).slots(), [Slot::Lost], "loss is no time");
    }

    #[test]
    fn a_loss_that_is_tiny_is_not_rounded_to_none() {
        let recent = of(&[(Outcome::Partial, &[("ping_avg_ms", 1.0), ("ping_packet_loss_pct", 0.000_1)])]);
        assert!(recent.loss().unwrap() > 0.0);
    }

    #[test]
    fn of_a_kind_without_loss_the_runs_that_failed_count_but_not_those_that_this_host_could_not_do() {
        let recent = of(&[
            (Outcome::Ok, &[("http_ping_ms", 7.0)]),
            (Outcome::BadStatus, &[]),
            (Outcome::LocalError, &[]),
            (Outcome::ToolMissing, &[]),
            (Outcome::ToolError, &[]),
            (Outcome::Busy, &[]),
        ]);
        assert_eq!(recent.loss(), Some(0.5));
    }

    #[test]
    fn a_run_that_got_through_in_part_is_not_lost_where_no_packets_are_counted() {
        assert_eq!(of(&[(Outcome::Partial, &[("http_ping_ms", 7.0)])]).loss(), Some(0.0));
    }

    #[test]
    fn two_quantities_are_never_one_line() {
        let mut recent = of(&[(Outcome::Partial, &[("iperf_udp_mbps", 9.0)]), (Outcome::Ok, &[("iperf_bandwidth_mbps", 90.0)])]);
        recent.push(Some(Outcome::Partial), &fields(&[("iperf_udp_mbps", 9.0)]));
        assert_eq!((recent.main(), recent.values()), (Some("iperf_bandwidth_mbps"), vec![None, Some(90.0), None]));
        let older = of(&[(Outcome::Partial, &[("iperf_udp_mbps", 8.0)])]);
        recent.precede(older);
        assert_eq!(recent.values(), [None, None, Some(90.0), None]);
    }

    #[test]
    fn only_the_last_are_kept_and_what_was_before_fills_up_in_front() {
        let row = |n: usize| (Outcome::Ok, [("ping_avg_ms", n as f64)]);
        let mut recent = Recent::default();
        for n in 0..KEPT + 5 {
            let (outcome, figures) = row(n);
            recent.push(Some(outcome), &fields(&figures));
        }
        assert_eq!((recent.values().len(), recent.values()[0]), (KEPT, Some(5.0)));
        assert!(recent.points.capacity() < KEPT + 5, "{}", recent.points.capacity());

        let mut few = of(&[(Outcome::Ok, &[("ping_avg_ms", 100.0)])]);
        few.precede(recent);
        assert_eq!((few.values().len(), few.values()[0], few.values()[KEPT - 1]), (KEPT, Some(6.0), Some(100.0)));
        assert!(few.is_full());
    }

    #[test]
    fn a_kind_that_is_not_known_here_has_its_first_figure() {
        let recent = of(&[(Outcome::Ok, &[("clock_step_ms", 5000.0), ("toy_ms", 2.0)])]);
        assert_eq!((recent.main(), recent.values()), (Some("toy_ms"), vec![Some(2.0)]));
    }
}
