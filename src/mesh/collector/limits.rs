//! How often whom is answered: token buckets by origin, in tables that cannot grow. Pure: the time is an argument.
//!
//! Two buckets for each origin: one for all calls, and a much smaller one for keys that are not right. While the second is
//! empty no key is looked at, so that guessing is no faster than it fills.
//!
//! The buckets of strangers are cells of a fixed array, found by a hash with a key that nobody knows: whoever comes from
//! ever new addresses evicts nothing, he only fills cells that he happens to hit. So that he does not fill those of the
//! agents, an origin that has shown the right key has a bucket of its own from then on; only who has the key can make one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::origin::Origin;

/// Cells for strangers.
const CELLS: usize = 1 << 14;
/// The most origins with buckets of their own.
const MOST_KNOWN: usize = 4096;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls at once.
    pub burst: u32,
    /// From call to call afterwards.
    pub every: Duration,
}

/// All calls of an origin: hundreds of agents may stand behind one address.
pub const CALLS: Rate = Rate { burst: 2000, every: Duration::from_millis(5) };
/// Wrong keys of an origin: some agents that still have an old key must not shut out those beside them.
pub const WRONG_KEYS: Rate = Rate { burst: 50, every: Duration::from_millis(200) };

/// A bucket: the time at which it will be full again.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket(Duration);

impl Bucket {
    /// How long until it holds a token.
    fn wait(self, rate: Rate, now: Duration) -> Duration {
        self.0.saturating_sub(now).saturating_sub(rate.every * rate.burst.saturating_sub(1))
    }

    fn take(&mut self, rate: Rate, now: Duration) {
        self.0 = self.0.max(now) + rate.every;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Buckets {
    calls: Bucket,
    wrong_keys: Bucket,
    /// When it was last used, for the known.
    used: Duration,
}

/// The buckets of all.
#[derive(Debug)]
pub struct Limits {
    hasher: RandomState,
    strangers: Box<[Buckets]>,
    known: HashMap<Origin, Buckets>,
}

impl Limits {
    /// Full buckets for everybody. The hasher's key is the secret of the table.
    pub fn new(hasher: RandomState) -> Self {
        Self { hasher, strangers: vec![Buckets::default(); CELLS].into(), known: HashMap::new() }
    }

    fn buckets(&mut self, origin: Origin) -> &mut Buckets {
        let cell = self.hasher.hash_one(origin) as usize % CELLS;
        self.known.get_mut(&origin).unwrap_or(&mut self.strangers[cell])
    }

    /// A call: may it be answered? Else how long to wait.
    pub fn call(&mut self, origin: Origin, now: Duration) -> Result<(), Duration> {
        let buckets = self.buckets(origin);
        let wait = buckets.calls.wait(CALLS, now).max(buckets.wrong_keys.wait(WRONG_KEYS, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        buckets.calls.take(CALLS, now);
        buckets.used = now;
        Ok(())
    }

    /// It showed no key, or a wrong one.
    pub fn wrong_key(&mut self, origin: Origin, now: Duration) {
        self.buckets(origin).wrong_keys.take(WRONG_KEYS, now);
    }

    /// It showed the right one.
    pub fn right_key(&mut self, origin: Origin, now: Duration) {
        if self.known.contains_key(&origin) {
            return;
        }
        if self.known.len() >= MOST_KNOWN
            && let Some(oldest) = self.known.iter().min_by_key(|(_, buckets)| buckets.used).map(|(origin, _)| *origin)
        {
            self.known.remove(&oldest);
        }
        let buckets = Buckets { used: now, ..*self.buckets(origin) };
        self.known.insert(origin, buckets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: Origin = Origin::V6(7);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// How many of these calls are answered, when every key is wrong.
    fn guesses(limits: &mut Limits, origin: impl Fn(u64) -> Origin, calls: u64, every: Duration) -> u64 {
        let answered = (0..calls).filter(|n| {
            let now = seconds(1) + every * (*n as u32);
            let answered = limits.call(origin(*n), now).is_ok();
            if answered {
                limits.wrong_key(origin(*n), now);
            }
            answered
        });
        answered.count() as u64
    }

    /// M2.
    #[test]
    fn ten_thousand_guesses_a_second_are_not_faster_than_five() {
        let mut limits = Limits::new(RandomState::new());
        let answered = guesses(&mut limits, |_| Origin::V6(1), 100_000, Duration::from_micros(100));
        assert!((98..=101).contains(&answered), "{answered} in 10 s");
        assert!(limits.call(AGENT, seconds(11)).is_ok(), "another address");
        let last = seconds(1) + Duration::from_micros(9_999_900);
        let wait = limits.call(Origin::V6(1), last).unwrap_err();
        assert!(wait <= WRONG_KEYS.every, "{wait:?}");
        assert!(limits.call(Origin::V6(1), last + wait).is_ok());
    }

    /// M2.
    #[test]
    fn whoever_comes_from_ever_new_addresses_does_not_shut_out_who_has_the_key() {
        let mut limits = Limits::new(RandomState::new());
        limits.right_key(AGENT, seconds(1));
        let answered = guesses(&mut limits, |n| Origin::V6(1000 + n), 2_000_000, Duration::from_micros(1));
        assert!(answered < 2 * CELLS as u64 * u64::from(WRONG_KEYS.burst), "{answered}");
        assert!(limits.known.len() == 1 && limits.strangers.len() == CELLS, "nothing grew");
        assert!(limits.call(AGENT, seconds(3)).is_ok());
    }

    /// M2.
    #[test]
    fn new_addresses_do_not_give_back_what_was_used_up() {
        let mut limits = Limits::new(RandomState::new());
        guesses(&mut limits, |_| Origin::V6(1), 100, Duration::ZERO);
        guesses(&mut limits, |n| Origin::V6(1000 + n), 100_000, Duration::ZERO);
        assert!(limits.call(Origin::V6(1), seconds(1)).is_err());
    }

    #[test]
    fn hundreds_of_agents_behind_one_address_are_answered_though_some_have_an_old_key() {
        let mut limits = Limits::new(RandomState::new());
        let (mut refused, mut now) = (0, seconds(1));
        for call in 0..60_000 {
            // 300 agents: 3 calls a minute each, all in the same second; a tenth has the old key.
            if call % 900 == 0 {
                now += seconds(60);
            }
            now += Duration::from_millis(1);
            match limits.call(Origin::Local, now) {
                Ok(()) if call % 10 == 0 && call % 900 < 300 => limits.wrong_key(Origin::Local, now),
                Ok(()) => limits.right_key(Origin::Local, now),
                Err(_) => refused += 1,
            }
        }
        assert_eq!(refused, 0);
    }

    #[test]
    fn calls_have_a_limit_whoever_makes_them() {
        let mut limits = Limits::new(RandomState::new());
        limits.right_key(AGENT, seconds(1));
        let answered = (0..10_000).filter(|_| limits.call(AGENT, seconds(1)).is_ok()).count();
        assert_eq!(answered, CALLS.burst as usize);
        let answered = (0..10_000).filter(|_| limits.call(AGENT, seconds(2)).is_ok()).count();
        assert_eq!(answered, 200);
    }

    #[test]
    fn of_the_known_the_one_that_was_not_heard_for_longest_goes_first() {
        let mut limits = Limits::new(RandomState::new());
        for n in 0..=MOST_KNOWN as u64 {
            limits.right_key(Origin::V6(n), seconds(n));
        }
        assert_eq!(limits.known.len(), MOST_KNOWN);
        assert!(!limits.known.contains_key(&Origin::V6(0)));
    }
}
