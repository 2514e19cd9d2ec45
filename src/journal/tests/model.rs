//! The journal against a plain model in memory: random steps of all that happens to one in years.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// A small cap, so that it is reached often.
const CAP: u64 = 256 << 10;
/// Slots that others send results of.
const SLOTS: u64 = 200;
/// Steps of one run.
const STEPS: u64 = 2_000;

/// What there should be.
#[derive(Default)]
struct Model {
    /// Rows by position.
    rows: BTreeMap<u64, Row>,
    next: u64,
    receipts: BTreeMap<u64, u64>,
    acknowledged: Acknowledged,
    lost: u64,
}

impl Model {
    fn add(&mut self, row: Row) {
        self.next += 1;
        self.rows.insert(self.next, row);
    }
}

struct World {
    dir: tempfile::TempDir,
    journal: Journal,
    model: Model,
    random: StdRng,
    started: tokio::time::Instant,
    counted: i64,
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn small(dir: &Path, since: Duration) -> Journal {
    let settings = Settings { max_size: CAP, max_age: Duration::from_hours(1), ..settings() };
    Journal::open(dir, settings, Clock::virtual_from(at(since.as_secs() as i64)), Mode::Inline).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let dir = scratch();
        let journal = small(dir.path(), Duration::ZERO);
        let (model, random) = (Model::default(), StdRng::seed_from_u64(seed));
        Self { dir, journal, model, random, started: tokio::time::Instant::now(), counted: 0 }
    }

    fn row(&mut self) -> Row {
        self.counted += 1;
        row(["a", "b", "c"][self.random.random_range(0..3)], at(self.started.elapsed().as_secs() as i64).nanos() + self.counted)
    }

    fn engine(&self) -> std::sync::MutexGuard<'_, Engine> {
        let Runner::Inline(engine) = &self.journal.0.runner else { panic!("not inline") };
        held(engine)
    }

    async fn step(&mut self) {
        match self.random.random_range(0..1_000) {
            0..500 => {
                let count = self.random.random_range(1..6);
                let rows: Vec<Row> = (0..count).map(|_| self.row()).collect();
                rows.iter().cloned().for_each(|row| self.model.add(row));
                self.journal.append(rows);
            }
            500..700 => self.receive(),
            700..950 => self.acknowledge(),
            950..970 => tokio::time::advance(Duration::from_secs(self.random.random_range(1..600))).await,
            970..980 => self.engine().fill_disk(),
            980..985 => self.engine().fail_sync(),
            985..992 => self.check().await,
            992..996 => self.stop().await,
            _ => self.crash().await,
        }
    }

    fn receive(&mut self) {
        let slot = self.random.random_range(0..SLOTS);
        let row = self.row();
        let receipt = Receipt::new(&["peer"], Timestamp::from_nanos(slot as i64));
        // Refused while the disk takes nothing: whoever sent it keeps it.
        let Ok(fates) = self.journal.receive(vec![(row.clone(), Some(receipt))]) else { return };
        let known = self.model.receipts.contains_key(&slot);
        if let Some(fate) = fates.iter().next().unwrap() {
            assert_eq!(fate, if known { Fate::Known } else { Fate::Stored });
        } else {
            // It waits, and who sent it is not told that it is durable: then its fate is decided by the next attempt.
            self.journal.append(Vec::new());
            self.journal.acknowledge("settle", &Acknowledged::starting_at(Position(self.model.next)));
        }
        if !known {
            self.model.add(row);
            self.model.receipts.insert(slot, self.model.next);
        }
    }

    fn acknowledge(&mut self) {
        let tip = self.journal.tip().borrow().0;
        if tip == 0 {
            return;
        }
        let from = self.model.acknowledged.floor().0.max(tip.saturating_sub(800)).min(tip) + 1;
        let from = if self.random.random_bool(0.8) { from } else { self.random.random_range(from..=from.max(tip)) };
        let to = (from + self.random.random_range(0..12)).min(tip);
        self.model.acknowledged.add(Position(from), Position(to));
        self.journal.acknowledge("main", &self.model.acknowledged);
    }

    /// The process is killed: what was in memory alone is gone.
    async fn crash(&mut self) {
        let tip = self.journal.tip().borrow().0;
        let copy = scratch();
        for name in ["journal.sqlite3", "journal.sqlite3-wal"] {
            let _ = std::fs::copy(self.dir.path().join(name), copy.path().join(name));
        }
        self.model.rows.split_off(&(tip + 1));
        self.model.receipts.retain(|_, position| *position <= tip);
        self.model.next = tip;
        self.reopen(copy).await;
    }

    async fn stop(&mut self) {
        // The first may find that the disk takes nothing; the next opens the file anew.
        while self.journal.close().await.is_err() {}
        let dir = std::mem::replace(&mut self.dir, scratch());
        self.reopen(dir).await;
    }

    async fn reopen(&mut self, dir: tempfile::TempDir) {
        // Lets go of the folder first.
        let elsewhere = scratch();
        self.journal = small(elsewhere.path(), Duration::ZERO);
        self.journal = small(dir.path(), self.started.elapsed());
        self.dir = dir;
        let acknowledged = self.journal.output("main", None).await.unwrap();
        // What was acknowledged while the disk took nothing may be forgotten: the rows are sent again.
        let ours = &self.model.acknowledged;
        assert!(self.model.rows.keys().all(|at| !acknowledged.contains(Position(*at)) || ours.contains(Position(*at))));
        self.model.acknowledged = acknowledged;
        self.check().await;
    }

    /// Whatever is missing was delivered, or is counted; nothing is altered or in another place.
    async fn check(&mut self) {
        while self.journal.flush().await.is_err() {}
        assert_eq!(self.journal.tip().borrow().0, self.model.next);
        let stored = all(&self.journal).await;
        let there: BTreeSet<u64> = stored.iter().map(|stored| stored.position.0).collect();
        for stored in &stored {
            assert_eq!(self.model.rows.get(&stored.position.0), Some(&stored.row), "at {:?}", stored.position);
        }
        let (model, mut lost) = (&mut self.model, 0);
        model.rows.retain(|at, _| {
            let is_there = there.contains(at);
            lost += u64::from(!is_there && !model.acknowledged.contains(Position(*at)));
            is_there
        });
        model.lost += lost;
        let stats = self.journal.stats();
        assert_eq!((stats.rows, stats.dropped_size), (there.len() as u64, model.lost));
        assert_eq!((stats.damaged, stats.dropped_memory, stats.waiting), (0, 0, 0));
    }
}

fn run(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed);
        world.journal.output("main", None).await.unwrap();
        for _ in 0..STEPS {
            world.step().await;
        }
        world.check().await;
    });
}

#[test]
#[expect(clippy::print_stdout, reason = "a seed that fails has to be known")]
fn whatever_happens_the_journal_is_as_a_plain_model_says() {
    let runs = if std::env::var_os("QOSD_PROVE").is_some_and(|value| value == "1") { 1_000 } else { 50 };
    let first: u64 = std::env::var("QOSD_SEED").ok().map_or_else(|| u64::from(std::process::id()) * 1_000, |seed| seed.parse().unwrap());
    println!("{runs} runs of {STEPS} steps, from QOSD_SEED={first}");
    let next = std::sync::atomic::AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs {
                        return;
                    }
                    println!("seed {seed}");
                    run(seed);
                }
            });
        }
    });
}
