//! Writes the journal: one commit for everything that waits, and small deletes between commits. Synchronous.
//!
//! A store that failed once is not used again: the thread closes it and opens a new one, which believes nothing of what the
//! failed sync may have left behind. See [`Store::reopen`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::acknowledged::Acknowledged;
use super::dictionary::Dictionary;
use super::encoding::{self, Layout};
use super::inbox::{Batch, KEEP_REMOVED, Output};
use super::letters::{self, Counts};
use super::missed::{Previous, Promise};
use super::reader::unaltered;
use super::receipt::{Fate, Waiting};
use super::receipts::{self, Receipts};
use super::salvage::sound::{self, Look, damaged};
use super::{JournalError, Position, failed, schema};
use crate::clock::Timestamp;
use crate::measurement::Series;
use crate::probe::schedule::Schedule;

mod dead;

/// Damaged rows that are kept to be looked at.
const KEEP_DAMAGED: i64 = 1_000;
/// In the table `meta`: when what outputs have acknowledged was lost to damage.
pub(super) const OUTPUTS_LOST: &str = "outputs_lost";

/// What the file says about itself, in its table `meta`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counters {
    /// Rows in the file.
    pub(super) rows: u64,
    /// Rows that fell out of memory, ever.
    pub(super) dropped_memory: u64,
    /// Rows dropped undelivered for size, ever.
    pub(super) dropped_size: u64,
    /// Rows set aside, ever.
    pub(super) damaged: u64,
    /// Receipts in the file.
    pub(super) receipts: u64,
    /// Rows that were in a file that was taken away, ever.
    pub(super) dropped_gone: u64,
    /// Dead letters dropped because there were too many, or with an output that was forgotten, ever.
    pub(super) dropped_dead: u64,
    /// Rounds of dead letters that were requeued, ever.
    pub(super) requeues: u64,
}

/// The file as it was when all was well, for who opens it again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Before {
    /// Which file, drawn when it was made.
    pub(super) id: i64,
    /// The last durable row.
    pub(super) tip: Position,
    /// What it counted.
    pub(super) counters: Counters,
    /// Dead letters in it.
    pub(super) letters: u64,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// Of each row.
    pub(super) fates: Vec<Fate>,
    /// Letters that each wish requeued.
    pub(super) requeued: Vec<u64>,
}

impl Counters {
    fn sum(&self) -> i64 {
        let Self { rows, dropped_memory, dropped_size, damaged, receipts, dropped_gone, dropped_dead, requeues } = *self;
        let all = [rows, dropped_memory, dropped_size, damaged, receipts, dropped_gone, dropped_dead, requeues];
        let sum = all.iter().fold(0, |sum, counter| crc32c::crc32c_append(sum, &counter.to_le_bytes()));
        i64::from(sum)
    }
}

/// The open file.
pub(super) struct Store {
    conn: Connection,
    id: i64,
    wal: PathBuf,
    dictionary: Dictionary,
    counters: Counters,
    dead: Counts,
    tip: Position,
    max_size: u64,
    /// Rows above the tip may be left of a commit that failed: they go before the next.
    leftovers: bool,
}

/// The first row of some ranges of positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    /// Its time.
    pub(super) time: Timestamp,
    /// The range that it is in.
    pub(super) range: (Position, Position),
}

impl Store {
    /// Opens the file or makes it.
    pub(super) fn open(path: &Path, max_size: u64) -> Result<Self, JournalError> {
        let conn = schema::writer(path)?;
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let id = schema::id(&conn).map_err(failed("reading the file"))?;
        let (dictionary, counters, tip) = load(&conn).map_err(failed("reading the file"))?;
        let dead = letters::count(&conn).map_err(failed("reading the file"))?;
        let mut store = Self { conn, id, wal: wal.into(), dictionary, counters, dead, tip, max_size: 0, leftovers: false };
        store.limit(max_size)?;
        Ok(store)
    }

    /// Opens the file after a commit failed.
    ///
    /// The kernel reports a failed sync once and may then call lost pages clean, so no later sync of the write-ahead file
    /// means anything. What it holds is written into the main file anew, synced there, and the write-ahead file is emptied:
    /// only then is the file trusted again. Rows above the last that was known to be durable were in the commit that failed
    /// and still wait in memory: they are taken out, so that the next commit writes them for good.
    ///
    /// If it is another file, see [`Store::follow`].
    pub(super) fn reopen(path: &Path, max_size: u64, before: &Before) -> Result<Self, JournalError> {
        let mut store = Self::open(path, max_size)?;
        if store.id != before.id {
            store.follow(before).map_err(failed("following another file"))?;
            return Ok(store);
        }
        let emptied = schema::checkpoint(&store.conn).map_err(failed("emptying the write-ahead file"));
        if !matches!(emptied, Ok(true)) {
            // Closing would try the same again, on the handle that failed.
            store.close_untrusted();
            return Err(emptied.err().unwrap_or(JournalError::Held));
        }
        let lost = before.tip.0.saturating_sub(store.tip.0);
        if lost > 0 {
            let counters = Counters { dropped_gone: store.counters.dropped_gone + lost, ..store.counters };
            // Durable at once: a kill before the next row must not give a position twice.
            store.go_on_behind(before.tip, counters).map_err(failed("going on behind lost rows"))?;
            tracing::error!(rows = lost, "journal lost rows that were durable");
        }
        store.tip = before.tip;
        store.leftovers = true;
        Ok(store)
    }

    /// Takes the place of a file that was taken away: the rows of that are lost and counted, its losses are remembered here if
    /// this one is new, and positions go on above those of both, so that no output mistakes a new row for one that it has.
    fn follow(&mut self, before: &Before) -> rusqlite::Result<()> {
        let is_new = self.counters.rows == 0 && self.tip <= before.tip;
        let known = if is_new { Counters { rows: 0, receipts: 0, ..before.counters } } else { self.counters };
        let (dropped_gone, dropped_dead) = (known.dropped_gone + before.counters.rows, known.dropped_dead + before.letters);
        self.go_on_behind(self.tip.max(before.tip), Counters { dropped_gone, dropped_dead, ..known })?;
        tracing::error!(rows = before.counters.rows, letters = before.letters, "journal was taken away, another takes its place");
        Ok(())
    }

    /// The next row comes behind this position, and this is what is counted.
    fn go_on_behind(&mut self, tip: Position, counters: Counters) -> rusqlite::Result<()> {
        let tx = self.conn.transaction()?;
        tx.execute("DELETE FROM sqlite_sequence WHERE name = 'row'", [])?;
        tx.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('row', ?1)", [tip.0 as i64])?;
        keep_counters(&tx, counters)?;
        tx.commit()?;
        (self.tip, self.counters) = (tip, counters);
        Ok(())
    }

    /// The file as it is, all being well.
    pub(super) fn now(&self) -> Before {
        let letters = self.dead.values().map(|count| count.letters).sum();
        Before { id: self.id, tip: self.tip, counters: self.counters, letters }
    }

    /// Whether the write-ahead file is where others would find it. If not, what it held is saved into the main file, so that
    /// nothing is lost with it.
    pub(super) fn is_whole(&self) -> bool {
        let there = self.wal.symlink_metadata().is_ok();
        if !there {
            // If this fails, too, the rows are found missing when the file is opened again.
            let _ = schema::checkpoint(&self.conn);
        }
        there
    }

    /// Closes after a failure, without writing anything.
    pub(super) fn close_untrusted(self) {
        schema::close_untrusted(self.conn);
    }

    /// Looks whether the file can be trusted.
    pub(super) fn check(&self, path: &Path, look: Look) -> Result<(), JournalError> {
        let counters = read_counters(&self.conn).map_err(failed("reading the counters"))?;
        let counters = counters.ok_or_else(|| damaged(path, "its counters were altered"))?;
        sound::check(&self.conn, path, counters, self.tip, look)
    }

    /// Whether outputs may be unknown only because what was known of them was damaged.
    pub(super) fn outputs_lost(&self, now: Timestamp) -> Result<bool, JournalError> {
        let read = || {
            let lost = meta(&self.conn, OUTPUTS_LOST)?.map(Timestamp::from_nanos);
            Ok(lost.is_some_and(|lost| now.since(lost) < KEEP_REMOVED) || any_altered(&self.conn)?)
        };
        read().map_err(failed("reading the outputs"))
    }

    /// The position of the last durable row.
    pub(super) fn tip(&self) -> Position {
        self.tip
    }

    /// The file may not grow any more.
    #[cfg(test)]
    pub(super) fn fill_disk(&self) {
        let pages: i64 = self.conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        self.conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    }

    /// What the file counts.
    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// How many dead letters each output has.
    pub(super) fn dead(&self) -> &Counts {
        &self.dead
    }

    /// Takes another cap.
    pub(super) fn limit(&mut self, max_size: u64) -> Result<(), JournalError> {
        if self.max_size != max_size {
            schema::limit_wal(&self.conn, max_size).map_err(failed("limiting the write-ahead file"))?;
            self.max_size = max_size;
        }
        Ok(())
    }

    /// Makes everything of a batch durable, or nothing. Says what became of it.
    pub(super) fn commit(&mut self, batch: &Batch, now: Timestamp) -> Result<Committed, JournalError> {
        self.try_commit(batch, now).map_err(failed("committing"))
    }

    fn try_commit(&mut self, batch: &Batch, now: Timestamp) -> rusqlite::Result<Committed> {
        let tx = Transaction::new(&mut self.conn, rusqlite::TransactionBehavior::Immediate)?;
        let mut counters = self.counters;
        if self.leftovers {
            let left = tx.execute("DELETE FROM row WHERE position > ?1", [self.tip.0 as i64])? as u64;
            counters.rows = counters.rows.saturating_sub(left);
            counters.receipts = counters.receipts.saturating_sub(receipts::take_out_above(&tx, self.tip)?);
        }
        let fates = insert(&tx, &mut self.dictionary, &batch.rows, self.tip, now)?;
        let stored = || batch.rows.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::Stored).map(|(waiting, _)| waiting);
        let added = stored().count() as u64;
        counters.rows += added;
        counters.receipts += stored().filter(|waiting| waiting.receipt().is_some()).count() as u64;
        let moved = set_aside(&tx, batch.damaged.iter(), now)?;
        counters.rows = counters.rows.saturating_sub(moved);
        counters.damaged += moved;
        counters.dropped_memory += batch.dropped;
        letters::write(&tx, &batch.letters)?;
        let requeued = dead::requeue(&tx, &batch.letters.requeues, &mut counters)?;
        counters.dropped_dead += keep_outputs(&tx, &batch.outputs)?;
        let dead = if batch.may_change_letters() { Some(letters::count(&tx)?) } else { None };
        if let Some(promises) = &batch.schedule {
            keep_schedule(&tx, &mut self.dictionary, promises)?;
            keep_meta(&tx, "clean", 0)?;
        }
        if batch.clean {
            keep_meta(&tx, "clean", 1)?;
        }
        if batch.promised {
            keep_meta(&tx, "alive", now.nanos())?;
        }
        keep_counters(&tx, counters)?;
        tx.commit()?;
        self.counters = counters;
        self.dead = dead.unwrap_or_else(|| std::mem::take(&mut self.dead));
        self.tip.0 += added;
        self.leftovers = false;
        if batch.clean {
            // So that a copy of the one file is a whole backup. Whatever keeps it from being done, the rows are durable.
            let _ = schema::checkpoint(&self.conn);
        }
        Ok(Committed { fates, requeued })
    }

    /// The outputs that the file knows. One whose bytes were altered starts over: its rows are sent again.
    pub(super) fn outputs(&self) -> Result<BTreeMap<String, Output>, JournalError> {
        read_outputs(&self.conn).map_err(failed("reading the outputs"))
    }

    /// What the process before this one left behind.
    pub(super) fn previous(&self) -> Result<Previous, JournalError> {
        let read = || {
            let sql = "SELECT s.id, s.key, s.crc, p.interval, p.phase, p.since, p.until FROM schedule p JOIN series s ON s.id = p.series";
            let mut statement = self.conn.prepare(sql)?;
            let promises = statement.query_map([], |row| {
                let Some(series) = unaltered(row.get_ref(1)?, row.get_ref(2)?).and_then(|key| Series::from_key(key).ok()) else {
                    return Ok(None);
                };
                let duration = |index| row.get::<_, i64>(index).map(|nanos| std::time::Duration::from_nanos(nanos as u64));
                let schedule = Schedule::new(duration(3)?, duration(4)?);
                let (since, until) = (Timestamp::from_nanos(row.get(5)?), row.get::<_, Option<i64>>(6)?.map(Timestamp::from_nanos));
                Ok(Some((row.get(0)?, Promise { series, schedule, since, until })))
            })?;
            let promises = promises.filter_map(Result::transpose).collect::<rusqlite::Result<Vec<_>>>()?;
            let alive = Timestamp::from_nanos(meta(&self.conn, "alive")?.unwrap_or_default());
            Ok(Previous { clean: meta(&self.conn, "clean")?.unwrap_or(1) != 0, alive, promises })
        };
        read().map_err(failed("reading the schedule"))
    }

    /// Bytes of the file with its write-ahead file.
    pub(super) fn bytes(&self) -> Result<u64, JournalError> {
        let file = schema::file_bytes(&self.conn).map_err(failed("measuring the file"))?;
        Ok(file + self.wal.metadata().map_or(0, |metadata| metadata.len()))
    }

    /// Gives free space back and empties the write-ahead file. No: a reader is in the way.
    pub(super) fn shrink(&self) -> Result<bool, JournalError> {
        schema::vacuum(&self.conn).and_then(|()| schema::checkpoint(&self.conn)).map_err(failed("giving space back"))
    }

    /// The first row in these ranges.
    pub(super) fn first(&self, ranges: &[(Position, Position)]) -> Result<Option<First>, JournalError> {
        let read = || {
            let mut statement = self.conn.prepare("SELECT time FROM row WHERE position BETWEEN ?1 AND ?2 ORDER BY position LIMIT 1")?;
            for range in ranges {
                let time: Option<i64> = statement.query_row([range.0.0 as i64, range.1.0 as i64], |row| row.get(0)).optional()?;
                if let Some(time) = time {
                    return Ok(Some(First { time: Timestamp::from_nanos(time), range: *range }));
                }
            }
            Ok(None)
        };
        read().map_err(failed("looking for the oldest row"))
    }

    /// Deletes the rows of before a time among the first `count` rows of a range.
    pub(super) fn delete(&mut self, range: (Position, Position), count: u64, before: Timestamp, lost: bool) -> Result<u64, JournalError> {
        self.try_delete(range, count, before, lost).map_err(failed("deleting rows"))
    }

    fn try_delete(&mut self, range: (Position, Position), count: u64, before: Timestamp, lost: bool) -> rusqlite::Result<u64> {
        let tx = self.conn.transaction()?;
        let sql = "DELETE FROM row WHERE time <= ?4 AND position BETWEEN ?1 AND
            (SELECT max(position) FROM (SELECT position FROM row WHERE position BETWEEN ?1 AND ?2 ORDER BY position LIMIT ?3))";
        let deleted = tx.execute(sql, params![range.0.0 as i64, range.1.0 as i64, count as i64, before.nanos()])? as u64;
        let mut counters = self.counters;
        counters.rows = counters.rows.saturating_sub(deleted);
        counters.dropped_size += if lost { deleted } else { 0 };
        keep_counters(&tx, counters)?;
        tx.commit()?;
        self.counters = counters;
        Ok(deleted)
    }

    /// When the oldest receipt came.
    pub(super) fn oldest_receipt(&self) -> Result<Option<Timestamp>, JournalError> {
        receipts::oldest(&self.conn).map_err(failed("looking for the oldest receipt"))
    }

    /// Forgets the receipts that came before a time, among the oldest `count`.
    pub(super) fn forget_receipts(&mut self, count: u64, before: Timestamp) -> Result<u64, JournalError> {
        let mut forget = || {
            let tx = self.conn.transaction()?;
            let forgotten = receipts::forget(&tx, count, before)?;
            let counters = Counters { receipts: self.counters.receipts.saturating_sub(forgotten), ..self.counters };
            keep_counters(&tx, counters)?;
            tx.commit()?;
            self.counters = counters;
            Ok(forgotten)
        };
        forget().map_err(failed("deleting receipts"))
    }
}

/// What the outputs have. One whose bytes were altered has nothing.
pub(super) fn read_outputs(conn: &Connection) -> rusqlite::Result<BTreeMap<String, Output>> {
    let mut statement = conn.prepare("SELECT name, acknowledged, crc, removed FROM output")?;
    let outputs = statement.query_map([], |row| {
        let acknowledged = if is_altered(row) { None } else { row.get_ref(1)?.as_blob().ok().and_then(Acknowledged::from_bytes) };
        let removed: Option<i64> = row.get(3).unwrap_or_default();
        let output = Output { acknowledged: acknowledged.unwrap_or_default(), removed: removed.map(Timestamp::from_nanos) };
        // A name that is none any more is not missed: see `any_altered`.
        Ok(row.get_ref(0)?.as_str().ok().map(|name| (name.to_owned(), output)))
    })?;
    outputs.filter_map(Result::transpose).collect()
}

/// Whether an output is not as it was written: then its name may be that of none, and the right one have no entry.
pub(super) fn any_altered(conn: &Connection) -> rusqlite::Result<bool> {
    let mut statement = conn.prepare("SELECT name, acknowledged, crc, removed FROM output")?;
    let mut outputs = statement.query_map([], |row| Ok(is_altered(row)))?;
    outputs.try_fold(false, |any, altered| Ok(any || altered?))
}

fn is_altered(row: &rusqlite::Row<'_>) -> bool {
    let written = || {
        let (name, bytes) = (row.get_ref(0).ok()?.as_str().ok()?, row.get_ref(1).ok()?.as_blob().ok()?);
        let crc = row.get_ref(2).ok()?.as_i64().ok()?;
        let removed: Option<i64> = row.get(3).ok()?;
        // Before, the sum was that of the bytes alone.
        Some([output_sum(name, bytes, removed), crc32c::crc32c(bytes)].map(i64::from).contains(&crc))
    };
    written() != Some(true)
}

/// CRC32C of an output: its bytes, its name, and when it was removed.
fn output_sum(name: &str, bytes: &[u8], removed: Option<i64>) -> u32 {
    let sum = crc32c::crc32c_append(crc32c::crc32c(bytes), name.as_bytes());
    removed.map_or(sum, |removed| crc32c::crc32c_append(sum, &removed.to_le_bytes()))
}

/// What the file counts; none if it was altered. A file of before has no sum over it.
pub(super) fn read_counters(conn: &Connection) -> rusqlite::Result<Option<Counters>> {
    let count = |name| Ok::<_, rusqlite::Error>(meta(conn, name)?.unwrap_or_default() as u64);
    let counters = Counters {
        rows: count("rows")?,
        dropped_memory: count("dropped_memory")?,
        dropped_size: count("dropped_size")?,
        damaged: count("damaged")?,
        receipts: count("receipts")?,
        dropped_gone: count("dropped_gone")?,
        dropped_dead: count("dropped_dead")?,
        requeues: count("requeues")?,
    };
    Ok(meta(conn, "sum")?.is_none_or(|sum| sum == counters.sum()).then_some(counters))
}

fn load(conn: &Connection) -> rusqlite::Result<(Dictionary, Counters, Position)> {
    let dictionary = Dictionary::load(conn)?;
    let counters = read_counters(conn)?.unwrap_or_default();
    let last: Option<i64> = conn.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'row'", [], |row| row.get(0)).optional()?;
    Ok((dictionary, counters, Position(last.unwrap_or_default() as u64)))
}

/// Rows whose receipt is known are left out. Positions are given here, not by the database, so that a commit that is
/// repeated uses the same.
fn insert(
    tx: &Transaction<'_>,
    dictionary: &mut Dictionary,
    rows: &[Waiting],
    tip: Position,
    now: Timestamp,
) -> rusqlite::Result<Vec<Fate>> {
    let mut receipts = Receipts::new(tx)?;
    let mut statement = tx.prepare("INSERT INTO row (position, series, time, layout, crc, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let (mut fates, mut position) = (Vec::with_capacity(rows.len()), tip.0 + 1);
    for waiting in rows {
        if let Some(receipt) = waiting.receipt()
            && !receipts.keep(receipt, position, now)?
        {
            fates.push(Fate::Known);
            continue;
        }
        let row = &waiting.row;
        let body = encoding::encode(&row.fields);
        let (series, layout) = dictionary.entries(tx, &row.series, Layout::of(&row.fields))?;
        let crc = encoding::checksum(&series.1, &layout.1, row.time, &body);
        // Signed, as SQLite then needs 4 bytes for it instead of 6.
        statement.execute(params![position as i64, series.0, row.time.nanos(), layout.0, crc.cast_signed(), body])?;
        fates.push(Fate::Stored);
        position += 1;
    }
    Ok(fates)
}

fn set_aside<'a>(tx: &Transaction<'_>, positions: impl Iterator<Item = &'a u64>, now: Timestamp) -> rusqlite::Result<u64> {
    let mut moved = 0;
    for position in positions {
        let copy = "INSERT OR REPLACE INTO damaged SELECT position, series, time, layout, crc, body, ?2 FROM row WHERE position = ?1";
        tx.execute(copy, params![*position as i64, now.nanos()])?;
        moved += tx.execute("DELETE FROM row WHERE position = ?1", [*position as i64])? as u64;
    }
    if moved > 0 {
        bound_damaged(tx)?;
    }
    Ok(moved)
}

/// Keeps the newest damaged rows alone.
pub(super) fn bound_damaged(conn: &Connection) -> rusqlite::Result<()> {
    let keep = "DELETE FROM damaged WHERE position NOT IN (SELECT position FROM damaged ORDER BY position DESC LIMIT ?1)";
    conn.execute(keep, [KEEP_DAMAGED]).map(drop)
}

/// Says how many dead letters went with outputs that are forgotten.
fn keep_outputs(tx: &Transaction<'_>, outputs: &BTreeMap<String, Option<Output>>) -> rusqlite::Result<u64> {
    let mut forgotten = 0;
    for (name, output) in outputs {
        let Some(output) = output else {
            tx.execute("DELETE FROM output WHERE name = ?1", [name])?;
            forgotten += letters::forget(tx, name)?;
            continue;
        };
        let bytes = output.acknowledged.to_bytes();
        let sql = "INSERT OR REPLACE INTO output (name, acknowledged, crc, removed) VALUES (?1, ?2, ?3, ?4)";
        let removed = output.removed.map(Timestamp::nanos);
        tx.execute(sql, params![name, bytes, output_sum(name, &bytes, removed), removed])?;
    }
    Ok(forgotten)
}

fn keep_schedule(tx: &Transaction<'_>, dictionary: &mut Dictionary, promises: &[Promise]) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM schedule", [])?;
    let mut statement = tx.prepare("INSERT INTO schedule (series, interval, phase, since, until) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for Promise { series, schedule, since, until } in promises {
        let id = dictionary.series(tx, series)?.0;
        let (interval, phase) = (crate::clock::nanos(schedule.interval()), crate::clock::nanos(schedule.phase()));
        statement.execute(params![id, interval, phase, since.nanos(), until.map(Timestamp::nanos)])?;
    }
    Ok(())
}

/// Writes down what is counted, with a sum over it.
pub(super) fn keep_counters(tx: &Connection, counters: Counters) -> rusqlite::Result<()> {
    keep_meta(tx, "rows", counters.rows as i64)?;
    keep_meta(tx, "dropped_memory", counters.dropped_memory as i64)?;
    keep_meta(tx, "dropped_size", counters.dropped_size as i64)?;
    keep_meta(tx, "damaged", counters.damaged as i64)?;
    keep_meta(tx, "receipts", counters.receipts as i64)?;
    keep_meta(tx, "dropped_gone", counters.dropped_gone as i64)?;
    keep_meta(tx, "dropped_dead", counters.dropped_dead as i64)?;
    keep_meta(tx, "requeues", counters.requeues as i64)?;
    keep_meta(tx, "sum", counters.sum())
}

/// Writes an entry of the table `meta`.
pub(super) fn keep_meta(tx: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    tx.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)", params![name, value])?;
    Ok(())
}

/// An entry of the table `meta`.
pub(super) fn meta(conn: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    conn.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}
