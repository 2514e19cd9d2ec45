//! What the journal's handles and its two threads share.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::folder::Folder;
use super::inbox::Inbox;
use super::missed::Previous;
use super::reader::Reader;
use super::{JournalError, Position, Settings, Stats};
use crate::clock::Clock;

/// What handles, writer and reader share.
pub(super) struct Shared {
    /// What waits for the next commit.
    pub(super) inbox: Mutex<Inbox>,
    /// Wakes the writer.
    pub(super) wake: Condvar,
    /// The last durable row.
    pub(super) tip: watch::Sender<Position>,
    /// Rounds of dead letters that were requeued.
    pub(super) requeues: watch::Sender<u64>,
    /// What is counted, as of the last round.
    pub(super) stats: Mutex<Stats>,
    /// The connection for reading; none until it is needed.
    pub(super) reader: Mutex<Option<Reader>>,
    /// Another, so that who reads much does not hold up delivery: see [`super::beside`].
    pub(super) beside: Mutex<Option<Reader>>,
    /// Which file the writer has open; none while it has none.
    pub(super) file: Mutex<Option<i64>>,
    /// What the process before left behind, once the file was read.
    pub(super) previous: Mutex<Option<Arc<Previous>>>,
    /// Outputs may be unknown only because what was known of them was damaged.
    pub(super) outputs_lost: AtomicBool,
    /// Whether the file was read.
    pub(super) readable: watch::Sender<bool>,
    /// The clocks.
    pub(super) clock: Clock,
    /// The folder, ours while this lives, as long as it is there.
    pub(super) folder: Folder,
}

/// A value behind a lock. A panic elsewhere leaves it whole: every change to it is a single step.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Nothing was looked at yet.
    pub(super) fn new(dir: &Path, settings: Settings, clock: Clock, ring: usize) -> Self {
        Self {
            inbox: Mutex::new(Inbox::new(settings, ring)),
            wake: Condvar::new(),
            tip: watch::Sender::new(Position::default()),
            requeues: watch::Sender::new(0),
            stats: Mutex::default(),
            reader: Mutex::new(None),
            beside: Mutex::new(None),
            file: Mutex::new(None),
            previous: Mutex::default(),
            outputs_lost: AtomicBool::new(false),
            readable: watch::Sender::new(false),
            clock,
            folder: Folder::new(dir),
        }
    }

    /// Why nothing can be asked or promised now.
    pub(super) fn failing(&self) -> JournalError {
        JournalError::Failing(held(&self.stats).failing.clone().unwrap_or_else(|| JournalError::Gone.to_string()))
    }

    /// Runs a question with the reader, which is opened if need be and closed after an error.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&mut Reader) -> Result<T, JournalError>) -> Result<T, JournalError> {
        let mut slot = held(&self.reader);
        let mut reader = match slot.take() {
            Some(reader) => reader,
            None => Reader::open(&self.folder.file().ok_or_else(|| self.failing())?)?,
        };
        let answer = question(&mut reader);
        if answer.is_ok() {
            *slot = Some(reader);
        }
        answer
    }
}
