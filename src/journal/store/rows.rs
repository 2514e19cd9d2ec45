//! Rows on their way into the table, and those that are set aside.

use rusqlite::{Connection, Transaction, params};

use crate::clock::Timestamp;
use crate::journal::Position;
use crate::journal::dictionary::Dictionary;
use crate::journal::encoding::{self, Layout};
use crate::journal::receipt::{Fate, Waiting};
use crate::journal::receipts::Receipts;

/// Damaged rows that are kept to be looked at.
const KEEP_DAMAGED: i64 = 1_000;

/// Rows whose receipt is known are left out. Positions are given here, not by the database, so that a commit that is
/// repeated uses the same.
pub(super) fn insert(
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

/// Moves rows that are damaged aside. Says how many.
pub(super) fn set_aside<'a>(tx: &Transaction<'_>, positions: impl Iterator<Item = &'a u64>, now: Timestamp) -> rusqlite::Result<u64> {
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
pub(in crate::journal) fn bound_damaged(conn: &Connection) -> rusqlite::Result<()> {
    let keep = "DELETE FROM damaged WHERE position NOT IN (SELECT position FROM damaged ORDER BY position DESC LIMIT ?1)";
    conn.execute(keep, [KEEP_DAMAGED]).map(drop)
}
