//! From what is kept to the columns of a chart. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::piece::{BUCKET, Bucket, Piece, bucket_start, is_in};
use super::range::{Column, Span};
use super::sample::{FIELDS, Sample};
use crate::clock::Timestamp;

/// The most rows that are read one by one for a chart.
pub(super) const MOST_ROWS: u64 = 4_000;
/// Widths of columns narrower than a bucket, in seconds: each divides the next whole minute or hour.
const WIDTHS: [u64; 10] = [2, 5, 10, 15, 20, 30, 60, 100, 150, 300];
/// From row to row, if there is only one.
const USUAL: Duration = Duration::from_mins(1);

/// What columns are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Each is one row.
    Single,
    /// Rows, merged into columns of this width.
    Rows(Duration),
    /// Buckets, so many in a column.
    Buckets(u32),
}

/// Decides it, for a span with so many rows. About so many columns are wanted.
pub(super) fn plan(span: Span, rows: u64, columns: usize) -> Plan {
    let columns = columns.max(1) as u64;
    let buckets = span.to.since(span.from).as_nanos().div_ceil(BUCKET as u128) as u64;
    if rows <= columns.saturating_mul(2).min(MOST_ROWS) {
        return Plan::Single;
    }
    if rows <= MOST_ROWS && buckets * 8 < columns {
        let least = span.to.since(span.from).as_secs() / columns;
        let width = WIDTHS.into_iter().find(|width| *width >= least).unwrap_or(WIDTHS[9]);
        return Plan::Rows(Duration::from_secs(width));
    }
    Plan::Buckets(u32::try_from(buckets.div_ceil(columns)).unwrap_or(u32::MAX).max(1))
}

/// Each row is a column. Returned with the distance that is usual from one to the next.
pub(super) fn single(rows: &[Sample]) -> (Duration, Vec<Column>) {
    let mut distances: Vec<_> = rows.windows(2).map(|pair| pair[1].time.since(pair[0].time)).collect();
    distances.sort_unstable();
    let step = distances.get(distances.len().saturating_sub(1) / 2).copied().filter(|step| !step.is_zero()).unwrap_or(USUAL);
    (step, rows.iter().map(|row| Column { width: step, ..row.column() }).collect())
}

/// Rows merged into columns of a width, aligned to the epoch.
pub(super) fn of_rows(span: Span, rows: &[Sample], width: Duration) -> Vec<Column> {
    gather(span, width, rows.iter().map(|row| (row.time, Bucket::one(row))))
}

/// Buckets that have a part in the span, merged by so many into columns that are aligned to the epoch.
pub(super) fn of_buckets(span: Span, pieces: &BTreeMap<i64, Piece>, count: u32) -> (Duration, Vec<Column>) {
    let width = Duration::from_nanos(BUCKET as u64).saturating_mul(count);
    let buckets = pieces.iter().flat_map(|(piece, known)| known.buckets.iter().map(move |(number, bucket)| (*piece, *number, bucket)));
    let buckets = buckets.filter(|(piece, number, _)| is_in(span, *piece, *number));
    (width, gather(span, width, buckets.map(|(piece, number, bucket)| (bucket_start(piece, number), bucket.clone()))))
}

fn gather(span: Span, width: Duration, parts: impl Iterator<Item = (Timestamp, Bucket)>) -> Vec<Column> {
    let nanos = crate::clock::nanos(width).max(1);
    let mut columns: BTreeMap<i64, Vec<Bucket>> = BTreeMap::new();
    for (start, bucket) in parts {
        columns.entry(start.nanos().div_euclid(nanos)).or_default().push(bucket);
    }
    columns.into_iter().map(|(number, parts)| column(span, number.saturating_mul(nanos), nanos, &parts)).collect()
}

/// The first and the last are as wide as the part of them that was asked for.
fn column(span: Span, start: i64, nanos: i64, parts: &[Bucket]) -> Column {
    let merged = Bucket::merged(&parts.iter().collect::<Vec<_>>());
    let (from, to) = (Timestamp::from_nanos(start).max(span.from), Timestamp::from_nanos(start.saturating_add(nanos)).min(span.to));
    Column {
        start: from,
        width: to.since(from),
        outcomes: merged.outcomes,
        loaded: merged.loaded,
        figures: merged.digests.iter().map(|(field, digest)| (FIELDS[usize::from(*field)], digest.spread())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::piece::tests::sample;
    use super::super::piece::{PIECE, piece_of};
    use super::super::range::Spread;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn hours(hours: i64) -> Span {
        Span { from: at(1_000_000), to: at(1_000_000 + hours * 3600) }
    }

    #[test]
    fn every_case_of_the_plan() {
        for (span, rows, columns, expected) in [
            (hours(1), 60, 300, Plan::Single),
            (hours(6), 360, 300, Plan::Single),
            (hours(1), 3600, 300, Plan::Rows(Duration::from_secs(15))),
            (hours(1), 36_000, 300, Plan::Buckets(1)),
            (hours(24), 1440, 300, Plan::Buckets(1)),
            (hours(72), 4320, 300, Plan::Buckets(3)),
            (hours(720), 43_200, 300, Plan::Buckets(29)),
            (hours(720), 700, 300, Plan::Buckets(29)),
            (hours(720), 600, 300, Plan::Single),
            (hours(1), 9, 0, Plan::Buckets(12)),
        ] {
            assert_eq!(plan(span, rows, columns), expected, "{rows} rows in {columns} columns");
        }
    }

    #[test]
    fn columns_are_aligned_and_those_at_the_ends_are_cut() {
        let row = Bucket { outcomes: vec![(crate::probe::Outcome::Ok, 1)], ..Bucket::default() };
        let span = Span { from: at(1000), to: at(4000) };
        let columns = gather(span, Duration::from_mins(10), [900, 1500, 1900, 3900].into_iter().map(|start| (at(start), row.clone())));
        let found: Vec<_> = columns.iter().map(|column| (column.start, column.width.as_secs(), column.rows())).collect();
        assert_eq!(found, [(at(1000), 200, 1), (at(1200), 600, 1), (at(1800), 600, 1), (at(3600), 400, 1)]);
    }

    #[test]
    fn the_step_is_the_usual_distance() {
        let row = |seconds| {
            let fields =
                crate::probe::Finding { outcome: crate::probe::Outcome::Ok, error: None, fields: crate::measurement::Fields::new() };
            let series = crate::measurement::Series::new("qos_metrics", [("a", "b")]);
            Sample::of(&crate::measurement::Row { series, time: at(seconds), fields: fields.into_fields(None) }).unwrap()
        };
        let (step, columns) = single(&[row(10), row(40), row(70), row(700)]);
        assert_eq!((step, columns.len(), columns[3].start), (Duration::from_secs(30), 4, at(700)));
        assert_eq!(single(&[row(10)]).0, USUAL);
        assert_eq!(single(&[]).0, USUAL);
    }

    proptest! {
        #[test]
        fn a_column_of_buckets_comes_to_what_all_its_rows_come_to(rows in prop::collection::vec(sample(), 1..40)) {
            let mut room = BTreeMap::new();
            let rows: Vec<_> = rows.into_iter().filter(|row| {
                let rows = room.entry(row.time.nanos() / BUCKET).or_insert(0);
                *rows += 1;
                *rows <= 5
            }).collect();
            let mut piece = Piece::default();
            piece.add(&rows);
            let number = piece_of(rows[0].time).unwrap();
            let span = Span { from: Timestamp::from_nanos(number * PIECE), to: Timestamp::from_nanos((number + 1) * PIECE) };
            let (width, of_buckets) = of_buckets(span, &BTreeMap::from([(number, piece)]), 24);
            let of_rows = of_rows(span, &rows, width);
            prop_assert_eq!(of_buckets.len(), 1);
            prop_assert_eq!(&of_buckets[0].outcomes, &of_rows[0].outcomes);
            prop_assert_eq!(of_buckets[0].loaded, of_rows[0].loaded);
            for ((_, buckets), (_, rows)) in of_buckets[0].figures.iter().zip(&of_rows[0].figures) {
                prop_assert!((buckets.mean - rows.mean).abs() < 1e-6);
                let exact = |spread: &Spread| [spread.min, spread.low, spread.median, spread.high, spread.max].map(f64::to_bits);
                prop_assert_eq!(exact(buckets), exact(rows));
            }
        }
    }
}
