//! Statistics over the round-trip times of a run. Pure.
//!
//! Times are in milliseconds. What a run has too few replies for is `None`, never 0.

use std::time::Duration;

use crate::clock::millis;

/// What the replies of a run say together. Sources: RFC 2681 (RTT), RFC 5481 (PDV), RFC 3550 section 6.4.1 (smoothed jitter).
#[derive(Clone, Debug, PartialEq)]
pub struct Rtts {
    /// The least.
    pub min_ms: f64,
    /// The arithmetic mean.
    pub avg_ms: f64,
    /// The greatest.
    pub max_ms: f64,
    /// Median, nearest rank.
    pub p50_ms: f64,
    /// 95th percentile, nearest rank.
    pub p95_ms: f64,
    /// 99th percentile, nearest rank.
    pub p99_ms: f64,
    /// Standard deviation of the population.
    pub stddev_ms: f64,
    /// Packet delay variation: p99 − min.
    pub pdv_p99_ms: f64,
    /// Mean of the absolute differences of consecutive replies in send order; from two replies on.
    pub jitter_ms: Option<f64>,
    /// The same differences smoothed, `J += (|D| − J) / 16` from J = 0; from two replies on.
    pub jitter_rfc3550_ms: Option<f64>,
}

impl Rtts {
    /// Over the round-trip times of the replies in send order; `None` without a reply.
    pub fn of(in_send_order: &[Duration]) -> Option<Self> {
        let rtts: Vec<f64> = in_send_order.iter().copied().map(millis).collect();
        let mut sorted = rtts.clone();
        sorted.sort_by(f64::total_cmp);
        let (min_ms, max_ms) = (*sorted.first()?, *sorted.last()?);
        let avg_ms = mean(&rtts).clamp(min_ms, max_ms);
        let squares: Vec<f64> = rtts.iter().map(|rtt| (rtt - avg_ms).powi(2)).collect();
        let differences: Vec<f64> = rtts.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
        let p99_ms = nearest_rank(&sorted, 99);
        Some(Self {
            min_ms,
            avg_ms,
            max_ms,
            p50_ms: nearest_rank(&sorted, 50),
            p95_ms: nearest_rank(&sorted, 95),
            p99_ms,
            stddev_ms: mean(&squares).sqrt(),
            pdv_p99_ms: p99_ms - min_ms,
            jitter_ms: (!differences.is_empty()).then(|| mean(&differences)),
            jitter_rfc3550_ms: (!differences.is_empty()).then(|| differences.iter().fold(0.0, |j, d| j + (d - j) / 16.0)),
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The smallest value with at least `percent` of all values at or below it.
fn nearest_rank(sorted: &[f64], percent: usize) -> f64 {
    let rank = (percent * sorted.len()).div_ceil(100).max(1);
    sorted[rank - 1]
}

/// Loss in percent, RFC 7680 with the exclusions of RFC 6673: packets that this host did not send, or did not read, say
/// nothing about the network. `None` if nothing was sent.
pub fn loss_pct(sent: u64, received: u64, local: u64) -> Option<f64> {
    let counted = sent.checked_sub(local).filter(|counted| *counted > 0)?;
    Some(counted.saturating_sub(received) as f64 * 100.0 / counted as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rtts(ms: &[u64]) -> Option<Rtts> {
        Rtts::of(&ms.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>())
    }

    /// Worked by hand: 10, 20, 40, 20, 10.
    #[test]
    fn a_worked_vector() {
        let all = rtts(&[10, 20, 40, 20, 10]).unwrap();
        assert_eq!((all.min_ms, all.avg_ms, all.max_ms), (10.0, 20.0, 40.0));
        assert_eq!((all.p50_ms, all.p95_ms, all.p99_ms), (20.0, 40.0, 40.0));
        assert!((all.stddev_ms - 120.0_f64.sqrt()).abs() < 1e-9);
        assert!((all.pdv_p99_ms - 30.0).abs() < 1e-9);
        // Differences 10, 20, 20, 10.
        assert_eq!(all.jitter_ms, Some(15.0));
        let smoothed = [10.0, 20.0, 20.0, 10.0].iter().fold(0.0, |j: f64, d| j + (d - j) / 16.0);
        assert_eq!(all.jitter_rfc3550_ms, Some(smoothed));
    }

    #[test]
    fn one_reply_has_no_jitter() {
        let one = rtts(&[7]).unwrap();
        assert_eq!((one.jitter_ms, one.jitter_rfc3550_ms, one.stddev_ms, one.pdv_p99_ms), (None, None, 0.0, 0.0));
    }

    #[test]
    fn no_reply_has_no_figures() {
        assert_eq!(rtts(&[]), None);
    }

    #[test]
    fn quantiles_are_nearest_rank() {
        let hundred = rtts(&(1..=100).collect::<Vec<_>>()).unwrap();
        assert_eq!((hundred.p50_ms, hundred.p95_ms, hundred.p99_ms), (50.0, 95.0, 99.0));
    }

    #[test]
    fn loss_is_of_what_was_really_sent() {
        assert_eq!(loss_pct(100, 90, 0), Some(10.0));
        assert_eq!(loss_pct(5, 0, 0), Some(100.0));
        assert_eq!(loss_pct(5, 4, 1), Some(0.0));
        assert_eq!(loss_pct(5, 0, 5), None);
        assert_eq!(loss_pct(0, 0, 0), None);
    }

    proptest! {
        #[test]
        fn figures_are_in_order(ms in prop::collection::vec(0u64..100_000, 1..50)) {
            let all = rtts(&ms).unwrap();
            prop_assert!(all.min_ms <= all.p50_ms && all.p50_ms <= all.p95_ms && all.p95_ms <= all.p99_ms && all.p99_ms <= all.max_ms);
            prop_assert!(all.min_ms <= all.avg_ms && all.avg_ms <= all.max_ms);
            prop_assert!(all.stddev_ms >= 0.0 && all.jitter_ms.unwrap_or(0.0) <= all.max_ms - all.min_ms + 1e-9);
        }
    }
}
