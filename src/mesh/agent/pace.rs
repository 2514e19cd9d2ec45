//! When the collector is asked again. Pure: random numbers are arguments.
//!
//! Many agents may start together, or find the collector back together: none of them may come at the same time as all
//! the others.

use std::time::Duration;

use crate::backoff::Backoff;

/// The first time is at most this late.
pub const FIRST: Duration = Duration::from_secs(1);
/// From time to time, on average, while all is well.
pub const EVERY: Duration = Duration::from_mins(1);
/// How much more or less than that it may be, as a share.
const SPREAD: f64 = 0.25;

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace(Backoff);

impl Default for Pace {
    fn default() -> Self {
        Self(Backoff::from_a_second())
    }
}

/// How long to wait before the first time. `fraction` is a random number in `0.0..1.0`, here as below.
pub fn first(fraction: f64) -> Duration {
    FIRST.mul_f64(fraction.clamp(0.0, 1.0))
}

impl Pace {
    /// It worked: how long to wait.
    pub fn fetched(&mut self, fraction: f64) -> Duration {
        *self = Self::default();
        EVERY.mul_f64(1.0 - SPREAD + 2.0 * SPREAD * fraction.clamp(0.0, 1.0))
    }

    /// It failed: how long to wait.
    pub fn failed(&mut self, fraction: f64) -> Duration {
        self.0.fail(fraction)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const AGENTS: usize = 500;

    /// The most of these times that fall into one second.
    fn busiest_second(mut times: Vec<Duration>) -> usize {
        times.sort_unstable();
        let within = |from: &Duration| times.iter().filter(|at| *at >= from && **at < *from + Duration::from_secs(1)).count();
        times.iter().map(within).max().unwrap_or(0)
    }

    #[test]
    fn m20_agents_that_start_together_do_not_ask_together_for_long() {
        let mut random = StdRng::seed_from_u64(20);
        let mut at: Vec<_> = (0..AGENTS).map(|_| first(random.random())).collect();
        assert!(at.iter().all(|first| *first < FIRST), "nobody waits long for the first list");
        let hundredths = (0..100).map(|n| at.iter().filter(|first| (first.as_millis() / 10) as usize == n).count()).max();
        assert!(hundredths.unwrap() < 20, "{hundredths:?}");
        for at in &mut at {
            *at += Pace::default().fetched(random.random());
        }
        assert!(busiest_second(at) < 40, "a minute later they are spread over half a minute");
    }

    #[test]
    fn m20_agents_whose_collector_comes_back_do_not_return_together() {
        let mut random = StdRng::seed_from_u64(21);
        // It went away at 0 and is back after ten minutes.
        let back = Duration::from_mins(10);
        let first_success = |random: &mut StdRng| {
            let (mut pace, mut at) = (Pace::default(), Duration::ZERO);
            while at < back {
                at += pace.failed(random.random());
            }
            at
        };
        let at: Vec<_> = (0..AGENTS).map(|_| first_success(&mut random)).collect();
        assert!(busiest_second(at.clone()) < 60, "{}", busiest_second(at));
    }

    #[test]
    fn waits_grow_from_a_second_to_a_minute_and_begin_anew_after_a_success() {
        let mut pace = Pace::default();
        assert_eq!((0..8).map(|_| pace.failed(1.0).as_secs()).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!((pace.fetched(0.0), pace.fetched(1.0)), (Duration::from_secs(45), Duration::from_secs(75)));
        assert_eq!(pace.failed(1.0), Duration::from_secs(1));
    }
}
