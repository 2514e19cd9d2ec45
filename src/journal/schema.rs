//! The file: how it is opened, its tables, and what makes them durable. The tables are told in prose in [`super`].

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::salvage::sound::damaged;
use super::{JournalError, failed, letters, receipts};

/// Version of the tables, kept in `user_version`.
const VERSION: i64 = 3;
/// The oldest version whose rows can be read as they are.
const READABLE: i64 = 1;

/// In the table `meta` of a file that was made of what read right in another: which, for a process that had that one open.
pub(super) const SALVAGED_FROM: &str = "salvaged_from";

/// The size of a page, in bytes.
pub(super) const PAGE: u64 = 4096;

/// How long a statement waits for another process that has the file locked: an export, or a curious shell.
const BUSY: Duration = Duration::from_millis(250);

const TABLES: &str = "
    CREATE TABLE series (id INTEGER PRIMARY KEY, key TEXT NOT NULL, crc INTEGER NOT NULL) STRICT;
    CREATE TABLE layout (id INTEGER PRIMARY KEY, text TEXT NOT NULL, crc INTEGER NOT NULL) STRICT;
    CREATE TABLE row (position INTEGER PRIMARY KEY AUTOINCREMENT, series INTEGER NOT NULL, time INTEGER NOT NULL,
        layout INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE damaged (position INTEGER PRIMARY KEY, series, time, layout, crc, body, found INTEGER NOT NULL);
    CREATE TABLE output (name TEXT PRIMARY KEY, acknowledged BLOB NOT NULL, crc INTEGER NOT NULL, removed INTEGER) STRICT, WITHOUT ROWID;
    CREATE TABLE schedule (series INTEGER NOT NULL, interval INTEGER NOT NULL, phase INTEGER NOT NULL, since INTEGER NOT NULL,
        until INTEGER) STRICT;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// Opens the file for writing, makes its tables if there are none, and brings those of an earlier version up to date.
pub(super) fn writer(path: &Path) -> Result<Connection, JournalError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut conn = open(path, flags)?;
    prepare(&mut conn).map_err(failed("preparing the file"))?;
    match version(&conn)? {
        VERSION => {}
        0 if !is_empty(&conn)? => return Err(damaged(path, "its tables have no version")),
        0 => change(&mut conn, &[TABLES, receipts::TABLE, letters::TABLE]).map_err(failed("making the tables"))?,
        1 => change(&mut conn, &[receipts::TABLE, letters::TABLE]).map_err(failed("bringing the tables up to date"))?,
        2 => change(&mut conn, &[letters::TABLE]).map_err(failed("bringing the tables up to date"))?,
        // What is later has other tables.
        _ if is_as_made(&conn).map_err(failed("reading the tables"))? => return Err(damaged(path, "its version was altered")),
        version => return Err(JournalError::Newer { path: path.to_owned(), version }),
    }
    Ok(conn)
}

/// Which file this is: a number that is drawn once, so that one which was taken away is told from one that came back.
pub(super) fn id(conn: &Connection) -> rusqlite::Result<i64> {
    let find = || conn.query_row("SELECT value FROM meta WHERE name = 'id'", [], |row| row.get(0)).optional();
    if let Some(id) = find()? {
        return Ok(id);
    }
    conn.execute("INSERT INTO meta (name, value) VALUES ('id', ?1)", [rand::random::<i64>()])?;
    find()?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// Opens the file for reading only, beside whoever writes it.
pub(super) fn reader(path: &Path) -> Result<Connection, JournalError> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match version(&conn)? {
        READABLE..=VERSION => Ok(conn),
        version => Err(JournalError::Newer { path: path.to_owned(), version }),
    }
}

/// Opens a file of which nothing is believed, for reading only.
pub(super) fn doubted(path: &Path) -> Result<Connection, JournalError> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// Opens a file that is thrown away afterwards.
pub(super) fn scratch(path: &Path) -> Result<Connection, JournalError> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.pragma_update(None, "synchronous", "OFF").map_err(failed("opening the file"))?;
    Ok(conn)
}

/// Has a page taken for the first of the table of rows. For a file that is thrown away.
pub(super) fn point_rows_at(conn: &Connection, page: u64) -> rusqlite::Result<()> {
    conn.pragma_update(None, "writable_schema", true)?;
    conn.execute("UPDATE sqlite_schema SET rootpage = ?1 WHERE name = 'row'", [page as i64])?;
    conn.pragma_update(None, "writable_schema", "RESET")
}

/// Makes ready for being filled in one transaction, after which the file is synced.
pub(super) fn fill_in_memory(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "synchronous", "OFF")?;
    conn.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))
}

/// The end of [`fill_in_memory`].
pub(super) fn filled(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
}

/// Whether the tables are those that [`writer`] makes.
pub(super) fn is_as_made(conn: &Connection) -> rusqlite::Result<bool> {
    let model = Connection::open_in_memory()?;
    [TABLES, receipts::TABLE, letters::TABLE].iter().try_for_each(|tables| model.execute_batch(tables))?;
    Ok(texts(conn)? == texts(&model)?)
}

fn texts(conn: &Connection) -> rusqlite::Result<Vec<[Option<String>; 4]>> {
    let mut statement = conn.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name")?;
    statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?.collect()
}

fn is_empty(conn: &Connection) -> Result<bool, JournalError> {
    conn.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0)).map_err(failed("reading the tables"))
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, JournalError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let conn = Connection::open_with_flags(path, flags).map_err(failed("opening the file"))?;
    conn.busy_timeout(BUSY).map_err(failed("opening the file"))?;
    Ok(conn)
}

fn version(conn: &Connection) -> Result<i64, JournalError> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed("reading the version"))
}

/// `auto_vacuum` has to come before the first table and before WAL, or it does nothing.
fn prepare(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN), None));
    }
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "cell_size_check", true)
}

fn change(conn: &mut Connection, tables: &[&str]) -> rusqlite::Result<()> {
    let tx = conn.transaction()?;
    tables.iter().try_for_each(|tables| tx.execute_batch(tables))?;
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()
}

/// Keeps the write-ahead file to an eighth of the cap, and to 4 MiB.
pub(super) fn limit_wal(conn: &Connection, max_size: u64) -> rusqlite::Result<()> {
    let pages = (max_size / 8 / PAGE).clamp(16, 1000);
    conn.pragma_update(None, "wal_autocheckpoint", pages as i64)?;
    conn.pragma_update(None, "journal_size_limit", (pages * PAGE) as i64)
}

/// Moves all of the write-ahead file into the main file, makes that durable, and empties the former. No: a reader is in the way.
pub(super) fn checkpoint(conn: &Connection) -> rusqlite::Result<bool> {
    let busy: i64 = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(busy == 0)
}

/// Gives free pages back to the file system. Each step of the statement frees one page.
pub(super) fn vacuum(conn: &Connection) -> rusqlite::Result<()> {
    let mut statement = conn.prepare("PRAGMA incremental_vacuum")?;
    let mut steps = statement.query([])?;
    while steps.next()?.is_some() {}
    Ok(())
}

/// Bytes of the main file once the write-ahead file is moved into it.
pub(super) fn file_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0))?;
    Ok(pages as u64 * PAGE)
}

/// After a failed sync nothing that the page cache says is believed: closing must not write it into the main file.
pub(super) fn close_untrusted(conn: Connection) {
    // If SQLite refuses the option, the checkpoint after re-opening still writes everything anew.
    let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    drop(conn);
}
