//! How many lines of a class there may be: ten in any second, and the others are counted. Pure.
//!
//! A class is a place in the code. What happens a thousand times a second, because the network wants it to, is told ten times,
//! with the number of those left out a second later; what others say meanwhile is not crowded out.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// The most lines of a class within a second.
const MOST: usize = 10;
const SECOND: Duration = Duration::from_secs(1);

/// What was written lately, by class. There are as many classes as there are places in the code that log.
pub(super) struct Limit<K> {
    classes: HashMap<K, Class>,
}

#[derive(Default)]
struct Class {
    /// What its lines are about.
    name: String,
    /// When the last lines were written, ten at most.
    written: VecDeque<Duration>,
    suppressed: u64,
    /// When the first of those suppressed came.
    since: Duration,
}

/// Lines that were left out.
#[derive(Debug, PartialEq)]
pub(super) struct Suppressed {
    /// What they were about.
    pub(super) class: String,
    /// How many.
    pub(super) lines: u64,
}

impl<K: Eq + Hash> Limit<K> {
    /// Nothing was written yet.
    pub(super) fn new() -> Self {
        Self { classes: HashMap::new() }
    }

    /// Whether a line may be written now. `name` is asked once a class.
    pub(super) fn admits(&mut self, class: K, name: impl FnOnce() -> String, now: Duration) -> bool {
        let class = self.classes.entry(class).or_insert_with(|| Class { name: name(), ..Class::default() });
        if class.is_full(now) {
            if class.suppressed == 0 {
                class.since = now;
            }
            class.suppressed += 1;
            return false;
        }
        class.written.truncate(MOST - 1);
        class.written.push_front(now);
        true
    }

    /// What was left out, and is to be told now: a second after the first of it.
    pub(super) fn overdue(&mut self, now: Duration) -> Vec<Suppressed> {
        let over = |class: &&mut Class| class.suppressed > 0 && now.saturating_sub(class.since) >= SECOND;
        let told = |class: &mut Class| Suppressed { class: class.name.clone(), lines: std::mem::take(&mut class.suppressed) };
        self.classes.values_mut().filter(over).map(told).collect()
    }

    /// Whether something may be left out, or is to be told, within the next second though no line is written.
    pub(super) fn is_busy(&self, now: Duration) -> bool {
        self.classes.values().any(|class| class.suppressed > 0 || class.is_full(now))
    }
}

impl Class {
    /// Whether the last ten lines were within a second.
    fn is_full(&self, now: Duration) -> bool {
        self.written.len() == MOST && self.written.back().is_some_and(|at| now.saturating_sub(*at) < SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn flood(limit: &mut Limit<&'static str>, class: &'static str, every: u64, lines: u64, from: u64) -> Vec<u64> {
        (0..lines).map(|n| from + n * every).filter(|at| limit.admits(class, || format!("about {class}"), ms(*at))).collect()
    }

    #[test]
    fn ten_lines_in_any_second_are_written_and_the_others_counted() {
        let mut limit = Limit::new();
        let written = flood(&mut limit, "a", 1, 5_000, 0);
        assert_eq!(written.len(), 50);
        assert!(written.windows(11).all(|lines| lines[10] - lines[0] >= 1000), "{written:?}");
        assert_eq!(limit.overdue(ms(5_000)), [Suppressed { class: "about a".to_owned(), lines: 4_950 }]);
        assert_eq!(limit.overdue(ms(9_000)), []);
    }

    #[test]
    fn what_is_written_slowly_is_written_whole() {
        let mut limit = Limit::new();
        assert_eq!(flood(&mut limit, "a", 100, 1_000, 0).len(), 1_000);
        assert_eq!(limit.overdue(ms(1_000_000)), []);
    }

    #[test]
    fn one_class_does_not_crowd_out_another() {
        let mut limit = Limit::new();
        flood(&mut limit, "a", 1, 900, 0);
        assert_eq!(flood(&mut limit, "b", 1, 10, 890).len(), 10);
    }

    #[test]
    fn what_was_left_out_is_told_a_second_after_it_began_though_the_flood_goes_on() {
        let mut limit = Limit::new();
        flood(&mut limit, "a", 1, 500, 0);
        assert_eq!(limit.overdue(ms(1_009)), []);
        assert!(limit.is_busy(ms(1_009)));
        assert_eq!(limit.overdue(ms(1_010)), [Suppressed { class: "about a".to_owned(), lines: 490 }]);
        assert!(!limit.is_busy(ms(1_010)));
    }

    #[test]
    fn whoever_tells_looks_again_as_soon_as_something_may_be_left_out() {
        let mut limit = Limit::new();
        flood(&mut limit, "a", 1, 9, 0);
        assert!(!limit.is_busy(ms(9)));
        flood(&mut limit, "a", 1, 1, 9);
        assert!(limit.is_busy(ms(10)));
        assert!(!limit.is_busy(ms(1_009)));
    }
}
