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

use super::packet::{self, IcmpError, Key, PayloadCheck};
use super::run::{Arrival, Departure, Run, Spec, Tally};
use crate::clock::Timestamp;

/// How long a run stays open after its last answer, so that duplicates of it are seen.
const LINGER: Duration = Duration::from_millis(10);
/// How many packets of closed runs are remembered, so that their late replies are told from strangers'.
const REMEMBERED: usize = 8192;

/// A run of this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(u64);

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

impl Counters {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, more: Self) {
        self.late_after_close += more.late_after_close;
        self.forged += more.forged;
        self.unmatched += more.unmatched;
    }
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
        self.runs.insert(id, Run::new(spec, ident, first_sequence, now));
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
            if run.is_all_sent() {
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
        let failed = outcome.is_err();
        run.departed(request.index, outcome);
        let now = run.last_send();
        if failed {
            self.flying.remove(&request.key);
            self.settle(request.run, now);
        }
    }

    /// The kernel's transmit stamp of a packet came in.
    pub fn transmitted(&mut self, id: RunId, index: usize, at: Timestamp, now: Duration) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.transmitted(index, at, now);
        }
    }

    /// An echo reply came in.
    pub fn reply(&mut self, key: Key, payload: &[u8], arrival: Arrival) -> Option<Answered> {
        let Some(&(id, index)) = self.flying.get(&key) else {
            self.stray_reply(key, payload);
            return None;
        };
        let run = self.runs.get_mut(&id)?;
        match packet::check_payload(run.flights().get(index)?.token, run.spec.size, payload) {
            PayloadCheck::Foreign => self.counters.forged += 1,
            PayloadCheck::Corrupt => run.damaged(index),
            PayloadCheck::Genuine => {
                let rtt = run.replied(index, arrival);
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
        let news = self.runs.get_mut(&id)?.undelivered(index, error, from);
        self.settle(id, now);
        news.then_some(Answered { run: id, index, rtt: None })
    }

    /// The receive buffer of the socket of these runs overflowed: whatever is in flight there may have been answered.
    pub fn overflow(&mut self, runs: impl IntoIterator<Item = RunId>) {
        for run in runs {
            self.runs.get_mut(&run).into_iter().for_each(Run::overflowed);
        }
    }

    /// Transmit stamps of what these runs have in flight may never be told: their absence says nothing.
    pub fn forget_stamps(&mut self, runs: impl IntoIterator<Item = RunId>) {
        for run in runs {
            self.runs.get_mut(&run).into_iter().for_each(Run::forget_stamps);
        }
    }

    /// What was counted since the last call.
    pub fn take_counters(&mut self) -> Counters {
        std::mem::take(&mut self.counters)
    }

    fn send(&mut self, now: Duration, id: RunId, token: u64) -> Option<Request> {
        let run = self.runs.get_mut(&id)?;
        let index = run.flights().len();
        let key = free_key(&self.flying, run);
        run.depart(now, key, token);
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
        if let Some(run) = self.runs.get(&id).filter(|run| run.is_settled()) {
            let end = if run.has_replies() { now + LINGER } else { now };
            let at = end.min(run.wake);
            self.wake_at(id, at);
        }
    }

    fn finish(&mut self, id: RunId) -> Option<Step> {
        let run = self.runs.remove(&id)?;
        self.forget_keys(&run);
        for flight in run.flights().iter().filter(|flight| flight.is_open()) {
            if let Some(key) = flight.key {
                self.remember(key, flight.token, run.spec.size);
            }
        }
        Some(Step::Finished(id, run.into_tally()))
    }

    fn forget_keys(&mut self, run: &Run) {
        for key in run.flights().iter().filter_map(|flight| flight.key) {
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

/// The next sequence number under which nothing is in flight to this peer.
fn free_key(flying: &HashMap<Key, (RunId, usize)>, run: &mut Run) -> Option<Key> {
    (0..=u16::MAX).find_map(|_| {
        let key = Key { peer: run.spec.peer, ident: run.ident, sequence: run.next_sequence };
        run.next_sequence = run.next_sequence.wrapping_add(1);
        (!flying.contains_key(&key)).then_some(key)
    })
}

#[cfg(test)]
mod tests;
