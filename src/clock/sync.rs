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

/// Whether the clock that shows `now` is set.
pub fn is_set(now: Timestamp) -> bool {
    let folder = Path::new(TIMESYNC);
    judge(now, folder.is_dir(), folder.join("synchronized").exists())
}

fn judge(now: Timestamp, timesyncd: bool, synchronised: bool) -> bool {
    now >= WRITTEN && (synchronised || !timesyncd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_set_unless_something_speaks_against_it() {
        assert!(judge(WRITTEN, false, false), "nobody knows better");
        assert!(judge(WRITTEN, true, true));
        assert!(!judge(WRITTEN, true, false));
        assert!(!judge(Timestamp::from_nanos(0), true, true), "no clock of its own, and nobody asked yet");
    }
}
