//! The thread that writes: group commit, and what happens while the disk takes nothing.
//!
//! [`Engine::round`] is one commit and one step of retention; the thread calls it when something is due, [`super::Mode::Inline`] calls
//! it from whoever appends. Reads have a thread and a connection of their own: a sync that takes seconds does not hold up
//! delivery, and a long read does not hold up a commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::folder::Owned;
use super::inbox::{Batch, Inbox};
use super::missed::Previous;
use super::reader::Reader;
use super::receipt::Fate;
use super::retention::{self, Facts, Step};
use super::salvage;
use super::store::Store;
use super::{JournalError, Position, Stats};
use crate::clock::{Clock, Moment, Timestamp};
use crate::settings::explain;

/// The first and the longest wait between two attempts while the disk takes nothing.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How often age is looked at when no row comes.
const IDLE: Duration = Duration::from_mins(1);
/// After this long without a loss for size, the next is told again.
const EPISODE: Duration = Duration::from_hours(1);

/// What handles, writer and reader share.
pub(super) struct Shared {
    /// What waits for the next commit.
    pub(super) inbox: Mutex<Inbox>,
    /// Wakes the writer.
    pub(super) wake: Condvar,
    /// The last durable row.
    pub(super) tip: watch::Sender<Position>,
    /// What is counted, as of the last round.
    pub(super) stats: Mutex<Stats>,
    /// The connection for reading; none until it is needed.
    pub(super) reader: Mutex<Option<Reader>>,
    /// What the process before left behind.
    pub(super) previous: Previous,
    /// Outputs may be unknown only because what was known of them was damaged.
    pub(super) outputs_lost: bool,
    /// The clocks.
    pub(super) clock: Clock,
    /// The folder, ours while this lives.
    pub(super) owned: Owned,
}

/// A value behind a lock. A panic elsewhere leaves it whole: every change to it is a single step.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn path(&self) -> &PathBuf {
        &self.owned.file
    }

    /// Runs a question with the reader, which is opened if need be and closed after an error.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&mut Reader) -> Result<T, JournalError>) -> Result<T, JournalError> {
        let mut slot = held(&self.reader);
        let mut reader = match slot.take() {
            Some(reader) => reader,
            None => Reader::open(self.path())?,
        };
        let answer = question(&mut reader);
        if answer.is_ok() {
            *slot = Some(reader);
        }
        answer
    }
}

/// While the disk takes nothing.
struct Failing {
    retry_at: Duration,
    wait: Duration,
}

/// Writes what waits.
pub(super) struct Engine {
    shared: Arc<Shared>,
    store: Option<Store>,
    failing: Option<Failing>,
    /// Retention has more to do at once.
    more: bool,
    /// When rows were last lost for size.
    lost: Option<Duration>,
    /// There was a sign that the file is damaged.
    suspect: bool,
}

impl Engine {
    /// With the file open.
    pub(super) fn new(shared: Arc<Shared>, store: Store) -> Self {
        let engine = Self { shared, store: Some(store), failing: None, more: true, lost: None, suspect: false };
        engine.publish();
        engine
    }

    /// Runs until the last handle is gone and nothing waits, or can not be written.
    fn run(mut self) {
        loop {
            let stop = self.wait();
            self.round();
            if stop && self.is_settled() {
                return;
            }
        }
    }

    /// Rounds until nothing waits, or can not be written.
    pub(super) fn settle(&mut self) {
        self.round();
        while !self.is_settled() || (self.failing.is_none() && self.more) {
            self.round();
        }
    }

    fn is_settled(&self) -> bool {
        self.failing.is_some() || held(&self.shared.inbox).is_empty()
    }

    /// Sleeps until a round is due. Says whether it is time to end.
    fn wait(&self) -> bool {
        let mut inbox = held(&self.shared.inbox);
        loop {
            let due = self.due_in(&inbox);
            if due.is_zero() {
                return inbox.stop;
            }
            let (guard, timeout) = self.shared.wake.wait_timeout(inbox, due).unwrap_or_else(PoisonError::into_inner);
            inbox = guard;
            if timeout.timed_out() {
                return inbox.stop;
            }
        }
    }

    fn due_in(&self, inbox: &Inbox) -> Duration {
        let now = self.shared.clock.now().mono;
        match &self.failing {
            _ if inbox.stop || inbox.closing => Duration::ZERO,
            // Whoever waits for a commit is answered by the next attempt; asking does not hasten it.
            Some(failing) => failing.retry_at.saturating_sub(now).min(RETRY.1),
            None if self.more => Duration::ZERO,
            None => inbox.due_in(now).unwrap_or(IDLE),
        }
    }

    /// One commit of what waits, and one step of retention.
    pub(super) fn round(&mut self) {
        let now = self.shared.clock.now();
        let batch = {
            let mut inbox = held(&self.shared.inbox);
            inbox.forget_outputs(now.unix, now.mono);
            self.suspect |= std::mem::take(&mut inbox.suspect);
            inbox.take()
        };
        // A panic must not cost the rows, so the batch stays out here.
        let result = catch_unwind(AssertUnwindSafe(|| self.write(&batch, now)));
        match result.unwrap_or_else(|_| Err(JournalError::Panicked)) {
            Ok(fates) => self.succeeded(batch, &fates, now.unix),
            Err(error) => self.failed(batch, &error, now.mono),
        }
    }

    fn write(&mut self, batch: &Batch, now: Moment) -> Result<Vec<Fate>, JournalError> {
        let tip = *self.shared.tip.borrow();
        if let Some(doubted) = self.store.take_if(|_| self.suspect) {
            doubted.close_untrusted();
        }
        let max_size = held(&self.shared.inbox).settings.max_size;
        let store = if let Some(store) = &mut self.store {
            store
        } else {
            // No connection of ours may keep the old write-ahead file alive.
            let mut reader = held(&self.shared.reader);
            *reader = None;
            let (store, new) = salvage::reopen(self.shared.path(), max_size, tip, self.suspect, now.unix)?;
            self.suspect = false;
            if new {
                held(&self.shared.inbox).renewed(now.mono);
            }
            self.store.insert(store)
        };
        store.limit(max_size)?;
        if batch.is_empty() { Ok(Vec::new()) } else { store.commit(batch, now.unix) }
    }

    fn succeeded(&mut self, batch: Batch, fates: &[Fate], now: Timestamp) {
        if self.failing.take().is_some() {
            let lost = batch.dropped;
            tracing::info!(rows = batch.rows.len(), lost, "journal takes rows again");
        }
        held(&self.shared.inbox).settled();
        self.publish();
        batch.rows.iter().zip(fates).for_each(|(waiting, fate)| waiting.decide(*fate));
        for ticket in batch.tickets {
            // Whoever gave up waiting needs no answer.
            let _ = ticket.send(Ok(()));
        }
        let tidied = catch_unwind(AssertUnwindSafe(|| self.tidy(now)));
        match tidied.unwrap_or_else(|_| Err(JournalError::Panicked)) {
            Ok(more) => {
                self.more = more;
                self.publish();
            }
            Err(error) => self.failed(Batch::default(), &error, self.shared.clock.now().mono),
        }
    }

    /// Keeps everything in memory, and closes the file: after a failed sync the same handle is never trusted again.
    fn failed(&mut self, mut batch: Batch, error: &JournalError, now: Duration) {
        let reason = explain(error);
        self.suspect |= salvage::sound::is_damage(error);
        // Also who waits for rows behind those of this batch: they are no more durable than these.
        let mut tickets = std::mem::take(&mut batch.tickets);
        tickets.extend(held(&self.shared.inbox).answer());
        if self.failing.is_none() {
            tracing::error!(error = reason, waiting = held(&self.shared.inbox).waiting(), "journal takes no rows, they wait in memory");
        }
        *held(&self.shared.reader) = None;
        if let Some(store) = self.store.take() {
            store.close_untrusted();
        }
        let wait = self.failing.as_ref().map_or(RETRY.0, |failing| (failing.wait * 2).min(RETRY.1));
        self.failing = Some(Failing { retry_at: now + wait, wait });
        held(&self.shared.inbox).give_back(batch, now);
        held(&self.shared.stats).failing = Some(reason.clone());
        for ticket in tickets {
            let _ = ticket.send(Err(JournalError::Failing(reason.clone())));
        }
    }

    /// Tells what is durable and what is counted.
    fn publish(&self) {
        let Some(store) = &self.store else { return };
        let counters = store.counters();
        let all = [(Position(1), Position(i64::MAX as u64))];
        // Only shown: what can not be read here is found by the next commit. Read before the lock is taken, as a disk may be slow.
        let (bytes, first) = (store.bytes(), store.first(&all));
        let mut stats = held(&self.shared.stats);
        stats.rows = counters.rows;
        stats.dropped_memory = counters.dropped_memory;
        stats.dropped_size = counters.dropped_size;
        stats.damaged = counters.damaged;
        stats.receipts = counters.receipts;
        stats.failing = None;
        stats.bytes = bytes.unwrap_or(stats.bytes);
        stats.oldest = first.map_or(stats.oldest, |first| first.map(|first| first.time));
        drop(stats);
        let tip = store.tip();
        self.shared.tip.send_if_modified(|known| std::mem::replace(known, tip) != tip);
    }

    /// One step of retention. Says whether there is more to do.
    fn tidy(&mut self, now: Timestamp) -> Result<bool, JournalError> {
        let (settings, delivered) = {
            let inbox = held(&self.shared.inbox);
            let needed = inbox.outputs.values().filter(|output| output.removed.is_none());
            (inbox.settings.clone(), retention::delivered(needed.map(|output| &output.acknowledged)))
        };
        let Some(store) = &mut self.store else { return Ok(false) };
        if store.bytes()? > settings.max_size && !store.shrink()? {
            // A reader of another process is in the way. Deleting would only make the write-ahead file longer.
            return Ok(false);
        }
        let forget = retention::forget(store.counters().receipts, store.oldest_receipt()?, settings.max_size, now);
        let forgotten = forget.map_or(Ok(0), |forget| store.forget_receipts(forget.count, forget.before))?;
        let first = store.first(&delivered)?;
        let facts = Facts {
            bytes: store.bytes()?,
            max_size: settings.max_size,
            now,
            max_age: settings.max_age,
            oldest_delivered: first.map(|first| first.time),
            rows: store.counters().rows,
        };
        let range = first.map_or((Position(1), Position(i64::MAX as u64)), |first| first.range);
        let any_time = Timestamp::from_nanos(i64::MAX);
        let deleted = match retention::decide(&facts) {
            Step::Nothing => 0,
            Step::TooOld(limit) => store.delete(range, retention::STEP, limit.minus(Duration::from_nanos(1)), false)?,
            Step::Delivered(count) => store.delete(range, count, any_time, false)?,
            Step::Undelivered(count) => {
                let lost = store.delete(range, count, any_time, true)?;
                self.tell_loss(lost);
                lost
            }
        };
        Ok(deleted + forgotten > 0)
    }

    /// From here on the file may not grow, until it is opened anew.
    #[cfg(test)]
    pub(super) fn fill_disk(&self) {
        self.store.iter().for_each(Store::fill_disk);
    }

    /// As after a sync that failed.
    #[cfg(test)]
    pub(super) fn fail_sync(&mut self) {
        let now = self.shared.clock.now().mono;
        self.failed(Batch::default(), &JournalError::Failing("the sync failed".to_owned()), now);
    }

    fn tell_loss(&mut self, rows: u64) {
        let now = self.shared.clock.now().mono;
        if self.lost.is_none_or(|before| now.saturating_sub(before) > EPISODE) {
            tracing::error!(rows, "journal is full, dropping the oldest undelivered rows");
        }
        self.lost = Some(now);
    }
}

/// A question for the reader's thread.
pub(super) type Question = Box<dyn FnOnce(&Shared) + Send>;

/// Ends when the thread that holds the other side ended.
pub(super) type Done = std::sync::mpsc::Receiver<()>;

/// Starts the thread that writes.
pub(super) fn write(engine: Engine) -> std::io::Result<Done> {
    let (alive, done) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("journal".into()).spawn(move || {
        engine.run();
        drop(alive);
    })?;
    Ok(done)
}

/// Starts the thread that reads. It ends when nobody can ask any more.
pub(super) fn read(shared: Arc<Shared>, mut questions: mpsc::Receiver<Question>) -> std::io::Result<Done> {
    let (alive, done) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("journal-read".into()).spawn(move || {
        while let Some(question) = questions.blocking_recv() {
            // Whoever asked finds its answer missing; the thread lives on for the others.
            let _ = catch_unwind(AssertUnwindSafe(|| question(&shared)));
        }
        drop(shared);
        drop(alive);
    })?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::schema;
    use crate::journal::testing::{row, settings};
    use tokio::sync::oneshot;

    #[tokio::test(start_paused = true)]
    async fn while_the_disk_takes_nothing_only_the_end_hastens_the_next_attempt() {
        let dir = tempfile::tempdir().unwrap();
        let owned = crate::journal::folder::own(dir.path()).unwrap();
        let store = Store::open(&owned.file, 1 << 30).unwrap();
        let other = schema::writer(&owned.file).unwrap();
        let shared = Arc::new(Shared {
            inbox: Mutex::new(Inbox::new(settings(), store.outputs().unwrap(), 100_000)),
            wake: Condvar::new(),
            tip: watch::Sender::new(store.tip()),
            stats: Mutex::default(),
            reader: Mutex::new(None),
            previous: Previous::default(),
            outputs_lost: false,
            clock: Clock::virtual_from(Timestamp::default()),
            owned,
        });
        let mut engine = Engine::new(Arc::clone(&shared), store);
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let ask = |clean| {
            let (ticket, answer) = oneshot::channel();
            held(&shared.inbox).wait(ticket, clean);
            answer
        };
        held(&shared.inbox).append((0..30_000).map(|time| row("a", time)).collect(), Duration::ZERO);
        let mut answer = ask(false);
        engine.round();
        assert!(matches!(answer.try_recv(), Ok(Err(JournalError::Failing(_)))));
        assert_eq!(engine.due_in(&held(&shared.inbox)), RETRY.0);
        let _waiting = ask(false);
        assert_eq!(engine.due_in(&held(&shared.inbox)), RETRY.0, "whoever waits hastens nothing");
        let _last = ask(true);
        assert_eq!(engine.due_in(&held(&shared.inbox)), Duration::ZERO);
        engine.round();
        assert_eq!(engine.due_in(&held(&shared.inbox)), RETRY.0 * 2, "one attempt, not one after the other");
        held(&shared.inbox).stop = true;
        assert_eq!(engine.due_in(&held(&shared.inbox)), Duration::ZERO);
    }
}
