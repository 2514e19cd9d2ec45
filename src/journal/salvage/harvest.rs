//! What reads right in a damaged file, moved into a new one.
//!
//! Rows keep their positions. They are read upwards and downwards to what can not be read, and what is between in halves. One whose
//! place can not be believed (see [`super::order`]) gets a new place at the end, where every output meets it: rows overwrite
//! themselves. Nothing moves whose checksum does not match.

use std::collections::BTreeSet;

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Statement, ffi, params, params_from_iter};

use super::super::reader::{Raw, Reader, raw};
use super::super::store::{self, Before, Counters};
use super::order::{Judged, Order};
use crate::clock::Timestamp;

/// Attempts at reading around what can not be read.
const ATTEMPTS: u32 = 4_000;
/// Rows without a place of their own that are kept in memory.
const ASTRAY: usize = 1_000;
/// Positions above this are damage.
const BEYOND: i64 = 1 << 60;

/// Nothing was read yet.
const EVERYWHERE: (i64, i64) = (1, BEYOND);

const COLUMNS: &str = "SELECT position, series, time, layout, crc, body FROM row";

/// What is moved into the new file, from one source after the other.
pub(super) struct Harvest<'a> {
    into: &'a Connection,
    add: Statement<'a>,
    is_there: Statement<'a>,
    /// The file as it was, if the process still runs: rows behind it wait in memory.
    before: Option<&'a Before>,
    now: Timestamp,
    /// Rows that moved.
    moved: u64,
    astray: Vec<Raw>,
    /// Tables that were copied whole.
    whole: BTreeSet<String>,
    /// What the file says of itself, if it can be believed.
    counters: Option<Counters>,
    /// The last position that was given, if the file says.
    sequence: Option<i64>,
    /// Rows of the failed commit, which wait in memory.
    leftovers: u64,
    /// Where rows may be that could not be read yet.
    gaps: Vec<(i64, i64)>,
}

/// What became of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Yield {
    /// Rows in the new file.
    pub(super) moved: u64,
    /// Rows that were there and did not read right, or not at all.
    pub(super) lost: u64,
}

impl<'a> Harvest<'a> {
    /// Into an open transaction of a new file.
    pub(super) fn new(into: &'a Connection, before: Option<&'a Before>, now: Timestamp) -> rusqlite::Result<Self> {
        let add = "INSERT OR IGNORE INTO row (position, series, time, layout, crc, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let is_there = "SELECT 1 FROM row WHERE position = ?1 AND series = ?2 AND time = ?3 AND layout = ?4 AND crc = ?5 AND body = ?6";
        Ok(Self {
            into,
            add: into.prepare(add)?,
            is_there: into.prepare(is_there)?,
            before,
            now,
            moved: 0,
            astray: Vec::new(),
            whole: BTreeSet::new(),
            counters: None,
            sequence: None,
            leftovers: 0,
            gaps: vec![EVERYWHERE],
        })
    }

    /// Whether nothing is left to be found.
    pub(super) fn is_whole(&self) -> rusqlite::Result<bool> {
        Ok(self.gaps.is_empty() && self.counters.is_some() && tables(self.into)?.iter().all(|table| self.whole.contains(table)))
    }

    /// Whether rows may be where nothing could be read.
    pub(super) fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// Whether any row was found.
    pub(super) fn has_rows(&self) -> bool {
        self.moved > 0
    }

    /// Takes the rows of a single page that belong where nothing could be read.
    pub(super) fn take_page(&mut self, source: &Connection, reader: &mut Reader) -> rusqlite::Result<()> {
        let Some(mut statement) = readable(source.prepare(COLUMNS))? else { return Ok(()) };
        let Some(mut rows) = readable(statement.query([]))? else { return Ok(()) };
        while let Some(Some(row)) = readable(rows.next().and_then(|row| row.map(raw).transpose()))? {
            let belongs = self.gaps.iter().any(|(from, to)| (from..=to).contains(&&row.position));
            if belongs && matches!(reader.check(&row), Ok(Some(_))) {
                self.place(reader, (row, true))?;
            }
        }
        Ok(())
    }

    /// Takes what a source has; the reader is one of the same file.
    pub(super) fn take(&mut self, source: &Connection, reader: &mut Reader) -> rusqlite::Result<()> {
        for table in tables(self.into)? {
            if !self.whole.contains(&table) && copy(source, self.into, &table)? {
                self.whole.insert(table);
            }
        }
        self.facts(source)?;
        self.rows(source, reader)
    }

    fn facts(&mut self, source: &Connection) -> rusqlite::Result<()> {
        if self.counters.is_none() {
            self.counters = readable(store::read_counters(source))?.flatten();
        }
        if self.sequence.is_none() {
            let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'row'";
            let last: Option<Option<i64>> = readable(source.query_row(sql, [], |row| row.get(0)).optional())?;
            self.sequence = last.flatten().filter(|last| (0..BEYOND).contains(last));
        }
        for name in ["alive", "clean"] {
            let value: Option<i64> = readable(store::meta(source, name))?.flatten();
            value.map_or(Ok(()), |value| store::keep_meta(self.into, name, value))?;
        }
        Ok(())
    }

    fn rows(&mut self, source: &Connection, reader: &mut Reader) -> rusqlite::Result<()> {
        let gaps = std::mem::take(&mut self.gaps);
        if gaps != [EVERYWHERE] {
            return self.between(source, reader, gaps);
        }
        // Without limits, so that a place that makes no sense does not end it.
        let Some(above) = self.walk(source, reader, &format!("{COLUMNS} ORDER BY position"), None)? else { return Ok(()) };
        let below = self.walk(source, reader, &format!("{COLUMNS} ORDER BY position DESC"), None)?;
        let above = above.map_or(1, |last| last.saturating_add(1));
        match below.flatten().or(self.sequence.map(|last| last + 1)) {
            Some(below) => self.between(source, reader, vec![(above, below - 1)])?,
            None => self.gaps.push((above, BEYOND)),
        }
        Ok(())
    }

    /// In halves, around what can not be read.
    fn between(&mut self, source: &Connection, reader: &mut Reader, mut open: Vec<(i64, i64)>) -> rusqlite::Result<()> {
        let mut attempts = 0;
        while let Some((from, to)) = open.pop() {
            if from > to {
                continue;
            }
            attempts += 1;
            if attempts > ATTEMPTS {
                self.gaps.push((from, to));
                continue;
            }
            let sql = format!("{COLUMNS} WHERE position BETWEEN ?1 AND ?2 ORDER BY position");
            let Some(reached) = self.walk(source, reader, &sql, Some((from, to)))? else { continue };
            let from = reached.map_or(from, |last| last.saturating_add(1).clamp(from, to + 1));
            if from >= to {
                self.gaps.extend((from == to).then_some((from, to)));
                continue;
            }
            let middle = from + (to - from) / 2;
            open.extend([(middle + 1, to), (from, middle)]);
        }
        Ok(())
    }

    /// Takes rows until the end, which is none, or until one can not be read: then it is the position before.
    #[expect(clippy::option_option, reason = "whether it ended, and what was read before")]
    fn walk(
        &mut self,
        source: &Connection,
        reader: &mut Reader,
        sql: &str,
        range: Option<(i64, i64)>,
    ) -> rusqlite::Result<Option<Option<i64>>> {
        let mut order = Order::new(sql.ends_with("DESC"));
        let Some(mut statement) = readable(source.prepare(sql))? else { return Ok(Some(None)) };
        let rows = match range {
            Some((from, to)) => statement.query([from, to]),
            None => statement.query([]),
        };
        let Some(mut rows) = readable(rows)? else { return Ok(Some(None)) };
        let mut ended = false;
        while let Some(row) = readable(rows.next().and_then(|row| row.map(raw).transpose()))? {
            let Some(row) = row else {
                ended = true;
                break;
            };
            order.next(row).into_iter().flatten().try_for_each(|judged| self.place(reader, judged))?;
        }
        let reached = order.reached();
        order.end().into_iter().try_for_each(|judged| self.place(reader, judged))?;
        Ok((!ended).then_some(reached))
    }

    /// Puts a row into the new file, if it reads right.
    fn place(&mut self, reader: &mut Reader, (row, believed): Judged) -> rusqlite::Result<()> {
        let highest = self.sequence.unwrap_or(BEYOND);
        let leftover = self.before.is_some_and(|before| row.position > before.tip.0 as i64);
        if believed && leftover && row.position <= highest {
            self.leftovers += 1;
            return Ok(());
        }
        if !matches!(reader.check(&row), Ok(Some(_))) {
            return self.set_aside(&row);
        }
        if !believed || !(1..=highest).contains(&row.position) || !self.insert(&row, row.position)? {
            let new = self.astray.len() < ASTRAY && !self.astray.contains(&row);
            self.astray.extend(new.then_some(row));
        }
        Ok(())
    }

    fn is_at(&mut self, row: &Raw, position: i64) -> rusqlite::Result<bool> {
        let Some((series, time, layout, crc, body)) = &row.parts else { return Ok(false) };
        self.is_there.exists(params![position, series, time, layout, crc.cast_signed(), body])
    }

    /// Says whether this is the row that has this place now.
    fn insert(&mut self, row: &Raw, position: i64) -> rusqlite::Result<bool> {
        let Some((series, time, layout, crc, body)) = &row.parts else { return Ok(false) };
        let added = self.add.execute(params![position, series, time, layout, crc.cast_signed(), body])?;
        self.moved += added as u64;
        Ok(added > 0 || self.is_at(row, position)?)
    }

    fn set_aside(&self, row: &Raw) -> rusqlite::Result<()> {
        let Some((series, time, layout, crc, body)) = &row.parts else { return Ok(()) };
        let sql = "INSERT OR REPLACE INTO damaged (position, series, time, layout, crc, body, found) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let parameters = params![row.position, series, time, layout, crc.cast_signed(), body, self.now.nanos()];
        self.into.execute(sql, parameters).map(drop)
    }

    /// Gives those without a place one, and writes down what became of all.
    pub(super) fn finish(mut self) -> rusqlite::Result<Yield> {
        let mut end = self.last()?;
        let count = |sql| self.into.query_row(sql, [], |row| row.get::<_, i64>(0));
        let first = count("SELECT ifnull(min(position), 1) FROM row")?;
        let (known, counters) = self.known((end + 1 - first).max(0) as u64);
        for row in std::mem::take(&mut self.astray) {
            if !self.is_at(&row, row.position)? && self.insert(&row, end + 1)? {
                end += 1;
            }
        }
        let moved = self.moved;
        let lost = known.saturating_sub(moved);
        if let Some(before) = self.before {
            // Those of rows that wait in memory: with them, their rows would be taken for known, and be nowhere.
            self.into.execute("DELETE FROM receipt WHERE position > ?1", [before.tip.0 as i64])?;
        }
        let receipts = self.into.query_row("SELECT count(*) FROM receipt", [], |row| row.get::<_, i64>(0))? as u64;
        store::keep_counters(self.into, Counters { rows: moved, damaged: counters.damaged + lost, receipts, ..counters })?;
        store::bound_damaged(self.into)?;
        self.into.execute("DELETE FROM sqlite_sequence WHERE name = 'row'", [])?;
        self.into.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('row', ?1)", [end])?;
        // None at all may be all that is left of a page that is cut off, and still reads right.
        let outputs_lost = !self.whole.contains("output") || store::read_outputs(self.into)?.is_empty() || store::any_altered(self.into)?;
        if outputs_lost {
            store::keep_meta(self.into, store::OUTPUTS_LOST, self.now.nanos())?;
        }
        Ok(Yield { moved, lost })
    }

    /// How many durable rows there were, by what the file says, or the process, or from the first row to the last, and what is counted.
    fn known(&self, span: u64) -> (u64, Counters) {
        match (self.counters, self.before) {
            (Some(counters), None) => (counters.rows, counters),
            // What fell out of memory is in the batch that comes again.
            (Some(counters), Some(before)) => {
                // Commits that were durable may be missing at the end.
                let missing = self.sequence.map_or(0, |last| before.tip.0.saturating_sub(last as u64));
                let known = counters.rows.saturating_sub(self.leftovers) + missing;
                (known.min(before.counters.rows), Counters { dropped_memory: before.counters.dropped_memory, ..counters })
            }
            (None, Some(before)) => (before.counters.rows, before.counters),
            (None, None) => (span, Counters::default()),
        }
    }

    /// The last position that may ever have been given: by rows, by the process, by what outputs have acknowledged.
    fn last(&self) -> rusqlite::Result<i64> {
        let row: i64 = self.into.query_row("SELECT ifnull(max(position), 0) FROM row", [], |row| row.get(0))?;
        let acknowledged = store::read_outputs(self.into)?.into_values().map(|output| {
            let ranges = output.acknowledged.ranges().last().map_or(0, |(_, to)| to.0);
            ranges.max(output.acknowledged.floor().0) as i64
        });
        let known = [row, self.sequence.unwrap_or_default(), self.before.map_or(0, |before| before.tip.0 as i64)];
        Ok(acknowledged.filter(|position| *position < BEYOND).chain(known).max().unwrap_or_default())
    }
}

/// The tables that are copied as they are.
fn tables(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('row', 'meta', 'sqlite_sequence') ORDER BY name";
    conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// Copies a table as far as it can be read. Says whether that is all of it.
fn copy(source: &Connection, into: &Connection, table: &str) -> rusqlite::Result<bool> {
    let mut columns = into.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let names = columns.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    let (columns, places) = (names.join(", "), vec!["?"; names.len()].join(", "));
    let mut insert = into.prepare(&format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({places})"))?;
    for order in ["", " ORDER BY 1 DESC"] {
        let mut whole = order.is_empty();
        let Some(mut statement) = readable(source.prepare(&format!("SELECT {columns} FROM {table}{order}")))? else { return Ok(false) };
        let Some(mut rows) = readable(statement.query([]))? else { continue };
        let values = |row: &rusqlite::Row<'_>| (0..names.len()).map(|index| row.get(index)).collect::<rusqlite::Result<Vec<Value>>>();
        while let Some(row) = readable(rows.next().and_then(|row| row.map(values).transpose()))? {
            let Some(row) = row else { return Ok(whole) };
            // What the new file refuses is damage, too.
            whole &= readable(insert.execute(params_from_iter(row)))? == Some(1);
        }
    }
    Ok(false)
}

/// None if the file can not be read here; an error if it is not the file's.
fn readable<T>(result: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_the_files(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_the_files(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(failure, _) = error else { return true };
    match failure.code {
        ErrorCode::SystemIoFailure => {
            let read = [ffi::SQLITE_IOERR_READ, ffi::SQLITE_IOERR_SHORT_READ, ffi::SQLITE_IOERR_CORRUPTFS];
            read.contains(&failure.extended_code)
        }
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::OutOfMemory
        | ErrorCode::CannotOpen
        | ErrorCode::PermissionDenied
        | ErrorCode::DiskFull
        | ErrorCode::ReadOnly => false,
        _ => true,
    }
}
