//! From one plan to the next, without ever sending for both. Pure.
//!
//! A run that has begun goes on to its end, whatever the next list says. So whoever may change the list could stack runs,
//! and send more than the rate: therefore what is new waits until the runs of what was taken away are over. What both
//! plans have goes on undisturbed, unless the schedule is another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::plan::Plan;
use crate::mesh::schedule::Ping;
use crate::probe::Assignment;

/// What is measured now, and what is to be.
#[derive(Debug, Default)]
pub struct Rollout {
    current: Vec<Arc<Assignment>>,
    ping: Ping,
    wanted: Vec<Arc<Assignment>>,
    wanted_ping: Ping,
    quiet_from: Duration,
}

impl Rollout {
    /// From now on this is wanted. Times are on the monotonic clock.
    pub fn want(&mut self, now: Duration, plan: &Plan) {
        self.wanted.clone_from(&plan.assignments);
        self.wanted_ping = plan.ping;
        if self.staying().len() < self.current.len() {
            // A run begins at most a spacing after its slot.
            self.quiet_from = self.quiet_from.max(now.saturating_add(self.ping.duration()).saturating_add(self.ping.spacing));
        }
    }

    /// What is to be measured, if that is something else than before.
    pub fn next(&mut self, now: Duration) -> Option<Vec<Arc<Assignment>>> {
        let next = if now >= self.quiet_from { self.wanted.clone() } else { self.staying() };
        self.ping = self.wanted_ping;
        (next != self.current).then(|| {
            self.current.clone_from(&next);
            next
        })
    }

    /// When there is more to be measured, if it is waited for.
    pub fn wake(&self, now: Duration) -> Option<Duration> {
        (self.wanted != self.current && now < self.quiet_from).then_some(self.quiet_from)
    }

    /// What is wanted, as far as it is measured now.
    fn staying(&self) -> Vec<Arc<Assignment>> {
        if self.wanted_ping != self.ping {
            return Vec::new();
        }
        let current: HashMap<_, _> = self.current.iter().map(|assignment| (&assignment.series, assignment.schedule)).collect();
        let stays = |wanted: &&Arc<Assignment>| current.get(&wanted.series) == Some(&wanted.schedule);
        self.wanted.iter().filter(stays).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::Series;
    use crate::probe::schedule::Schedule;
    use crate::probe::{Cost, Planned};

    const SECOND: Duration = Duration::from_secs(1);

    fn plan(names: &[&str], ping: Ping) -> Plan {
        let planned = |name: &&str| Planned {
            series: Series::new("m", [("target", *name)]),
            schedule: Schedule::new(ping.interval, Duration::ZERO),
            longest: SECOND,
            cost: Cost::default(),
            job: (),
        };
        let assignments = names.iter().map(|name| Arc::new(Assignment::new("ping", planned(name)))).collect();
        Plan { assignments, ping, ..Plan::default() }
    }

    fn targets(next: Option<Vec<Arc<Assignment>>>) -> Option<Vec<String>> {
        Some(next?.iter().map(|assignment| assignment.series.tag("target").unwrap().to_owned()).collect())
    }

    fn minute() -> Ping {
        Ping { interval: SECOND * 60, count: 4, spacing: SECOND }
    }

    #[test]
    fn what_did_not_change_is_not_touched_and_what_is_added_begins_at_once() {
        let mut rollout = Rollout::default();
        rollout.want(SECOND, &plan(&["a"], minute()));
        assert_eq!(targets(rollout.next(SECOND)).unwrap(), ["a"]);
        rollout.want(SECOND * 2, &plan(&["a"], minute()));
        assert_eq!((rollout.next(SECOND * 2), rollout.wake(SECOND * 2)), (None, None));
        rollout.want(SECOND * 3, &plan(&["a", "b"], minute()));
        assert_eq!(targets(rollout.next(SECOND * 3)).unwrap(), ["a", "b"]);
    }

    #[test]
    fn m16_what_is_new_waits_until_the_runs_of_what_was_taken_away_are_over() {
        let mut rollout = Rollout::default();
        rollout.want(SECOND, &plan(&["a", "b"], minute()));
        rollout.next(SECOND);
        rollout.want(SECOND * 2, &plan(&["a", "c"], minute()));
        assert_eq!(targets(rollout.next(SECOND * 2)).unwrap(), ["a"], "what stays goes on");
        assert_eq!(rollout.wake(SECOND * 2), Some(SECOND * 8));
        // A list that changes again and again gains nothing by it.
        rollout.want(SECOND * 3, &plan(&["c", "d"], minute()));
        assert_eq!(targets(rollout.next(SECOND * 3)).unwrap(), [""; 0]);
        assert_eq!(rollout.wake(SECOND * 3), Some(SECOND * 9));
        assert_eq!(targets(rollout.next(SECOND * 9)).unwrap(), ["c", "d"]);
        assert_eq!(rollout.wake(SECOND * 9), None);
    }

    #[test]
    fn m16_another_schedule_begins_when_the_runs_of_the_old_one_are_over() {
        let mut rollout = Rollout::default();
        rollout.want(SECOND, &plan(&["a"], minute()));
        rollout.next(SECOND);
        let faster = Ping { interval: SECOND * 5, ..minute() };
        rollout.want(SECOND * 2, &plan(&["a"], faster));
        assert_eq!(targets(rollout.next(SECOND * 2)).unwrap(), [""; 0]);
        rollout.want(SECOND * 3, &plan(&["a"], faster));
        assert_eq!(rollout.wake(SECOND * 3), Some(SECOND * 8), "asked twice is not put off");
        assert_eq!(targets(rollout.next(SECOND * 8)).unwrap(), ["a"]);
    }

    #[test]
    fn m16_the_same_peers_at_other_times_wait_for_the_old_runs() {
        let mut rollout = Rollout::default();
        rollout.want(SECOND, &plan(&["a"], minute()));
        rollout.next(SECOND);
        // As under another name of the agent's own.
        let mut later = plan(&["a"], minute());
        let assignment = Arc::get_mut(&mut later.assignments[0]).unwrap();
        assignment.schedule = Schedule::new(minute().interval, SECOND * 3);
        rollout.want(SECOND * 2, &later);
        assert_eq!(targets(rollout.next(SECOND * 2)).unwrap(), [""; 0]);
        assert_eq!(targets(rollout.next(SECOND * 8)).unwrap(), ["a"]);
    }

    #[test]
    fn a_mesh_that_is_left_and_joined_again_waits_too() {
        let mut rollout = Rollout::default();
        rollout.want(SECOND, &plan(&["a"], minute()));
        rollout.next(SECOND);
        rollout.want(SECOND * 2, &Plan { ping: minute(), ..Plan::default() });
        assert_eq!(targets(rollout.next(SECOND * 2)).unwrap(), [""; 0]);
        rollout.want(SECOND * 3, &plan(&["b"], minute()));
        assert_eq!(rollout.next(SECOND * 3), None);
        assert_eq!(targets(rollout.next(SECOND * 8)).unwrap(), ["b"]);
    }
}
