//! Whether a file is a journal that can be trusted: its header, its tables, its pages, and what it says about itself.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use rusqlite::{Connection, ErrorCode, ffi};

use super::super::store::Counters;
use super::super::{JournalError, Position, failed, schema};
use super::sectors;

/// Files up to this are looked through whenever they are opened: 16 MiB are a tenth of a second. Of larger ones, damage is found
/// when it is met.
const SMALL: u64 = 16 << 20;
/// No journal ever gets this far: it would take a million years.
const BEYOND: u64 = 1 << 60;
/// What `SQLite` keeps at the start of a file.
const HEADER: usize = 100;

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum Look {
    /// The tables, and all pages of a small file.
    Start,
    /// All pages, as there was a sign of damage.
    Whole,
}

/// Whether this error says that the file is damaged, or may be; everything else is the disk's, or another process's.
pub(in crate::journal) fn is_damage(error: &JournalError) -> bool {
    match error {
        JournalError::Sqlite { source: rusqlite::Error::SqliteFailure(error, _), .. } => match error.code {
            // A sector that can not be read; it is also told as corruption.
            ErrorCode::SystemIoFailure => error.extended_code == ffi::SQLITE_IOERR_CORRUPTFS,
            ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::ConstraintViolation
            | ErrorCode::TypeMismatch
            | ErrorCode::TooBig
            | ErrorCode::SchemaChanged
            | ErrorCode::Unknown => true,
            _ => false,
        },
        JournalError::Damaged { .. } | JournalError::Sqlite { .. } => true,
        _ => false,
    }
}

/// Whether this error says that there is no room.
pub(super) fn is_full(error: &JournalError) -> bool {
    match error {
        JournalError::Sqlite { source: rusqlite::Error::SqliteFailure(error, _), .. } => {
            error.code == ErrorCode::DiskFull || error.extended_code == ffi::SQLITE_IOERR_SHMSIZE
        }
        JournalError::Folder { source, .. } => matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded),
        _ => false,
    }
}

/// Looks at the first bytes of a file that is not new.
pub(super) fn header(path: &Path) -> Result<(), JournalError> {
    let unreadable = |source| JournalError::Folder { path: path.to_owned(), source };
    let mut bytes = Vec::with_capacity(HEADER);
    let file = File::open(path).map_err(unreadable)?;
    match file.take(HEADER as u64).read_to_end(&mut bytes) {
        Err(error) if sectors::is_unreadable(&error) => return Err(damaged(path, "its header can not be read")),
        read => read.map_err(unreadable)?,
    };
    if bytes.is_empty() || is_ours(&bytes) { Ok(()) } else { Err(damaged(path, "its header is not that of a journal")) }
}

/// Whether these are the first bytes of a journal: all that [`schema`] fixes, see <https://sqlite.org/fileformat2.html>.
fn is_ours(bytes: &[u8]) -> bool {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return false };
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    header.starts_with(b"SQLite format 3\0")
        && u64::from(u16::from_be_bytes([header[16], header[17]])) == schema::PAGE
        && matches!(header[18..20], [1, 1] | [2, 2])
        && header[20..24] == [0, 64, 32, 32]
        && matches!(number(44), 0 | 4)
        && number(52) > 0
        && matches!(number(56), 0 | 1)
        && number(64) == 1
}

/// Looks through an open file.
pub(in crate::journal) fn check(conn: &Connection, path: &Path, counters: Counters, tip: Position, look: Look) -> Result<(), JournalError> {
    let reading = failed("looking through the file");
    if !schema::is_as_made(conn).map_err(&reading)? {
        return Err(damaged(path, "its tables are not those of a journal"));
    }
    if look == Look::Start && schema::file_bytes(conn).map_err(&reading)? > SMALL {
        return Ok(());
    }
    let verdict: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(&reading)?;
    if verdict != "ok" {
        return Err(damaged(path, verdict));
    }
    let sql = "SELECT count(*), ifnull(min(position), 1), ifnull(max(position), 0) FROM row";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let (rows, first, last): (i64, i64, i64) = conn.query_row(sql, [], read).map_err(&reading)?;
    if first < 1 || last > tip.0 as i64 || tip.0 > BEYOND {
        return Err(damaged(path, format!("its rows are at {first} to {last}, and it says that the last is at {}", tip.0)));
    }
    if rows as u64 != counters.rows {
        return Err(damaged(path, format!("it has {rows} rows, and says that there are {}", counters.rows)));
    }
    Ok(())
}

/// Whether the b-tree of the rows is whole, for a reader that finds none where there should be some. Rows are counted first, page by
/// page: to look into each row of a large file takes long, and a page that lost rows has fewer.
pub(in crate::journal) fn check_rows(conn: &Connection, path: &Path) -> Result<(), JournalError> {
    let reading = failed("looking through the rows");
    let sql = "SELECT count(*) = (SELECT value FROM meta WHERE name = 'rows') FROM row";
    if conn.query_row(sql, [], |row| row.get::<_, Option<bool>>(0)).map_err(&reading)? == Some(true) {
        return Ok(());
    }
    let verdict: String = conn.query_row("PRAGMA quick_check('row')", [], |row| row.get(0)).map_err(reading)?;
    if verdict == "ok" { Ok(()) } else { Err(damaged(path, verdict)) }
}

/// Says what is damaged.
pub(in crate::journal) fn damaged(path: &Path, what: impl Into<String>) -> JournalError {
    JournalError::Damaged { path: path.to_owned(), what: what.into() }
}
