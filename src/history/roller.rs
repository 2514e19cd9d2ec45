//! Puts the journal's rows into the history's file, on a thread of its own and of low priority.
//!
//! It looks every few seconds how far the journal is, and adds what is new in large batches: what is not in the file yet, readers
//! take from the journal. Whatever is wrong with the file, it is thrown away and made anew; what the disk refuses is tried again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::catalog::is_shown;
use super::file::{FILE, FileError};
use super::look::LACKING;
use super::piece::piece_of;
use super::store::{Batch, Store, mark, remove};
use super::{SHARE, Shared};
use crate::clock::Clock;
use crate::journal::{Beside, Position, Steady};
use crate::settings::explain;

/// How often it is looked how far the journal is.
const LOOK: Duration = Duration::from_secs(2);
/// The fewest and the most rows that are added at once. The most are some 30 MiB of memory while they are.
const BATCH: (u64, u64) = (4_000, 60_000);
/// Rows of each series that are worth a batch: it writes a page or two of every series, however many of its rows are in there.
const EACH: u64 = 10;
/// From batch to batch, at least: but while more is lacking than answers can take from the journal, row by row.
const GAP: Duration = Duration::from_mins(2);
/// Fewer rows wait this long.
const WAIT: Duration = Duration::from_mins(15);
/// How often age is looked at.
const AGE: Duration = Duration::from_mins(10);
/// The first and the longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The longest pause after a batch, in which others have the processor and the disk.
const PAUSE: Duration = Duration::from_millis(100);
/// The last bytes of a file system are the journal's.
const ROOM: u64 = 16 << 20;
/// What is wrong if that is less than what is being filled.
const SHORT: &str = "an eighth of journal.max_size is less than two hours of all series take";
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
    /// Whether the share holds less than a piece of all series.
    short: bool,
}

/// Whether a batch is due, with so many series and rows, after such a time without one.
fn is_due(series: u64, behind: u64, waited: Duration) -> bool {
    let batch = batch_of(series);
    behind >= batch.max(LACKING) || (behind >= batch && waited >= GAP) || (behind > 0 && waited >= WAIT)
}

fn batch_of(series: u64) -> u64 {
    series.saturating_mul(EACH).clamp(BATCH.0, BATCH.1)
}

impl Roller {
    /// Nothing was looked at yet.
    pub(super) fn new(shared: Arc<Shared>, beside: Beside, clock: Clock) -> Self {
        let steady = Steady::new(clock.now());
        Self { shared, beside, clock, steady, store: None, added: None, aged: None, failing: None, short: false }
    }

    /// Runs until it is stopped.
    pub(super) fn run(mut self) {
        // Not allowed under the unit, where it keeps the priority of the others; there are the pauses.
        let _ = rustix::process::nice(NICE);
        loop {
            let wait = self.turn();
            if self.shared.stopped_within(wait) {
                return self.close();
            }
        }
    }

    /// Leaves everything in the main file, so that whoever looks at it finds it closed.
    fn close(self) {
        // The file is as whole without that, and the next start goes on with it.
        if let Some(error) = self.store.and_then(|store| store.close().err()) {
            tracing::debug!(error = explain(&error), "the history is not closed");
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
                let short = self.short.then(|| SHORT.to_owned());
                self.shared.change(|status| (status.failing, status.short) = (None, short));
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
        let behind = self.beside.behind(store.rolled().position)?;
        let waited = self.added.map_or(WAIT, |added| now.mono.saturating_sub(added));
        if is_due(store.series() as u64, behind, waited) {
            let (rows, upto) = next(&self.beside, store, tip)?;
            store.add(rows, upto)?;
            self.added = Some(now.mono);
            self.shared.change(|status| status.added = Some(now.unix.to_string()));
        }
        let settings = self.beside.settings()?;
        let short = keep_to(store, settings.max_size / SHARE)?;
        if short && !std::mem::replace(&mut self.short, short) {
            tracing::warn!(reason = SHORT, "the history has too little room, charts show what is newest");
        }
        self.short = short;
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
        let behind = self.beside.behind(rolled.position)?;
        let is_more = is_due(series, behind, Duration::ZERO);
        self.shared.change(|status| {
            (status.bytes, status.series, status.buckets) = (bytes, series, rolled.buckets);
            (status.rows, status.behind) = (rolled.rows, behind);
        });
        Ok(is_more)
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
fn next(beside: &Beside, store: &mut Store, tip: Position) -> Result<(Batch, Position), FileError> {
    let (mut batch, mut upto, most) = (Batch::default(), store.rolled().position, batch_of(store.series() as u64));
    while upto < tip && batch.rows() < most {
        let (found, end) = beside.next((upto, tip), &mut is_shown)?;
        store.gather(&mut batch, &found);
        upto = end;
    }
    Ok((batch, upto))
}

/// Deletes the oldest piece if there is too much, but never that which is being filled: then it says that this one alone is too much.
fn keep_to(store: &mut Store, share: u64) -> Result<bool, FileError> {
    if store.bytes()?.0 <= share {
        return Ok(false);
    }
    let (oldest, newest) = (store.oldest()?, store.newest()?);
    match oldest.filter(|oldest| Some(*oldest) < newest) {
        Some(oldest) => store.forget(oldest + 1).map(|()| false),
        None => Ok(oldest.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_a_batch() {
        let minutes = Duration::from_mins;
        for (series, behind, waited, expected) in [
            (100, 1_499, minutes(14), false),
            (100, 1_500, minutes(15), true),
            (100, 4_000, minutes(1), false),
            (100, 4_000, minutes(2), true),
            (100, 20_000, minutes(0), true),
            (1_000, 9_999, minutes(14), false),
            (1_000, 10_000, minutes(10), true),
            (10_000, 59_999, minutes(6), false),
            (10_000, 60_000, minutes(0), true),
            (100, 0, minutes(60), false),
        ] {
            assert_eq!(is_due(series, behind, waited), expected, "{series} series, {behind} rows, {waited:?}");
        }
    }
}
