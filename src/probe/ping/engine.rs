//! The shell around the session: sockets, clocks and random numbers.
//!
//! One loop does everything: read all that has arrived, then let the session say what is due. It is driven by the actor,
//! so a panic in it costs this kind one restart and no other kind anything.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{LocalBoxFuture, select_all};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::sync::{Notify, oneshot};

use super::packet::{self, Family, Incoming};
use super::port::{A_TURN, Port, Readiness};
use super::report;
use super::run::{Arrival, Departure, Spec, Tally};
use super::session::{Answered, Counters, Request, RunId, Session, Step};
use super::settings::{Host, Job};
use super::socket::{Channel, Denied, Identity, PERMISSION_FIX, Sockets};
use super::wire::{self, Heard, Options};
use crate::clock::Clock;
use crate::measurement::{Counter, Field};
use crate::probe::{ADDRESS, DNS_STALE, Engine, Finding, Outcome, Shared, Slot};
use crate::resolve::{Resolved, Resolver};

/// The network can make a receive buffer overflow as often as it likes; the log says so once in this time.
const OVERFLOW_TOLD_EVERY: Duration = Duration::from_mins(1);

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

/// Someone who watches a run packet by packet.
pub type Watcher = Rc<dyn Fn(Answered)>;

/// Runs pings. Clones share everything.
#[derive(Clone)]
pub struct PingEngine(Rc<Inner>);

struct Inner {
    lent: Arc<Lent>,
    clock: Clock,
    resolver: Resolver,
    state: RefCell<State>,
    readiness: Vec<Readiness>,
    started: Notify,
}

struct State {
    session: Session,
    ports: Vec<Port>,
    random: StdRng,
    buffer: Vec<u8>,
    waiting: HashMap<RunId, Waiting>,
    overflow_told: Option<Duration>,
}

struct Waiting {
    options: Options,
    channel: Channel,
    done: oneshot::Sender<Tally>,
    watcher: Option<Watcher>,
}

impl PingEngine {
    /// An engine on the event loop of this thread.
    pub fn new(lent: Arc<Lent>, shared: Shared) -> Result<Self, String> {
        let mut ports = Vec::new();
        for channel in Channel::ALL {
            ports.extend(Port::open(&lent.sockets, channel).map_err(|error| format!("icmp socket: {error}"))?);
        }
        let readiness = ports.iter().map(Port::readiness).collect();
        let state = State {
            session: Session::new(),
            ports,
            random: StdRng::from_rng(&mut rand::rng()),
            buffer: vec![0; wire::BUFFER],
            waiting: HashMap::new(),
            overflow_told: None,
        };
        let Shared { clock, resolver, .. } = shared;
        Ok(Self(Rc::new(Inner { lent, clock, resolver, state: RefCell::new(state), readiness, started: Notify::new() })))
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
        let run = self.begin(address, job, identity, Waiting { options, channel, done, watcher });
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
        let run = state.session.start(self.0.clock.now().mono, spec, ident, first_sequence);
        state.waiting.insert(run, waiting);
        self.0.started.notify_one();
        run
    }

    async fn drive(&self) {
        loop {
            let (wake, more) = {
                let mut state = self.0.state.borrow_mut();
                let more = state.listen(&self.0.clock);
                state.act(&self.0.clock);
                let counted = state.session.take_counters();
                self.0.lent.counted.lock().unwrap_or_else(PoisonError::into_inner).add(counted);
                (state.session.wake(), more)
            };
            if more {
                // A flood must not keep this thread from everything else.
                tokio::task::yield_now().await;
            } else {
                self.wait(wake).await;
            }
        }
    }

    /// Until something arrives, something is due, or a run was started.
    async fn wait(&self, wake: Option<Duration>) {
        let timer = async {
            match wake {
                Some(at) => tokio::time::sleep_until(self.0.clock.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        let readable = async {
            match self.0.readiness.as_slice() {
                [] => std::future::pending().await,
                all => drop(select_all(all.iter().map(|readiness| Box::pin(readiness.readable()))).await),
            }
        };
        tokio::select! {
            () = timer => {}
            () = self.0.started.notified() => {}
            () = readable => {}
        }
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

impl State {
    /// Reads what has arrived, before anything is judged; true if there may be more.
    fn listen(&mut self, clock: &Clock) -> bool {
        let mut more = false;
        let Self { session, ports, buffer, waiting, overflow_told, .. } = self;
        for port in ports {
            while let Some(heard) = port.read_error(buffer) {
                understand(session, waiting, port, &heard, clock);
            }
            let mut read = 0;
            while read < A_TURN
                && let Some(heard) = port.read(buffer)
            {
                read += 1;
                understand_message(session, waiting, port.family(), &heard, clock);
            }
            more |= read == A_TURN;
            if let Some(dropped) = port.overflowed() {
                session.overflow(on_channel(waiting, port.channel()));
                let now = clock.now().mono;
                if overflow_told.is_none_or(|told| now.saturating_sub(told) > OVERFLOW_TOLD_EVERY) {
                    *overflow_told = Some(now);
                    tracing::warn!(family = ?port.family(), dropped, "receive buffer overflowed, missing replies count as local drops");
                }
            }
        }
        more
    }

    /// Does what is due.
    fn act(&mut self, clock: &Clock) {
        while let Some(step) = self.session.poll(clock.now().mono, || self.random.next_u64()) {
            match step {
                Step::Send(request) => self.send(&request, clock),
                Step::Finished(run, tally) => {
                    if let Some(waiting) = self.waiting.remove(&run) {
                        // Whoever waited may be gone.
                        let _ = waiting.done.send(tally);
                    }
                }
            }
        }
    }

    fn send(&mut self, request: &Request, clock: &Clock) {
        let Self { session, ports, buffer, waiting, .. } = self;
        let Some(Waiting { options, channel, .. }) = waiting.get(&request.run) else {
            return session.sent(request, Err("nobody waits for it".to_owned()));
        };
        let (options, channel) = (*options, *channel);
        let Some(port) = ports.iter_mut().find(|port| port.channel() == channel) else {
            return session.sent(request, Err("the socket is closed".to_owned()));
        };
        let key = request.key;
        let message = packet::echo_request(channel.family, key.ident, key.sequence, request.token, request.size);
        let now = clock.now();
        let departure = Departure { mono: now.mono, wall: now.unix, wire: None };
        let outcome = port.send(&message, request, &options, buffer, &mut |heard| {
            if let Heard::Undelivered { from, error, quoted: Some(quoted) } = heard {
                session.icmp_error(from, error, quoted, clock.now().mono);
            }
        });
        if outcome.is_err() {
            // The port has begun to number packets anew, so those before may never get their stamps.
            session.forget_stamps(on_channel(waiting, channel));
        }
        session.sent(request, outcome.map(|()| departure));
        while let Some(heard) = port.read_error(buffer) {
            understand(session, waiting, port, &heard, clock);
        }
    }
}

/// An entry of the error queue.
fn understand(session: &mut Session, waiting: &HashMap<RunId, Waiting>, port: &mut Port, heard: &Heard<'_>, clock: &Clock) {
    match *heard {
        Heard::Transmitted { number, at } => {
            if let Some((run, index)) = port.stamped(number) {
                session.transmitted(run, index, at, clock.now().mono);
            }
        }
        Heard::Undelivered { from, error, quoted: Some(quoted) } => {
            tell(waiting, session.icmp_error(from, error, quoted, clock.now().mono));
        }
        Heard::Undelivered { quoted: None, .. } | Heard::Message { .. } | Heard::Noise => {}
    }
}

/// An ICMP message.
fn understand_message(session: &mut Session, waiting: &HashMap<RunId, Waiting>, family: Family, heard: &Heard<'_>, clock: &Clock) {
    let Heard::Message { from, message: Ok(message), ttl, stamp } = heard else { return };
    let now = clock.now();
    let arrival = Arrival { mono: now.mono, wall: now.unix, wire: *stamp, ttl: *ttl };
    match packet::parse(family, message) {
        Ok(Incoming::Reply { ident, sequence, payload }) => {
            tell(waiting, session.reply(packet::Key { peer: *from, ident, sequence }, payload, arrival));
        }
        Ok(Incoming::Error { error, quoted }) => tell(waiting, session.icmp_error(*from, error, quoted, arrival.mono)),
        Ok(Incoming::Other) => {}
        Err(malformed) => tracing::trace!(%from, %malformed, "icmp message ignored"),
    }
}

/// The runs that go through a channel.
fn on_channel(waiting: &HashMap<RunId, Waiting>, channel: Channel) -> impl Iterator<Item = RunId> {
    waiting.iter().filter(move |(_, waiting)| waiting.channel == channel).map(|(run, _)| *run)
}

fn tell(waiting: &HashMap<RunId, Waiting>, answered: Option<Answered>) {
    if let Some(answered) = answered
        && let Some(watcher) = waiting.get(&answered.run).and_then(|waiting| waiting.watcher.as_ref())
    {
        watcher(answered);
    }
}

fn options(job: &Job) -> Result<Options, String> {
    let index = |name: &String| nix::net::if_::if_nametoindex(name.as_str()).map_err(|errno| format!("interface {name}: {errno}"));
    let interface = job.interface.as_ref().map(index).transpose()?;
    Ok(Options { source: job.source, interface, ttl: job.ttl, traffic_class: job.traffic_class })
}
