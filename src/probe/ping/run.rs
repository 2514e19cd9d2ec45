//! One run of packets: when each is due, what became of it, and how long it took. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::packet::{IcmpError, Key};
use crate::clock::{Timestamp, nanos};

/// How far the kernel's time stamps may exceed what this process saw before they are taken for a stepped clock.
const STAMP_TOLERANCE: Duration = Duration::from_millis(1);

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
    /// Wall clock, read just after the read.
    pub wall: Timestamp,
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

/// What became of a packet.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    /// Nothing yet; when it left is known once it was sent.
    Flying(Option<Departure>),
    Replied {
        rtt: Duration,
        late: bool,
        /// The kernel has said when it left.
        stamped: bool,
    },
    IcmpError(IcmpError, IpAddr),
    LocalError(String),
}

/// A packet of a run.
#[derive(Debug)]
pub(super) struct Flight {
    /// Its numbers on the wire, if it has any.
    pub(super) key: Option<Key>,
    /// What makes a reply to it ours.
    pub(super) token: u64,
    fate: Fate,
    /// The socket's receive buffer overflowed while it was in flight.
    overflowed: bool,
    /// If it left, its transmit stamp was told.
    stamp_expected: bool,
}

impl Flight {
    /// Whether it is in flight and the kernel has said when it left.
    fn is_stamped(&self) -> bool {
        matches!(self.fate, Fate::Flying(Some(Departure { wire: Some(_), .. })))
    }

    /// Whether it has no fate yet.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.fate, Fate::Flying(_))
    }
}

/// A run with its packets.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) spec: Spec,
    pub(super) ident: u16,
    pub(super) next_sequence: u16,
    /// When the session has to look at it next.
    pub(super) wake: Duration,
    start: Duration,
    last_send: Duration,
    flights: Vec<Flight>,
    /// How many packets have no fate yet.
    open: usize,
    highest_replied: Option<usize>,
    tally: Tally,
}

impl Run {
    pub(super) fn new(spec: Spec, ident: u16, first_sequence: u16, now: Duration) -> Self {
        Self {
            flights: Vec::with_capacity((spec.warmup + spec.count) as usize),
            spec,
            ident,
            next_sequence: first_sequence,
            wake: now,
            start: now,
            last_send: now,
            open: 0,
            highest_replied: None,
            tally: Tally::default(),
        }
    }

    /// Whether every packet was sent, or tried to be.
    pub(super) fn is_all_sent(&self) -> bool {
        self.flights.len() == (self.spec.warmup + self.spec.count) as usize
    }

    /// Whether every packet was sent and has its fate.
    pub(super) fn is_settled(&self) -> bool {
        self.is_all_sent() && self.open == 0
    }

    /// Whether any reply came.
    pub(super) fn has_replies(&self) -> bool {
        self.highest_replied.is_some()
    }

    /// The packets so far.
    pub(super) fn flights(&self) -> &[Flight] {
        &self.flights
    }

    /// The next packet goes out now under this key; without one it cannot.
    pub(super) fn depart(&mut self, now: Duration, key: Option<Key>, token: u64) {
        let fate = if key.is_some() { Fate::Flying(None) } else { Fate::LocalError("no sequence number is free".to_owned()) };
        self.open += usize::from(key.is_some());
        self.flights.push(Flight { key, token, fate, overflowed: false, stamp_expected: true });
        self.last_send = now;
    }

    /// When to send the next packet, or, after the last one, when to close. After a stall packets follow each other at
    /// half the spacing at least: a burst of our own making would measure itself.
    pub(super) fn next_wake(&self) -> Duration {
        if self.is_all_sent() {
            return self.last_send + self.spec.timeout;
        }
        (self.start + self.spec.spacing * self.flights.len() as u32).max(self.last_send + self.spec.spacing / 2)
    }

    /// When the last packet was sent.
    pub(super) fn last_send(&self) -> Duration {
        self.last_send
    }

    /// A packet has left, or has not.
    pub(super) fn departed(&mut self, index: usize, outcome: Result<Departure, String>) {
        match outcome {
            Ok(departure) => {
                if let Some(flight) = self.flights.get_mut(index) {
                    flight.fate = Fate::Flying(Some(departure));
                }
            }
            Err(why) => {
                self.settle(index, Fate::LocalError(why));
                if let Some(flight) = self.flights.get_mut(index) {
                    flight.key = None;
                }
            }
        }
    }

    /// The kernel's transmit stamp. One that contradicts the clocks of this process is not believed.
    pub(super) fn transmitted(&mut self, index: usize, at: Timestamp, now: Duration) {
        if let Some(Flight { fate: Fate::Flying(Some(departure)), .. }) = self.flights.get_mut(index) {
            let latest = departure.wall.plus(now.saturating_sub(departure.mono) + STAMP_TOLERANCE);
            if departure.wire.is_none() && (departure.wall.minus(STAMP_TOLERANCE)..=latest).contains(&at) {
                departure.wire = Some(at);
            }
        }
    }

    /// A genuine reply to a packet; its round-trip time, unless it is a duplicate or comes after an error.
    pub(super) fn replied(&mut self, index: usize, arrival: Arrival) -> Option<Duration> {
        let counted = self.is_counted(index);
        let Fate::Flying(Some(departure)) = self.flights.get(index)?.fate else {
            let again = matches!(self.flights.get(index)?.fate, Fate::Replied { .. });
            self.tally.duplicates += u64::from(again && counted);
            return None;
        };
        let (rtt, stamps) = round_trip(departure, arrival);
        self.settle(index, Fate::Replied { rtt, late: rtt > self.spec.timeout, stamped: departure.wire.is_some() });
        self.tally.reordered += u64::from(counted && self.highest_replied.is_some_and(|highest| index < highest));
        self.highest_replied = self.highest_replied.max(Some(index));
        if counted {
            self.tally.ttl = arrival.ttl.or(self.tally.ttl);
            self.tally.stamps = self.tally.stamps.max(Some(stamps));
        }
        Some(rtt)
    }

    /// A damaged reply to a packet.
    pub(super) fn damaged(&mut self, index: usize) {
        self.tally.corrupt += u64::from(self.is_counted(index));
    }

    /// Somebody says that a packet could not be delivered. Whether that is news.
    pub(super) fn undelivered(&mut self, index: usize, error: IcmpError, from: IpAddr) -> bool {
        let news = self.flights.get(index).is_some_and(Flight::is_open);
        if news {
            self.settle(index, Fate::IcmpError(error, from));
        }
        news
    }

    /// Replies to whatever is in flight may have been thrown away by this host.
    pub(super) fn overflowed(&mut self) {
        for flight in self.flights.iter_mut().filter(|flight| flight.is_open()) {
            flight.overflowed = true;
        }
    }

    /// Transmit stamps of what is in flight may never be told.
    pub(super) fn forget_stamps(&mut self) {
        for flight in self.flights.iter_mut().filter(|flight| flight.is_open()) {
            flight.stamp_expected = false;
        }
    }

    /// The fates. Where the kernel stamps the packets of a run, an unanswered one without a stamp never left: a queue of
    /// this host has thrown it away without a word.
    pub(super) fn into_tally(self) -> Tally {
        let stamps = self.flights.iter().any(|flight| matches!(flight.fate, Fate::Replied { stamped: true, .. }));
        let stamps = stamps || self.flights.iter().any(Flight::is_stamped);
        let mut tally = self.tally;
        for flight in self.flights.into_iter().skip(self.spec.warmup as usize) {
            tally.sent += 1;
            match flight.fate {
                Fate::Flying(_) if flight.overflowed => tally.local_drops += 1,
                Fate::Flying(_) if stamps && flight.stamp_expected && !flight.is_stamped() => {
                    tally.local_errors.push(NEVER_LEFT.to_owned());
                }
                Fate::Flying(_) => tally.silent += 1,
                Fate::Replied { late: true, .. } => tally.late += 1,
                Fate::Replied { rtt, .. } => tally.rtts.push(rtt),
                Fate::IcmpError(error, from) => tally.icmp_errors.push((error, from)),
                Fate::LocalError(why) => tally.local_errors.push(why),
            }
        }
        tally
    }

    fn is_counted(&self, index: usize) -> bool {
        index >= self.spec.warmup as usize
    }

    fn settle(&mut self, index: usize, fate: Fate) {
        if let Some(flight) = self.flights.get_mut(index) {
            self.open -= usize::from(flight.is_open());
            flight.fate = fate;
        }
    }
}

/// RFC 2681: from the departure of the request to the arrival of the reply, by the best clock that both ends were
/// stamped with. The kernel stamps with the wall clock, so its answer counts only if the monotonic clock agrees.
pub(super) fn round_trip(departure: Departure, arrival: Arrival) -> (Duration, Stamps) {
    let seen = arrival.mono.saturating_sub(departure.mono);
    let wall = arrival.wall.nanos().saturating_sub(departure.wall.nanos());
    let stepped = wall.abs_diff(nanos(seen)) > nanos(STAMP_TOLERANCE) as u64;
    let Some(received) = arrival.wire.filter(|_| !stepped) else { return (seen, Stamps::User) };
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
