//! When an output is said to fail and to work again. Pure.
//!
//! Transitions, not conditions: once when it begins, once when the reason changes, once when it ends; and not more than
//! one beginning a minute, so that an output that comes and goes does not fill the log.

use std::time::Duration;

use super::outbox::Event;

/// No two announcements of a failure are closer.
const QUIET: Duration = Duration::from_mins(1);

/// One output's present episode of failing, if there is one.
#[derive(Debug, Default)]
pub(super) struct Episode {
    failing: Option<Failing>,
    announced_at: Option<Duration>,
}

#[derive(Debug)]
struct Failing {
    since: Duration,
    why: String,
    announced: Option<String>,
}

impl Episode {
    /// Something did not get through.
    pub(super) fn fails(&mut self, now: Duration, why: String) -> Option<Event> {
        let failing = self.failing.get_or_insert_with(|| Failing { since: now, why: String::new(), announced: None });
        failing.why.clone_from(&why);
        let news = failing.announced.as_ref() != Some(&why);
        let quiet = self.announced_at.is_none_or(|at| now >= at.saturating_add(QUIET));
        if !(news && quiet) {
            return None;
        }
        self.announced_at = Some(now);
        failing.announced = Some(why.clone());
        Some(Event::Failing { why })
    }

    /// Something got through.
    pub(super) fn works(&mut self, now: Duration) -> Option<Event> {
        let failing = self.failing.take()?;
        failing.announced.map(|_| Event::Works { after: now.saturating_sub(failing.since) })
    }

    /// Since when, and why.
    pub(super) fn failing(&self) -> Option<(Duration, &str)> {
        self.failing.as_ref().map(|failing| (failing.since, failing.why.as_str()))
    }
}

/// Rows that became dead letters, told at most once a minute: a server may refuse as many as it likes.
#[derive(Debug, Default)]
pub(super) struct Burials {
    untold: u64,
    told_at: Option<Duration>,
}

impl Burials {
    /// So many more.
    pub(super) fn add(&mut self, now: Duration, rows: u64, why: &str) -> Option<Event> {
        self.untold += rows;
        if self.told_at.is_some_and(|at| now < at.saturating_add(QUIET)) {
            return None;
        }
        self.told_at = Some(now);
        Some(Event::Dead { rows: std::mem::take(&mut self.untold), why: why.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_told_once_a_minute_and_none_is_left_out() {
        let mut burials = Burials::default();
        let told: Vec<_> = (0..=180).filter_map(|at| burials.add(s(at), 10, "400")).collect();
        let dead = |rows| Event::Dead { rows, why: "400".to_owned() };
        assert_eq!(told, [dead(10), dead(600), dead(600), dead(600)]);
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn failing(why: &str) -> Event {
        Event::Failing { why: why.to_owned() }
    }

    #[test]
    fn an_outage_is_said_once_and_its_end_once() {
        let mut episode = Episode::default();
        assert_eq!(episode.works(s(0)), None);
        assert_eq!(episode.fails(s(1), "down".to_owned()), Some(failing("down")));
        (2..5000).for_each(|at| assert_eq!(episode.fails(s(at), "down".to_owned()), None));
        assert_eq!(episode.failing(), Some((s(1), "down")));
        assert_eq!(episode.works(s(5001)), Some(Event::Works { after: s(5000) }));
        assert_eq!(episode.works(s(5002)), None);
    }

    #[test]
    fn another_reason_is_said_but_not_more_than_once_a_minute() {
        let mut episode = Episode::default();
        assert_eq!(episode.fails(s(0), "401".to_owned()), Some(failing("401")));
        assert_eq!(episode.fails(s(59), "404".to_owned()), None);
        assert_eq!(episode.failing(), Some((s(0), "404")));
        assert_eq!(episode.fails(s(60), "404".to_owned()), Some(failing("404")));
    }

    #[test]
    fn an_output_that_comes_and_goes_does_not_fill_the_log() {
        let mut episode = Episode::default();
        let said =
            (0..600).filter_map(|at| if at % 2 == 0 { episode.fails(s(at), "down".to_owned()) } else { episode.works(s(at)) }).count();
        assert_eq!(said, 20);
    }
}
