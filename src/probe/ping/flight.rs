//! One packet of a run: when it left, what became of it, and how long its reply took. Pure.

use std::time::Duration;

use crate::clock::{Timestamp, nanos};

/// How far the kernel's time stamps may exceed what this process saw before they are taken for a stepped clock.
const STAMP_TOLERANCE: Duration = Duration::from_millis(1);

/// When a packet left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Monotonic clock, read just before the send.
    pub mono: Duration,
    /// Wall clock, read just before the send.
    pub wall: Timestamp,
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

/// What became of a packet. A host with ten thousand streams has half a million of these in memory, of which few are on their
/// way, so what is needed only then is kept elsewhere.
#[derive(Debug, PartialEq)]
pub(super) enum Fate {
    /// It is being sent.
    Leaving,
    /// It left, and nothing came back yet.
    Flying(Box<Flying>),
    Replied {
        /// Nanoseconds.
        rtt: u64,
        late: bool,
        /// The kernel has said when it left.
        stamped: bool,
    },
    /// The place of what was said in `Run::icmp_errors`.
    IcmpError(u32),
    /// The place of the reason in `Run::local_errors`.
    LocalError(u32),
}

/// A packet on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "four independent observations, small in memory")]
pub(super) struct Flying {
    /// When it left, in nanoseconds of the monotonic clock.
    pub(super) mono: u64,
    /// When it left, by the wall clock.
    pub(super) wall: Timestamp,
    /// Both are moved to the kernel's transmit stamp.
    pub(super) stamped: bool,
    /// If it left, its transmit stamp was told.
    pub(super) stamp_expected: bool,
    /// The socket's receive buffer overflowed meanwhile.
    pub(super) overflowed: bool,
    /// A damaged reply came.
    pub(super) damaged: bool,
}

impl Fate {
    /// Whether it is not known yet.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Leaving | Self::Flying(_))
    }

    /// As long as it is on its way.
    pub(super) fn flying(&mut self) -> Option<&mut Flying> {
        match self {
            Self::Flying(flying) => Some(flying),
            _ => None,
        }
    }
}

impl Flying {
    /// The kernel's transmit stamp. One that contradicts the clocks of this process is not believed.
    pub(super) fn left_at(&mut self, at: Timestamp, now: Duration) {
        // It left, whatever is to be thought of the stamp.
        self.stamp_expected = false;
        let passed = now.saturating_sub(Duration::from_nanos(self.mono));
        let latest = self.wall.plus(passed + STAMP_TOLERANCE);
        if !self.stamped && (self.wall.minus(STAMP_TOLERANCE)..=latest).contains(&at) {
            let by = at.nanos() - self.wall.nanos();
            (self.mono, self.wall, self.stamped) = (self.mono.saturating_add_signed(by), at, true);
        }
    }

    /// RFC 2681: from the departure of the request to the arrival of the reply, by the best clock that both ends were
    /// stamped with. The kernel stamps with the wall clock, so its answer counts only if the monotonic clock agrees.
    pub(super) fn round_trip(&self, arrival: Arrival) -> (Duration, Stamps) {
        let seen = arrival.mono.saturating_sub(Duration::from_nanos(self.mono));
        let wall = arrival.wall.nanos().saturating_sub(self.wall.nanos());
        let stepped = wall.abs_diff(nanos(seen)) > nanos(STAMP_TOLERANCE).unsigned_abs();
        let Some(received) = arrival.wire.filter(|_| !stepped) else { return (seen, Stamps::User) };
        let stamps = if self.stamped { Stamps::Kernel } else { Stamps::KernelRx };
        let kernel = received.nanos().saturating_sub(self.wall.nanos());
        match u64::try_from(kernel) {
            Ok(kernel) if kernel <= nanos(seen + STAMP_TOLERANCE).unsigned_abs() => (Duration::from_nanos(kernel), stamps),
            _ => (seen, Stamps::User),
        }
    }
}
