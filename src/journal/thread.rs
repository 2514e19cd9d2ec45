//! The thread that writes: group commit, and what happens while the disk takes nothing.
//!
//! [`Engine::round`] is one commit and one step of retention; the thread calls it when something is due, [`super::Mode::Inline`] calls
//! it from whoever appends. Reads have a thread and a connection of their own: a sync that takes seconds does not hold up
//! delivery, and a long read does not hold up a commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::inbox::{Batch, Inbox};
use super::retention::Steady;
use super::salvage;
use super::shared::{Shared, held};
use super::store::{Before, Committed, Store};
use super::{JournalError, Position};
use crate::clock::{Moment, Timestamp};
use crate::settings::explain;

mod tidy;

/// The first and the longest wait between two attempts while the disk takes nothing.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// How often age is looked at when no row comes.
const IDLE: Duration = Duration::from_mins(1);

/// While the disk takes nothing.
struct Failing {
    retry_at: Duration,
    wait: Duration,
}

/// Writes what waits.
pub(super) struct Engine {
    shared: Arc<Shared>,
    store: Option<Store>,
    /// The file as it was when all was well; none if it was never open.
    before: Option<Before>,
    steady: Steady,
    failing: Option<Failing>,
    /// Retention has more to do at once.
    more: bool,
    /// When rows were last lost for size.
    lost: Option<Duration>,
    /// When dead letters were last dropped.
    dropped_letters: Option<Duration>,
    /// There was a sign that the file is damaged.
    suspect: bool,
}

impl Engine {
    /// With the file open, unless the disk has none for us now: then rows wait in memory, and it is tried again.
    ///
    /// A damaged file is repaired now only if `repairs`: that may take minutes, which measuring does not wait for.
    pub(super) fn start(shared: Arc<Shared>, repairs: bool) -> Result<Self, JournalError> {
        let now = shared.clock.now();
        let mut engine = Self {
            shared,
            store: None,
            before: None,
            steady: Steady::new(now),
            failing: None,
            more: true,
            lost: None,
            dropped_letters: None,
            suspect: false,
        };
        match engine.open(now, repairs) {
            Ok(()) => engine.publish(),
            Err(error) if error.forbids_start() => return Err(error),
            Err(error) => engine.failed(Batch::default(), &error, now.mono),
        }
        Ok(engine)
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
        let trusted = self.steady.trusted(now);
        self.suspect |= std::mem::take(&mut held(&self.shared.inbox).suspect);
        if let Some(doubted) = self.store.take_if(|_| self.suspect) {
            doubted.close_untrusted();
        }
        if let Err(error) = guarded(|| self.open(now, true)) {
            return self.failed(Batch::default(), &error, now.mono);
        }
        let batch = {
            let mut inbox = held(&self.shared.inbox);
            if let Some(today) = trusted {
                inbox.forget_outputs(today, now.mono);
            }
            inbox.take()
        };
        // A panic must not cost the rows, so the batch stays out here.
        match guarded(|| self.write(&batch, now.unix)) {
            Ok(committed) => self.succeeded(batch, committed, trusted),
            Err(error) => self.failed(batch, &error, now.mono),
        }
    }

    /// Opens the file if it is not open; a damaged one only if it is to be repaired.
    fn open(&mut self, now: Moment, repairs: bool) -> Result<(), JournalError> {
        if self.store.is_some() {
            return Ok(());
        }
        let max_size = held(&self.shared.inbox).settings.max_size;
        // No connection of ours may keep the old write-ahead file alive, or lose its locks when the folder is taken anew.
        let (mut reader, mut beside) = (held(&self.shared.reader), held(&self.shared.beside));
        (*reader, *beside) = (None, None);
        if self.before.is_none() {
            salvage::make_way(&self.shared.folder.place(), self.failing.is_none(), now.unix)?;
        }
        let file = self.shared.folder.own()?;
        let store = match &self.before {
            Some(before) => salvage::reopen(&file, max_size, before, self.suspect, now.unix)?,
            None if repairs => salvage::open(&file, max_size, now.unix)?,
            None => salvage::open_sound(&file, max_size, now.unix)?,
        };
        self.suspect = false;
        // It may be a new one, made of what read right in a damaged one.
        let renewed = self.shared.folder.know(&file)?;
        if self.before.is_none() {
            *held(&self.shared.previous) = Some(Arc::new(store.previous()?));
            held(&self.shared.inbox).read(store.outputs()?, store.tip(), now.unix, now.mono);
            self.shared.outputs_lost.store(store.outputs_lost(now.unix)?, Ordering::Relaxed);
            self.shared.tip.send_replace(store.tip());
            self.shared.readable.send_replace(true);
        } else if renewed || self.before.is_some_and(|before| before.id != store.now().id) {
            let mut inbox = held(&self.shared.inbox);
            if store.follows() {
                inbox.forget_positions();
            }
            inbox.repeat(now.mono);
        }
        // If this one is taken away, too, the rows of the one before are still to be counted.
        self.before = Some(store.now());
        *held(&self.shared.file) = Some(store.now().id);
        self.store = Some(store);
        Ok(())
    }

    fn write(&mut self, batch: &Batch, now: Timestamp) -> Result<Committed, JournalError> {
        let folder = &self.shared.folder;
        let in_place = || if folder.is_in_place() { Ok(()) } else { Err(JournalError::Gone) };
        let store = self.store.as_mut().ok_or(JournalError::Gone)?;
        in_place()?;
        store.limit(held(&self.shared.inbox).settings.max_size)?;
        if batch.is_empty() {
            return Ok(Committed::default());
        }
        let committed = store.commit(batch, now)?;
        // What went into a file that nobody finds again is not durable.
        in_place()?;
        if store.is_whole() { Ok(committed) } else { Err(JournalError::Gone) }
    }

    fn succeeded(&mut self, batch: Batch, committed: Committed, now: Option<Timestamp>) {
        if self.failing.take().is_some() {
            let lost = batch.dropped;
            tracing::info!(rows = batch.rows.len(), lost, "journal takes rows again");
        }
        held(&self.shared.inbox).settled();
        self.publish();
        batch.rows.iter().zip(committed.fates).for_each(|(waiting, fate)| waiting.decide(fate));
        for ticket in batch.tickets {
            // Whoever gave up waiting needs no answer.
            let _ = ticket.send(Ok(()));
        }
        for (wish, letters) in batch.letters.requeues.into_iter().zip(committed.requeued) {
            let _ = wish.tell.send(Ok(letters));
        }
        match guarded(|| self.tidy(now)) {
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
        *held(&self.shared.beside) = None;
        *held(&self.shared.file) = None;
        if let Some(store) = self.store.take() {
            store.close_untrusted();
        }
        let wait = self.failing.as_ref().map_or(RETRY.0, |failing| (failing.wait * 2).min(RETRY.1));
        self.failing = Some(Failing { retry_at: now + wait, wait });
        {
            let mut inbox = held(&self.shared.inbox);
            inbox.give_back(batch, now);
            inbox.letters.refuse_requeues(&reason);
        }
        held(&self.shared.stats).failing = Some(reason.clone());
        for ticket in tickets {
            let _ = ticket.send(Err(JournalError::Failing(reason.clone())));
        }
    }

    /// Tells what is durable and what is counted.
    fn publish(&mut self) {
        let Some(store) = &self.store else { return };
        self.before = Some(store.now());
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
        stats.dropped_gone = counters.dropped_gone;
        stats.dropped_dead = counters.dropped_dead;
        stats.dead.clone_from(store.dead());
        stats.failing = None;
        stats.bytes = bytes.unwrap_or(stats.bytes);
        if let Ok(first) = first {
            stats.oldest = first.map(|first| first.time);
            stats.first = first.map_or(Position(store.tip().0 + 1), |first| first.position);
        }
        drop(stats);
        let tip = store.tip();
        self.shared.tip.send_if_modified(|known| std::mem::replace(known, tip) != tip);
        self.shared.requeues.send_if_modified(|known| std::mem::replace(known, counters.requeues) != counters.requeues);
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
}

/// A panic is an error like others: the disk may be better next time.
fn guarded<T>(act: impl FnOnce() -> Result<T, JournalError>) -> Result<T, JournalError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or(Err(JournalError::Panicked))
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
    use crate::clock::Clock;
    use crate::journal::schema;
    use crate::journal::testing::{row, settings};
    use tokio::sync::oneshot;

    #[tokio::test(start_paused = true)]
    async fn while_the_disk_takes_nothing_only_the_end_hastens_the_next_attempt() {
        let dir = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared::new(dir.path(), settings(), Clock::virtual_from(Timestamp::default()), 100_000));
        let mut engine = Engine::start(Arc::clone(&shared), true).unwrap();
        let other = schema::writer(&shared.folder.file().unwrap()).unwrap();
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
