//! The parts of the service, put together as `app` does: supervised actors of the toy kind, the writer, the journal, and a
//! database in memory.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use actix::{Addr, AsyncContext, Context};
use qosd::clock::{Clock, Moment, Timestamp};
use qosd::config::{self, Env};
use qosd::journal::{Journal, Mode, Position, Settings};
use qosd::measurement::{Row, Series};
use qosd::probe::actor::{Probe, ProbeParts};
use qosd::probe::ledger::{Counts, Ledger};
use qosd::probe::load::Load;
use qosd::probe::{Assignment, Shared};
use qosd::resolve::Resolver;
use qosd::supervisor::Fault;
use qosd::supervisor::actor::{Drain, Notice, ProvokeIn, Supervisor, View};
use qosd::supervisor::child::{Child, Placement};
use qosd::supervisor::guard::Guarded;
use qosd::supervisor::policy::Policy;
use qosd::supervisor::roster::{Entry, State};
use qosd::writer::{Statuses, Writer, WriterParts, queue};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::database::{Database, Key};
use crate::toy;

/// How soon an actor has to be back after its first failure.
pub(crate) const SOON: Duration = Duration::from_millis(200);
/// Rows that may wait for the writer.
const QUEUE: usize = 10_000;
/// When virtual worlds begin: the first of January 2026.
pub(crate) const GENESIS: Timestamp = Timestamp::from_nanos(1_767_225_600_000_000_000);

/// Where a service lives.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum World {
    /// In paused time and on one thread, with the policies of the real service.
    Virtual,
    /// In real time and on real threads. Ends are healthy after `1ms`, and the first wait is this long.
    Real(Duration),
}

impl World {
    /// Where the journal is. In virtual time a disk that takes its time would only make the test longer.
    pub(crate) fn folder(self) -> TempDir {
        let memory = Path::new("/dev/shm");
        if self == Self::Virtual && memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
    }

    fn policy(self, policy: Policy) -> Policy {
        match self {
            Self::Virtual => policy,
            Self::Real(first) => Policy { first, healthy_after: Duration::from_millis(1), ..policy },
        }
    }
}

/// A running service.
pub(crate) struct Service {
    pub(crate) clock: Clock,
    pub(crate) view: View,
    pub(crate) journal: Journal,
    pub(crate) statuses: Statuses,
    _notices: watch::Receiver<Notice>,
    pub(crate) started: Moment,
    queued: Arc<Queued>,
    kinds: Vec<Measuring>,
    draining: watch::Sender<bool>,
    supervisor: Addr<Supervisor>,
    _outputs: watch::Sender<Arc<Vec<qosd::writer::OutputSpec>>>,
    _folder: TempDir,
}

/// An actor that measures.
struct Measuring {
    assignments: Vec<Arc<Assignment>>,
    ledger: Arc<Mutex<Ledger>>,
    _plan: watch::Sender<Arc<Vec<Arc<Assignment>>>>,
}

/// How many rows are in the queue now, and were at most.
#[derive(Default)]
struct Queued {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Service {
    /// Starts the writer, and for each name an actor of the toy kind that measures what its config says.
    pub(crate) async fn start(world: World, actors: &[(&'static str, &str)], database: &Database) -> Self {
        silence_provoked_panics();
        let (clock, mode, placement) = match world {
            World::Virtual => {
                tokio::time::pause();
                (Clock::virtual_from(GENESIS), Mode::Inline, Placement::Here)
            }
            World::Real(_) => (Clock::system(), Mode::Threaded, Placement::OwnThread),
        };
        let folder = world.folder();
        let settings = Settings { flush: Duration::from_millis(250), max_size: 1 << 30, max_age: Duration::from_hours(720) };
        let journal = Journal::open(&folder.path().join("data"), settings, clock.clone(), mode).unwrap();
        journal.output("main", None).await.unwrap();
        let (outputs, watched) = watch::channel(Arc::new(vec![database.output()]));
        let (statuses, view, queued) = (Statuses::default(), View::default(), Arc::<Queued>::default());
        let (outlet, intake) = queue(QUEUE);
        let taken = Arc::clone(&queued);
        let writer = WriterParts {
            intake,
            journal: journal.clone(),
            outputs: watched,
            statuses: statuses.clone(),
            observe: Arc::new(move |_| {
                taken.now.fetch_sub(1, Ordering::Relaxed);
            }),
            clock: clock.clone(),
            random: Arc::new(|| 0.5),
        };
        let mut children = vec![Child::new("writer", world.policy(Policy::ESSENTIAL), placement, move || Ok(Writer::new(writer.clone())))];
        let sent = Arc::clone(&queued);
        let sink: qosd::probe::actor::RowSink = Arc::new(move |row| {
            sent.most.fetch_max(sent.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            outlet.send(row);
        });
        let shared = Shared { clock: clock.clone(), resolver: Resolver::start(clock.clone()), load: Load::new(clock.clone()) };
        let (draining, drains) = watch::channel(false);
        let mut kinds = Vec::new();
        for (name, text) in actors {
            let assignments = assignments(folder.path(), text);
            let (plan, planned) = watch::channel(Arc::new(assignments.clone()));
            let ledger = Arc::<Mutex<Ledger>>::default();
            let parts = ProbeParts {
                kind: "toy",
                engines: Arc::from(toy::KINDS[0].open()),
                shared: shared.clone(),
                ledger: Arc::clone(&ledger),
                plan: planned,
                sink: Arc::clone(&sink),
                draining: drains.clone(),
            };
            children.push(Child::new(name, world.policy(Policy::PROBE), placement, move || Probe::new(parts.clone())));
            kinds.push(Measuring { assignments, ledger, _plan: plan });
        }
        // As the service does: what comes due while the actors start is scheduled already.
        let started = clock.now();
        for Measuring { assignments, ledger, .. } in &kinds {
            ledger.lock().unwrap().assign(assignments, started);
        }
        let (supervisor, notices) = supervise(children, view.clone(), clock.clone());
        let service = Self {
            clock,
            view,
            journal,
            statuses,
            _notices: notices,
            started,
            queued,
            kinds,
            draining,
            supervisor,
            _outputs: outputs,
            _folder: folder,
        };
        service.until(|service| service.view.roster().entries().len() > actors.len() && service.view.roster().all_working()).await;
        service
    }

    /// Injects a fault.
    pub(crate) async fn provoke(&self, actor: &str, fault: Fault) {
        assert!(self.supervisor.send(ProvokeIn(actor.to_owned(), fault)).await.unwrap(), "there is an actor {actor}");
    }

    /// Injects a panic, and says how long the actor was away.
    pub(crate) async fn panic(&self, actor: &str) -> Duration {
        let before = self.actor(actor).restarts;
        let since = self.clock.now().mono;
        self.provoke(actor, Fault::Panic).await;
        self.until(|service| service.actor(actor).restarts > before && service.works(actor)).await;
        assert_eq!(self.actor(actor).restarts, before + 1);
        self.clock.now().mono.saturating_sub(since)
    }

    /// An actor.
    pub(crate) fn actor(&self, name: &str) -> Entry {
        self.view.roster().entries().iter().find(|entry| entry.name == name).unwrap().clone()
    }

    /// Whether an actor is at work.
    pub(crate) fn works(&self, name: &str) -> bool {
        matches!(self.actor(name).state, State::Running | State::Degraded)
    }

    /// Looks again and again, a minute at most.
    pub(crate) async fn until(&self, done: impl Fn(&Self) -> bool) {
        let limit = self.clock.now().mono + Duration::from_mins(1);
        while !done(self) {
            assert!(self.clock.now().mono < limit, "it does not come: {:?}", self.view.roster());
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Ends the measuring, and waits until every slot has its row and every row is in the database. Gives the time of the end.
    pub(crate) async fn stop(&self) -> Moment {
        let now = self.clock.now();
        self.supervisor.send(Drain).await.unwrap();
        self.draining.send_replace(true);
        self.until(|service| service.kinds.iter().all(|kind| kind.ledger.lock().unwrap().open() == 0)).await;
        self.until(|service| service.queued.now.load(Ordering::Relaxed) == 0).await;
        self.journal.flush().await.unwrap();
        self.until(|service| {
            let status = service.statuses.get("main").unwrap_or_default();
            status.pending == 0 && status.delivered >= service.journal.tip().borrow().0
        })
        .await;
        now
    }

    /// Every row of the journal.
    pub(crate) async fn rows(&self) -> Vec<Row> {
        let (mut rows, mut after) = (Vec::new(), Position(0));
        let tip = *self.journal.tip().borrow();
        while after < tip {
            let more = self.journal.read(after, tip, 5000).await.unwrap();
            let Some(last) = more.last() else { break };
            after = last.position;
            rows.extend(more.into_iter().map(|stored| stored.row));
        }
        rows
    }

    /// Every slot from the start until then, by the schedules alone.
    pub(crate) fn slots(&self, until: Moment) -> BTreeSet<Key> {
        self.slots_by_kind(until).into_iter().flatten().collect()
    }

    /// The same of each kind.
    pub(crate) fn slots_by_kind(&self, until: Moment) -> Vec<BTreeSet<Key>> {
        let of = |assignment: &Arc<Assignment>| {
            let (series, schedule) = (assignment.series.key(), assignment.schedule);
            let slots = std::iter::successors(Some(schedule.after(self.started.unix)), move |slot| Some(schedule.after(*slot)));
            slots.take_while(move |slot| *slot <= until.unix).map(move |slot| (series.clone(), slot.nanos()))
        };
        self.kinds.iter().map(|kind| kind.assignments.iter().flat_map(of).collect()).collect()
    }

    /// What each ledger counted.
    pub(crate) fn counts_by_kind(&self) -> Vec<Counts> {
        self.kinds.iter().map(|kind| kind.ledger.lock().unwrap().counts()).collect()
    }

    /// What the ledgers counted.
    pub(crate) fn counts(&self) -> Counts {
        self.kinds.iter().map(|kind| kind.ledger.lock().unwrap().counts()).fold(Counts::default(), |sum, counts| Counts {
            scheduled: sum.scheduled + counts.scheduled,
            rows: sum.rows + counts.rows,
            skipped: sum.skipped + counts.skipped,
        })
    }

    /// The most rows that ever waited in the queue.
    pub(crate) fn most_queued(&self) -> usize {
        self.queued.most.load(Ordering::Relaxed)
    }
}

/// Supervises actors.
pub(crate) fn supervise(children: Vec<Child>, view: View, clock: Clock) -> (Addr<Supervisor>, watch::Receiver<Notice>) {
    let (notice, notices) = watch::channel(Notice::Working);
    let context = Context::<Supervisor>::new();
    let address = context.address();
    drop(actix_rt::spawn(Guarded::new(context, Supervisor::new(children, view, notice, clock, || 0.5))));
    (address, notices)
}

fn assignments(folder: &Path, text: &str) -> Vec<Arc<Assignment>> {
    let path = folder.join("qosd.toml");
    std::fs::write(&path, text).unwrap();
    config::load(&path, toy::KINDS, &Env::new()).unwrap_or_else(|problems| panic!("{problems}")).assignments
}

/// Keeps panics that tests provoke out of their output; others are shown as ever.
pub(crate) fn silence_provoked_panics() {
    static SILENCED: Once = Once::new();
    SILENCED.call_once(|| {
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|message| message.starts_with("provoked")) {
                shown(info);
            }
        }));
    });
}

/// The target of a row's series.
pub(crate) fn target(series: &Series) -> &str {
    series.tag("target").unwrap_or_default()
}

/// Shows how long an actor was away in real time, and checks it. That none is longer is shown in virtual time, where only qosd
/// decides; here one in ten may be what a busy host adds.
pub(crate) fn assert_soon(actor: &str, away: &mut [Duration]) {
    away.sort_unstable();
    let (middle, nine_in_ten, most) = (away[away.len() / 2], away[away.len() * 9 / 10 - 1], away[away.len() - 1]);
    println!("{actor}: {} failures, back after {middle:?} in the middle, {nine_in_ten:?} in nine of ten, {most:?} at most", away.len());
    assert!(nine_in_ten <= SOON, "{actor} was away for {nine_in_ten:?}");
}
