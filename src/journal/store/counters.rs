//! What the file says about itself, in its table `meta`.

use rusqlite::{Connection, OptionalExtension, params};

/// What the file says about itself, in its table `meta`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::journal) struct Counters {
    /// Rows in the file.
    pub(in crate::journal) rows: u64,
    /// Rows that fell out of memory, ever.
    pub(in crate::journal) dropped_memory: u64,
    /// Rows dropped undelivered for size, ever.
    pub(in crate::journal) dropped_size: u64,
    /// Rows set aside, ever.
    pub(in crate::journal) damaged: u64,
    /// Receipts in the file.
    pub(in crate::journal) receipts: u64,
    /// Rows that were in a file that was taken away, ever.
    pub(in crate::journal) dropped_gone: u64,
    /// Dead letters dropped because there were too many, or with an output that was forgotten, ever.
    pub(in crate::journal) dropped_dead: u64,
    /// Rounds of dead letters that were requeued, ever.
    pub(in crate::journal) requeues: u64,
}

impl Counters {
    fn sum(&self) -> i64 {
        let Self { rows, dropped_memory, dropped_size, damaged, receipts, dropped_gone, dropped_dead, requeues } = *self;
        let all = [rows, dropped_memory, dropped_size, damaged, receipts, dropped_gone, dropped_dead, requeues];
        let sum = all.iter().fold(0, |sum, counter| crc32c::crc32c_append(sum, &counter.to_le_bytes()));
        i64::from(sum)
    }
}

/// What the file counts; none if it was altered. A file of before has no sum over it.
pub(in crate::journal) fn read_counters(conn: &Connection) -> rusqlite::Result<Option<Counters>> {
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

/// Writes down what is counted, with a sum over it.
pub(in crate::journal) fn keep_counters(tx: &Connection, counters: Counters) -> rusqlite::Result<()> {
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
pub(in crate::journal) fn keep_meta(tx: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    tx.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)", params![name, value])?;
    Ok(())
}

/// An entry of the table `meta`.
pub(in crate::journal) fn meta(conn: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    conn.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}
