//! The shell around the session: sockets, clocks and random numbers.
//!
//! One loop does everything: read all that has arrived, send what is due, then close what was over when it began to read.
//! It is driven by the actor, so a panic in it costs this kind one restart and no other kind anything.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{LocalBoxFuture, select_all};
use futures_util::task::AtomicWaker;
use rand::RngExt;
use tokio::sync::oneshot;

use super::control::{self, Options};
use super::exchange::{Address, State, Waiting, Watcher};
use super::packet::{self, Family};
use super::port::{Port, Readiness};
use super::report;
use super::run::Spec;
use super::session::{Counters, RunId};
use super::settings::{Host, Job};
use super::socket::{Channel, Denied, Identity, PERMISSION_FIX, Sockets};
use crate::clock::Clock;
use crate::clock::alarm::Alarm;
use crate::measurement::{Counter, Field};
use crate::probe::{ADDRESS, DNS_STALE, Engine, Finding, Outcome, Shared, Slot};
use crate::resolve::{Resolved, Resolver};
use crate::sys::Inbox;

/// Room for the largest packet.
const LARGEST: usize = 65_536;

/// Genuine replies to packets of runs that were already closed.
pub const LATE_AFTER_CLOSE: Field<i64> = Field::integer("ping_late_after_close");
/// Replies that claimed to answer a packet of ours and did not carry its token.
pub const FORGED: Field<i64> = Field::integer("ping_forged");
/// Replies and errors that belong to no packet of ours.
pub const UNMATCHED: Field<i64> = Field::integer("ping_unmatched");

/// What the service lends to every engine: the sockets, whether their absence was told, and what was counted.
pub struct Lent {
    sockets: Arc<Sockets>,
    permission_told: std::sync::Once,
    counted: Mutex<Counters>,
}

impl Lent {
    /// Opens what this process may.
    pub fn open() -> Self {
        Self { sockets: Arc::new(Sockets::open(rand::random())), permission_told: std::sync::Once::new(), counted: Mutex::default() }
    }

    /// What all engines together have counted.
    pub fn counters(&self) -> Vec<Counter> {
        let counted = *self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        vec![(LATE_AFTER_CLOSE, counted.late_after_close), (FORGED, counted.forged), (UNMATCHED, counted.unmatched)]
    }
}

/// Runs pings. Clones share everything.
#[derive(Clone)]
pub struct PingEngine(Rc<Inner>);

struct Inner {
    lent: Arc<Lent>,
    clock: Clock,
    resolver: Resolver,
    state: RefCell<State>,
    alarm: Alarm,
    readiness: Vec<Readiness>,
    started: Bell,
}

impl PingEngine {
    /// An engine on the event loop of this thread.
    pub fn new(lent: Arc<Lent>, shared: Shared) -> Result<Self, String> {
        let mut inbox = Inbox::new(LARGEST);
        let mut ports = Vec::new();
        for channel in Channel::ALL {
            ports.extend(Port::open(&lent.sockets, channel, &mut inbox).map_err(|error| format!("icmp socket: {error}"))?);
        }
        let readiness = ports.iter().map(Port::readiness).collect();
        let state = State::new(ports, inbox);
        let alarm = Alarm::new().map_err(|error| format!("timer: {error}"))?;
        let Shared { clock, resolver, .. } = shared;
        Ok(Self(Rc::new(Inner { lent, clock, resolver, state: RefCell::new(state), alarm, readiness, started: Bell::default() })))
    }

    /// One run, with somebody who watches.
    pub async fn measure(&self, job: &Job, watcher: Option<Watcher>) -> Finding {
        let Resolved { address, stale } = match &job.host {
            Host::Address(address) => Resolved { address: *address, stale: false },
            Host::Name(name, wanted) => match self.0.resolver.lookup(name, *wanted).await {
                Ok(resolved) => resolved,
                Err(error) => return Finding::failed(Outcome::DnsError, error.to_string()),
            },
        };
        let address = packet::canonical(address);
        let mut finding = self.ping(address, job, watcher).await;
        finding.fields.text(ADDRESS, address.to_string());
        if stale {
            finding.fields.integer(DNS_STALE, 1);
        }
        finding
    }

    async fn ping(&self, address: IpAddr, job: &Job, watcher: Option<Watcher>) -> Finding {
        if let Some(what) = packet::refused_destination(address) {
            return Finding::failed(Outcome::LocalError, format!("the name leads to {address}, {what}"));
        }
        let channel = Channel { family: Family::of(address), whole: job.whole };
        let identity = match self.0.lent.sockets.get(channel) {
            Ok(socket) => socket.identity(),
            Err(denied) => return self.denied(denied),
        };
        let options = match options(job) {
            Ok(options) => options,
            Err(why) => return Finding::failed(Outcome::LocalError, why),
        };
        let (done, tally) = oneshot::channel();
        let to = Address { to: control::sockaddr(address, options.interface), control: options.control(channel.family) };
        let run = self.begin(address, job, identity, Waiting { address: Rc::new(to), channel, done, watcher });
        let _cancel = CancelOnDrop { engine: self, run };
        match tally.await {
            Ok(tally) => report::finding(address, &tally),
            Err(_) => Finding::failed(Outcome::LocalError, "the engine was restarted"),
        }
    }

    fn denied(&self, denied: &Denied) -> Finding {
        match denied {
            Denied::Permission => {
                self.0.lent.permission_told.call_once(|| tracing::error!(fix = PERMISSION_FIX, "no permission to send icmp"));
                Finding::failed(Outcome::Permission, denied.to_string())
            }
            Denied::Unavailable(_) => Finding::failed(Outcome::LocalError, denied.to_string()),
        }
    }

    fn begin(&self, peer: IpAddr, job: &Job, identity: Identity, waiting: Waiting) -> RunId {
        let mut state = self.0.state.borrow_mut();
        let ident = match identity {
            Identity::Raw(bits) => bits | (state.random.random::<u16>() & !super::filter::SOCKET_BITS),
            Identity::Datagram(ident) => ident,
        };
        let first_sequence = state.random.random();
        let spec = Spec { peer, count: job.count, warmup: job.warmup, spacing: job.spacing, timeout: job.timeout, size: job.size };
        let run = state.session.start(self.0.clock.mono(), spec, ident, first_sequence);
        state.waiting.insert(run, waiting);
        self.0.started.ring();
        run
    }

    async fn drive(&self) {
        loop {
            let (wake, more) = {
                let mut state = self.0.state.borrow_mut();
                // What was over before the reading began is over: every reply until then has been read.
                let now = self.0.clock.mono();
                let more = state.listen(&self.0.clock, now);
                state.send_due(&self.0.clock);
                if !more {
                    state.finish(now);
                }
                let counted = state.session.take_counters();
                self.0.lent.counted.lock().unwrap_or_else(PoisonError::into_inner).add(counted);
                (state.wake(), more)
            };
            if more || !self.wait(wake).await {
                // Neither a flood nor more to send than can be sent must keep this thread from everything else.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Until something arrives, something is due, or a run was started; false if it need not wait.
    async fn wait(&self, wake: Option<Duration>) -> bool {
        let Inner { clock, alarm, readiness, started, .. } = &*self.0;
        let mut waited = false;
        let woken = poll_fn(|context| {
            started.waker.register(context.waker());
            // Each is asked, as each that is not ready has to wake this task.
            let mut ready = started.rung.take();
            ready |= wake.is_some_and(|at| alarm.poll(context, clock, at).is_ready());
            for readiness in readiness {
                ready |= readiness.poll(context).is_ready();
            }
            if ready {
                return Poll::Ready(waited);
            }
            waited = true;
            Poll::Pending
        });
        let errors = async {
            match readiness.as_slice() {
                [] => std::future::pending().await,
                all => drop(select_all(all.iter().map(|readiness| Box::pin(readiness.errors()))).await),
            }
        };
        if readiness.iter().any(Readiness::has_errors) {
            tokio::select! {
                waited = woken => waited,
                () = errors => true,
            }
        } else {
            woken.await
        }
    }
}

/// Rings when a run was started.
#[derive(Default)]
struct Bell {
    rung: Cell<bool>,
    waker: AtomicWaker,
}

impl Bell {
    fn ring(&self) {
        self.rung.set(true);
        self.waker.wake();
    }
}

/// A run that nobody waits for any more is forgotten.
struct CancelOnDrop<'a> {
    engine: &'a PingEngine,
    run: RunId,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        // While a panic unwinds the state may be borrowed; the engine goes with it.
        if let Ok(mut state) = self.engine.0.state.try_borrow_mut() {
            state.session.cancel(self.run);
            state.waiting.remove(&self.run);
        }
    }
}

impl Engine for PingEngine {
    type Job = Job;

    fn run(&self, job: Arc<Job>, _slot: Slot) -> impl Future<Output = Finding> + 'static {
        let engine = self.clone();
        async move { engine.measure(&job, None).await }
    }

    fn drive(&self) -> Option<LocalBoxFuture<'static, ()>> {
        let engine = self.clone();
        Some(Box::pin(async move { engine.drive().await }))
    }
}

fn options(job: &Job) -> Result<Options, String> {
    let index = |name: &String| nix::net::if_::if_nametoindex(name.as_str()).map_err(|errno| format!("interface {name}: {errno}"));
    let interface = job.interface.as_ref().map(index).transpose()?;
    Ok(Options { source: job.source, interface, ttl: job.ttl, traffic_class: job.traffic_class })
}
