//! Throughput tests of this host: never two at a time, and which runs they overlapped.
//!
//! A test saturates the path, so what else is measured meanwhile says so: fields `loaded` and `load_test`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::clock::Clock;
use crate::measurement::Series;

/// Tests that are remembered; the longest run of any kind is shorter than this many tests in a row.
const REMEMBERED: usize = 256;

/// The tests of this host. Clones share them.
#[derive(Clone)]
pub struct Load {
    lease: Arc<tokio::sync::Mutex<()>>,
    tests: Arc<Mutex<Tests>>,
    clock: Clock,
}

/// The right to saturate the path; ends when it is dropped.
pub struct Lease {
    _held: OwnedMutexGuard<()>,
}

/// A test that runs; it has ended when this is dropped.
pub struct Running {
    load: Load,
    id: u64,
}

impl Load {
    /// No test so far.
    pub fn new(clock: Clock) -> Self {
        Self { lease: Arc::default(), tests: Arc::default(), clock }
    }

    /// The name of the test of a series: `kind/probe/target`.
    pub fn name(series: &Series) -> String {
        ["kind", "probe", "target"].map(|key| series.tag(key).unwrap_or_default()).join("/")
    }

    /// Waits until no other test of ours runs.
    pub async fn lease(&self) -> Lease {
        Lease { _held: Arc::clone(&self.lease).lock_owned().await }
    }

    /// A test under our lease begins.
    pub fn begin(&self, name: &str, _lease: &Lease) -> Running {
        self.begin_elsewhere(name)
    }

    /// A test begins that somebody else started, on a server of ours.
    pub fn begin_elsewhere(&self, name: &str) -> Running {
        let now = self.clock.now().mono;
        let id = self.tests().begin(name, now);
        Running { load: self.clone(), id }
    }

    /// Whether a test runs.
    pub fn is_running(&self) -> bool {
        self.tests().all.iter().any(|test| test.ended.is_none())
    }

    /// The first test, other than `own`, that ran at any time since `from`. A run that is a test itself is not loaded by
    /// those whose end it waited for.
    pub fn overlapping(&self, from: Duration, own: &str) -> Option<String> {
        self.tests().overlapping(from, own)
    }

    fn tests(&self) -> MutexGuard<'_, Tests> {
        self.tests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let now = self.load.clock.now().mono;
        self.load.tests().end(self.id, now);
    }
}

/// The account of the tests. Pure.
#[derive(Default)]
struct Tests {
    all: VecDeque<Test>,
    last_id: u64,
}

struct Test {
    id: u64,
    name: String,
    began: Duration,
    ended: Option<Duration>,
}

impl Tests {
    fn begin(&mut self, name: &str, now: Duration) -> u64 {
        if self.all.len() == REMEMBERED {
            self.all.pop_front();
        }
        self.last_id += 1;
        self.all.push_back(Test { id: self.last_id, name: name.to_owned(), began: now, ended: None });
        self.last_id
    }

    fn end(&mut self, id: u64, now: Duration) {
        if let Some(test) = self.all.iter_mut().find(|test| test.id == id) {
            test.ended = Some(now);
        }
    }

    fn overlapping(&self, from: Duration, own: &str) -> Option<String> {
        let own_began = self.all.iter().filter(|test| test.name == own && test.began >= from).map(|test| test.began).min();
        let overlaps = |test: &&Test| {
            let ended_in_time = |ended: Duration| own_began.map_or(ended >= from, |began| ended > began);
            test.name != own && test.ended.is_none_or(ended_in_time)
        };
        self.all.iter().find(overlaps).map(|test| test.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_run_is_loaded_by_what_ran_at_any_time_of_it_but_not_by_itself() {
        let mut tests = Tests::default();
        let first = tests.begin("a", Duration::ZERO);
        assert_eq!(tests.overlapping(SECOND, "ping"), Some("a".to_owned()), "still running");
        assert_eq!(tests.overlapping(SECOND, "a"), None);
        tests.end(first, 5 * SECOND);
        assert_eq!(tests.overlapping(4 * SECOND, "ping"), Some("a".to_owned()), "ended within the run");
        assert_eq!(tests.overlapping(6 * SECOND, "ping"), None, "ended before it");
    }

    #[test]
    fn a_test_is_not_loaded_by_the_one_it_waited_for_but_by_what_ran_beside_it() {
        let mut tests = Tests::default();
        let first = tests.begin("a", Duration::ZERO);
        tests.end(first, 5 * SECOND);
        let own = tests.begin("b", 5 * SECOND);
        tests.end(own, 7 * SECOND);
        assert_eq!(tests.overlapping(SECOND, "b"), None, "it waited for the end of the other");
        assert_eq!(tests.overlapping(SECOND, "ping"), Some("a".to_owned()));
        tests.begin("server", 6 * SECOND);
        assert_eq!(tests.overlapping(SECOND, "b"), Some("server".to_owned()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut tests = Tests::default();
        for _ in 0..1000 {
            let id = tests.begin("a", Duration::ZERO);
            tests.end(id, SECOND);
        }
        assert_eq!(tests.all.len(), REMEMBERED);
    }

    #[tokio::test(start_paused = true)]
    async fn two_tests_never_overlap() {
        let load = Load::new(Clock::system());
        let lease = load.lease().await;
        let running = load.begin("a", &lease);
        let waiting = tokio::time::timeout(SECOND, load.lease()).await;
        assert!(waiting.is_err());
        drop((running, lease));
        load.lease().await;
    }
}
