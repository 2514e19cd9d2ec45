//! Statistics over the round-trip times of a run. Pure.
//!
//! Times are in milliseconds. What a run has too few replies for is `None`, never 0.

use std::time::Duration;

use crate::clock::millis;

/// What the replies of a run say together. Round-trip times are those of RFC 2681 section 2.4; what the RFCs below define for
/// one way is applied to both. The tests work every formula by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Rtts {
    /// The least.
    pub min_ms: f64,
    /// The arithmetic mean.
    pub avg_ms: f64,
    /// The greatest.
    pub max_ms: f64,
    /// 50th percentile (RFC 2330 section 11.3), nearest rank: with an even number of replies the lower of the two in the
    /// middle, as every quantile is a time that was measured.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Standard deviation of the population.
    pub stddev_ms: f64,
    /// Packet delay variation (RFC 5481 section 4.2), its 99th percentile: p99 − min.
    pub pdv_p99_ms: f64,
    /// Mean of the absolute differences (IPDV, RFC 5481 section 4.1; RFC 3393 section 4.5) of consecutive replies in send
    /// order; from two replies on. Packets without a reply are passed over.
    pub jitter_ms: Option<f64>,
    /// The same differences smoothed, `J += (|D| − J) / 16` from J = 0 (RFC 3550 section 6.4.1, which takes packets in the
    /// order of their arrival); from two replies on.
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

/// The smallest value with at least `percent` of all values at or below it: RFC 2330 section 11.3.
fn nearest_rank(sorted: &[f64], percent: usize) -> f64 {
    let rank = (percent * sorted.len()).div_ceil(100).max(1);
    sorted[rank - 1]
}

/// Loss in percent: the ratio of RFC 6673 section 6.1. Packets that this host did not send, or did not read, say nothing about
/// the network (RFC 7680 section 2.7 counts such losses among the errors of the instrument). `None` if nothing was sent.
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

    /// Round-trip times in ms, and what comes of them: min, avg, max; p50, p95, p99; stddev, pdv; jitters.
    type Vector = (&'static [u64], [f64; 3], [f64; 3], [f64; 2], Option<[f64; 2]>);

    /// Worked by hand.
    const VECTORS: &[Vector] = &[
        // The example of RFC 5481 section 4.4: IPDV −10, 10, 5, −5, so jitter 30 / 4; PDV 10, 0, 10, 15, 10, its greatest 15.
        // Avg 95 / 5; squares 1, 81, 1, 36, 1, so stddev √(120 / 5).
        // Ranks ⌈0.5 · 5⌉ = 3, ⌈0.95 · 5⌉ = ⌈0.99 · 5⌉ = 5 of 10, 20, 20, 20, 25.
        // J 10/16 = 0.625, + 9.375/16 = 1.2109375, + 3.7890625/16 = 1.44775390625, + 3.55224609375/16.
        (&[20, 10, 20, 25, 20], [10.0, 19.0, 25.0], [20.0, 25.0, 25.0], [4.898_979_485_566, 15.0], Some([7.5, 1.669_769_287_109])),
        // The example of docs/measurements.md, where the third packet is lost: differences 10, 20, 20.
        // Squares 156.25, 6.25, 306.25, 6.25, so stddev √(475 / 4).
        // J 0.625, + 19.375/16 = 1.8359375, + 18.1640625/16.
        (
            &[10, 20, 40, 20],
            [10.0, 22.5, 40.0],
            [20.0, 40.0, 40.0],
            [10.897_247_358_851, 30.0],
            Some([16.666_666_666_666, 2.971_191_406_25]),
        ),
        // Equal differences: J is 16 · (1 − (15/16)ⁿ), here for n = 3: 1, 1.9375, 2.81640625. All 8 away from the mean.
        (&[20, 36, 20, 36], [20.0, 28.0, 36.0], [20.0, 36.0, 36.0], [8.0, 16.0], Some([16.0, 2.816_406_25])),
        // Nothing varies.
        (&[30, 30, 30], [30.0; 3], [30.0; 3], [0.0, 0.0], Some([0.0, 0.0])),
        // Two replies: one difference, so J is a 16th of it. Rank ⌈0.5 · 2⌉ = 1: no mean of the two.
        (&[8, 40], [8.0, 24.0, 40.0], [8.0, 40.0, 40.0], [16.0, 32.0], Some([32.0, 2.0])),
        // One reply: nothing to compare it with.
        (&[7], [7.0; 3], [7.0; 3], [0.0, 0.0], None),
    ];

    fn close(is: f64, should: f64) -> bool {
        (is - should).abs() < 1e-9
    }

    #[test]
    fn vectors_worked_by_hand() {
        for (times, [min, avg, max], [p50, p95, p99], [stddev, pdv], jitters) in VECTORS {
            let all = rtts(times).unwrap();
            for (is, should) in [(all.min_ms, min), (all.avg_ms, avg), (all.max_ms, max)] {
                assert!(close(is, *should), "{times:?}: {all:?}");
            }
            for (is, should) in [(all.p50_ms, p50), (all.p95_ms, p95), (all.p99_ms, p99), (all.stddev_ms, stddev), (all.pdv_p99_ms, pdv)] {
                assert!(close(is, *should), "{times:?}: {all:?}");
            }
            match (all.jitter_ms.zip(all.jitter_rfc3550_ms), jitters) {
                (None, None) => {}
                (Some((mean, smoothed)), Some(should)) => {
                    assert!(close(mean, should[0]) && close(smoothed, should[1]), "{times:?}: {all:?}");
                }
                _ => panic!("{times:?}: {all:?}"),
            }
        }
    }

    /// 99 of 10 ms and one of 1010: avg 2000 / 100; squares 99 · 10² and 990², so stddev √9900. Only the maximum shows it,
    /// as 99 % are at or below 10. One difference of 1000 among 99.
    #[test]
    fn one_slow_reply_in_a_hundred_moves_the_mean_and_no_quantile() {
        let mut times = vec![10; 99];
        times.push(1010);
        let all = rtts(&times).unwrap();
        assert_eq!((all.p50_ms, all.p95_ms, all.p99_ms, all.pdv_p99_ms, all.max_ms), (10.0, 10.0, 10.0, 0.0, 1010.0));
        assert!(close(all.avg_ms, 20.0) && close(all.stddev_ms, 99.498_743_710_662), "{all:?}");
        assert!(close(all.jitter_ms.unwrap(), 1000.0 / 99.0) && close(all.jitter_rfc3550_ms.unwrap(), 62.5), "{all:?}");
    }

    #[test]
    fn jitter_is_of_the_order_in_which_packets_were_sent() {
        let (up, mixed) = (rtts(&[10, 20, 30]).unwrap(), rtts(&[10, 30, 20]).unwrap());
        assert_eq!((up.jitter_ms, mixed.jitter_ms), (Some(10.0), Some(15.0)));
        assert_eq!((up.p50_ms, up.pdv_p99_ms), (mixed.p50_ms, mixed.pdv_p99_ms));
    }

    #[test]
    fn no_reply_has_no_figures() {
        assert_eq!(rtts(&[]), None);
    }

    /// The example of RFC 2330 section 11.3 is −2, 7, 7, 4, 18, −5: its 15th percentile is −5, its 25th −2, its 50th 4, its 100th 18.
    /// Here each is 5 more, as no time is negative.
    #[test]
    fn quantiles_are_those_of_rfc_2330() {
        let mut sample = [3.0, 12.0, 12.0, 9.0, 23.0, 0.0];
        sample.sort_by(f64::total_cmp);
        assert_eq!([15, 25, 50, 100].map(|percent| nearest_rank(&sample, percent) as u64), [0, 3, 9, 23]);
    }

    /// Of the times 1, 2, 3 … n each quantile is its own rank.
    #[test]
    fn quantiles_are_nearest_rank() {
        let table = [(1, [1, 1, 1]), (2, [1, 2, 2]), (5, [3, 5, 5]), (19, [10, 19, 19]), (20, [10, 19, 20]), (21, [11, 20, 21])];
        let more = [(60, [30, 57, 60]), (99, [50, 95, 99]), (100, [50, 95, 99]), (101, [51, 96, 100]), (600, [300, 570, 594])];
        for (count, ranks) in table.into_iter().chain(more) {
            let all = rtts(&(1..=count).collect::<Vec<_>>()).unwrap();
            assert_eq!([all.p50_ms, all.p95_ms, all.p99_ms].map(|time| time as u64), ranks, "of {count}");
        }
    }

    #[test]
    fn loss_is_of_what_was_really_sent() {
        // Sent, received, and of those sent not left or not read by this host's fault.
        let table = [
            (100, 90, 0, Some(10.0)),
            (5, 5, 0, Some(0.0)),
            (5, 0, 0, Some(100.0)),
            // (6 − 1 − 4) of (6 − 1): the example of docs/measurements.md.
            (6, 4, 1, Some(20.0)),
            // Nothing but our own fault is missing.
            (5, 4, 1, Some(0.0)),
            // Three of four that count.
            (10, 1, 6, Some(75.0)),
            (1000, 999, 0, Some(0.1)),
            (8, 5, 0, Some(37.5)),
            // Nothing that says anything about the network.
            (5, 0, 5, None),
            (0, 0, 0, None),
        ];
        for (sent, received, local, loss) in table {
            assert_eq!(loss_pct(sent, received, local), loss, "{sent} {received} {local}");
        }
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
