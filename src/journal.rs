//! The journal: what was measured is durable here first, and stays until every output has it.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, Timestamp};
use crate::measurement::{Row, Series};
use crate::probe::schedule::Schedule;
use acknowledged::Acknowledged;

pub mod acknowledged;

/// Where a row stands in the journal: 1 for the first ever appended; no two rows share one, none is used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u64);

/// A row read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Where it stands.
    pub position: Position,
    /// What was appended.
    pub row: Row,
}

/// `[journal]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The longest a finished row may stay undurable.
    pub flush: Duration,
    /// Cap of the file with its write-ahead file, in bytes.
    pub max_size: u64,
    /// Delivered rows older than this go.
    pub max_age: Duration,
}

/// Who runs the store: an own thread, or the caller (tests in virtual time, where nobody may wait for a thread).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A thread of the journal's own, with group commit.
    Threaded,
    /// The calling thread; every append commits at once.
    Inline,
}

/// Why the journal did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it open.
    #[error("{0} is in use by another qosd")]
    InUse(PathBuf),
}

/// What the journal counts.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Stats {
    /// Rows in the file.
    pub rows: u64,
    /// Bytes of the file with its write-ahead file.
    pub bytes: u64,
    /// Time of the oldest row.
    pub oldest: Option<Timestamp>,
    /// Rows in memory that are not durable yet.
    pub waiting: u64,
    /// Rows lost because memory was full while the disk did not take them.
    pub dropped_memory: u64,
    /// Rows dropped undelivered because the file reached its cap.
    pub dropped_size: u64,
    /// Rows set aside because their checksum did not match.
    pub damaged: u64,
    /// Why the last commit failed, while it does.
    pub failing: Option<String>,
}

/// A handle on the journal; clones share it. It outlives every actor.
#[derive(Clone)]
pub struct Journal(std::sync::Arc<std::sync::Mutex<Kept>>, std::sync::Arc<watch::Sender<Position>>);

#[derive(Default)]
struct Kept {
    rows: Vec<Row>,
    acknowledged: std::collections::BTreeMap<String, Acknowledged>,
}

/// What is to be known of the time in which no qosd ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Missed {
    /// For each series that was scheduled: the slots without a row, oldest first, of at most the last hour and 100 000 in all.
    pub slots: Vec<(Series, Timestamp)>,
    /// What is older or over the limit: from, to, how many slots.
    pub gap: Option<(Timestamp, Timestamp, u64)>,
}

#[expect(
    unused_variables,
    clippy::missing_errors_doc,
    clippy::unused_async,
    reason = "signatures to build against; the bodies come with the journal"
)]
impl Journal {
    /// Opens or makes the journal `dir/journal.sqlite3`.
    pub fn open(dir: &std::path::Path, settings: Settings, clock: Clock, mode: Mode) -> Result<Self, JournalError> {
        Ok(Self(std::sync::Arc::default(), std::sync::Arc::new(watch::channel(Position(0)).0)))
    }

    /// Takes new settings from a reload.
    pub fn configure(&self, settings: Settings) {
        todo!()
    }

    /// Takes rows. Never waits and never fails: they are in memory now, and durable at most `flush` later. While the disk
    /// takes nothing, a bounded ring holds them; what falls out of it is counted.
    pub fn append(&self, rows: Vec<Row>) {
        let mut kept = self.0.lock().expect("a stand-in");
        kept.rows.extend(rows);
        self.1.send_replace(Position(kept.rows.len() as u64));
    }

    /// The position of the last durable row, as it moves.
    pub fn tip(&self) -> watch::Receiver<Position> {
        self.1.subscribe()
    }

    /// At most `limit` durable rows after `after`, up to and with `upto`, in order of position.
    pub async fn read(&self, after: Position, upto: Position, limit: usize) -> Result<Vec<Stored>, JournalError> {
        let kept = self.0.lock().expect("a stand-in");
        let stored = |position: u64| Stored { position: Position(position), row: kept.rows[position as usize - 1].clone() };
        Ok((after.0 + 1..=upto.0).take(limit).map(stored).collect())
    }

    /// What an output has acknowledged; a new one starts at the tip, or `replay` back.
    pub async fn output(&self, name: &str, replay: Option<Duration>) -> Result<Acknowledged, JournalError> {
        Ok(self.0.lock().expect("a stand-in").acknowledged.entry(name.to_owned()).or_default().clone())
    }

    /// The outputs whose acknowledgement a row needs before it counts as delivered. One that is removed keeps its position for 7 days.
    pub fn outputs(&self, names: Vec<String>) {}

    /// Keeps what an output has acknowledged: durable with the next commit, at most `flush` later. If it is lost, the rows
    /// are sent again, which is harmless.
    pub fn acknowledge(&self, output: &str, acknowledged: &Acknowledged) {
        self.0.lock().expect("a stand-in").acknowledged.insert(output.to_owned(), acknowledged.clone());
    }

    /// What is scheduled from now on, so that slots missed while dead can be told. Replaces what was said before.
    pub fn scheduled(&self, series: Vec<(Series, Schedule)>) {
        todo!()
    }

    /// The slots that the process before this one scheduled, or would have, without a row, from its last schedule until now. Nothing after a clean stop.
    pub async fn missed(&self) -> Result<Missed, JournalError> {
        todo!()
    }

    /// Waits until everything appended and acknowledged before is durable.
    pub async fn flush(&self) -> Result<(), JournalError> {
        todo!()
    }

    /// As [`Journal::flush`], and notes that this was a clean stop: nothing was missed from here on.
    pub async fn close(&self) -> Result<(), JournalError> {
        todo!()
    }

    /// What the journal counts, as of the last commit.
    pub fn stats(&self) -> Stats {
        todo!()
    }
}
