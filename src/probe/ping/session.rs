//! What is in flight, what a reply means, and what to do next. Pure: time, tokens and packets are arguments.
//!
//! The shell asks [`Session::poll`] until it has nothing more to say, sleeps until [`Session::wake`] or until something
//! arrives, tells the session what arrived *first* and only then polls again: so a reply that was in time is never taken
//! for lost because this host was slow. Extra calls of any method are harmless.
//!
//! A run closes when its last packet was sent and the time-out has passed, or a moment after every packet has its answer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::packet::{self, Family, IcmpError, Key, PayloadCheck};
use crate::clock::{Timestamp, nanos};

/// How long a run stays open after its last answer, so that duplicates of it are seen.
const LINGER: Duration = Duration::from_millis(10);
/// How far the kernel's time stamps may exceed what this process saw before they are taken for a stepped clock.
const STAMP_TOLERANCE: Duration = Duration::from_millis(1);
/// How many packets of closed runs are remembered, so that their late replies are told from strangers'.
const REMEMBERED: usize = 8192;

/// What a run is to send, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// To whom.
    pub peer: IpAddr,
    /// How many packets count.
    pub count: u32,
    /// How many are sent first and do not.
    pub warmup: u32,
    /// From packet to packet.
    pub spacing: Duration,
    /// How long to wait for a reply.
    pub timeout: Duration,
    /// Bytes of payload.
    pub size: usize,
}

/// A run of this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(u64);

/// When a packet left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Monotonic clock, read just before the send.
    pub mono: Duration,
    /// Wall clock, read just before the send.
    pub wall: Timestamp,
    /// The kernel's transmit stamp.
    pub wire: Option<Timestamp>,
}

/// When and how a packet came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Monotonic clock, read just after the read.
    pub mono: Duration,
    /// The kernel's receive stamp.
    pub wire: Option<Timestamp>,
    /// TTL or hop limit of the reply.
    pub ttl: Option<u8>,
}

/// Whose clock a round-trip time is from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stamps {
    /// Both ends stamped by the kernel.
    Kernel,
    /// Only the arrival.
    KernelRx,
    /// Neither.
    User,
}

impl Stamps {
    /// The word in the row.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::KernelRx => "kernel_rx",
            Self::User => "user",
        }
    }
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Send this echo request now, then say how it went with [`Session::sent`].
    Send(Request),
    /// This run is over.
    Finished(RunId, Tally),
}

/// An echo request to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Of which run.
    pub run: RunId,
    /// Which packet of the run, from 0, warm-up included.
    pub index: usize,
    /// Where to, and under which numbers.
    pub key: Key,
    /// What makes it ours.
    pub token: u64,
    /// Bytes of payload.
    pub size: usize,
}

/// The fates of a run's packets, warm-up left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Attempts to send.
    pub sent: u64,
    /// Round-trip times of the replies, in send order.
    pub rtts: Vec<Duration>,
    /// Replies read in time whose round-trip time exceeds the time-out: lost.
    pub late: u64,
    /// Nothing came back in time.
    pub silent: u64,
    /// Somebody said that it could not be delivered, in send order: what and who.
    pub icmp_errors: Vec<(IcmpError, IpAddr)>,
    /// This host did not send it, in send order: why.
    pub local_errors: Vec<String>,
    /// No reply was read, but this host threw packets away while it was in flight.
    pub local_drops: u64,
    /// Further replies to a packet that had one.
    pub duplicates: u64,
    /// Replies that arrived after a reply to a later packet (RFC 4737).
    pub reordered: u64,
    /// Replies damaged on the way.
    pub corrupt: u64,
    /// TTL or hop limit of the last reply.
    pub ttl: Option<u8>,
    /// The worst source of a round-trip time.
    pub stamps: Option<Stamps>,
}

/// What the session counts beyond its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Genuine replies to a packet of a run that was already closed.
    pub late_after_close: u64,
    /// Replies with another token than the packet they claim to answer.
    pub forged: u64,
    /// Replies and errors that belong to no packet of ours.
    pub unmatched: u64,
}

/// Something that happened to one packet, for whoever watches a run live.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answered {
    /// Of which run.
    pub run: RunId,
    /// Which packet of the run, warm-up included.
    pub index: usize,
    /// How long it took; `None` if it came back as an error.
    pub rtt: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Flying(Option<Departure>),
    Replied { rtt: Duration, late: bool },
    IcmpError(IcmpError, IpAddr),
    LocalError(String),
}

#[derive(Debug)]
struct Flight {
    key: Option<Key>,
    token: u64,
    fate: Fate,
    /// The socket's receive buffer overflowed while it was in flight.
    overflowed: bool,
}

#[derive(Debug)]
struct Run {
    spec: Spec,
    ident: u16,
    next_sequence: u16,
    start: Duration,
    last_send: Duration,
    wake: Duration,
    flights: Vec<Flight>,
    highest_replied: Option<usize>,
    tally: Tally,
}

/// All runs in flight on one thread.
#[derive(Debug, Default)]
pub struct Session {
    runs: HashMap<RunId, Run>,
    flying: HashMap<Key, (RunId, usize)>,
    agenda: BinaryHeap<Reverse<(Duration, RunId)>>,
    closed: HashMap<Key, (u64, usize)>,
    closed_order: VecDeque<Key>,
    last_run: u64,
    counters: Counters,
}

impl Session {
    /// Nothing in flight.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a run now. Its packets go out under `ident` with sequence numbers from `first_sequence` on, skipping those in use.
    pub fn start(&mut self, now: Duration, spec: Spec, ident: u16, first_sequence: u16) -> RunId {
        self.last_run += 1;
        let id = RunId(self.last_run);
        let flights = Vec::with_capacity((spec.warmup + spec.count) as usize);
        let tally = Tally::default();
        let run = Run {
            spec,
            ident,
            next_sequence: first_sequence,
            start: now,
            last_send: now,
            wake: now,
            flights,
            highest_replied: None,
            tally,
        };
        self.runs.insert(id, run);
        self.agenda.push(Reverse((now, id)));
        id
    }

    /// Forgets a run.
    pub fn cancel(&mut self, id: RunId) {
        if let Some(run) = self.runs.remove(&id) {
            self.forget_keys(&run);
        }
    }

    /// When to poll next, if nothing arrives before.
    pub fn wake(&self) -> Option<Duration> {
        self.agenda.peek().map(|Reverse((at, _))| *at)
    }

    /// What is to be done now; call until it says nothing. `token` draws a number that nobody can guess.
    pub fn poll(&mut self, now: Duration, mut token: impl FnMut() -> u64) -> Option<Step> {
        loop {
            let Reverse((at, id)) = *self.agenda.peek()?;
            if at > now {
                return None;
            }
            self.agenda.pop();
            let Some(run) = self.runs.get(&id).filter(|run| run.wake == at) else { continue };
            if run.flights.len() == (run.spec.warmup + run.spec.count) as usize {
                return self.finish(id);
            }
            if let Some(request) = self.send(now, id, token()) {
                return Some(Step::Send(request));
            }
        }
    }

    /// How the send of a request went: when it left, or why it did not.
    pub fn sent(&mut self, request: &Request, outcome: Result<Departure, String>) {
        let Some(run) = self.runs.get_mut(&request.run) else { return };
        let Some(flight) = run.flights.get_mut(request.index) else { return };
        match outcome {
            Ok(departure) => flight.fate = Fate::Flying(Some(departure)),
            Err(why) => {
                flight.fate = Fate::LocalError(why);
                flight.key = None;
                self.flying.remove(&request.key);
                self.settle(request.run, run_clock(&self.runs, request.run));
            }
        }
    }

    /// The kernel's transmit stamp of a packet came in. One that contradicts the clocks of this process is not believed.
    pub fn transmitted(&mut self, run: RunId, index: usize, at: Timestamp, now: Duration) {
        let flight = self.runs.get_mut(&run).and_then(|run| run.flights.get_mut(index));
        if let Some(Flight { fate: Fate::Flying(Some(departure)), .. }) = flight {
            let latest = departure.wall.plus(now.saturating_sub(departure.mono) + STAMP_TOLERANCE);
            if departure.wire.is_none() && (departure.wall.minus(STAMP_TOLERANCE)..=latest).contains(&at) {
                departure.wire = Some(at);
            }
        }
    }

    /// An echo reply came in.
    pub fn reply(&mut self, key: Key, payload: &[u8], arrival: Arrival) -> Option<Answered> {
        let Some(&(id, index)) = self.flying.get(&key) else {
            self.stray_reply(key, payload);
            return None;
        };
        let run = self.runs.get_mut(&id)?;
        let flight = run.flights.get_mut(index)?;
        match packet::check_payload(flight.token, run.spec.size, payload) {
            PayloadCheck::Foreign => self.counters.forged += 1,
            PayloadCheck::Corrupt => run.tally.corrupt += u64::from(index >= run.spec.warmup as usize),
            PayloadCheck::Genuine => {
                let rtt = run.take_reply(index, arrival);
                self.settle(id, arrival.mono);
                return rtt.map(|rtt| Answered { run: id, index, rtt: Some(rtt) });
            }
        }
        None
    }

    /// Somebody said that the packet `quoted` could not be delivered.
    pub fn icmp_error(&mut self, from: IpAddr, error: IcmpError, quoted: Key, now: Duration) -> Option<Answered> {
        let Some(&(id, index)) = self.flying.get(&quoted) else {
            self.counters.unmatched += 1;
            return None;
        };
        let flight = self.runs.get_mut(&id)?.flights.get_mut(index)?;
        if !matches!(flight.fate, Fate::Flying(_)) {
            return None;
        }
        flight.fate = Fate::IcmpError(error, from);
        self.settle(id, now);
        Some(Answered { run: id, index, rtt: None })
    }

    /// The receive buffer of a family's socket overflowed: whatever is in flight there may have been answered.
    pub fn overflow(&mut self, family: Family) {
        for run in self.runs.values_mut().filter(|run| Family::of(run.spec.peer) == family) {
            for flight in run.flights.iter_mut().filter(|flight| matches!(flight.fate, Fate::Flying(_))) {
                flight.overflowed = true;
            }
        }
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn send(&mut self, now: Duration, id: RunId, token: u64) -> Option<Request> {
        let run = self.runs.get_mut(&id)?;
        let index = run.flights.len();
        let key = free_key(&self.flying, run);
        let fate = if key.is_some() { Fate::Flying(None) } else { Fate::LocalError("no sequence number is free".to_owned()) };
        run.flights.push(Flight { key, token, fate, overflowed: false });
        run.last_send = now;
        let (size, wake) = (run.spec.size, run.next_wake());
        self.wake_at(id, wake);
        let Some(key) = key else {
            self.settle(id, now);
            return None;
        };
        self.flying.insert(key, (id, index));
        Some(Request { run: id, index, key, token, size })
    }

    fn wake_at(&mut self, id: RunId, at: Duration) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.wake = at;
            self.agenda.push(Reverse((at, id)));
        }
    }

    /// Brings the end of a run forward once every packet has its fate.
    fn settle(&mut self, id: RunId, now: Duration) {
        let Some(run) = self.runs.get(&id) else { return };
        let all_sent = run.flights.len() == (run.spec.warmup + run.spec.count) as usize;
        if all_sent && !run.flights.iter().any(|flight| matches!(flight.fate, Fate::Flying(_))) {
            let replied = run.flights.iter().any(|flight| matches!(flight.fate, Fate::Replied { .. }));
            let end = if replied { now + LINGER } else { now };
            let at = end.min(run.wake);
            self.wake_at(id, at);
        }
    }

    fn finish(&mut self, id: RunId) -> Option<Step> {
        let run = self.runs.remove(&id)?;
        self.forget_keys(&run);
        for flight in run.flights.iter().filter(|flight| matches!(flight.fate, Fate::Flying(_))) {
            if let Some(key) = flight.key {
                self.remember(key, flight.token, run.spec.size);
            }
        }
        Some(Step::Finished(id, run.into_tally()))
    }

    fn forget_keys(&mut self, run: &Run) {
        for key in run.flights.iter().filter_map(|flight| flight.key) {
            self.flying.remove(&key);
        }
    }

    fn remember(&mut self, key: Key, token: u64, size: usize) {
        if self.closed_order.len() == REMEMBERED
            && let Some(oldest) = self.closed_order.pop_front()
        {
            self.closed.remove(&oldest);
        }
        if self.closed.insert(key, (token, size)).is_none() {
            self.closed_order.push_back(key);
        }
    }

    fn stray_reply(&mut self, key: Key, payload: &[u8]) {
        let genuine = |&(token, size): &(u64, usize)| packet::check_payload(token, size, payload) == PayloadCheck::Genuine;
        if self.closed.get(&key).is_some_and(genuine) {
            self.counters.late_after_close += 1;
        } else {
            self.counters.unmatched += 1;
        }
    }
}

fn run_clock(runs: &HashMap<RunId, Run>, id: RunId) -> Duration {
    runs.get(&id).map_or(Duration::ZERO, |run| run.last_send)
}

/// The next sequence number under which nothing is in flight to this peer.
fn free_key(flying: &HashMap<Key, (RunId, usize)>, run: &mut Run) -> Option<Key> {
    (0..=u16::MAX).find_map(|_| {
        let key = Key { peer: run.spec.peer, ident: run.ident, sequence: run.next_sequence };
        run.next_sequence = run.next_sequence.wrapping_add(1);
        (!flying.contains_key(&key)).then_some(key)
    })
}

impl Run {
    /// When to send the next packet, or, after the last one, when to close. After a stall packets follow each other at
    /// half the spacing at least: a burst of our own making would measure itself.
    fn next_wake(&self) -> Duration {
        let sent = self.flights.len() as u32;
        if sent == self.spec.warmup + self.spec.count {
            return self.last_send + self.spec.timeout;
        }
        (self.start + self.spec.spacing * sent).max(self.last_send + self.spec.spacing / 2)
    }

    fn take_reply(&mut self, index: usize, arrival: Arrival) -> Option<Duration> {
        let counted = index >= self.spec.warmup as usize;
        let flight = self.flights.get_mut(index)?;
        let Fate::Flying(Some(departure)) = flight.fate else {
            let again = matches!(flight.fate, Fate::Replied { .. });
            self.tally.duplicates += u64::from(again && counted);
            return None;
        };
        let (rtt, stamps) = round_trip(departure, arrival);
        flight.fate = Fate::Replied { rtt, late: rtt > self.spec.timeout };
        if counted {
            self.tally.reordered += u64::from(self.highest_replied.is_some_and(|highest| index < highest));
            self.highest_replied = self.highest_replied.max(Some(index));
            self.tally.ttl = arrival.ttl.or(self.tally.ttl);
            self.tally.stamps = self.tally.stamps.max(Some(stamps));
        }
        Some(rtt)
    }

    fn into_tally(self) -> Tally {
        let mut tally = self.tally;
        for flight in self.flights.into_iter().skip(self.spec.warmup as usize) {
            tally.sent += 1;
            match flight.fate {
                Fate::Flying(_) if flight.overflowed => tally.local_drops += 1,
                Fate::Flying(_) => tally.silent += 1,
                Fate::Replied { late: true, .. } => tally.late += 1,
                Fate::Replied { rtt, late: false } => tally.rtts.push(rtt),
                Fate::IcmpError(error, from) => tally.icmp_errors.push((error, from)),
                Fate::LocalError(why) => tally.local_errors.push(why),
            }
        }
        tally
    }
}

/// RFC 2681: from the departure of the request to the arrival of the reply, by the best clock that both ends were
/// stamped with. The kernel stamps with the wall clock, so its answer counts only if the monotonic clock agrees.
fn round_trip(departure: Departure, arrival: Arrival) -> (Duration, Stamps) {
    let seen = arrival.mono.saturating_sub(departure.mono);
    let Some(received) = arrival.wire else { return (seen, Stamps::User) };
    let (left, stamps) = match departure.wire {
        Some(wire) => (wire, Stamps::Kernel),
        None => (departure.wall, Stamps::KernelRx),
    };
    let kernel = received.nanos().saturating_sub(left.nanos());
    match u64::try_from(kernel) {
        Ok(kernel) if kernel <= nanos(seen + STAMP_TOLERANCE) as u64 => (Duration::from_nanos(kernel), stamps),
        _ => (seen, Stamps::User),
    }
}

#[cfg(test)]
mod tests;
