//! One run of packets: when each is due, what became of it, and what they say together. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::flight::{Arrival, Departure, Fate, Flying, Stamps};
use super::packet::{IcmpError, Key};
use crate::clock::{Timestamp, nanos};

/// Why a packet that the kernel took and never stamped was not sent.
const NEVER_LEFT: &str = "dropped by a queue of this host";

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

impl Spec {
    /// How many packets it sends.
    pub(super) fn packets(&self) -> usize {
        self.warmup.saturating_add(self.count) as usize
    }
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
    /// What came back was damaged, and nothing else did: lost.
    pub corrupt: u64,
    /// Somebody said that it could not be delivered, in send order: what and who.
    pub icmp_errors: Vec<(IcmpError, IpAddr)>,
    /// This host did not send it, in send order: why.
    pub local_errors: Vec<String>,
    /// No reply was read, but this host threw packets away while it was in flight.
    pub local_drops: u64,
    /// Further replies to a packet that had one (RFC 5560).
    pub duplicates: u64,
    /// Replies that arrived after a reply to a later packet (RFC 4737).
    pub reordered: u64,
    /// TTL or hop limit of the last reply.
    pub ttl: Option<u8>,
    /// The worst source of a round-trip time.
    pub stamps: Option<Stamps>,
}

/// For how many packets more a run takes memory at a time, at least.
const GROWTH: usize = 16;

/// A run with its packets.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) spec: Spec,
    pub(super) ident: u16,
    /// The number of the first packet; the others follow on. `None` if there are too few free ones.
    first_sequence: Option<u16>,
    /// When the session has to look at it next.
    pub(super) wake: Duration,
    start: Duration,
    last_send: Duration,
    fates: Vec<Fate>,
    /// How many packets have no fate yet.
    open: usize,
    highest_replied: Option<usize>,
    icmp_errors: Vec<(IcmpError, IpAddr)>,
    local_errors: Vec<String>,
    duplicates: u64,
    reordered: u64,
    ttl: Option<u8>,
    stamps: Option<Stamps>,
}

/// How many sequence numbers there are.
pub(super) const SEQUENCES: usize = 1 << 16;

impl Run {
    pub(super) fn new(spec: Spec, ident: u16, first_sequence: Option<u16>, now: Duration) -> Self {
        Self {
            fates: Vec::new(),
            spec,
            ident,
            first_sequence,
            wake: now,
            start: now,
            last_send: now,
            open: 0,
            highest_replied: None,
            icmp_errors: Vec::new(),
            local_errors: Vec::new(),
            duplicates: 0,
            reordered: 0,
            ttl: None,
            stamps: None,
        }
    }

    /// Whether every packet was sent, or tried to be.
    pub(super) fn is_all_sent(&self) -> bool {
        self.fates.len() == self.spec.packets()
    }

    /// Whether every packet was sent and has its fate.
    pub(super) fn is_settled(&self) -> bool {
        self.is_all_sent() && self.open == 0
    }

    /// Whether any reply came.
    pub(super) fn has_replies(&self) -> bool {
        self.highest_replied.is_some()
    }

    /// The packets without a fate, with their numbers.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = (usize, Key)> {
        let open = self.fates.iter().enumerate().filter(|(_, fate)| fate.is_open());
        open.filter_map(|(index, _)| Some((index, self.key(index)?)))
    }

    /// The sequence numbers that its packets may take: from which, and how many.
    pub(super) fn sequences(&self) -> Option<(u16, usize)> {
        Some((self.first_sequence?, self.spec.packets().min(SEQUENCES)))
    }

    /// The last packet that went out under a sequence number.
    pub(super) fn index_of(&self, sequence: u16) -> Option<usize> {
        let first = usize::from(sequence.wrapping_sub(self.first_sequence?));
        let rounds = self.fates.len().checked_sub(first + 1)? / SEQUENCES;
        Some(first + rounds * SEQUENCES)
    }

    fn key(&self, index: usize) -> Option<Key> {
        Some(Key { peer: self.spec.peer, ident: self.ident, sequence: self.first_sequence?.wrapping_add(index as u16) })
    }

    /// The next packet goes out now; its index and numbers. Without numbers it cannot, which is its fate then.
    pub(super) fn depart(&mut self, now: Duration) -> (usize, Option<Key>) {
        let index = self.fates.len();
        let before = index.checked_sub(SEQUENCES).and_then(|before| self.fates.get(before));
        let key = self.key(index).filter(|_| before.is_none_or(|before| !before.is_open()));
        if index == self.fates.capacity() {
            // In steps: of ten thousand streams each is somewhere in the middle of its run.
            self.fates.reserve_exact(GROWTH.max(index / 4).min(self.spec.packets() - index));
        }
        self.fates.push(Fate::Leaving);
        self.open += 1;
        self.last_send = now;
        if key.is_none() {
            self.refused(index, "no sequence number is free".to_owned());
        }
        (index, key)
    }

    /// When to send the next packet, or, after the last one, when to close. After a stall packets follow each other at
    /// half the spacing at least: a burst of our own making would measure itself.
    pub(super) fn next_wake(&self) -> Duration {
        if self.is_all_sent() {
            return self.last_send + self.spec.timeout;
        }
        (self.start + self.spec.spacing * self.fates.len() as u32).max(self.last_send + self.spec.spacing / 2)
    }

    /// A packet has left.
    pub(super) fn departed(&mut self, index: usize, departure: Departure) {
        let Departure { mono, wall } = departure;
        if let Some(fate) = self.fates.get_mut(index) {
            let mono = nanos(mono).unsigned_abs();
            let flying = Flying { mono, wall, stamped: false, stamp_expected: true, overflowed: false, damaged: false };
            *fate = Fate::Flying(Box::new(flying));
        }
    }

    /// This host did not send a packet.
    pub(super) fn refused(&mut self, index: usize, why: String) {
        let place = self.local_errors.len() as u32;
        self.local_errors.push(why);
        self.settle(index, Fate::LocalError(place));
    }

    /// The kernel's transmit stamp of a packet.
    pub(super) fn transmitted(&mut self, index: usize, at: Timestamp, now: Duration) {
        if let Some(flying) = self.fates.get_mut(index).and_then(Fate::flying) {
            flying.left_at(at, now);
        }
    }

    /// A genuine reply to a packet; its round-trip time, unless it is a duplicate or comes after an error.
    pub(super) fn replied(&mut self, index: usize, arrival: Arrival) -> Option<Duration> {
        let counted = self.is_counted(index);
        let (rtt, stamps, stamped) = match self.fates.get(index)? {
            Fate::Flying(flying) => {
                let (rtt, stamps) = flying.round_trip(arrival);
                (rtt, stamps, flying.stamped)
            }
            Fate::Replied { .. } => {
                self.duplicates += u64::from(counted);
                return None;
            }
            Fate::Leaving | Fate::IcmpError(_) | Fate::LocalError(_) => return None,
        };
        let late = rtt > self.spec.timeout;
        self.settle(index, Fate::Replied { rtt: nanos(rtt).unsigned_abs(), late, stamped });
        self.reordered += u64::from(counted && self.highest_replied.is_some_and(|highest| index < highest));
        self.highest_replied = self.highest_replied.max(Some(index));
        if counted {
            self.ttl = arrival.ttl.or(self.ttl);
            self.stamps = self.stamps.max(Some(stamps));
        }
        Some(rtt)
    }

    /// A damaged reply to a packet.
    pub(super) fn damaged(&mut self, index: usize) {
        if let Some(flying) = self.fates.get_mut(index).and_then(Fate::flying) {
            flying.damaged = true;
        }
    }

    /// Somebody says that a packet could not be delivered. Whether that is news.
    pub(super) fn undelivered(&mut self, index: usize, error: IcmpError, from: IpAddr) -> bool {
        let news = matches!(self.fates.get(index), Some(Fate::Flying(_)));
        if news {
            let place = self.icmp_errors.len() as u32;
            self.icmp_errors.push((error, from));
            self.settle(index, Fate::IcmpError(place));
        }
        news
    }

    /// Replies to whatever is in flight may have been thrown away by this host.
    pub(super) fn overflowed(&mut self) {
        for flying in self.fates.iter_mut().filter_map(Fate::flying) {
            flying.overflowed = true;
        }
    }

    /// The transmit stamp of a packet may never be told.
    pub(super) fn forget_stamp(&mut self, index: usize) {
        if let Some(flying) = self.fates.get_mut(index).and_then(Fate::flying) {
            flying.stamp_expected = false;
        }
    }

    /// The fates. Where the kernel stamps the packets of a run, an unanswered one without a stamp never left: a queue of
    /// this host has thrown it away without a word.
    pub(super) fn into_tally(self) -> Tally {
        let is_stamped = |fate: &Fate| match fate {
            Fate::Flying(flying) => flying.stamped,
            Fate::Replied { stamped, .. } => *stamped,
            Fate::Leaving | Fate::IcmpError(_) | Fate::LocalError(_) => false,
        };
        let stamps = self.fates.iter().any(is_stamped);
        let (duplicates, reordered, ttl) = (self.duplicates, self.reordered, self.ttl);
        let mut tally = Tally { duplicates, reordered, ttl, stamps: self.stamps, ..Tally::default() };
        for fate in self.fates.into_iter().skip(self.spec.warmup as usize) {
            tally.sent += 1;
            match fate {
                Fate::Replied { late: true, .. } => tally.late += 1,
                Fate::Replied { rtt, .. } => tally.rtts.push(Duration::from_nanos(rtt)),
                Fate::IcmpError(place) => tally.icmp_errors.extend(self.icmp_errors.get(place as usize)),
                Fate::LocalError(place) => tally.local_errors.extend(self.local_errors.get(place as usize).cloned()),
                Fate::Flying(flying) if flying.damaged => tally.corrupt += 1,
                Fate::Flying(flying) if flying.overflowed => tally.local_drops += 1,
                Fate::Flying(flying) if stamps && !flying.stamped && flying.stamp_expected => {
                    tally.local_errors.push(NEVER_LEFT.to_owned());
                }
                Fate::Flying(_) | Fate::Leaving => tally.silent += 1,
            }
        }
        tally
    }

    fn is_counted(&self, index: usize) -> bool {
        index >= self.spec.warmup as usize
    }

    fn settle(&mut self, index: usize, fate: Fate) {
        if let Some(before) = self.fates.get_mut(index) {
            self.open -= usize::from(before.is_open());
            *before = fate;
        }
    }
}
