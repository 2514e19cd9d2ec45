//! How the values of a field lie, in a form that can be put together again and again. Pure.
//!
//! Up to [`MARKS`] rows it keeps every row's median, so nothing is lost; of more it keeps the values at 10, 30, 50, 70 and
//! 90 %, which stand for a fifth of the rows each. Five rows are what 5 minutes of a minutely probe have: of these the
//! quantiles of any time are exact. Rows, least, most and mean always are.

use super::range::Spread;

/// How many values stand for all.
pub(super) const MARKS: usize = 5;
/// The shares at which they stand, in tenths.
const SHARES: [u64; MARKS] = [1, 3, 5, 7, 9];
/// What a row weighs: can be shared out by any number of marks.
const WEIGHT: u64 = 60;

/// Of the values of some rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Digest {
    /// Of how many rows.
    pub(super) rows: u32,
    /// The smallest.
    pub(super) min: f32,
    /// The largest.
    pub(super) max: f32,
    /// The mean of the rows' means.
    pub(super) mean: f64,
    /// Those that stand for all, in order: see [`Digest::marks`].
    marks: [f32; MARKS],
}

impl Digest {
    /// Of a single row.
    pub(super) fn one(row: &Spread) -> Self {
        let mut marks = [0.0; MARKS];
        marks[0] = row.median as f32;
        Self { rows: 1, min: row.min as f32, max: row.max as f32, mean: row.mean, marks }
    }

    /// As it was taken apart.
    pub(super) fn new(rows: u32, (min, max, mean): (f32, f32, f64), known: &[f32]) -> Self {
        let mut marks = [0.0; MARKS];
        marks.iter_mut().zip(known).for_each(|(mark, known)| *mark = *known);
        Self { rows, min, max, mean, marks }
    }

    /// The values that stand for all rows, in order; as many as there are rows, up to [`MARKS`].
    pub(super) fn marks(&self) -> &[f32] {
        &self.marks[..MARKS.min(self.rows as usize)]
    }

    /// Of all rows of some; none if there are none.
    pub(super) fn merged<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let (mut rows, mut sum, mut ends, mut points) = (0_u64, 0.0, None, Vec::new());
        for part in parts {
            rows += u64::from(part.rows);
            sum += part.mean * f64::from(part.rows);
            let (min, max) = ends.unwrap_or((part.min, part.max));
            ends = Some((min.min(part.min), max.max(part.max)));
            let marks = part.marks();
            let weight = u64::from(part.rows) * WEIGHT / marks.len().max(1) as u64;
            points.extend(marks.iter().map(|mark| (*mark, weight)));
        }
        let (min, max) = ends?;
        points.sort_unstable_by(|(one, _), (other, _)| one.total_cmp(other));
        let mut marks = [0.0; MARKS];
        if rows <= MARKS as u64 {
            marks.iter_mut().zip(&points).for_each(|(mark, (point, _))| *mark = *point);
        } else {
            marks = SHARES.map(|share| quantile(&points, share, rows * WEIGHT));
        }
        Some(Self { rows: u32::try_from(rows).unwrap_or(u32::MAX), min, max, mean: sum / rows as f64, marks })
    }

    /// For a column of a chart.
    pub(super) fn spread(&self) -> Spread {
        let marks: Vec<_> = self.marks().iter().map(|mark| (*mark, WEIGHT)).collect();
        let at = |share| f64::from(quantile(&marks, share, marks.len() as u64 * WEIGHT));
        let (min, max) = (f64::from(self.min), f64::from(self.max));
        Spread { min, low: at(1), median: at(5), high: at(9), max, mean: self.mean, rows: self.rows }
    }
}

/// The nearest rank: the first value up to and with which there are at least so many tenths of the weight.
fn quantile(points: &[(f32, u64)], tenths: u64, total: u64) -> f32 {
    let mut before = 0;
    for (value, weight) in points {
        before += weight;
        if before * 10 >= tenths * total {
            return *value;
        }
    }
    points.last().map_or(0.0, |(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(value: f32) -> Spread {
        let value = f64::from(value);
        Spread { min: value - 1.0, low: value, median: value, high: value, max: value + 1.0, mean: value + 0.5, rows: 1 }
    }

    fn digest(values: &[f32]) -> Digest {
        let rows: Vec<_> = values.iter().map(|value| Digest::one(&row(*value))).collect();
        Digest::merged(&rows).unwrap()
    }

    /// By the definition.
    fn rank(values: &[f32], tenths: usize) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f32::total_cmp);
        f64::from(sorted[(tenths * sorted.len()).div_ceil(10) - 1])
    }

    fn values(rows: std::ops::Range<usize>) -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec((0..100_000_u32).prop_map(|value| value as f32 / 8.0), rows)
    }

    proptest! {
        #[test]
        fn buckets_of_up_to_five_rows_come_to_what_all_rows_come_to(buckets in prop::collection::vec(values(1..6), 1..40)) {
            let all: Vec<f32> = buckets.iter().flatten().copied().collect();
            let parts: Vec<_> = buckets.iter().map(|values| digest(values)).collect();
            let spread = Digest::merged(&parts).unwrap().spread();
            prop_assert_eq!([spread.low, spread.median, spread.high].map(f64::to_bits), [1, 5, 9].map(|tenths| rank(&all, tenths).to_bits()));
            let ends = [all.iter().copied().fold(f32::MAX, f32::min) - 1.0, all.iter().copied().fold(0.0, f32::max) + 1.0];
            prop_assert_eq!([spread.min, spread.max].map(f64::to_bits), ends.map(|end| f64::from(end).to_bits()));
            let mean = all.iter().map(|value| f64::from(*value) + 0.5).sum::<f64>() / all.len() as f64;
            prop_assert!((spread.mean - mean).abs() < 1e-6);
            prop_assert_eq!(spread.rows as usize, all.len());
        }

        #[test]
        fn of_any_rows_at_once_the_quantiles_are_exact(values in values(1..400)) {
            let spread = digest(&values).spread();
            prop_assert_eq!([spread.low, spread.median, spread.high].map(f64::to_bits), [1, 5, 9].map(|tenths| rank(&values, tenths).to_bits()));
        }

        #[test]
        fn of_large_buckets_the_quantiles_are_a_tenth_of_the_rows_off_at_most(buckets in prop::collection::vec(values(6..300), 1..20)) {
            let all: Vec<f32> = buckets.iter().flatten().copied().collect();
            let parts: Vec<_> = buckets.iter().map(|values| digest(values)).collect();
            let spread = Digest::merged(&parts).unwrap().spread();
            for (tenths, found) in [(1, spread.low), (5, spread.median), (9, spread.high)] {
                let below = all.iter().filter(|value| f64::from(**value) < found).count() as f64 / all.len() as f64;
                let upto = all.iter().filter(|value| f64::from(**value) <= found).count() as f64 / all.len() as f64;
                let share = f64::from(tenths) / 10.0;
                prop_assert!(below <= share + 0.2 && upto >= share - 0.2, "{below} {upto} {share}");
            }
        }
    }
}
