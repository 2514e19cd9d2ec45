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
/// From row to row, if there are too few to tell; more than one is at most this far apart.
const USUAL: Duration = Duration::from_mins(1);
/// Rows that are nearer than this are of one slot.
const LEAST: Duration = Duration::from_secs(1);
/// Of fewer distances none is the usual one.
const FEW: usize = 3;

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

/// Each row is a column. Returned with the distance that is usual from one to the next; `interval` is what the config says.
pub(super) fn single(rows: &[Sample], interval: Option<Duration>) -> (Duration, Vec<Column>) {
    let step = usual(rows.iter().map(|row| row.time), interval);
    (step, rows.iter().map(|row| Column { width: step, ..row.column() }).collect())
}

/// The distance that is usual from a row to the next. It is rather too small than too large: what did not come is never to look
/// as if nothing was missing. So an interval that the config has now counts once rows keep to it, and few rows are not joined.
fn usual(times: impl Iterator<Item = Timestamp>, interval: Option<Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    // Results of two families come in one post, a nanosecond apart.
    times.dedup_by(|next, before| next.since(*before) < LEAST);
    let mut distances: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    distances.sort_unstable();
    let are_few = distances.len() < FEW;
    let keeps = |interval: Duration| distances.iter().filter(|distance| distance.abs_diff(interval) <= interval / 10).count() >= 2;
    if let Some(interval) = interval.filter(|interval| are_few || keeps(*interval)) {
        return interval;
    }
    let quarter = distances.get(distances.len().saturating_sub(1) / 4).copied().unwrap_or(USUAL);
    if are_few { quarter.min(USUAL) } else { quarter }
}

/// Rows merged into columns of a width, aligned to the epoch.
pub(super) fn of_rows(span: Span, rows: &[Sample], width: Duration) -> Vec<Column> {
    gather(span, width, rows.iter().map(|row| (row.time, Bucket::one(row))))
}

/// Buckets that have a part in the span, merged by so many into columns that are aligned to the epoch. Returned with the distance
/// from one to the next: more than the width of a column where rows are further apart.
pub(super) fn of_buckets(span: Span, pieces: &BTreeMap<i64, Piece>, count: u32, interval: Option<Duration>) -> (Duration, Vec<Column>) {
    let width = Duration::from_nanos(BUCKET as u64).saturating_mul(count);
    let buckets = pieces.iter().flat_map(|(piece, known)| known.buckets.iter().map(move |(number, bucket)| (*piece, *number, bucket)));
    let buckets = buckets.filter(|(piece, number, _)| is_in(span, *piece, *number));
    let columns = gather(span, width, buckets.map(|(piece, number, bucket)| (bucket_start(piece, number), bucket.clone())));
    // That of the first begins where the span does: the distance to it says nothing.
    let step = usual(columns.iter().skip(1).map(|column| column.start), interval).max(width);
    (step, columns)
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
        let (step, columns) = single(&[row(10), row(40), row(70), row(700)], None);
        assert_eq!((step, columns.len(), columns[3].start), (Duration::from_secs(30), 4, at(700)));
        assert_eq!(single(&[row(10)], None).0, USUAL);
        assert_eq!(single(&[], None).0, USUAL);
    }

    #[test]
    fn every_case_of_the_step() {
        let minutes = |minutes: &[i64]| minutes.iter().map(|minute| at(minute * 60)).collect::<Vec<_>>();
        let changed: Vec<_> = (0..30).chain((30..60).step_by(5)).collect();
        for (rows, interval, expected, why) in [
            (minutes(&[0, 49]), None, 1, "an outage is not the step"),
            (minutes(&[0, 5, 10]), None, 1, "few rows are not joined"),
            (minutes(&[0, 5, 10]), Some(5), 5, "unless it is known how far they are apart"),
            (minutes(&[0, 49, 50, 99, 100, 149, 150]), None, 1, "outages are not the step"),
            (minutes(&[0, 10, 20, 30, 40]), None, 10, "as it is"),
            (minutes(&changed), Some(5), 5, "the interval became longer, and rows keep to it"),
            (minutes(&[0, 1, 2, 3, 4, 5]), Some(10), 1, "no row keeps to it yet"),
            (minutes(&[0, 10, 20, 30, 40, 41]), Some(1), 10, "the interval became shorter just now"),
        ] {
            let interval = interval.map(Duration::from_mins);
            assert_eq!(usual(rows.into_iter(), interval), Duration::from_mins(expected), "{why}");
        }
    }

    #[test]
    fn two_results_of_one_post_are_no_distance() {
        let times = (0..10).flat_map(|minute| [at(minute * 60), at(minute * 60).plus(Duration::from_nanos(1))]);
        assert_eq!(usual(times, None), Duration::from_mins(1));
    }

    #[test]
    fn buckets_that_are_far_apart_are_no_specks() {
        let piece = |number: i64| {
            let buckets =
                (0..24).step_by(2).map(|bucket| (bucket, Bucket { outcomes: vec![(crate::probe::Outcome::Ok, 1)], ..Bucket::default() }));
            (number, Piece { buckets: buckets.collect(), ..Piece::default() })
        };
        let pieces = BTreeMap::from([piece(10), piece(11)]);
        let span = Span { from: Timestamp::from_nanos(10 * PIECE), to: Timestamp::from_nanos(12 * PIECE) };
        let (step, columns) = of_buckets(span, &pieces, 1, None);
        assert_eq!((step, columns.len(), columns[1].width), (Duration::from_mins(10), 24, Duration::from_mins(5)));
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
            let (width, of_buckets) = of_buckets(span, &BTreeMap::from([(number, piece)]), 24, None);
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
