//! The file of the history, for who writes it and for who reads it: `history.sqlite3` beside the journal.
//!
//! Its tables, of version 2; of any other, the file is made anew:
//!
//! - `series`: the series as which rows are shown, each with its number, and when the last row was for which `Ping` is left out of it,
//!   in nanoseconds, or 0: see `catalog`.
//! - `piece`: two hours of a series. `id` is the number of the series times 2^24, and the number of the piece since the epoch:
//!   so all pieces of a series lie one behind the other. `body` as in `packing`.
//! - `place`: where the rows of a piece stand in the journal, under the same `id`.
//! - `rolled`: one row that says up to where the rows of which journal are in all this. It is in the transaction of their pieces,
//!   so each row counts once, whenever the process is killed.
//!
//! Bodies, keys and `rolled` have a CRC32C. `synchronous` is `NORMAL`: a power cut may cost the last transactions, whose rows are then
//! counted again from the journal, but leaves the file whole.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::catalog::Catalog;
use super::packing::{unpack, unpack_places};
use super::piece::{Piece, Places};
use crate::clock::Timestamp;
use crate::journal::{JournalError, Position, untouched};
use crate::measurement::Series;

/// The file in the journal's folder.
pub(crate) const FILE: &str = "history.sqlite3";
/// Version of the tables, kept in `user_version`.
const VERSION: i64 = 2;
/// The size of a page. A batch writes one of every series, or two, so that larger ones would be written for nothing; a piece of
/// rows of ping fits into one.
const PAGE: i64 = 4_096;
/// Pages of the write-ahead file, but for what a single batch takes.
const WAL: i64 = 512;
/// How long a statement waits for another that has the file locked.
const BUSY: Duration = Duration::from_millis(250);
/// Bits of the number of a piece.
const BITS: u32 = 24;

const TABLES: &str = "
    CREATE TABLE series (number INTEGER PRIMARY KEY, key TEXT NOT NULL, whole INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;
    CREATE TABLE piece (id INTEGER PRIMARY KEY, buckets INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE place (id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE rolled (one INTEGER PRIMARY KEY CHECK (one = 1), journal INTEGER NOT NULL, position INTEGER NOT NULL,
        last INTEGER NOT NULL, crc INTEGER NOT NULL, rows INTEGER NOT NULL, buckets INTEGER NOT NULL, edition INTEGER NOT NULL,
        own INTEGER NOT NULL) STRICT;
";

/// Why the file did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// The journal has no rows to tell now.
    #[error("the journal cannot be read")]
    Journal(#[from] JournalError),
    /// `SQLite` could not do something.
    #[error("{doing} failed")]
    Sqlite {
        /// What.
        doing: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// What is in the file is not what was written.
    #[error("the file of the history is damaged: {0}")]
    Damaged(&'static str),
    /// The file can not be made.
    #[error("{path} can not be made")]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file can not be taken away.
    #[error("{path} can not be removed")]
    Remove {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What room there is belongs to the journal.
    #[error("only {0} bytes are free, they are left to the journal")]
    NoRoom(u64),
    /// The thread panicked at this; the panic itself is in the log.
    #[error("the history's thread panicked")]
    Panicked,
}

impl FileError {
    /// Whether the file is to be thrown away: everything but what the disk, or the journal, may do better the next time.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Sqlite { source: rusqlite::Error::SqliteFailure(error, _), .. } => !matches!(
                error.code,
                ErrorCode::DiskFull
                    | ErrorCode::ReadOnly
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::CannotOpen
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::PermissionDenied
                    | ErrorCode::OutOfMemory
                    | ErrorCode::FileLockingProtocolFailed
            ),
            Self::Damaged(_) | Self::Panicked | Self::Sqlite { .. } => true,
            Self::Journal(_) | Self::Make { .. } | Self::Remove { .. } | Self::NoRoom(_) => false,
        }
    }
}

/// Says what `SQLite` could not do.
pub(super) fn failed(doing: &'static str) -> impl Fn(rusqlite::Error) -> FileError {
    move |source| FileError::Sqlite { doing, source }
}

/// What is in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rolled {
    /// Of which journal.
    pub(super) journal: i64,
    /// All rows up to here.
    pub(super) position: Position,
    /// The last of them, which says whether positions are still those of the same rows.
    pub(super) last: Position,
    /// The checksum of that.
    pub(super) crc: u32,
    /// How many rows.
    pub(super) rows: u64,
    /// In how many buckets.
    pub(super) buckets: u64,
    /// Changes with the series.
    pub(super) edition: i64,
}

impl Rolled {
    /// Its own checksum.
    pub(super) fn checksum(&self) -> u32 {
        let Self { journal, position, last, crc, rows, buckets, edition } = *self;
        let numbers = [journal, position.0 as i64, last.0 as i64, i64::from(crc), rows as i64, buckets as i64, edition];
        numbers.iter().fold(0, |crc, number| crc32c::crc32c_append(crc, &number.to_le_bytes()))
    }
}

/// Opens the file for writing, or makes it: for the rows of this journal.
pub(super) fn writer(path: &Path, journal: i64) -> Result<Connection, FileError> {
    // For nobody else to read, whatever the umask says; SQLite gives the files beside it the same mode. What is there already
    // is not opened here, as closing it would take away the locks of who reads it.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => return Err(FileError::Make { path: path.to_owned(), source }),
        _ => {}
    }
    let mut conn = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed("opening the file"))?;
    let version = version(&conn)?;
    prepare(&conn, version == 0).map_err(failed("preparing the file"))?;
    match version {
        VERSION => {}
        0 => make(&mut conn, journal).map_err(failed("making the tables"))?,
        _ => return Err(FileError::Damaged("its tables are of another version")),
    }
    Ok(conn)
}

/// Opens the file for reading only.
pub(super) fn reader(path: &Path) -> Result<Connection, FileError> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed("opening the file"))?;
    match version(&conn)? {
        VERSION => Ok(conn),
        _ => Err(FileError::Damaged("its tables are of another version")),
    }
}

/// What is in a file that nobody has open, without a trace of having looked.
pub(super) fn at_rest(path: &Path) -> Result<Rolled, FileError> {
    let conn = untouched(path).map_err(failed("opening the file"))?;
    match version(&conn)? {
        VERSION => rolled(&conn),
        _ => Err(FileError::Damaged("its tables are of another version")),
    }
}

/// What makes a file the same file; none if there is none.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    path.symlink_metadata().ok().map(|found| (found.dev(), found.ino()))
}

fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW)?;
    conn.busy_timeout(BUSY)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    Ok(conn)
}

fn version(conn: &Connection) -> Result<i64, FileError> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed("reading the version"))
}

/// The size of a page and `auto_vacuum` have to come before the first table and before WAL.
fn prepare(conn: &Connection, is_new: bool) -> rusqlite::Result<()> {
    if is_new {
        conn.pragma_update(None, "page_size", PAGE)?;
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "NORMAL")?;
    conn.pragma_update(None, "wal_autocheckpoint", WAL)?;
    conn.pragma_update(None, "journal_size_limit", WAL * PAGE)
}

fn make(conn: &mut Connection, journal: i64) -> rusqlite::Result<()> {
    let tx = conn.transaction()?;
    tx.execute_batch(TABLES)?;
    // Another file, even one with the same number on disk, has other editions.
    let rolled = Rolled { journal, edition: i64::from(rand::random::<u32>()) << 24, ..Rolled::default() };
    let sql = "INSERT INTO rolled VALUES (1, ?1, 0, 0, 0, 0, 0, ?2, ?3)";
    tx.execute(sql, [journal, rolled.edition, i64::from(rolled.checksum())])?;
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()
}

/// Where a piece of a series is.
pub(super) fn id(series: i64, piece: i64) -> i64 {
    series << BITS | piece.clamp(0, (1 << BITS) - 1)
}

/// Which piece that is.
pub(super) fn piece_of(id: i64) -> i64 {
    id & ((1 << BITS) - 1)
}

/// The checksum of a body.
pub(super) fn checksum(id: i64, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&id.to_le_bytes()), body)
}

/// The checksum of a series.
pub(super) fn checksum_of(number: i64, key: &str, whole: i64) -> u32 {
    crc32c::crc32c_append(checksum(number, key.as_bytes()), &whole.to_le_bytes())
}

/// Up to where, and how much.
pub(super) fn rolled(conn: &Connection) -> Result<Rolled, FileError> {
    let sql = "SELECT journal, position, last, crc, rows, buckets, edition, own FROM rolled";
    let read = |row: &rusqlite::Row<'_>| {
        let number = |index| row.get::<_, i64>(index);
        let rolled = Rolled {
            journal: number(0)?,
            position: Position(number(1)? as u64),
            last: Position(number(2)? as u64),
            crc: number(3)? as u32,
            rows: number(4)? as u64,
            buckets: number(5)? as u64,
            edition: number(6)?,
        };
        Ok((rolled, number(7)?))
    };
    let (rolled, own) = conn.query_row(sql, [], read).map_err(failed("reading up to where it goes"))?;
    if own == i64::from(rolled.checksum()) { Ok(rolled) } else { Err(FileError::Damaged("up to where it goes was altered")) }
}

/// The series.
pub(super) fn catalog(conn: &Connection) -> Result<Catalog, FileError> {
    let mut catalog = Catalog::default();
    let reading = failed("reading the series");
    let mut statement = conn.prepare("SELECT number, key, whole, crc FROM series ORDER BY number").map_err(&reading)?;
    let series = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).map_err(&reading)?;
    for known in series {
        let (number, key, whole, crc): (i64, String, i64, i64) = known.map_err(&reading)?;
        if i64::from(checksum_of(number, &key, whole)) != crc {
            return Err(FileError::Damaged("a series was altered"));
        }
        let series = Series::from_key(&key).map_err(|_| FileError::Damaged("a series is none"))?;
        catalog.know(number, series, (whole > 0).then(|| Timestamp::from_nanos(whole)));
    }
    Ok(catalog)
}

/// The pieces of a series from one to another.
pub(super) fn pieces(conn: &Connection, series: i64, range: (i64, i64)) -> Result<BTreeMap<i64, Piece>, FileError> {
    let sql = "SELECT id, crc, body FROM piece WHERE id BETWEEN ?1 AND ?2 ORDER BY id";
    bodies(conn, sql, series, range, unpack)
}

/// Where the rows of pieces stand.
pub(super) fn places(conn: &Connection, series: i64, range: (i64, i64)) -> Result<BTreeMap<i64, Places>, FileError> {
    let sql = "SELECT id, crc, body FROM place WHERE id BETWEEN ?1 AND ?2 ORDER BY id";
    bodies(conn, sql, series, range, unpack_places)
}

fn bodies<T>(
    conn: &Connection,
    sql: &str,
    series: i64,
    (first, last): (i64, i64),
    unpack: fn(&[u8]) -> Option<T>,
) -> Result<BTreeMap<i64, T>, FileError> {
    let reading = failed("reading what was measured");
    let mut statement = conn.prepare(sql).map_err(&reading)?;
    let mut rows = statement.query(params![id(series, first), id(series, last)]).map_err(&reading)?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next().map_err(&reading)? {
        let id: i64 = row.get(0).map_err(&reading)?;
        let (crc, body) = (row.get_ref(1).map_err(&reading)?, row.get_ref(2).map_err(&reading)?);
        let body = whole(id, crc, body).and_then(unpack).ok_or(FileError::Damaged("what was measured was altered"))?;
        found.insert(piece_of(id), body);
    }
    Ok(found)
}

fn whole<'a>(id: i64, crc: ValueRef<'_>, body: ValueRef<'a>) -> Option<&'a [u8]> {
    let body = body.as_blob().ok()?;
    (crc.as_i64() == Ok(i64::from(checksum(id, body)))).then_some(body)
}
