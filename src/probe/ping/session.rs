//! What is in flight, what a reply means, and what to do next. Pure: time and packets are arguments.
//!
//! What makes a reply ours is its token, a keyed hash of run and index: nobody else can tell it, and nobody has to keep it.
//!
//! The shell reads the clock, tells the session everything that has arrived, and only then asks for the runs that were over
//! at the time it had read: so a reply that was in time is never taken for lost because this host was slow. What is to be
//! sent is asked for with [`Session::next_send`] until it says nothing, what is over with [`Session::next_finished`]; then
//! the shell sleeps until [`Session::send_at`] or [`Session::end_at`], or until something arrives. Extra calls of any method are harmless.
//!
//! A run closes when its last packet was sent and the time-out has passed, or a moment after every packet has its answer.

use std::cmp::Reverse;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use super::flight::{Arrival, Departure};
use super::packet::{self, IcmpError, Key, PayloadCheck};
use super::run::{Run, SEQUENCES, Spec, Tally};
use crate::clock::Timestamp;

/// How long a run stays open after its last answer, so that duplicates of it are seen.
const LINGER: Duration = Duration::from_millis(10);
/// How many packets of closed runs are remembered, so that their late replies are told from strangers'.
const REMEMBERED: usize = 8192;

/// A run of this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(u64);

/// An echo request to be sent: then say how it went, with [`Session::sent`] or [`Session::refused`].
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
    /// From packet to packet of the run.
    pub spacing: Duration,
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

/// When to look at which run. One that was looked at meanwhile, or is gone, is passed over.
type Agenda = BinaryHeap<Reverse<(Duration, RunId)>>;

/// All runs in flight on one thread.
#[derive(Debug, Default)]
pub struct Session {
    /// The key of the tokens.
    tokens: RandomState,
    /// Boxed, as a table keeps much room that is empty.
    runs: HashMap<RunId, Box<Run>>,
    /// The runs to a peer under an identifier: nearly always one.
    routes: HashMap<(IpAddr, u16), Vec<RunId>>,
    sends: Agenda,
    ends: Agenda,
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

    /// Starts a run now. Its packets go out under `ident` with sequence numbers from `first_sequence` on, or from where there
    /// are enough that no other run to this peer has.
    pub fn start(&mut self, now: Duration, spec: Spec, ident: u16, first_sequence: u16) -> RunId {
        self.last_run += 1;
        let id = RunId(self.last_run);
        let first_sequence = self.free_sequences(&spec, ident, first_sequence);
        self.routes.entry((spec.peer, ident)).or_default().push(id);
        self.runs.insert(id, Box::new(Run::new(spec, ident, first_sequence, now)));
        self.sends.push(Reverse((now, id)));
        id
    }

    /// Forgets a run.
    pub fn cancel(&mut self, id: RunId) {
        self.take(id);
    }

    /// When the next request is due.
    pub fn send_at(&self) -> Option<Duration> {
        self.sends.peek().map(|Reverse((at, _))| *at)
    }

    /// When the next run may be over, if nothing arrives before.
    pub fn end_at(&self) -> Option<Duration> {
        self.ends.peek().map(|Reverse((at, _))| *at)
    }

    /// The next request that is due; call until it says nothing.
    pub fn next_send(&mut self, now: Duration) -> Option<Request> {
        loop {
            let mut entry = self.sends.peek_mut().filter(|entry| entry.0.0 <= now)?;
            let id = entry.0.1;
            let Some(run) = self.runs.get_mut(&id) else {
                PeekMut::pop(entry);
                continue;
            };
            let (index, key) = run.depart(now);
            let Spec { size, spacing, .. } = run.spec;
            run.wake = run.next_wake();
            if run.is_all_sent() {
                PeekMut::pop(entry);
                self.ends.push(Reverse((run.wake, id)));
            } else {
                entry.0.0 = run.wake;
                drop(entry);
            }
            match key {
                Some(key) => return Some(Request { run: id, index, key, token: self.token(id, index), size, spacing }),
                None => self.settle(id, now),
            }
        }
    }

    /// Whether a run may be over at `now`, so that everything that has arrived is to be read.
    pub fn is_any_over(&self, now: Duration) -> bool {
        self.end_at().is_some_and(|at| at <= now)
    }

    /// The next run that was over at `now`; call until it says nothing, and only when everything that had arrived by then was
    /// told.
    pub fn next_finished(&mut self, now: Duration) -> Option<(RunId, Tally)> {
        loop {
            let id = PeekMut::pop(self.ends.peek_mut().filter(|entry| entry.0.0 <= now)?).0.1;
            if self.runs.get(&id).is_none_or(|run| run.wake > now) {
                continue;
            }
            let run = self.take(id)?;
            for (index, key) in run.unanswered() {
                self.remember(key, self.token(id, index), run.spec.size);
            }
            return Some((id, run.into_tally()));
        }
    }

    /// A request has left.
    pub fn sent(&mut self, request: &Request, departure: Departure) {
        if let Some(run) = self.runs.get_mut(&request.run) {
            run.departed(request.index, departure);
        }
    }

    /// This host did not send a request.
    pub fn refused(&mut self, request: &Request, why: String, now: Duration) {
        if let Some(run) = self.runs.get_mut(&request.run) {
            run.refused(request.index, why);
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
        let Some((id, index)) = self.find(key) else {
            self.stray_reply(key, payload);
            return None;
        };
        let token = self.token(id, index);
        let run = self.runs.get_mut(&id)?;
        match packet::check_payload(token, run.spec.size, payload) {
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
        let Some((id, index)) = self.find(quoted) else {
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
            self.runs.get_mut(&run).into_iter().for_each(|run| run.overflowed());
        }
    }

    /// The transmit stamp of a packet may never be told: its absence says nothing.
    pub fn forget_stamp(&mut self, id: RunId, index: usize) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.forget_stamp(index);
        }
    }

    /// What was counted since the last call.
    pub fn take_counters(&mut self) -> Counters {
        std::mem::take(&mut self.counters)
    }

    fn token(&self, run: RunId, index: usize) -> u64 {
        self.tokens.hash_one((run, index))
    }

    /// The run and the packet that have these numbers.
    fn find(&self, key: Key) -> Option<(RunId, usize)> {
        let runs = self.routes.get(&(key.peer, key.ident))?;
        runs.iter().find_map(|id| Some((*id, self.runs.get(id)?.index_of(key.sequence)?)))
    }

    /// Where the sequence numbers of a new run begin: at `wanted` or behind those of another run to the same peer under the
    /// same identifier. Numbers of a run that is not over are nobody else's.
    fn free_sequences(&self, spec: &Spec, ident: u16, wanted: u16) -> Option<u16> {
        let others = self.routes.get(&(spec.peer, ident)).into_iter().flatten().filter_map(|id| self.runs.get(id)?.sequences());
        let taken: Vec<(u16, usize)> = others.collect();
        let count = spec.packets().min(SEQUENCES);
        let is_free = |first: u16| {
            let apart = |from: u16, to: u16, count: usize| usize::from(to.wrapping_sub(from)) >= count;
            taken.iter().all(|&(other, length)| apart(first, other, count) && apart(other, first, length))
        };
        let behind = taken.iter().map(|&(other, length)| other.wrapping_add(length as u16));
        std::iter::once(wanted).chain(behind).find(|first| is_free(*first))
    }

    /// Brings the end of a run forward once every packet has its fate.
    fn settle(&mut self, id: RunId, now: Duration) {
        if let Some(run) = self.runs.get_mut(&id).filter(|run| run.is_settled()) {
            let end = if run.has_replies() { now + LINGER } else { now };
            if end < run.wake {
                run.wake = end;
                self.ends.push(Reverse((end, id)));
            }
        }
    }

    fn take(&mut self, id: RunId) -> Option<Box<Run>> {
        let run = self.runs.remove(&id)?;
        let route = (run.spec.peer, run.ident);
        if let Some(others) = self.routes.get_mut(&route) {
            others.retain(|other| *other != id);
            if others.is_empty() {
                self.routes.remove(&route);
            }
        }
        Some(run)
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

#[cfg(test)]
mod tests;
