//! Writes the journal: one commit for everything that waits, and small deletes between commits. Synchronous.
//!
//! A store that failed once is not used again: the thread closes it and opens a new one, which believes nothing of what the
//! failed sync may have left behind. See [`Store::reopen`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::dictionary::Dictionary;
use super::inbox::{Batch, KEEP_REMOVED, Output};
use super::letters::{self, Counts};
use super::missed::{Previous, Promise};
use super::reader::unaltered;
use super::receipt::Fate;
use super::receipts;
use super::salvage::sound::{self, Look, damaged};
use super::{JournalError, Position, failed, schema};
use crate::clock::Timestamp;
use crate::measurement::Series;
use crate::probe::schedule::Schedule;

mod again;
mod counters;
mod dead;
mod outputs;
mod rows;

pub(super) use again::Before;
pub(super) use counters::{Counters, keep_counters, keep_meta, meta, read_counters};
pub(super) use outputs::{any_altered, read_outputs};
pub(super) use rows::bound_damaged;

/// In the table `meta`: when what outputs have acknowledged was lost to damage.
pub(super) const OUTPUTS_LOST: &str = "outputs_lost";

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// Of each row.
    pub(super) fates: Vec<Fate>,
    /// Letters that each wish requeued.
    pub(super) requeued: Vec<u64>,
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
    /// It took the place of another file while that was in use.
    follows: bool,
    /// Rows above the tip may be left of a commit that failed: they go before the next.
    leftovers: bool,
}

/// The first row of some ranges of positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    /// Where it stands.
    pub(super) position: Position,
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
        let mut store = Self { conn, id, wal: wal.into(), dictionary, counters, dead, tip, max_size: 0, follows: false, leftovers: false };
        store.limit(max_size)?;
        Ok(store)
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

    /// Whether it took the place of another file, so that what is known of positions is not of its rows.
    pub(super) fn follows(&self) -> bool {
        self.follows
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
        let fates = rows::insert(&tx, &mut self.dictionary, &batch.rows, self.tip, now)?;
        let stored = || batch.rows.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::Stored).map(|(waiting, _)| waiting);
        let added = stored().count() as u64;
        counters.rows += added;
        counters.receipts += stored().filter(|waiting| waiting.receipt().is_some()).count() as u64;
        let moved = rows::set_aside(&tx, batch.damaged.iter(), now)?;
        counters.rows = counters.rows.saturating_sub(moved);
        counters.damaged += moved;
        counters.dropped_memory += batch.dropped;
        letters::write(&tx, &batch.letters)?;
        let requeued = dead::requeue(&tx, &batch.letters.requeues, &mut counters)?;
        counters.dropped_dead += outputs::keep(&tx, &batch.outputs)?;
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
            let mut statement =
                self.conn.prepare("SELECT position, time FROM row WHERE position BETWEEN ?1 AND ?2 ORDER BY position LIMIT 1")?;
            for range in ranges {
                let bounds = [range.0.0 as i64, range.1.0 as i64];
                let first: Option<(i64, i64)> = statement.query_row(bounds, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
                if let Some((position, time)) = first {
                    return Ok(Some(First { position: Position(position as u64), time: Timestamp::from_nanos(time), range: *range }));
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

fn load(conn: &Connection) -> rusqlite::Result<(Dictionary, Counters, Position)> {
    let dictionary = Dictionary::load(conn)?;
    let counters = read_counters(conn)?.unwrap_or_default();
    let last: Option<i64> = conn.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'row'", [], |row| row.get(0)).optional()?;
    Ok((dictionary, counters, Position(last.unwrap_or_default() as u64)))
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
