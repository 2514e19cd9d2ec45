//! The history: what was measured in weeks, at hand for a chart in a moment.
//!
//! It holds nothing of its own. All of it is made of the journal's rows, and can be made again: its file, `history.sqlite3` beside
//! the journal, may be deleted at any time. A thread of low priority puts every row into it, once: buckets of 5 minutes,
//! those of a series one behind the other, see `file`. It has an eighth of the journal's cap and keeps what is no older than
//! the journal's `max_age`; the oldest goes first. What is not in the file yet, an answer takes from the journal.
//!
//! Nobody waits for it: an answer comes within 2 seconds or is an error, and neither measuring, delivery nor a commit of the
//! journal depends on it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::journal::Journal;
use crate::measurement::Series;
use crate::settings::explain;
pub(crate) use file::FILE;
use file::FileError;
use look::Look;
use roller::Roller;

mod catalog;
mod columns;
mod digest;
mod events;
mod file;
// For a benchmark of ours, which sees the library from outside: nobody else is to rely on it.
#[doc(hidden)]
pub mod hand;
mod look;
mod packing;
mod piece;
pub mod range;
pub mod rest;
mod roller;
mod sample;
mod store;
#[cfg(test)]
mod tests;
mod track;

use range::{Range, Span};
pub use sample::FIELDS;

/// Questions that may wait; further ones wait for their turn.
const QUESTIONS: usize = 16;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The share of the journal's cap that the file may have: an eighth.
pub const SHARE: u64 = 8;
/// How long the end waits for each thread.
const LAST: Duration = Duration::from_millis(150);
/// How long a clean stop waits for the file to be closed.
const CLOSE: Duration = Duration::from_millis(500);

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The disk does not have it now.
    #[error("the history cannot be read: {0}")]
    Failing(String),
}

/// How the history is, for `qosd status` and the page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryStatus {
    /// Bytes of the file with its write-ahead file.
    pub bytes: u64,
    /// Series in it.
    pub series: u64,
    /// Buckets of 5 minutes in it.
    pub buckets: u64,
    /// Rows that were put into it since it was made.
    pub rows: u64,
    /// Rows of the journal that are not in it yet. Up to some ten thousand are as they should be.
    pub behind: u64,
    /// When rows were last put into it, by this process.
    #[serde(default)]
    pub added: Option<String>,
    /// Why nothing is added, while it is so.
    pub failing: Option<String>,
    /// Why only the newest can be kept, while it is so: rows are added all the same.
    #[serde(default)]
    pub short: Option<String>,
}

impl HistoryStatus {
    /// What it means that it is so far behind, in a sentence.
    pub fn lag(&self) -> &'static str {
        match self.behind {
            0 => "nothing is lacking",
            _ if self.failing.is_some() => "not added while it fails; charts take what they can from the journal",
            behind if behind <= look::PLACES => {
                "added together, within 15 minutes of the last time; charts take them from the journal until then"
            }
            _ => "more than charts can take from the journal: until they are added, long charts lack a part and say which",
        }
    }
}

/// A handle; clones share it. The default knows nothing.
///
/// When the last one is dropped, the threads end.
#[derive(Clone, Default)]
pub struct History(Option<Arc<Handle>>);

struct Handle {
    shared: Arc<Shared>,
    questions: Option<mpsc::Sender<Question>>,
    done: Mutex<Vec<Done>>,
    /// Its other side goes when the file is closed.
    closed: watch::Receiver<()>,
}

/// A question for the thread that reads.
type Question = Box<dyn FnOnce(&mut Look) + Send>;
/// Ends when the thread that holds the other side ended.
type Done = std::sync::mpsc::Receiver<()>;

/// What the handle and the threads share.
#[derive(Default)]
struct Shared {
    stop: Mutex<bool>,
    wake: Condvar,
    status: Mutex<HistoryStatus>,
    /// Who read the file found it damaged.
    suspect: AtomicBool,
}

impl History {
    /// Begins to keep the history of a journal, in its folder. Fails never: what is wrong is tried again, and shown.
    pub fn open(journal: &Journal, clock: Clock) -> Self {
        let shared = Arc::new(Shared::default());
        let (questions, mut asked) = mpsc::channel::<Question>(QUESTIONS);
        let roller = Roller::new(Arc::clone(&shared), journal.beside(), clock);
        let (beside, doubts) = (journal.beside(), Arc::clone(&shared));
        let (writing, closed) = watch::channel(());
        let threads = [
            spawn("history", move || {
                roller.run();
                drop(writing);
            }),
            spawn("history-read", move || {
                let mut look = Look::new(beside);
                while let Some(question) = asked.blocking_recv() {
                    if is_stopped(&doubts) {
                        return;
                    }
                    // Whoever asked finds its answer missing; the thread lives on for the others.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| question(&mut look)));
                }
            }),
        ];
        let done = threads.into_iter().filter_map(|thread| {
            thread.inspect_err(|error| tracing::error!(%error, "no thread for the history, long charts will not work")).ok()
        });
        let done = Mutex::new(done.collect());
        Self(Some(Arc::new(Handle { shared, questions: Some(questions), done, closed })))
    }

    /// What is known of a series in a span of time, in about so many columns.
    ///
    /// Columns are rows, if there are few, or begin at multiples of their width since the epoch; the first and the last of
    /// those are only as wide as the part of them that is in the span.
    pub async fn range(&self, series: &Series, span: Span, columns: usize) -> Result<Range, HistoryError> {
        self.range_every(series, span, columns, None).await
    }

    /// The same of a series whose interval is known: so few rows are joined, too, if they keep to it.
    pub async fn range_every(
        &self,
        series: &Series,
        span: Span,
        columns: usize,
        interval: Option<Duration>,
    ) -> Result<Range, HistoryError> {
        let series = series.clone();
        let answer = self.ask(move |look| look.range(&series, span, columns, interval)).await?;
        let mut range = answer.unwrap_or_else(|| Range::empty(span));
        // Rows that nobody is about to add are not on their way.
        range.lacking.iter_mut().for_each(|lacking| lacking.why = self.status().failing);
        Ok(range)
    }

    /// Every series that it knows, of ourselves and of others in a mesh, in order.
    pub async fn series(&self) -> Result<Vec<Series>, HistoryError> {
        self.series_where(|_| true).await
    }

    /// Those of them that are wanted, in order. In a mesh, all of a source and a target are wanted, or none.
    pub async fn series_where(&self, wanted: impl Fn(&Series) -> bool + Send + 'static) -> Result<Vec<Series>, HistoryError> {
        Ok(self.ask(move |look| look.series(wanted)).await?.unwrap_or_default())
    }

    /// Ends the keeping, with everything in the main file. Waits for half a second at most: behind a disk that hangs, or a batch
    /// that takes longer, the file is left as after a kill, and is as whole.
    pub async fn close(&self) {
        let Some(handle) = &self.0 else { return };
        handle.shared.stop();
        let mut closed = handle.closed.clone();
        let closed = async move { while closed.changed().await.is_ok() {} };
        if tokio::time::timeout(CLOSE, closed).await.is_err() {
            tracing::warn!("the history takes too long to be closed, the next start looks at it");
        }
    }

    /// How it is.
    pub fn status(&self) -> HistoryStatus {
        self.0.as_ref().map(|handle| held(&handle.shared.status).clone()).unwrap_or_default()
    }

    /// Has the thread answer; nothing if there is none.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Look) -> Result<T, FileError> + Send + 'static,
    ) -> Result<Option<T>, HistoryError> {
        let Some((handle, questions)) = self.0.as_ref().and_then(|handle| Some((handle, handle.questions.as_ref()?))) else {
            return Ok(None);
        };
        let shared = Arc::clone(&handle.shared);
        let (tell, answer) = oneshot::channel();
        let question: Question = Box::new(move |look| {
            if tell.is_closed() {
                return;
            }
            let found = question(look);
            if found.as_ref().is_err_and(FileError::is_damage) {
                shared.suspect();
            }
            // Whoever gave up waiting needs no answer.
            let _ = tell.send(found);
        });
        let failing = |why: &str| HistoryError::Failing(why.to_owned());
        let asked = async {
            questions.send(question).await.map_err(|_| failing("its thread has ended"))?;
            answer.await.map_err(|_| failing("its thread did not answer"))
        };
        let found = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| failing("the disk takes too long"))??;
        found.map(Some).map_err(|error| failing(&explain(&error)))
    }
}

impl Shared {
    /// Waits. Says whether it is time to end.
    fn stopped_within(&self, wait: Duration) -> bool {
        let stop = held(&self.stop);
        let (stop, _) = self.wake.wait_timeout_while(stop, wait, |stop| !*stop).unwrap_or_else(PoisonError::into_inner);
        *stop
    }

    fn stop(&self) {
        *held(&self.stop) = true;
        self.wake.notify_all();
    }

    fn change(&self, change: impl FnOnce(&mut HistoryStatus)) {
        change(&mut held(&self.status));
    }

    fn suspect(&self) {
        self.suspect.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.questions = None;
        self.shared.stop();
        for done in held(&self.done).iter() {
            // Ended, or the disk hangs: nothing is lost with them.
            let _ = done.recv_timeout(LAST);
        }
    }
}

fn is_stopped(shared: &Shared) -> bool {
    *held(&shared.stop)
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<Done> {
    let (alive, done) = std::sync::mpsc::channel();
    std::thread::Builder::new().name(name.into()).spawn(move || {
        run();
        drop(alive);
    })?;
    Ok(done)
}
