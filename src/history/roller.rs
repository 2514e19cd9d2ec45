//! Puts the journal's rows into the history's file, on a thread of its own and of low priority.
//!
//! It looks every few seconds how far the journal is, and adds what is new in large batches: what is not in the file yet, readers
//! take from the journal. Whatever is wrong with the file, it is thrown away and made anew; what the disk refuses is tried again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Shared;
use super::catalog::is_shown;
use super::file::{FILE, FileError};
use super::piece::piece_of;
use super::store::{Store, mark, remove};
use crate::clock::Clock;
use crate::journal::{Beside, Position, Steady};
use crate::settings::explain;

/// How often it is looked how far the journal is.
const LOOK: Duration = Duration::from_secs(2);
/// Rows that are added at once.
pub(super) const BATCH: u64 = 4_000;
/// Fewer rows wait this long: each batch writes a page of every series.
const WAIT: Duration = Duration::from_mins(15);
/// How often age is looked at.
const AGE: Duration = Duration::from_mins(10);
/// The first and the longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The longest pause after a batch, in which others have the processor and the disk.
const PAUSE: Duration = Duration::from_millis(100);
/// The last bytes of a file system are the journal's.
const ROOM: u64 = 16 << 20;
/// The share of the journal's cap that the file may have: an eighth.
const SHARE: u64 = 8;
/// Added to the thread's nice value.
const NICE: i32 = 10;

/// What the thread has.
pub(super) struct Roller {
    shared: Arc<Shared>,
    beside: Beside,
    clock: Clock,
    steady: Steady,
    store: Option<Store>,
    added: Option<Duration>,
    aged: Option<Duration>,
    failing: Option<Duration>,
}

impl Roller {
    /// Nothing was looked at yet.
    pub(super) fn new(shared: Arc<Shared>, beside: Beside, clock: Clock) -> Self {
        let steady = Steady::new(clock.now());
        Self { shared, beside, clock, steady, store: None, added: None, aged: None, failing: None }
    }

    /// Runs until it is stopped.
    pub(super) fn run(mut self) {
        // Not allowed under the unit, where it keeps the priority of the others; there are the pauses.
        let _ = rustix::process::nice(NICE);
        loop {
            let wait = self.turn();
            if self.shared.stopped_within(wait) {
                return;
            }
        }
    }

    /// One batch, if there is one. Says how long to wait.
    pub(super) fn turn(&mut self) -> Duration {
        let begun = self.clock.mono();
        match catch_unwind(AssertUnwindSafe(|| self.round())).unwrap_or(Err(FileError::Panicked)) {
            Ok(more) => {
                if self.failing.take().is_some() {
                    tracing::info!("the history is kept again");
                }
                self.shared.change(|status| status.failing = None);
                if more { self.clock.mono().saturating_sub(begun).min(PAUSE) } else { LOOK }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &FileError) -> Duration {
        let reason = explain(error);
        if self.failing.is_none() {
            tracing::warn!(error = reason, "the history is not kept now, long charts lack what is new");
        }
        self.store = None;
        if error.is_damage() {
            self.shared.suspect.store(true, Ordering::Relaxed);
        }
        self.shared.change(|status| status.failing = Some(reason));
        let wait = self.failing.map_or(RETRY.0, |wait| (wait * 2).min(RETRY.1));
        *self.failing.insert(wait)
    }

    /// Adds a batch if it is time. Says whether there is more.
    fn round(&mut self) -> Result<bool, FileError> {
        let now = self.clock.now();
        let trusted = self.steady.trusted(now);
        let folder = self.beside.folder()?;
        has_room(&folder)?;
        self.open(&folder.join(FILE))?;
        let Some(store) = &mut self.store else { return Ok(false) };
        let tip = self.beside.tip()?;
        let behind = tip.0.saturating_sub(store.rolled().position.0);
        let waited = self.added.is_none_or(|added| now.mono.saturating_sub(added) >= WAIT);
        if behind >= BATCH || (behind > 0 && waited) {
            let (rows, upto) = next(&self.beside, store.rolled().position, tip)?;
            store.add(&rows, upto)?;
            self.added = Some(now.mono);
        }
        let settings = self.beside.settings()?;
        if store.bytes()?.0 > settings.max_size / SHARE
            && let Some(oldest) = store.oldest()?
        {
            store.forget(oldest + 1)?;
        }
        if let Some(today) = trusted.filter(|_| self.aged.is_none_or(|aged| now.mono.saturating_sub(aged) >= AGE)) {
            self.aged = Some(now.mono);
            let limit = piece_of(today.minus(settings.max_age)).unwrap_or_default();
            if store.oldest()?.is_some_and(|oldest| oldest < limit) {
                store.forget(limit)?;
            }
        }
        self.tell()
    }

    /// Tells how things are, and whether there is a whole batch to be added.
    fn tell(&self) -> Result<bool, FileError> {
        let Some(store) = &self.store else { return Ok(false) };
        let (rolled, bytes, series) = (store.rolled(), store.bytes()?.1, store.series() as u64);
        let behind = self.beside.tip()?.0.saturating_sub(rolled.position.0);
        self.shared.change(|status| {
            (status.bytes, status.series, status.buckets) = (bytes, series, rolled.buckets);
            (status.rows, status.behind) = (rolled.rows, behind);
        });
        Ok(behind >= BATCH)
    }

    /// With the file open that is of this journal: if there is none, a new one.
    fn open(&mut self, path: &Path) -> Result<(), FileError> {
        let journal = self.beside.file()?;
        self.store.take_if(|store| !store.is_in_place(path));
        if self.shared.suspect.swap(false, Ordering::Relaxed) {
            self.renew(path, "it is damaged")?;
        }
        if self.store.as_ref().is_some_and(|store| store.rolled().journal != journal) {
            self.renew(path, "the journal is another")?;
        }
        if self.store.is_some() {
            return Ok(());
        }
        let mut store = Store::open(path, journal)?;
        if store.rolled().journal != journal || !self.is_same(&store)? {
            drop(store);
            self.renew(path, "the journal is another")?;
            store = Store::open(path, journal)?;
        }
        self.store = Some(store);
        Ok(())
    }

    fn renew(&mut self, path: &Path, reason: &'static str) -> Result<(), FileError> {
        self.store = None;
        self.added = None;
        remove(path)?;
        tracing::info!(reason, "the history is made anew of the journal");
        Ok(())
    }

    /// Whether the positions in the file are those of the rows that were there when it was written. A journal that lost its
    /// last commits to a power cut gives their positions to other rows.
    fn is_same(&self, store: &Store) -> Result<bool, FileError> {
        let rolled = store.rolled();
        if rolled.position > self.beside.tip()? {
            return Ok(false);
        }
        let (rows, _) = self.beside.at(&[rolled.last])?;
        Ok(rows.first().is_none_or(|stored| mark(&stored.row) == rolled.crc))
    }
}

/// Where the file system does not say, its errors do.
fn has_room(folder: &Path) -> Result<(), FileError> {
    let Ok(found) = nix::sys::statvfs::statvfs(folder) else { return Ok(()) };
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    if free < ROOM { Err(FileError::NoRoom(free)) } else { Ok(()) }
}

/// The next rows, about a batch of them, and up to where that is all.
fn next(beside: &Beside, after: Position, tip: Position) -> Result<(Vec<crate::journal::Stored>, Position), FileError> {
    let (mut rows, mut upto) = (Vec::new(), after);
    while upto < tip && (rows.len() as u64) < BATCH {
        let (found, end) = beside.next((upto, tip), &mut is_shown)?;
        rows.extend(found);
        upto = end;
    }
    Ok((rows, upto))
}
