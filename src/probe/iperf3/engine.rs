//! Makes runs of tests: waits for the turn, runs each, gives a busy server one more chance.
//!
//! It lives on the kind's own thread, which is what its children die with.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout_at};

use super::process::{self, StartError};
use super::report::{self, Failure, Tested};
use super::settings::{Host, Job};
use super::test::Test;
use crate::probe::load::Lease;
use crate::probe::{ADDRESS, DNS_STALE, Engine, Finding, Outcome, Shared, Skip, Slot};
use crate::resolve::Resolved;

/// A server that has just ended a test, or starts anew after each, refuses for a moment.
const REFUSED_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(600));
/// How to get the program.
pub const FIX: &str = "install iperf3, e.g. apt-get install iperf3";

/// What outlives restarts: whether it was told that there is no iperf3.
#[derive(Default)]
pub struct Lent {
    missing_told: AtomicBool,
}

impl Lent {
    fn tell(&self, missing: Option<&StartError>) {
        let told = self.missing_told.swap(missing.is_some(), Ordering::Relaxed);
        match missing {
            Some(error) if !told => tracing::error!(%error, fix = FIX, "iperf3 cannot be run"),
            None if told => tracing::info!("iperf3 can be run again"),
            Some(_) | None => {}
        }
    }
}

/// Runs tests. Clones share everything.
#[derive(Clone)]
pub struct Iperf3Engine(Rc<Inner>);

struct Inner {
    lent: Arc<Lent>,
    shared: Shared,
}

impl Iperf3Engine {
    /// An engine on this thread.
    pub fn new(lent: Arc<Lent>, shared: Shared) -> Self {
        Self(Rc::new(Inner { lent, shared }))
    }

    /// One run; `due` is when its slot began, on the monotonic clock.
    pub async fn measure(&self, job: &Job, due: Duration) -> Finding {
        let Resolved { address, stale } = match &job.host {
            Host::Address(address) => Resolved { address: *address, stale: false },
            Host::Name(name) => match self.0.shared.resolver.lookup(name, crate::resolve::Wanted::Any).await {
                Ok(resolved) => resolved,
                Err(error) => return Finding::failed(Outcome::DnsError, error.to_string()),
            },
        };
        let next_slot = due.saturating_add(job.interval);
        let latest = self.0.shared.clock.instant(next_slot.saturating_sub(job.time()));
        let Ok(lease) = timeout_at(latest, self.0.shared.load.lease()).await else {
            // Other tests took all of its time; nothing was measured, so nothing is said of the server.
            return Finding::skipped(Skip::Budget);
        };
        let run = Run { engine: &self.0, job, address: address.to_canonical(), next_slot, lease };
        let mut tests = Vec::new();
        for test in &job.tests {
            tests.push((*test, run.test_twice(test).await));
        }
        let mut finding = report::finding(tests);
        finding.fields.text(ADDRESS, run.address.to_string());
        if stale {
            finding.fields.integer(DNS_STALE, 1);
        }
        finding
    }
}

/// A run that has its turn.
struct Run<'a> {
    engine: &'a Inner,
    job: &'a Job,
    address: IpAddr,
    next_slot: Duration,
    lease: Lease,
}

impl Run<'_> {
    /// A test, and once more if the server could not take it and there is time.
    async fn test_twice(&self, test: &Test) -> Tested {
        let first = self.test(test).await;
        let wait = match first.failed_as() {
            // Whoever it is busy with tests as long as we do, most likely.
            Some(Outcome::Busy) => rand::random_range(test.time() / 2..=test.time() + Duration::from_secs(1)),
            Some(Outcome::Refused) => rand::random_range(REFUSED_WAIT.0..=REFUSED_WAIT.1),
            _ => return first,
        };
        if self.engine.shared.clock.now().mono + wait + test.time() > self.next_slot {
            return first;
        }
        sleep(wait).await;
        self.test(test).await
    }

    async fn test(&self, test: &Test) -> Tested {
        let arguments = test.arguments(self.address, self.job.port);
        let running = self.engine.shared.load.begin(&self.job.load, &self.lease);
        let output = process::run(&arguments, test.streams, test.deadline()).await;
        drop(running);
        self.engine.lent.tell(output.as_ref().err().filter(|error| matches!(error, StartError::Missing(_))));
        match output {
            Ok(output) => report::judge(test, &output),
            Err(error @ StartError::Missing(_)) => Failure::new(Outcome::ToolMissing, error.to_string()).into(),
            Err(error @ StartError::Refused(_)) => Failure::new(Outcome::LocalError, error.to_string()).into(),
        }
    }
}

impl Engine for Iperf3Engine {
    type Job = Job;

    fn run(&self, job: Arc<Job>, slot: Slot) -> impl Future<Output = Finding> + 'static {
        let engine = self.clone();
        async move { engine.measure(&job, slot.due).await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::probe::ERROR;
    use crate::probe::iperf3::test::{Direction, Protocol};
    use crate::probe::load::Load;
    use crate::resolve::Resolver;

    fn job(interval: u64) -> Job {
        let test = Test {
            protocol: Protocol::Tcp,
            direction: Direction::Upload,
            duration: Duration::from_secs(10),
            omit: Duration::ZERO,
            streams: 1,
        };
        let host = Host::Address([192, 0, 2, 1].into());
        Job { host, port: 5201, tests: vec![test], interval: Duration::from_secs(interval), load: "iperf3/a/b".to_owned() }
    }

    #[test]
    fn a_slot_whose_turn_does_not_come_in_time_is_skipped() {
        actix_rt::System::new().block_on(async {
            let clock = Clock::system();
            let shared = Shared { clock: clock.clone(), resolver: Resolver::start(clock.clone()), load: Load::new(clock.clone()) };
            let _other = shared.load.lease().await;
            tokio::time::pause();
            let (due, engine) = (clock.now().mono, Iperf3Engine::new(Arc::default(), shared));
            let finding = engine.measure(&job(60), due).await;
            assert_eq!(finding, Finding::skipped(Skip::Budget));
            // The test takes 10 s and would have to be over when the next slot comes.
            let waited = clock.now().mono.saturating_sub(due);
            assert!((Duration::from_secs(50)..Duration::from_secs(51)).contains(&waited), "{waited:?}");
            assert!(finding.into_fields(None).get(ERROR.info().name).is_some());
        });
    }
}
