//! Whether the wall clock is set, as far as the host tells.
//!
//! systemd-timesyncd says so with a file. Of other daemons, and of a host without any, nothing can be known without a
//! privilege: their clock is taken to be right, unless it shows a time before this program was written.

use std::path::Path;

use super::Timestamp;

/// The folder of systemd-timesyncd, and the file that it makes once the clock is synchronised.
const TIMESYNC: &str = "/run/systemd/timesync";
/// 2026-01-01 00:00:00 UTC.
const WRITTEN: Timestamp = Timestamp::from_nanos(1_767_225_600_000_000_000);

/// What the host tells of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// It is synchronised.
    Synchronised,
    /// Nothing; it is taken to be right.
    Untold,
    /// It is going to be synchronised, and is not yet.
    NotYet,
    /// It shows a time before this program was written.
    LongAgo,
}

impl Sync {
    /// Whether the clock is taken to be right.
    pub fn is_set(self) -> bool {
        matches!(self, Self::Synchronised | Self::Untold)
    }
}

/// Whether the clock that shows `now` is set.
pub fn is_set(now: Timestamp) -> bool {
    look(now).is_set()
}

/// What the host tells of the clock that shows `now`.
pub fn look(now: Timestamp) -> Sync {
    let folder = Path::new(TIMESYNC);
    judge(now, folder.is_dir(), folder.join("synchronized").exists())
}

fn judge(now: Timestamp, timesyncd: bool, synchronised: bool) -> Sync {
    match (timesyncd, synchronised) {
        _ if now < WRITTEN => Sync::LongAgo,
        (_, true) => Sync::Synchronised,
        (true, false) => Sync::NotYet,
        (false, false) => Sync::Untold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_set_unless_something_speaks_against_it() {
        assert!(judge(WRITTEN, false, false).is_set(), "nobody knows better");
        assert!(judge(WRITTEN, true, true).is_set());
        assert!(!judge(WRITTEN, true, false).is_set());
        assert!(!judge(Timestamp::from_nanos(0), true, true).is_set(), "no clock of its own, and nobody asked yet");
    }
}
