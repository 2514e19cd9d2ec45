//! The clocks: the wall clock that stamps slots, and the monotonic clock that paces them.
//!
//! Cores never read a clock; shells ask a [`Clock`] for a [`Moment`] and pass it on. In tests the clock follows tokio's
//! paused time, so a virtual day passes in a second.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::Instant;

pub mod alarm;
pub mod sync;

/// Wall-clock time: nanoseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// This much later. Saturates, as time in qosd never panics.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// This much earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }

    /// How long after `earlier`; zero if it was before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339 with nanoseconds; times before the epoch show as the epoch.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_epoch = Duration::from_nanos(u64::try_from(self.0).unwrap_or(0));
        humantime::format_rfc3339_nanos(std::time::UNIX_EPOCH + since_epoch).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A duration in whole nanoseconds, saturating after 292 years.
pub fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A duration in milliseconds, the unit of every `_ms` field. The number nearest to it, so that it is written with no more
/// digits than nanoseconds have.
pub fn millis(duration: Duration) -> f64 {
    nanos(duration) as f64 / 1e6
}

/// The clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock.
    pub unix: Timestamp,
    /// The monotonic clock, since an arbitrary origin of the process. Stands still while the host sleeps.
    pub mono: Duration,
    /// As the monotonic clock, but goes on while the host sleeps.
    pub boot: Duration,
}

impl Moment {
    /// All clocks this much later, if none is stepped.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let Self { unix, mono, boot } = self;
        Self { unix: unix.plus(duration), mono: mono.saturating_add(duration), boot: boot.saturating_add(duration) }
    }
}

/// Readings of several clocks that took no longer than this belong together.
const TOGETHER: Duration = Duration::from_micros(20);
/// How often they are read again on a busy host.
const ATTEMPTS: u32 = 5;

/// Where shells read the time.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    /// The wall-clock time of `origin` in virtual time; none = the system's.
    virtual_start: Option<Timestamp>,
    /// Shared by all clones.
    unsynced: Arc<AtomicBool>,
}

impl Clock {
    /// The system's clocks.
    pub fn system() -> Self {
        Self { origin: Instant::now(), virtual_start: None, unsynced: Arc::default() }
    }

    /// Wall-clock time runs with tokio's (paused) time from `start`.
    pub fn virtual_from(start: Timestamp) -> Self {
        Self { origin: Instant::now(), virtual_start: Some(start), unsynced: Arc::default() }
    }

    /// Reads the clocks.
    pub fn now(&self) -> Moment {
        let mut before = self.origin.elapsed();
        if let Some(start) = self.virtual_start {
            return Moment { unix: start.plus(before), mono: before, boot: before };
        }
        for _ in 0..ATTEMPTS {
            let (unix, boot) = (system_time(), since_boot());
            let after = self.origin.elapsed();
            if after.saturating_sub(before) <= TOGETHER {
                return Moment { unix, mono: after, boot: boot.unwrap_or(after) };
            }
            // This thread was put aside in between: what was read does not belong together.
            before = after;
        }
        Moment { unix: system_time(), mono: before, boot: since_boot().unwrap_or(before) }
    }

    /// Reads the monotonic clock alone, which is quicker.
    pub fn mono(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Looks whether the wall clock is set, for [`Clock::is_unsynced`] of all clones.
    pub fn look_at_sync(&self) {
        self.unsynced.store(!sync::is_set(self.now().unix), Ordering::Relaxed);
    }

    /// Whether the wall clock was not set when somebody last looked.
    pub fn is_unsynced(&self) -> bool {
        self.unsynced.load(Ordering::Relaxed)
    }

    /// The instant of tokio's timers at which the monotonic clock shows `mono`.
    pub fn instant(&self, mono: Duration) -> Instant {
        // A time too far away to be represented is as good as 30 years.
        self.origin.checked_add(mono).unwrap_or_else(|| Instant::now() + Duration::from_hours(262_800))
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn system_time() -> Timestamp {
    let now = std::time::SystemTime::now();
    Timestamp(match now.duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => nanos(since),
        Err(before) => -nanos(before.duration()),
    })
}

fn since_boot() -> Option<Duration> {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_never_panic_and_never_wrap() {
        let last = Timestamp::from_nanos(i64::MAX);
        assert_eq!(last.plus(Duration::MAX), last);
        assert_eq!(Timestamp::from_nanos(5).since(last), Duration::ZERO);
        assert_eq!(Timestamp::from_nanos(-5).to_string(), "1970-01-01T00:00:00.000000000Z");
    }

    #[test]
    fn milliseconds_are_written_as_short_as_they_are() {
        for (nanos, written) in [(1_549, "0.001549"), (16_123_457, "16.123457"), (3_600_700_000_000, "3600700"), (0, "0")] {
            assert_eq!(millis(Duration::from_nanos(nanos)).to_string(), written);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn virtual_time_moves_both_clocks() {
        let clock = Clock::virtual_from(Timestamp::from_nanos(1_000));
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(clock.now().unix, Timestamp::from_nanos(1_000).plus(Duration::from_hours(1)));
        assert_eq!(clock.now().mono, Duration::from_hours(1));
    }
}
