//! What the network can make happen as often as it likes is logged once a minute and origin, and ten times a minute in all.
//! Pure: the time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use super::origin::Origin;

/// From mention to mention of the same.
const EVERY: Duration = Duration::from_mins(1);
/// The most mentions in that time, of all origins.
const MOST: usize = 10;

/// What was mentioned lately, and what was not.
#[derive(Debug, Default)]
pub struct Mentions {
    lately: HashMap<(Origin, &'static str), Duration>,
    suppressed: u64,
}

impl Mentions {
    /// Something happened: is it to be mentioned? Then with how many that were not since the last one.
    pub fn note(&mut self, origin: Origin, what: &'static str, now: Duration) -> Option<u64> {
        self.lately.retain(|_, mentioned| now.saturating_sub(*mentioned) < EVERY);
        if self.lately.len() >= MOST || self.lately.contains_key(&(origin, what)) {
            self.suppressed += 1;
            return None;
        }
        self.lately.insert((origin, what), now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_mentioned_once_a_minute_with_the_count_of_the_rest() {
        let mut mentions = Mentions::default();
        let mentioned: Vec<_> = (0..180_000).filter_map(|ms| mentions.note(Origin::Local, "key", Duration::from_millis(ms))).collect();
        assert_eq!(mentioned, [0, 59_999, 59_999]);
        assert_eq!(mentions.note(Origin::Local, "rate", Duration::from_mins(3)), Some(59_999));
    }

    #[test]
    fn floods_from_everywhere_are_mentioned_ten_times_a_minute() {
        let mut mentions = Mentions::default();
        let mentioned = (0..100_000).filter_map(|n| mentions.note(Origin::V6(n), "key", Duration::from_secs(1))).count();
        assert_eq!((mentioned, mentions.lately.len()), (MOST, MOST));
        assert_eq!(mentions.note(Origin::V6(1), "key", Duration::from_secs(62)), Some(99_990));
    }
}
