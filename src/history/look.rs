//! Answers what is asked of the history: out of its file, and of the journal for what is not in there yet.
//!
//! Rows that the file lacks are put into pieces here, by the very code that writes them: so an answer does not depend on how far
//! the file has come. While more is lacking than can be looked through at once, the newest of it comes out of the journal, and of
//! the rest it is said which part of a long span that is.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::catalog::{Catalog, alone, concerns, is_shown, may_come_late};
use super::columns::{self, MOST_ROWS, Plan, plan};
use super::events::events;
use super::file::{self, FILE, FileError, Rolled, failed};
use super::piece::{Piece, Places, bucket_start, is_in, piece_of};
use super::range::{Event, Lacking, Range, Span, What};
use super::sample::Sample;
use crate::clock::Timestamp;
use crate::journal::{Beside, Position, Stored};
use crate::measurement::Series;

/// Rows that may be lacking in the file: they are looked through for each answer.
pub(super) const LACKING: u64 = 20_000;
/// Places that are looked through where more is lacking.
pub(super) const PLACES: u64 = 150_000;

/// Who answers. Between two questions no file is open, so that none is in anybody's way.
pub(super) struct Look {
    beside: Beside,
    known: Known,
}

/// The series of the file, as it was looked at last.
#[derive(Default)]
struct Known {
    identity: Option<(u64, u64)>,
    edition: i64,
    catalog: Catalog,
}

/// What the file has of a series in a span.
#[derive(Default)]
struct Kept {
    rolled: Rolled,
    pieces: BTreeMap<i64, Piece>,
    places: BTreeMap<i64, Places>,
}

impl Look {
    /// Nothing is known yet.
    pub(super) fn new(beside: Beside) -> Self {
        Self { beside, known: Known::default() }
    }

    /// Every series as which rows are shown, of those that are wanted: all of a pair of hosts, or none.
    pub(super) fn series(&mut self, wanted: impl Fn(&Series) -> bool) -> Result<Vec<Series>, FileError> {
        let rolled = self.kept(None, Span { from: Timestamp::default(), to: Timestamp::default() })?.rolled;
        let mut new: HashSet<Series> = HashSet::new();
        self.back(rolled.position, Timestamp::from_nanos(i64::MIN), LACKING, &mut |series| {
            if is_shown(series) && !new.contains(series) && alone(series).is_some_and(|shown| wanted(&shown)) {
                new.insert(series.clone());
            }
            false
        })?;
        let mut catalog = self.known.catalog.some(wanted);
        let (ping, own): (Vec<_>, Vec<_>) = new.iter().partition(|series| series.measurement() == crate::mesh::collector::rows::PING);
        // Those that tell their family first.
        for series in own.into_iter().chain(ping) {
            catalog.place(series, Timestamp::from_nanos(i64::MAX), false);
        }
        let names: BTreeSet<Series> = catalog.names().map(|(_, series)| series.clone()).collect();
        Ok(names.into_iter().collect())
    }

    /// What is known of a series in a span. `interval` is how far its rows are apart, if the config says it.
    pub(super) fn range(&mut self, series: &Series, span: Span, columns: usize, interval: Option<Duration>) -> Result<Range, FileError> {
        let mut kept = self.kept(Some(series), span)?;
        let (rows, unseen) = self.lacking(series, span, kept.rolled)?;
        let lacking = self.shown(series, &rows);
        let first = lacking.iter().map(|sample| sample.time).min();
        for sample in &lacking {
            if let Some(piece) = piece_of(sample.time).filter(|piece| is_near(span, *piece)) {
                kept.pieces.entry(piece).or_default().add(std::slice::from_ref(sample));
            }
        }
        let plan = plan(span, rows_in(span, &kept.pieces), columns);
        let rows = if let Plan::Buckets(_) = plan { None } else { self.rows(span, &kept, lacking)? };
        let (single, (step, columns)) = match (plan, rows) {
            (Plan::Single, Some(rows)) => (true, columns::single(&rows, interval)),
            (Plan::Rows(width), Some(rows)) => (false, (width, columns::of_rows(span, &rows, width))),
            (Plan::Buckets(count), _) => (false, columns::of_buckets(span, &kept.pieces, count, interval)),
            (_, None) => (false, columns::of_buckets(span, &kept.pieces, 1, interval)),
        };
        let mut events = events(span, &kept.pieces, step);
        if let Some(first) = first.filter(|_| unseen.is_some()) {
            events.retain(|event| !is_at(event, first) || matches!(event.what, What::ClockStep(_)));
        }
        Ok(Range { span, step, single, columns, events, lacking: unseen })
    }

    /// What the file has; nothing if there is none of this journal yet.
    fn kept(&mut self, series: Option<&Series>, span: Span) -> Result<Kept, FileError> {
        let journal = self.beside.file()?;
        let path = self.beside.folder()?.join(FILE);
        let identity = file::identity(&path);
        let conn = identity.and_then(|_| file::reader(&path).ok());
        let Some(conn) = conn else {
            // Not made yet, or being thrown away: whoever writes it sees that, too.
            self.known = Known::default();
            return Ok(Kept::default());
        };
        let _look = conn.unchecked_transaction().map_err(failed("reading the file"))?;
        let rolled = file::rolled(&conn)?;
        if rolled.journal != journal {
            self.known = Known::default();
            return Ok(Kept::default());
        }
        if (self.known.identity, self.known.edition) != (identity, rolled.edition) {
            self.known = Known { identity, edition: rolled.edition, catalog: file::catalog(&conn)? };
        }
        let mut kept = Kept { rolled, ..Kept::default() };
        let Some(number) = series.and_then(|series| self.known.catalog.number(series)) else { return Ok(kept) };
        let range = (piece_of(span.from).unwrap_or(0), piece_of(span.to).unwrap_or(0));
        kept.pieces = file::pieces(&conn, number, range)?;
        if rows_in(span, &kept.pieces) <= MOST_ROWS {
            kept.places = file::places(&conn, number, range)?;
        }
        Ok(kept)
    }

    /// The rows of a series that the file lacks: all, or those from the start of the span on. Of too many the newest, and what
    /// was not looked through.
    fn lacking(&self, series: &Series, span: Span, rolled: Rolled) -> Result<(Vec<Stored>, Option<Lacking>), FileError> {
        let mut wanted = |row: &Series| concerns(row, series);
        let tip = self.beside.tip()?;
        if self.beside.behind(rolled.position)? > LACKING {
            let (mut places, mut seen) = self.back(rolled.position, span.from, PLACES, &mut wanted)?;
            if places.len() as u64 > LACKING {
                places.truncate(LACKING as usize);
                seen = places.last().copied();
            }
            places.reverse();
            let unseen = seen.map(|seen| self.unseen(rolled.position, seen)).transpose()?.flatten();
            return Ok((self.beside.at(&places)?.0, unseen));
        }
        let (mut rows, mut after) = (Vec::new(), rolled.position);
        while after < tip {
            let (found, end) = self.beside.next((after, tip), &mut wanted)?;
            rows.extend(found);
            after = end;
        }
        Ok((rows, None))
    }

    /// The rows between two positions, that of the last row in the file and that of the first that was looked through.
    fn unseen(&self, kept: Position, seen: Position) -> Result<Option<Lacking>, FileError> {
        let (first, last) = (self.beside.first_after(kept)?, self.beside.first_after(Position(seen.0.saturating_sub(1)))?);
        Ok(first.zip(last).filter(|((first, _), _)| *first < seen).map(|((first, one), (_, other))| {
            // What the journal dropped is not lacking.
            Lacking { rows: seen.0 - first.0, from: one.min(other), to: one.max(other), why: None }
        }))
    }

    /// What of these rows is shown as the series: decided as by who writes the file.
    fn shown(&self, series: &Series, rows: &[Stored]) -> Vec<Sample> {
        let mut catalog = self.known.catalog.around(series);
        let samples = rows.iter().filter_map(|Stored { row, .. }| {
            let sample = Sample::of(row)?;
            let place = catalog.place(&row.series, row.time, !sample.figures.is_empty())?;
            Some((place.number, sample))
        });
        let samples: Vec<_> = samples.collect();
        let number = catalog.number(series);
        samples.into_iter().filter(|(shown, _)| Some(*shown) == number).map(|(_, sample)| sample).collect()
    }

    /// Looks back through at most so many places, down to a position. Says which of them are wanted, the last first, and how far
    /// it looked, if these are not all that there are from that time on.
    fn back(
        &self,
        down_to: Position,
        since: Timestamp,
        most: u64,
        wanted: &mut dyn FnMut(&Series) -> bool,
    ) -> Result<(Vec<Position>, Option<Position>), FileError> {
        let tip = self.beside.tip()?;
        let (mut found, mut before) = (Vec::new(), Position(tip.0.saturating_add(1)));
        while before > down_to && tip.0.saturating_sub(before.0) < most {
            let (more, next) = self.beside.back(before, since, wanted, &mut |series| !may_come_late(series))?;
            found.extend(more.into_iter().filter(|position| *position > down_to));
            match next {
                Some(next) => before = next,
                None => return Ok((found, None)),
            }
        }
        Ok((found, Some(before).filter(|before| *before > down_to)))
    }

    /// Every row of a span, in order; none if some are not in the journal any more.
    fn rows(&self, span: Span, kept: &Kept, lacking: Vec<Sample>) -> Result<Option<Vec<Sample>>, FileError> {
        let buckets = kept.places.iter().flat_map(|(piece, places)| places.0.iter().map(move |(bucket, places)| (*piece, *bucket, places)));
        let wanted = buckets.filter(|(piece, bucket, _)| is_in(span, *piece, *bucket));
        // Of the bucket in which the span begins, what is gone was before the span, or is its first minutes at most.
        let (edge, inner): (Vec<_>, Vec<_>) = wanted.partition(|(piece, bucket, _)| bucket_start(*piece, *bucket) < span.from);
        let at = |buckets: Vec<(i64, u8, &Vec<Position>)>| {
            let mut positions: Vec<Position> = buckets.into_iter().flat_map(|(.., places)| places).copied().collect();
            positions.sort_unstable();
            self.beside.at(&positions)
        };
        let (mut rows, (more, is_whole)) = (at(edge)?.0, at(inner)?);
        if !is_whole {
            return Ok(None);
        }
        rows.extend(more);
        let mut samples: Vec<Sample> = rows.iter().filter_map(|stored| Sample::of(&stored.row)).chain(lacking).collect();
        samples.retain(|sample| span.from <= sample.time && sample.time < span.to);
        // Where a better row took the place of another, it came later.
        samples.reverse();
        samples.sort_by_key(|sample| sample.time);
        samples.dedup_by_key(|sample| sample.time);
        Ok(Some(samples))
    }
}

/// Whether something happened at the first row behind what was not looked through: it may have happened anywhere in there. What
/// happened is told to the millisecond. A step of the clock is of that row itself.
fn is_at(event: &Event, first: Timestamp) -> bool {
    event.time <= first && first.since(event.time) < Duration::from_millis(1)
}

/// Whether a piece has a part in a span.
fn is_near(span: Span, piece: i64) -> bool {
    piece >= piece_of(span.from).unwrap_or(0) && piece <= piece_of(span.to).unwrap_or(0)
}

/// How many rows are in the buckets of a span.
fn rows_in(span: Span, pieces: &BTreeMap<i64, Piece>) -> u64 {
    let buckets = pieces.iter().flat_map(|(piece, known)| known.buckets.iter().map(move |(number, bucket)| (*piece, *number, bucket)));
    buckets.filter(|(piece, number, _)| is_in(span, *piece, *number)).map(|(.., bucket)| bucket.rows()).sum()
}
