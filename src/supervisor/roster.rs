//! What people see of the actors: who there is, in which state, and why it last ended. Pure.

use std::time::Duration;

use serde::Serialize;

use super::Exit;

/// How long after an end an actor is called degraded although it runs.
const DEGRADED_FOR: Duration = Duration::from_mins(1);

/// The state of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Being made.
    Starting,
    /// At work.
    Running,
    /// At work, with nothing to do: see [`Roster::with_idle`].
    Idle,
    /// At work, but it ended a moment ago.
    Degraded,
    /// Ended; waits for its next start.
    Waiting,
    /// Ended for good, as qosd is stopping.
    Stopped,
}

/// One actor.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// How often it was started again.
    pub restarts: u64,
    /// How it last ended.
    pub last_exit: Option<String>,
    #[serde(skip)]
    ended_at: Option<Duration>,
}

impl Entry {
    /// Whether it is at work.
    pub fn works(&self) -> bool {
        matches!(self.state, State::Running | State::Idle | State::Degraded)
    }
}

/// All actors.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Roster(Vec<Entry>);

impl Roster {
    /// All actors in the order in which they were first started.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// An actor is being made.
    pub fn starting(&mut self, name: &str) {
        match self.0.iter_mut().find(|entry| entry.name == name) {
            Some(entry) => {
                entry.state = State::Starting;
                entry.restarts += 1;
            }
            None => self.0.push(Entry { name: name.to_owned(), state: State::Starting, restarts: 0, last_exit: None, ended_at: None }),
        }
    }

    /// An actor is at work.
    pub fn running(&mut self, name: &str, now: Duration) {
        self.change(name, |entry| {
            let lately = entry.ended_at.is_some_and(|ended| now.saturating_sub(ended) < DEGRADED_FOR);
            entry.state = if lately { State::Degraded } else { State::Running };
        });
    }

    /// An actor has ended; `again` if it will be started once more.
    pub fn ended(&mut self, name: &str, exit: &Exit, again: bool, now: Duration) {
        self.change(name, |entry| {
            entry.state = if again { State::Waiting } else { State::Stopped };
            entry.last_exit = Some(exit.to_string());
            entry.ended_at = Some(now);
        });
    }

    /// With those that run idle of which it is said that nothing is for them to do. One that ended a moment ago stays degraded.
    #[must_use]
    pub fn with_idle(mut self, is_idle: impl Fn(&str) -> bool) -> Self {
        let running = self.0.iter_mut().filter(|entry| entry.state == State::Running);
        running.filter(|entry| is_idle(&entry.name)).for_each(|entry| entry.state = State::Idle);
        self
    }

    /// Whether every actor is at work.
    pub fn all_working(&self) -> bool {
        self.0.iter().all(Entry::works)
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.name == name) {
            change(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_degraded_for_a_while_after_its_end() {
        let mut roster = Roster::default();
        let state = |roster: &Roster| roster.entries()[0].state;
        roster.starting("ping");
        roster.running("ping", Duration::ZERO);
        assert_eq!(state(&roster), State::Running);
        roster.ended("ping", &Exit::Cancelled, true, Duration::from_secs(5));
        assert!(!roster.all_working());
        roster.starting("ping");
        roster.running("ping", Duration::from_secs(6));
        assert_eq!(state(&roster), State::Degraded);
        roster.running("ping", Duration::from_secs(66));
        assert_eq!(state(&roster), State::Running);
        assert_eq!(roster.entries()[0].restarts, 1);
    }

    #[test]
    fn who_runs_with_nothing_to_do_is_idle_and_at_work() {
        let mut roster = Roster::default();
        for name in ["ping", "mesh", "web", "responder"] {
            roster.starting(name);
        }
        for name in ["ping", "mesh", "web"] {
            roster.running(name, Duration::ZERO);
        }
        roster.ended("web", &Exit::Cancelled, true, Duration::from_secs(5));
        let roster = roster.with_idle(|name| name != "ping");
        let states: Vec<_> = roster.entries().iter().map(|entry| entry.state).collect();
        assert_eq!(states, [State::Running, State::Idle, State::Waiting, State::Starting]);
        assert_eq!(roster.entries().iter().map(Entry::works).collect::<Vec<_>>(), [true, true, false, false]);
        assert_eq!(serde_json::to_value(&roster).unwrap()[1]["state"], "idle");
    }
}
