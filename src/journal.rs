//! The journal: what was measured is durable here first, and stays until every output has it.
//!
//! # The promise
//!
//! A row that was appended is durable at most `flush` later, and its position is told only then. From there on it is read
//! back as it was written, or not at all, until every output has acknowledged it and it is older than `max_age`, or until
//! the file reaches `max_size`. Whatever is lost on the way is counted: rows that fell out of memory while the disk took
//! none, undelivered rows dropped at the cap, and rows set aside because their checksum did not match.
//!
//! # The file
//!
//! `journal.sqlite3` in the data folder, `SQLite` in WAL mode with `synchronous=FULL`; `journal.lock` beside it belongs to the
//! one qosd that writes. Anybody with the right may read meanwhile: `qosd export` does. The tables, of version 3:
//!
//! - `row`: what was measured. `position` counts up and is never used again; `series` and `layout` point to the two tables
//!   below; `time` in nanoseconds; `body` holds the values in the order of the layout, see `encoding`; `crc` is a CRC32C
//!   of series, layout, time and body, because `SQLite` does not see a byte that flips inside a row.
//! - `series`: measurement and tags as [`Series::key`] writes them, with a CRC32C. Many rows share one.
//! - `layout`: names and types of a row's fields, with a CRC32C. Nearly all rows of a series share one.
//! - `output`: what each output has acknowledged, and since when it is no longer in the config.
//! - `schedule`: which series have which slots since when, so that slots missed by a process that was killed can be told; also
//!   what a reload ended, until when, while a slot of it may be open.
//! - `receipt`: which results of others are stored already, so that one that is sent again is not stored again: what it is
//!   of, its slot, and the position of its row, in the same transaction as that row. The newest 1 000 000 of 7 days, at most
//!   an eighth of the cap. Since version 2; an earlier file gets the tables that it lacks when it is opened for writing.
//! - `dead`: dead letters. A copy of each row that an output refused alone, with its reason and when, once for each output and
//!   position; `requeued` is the number of the round in which it is on its way again. It is in the commit that acknowledges the
//!   row. At most 100 000, and an eighth of the cap; the oldest go first. Since version 3.
//! - `damaged`: rows whose checksum did not match, for people to look at; the newest 1 000.
//! - `meta`: counters, the time of the last commit (`alive`), and whether the last stop was clean (`clean`).
//!
//! # When the file is damaged
//!
//! Header, tables and, in a small file, all pages are looked through at the start; in any file when a read or a commit meets damage, or
//! a reader finds no row where one should be. The damaged file is renamed to `journal.sqlite3.damaged-<time>` (the newest three are
//! kept), and what reads right goes on in a new one, positions and all. Rows that do not are counted as damaged. An output of which nothing
//! can be read any more gets everything again: its database has each row once all the same. See `salvage`.
//!
//! `SQLite` takes what was altered in the write-ahead file for the end of it, and is silent about what follows. So it is looked through
//! at the start: commits behind an altered one show that it had been durable, and are moved into a new file with everything else. What
//! can not be told from a power cut in the middle of a commit is that the last commit was altered, or that the end was cut off:
//! the journal then goes on from the last whole commit, what outputs had acknowledged included, and counts nothing.
//!
//! # When the disk fails
//!
//! Rows wait in a ring of 200 000, the attempt is repeated after 0.25 s to 2 s. So it is at the start, too: a folder that is
//! read-only, full or not there stops no measuring. Only one that is in use by another qosd, or a file of a later version, is
//! refused. A handle whose sync failed is not used again: see `Store::reopen`.
//!
//! A commit counts only if its file is still found where it was. One that was taken away is made anew, positions go on above
//! those that were used, and the rows that went with it are counted. Where a file system was unmounted, it is waited for.
//! Rows of others wait in the ring, too, with their receipts, and have half of it at most: who sent them
//! is told that they are not durable, and what he sends again is found to be the same when the disk is back.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::{Clock, Timestamp};
use crate::measurement::{Row, Series};
use crate::probe::schedule::Schedule;
use acknowledged::Acknowledged;
pub(crate) use beside::Beside;
pub use dead::requeue;
pub(crate) use encoding::{put_varint, take_varint};
pub use error::JournalError;
use error::failed;
pub(crate) use folder::FILE as JOURNAL;
use inbox::{Inbox, RING, Start};
pub use letter::{DeadCount, DeadLetter, Round};
use letters::Counts;
use receipt::Waiting;
pub use receipt::{Fate, Fates, Receipt};
pub(crate) use rest::{rest, untouched};
pub(crate) use retention::Steady;
use shared::{Shared, held};
use thread::{Done, Engine, Question};

pub mod acknowledged;
mod beside;
mod dead;
mod dictionary;
mod encoding;
mod error;
pub mod export;
mod folder;
mod inbox;
mod letter;
mod letters;
mod missed;
mod reader;
mod receipt;
mod receipts;
mod rest;
mod retention;
mod salvage;
mod schema;
mod shared;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod thread;

/// Reads that may wait for the reader's thread; further ones wait for their turn.
const QUESTIONS: usize = 16;
/// The longest that dropping the last handle waits for the last commit, and for the last read.
const LAST: [Duration; 2] = [Duration::from_millis(1500), Duration::from_millis(250)];

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

/// What the journal counts.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Stats {
    /// Rows in the file.
    pub rows: u64,
    /// Bytes of the file with its write-ahead file.
    pub bytes: u64,
    /// Time of the oldest row.
    pub oldest: Option<Timestamp>,
    /// The oldest row, or where the first will be.
    #[serde(skip)]
    pub first: Position,
    /// Rows in memory that are not durable yet.
    pub waiting: u64,
    /// Rows lost because memory was full while the disk did not take them.
    pub dropped_memory: u64,
    /// Rows dropped undelivered because the file reached its cap.
    pub dropped_size: u64,
    /// Rows that were in a file that was taken away.
    pub dropped_gone: u64,
    /// Rows set aside because their checksum did not match.
    pub damaged: u64,
    /// Receipts in the file.
    pub receipts: u64,
    /// Dead letters in the file, by output.
    pub dead: Counts,
    /// Dead letters dropped because there were too many, or with an output that was forgotten.
    pub dropped_dead: u64,
    /// Why the last commit failed, while it does.
    pub failing: Option<String>,
}

/// A handle on the journal; clones share it. It outlives every actor.
///
/// When the last one is dropped, what waits is committed and the threads end.
#[derive(Clone)]
pub struct Journal(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    runner: Runner,
}

enum Runner {
    Inline(Box<Mutex<Engine>>),
    Threaded { questions: Option<mpsc::Sender<Question>>, done: Mutex<[Done; 2]> },
}

/// What is to be known of the time in which no qosd ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Missed {
    /// For each series that was scheduled: the slots without a row, oldest first, of at most the last hour and 100 000 in all.
    pub slots: Vec<(Series, Timestamp)>,
    /// What is older or over the limit: from, to, how many slots.
    pub gap: Option<(Timestamp, Timestamp, u64)>,
    /// For each series that was scheduled and has rows later than now, because the clock went back: the time of the newest.
    pub newest: Vec<(Series, Timestamp)>,
}

impl Journal {
    /// Opens or makes the journal `dir/journal.sqlite3`. If the disk does not have it now, rows wait in memory until it does:
    /// [`Stats::failing`] says why, and [`Journal::readable`] waits for it. Fails if it is another's, or of a later version.
    pub fn open(dir: &Path, settings: Settings, clock: Clock, mode: Mode) -> Result<Self, JournalError> {
        Self::with_ring(dir, settings, clock, mode, RING)
    }

    fn with_ring(dir: &Path, settings: Settings, clock: Clock, mode: Mode, ring: usize) -> Result<Self, JournalError> {
        let shared = Arc::new(Shared::new(dir, settings, clock, ring));
        let engine = Engine::start(Arc::clone(&shared), mode == Mode::Inline)?;
        let runner = match mode {
            Mode::Inline => Runner::Inline(Box::new(Mutex::new(engine))),
            Mode::Threaded => {
                let (questions, asked) = mpsc::channel(QUESTIONS);
                let read = thread::read(Arc::clone(&shared), asked).map_err(JournalError::Thread)?;
                let written = thread::write(engine).map_err(JournalError::Thread)?;
                Runner::Threaded { questions: Some(questions), done: Mutex::new([written, read]) }
            }
        };
        Ok(Self(Arc::new(Handle { shared, runner })))
    }

    /// Waits until the file was read: at once, unless the disk did not have it at the start.
    pub async fn readable(&self) {
        // The sender lives as long as this handle.
        let _ = self.0.shared.readable.subscribe().wait_for(|readable| *readable).await;
    }

    /// Takes new settings from a reload.
    pub fn configure(&self, settings: Settings) {
        self.change(|inbox, _| inbox.settings = settings);
    }

    /// Takes rows. Never waits and never fails: they are in memory now, and durable at most `flush` later. While the disk
    /// takes nothing, a bounded ring holds them; what falls out of it is counted.
    pub fn append(&self, rows: Vec<Row>) {
        let losing = self.change(|inbox, now| inbox.append(rows, now));
        if losing {
            tracing::error!("memory for rows is full, dropping the oldest");
        }
    }

    /// Takes rows of somebody else, each with its receipt if it has one; whoever sent them keeps them until they are durable.
    /// They are that, and their fates decided, when a [`Journal::flush`] that is asked for afterwards succeeds.
    ///
    /// Refused when memory is half full, and with receipts also while the disk takes nothing: they will come again.
    pub fn receive(&self, rows: Vec<(Row, Option<Receipt>)>) -> Result<Arc<Fates>, JournalError> {
        let come_again = rows.iter().any(|(_, receipt)| receipt.is_some());
        if let Some(reason) = held(&self.0.shared.stats).failing.clone().filter(|_| come_again) {
            return Err(JournalError::Failing(reason));
        }
        let (rows, fates) = Waiting::watched(rows);
        if self.change(|inbox, now| inbox.append_watched(rows, now)) {
            Ok(fates)
        } else {
            Err(JournalError::Failing("too many rows wait in memory".to_owned()))
        }
    }

    /// The oldest row that is there, or where the first will be.
    pub fn first(&self) -> Position {
        held(&self.0.shared.stats).first
    }

    /// The position of the last durable row, as it moves.
    pub fn tip(&self) -> watch::Receiver<Position> {
        self.0.shared.tip.subscribe()
    }

    /// At most `limit` durable rows after `after`, up to and with `upto` or the tip, in order of position. Fewer only if
    /// there are no more: a position that is passed over was dropped or damaged, and never comes.
    pub async fn read(&self, after: Position, upto: Position, limit: usize) -> Result<Vec<Stored>, JournalError> {
        let found = self.ask(move |shared| {
            let upto = upto.min(*shared.tip.borrow());
            shared.ask(|reader| reader.rows(after, upto, limit))
        });
        let found = found.await?;
        if !found.damaged.is_empty() {
            tracing::warn!(rows = found.damaged.len(), "journal sets damaged rows aside");
            self.change(|inbox, now| inbox.set_aside(found.damaged, now));
        }
        Ok(found.rows)
    }

    /// Reads beside delivery, for as long as this journal is open.
    pub(crate) fn beside(&self) -> Beside {
        Beside::of(&self.0.shared)
    }

    /// What an output has acknowledged; a new one starts at the tip, or `replay` back. Fails while the file was never read.
    pub async fn output(&self, name: &str, replay: Option<Duration>) -> Result<Acknowledged, JournalError> {
        let (known, start) = self.change(|inbox, now| (inbox.output(name, now), inbox.start(name)));
        if let Some(acknowledged) = known {
            return Ok(acknowledged);
        }
        let mut start = match start {
            Start::Unread => return Err(self.0.shared.failing()),
            Start::Now => *self.0.shared.tip.borrow(),
            Start::After(position) => position,
        };
        if self.0.shared.outputs_lost.load(Ordering::Relaxed) {
            // It may be one that was there before: its rows are sent again.
            start = Position(0);
        } else if let Some(replay) = replay {
            let since = self.0.shared.clock.now().unix.minus(replay);
            let first = self.ask(move |shared| shared.ask(|reader| reader.first_since(since))).await?;
            start = first.map_or(start, |first| start.min(Position(first.0.saturating_sub(1))));
        }
        let acknowledged = Acknowledged::starting_at(start);
        self.acknowledge(name, &acknowledged);
        // Before anything is told, so that a kill from here on does not make it new again.
        self.flush().await?;
        Ok(acknowledged)
    }

    /// The outputs whose acknowledgement a row needs before it counts as delivered. One that is removed keeps its position
    /// for 7 days.
    pub fn outputs(&self, names: Vec<String>) {
        let (names, today) = (names.into_iter().collect(), self.0.shared.clock.now().unix);
        self.change(|inbox, now| inbox.name_outputs(&names, today, now));
    }

    /// Keeps what an output has acknowledged: durable with the next commit, at most `flush` later. If it is lost, the rows
    /// are sent again, which is harmless.
    pub fn acknowledge(&self, output: &str, acknowledged: &Acknowledged) {
        self.change(|inbox, now| inbox.acknowledge(output, acknowledged.clone(), now));
    }

    /// What is scheduled from now on, so that slots missed while dead can be told. What was said before ends, unless it is
    /// said again: its slots until now are still to have their rows.
    ///
    /// To be said after the rows of [`Journal::missed`] were appended: then a kill at any time loses no slot.
    pub fn scheduled(&self, series: Vec<(Series, Schedule)>) {
        self.scheduled_since(self.0.shared.clock.now().unix, series);
    }

    /// As [`Journal::scheduled`], from an earlier time on: that up to which [`Journal::missed`] told what was missed. Slots that
    /// came due since would be in nobody's account.
    pub fn scheduled_since(&self, since: Timestamp, series: Vec<(Series, Schedule)>) {
        self.change(|inbox, now| inbox.schedule(series, since, now));
    }

    /// What the process before missed can not be told now: what it scheduled is kept until [`Journal::accounted`], so that
    /// another process could tell it, and what is scheduled from now on is noted then.
    pub fn account_later(&self) {
        self.change(|inbox, _| inbox.unaccounted = true);
    }

    /// What the process before missed is appended.
    pub fn accounted(&self) {
        self.change(Inbox::accounted);
    }

    /// The slots that the process before this one scheduled, or would have, without a row, from its last schedule up to and
    /// with `now`. None after a clean stop.
    pub async fn missed(&self, now: Timestamp) -> Result<Missed, JournalError> {
        self.ask(move |shared| {
            let now = now.plus(Duration::from_nanos(1));
            let previous = held(&shared.previous).clone().ok_or_else(|| shared.failing())?;
            let Some(mut rows) = previous.rows(now) else { return Ok(Missed::default()) };
            let newest = shared.ask(|reader| {
                reader.places_back(|place| rows.see(place.position, place.series, place.time))?;
                // Read whole, as nobody may wait for a time that is damage.
                reader.at(&rows.newest())
            })?;
            let newest = newest.rows.into_iter().map(|stored| (stored.row.series, stored.row.time)).collect();
            Ok(Missed { newest, ..previous.missed(&rows.present, now, missed::MOST) })
        })
        .await
    }

    /// Waits until everything appended and acknowledged before is durable. Fails when the disk does not take it now; it
    /// stays in memory then, and is tried again.
    pub async fn flush(&self) -> Result<(), JournalError> {
        self.committed(false).await
    }

    /// As [`Journal::flush`], and notes that this was a clean stop: nothing was missed from here on.
    pub async fn close(&self) -> Result<(), JournalError> {
        self.committed(true).await
    }

    /// What the journal counts, as of the last commit.
    pub fn stats(&self) -> Stats {
        let mut stats = held(&self.0.shared.stats).clone();
        let inbox = held(&self.0.shared.inbox);
        stats.waiting = inbox.waiting() as u64;
        stats.dropped_memory += inbox.dropped();
        stats
    }

    async fn committed(&self, clean: bool) -> Result<(), JournalError> {
        let (ticket, answer) = oneshot::channel();
        self.change(|inbox, _| inbox.wait(ticket, clean));
        answer.await.map_err(|_| JournalError::Stopped)?
    }

    /// Changes what waits, and has it written when it is due.
    fn change<T>(&self, change: impl FnOnce(&mut Inbox, Duration) -> T) -> T {
        let now = self.0.shared.clock.now().mono;
        let answer = change(&mut held(&self.0.shared.inbox), now);
        match &self.0.runner {
            Runner::Inline(engine) => held(engine).settle(),
            Runner::Threaded { .. } => self.0.shared.wake.notify_all(),
        }
        answer
    }

    /// Has a question answered; once more if the file was damaged and another has its place now.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Shared) -> Result<T, JournalError> + Clone + Send + 'static,
    ) -> Result<T, JournalError> {
        match self.ask_once(question.clone()).await {
            Err(error) if salvage::sound::is_damage(&error) => {
                self.change(Inbox::suspect);
                self.flush().await?;
                self.ask_once(question).await
            }
            answer => answer,
        }
    }

    /// Has the reader's thread answer, or this one.
    async fn ask_once<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Shared) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let Runner::Threaded { questions: Some(questions), .. } = &self.0.runner else { return question(&self.0.shared) };
        let (tell, answer) = oneshot::channel();
        let question: Question = Box::new(move |shared| {
            // Whoever gave up waiting needs no answer.
            let _ = tell.send(question(shared));
        });
        questions.send(question).await.map_err(|_| JournalError::Stopped)?;
        answer.await.map_err(|_| JournalError::Stopped)?
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        match &mut self.runner {
            Runner::Inline(engine) => held(engine).settle(),
            Runner::Threaded { questions, done } => {
                *questions = None;
                held(&self.shared.inbox).stop = true;
                self.shared.wake.notify_all();
                for (done, longest) in held(done).iter().zip(LAST) {
                    // Ended, or the disk hangs: then the rows that wait are lost with the process, which has to end in time.
                    let _ = done.recv_timeout(longest);
                }
            }
        }
    }
}
