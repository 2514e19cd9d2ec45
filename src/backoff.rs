//! How long to wait after a failure: exponential with full jitter, so that many agents do not come back at once. Pure.

use std::time::Duration;

/// The ceiling of the first wait.
pub const FIRST: Duration = Duration::from_millis(500);
/// The ceiling that no wait exceeds.
pub const LONGEST: Duration = Duration::from_mins(1);
/// No wait is shorter: full jitter alone may draw zero, and zero is no wait.
pub const SHORTEST: Duration = Duration::from_millis(50);

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// One whose first ceiling is a second.
    pub const fn from_a_second() -> Self {
        Self { failures: 1 }
    }

    /// One more failure: how long to wait. `fraction` is a random number in `0.0..1.0`.
    pub fn fail(&mut self, fraction: f64) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 1.0 };
        ceiling.mul_f64(fraction).max(SHORTEST)
    }

    /// It worked: the next failure is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_from_half_a_second_to_a_minute() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<f64> = (0..9).map(|_| backoff.fail(1.0).as_secs_f64()).collect();
        assert_eq!(ceilings, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        backoff.reset();
        assert_eq!(backoff.fail(1.0), FIRST);
    }

    #[test]
    fn the_wait_is_a_fraction_of_the_ceiling_but_never_nothing() {
        let mut backoff = Backoff { failures: 2 };
        assert_eq!(backoff.fail(0.25), Duration::from_millis(500));
        assert_eq!(backoff.fail(0.0), SHORTEST);
    }

    #[test]
    fn a_thousand_failures_and_a_bad_random_number_do_no_harm() {
        let mut backoff = Backoff::default();
        for _ in 0..1000 {
            assert!(backoff.fail(f64::NAN) <= LONGEST);
        }
        assert_eq!(Backoff { failures: u32::MAX }.fail(7.0), LONGEST);
    }
}
