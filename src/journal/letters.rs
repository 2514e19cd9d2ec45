//! The table of dead letters. Synchronous; part of the store's transactions.
//!
//! A letter is a copy of its row, so that it stays when retention takes the row, with the same checksum: nothing altered leaves
//! here either.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, params};

use super::Position;
use super::letter::{DeadCount, Letters, Refused, Settled};

/// The table, since version 3 of the file.
pub(super) const TABLE: &str = "
    CREATE TABLE dead (id INTEGER PRIMARY KEY, output TEXT NOT NULL, position INTEGER NOT NULL, reason TEXT NOT NULL,
        refused INTEGER NOT NULL, requeued INTEGER, series INTEGER NOT NULL, time INTEGER NOT NULL, layout INTEGER NOT NULL,
        crc INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE UNIQUE INDEX dead_once ON dead (output, position);
    CREATE INDEX dead_round ON dead (output, requeued, position);
";

/// The most characters of a reason that are kept.
const LONGEST_REASON: usize = 400;

/// How many letters each output has.
pub(super) type Counts = BTreeMap<String, DeadCount>;

/// Counts the letters.
pub(super) fn count(conn: &Connection) -> rusqlite::Result<Counts> {
    let mut statement = conn.prepare("SELECT output, count(*), count(requeued) FROM dead GROUP BY output")?;
    let counts = statement.query_map([], |row| {
        let (letters, requeued): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok((row.get(0)?, DeadCount { letters: letters as u64, requeued: requeued as u64 }))
    })?;
    counts.collect()
}

/// Writes what waits, except for the wishes. A row that is gone meanwhile is counted as dropped already, and leaves no letter.
pub(super) fn write(tx: &Transaction<'_>, letters: &Letters) -> rusqlite::Result<()> {
    let mut bury = tx.prepare(
        "INSERT INTO dead (output, position, reason, refused, series, time, layout, crc, body)
            SELECT ?1, position, ?3, ?4, series, time, layout, crc, body FROM row WHERE position = ?2
            ON CONFLICT (output, position) DO UPDATE SET reason = excluded.reason, refused = excluded.refused",
    )?;
    for ((output, position), Refused { reason, at }) in &letters.refused {
        bury.execute(params![output, position.0 as i64, safe(reason), at.nanos()])?;
    }
    letters.settled.iter().try_for_each(|((output, round), settled)| settle(tx, output, *round, settled))
}

fn settle(tx: &Transaction<'_>, output: &str, round: i64, settled: &Settled) -> rusqlite::Result<()> {
    let mut again =
        tx.prepare("UPDATE dead SET requeued = NULL, reason = ?4, refused = ?5 WHERE output = ?1 AND position = ?2 AND requeued = ?3")?;
    for (position, Refused { reason, at }) in &settled.refused {
        again.execute(params![output, position.0 as i64, round, safe(reason), at.nanos()])?;
    }
    let mut delivered = tx.prepare("DELETE FROM dead WHERE output = ?1 AND requeued = ?2 AND position BETWEEN ?3 AND ?4")?;
    let floor = (Position(0), settled.acknowledged.floor());
    for (from, to) in std::iter::once(&floor).chain(settled.acknowledged.ranges()) {
        delivered.execute(params![output, round, from.0 as i64, to.0 as i64])?;
    }
    Ok(())
}

/// Makes the letters of an output, or of all, a round. Says how many they are.
pub(super) fn requeue(conn: &Connection, output: Option<&str>, round: i64) -> rusqlite::Result<u64> {
    let sql = "UPDATE dead SET requeued = ?1 WHERE requeued IS NULL AND (?2 IS NULL OR output = ?2)";
    Ok(conn.execute(sql, params![round, output])? as u64)
}

/// Forgets the letters of an output that is forgotten. Says how many.
pub(super) fn forget(tx: &Transaction<'_>, output: &str) -> rusqlite::Result<u64> {
    Ok(tx.execute("DELETE FROM dead WHERE output = ?1", [output])? as u64)
}

/// Drops the oldest letters, those that are on their way last.
pub(super) fn drop_oldest(tx: &Transaction<'_>, count: u64) -> rusqlite::Result<u64> {
    let sql = "DELETE FROM dead WHERE id IN (SELECT id FROM dead ORDER BY requeued IS NOT NULL, id LIMIT ?1)";
    Ok(tx.execute(sql, [count as i64])? as u64)
}

/// One short line: whatever a server said, it breaks neither a log nor a table.
fn safe(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_REASON).collect()
}
