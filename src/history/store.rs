//! Writes the history's file. A store that failed is not used again: the thread opens it anew, or throws it away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, params};

use super::catalog::Catalog;
use super::file::{self, FileError, Rolled, failed};
use super::packing::{pack, pack_places};
use super::piece::piece_of;
use super::sample::Sample;
use crate::clock::Timestamp;
use crate::journal::{Position, Stored};
use crate::measurement::Row;

/// Pages that are given back at once, where pieces went.
const GIVEN_BACK: usize = 64;

/// The open file.
pub(super) struct Store {
    conn: Connection,
    path: PathBuf,
    identity: Option<(u64, u64)>,
    catalog: Catalog,
    rolled: Rolled,
}

/// Rows that follow each other, on their way into the file.
#[derive(Default)]
pub(super) struct Batch {
    pieces: BTreeMap<i64, New>,
    changed: BTreeSet<i64>,
    last: Option<(Position, u32)>,
    rows: u64,
}

/// New rows of a piece.
#[derive(Default)]
struct New {
    samples: Vec<Sample>,
    places: Vec<(Timestamp, Position)>,
}

/// The checksum by which a row is known again.
pub(super) fn mark(row: &Row) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(row.series.key().as_bytes()), &row.time.nanos().to_le_bytes())
}

impl Batch {
    /// How many rows it has.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }
}

/// Takes the file away, with what belongs to it.
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(FileError::Remove { path: name.into(), source }),
            _ => {}
        }
    }
    Ok(())
}

impl Store {
    /// Opens the file, or makes it: for the rows of this journal.
    pub(super) fn open(path: &Path, journal: i64) -> Result<Self, FileError> {
        let conn = file::writer(path, journal)?;
        let (catalog, rolled) = (file::catalog(&conn)?, file::rolled(&conn)?);
        Ok(Self { conn, path: path.to_owned(), identity: file::identity(path), catalog, rolled })
    }

    /// Whether it is where others would find it.
    pub(super) fn is_in_place(&self, path: &Path) -> bool {
        self.path == path && self.identity.is_some() && self.identity == file::identity(path)
    }

    /// What is in it.
    pub(super) fn rolled(&self) -> Rolled {
        self.rolled
    }

    /// How many series it knows.
    pub(super) fn series(&self) -> usize {
        self.catalog.names().count()
    }

    /// Puts the rows that follow into a batch, in order of position: only what is kept of them stays in memory.
    pub(super) fn gather(&mut self, batch: &mut Batch, rows: &[Stored]) {
        for Stored { position, row } in rows {
            batch.last = Some((*position, mark(row)));
            let Some((sample, piece)) = Sample::of(row).zip(piece_of(row.time)) else { continue };
            let Some(place) = self.catalog.place(&row.series, row.time, !sample.figures.is_empty()) else { continue };
            if place.is_changed {
                batch.changed.insert(place.number);
            }
            let new = batch.pieces.entry(file::id(place.number, piece)).or_default();
            new.places.push((sample.time, *position));
            new.samples.push(sample);
            batch.rows += 1;
        }
    }

    /// Adds a batch: from here on, all rows up to and with `upto` are in the file.
    pub(super) fn add(&mut self, batch: Batch, upto: Position) -> Result<(), FileError> {
        let mut rolled = self.rolled;
        rolled.position = upto;
        rolled.rows += batch.rows;
        rolled.edition += i64::from(!batch.changed.is_empty());
        if let Some((position, mark)) = batch.last {
            (rolled.last, rolled.crc) = (position, mark);
        }
        let tx = self.conn.transaction().map_err(failed("beginning to write"))?;
        put_series(&tx, &self.catalog, &batch.changed).map_err(failed("writing the series"))?;
        for (id, new) in batch.pieces {
            rolled.buckets += add_to(&tx, id, new)?;
        }
        put_rolled(&tx, &rolled).map_err(failed("writing up to where it goes"))?;
        tx.commit().map_err(failed("writing the file"))?;
        self.rolled = rolled;
        Ok(())
    }

    /// The oldest piece of any series.
    pub(super) fn oldest(&self) -> Result<Option<i64>, FileError> {
        let found = self.of_each("SELECT min(id) FROM piece WHERE id BETWEEN ?1 AND ?2").map_err(failed("looking for the oldest"))?;
        Ok(found.into_iter().min())
    }

    /// The newest piece of any series: that which is being filled.
    pub(super) fn newest(&self) -> Result<Option<i64>, FileError> {
        let found = self.of_each("SELECT max(id) FROM piece WHERE id BETWEEN ?1 AND ?2").map_err(failed("looking for the newest"))?;
        Ok(found.into_iter().max())
    }

    /// A piece of each series: each look goes to one end of it.
    fn of_each(&self, sql: &str) -> rusqlite::Result<Vec<i64>> {
        let mut statement = self.conn.prepare(sql)?;
        let one = |number| statement.query_row([file::id(number, 0), file::id(number, i64::MAX)], |row| row.get::<_, Option<i64>>(0));
        let found = self.catalog.names().map(|(number, _)| number).map(one).collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(found.into_iter().flatten().map(file::piece_of).collect())
    }

    /// Deletes the pieces before this one, and series that have none left.
    pub(super) fn forget(&mut self, before: i64) -> Result<(), FileError> {
        let numbers: Vec<i64> = self.catalog.names().map(|(number, _)| number).collect();
        let mut rolled = self.rolled;
        let forget = || {
            let tx = self.conn.transaction()?;
            let mut gone = Vec::new();
            for number in numbers {
                let (from, to) = (file::id(number, 0), file::id(number, before));
                let buckets: i64 =
                    tx.query_row("SELECT coalesce(sum(buckets), 0) FROM piece WHERE id >= ?1 AND id < ?2", [from, to], |row| row.get(0))?;
                rolled.buckets = rolled.buckets.saturating_sub(buckets as u64);
                tx.execute("DELETE FROM piece WHERE id >= ?1 AND id < ?2", [from, to])?;
                tx.execute("DELETE FROM place WHERE id >= ?1 AND id < ?2", [from, to])?;
                let sql = "DELETE FROM series WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM piece WHERE id BETWEEN ?2 AND ?3)";
                if tx.execute(sql, [number, from, file::id(number, i64::MAX)])? > 0 {
                    gone.push(number);
                    rolled.edition += 1;
                }
            }
            put_rolled(&tx, &rolled)?;
            tx.commit()?;
            Ok(gone)
        };
        let gone: Vec<i64> = forget().map_err(failed("deleting the oldest"))?;
        for number in gone {
            self.catalog.forget(number);
        }
        self.rolled = rolled;
        self.give_back().map_err(failed("giving pages back"))
    }

    /// Bytes of the file that hold something, and bytes of the file with its write-ahead file.
    pub(super) fn bytes(&self) -> Result<(u64, u64), FileError> {
        let number = |name| self.conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed("reading the size"));
        let (pages, free, size) = (number("page_count")?, number("freelist_count")?, number("page_size")?);
        let mut wal = self.path.as_os_str().to_owned();
        wal.push("-wal");
        let wal = Path::new(&wal).metadata().map_or(0, |found| found.len());
        Ok((((pages - free) * size) as u64, (pages * size) as u64 + wal))
    }

    /// Moves all of the write-ahead file into the main file, and closes both.
    pub(super) fn close(self) -> Result<(), FileError> {
        let moved = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        moved.map_err(failed("moving the write-ahead file into the file"))
    }

    fn give_back(&self) -> rusqlite::Result<()> {
        let mut statement = self.conn.prepare("PRAGMA incremental_vacuum")?;
        let mut steps = statement.query([])?;
        for _ in 0..GIVEN_BACK {
            if steps.next()?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// Says how many buckets are new.
fn add_to(tx: &Transaction<'_>, id: i64, new: New) -> Result<u64, FileError> {
    let (series, number) = (id >> 24, file::piece_of(id));
    let mut piece = file::pieces(tx, series, (number, number))?.remove(&number).unwrap_or_default();
    let mut places = file::places(tx, series, (number, number))?.remove(&number).unwrap_or_default();
    let before = piece.buckets.len();
    piece.add(&new.samples);
    places.add(new.places);
    let write = || {
        let body = pack(&piece);
        let sql = "INSERT OR REPLACE INTO piece (id, buckets, crc, body) VALUES (?1, ?2, ?3, ?4)";
        tx.prepare(sql)?.execute(params![id, piece.buckets.len() as i64, file::checksum(id, &body), body])?;
        let body = pack_places(&places);
        let sql = "INSERT OR REPLACE INTO place (id, crc, body) VALUES (?1, ?2, ?3)";
        tx.prepare(sql)?.execute(params![id, file::checksum(id, &body), body])
    };
    write().map_err(failed("writing what was measured"))?;
    Ok((piece.buckets.len() - before) as u64)
}

fn put_series(tx: &Transaction<'_>, catalog: &Catalog, changed: &BTreeSet<i64>) -> rusqlite::Result<()> {
    let mut statement = tx.prepare("INSERT OR REPLACE INTO series (number, key, whole, crc) VALUES (?1, ?2, ?3, ?4)")?;
    for number in changed {
        let Some((series, whole)) = catalog.known(*number) else { continue };
        let (key, whole) = (series.key(), whole.map_or(0, Timestamp::nanos));
        statement.execute(params![number, key, whole, file::checksum_of(*number, &key, whole)])?;
    }
    Ok(())
}

fn put_rolled(tx: &Transaction<'_>, rolled: &Rolled) -> rusqlite::Result<()> {
    let sql = "UPDATE rolled SET position = ?1, last = ?2, crc = ?3, rows = ?4, buckets = ?5, edition = ?6, own = ?7";
    let (position, last) = (rolled.position.0 as i64, rolled.last.0 as i64);
    let (rows, buckets) = (rolled.rows as i64, rolled.buckets as i64);
    tx.prepare(sql)?.execute(params![position, last, rolled.crc, rows, buckets, rolled.edition, rolled.checksum()])?;
    Ok(())
}
