//! Looks into a journal that no qosd has open, and leaves no trace: nothing is locked, made or changed.

use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::{Connection, OpenFlags};

use super::store::read_counters;
use super::{JournalError, Position, failed};

/// What stands for itself in the path of an address (RFC 3986).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is known of a journal that was closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Which file it is.
    pub(crate) file: i64,
    /// The position of its first row.
    pub(crate) first: Position,
    /// The position of its last row.
    pub(crate) tip: Position,
    /// Rows that fell out of memory, ever.
    pub(crate) dropped_memory: u64,
    /// Rows dropped undelivered for size, ever.
    pub(crate) dropped_size: u64,
    /// Rows that went with their file, ever.
    pub(crate) dropped_gone: u64,
    /// Dead letters dropped, ever.
    pub(crate) dropped_dead: u64,
    /// Rows set aside as damaged, ever.
    pub(crate) damaged: u64,
    /// Dead letters of all outputs.
    pub(crate) dead: u64,
}

/// Looks. Only of a file without anything in its write-ahead file is this the whole.
pub(crate) fn rest(file: &Path) -> Result<Rest, JournalError> {
    let look = || {
        let conn = untouched(file)?;
        let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
        let counted = read_counters(&conn)?.unwrap_or_default();
        Ok(Rest {
            file: number("SELECT value FROM meta WHERE name = 'id'")?,
            first: Position(number("SELECT coalesce(min(position), 0) FROM row")? as u64),
            tip: Position(number("SELECT coalesce(max(position), 0) FROM row")? as u64),
            dropped_memory: counted.dropped_memory,
            dropped_size: counted.dropped_size,
            dropped_gone: counted.dropped_gone,
            dropped_dead: counted.dropped_dead,
            damaged: counted.damaged,
            dead: if conn.table_exists(None, "dead")? { number("SELECT count(*) FROM dead")? as u64 } else { 0 },
        })
    };
    look().map_err(failed("looking into the file"))
}

/// Opens a file that nobody has open, as one that cannot change: so no lock is taken, and no file is made beside it.
pub(crate) fn untouched(file: &Path) -> rusqlite::Result<Connection> {
    let path = file.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(file.to_owned()))?;
    let address = format!("file:{}?immutable=1", utf8_percent_encode(path, PLAIN));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(address, flags | OpenFlags::SQLITE_OPEN_NOFOLLOW)
}
