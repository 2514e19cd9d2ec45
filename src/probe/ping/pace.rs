//! How many packets go out at once, and how exactly at their time. Pure.
//!
//! Few packets go out one by one, at their time. Many go out in bursts some milliseconds apart, as each wake-up costs more
//! than a packet: none before its time, and a round trip is timed by the kernel's stamps and not by when it should have begun.
//! No burst is larger than what half of the receive buffer can hold when all of it comes back at once.

use std::time::Duration;

use crate::sys::BATCH;

/// The longest that a packet waits for others to go with it.
const LONGEST_TICK: Duration = Duration::from_millis(10);
/// How many packets should go together.
const BUNDLE: f64 = 32.0;
/// Packets a second up to which each goes out alone.
const FEW: f64 = 250.0;
/// From burst to burst when bursts are full and more is due.
const HURRY: Duration = Duration::from_micros(500);
/// How long packets are counted before the rate is judged.
const WINDOW: Duration = Duration::from_millis(250);
/// What the kernel charges a small message in the receive buffer.
pub const MESSAGE: usize = 832;

/// The pace of all packets of a thread.
#[derive(Debug)]
pub struct Pace {
    receive_buffer: usize,
    window: Duration,
    counted: u32,
    /// From burst to burst; nothing if each packet goes out alone.
    tick: Duration,
    /// Nothing goes out before this.
    not_before: Duration,
}

/// What may go out together.
#[derive(Debug)]
pub struct Allowance {
    packets: usize,
    bytes: usize,
}

impl Allowance {
    /// Whether a packet more may go out.
    pub fn is_left(&self) -> bool {
        self.packets > 0 && self.bytes > 0
    }

    /// A packet of this payload goes out: its transmit stamp and its reply come back.
    pub fn spend(&mut self, payload: usize) {
        self.packets = self.packets.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(2 * MESSAGE + payload);
    }
}

impl Pace {
    /// For sockets with at least such a receive buffer.
    pub fn new(receive_buffer: usize) -> Self {
        Self { receive_buffer, window: Duration::ZERO, counted: 0, tick: Duration::ZERO, not_before: Duration::ZERO }
    }

    /// What may go out now, if anything: one packet, and more as long as half of the receive buffer holds what comes back.
    pub fn allowance(&self, now: Duration) -> Option<Allowance> {
        (now >= self.not_before).then(|| Allowance { packets: BATCH, bytes: (self.receive_buffer / 2).max(1) })
    }

    /// So many went out; `more` if there were more to go.
    pub fn sent(&mut self, now: Duration, count: usize, more: bool) {
        self.counted = self.counted.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        let passed = now.saturating_sub(self.window);
        if passed >= WINDOW {
            self.tick = tick(f64::from(self.counted) / passed.as_secs_f64());
            (self.window, self.counted) = (now, 0);
        }
        self.not_before = now + if more { HURRY } else { self.tick };
    }

    /// When to look at what is due at `due`.
    pub fn wake(&self, due: Duration) -> Duration {
        due.max(self.not_before)
    }
}

/// From burst to burst at a rate of so many packets a second.
fn tick(rate: f64) -> Duration {
    if rate <= FEW { Duration::ZERO } else { LONGEST_TICK.min(Duration::from_secs_f64(BUNDLE / rate)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn few_packets_go_at_their_time() {
        let mut pace = Pace::new(425_984);
        for n in 1..1000 {
            let now = MS * 5 * n;
            assert!(pace.allowance(now).is_some() && pace.wake(now) == now);
            pace.sent(now, 1, false);
        }
    }

    #[test]
    fn many_packets_go_together() {
        for (rate, bursts) in [(1_000, 100), (10_000, 312), (50_000, 1_562)] {
            let mut pace = Pace::new(425_984);
            let (mut now, mut sent, mut wakes) = (MS, 0, 0);
            while now < 10_000 * MS {
                assert!(pace.allowance(now).is_some());
                let due = u32::try_from(now.as_micros() * rate / 1_000_000).unwrap() - sent;
                pace.sent(now, due as usize, false);
                sent += due;
                // The first window is for counting.
                wakes += u32::from(now > 2 * WINDOW);
                now = pace.wake(now + MS / 50);
            }
            assert!((bursts * 9..bursts * 12).contains(&wakes), "{wakes} wakes in 10 s at {rate} packets/s");
        }
        assert_eq!(tick(250.0), Duration::ZERO);
        assert_eq!(tick(251.0), 10 * MS);
    }

    #[test]
    fn what_is_too_much_for_one_burst_waits_a_moment() {
        let mut pace = Pace::new(425_984);
        pace.sent(MS, BATCH, true);
        assert!(pace.allowance(MS).is_none());
        assert_eq!(pace.wake(MS), MS + HURRY);
        assert!(pace.allowance(MS + HURRY).is_some());
    }

    #[test]
    fn a_burst_never_fills_more_than_half_of_the_buffer() {
        for (buffer, payload) in [(2_304, 56), (212_992, 56), (425_984, 56), (425_984, 65_507), (8 << 20, 8)] {
            let mut allowance = Pace::new(buffer).allowance(MS).unwrap();
            let mut burst = 0;
            while allowance.is_left() {
                allowance.spend(payload);
                burst += 1;
            }
            let taken = (burst - 1) * (2 * MESSAGE + payload);
            assert!((1..=BATCH).contains(&burst) && taken <= buffer / 2, "{burst} of {payload} in {buffer}");
        }
    }
}
