//! How many packets go out at once, and how exactly at their time. Pure.
//!
//! Few packets go out one by one, at their time: whoever sleeps is woken late, so the thread is woken a moment before and waits
//! for the time awake, which costs 2 % of a processor at the most. Many go out in bursts some milliseconds apart, as each wake-up costs more
//! than a packet: none before its time, and a round trip is timed by the kernel's stamps and not by when it should have begun.
//! No burst is larger than what half of the receive buffer can hold when all of it comes back at once.

use std::time::Duration;

use crate::sys::BATCH;

/// The longest that a packet waits for others to go with it.
const LONGEST_TICK: Duration = Duration::from_millis(20);
/// How many packets should go together.
const BUNDLE: f64 = 100.0;
/// Packets a second up to which each goes out alone.
const FEW: f64 = 250.0;
/// The longest before its time that a packet which goes out alone is met: longer than the system takes to wake a thread, but for one in
/// a hundred.
const EARLY: Duration = Duration::from_micros(250);
/// The most of a processor that waiting awake may take.
const AWAKE: f64 = 0.02;
/// The most packets of a burst.
const MOST: usize = 2 * BATCH;
/// From burst to burst when bursts are full and more is due.
const HURRY: Duration = Duration::from_millis(1);
/// How long packets are counted before the rate is judged.
const WINDOW: Duration = Duration::from_millis(250);
/// What the kernel charges a small message in the receive buffer.
pub const MESSAGE: usize = 832;

/// How long this process may stand still without a packet being lost for it, on a busy host.
pub const PAUSE: Duration = Duration::from_millis(100);

/// The receive buffer that holds what comes back while this process stands still for [`PAUSE`]: a transmit stamp and a reply
/// for each packet of this payload.
pub fn buffer_for(packets_per_second: f64, payload: usize) -> usize {
    (packets_per_second * PAUSE.as_secs_f64()).ceil() as usize * (2 * MESSAGE + payload)
}

/// The pace of all packets of a thread.
#[derive(Debug)]
pub struct Pace {
    receive_buffer: usize,
    window: Duration,
    counted: u32,
    /// The shortest time from packet to packet of the runs that sent since then.
    spacing: Duration,
    /// From burst to burst; nothing if each packet goes out alone.
    tick: Duration,
    /// How long before its time a packet that goes out alone is met.
    early: Duration,
    /// Nothing goes out before this.
    not_before: Duration,
}

/// What may go out together.
#[derive(Debug)]
pub struct Allowance {
    packets: usize,
    bytes: usize,
    spacing: Duration,
}

impl Allowance {
    /// Whether a packet more may go out.
    pub fn is_left(&self) -> bool {
        self.packets > 0 && self.bytes > 0
    }

    /// A packet of this payload goes out, of a run with this spacing: its transmit stamp and its reply come back.
    pub fn spend(&mut self, payload: usize, spacing: Duration) {
        self.spacing = self.spacing.min(spacing);
        self.packets = self.packets.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(2 * MESSAGE + payload);
    }
}

impl Pace {
    /// For sockets with at least such a receive buffer.
    pub fn new(receive_buffer: usize) -> Self {
        Self {
            receive_buffer,
            window: Duration::ZERO,
            counted: 0,
            spacing: Duration::MAX,
            tick: Duration::ZERO,
            early: EARLY,
            not_before: Duration::ZERO,
        }
    }

    /// What may go out now, if anything: one packet, and more as long as half of the receive buffer holds what comes back.
    pub fn allowance(&self, now: Duration) -> Option<Allowance> {
        (now >= self.not_before).then(|| Allowance { packets: MOST, bytes: (self.receive_buffer / 2).max(1), spacing: Duration::MAX })
    }

    /// So many went out, and this is left; nothing if there are more to go.
    pub fn sent(&mut self, now: Duration, count: usize, left: &Allowance) {
        self.counted = self.counted.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.spacing = self.spacing.min(left.spacing);
        let passed = now.saturating_sub(self.window);
        if passed >= WINDOW {
            let rate = f64::from(self.counted) / passed.as_secs_f64();
            (self.tick, self.early) = (tick(rate, self.spacing), early(rate));
            (self.window, self.counted, self.spacing) = (now, 0, Duration::MAX);
        }
        self.not_before = now + if left.is_left() { self.tick } else { HURRY };
    }

    /// When to look at what is due at `due`.
    pub fn wake(&self, due: Duration) -> Duration {
        if self.tick.is_zero() { due.saturating_sub(self.early).max(self.not_before) } else { due.max(self.not_before) }
    }

    /// Whether what is due at `due` is to be waited for now.
    pub fn meets(&self, now: Duration, due: Duration) -> bool {
        let early = now.max(self.not_before)..now.saturating_add(self.early).saturating_add(Duration::from_nanos(1));
        self.tick.is_zero() && now < due && early.contains(&due)
    }
}

/// How early packets may be met at a rate of so many a second.
fn early(rate: f64) -> Duration {
    if rate * EARLY.as_secs_f64() <= AWAKE { EARLY } else { Duration::from_secs_f64(AWAKE / rate) }
}

/// From burst to burst at a rate of so many packets a second: often enough that each run can keep its spacing.
fn tick(rate: f64, spacing: Duration) -> Duration {
    if rate <= FEW { Duration::ZERO } else { LONGEST_TICK.min(spacing / 2).min(Duration::from_secs_f64(BUNDLE / rate)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn few_packets_go_at_their_time() {
        let mut pace = Pace::new(425_984);
        for n in 1..1000 {
            let now = MS * 10 * n;
            let left = pace.allowance(now).unwrap();
            let early = pace.wake(now);
            assert!(early <= now.saturating_sub(EARLY / 2) && pace.meets(early, now));
            assert!(!pace.meets(now, now) && !pace.meets(early.saturating_sub(EARLY), now));
            pace.sent(now, 1, &left);
        }
    }

    #[test]
    fn waiting_awake_costs_no_more_than_it_may() {
        for rate in [0.5, 10.0, 80.0, 100.0, 250.0, 10_000.0] {
            assert!(early(rate) <= EARLY && early(rate).as_secs_f64() * rate <= AWAKE + 1e-6, "{rate}");
        }
        assert_eq!((early(1.0), early(200.0)), (EARLY, Duration::from_micros(100)));
    }

    #[test]
    fn many_packets_go_together() {
        for (rate, bursts) in [(1_000, 50), (10_000, 100), (50_000, 500)] {
            let mut pace = Pace::new(425_984);
            let (mut now, mut sent, mut wakes) = (MS, 0, 0);
            while now < 10_000 * MS {
                let left = pace.allowance(now).unwrap();
                let due = u32::try_from(now.as_micros() * rate / 1_000_000).unwrap() - sent;
                pace.sent(now, due as usize, &left);
                sent += due;
                // The first window is for counting.
                wakes += u32::from(now > 2 * WINDOW);
                now = pace.wake(now + MS / 50).max(now + MS / 50);
            }
            assert!((bursts * 9..bursts * 12).contains(&wakes), "{wakes} wakes in 10 s at {rate} packets/s");
        }
        assert_eq!(tick(250.0, MS), Duration::ZERO);
        assert_eq!(tick(251.0, 1000 * MS), 20 * MS);
        assert_eq!(tick(251.0, 10 * MS), 5 * MS);
    }

    #[test]
    fn the_buffer_of_an_untuned_host_is_enough_for_two_thousand_packets_a_second() {
        assert!(buffer_for(2_000.0, 56) <= 425_984 && buffer_for(3_000.0, 56) > 425_984);
        assert_eq!(buffer_for(0.0, 56), 0);
    }

    #[test]
    fn what_is_too_much_for_one_burst_waits_a_moment() {
        let mut pace = Pace::new(425_984);
        let mut left = pace.allowance(MS).unwrap();
        (0..MOST).for_each(|_| left.spend(56, MS));
        pace.sent(MS, MOST, &left);
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
                allowance.spend(payload, MS);
                burst += 1;
            }
            let taken = (burst - 1) * (2 * MESSAGE + payload);
            assert!((1..=MOST).contains(&burst) && taken <= buffer / 2, "{burst} of {payload} in {buffer}");
        }
    }
}
