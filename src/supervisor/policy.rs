//! What follows when an actor has ended. Pure.
//!
//! | after | then |
//! |---|---|
//! | the first end, or one after a healthy time | a new start after `first` |
//! | each further end | twice the wait, up to `most` |
//! | more than `limit` ends within its span, with no healthy time in between | the end of the process, for systemd to start it again |

use std::collections::VecDeque;
use std::time::Duration;

/// When to start an actor again, and when to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The wait after the first end.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
    /// An actor that lived this long was healthy: its next end counts as the first.
    pub healthy_after: Duration,
    /// How often it may end without having been healthy, if not for ever.
    pub limit: Option<Limit>,
}

/// At most so many ends in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many.
    pub ends: usize,
    /// In how much time.
    pub within: Duration,
}

impl Policy {
    /// For a kind of probe: started again for ever.
    pub const PROBE: Self =
        Self { first: Duration::from_millis(100), most: Duration::from_secs(30), healthy_after: Duration::from_secs(10), limit: None };

    /// For the writer: without it qosd is of no use, so a fresh process is tried. The waits before the sixth end take 3 s; those
    /// before many more would outlast the span, and the limit never be reached.
    pub const ESSENTIAL: Self = Self { limit: Some(Limit { ends: 5, within: Duration::from_mins(1) }), ..Self::PROBE };
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it again after this.
    Restart(Duration),
    /// End the process.
    Escalate,
}

/// The ends of one actor so far.
#[derive(Clone, Debug, Default)]
pub struct History {
    in_a_row: u32,
    ends: VecDeque<Duration>,
}

impl History {
    /// An actor ended at `now` after it had lived for `lived`; `fraction` in `0.0..1.0` spreads the waits.
    pub fn ended(&mut self, policy: &Policy, now: Duration, lived: Duration, fraction: f64) -> Decision {
        if lived >= policy.healthy_after {
            *self = Self::default();
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if let Some(limit) = policy.limit {
            self.ends.push_back(now);
            while self.ends.front().is_some_and(|first| now.saturating_sub(*first) > limit.within) {
                self.ends.pop_front();
            }
            if self.ends.len() > limit.ends {
                return Decision::Escalate;
            }
        }
        let doubled = policy.first.saturating_mul(2_u32.saturating_pow(self.in_a_row - 1));
        Decision::Restart(doubled.min(policy.most).mul_f64(1.0 - fraction.clamp(0.0, 1.0) / 4.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_most() {
        let mut history = History::default();
        let waits: Vec<_> = (0..11).map(|_| history.ended(&Policy::PROBE, SECOND, Duration::ZERO, 0.0)).collect();
        let expected = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000];
        assert_eq!(waits, expected.map(|ms| Decision::Restart(Duration::from_millis(ms))));
    }

    #[test]
    fn health_resets_the_wait() {
        let mut history = History::default();
        for _ in 0..5 {
            history.ended(&Policy::PROBE, SECOND, Duration::ZERO, 0.0);
        }
        assert_eq!(history.ended(&Policy::PROBE, SECOND, 10 * SECOND, 0.0), Decision::Restart(Policy::PROBE.first));
    }

    #[test]
    fn waits_are_spread_downwards_so_the_first_is_never_late() {
        let wait = History::default().ended(&Policy::PROBE, SECOND, Duration::ZERO, 1.0);
        assert_eq!(wait, Decision::Restart(Duration::from_millis(75)));
    }

    #[test]
    fn a_probe_is_started_again_for_ever() {
        let mut history = History::default();
        for _ in 0..100_000 {
            assert_ne!(history.ended(&Policy::PROBE, SECOND, Duration::ZERO, 0.5), Decision::Escalate);
        }
    }

    #[test]
    fn the_writer_beyond_its_limit_ends_the_process() {
        let mut history = History::default();
        let mut at = |now| history.ended(&Policy::ESSENTIAL, now, Duration::ZERO, 0.0);
        for _ in 0..5 {
            assert_ne!(at(SECOND), Decision::Escalate);
        }
        assert_eq!(at(2 * SECOND), Decision::Escalate);
        assert_ne!(at(100 * SECOND), Decision::Escalate, "the old ends are forgotten");
    }

    #[test]
    fn the_writers_own_waits_do_not_keep_it_from_its_limit() {
        for (lived, fraction) in [(Duration::ZERO, 0.0), (Duration::ZERO, 1.0), (9 * SECOND, 0.0)] {
            let (mut history, mut now, mut ends) = (History::default(), lived, 1);
            while let Decision::Restart(after) = history.ended(&Policy::ESSENTIAL, now, lived, fraction) {
                (now, ends) = (now + after + lived, ends + 1);
                assert!(ends < 100, "started again for ever");
            }
            assert_eq!(ends, 6);
        }
    }

    #[test]
    fn a_writer_that_was_healthy_in_between_is_not_given_up() {
        let mut history = History::default();
        for second in 0..100 {
            let now = SECOND * second;
            assert_ne!(history.ended(&Policy::ESSENTIAL, now, Policy::ESSENTIAL.healthy_after, 0.0), Decision::Escalate);
        }
    }
}
