//! A database in memory, which keeps each row under its series and time as a real one does, and fails as real ones do.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use qosd::clock::{Clock, Timestamp};
use qosd::journal::Stored;
use qosd::measurement::Row;
use qosd::writer::{Destination, Output, OutputSpec, Verdict};
use tokio::time::sleep;

/// The most rows that a request may carry.
pub(crate) const BATCH: usize = 500;
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How it behaves at present.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Mood {
    /// It takes everything.
    #[default]
    Well,
    /// It takes everything, and its time.
    Slow,
    /// No connection.
    Away,
    /// No answer.
    Hangs,
    /// It takes everything, and the answer gets lost.
    Mute,
    /// It takes a part, then the connection breaks.
    Breaks,
    /// The key is wrong.
    Closed,
    /// It asks for a pause.
    Busy,
    /// It takes a few rows at once.
    Narrow,
    /// It does not take the rows of one series, but the others of a request.
    Picky,
}

impl Mood {
    /// Every way to fail.
    pub(crate) const BAD: [Self; 8] =
        [Self::Away, Self::Hangs, Self::Mute, Self::Breaks, Self::Closed, Self::Busy, Self::Narrow, Self::Picky];
}

/// A row's series and time.
pub(crate) type Key = (String, i64);

/// Where a row is kept.
pub(crate) fn key(row: &Row) -> Key {
    (row.series.key(), row.time.nanos())
}

/// The database. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Database(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    mood: Mood,
    /// The most rows of a request, if not [`BATCH`].
    batch: Option<usize>,
    clock: Option<Clock>,
    /// When each row was first taken.
    arrived: BTreeMap<Key, Timestamp>,
    /// The fields of each row.
    rows: BTreeMap<Key, String>,
    amended: usize,
    requests: usize,
    largest: (usize, usize),
}

impl Database {
    /// One that is sent so many rows at once.
    pub(crate) fn taking(batch: usize) -> Self {
        let database = Self::default();
        database.state(|state| state.batch = Some(batch));
        database
    }

    /// When each row was first taken.
    pub(crate) fn arrived(&self) -> BTreeMap<Key, Timestamp> {
        self.state(|state| state.arrived.clone())
    }

    /// From now on it behaves like this.
    pub(crate) fn is(&self, mood: Mood) {
        self.state(|state| state.mood = mood);
    }

    /// How many rows it has.
    pub(crate) fn len(&self) -> usize {
        self.state(|state| state.rows.len())
    }

    /// The rows that it has.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.state(|state| state.rows.keys().cloned().collect())
    }

    /// Rows that were sent again with other fields.
    pub(crate) fn amended(&self) -> usize {
        self.state(|state| state.amended)
    }

    /// Requests that it got.
    pub(crate) fn requests(&self) -> usize {
        self.state(|state| state.requests)
    }

    /// The most rows, and bytes, of a request.
    pub(crate) fn largest(&self) -> (usize, usize) {
        self.state(|state| state.largest)
    }

    /// As the config would have it.
    pub(crate) fn output(&self) -> OutputSpec {
        let flush_interval = Duration::from_secs(1);
        let batch_size = self.state(|state| state.batch.unwrap_or(BATCH));
        OutputSpec { name: "main".to_owned(), batch_size, flush_interval, replay: None, destination: Arc::new(self.clone()) }
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.0.lock().unwrap())
    }
}

impl State {
    fn store<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>, after: Duration) {
        let now = self.clock.as_ref().map(|clock| clock.now().unix.plus(after)).unwrap_or_default();
        for line in lines {
            let mut parts = line.split('\t');
            let mut part = || parts.next().unwrap().to_owned();
            let (key, fields) = ((part(), part().parse().unwrap()), part());
            self.arrived.entry(key.clone()).or_insert(now);
            let before = self.rows.insert(key, fields.clone());
            self.amended += usize::from(before.is_some_and(|before| before != fields));
        }
    }

    /// What it does with a request, and the verdict on its answer after how long.
    fn take(&mut self, body: &str) -> (Duration, Verdict) {
        let lines: Vec<&str> = body.lines().collect();
        let refused = |line: &&str| line.contains("picked");
        let why = || format!("{:?}", self.mood);
        let verdict = match self.mood {
            Mood::Away | Mood::Hangs | Mood::Mute | Mood::Breaks => Verdict::Unknown { why: why() },
            Mood::Closed => Verdict::Hold { why: why() },
            Mood::Busy => Verdict::After { wait: Duration::from_secs(7), why: why() },
            Mood::Narrow if lines.len() > 3 => Verdict::TooLarge,
            Mood::Picky if lines.iter().any(refused) => Verdict::Refused { why: why(), refused: None },
            Mood::Well | Mood::Slow | Mood::Narrow | Mood::Picky => Verdict::Accepted,
        };
        let after = match self.mood {
            Mood::Hangs | Mood::Mute => TIMEOUT,
            Mood::Slow => Duration::from_millis(200),
            _ => Duration::from_millis(5),
        };
        match (self.mood, &verdict) {
            (Mood::Mute, _) | (_, Verdict::Accepted) => self.store(lines, after),
            (Mood::Breaks, _) => self.store(lines.iter().take(lines.len() / 2).copied(), after),
            (Mood::Picky, _) => self.store(lines.into_iter().filter(|line| !refused(line)), after),
            _ => {}
        }
        (after, verdict)
    }
}

impl Destination for Database {
    fn connect(&self, clock: &Clock) -> Result<Box<dyn Output>, String> {
        self.state(|state| state.clock = Some(clock.clone()));
        Ok(Box::new(self.clone()))
    }

    fn same(&self, other: &dyn Destination) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|other| Arc::ptr_eq(&self.0, &other.0))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Output for Database {
    fn encode(&self, rows: &[Stored]) -> Option<Bytes> {
        let line = |Stored { row, .. }: &Stored| {
            let fields = serde_json::to_string(&row.fields).unwrap();
            format!("{}\t{}\t{fields}", row.series.key(), row.time.nanos())
        };
        let body = rows.iter().map(line).collect::<Vec<_>>().join("\n");
        self.state(|state| state.largest = (state.largest.0.max(rows.len()), state.largest.1.max(body.len())));
        (!rows.is_empty()).then(|| body.into())
    }

    fn send(&self, body: Bytes) -> LocalBoxFuture<'_, Verdict> {
        let (after, verdict) = self.state(|state| {
            state.requests += 1;
            state.take(std::str::from_utf8(&body).unwrap())
        });
        Box::pin(async move {
            sleep(after).await;
            verdict
        })
    }
}
