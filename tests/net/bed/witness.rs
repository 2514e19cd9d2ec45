//! Looks at a journal from outside of the process that writes it, and remembers what it saw: those rows are durable.
//!
//! Every look opens the file and closes it again, so that whoever opens it next finds it as the writer left it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// A row as it lies in the file: its series, its time, its checksum.
type Seen = (i64, i64, i64);

/// What was seen, by position.
pub(crate) struct Witness {
    file: PathBuf,
    seen: BTreeMap<i64, Seen>,
}

impl Witness {
    /// Of the journal in this file, which need not be there yet.
    pub(crate) fn of(file: PathBuf) -> Self {
        Self { file, seen: BTreeMap::new() }
    }

    /// Looks what was added.
    pub(crate) fn look(&mut self) {
        // Not there yet, or being made: then nothing new was seen.
        if let Ok(rows) = self.rows(self.last()) {
            self.seen.extend(rows);
        }
    }

    /// The last position that was seen.
    pub(crate) fn last(&self) -> i64 {
        self.seen.last_key_value().map_or(0, |(position, _)| *position)
    }

    /// How many rows were seen.
    pub(crate) fn count(&self) -> usize {
        self.seen.len()
    }

    /// Whether everything that was ever seen is still there, as it was.
    pub(crate) fn confirm(&self) -> Result<(), String> {
        let now = self.rows(0).map_err(|error| format!("the journal cannot be read: {error}"))?;
        let lost: Vec<_> = self.seen.iter().filter(|(position, row)| now.get(position) != Some(row)).collect();
        let Some((position, row)) = lost.first() else { return Ok(()) };
        Err(format!("{} of {} rows are lost or altered, the first at {position}: {row:?}", lost.len(), self.seen.len()))
    }

    fn rows(&self, after: i64) -> rusqlite::Result<BTreeMap<i64, Seen>> {
        let journal = Connection::open_with_flags(&self.file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        journal.busy_timeout(Duration::from_secs(1))?;
        let mut statement = journal.prepare("SELECT position, series, time, crc FROM row WHERE position > ?1")?;
        let rows = statement.query_map([after], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?))))?;
        rows.collect()
    }
}
