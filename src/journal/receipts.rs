//! The table of receipts: which results of others are stored already. Synchronous; part of the store's transactions.
//!
//! A receipt has the position of its row, so whatever takes rows of a failed commit out takes their receipts with them. It
//! has no checksum: one that is altered means that a result which is sent again is stored again.

use rusqlite::{Connection, OptionalExtension, Statement, Transaction, params};

use super::Position;
use super::receipt::Receipt;
use crate::clock::Timestamp;

/// The table, since version 2 of the file.
pub(super) const TABLE: &str = "
    CREATE TABLE receipt (position INTEGER PRIMARY KEY, slot INTEGER NOT NULL, what INTEGER NOT NULL, seen INTEGER NOT NULL) STRICT;
    CREATE UNIQUE INDEX receipt_once ON receipt (slot, what);
";

/// Writes receipts.
pub(super) struct Receipts<'a>(Statement<'a>);

impl<'a> Receipts<'a> {
    /// Within a transaction.
    pub(super) fn new(tx: &'a Transaction<'_>) -> rusqlite::Result<Self> {
        let sql = "INSERT INTO receipt (position, slot, what, seen) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (slot, what) DO NOTHING";
        tx.prepare(sql).map(Self)
    }

    /// Keeps the receipt of the row that will have this position, unless there is one like it.
    pub(super) fn keep(&mut self, receipt: Receipt, position: u64, now: Timestamp) -> rusqlite::Result<bool> {
        let parameters = params![position as i64, receipt.slot.nanos(), receipt.what.cast_signed(), now.nanos()];
        Ok(self.0.execute(parameters)? > 0)
    }
}

/// Takes those above a position out.
pub(super) fn take_out_above(tx: &Transaction<'_>, tip: Position) -> rusqlite::Result<u64> {
    Ok(tx.execute("DELETE FROM receipt WHERE position > ?1", [tip.0 as i64])? as u64)
}

/// When the oldest came.
pub(super) fn oldest(conn: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let seen = conn.query_row("SELECT seen FROM receipt ORDER BY position LIMIT 1", [], |row| row.get(0));
    Ok(seen.optional()?.map(Timestamp::from_nanos))
}

/// Forgets those that came before a time, among the oldest `count`.
pub(super) fn forget(tx: &Transaction<'_>, count: u64, before: Timestamp) -> rusqlite::Result<u64> {
    let sql = "DELETE FROM receipt WHERE seen < ?2 AND position <=
        (SELECT max(position) FROM (SELECT position FROM receipt ORDER BY position LIMIT ?1))";
    Ok(tx.execute(sql, params![count as i64, before.nanos()])? as u64)
}
