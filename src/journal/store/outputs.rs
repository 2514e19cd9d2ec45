//! What the outputs have acknowledged, each entry with a sum over it.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, params};

use crate::clock::Timestamp;
use crate::journal::acknowledged::Acknowledged;
use crate::journal::inbox::Output;
use crate::journal::letters;

/// What the outputs have. One whose bytes were altered has nothing.
pub(in crate::journal) fn read_outputs(conn: &Connection) -> rusqlite::Result<BTreeMap<String, Output>> {
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
pub(in crate::journal) fn any_altered(conn: &Connection) -> rusqlite::Result<bool> {
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

/// Says how many dead letters went with outputs that are forgotten.
pub(super) fn keep(tx: &Transaction<'_>, outputs: &BTreeMap<String, Option<Output>>) -> rusqlite::Result<u64> {
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
