//! The writer in virtual time: rows in = rows in the journal = rows at every output, whatever happens on the way.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use actix::Context;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use qosd::clock::{Clock, Timestamp};
use qosd::influxdb::answer;
use qosd::journal::{Journal, Mode, Position, Settings, Stored};
use qosd::measurement::{Field, Fields, Row, Series};
use qosd::writer::{Destination, Outlet, Output, OutputSpec, Statuses, Verdict, Writer, WriterParts, queue};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::service::{GENESIS, World};

/// How an output behaves at present.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    Well,
    Away,
    Hangs,
    WrongToken,
    Answers(u16),
    /// Not now: with a 503 and this `Retry-After`.
    Asks(&'static str),
    /// It takes everything, and so long for it.
    Slow(Duration),
}

/// An output that keeps what it is sent in memory, by time of the row.
#[derive(Clone)]
pub(crate) struct Fake {
    settings: u32,
    mood: Arc<Mutex<Mood>>,
    pub(crate) stored: Arc<Mutex<BTreeMap<i64, usize>>>,
    /// When it was sent something, taken or not.
    pub(crate) asked: Arc<Mutex<Vec<Instant>>>,
    largest: Arc<AtomicUsize>,
    connects: Arc<AtomicUsize>,
    /// Requests that are on their way.
    busy: Arc<AtomicUsize>,
    /// Batches that were encoded while one was on its way.
    ahead: Arc<AtomicUsize>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let mood = Arc::new(Mutex::new(Mood::Well));
        let (stored, asked, largest, connects, busy, ahead) = Default::default();
        Self { settings: 0, mood, stored, asked, largest, connects, busy, ahead }
    }

    pub(crate) fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(crate) fn spec(&self, name: &str) -> OutputSpec {
        let flush_interval = Duration::from_secs(1);
        OutputSpec { name: name.to_owned(), batch_size: 100, flush_interval, replay: None, destination: Arc::new(self.clone()) }
    }

    pub(crate) fn times(&self) -> Vec<i64> {
        self.stored.lock().unwrap().keys().copied().collect()
    }

    /// The most rows of a request.
    pub(crate) fn largest(&self) -> usize {
        self.largest.load(Ordering::Relaxed)
    }

    fn connects(&self) -> usize {
        self.connects.load(Ordering::Relaxed)
    }
}

impl Destination for Fake {
    fn connect(&self, _: &Clock) -> Result<Box<dyn Output>, String> {
        self.connects.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(self.clone()))
    }

    fn same(&self, other: &dyn Destination) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|other| other.settings == self.settings)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Output for Fake {
    fn encode(&self, rows: &[Stored]) -> Option<Bytes> {
        self.largest.fetch_max(rows.len(), Ordering::Relaxed);
        self.ahead.fetch_add(self.busy.load(Ordering::Relaxed), Ordering::Relaxed);
        let times: Vec<String> = rows.iter().map(|stored| stored.row.time.nanos().to_string()).collect();
        (!times.is_empty()).then(|| times.join(" ").into())
    }

    fn send(&self, body: Bytes) -> LocalBoxFuture<'_, Verdict> {
        let mood = *self.mood.lock().unwrap();
        self.asked.lock().unwrap().push(Instant::now());
        let judged =
            |status: u16, headers: &HeaderMap| answer::judge(reqwest::StatusCode::from_u16(status).unwrap(), headers, b"", GENESIS, &[]);
        Box::pin(async move {
            match mood {
                Mood::Hangs => return std::future::pending().await,
                Mood::Away => return Verdict::Unknown { why: "away".to_owned() },
                Mood::WrongToken => return Verdict::Hold { why: "401".to_owned() },
                Mood::Answers(status) => return judged(status, &HeaderMap::new()),
                Mood::Asks(when) => return judged(503, &HeaderMap::from_iter([(RETRY_AFTER, when.parse().unwrap())])),
                Mood::Slow(takes) => sleep(takes).await,
                Mood::Well => {
                    self.busy.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(5)).await;
                    self.busy.fetch_sub(1, Ordering::Relaxed);
                }
            }
            for time in std::str::from_utf8(&body).unwrap().split(' ') {
                *self.stored.lock().unwrap().entry(time.parse().unwrap()).or_default() += 1;
            }
            Verdict::Accepted
        })
    }
}

/// Everything that outlives the actor.
pub(crate) struct Bench {
    outlet: Outlet,
    pub(crate) parts: WriterParts,
    pub(crate) outputs: watch::Sender<Arc<Vec<OutputSpec>>>,
    _folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new(outputs: Vec<OutputSpec>) -> Self {
        Self::with_journal_of(1 << 30, outputs)
    }

    /// With a journal of so many bytes at most.
    pub(crate) fn with_journal_of(max_size: u64, outputs: Vec<OutputSpec>) -> Self {
        tokio::time::pause();
        // A disk that takes its time would only make the test longer.
        let folder = World::Virtual.folder();
        let clock = Clock::virtual_from(GENESIS);
        let settings = Settings { flush: Duration::from_millis(250), max_size, max_age: Duration::from_hours(720) };
        let journal = Journal::open(folder.path(), settings, clock.clone(), Mode::Inline).unwrap();
        for output in &outputs {
            // As the service does before it appends the first row: a new output starts now.
            journal.output(&output.name, output.replay).now_or_never().unwrap().unwrap();
        }
        let (outlet, intake) = queue(10_000);
        let (outputs, watched) = watch::channel(Arc::new(outputs));
        let (statuses, observe, random) = (Statuses::default(), Arc::new(|_: &Row| {}), Arc::new(|| 0.5));
        let parts = WriterParts { intake, journal, outputs: watched, statuses, observe, clock, random };
        Self { outlet, parts, outputs, _folder: folder }
    }

    /// Where rows are put.
    pub(crate) fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    pub(crate) fn send(&self, times: impl IntoIterator<Item = i64>) {
        for time in times {
            let mut fields = Fields::new();
            fields.integer(Field::integer("n"), time);
            self.outlet.send(Row { series: Series::new("m", [("a", "b")]), time: Timestamp::from_nanos(time), fields });
        }
    }

    /// One life of the writer, as a supervisor gives it: true if it ended in a panic.
    pub(crate) fn start(&self) -> actix_rt::task::JoinHandle<bool> {
        let mut life = Some(Box::pin(Context::new().into_future(Writer::new(self.parts.clone()))));
        actix_rt::spawn(std::future::poll_fn(move |task| {
            let Some(running) = life.as_mut() else { return Poll::Ready(true) };
            if let Ok(poll) = catch_unwind(AssertUnwindSafe(|| Pin::as_mut(running).poll(task))) {
                return poll.map(|()| false);
            }
            // Else its drop would poll what has just panicked.
            actix::ActorContext::terminate(running.ctx());
            life = None;
            Poll::Ready(true)
        }))
    }

    pub(crate) fn tip(&self) -> Position {
        *self.parts.journal.tip().borrow()
    }
}

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn all(n: i64) -> Vec<i64> {
    (1..=n).collect()
}

#[actix::test]
async fn every_row_is_in_the_journal_and_at_every_output() {
    let (one, other) = (Fake::new(), Fake::new());
    let bench = Bench::new(vec![one.spec("one"), other.spec("other")]);
    bench.start();
    for hundred in 0..50 {
        bench.send(hundred * 100 + 1..=hundred * 100 + 100);
        sleep(seconds(10)).await;
    }
    assert_eq!(bench.tip(), Position(5000));
    for fake in [one, other] {
        assert_eq!(fake.times(), all(5000));
        assert!(fake.stored.lock().unwrap().values().all(|count| *count == 1), "sent once");
        assert!(fake.largest.load(Ordering::Relaxed) <= 100);
    }
    assert_eq!(bench.outlet.dropped(), 0);
}

#[actix::test]
async fn six_hours_without_the_database_lose_nothing() {
    let fake = Fake::new();
    let bench = Bench::new(vec![fake.spec("main")]);
    bench.start();
    for minute in 1..=24 * 60 {
        fake.is(if (600..960).contains(&minute) { Mood::Away } else { Mood::Well });
        bench.send([minute]);
        sleep(seconds(60)).await;
        if minute == 900 {
            let status = bench.parts.statuses.get("main").unwrap();
            assert_eq!((status.pending, status.last_error.as_deref()), (301, Some("away")));
            let failing_for = bench.parts.clock.now().unix.since(status.since.unwrap());
            assert!(failing_for > seconds(4 * 3600 + 58 * 60), "{failing_for:?}");
            assert!(status.retries > 300 && status.retries < 1300, "{}", status.retries);
        }
    }
    assert_eq!(fake.times(), all(24 * 60));
    let status = bench.parts.statuses.get("main").unwrap();
    assert_eq!((status.pending, status.delivered, status.last_error, status.since), (0, 24 * 60, None, None));
}

#[actix::test]
async fn the_next_batch_of_a_backlog_is_ready_when_the_one_before_it_is_accepted() {
    let fake = Fake::new();
    let bench = Bench::new(vec![fake.spec("main")]);
    fake.is(Mood::Away);
    bench.send(1..=1000);
    bench.start();
    sleep(seconds(600)).await;
    assert!(fake.times().is_empty());
    fake.is(Mood::Well);
    sleep(seconds(120)).await;
    assert_eq!(fake.times(), all(1000));
    assert!(fake.stored.lock().unwrap().values().all(|count| *count == 1), "sent once");
    assert_eq!(fake.ahead.load(Ordering::Relaxed), 9, "all but the newest batch, which goes first");
}

/// (I5, I6, I9)
#[actix::test]
async fn an_hour_each_of_401_403_404_and_429_loses_nothing_and_makes_no_dead_letter() {
    let fake = Fake::new();
    let bench = Bench::new(vec![fake.spec("main")]);
    bench.start();
    for minute in 1..=4 * 60 {
        fake.is(Mood::Answers([401, 403, 404, 429][(minute as usize - 1) / 60]));
        bench.send([minute]);
        sleep(seconds(60)).await;
    }
    assert_eq!((fake.times(), bench.parts.statuses.get("main").unwrap().pending), (vec![], 240));
    fake.is(Mood::Well);
    sleep(seconds(120)).await;
    assert_eq!(fake.times(), all(240));
    let status = bench.parts.statuses.get("main").unwrap();
    assert_eq!((status.pending, status.delivered, status.refused, bench.parts.journal.dead("main").letters), (0, 240, 0, 0));
}

#[actix::test]
async fn an_output_that_hangs_holds_up_neither_the_journal_nor_the_others() {
    let (stuck, well) = (Fake::new(), Fake::new());
    stuck.is(Mood::Hangs);
    let bench = Bench::new(vec![stuck.spec("stuck"), well.spec("well")]);
    bench.start();
    for row in 1..=600 {
        bench.send([row]);
        sleep(seconds(1)).await;
    }
    sleep(seconds(5)).await;
    assert_eq!(bench.tip(), Position(600));
    assert_eq!((well.times(), stuck.times()), (all(600), vec![]));
}

#[actix::test]
async fn a_panic_of_the_writer_loses_no_row() {
    let fake = Fake::new();
    let mut bench = Bench::new(vec![fake.spec("main")]);
    bench.parts.observe = Arc::new(|row| assert!(row.time.nanos() % 10 != 0, "injected"));
    let mut lives = 0;
    let mut life = bench.start();
    for row in 1..=1000 {
        bench.send([row]);
        sleep(Duration::from_millis(700)).await;
        if life.is_finished() {
            assert!(life.await.unwrap());
            lives += 1;
            life = bench.start();
        }
    }
    sleep(seconds(5)).await;
    assert_eq!(lives, 100);
    assert_eq!((bench.tip(), fake.times()), (Position(1000), all(1000)));
    let status = bench.parts.statuses.get("main").unwrap();
    assert!(status.delivered >= 1000, "counts go on over a restart: {}", status.delivered);
}

#[actix::test]
async fn rows_sent_while_no_writer_runs_wait_for_the_next() {
    let fake = Fake::new();
    let bench = Bench::new(vec![fake.spec("main")]);
    bench.send(1..=500);
    sleep(seconds(60)).await;
    bench.start();
    sleep(seconds(5)).await;
    assert_eq!((bench.tip(), fake.times()), (Position(500), all(500)));
}

#[actix::test]
async fn a_reload_touches_only_the_outputs_that_changed() {
    let (stays, changes, goes, comes) = (Fake::new(), Fake::new(), Fake::new(), Fake::new());
    let bench = Bench::new(vec![stays.spec("stays"), changes.spec("changes"), goes.spec("goes")]);
    bench.start();
    changes.is(Mood::WrongToken);
    bench.send(1..=10);
    sleep(seconds(600)).await;
    assert_eq!((goes.times(), changes.times()), (all(10), vec![]));

    // A new token: the output is made anew and tries at once, though it was backing off.
    changes.is(Mood::Well);
    let changed = Fake { settings: 1, ..changes.clone() };
    bench.outputs.send(Arc::new(vec![changed.spec("changes"), stays.spec("stays"), comes.spec("comes")])).unwrap();
    sleep(seconds(2)).await;
    assert_eq!(changes.times(), all(10));
    bench.send(11..=20);
    sleep(seconds(5)).await;
    assert_eq!((stays.times(), changes.times(), goes.times()), (all(20), all(20), all(10)));
    assert!(comes.times().ends_with(&(11..=20).collect::<Vec<_>>()));
    assert_eq!((stays.connects(), changes.connects(), goes.connects(), comes.connects()), (1, 2, 1, 1));
    let names: Vec<String> = bench.parts.statuses.all().into_iter().map(|status| status.name).collect();
    assert_eq!(names, ["changes", "comes", "stays"]);
}

#[actix::test]
async fn a_reload_that_changes_nothing_touches_nothing() {
    let fake = Fake::new();
    let bench = Bench::new(vec![fake.spec("main")]);
    bench.start();
    for row in 1..=200 {
        bench.outputs.send(Arc::new(vec![fake.spec("main")])).unwrap();
        bench.send([row]);
        sleep(Duration::from_millis(100)).await;
    }
    sleep(seconds(2)).await;
    assert_eq!((fake.connects(), fake.times()), (1, all(200)));
}
