//! How high a chart has to be: so that what is usual can be told apart, whatever a few outliers are. Pure.

/// Figures are larger than the top only if they are so many times what is usual: then the chart would be flat with them.
const FLAT: f64 = 3.0;
/// The share of columns that may be cut.
const CUT: f64 = 0.005;
/// As many may be cut where that is none.
const AT_LEAST: usize = 3;
/// With fewer columns none is cut.
const FEW: usize = 30;

/// The largest value that has to have its place. `highs` are the largest of each column, `middles` what is never cut.
pub(super) fn top(highs: impl IntoIterator<Item = f64>, middles: impl IntoIterator<Item = f64>) -> f64 {
    let mut highs: Vec<f64> = highs.into_iter().filter(|high| high.is_finite()).collect();
    highs.sort_by(f64::total_cmp);
    let Some(largest) = highs.last().copied() else { return 0.0 };
    if highs.len() < FEW {
        return largest;
    }
    let cut = ((highs.len() as f64 * CUT) as usize).max(AT_LEAST);
    let middle = middles.into_iter().filter(|middle| middle.is_finite()).fold(0.0, f64::max);
    let usual = highs.get(highs.len() - 1 - cut).copied().unwrap_or(largest).max(middle);
    if usual > 0.0 && largest / usual > FLAT { usual * 1.25 } else { largest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_outliers_are_cut_and_what_is_more_than_a_few_is_not() {
        let with = |outliers: usize, count: usize, high: f64| {
            let highs = (0..count).map(|n| if n < outliers { high } else { 10.0 });
            top(highs, std::iter::repeat_n(8.0, count))
        };
        for (outliers, count, high, expected) in [
            (0, 720, 0.0, 10.0),
            (3, 720, 2000.0, 12.5),
            (4, 720, 2000.0, 2000.0),
            (3, 60, 2000.0, 12.5),
            (1, 29, 2000.0, 2000.0),
            (3, 720, 29.0, 29.0),
            (1, 720, f64::NAN, 10.0),
        ] {
            assert!((with(outliers, count, high) - expected).abs() < 1e-9, "{outliers} of {count} at {high}");
        }
    }

    #[test]
    fn the_middle_is_never_cut() {
        let middles = (0..100).map(|n| if n == 0 { 500.0 } else { 5.0 });
        assert!((top((0..100).map(|n| if n == 0 { 2000.0 } else { 6.0 }), middles) - 625.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_no_height() {
        assert!(top([], []).abs() < f64::EPSILON);
    }
}
