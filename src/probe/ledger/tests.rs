//! The ledger against restarts, reloads and clocks.

use super::*;
use crate::probe::schedule::Schedule;
use crate::probe::{Cost, Planned};

const SECOND: Duration = Duration::from_secs(1);
/// The wall clock when the monotonic clock shows 0: a whole number of minutes.
const EPOCH: i64 = 1_700_000_040_000_000_000;

fn assignment(name: &str, interval: u64, job: u32) -> Arc<Assignment> {
    let series = Series::new("m", [("target", name)]);
    let schedule = Schedule::new(SECOND * interval as u32, Duration::ZERO);
    Arc::new(Assignment::new("toy", Planned { series, schedule, longest: SECOND, cost: Cost::default(), job }))
}

fn at(ms: i64) -> Moment {
    stepped(ms, 0)
}

/// `ms` after the start by the monotonic clock, with a wall clock stepped by `step_ms`.
fn stepped(ms: i64, step_ms: i64) -> Moment {
    let mono = Duration::from_millis(ms as u64);
    Moment { unix: unix(ms + step_ms), mono, boot: mono }
}

fn unix(ms: i64) -> Timestamp {
    Timestamp::from_nanos(EPOCH + ms * 1_000_000)
}

fn times(due: &[Due]) -> Vec<(i64, Option<Skip>)> {
    due.iter().map(|due| ((due.slot.time.nanos() - EPOCH) / 1_000_000, due.skip)).collect()
}

fn with(assignments: &[Arc<Assignment>]) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.assign(assignments, at(0));
    ledger
}

fn close_all(ledger: &mut Ledger, due: &[Due]) {
    for due in due {
        assert_ne!(ledger.close(&due.assignment.series, due.slot.time, Outcome::Ok), Closed::AlreadyDone);
    }
}

#[test]
fn slots_come_once_and_close_once() {
    let mut ledger = with(&[assignment("a", 10, 0)]);
    assert_eq!(ledger.wake(), Some(10 * SECOND));
    assert!(ledger.due(at(9_999)).is_empty());
    let due = ledger.due(at(10_001));
    assert_eq!(times(&due), [(10_000, None)]);
    assert_eq!(due[0].slot.due, 10 * SECOND);
    assert!(ledger.due(at(10_002)).is_empty());
    close_all(&mut ledger, &due);
    assert_eq!(ledger.close(&due[0].assignment.series, due[0].slot.time, Outcome::Ok), Closed::AlreadyDone);
    assert_eq!(ledger.counts(), Counts { scheduled: 1, rows: 1, skipped: 0 });
}

#[test]
fn a_late_wake_up_skips_and_never_bursts() {
    let mut ledger = with(&[assignment("a", 1, 0)]);
    let due = ledger.due(at(3_500));
    assert_eq!(times(&due), [(1_000, Some(Skip::Suspended)), (2_000, Some(Skip::Suspended)), (3_000, None)]);
}

#[test]
fn a_third_open_run_is_an_overrun() {
    let mut ledger = with(&[assignment("a", 1, 0)]);
    let first = ledger.due(at(1_000));
    ledger.due(at(2_000));
    assert_eq!(times(&ledger.due(at(3_000))), [(3_000, Some(Skip::Overrun))]);
    close_all(&mut ledger, &first);
}

#[test]
fn a_restart_finds_what_was_open_and_what_passed() {
    let mut ledger = with(&[assignment("a", 1, 0), assignment("b", 10, 0)]);
    ledger.due(at(1_000));
    let abandoned = ledger.abandon(at(3_200), true);
    let times: Vec<_> = abandoned.iter().map(|(_, time)| (time.nanos() - EPOCH) / 1_000_000).collect();
    assert_eq!(times, [1_000, 2_000, 3_000]);
    for (series, time) in abandoned {
        ledger.close(&series, time, Outcome::Skipped);
    }
    assert_eq!(ledger.counts(), Counts { scheduled: 3, rows: 3, skipped: 3 });
    assert_eq!(ledger.wake(), Some(4 * SECOND), "and goes on as if nothing had been");
}

#[test]
fn a_reload_touches_only_what_changed() {
    let (a, b, c) = (assignment("a", 10, 0), assignment("b", 10, 0), assignment("c", 10, 0));
    let mut ledger = with(&[a.clone(), b.clone(), c.clone()]);
    let open = ledger.due(at(10_000));
    ledger.assign(&[assignment("a", 10, 0), assignment("b", 20, 0), assignment("d", 10, 0)], at(12_000));
    assert_eq!(ledger.open(), 3, "runs in flight go on");
    close_all(&mut ledger, &open);
    assert!(ledger.leaving.is_empty());
    let due = ledger.due(at(20_000));
    let names: Vec<_> = due.iter().filter_map(|due| due.assignment.series.tag("target")).collect();
    assert_eq!(names, ["a", "b", "d"]);
    assert_eq!(due[1].assignment.schedule.interval(), 20 * SECOND);
}

#[test]
fn a_removed_series_that_returns_reuses_no_slot() {
    let a = assignment("a", 10, 0);
    let mut ledger = with(std::slice::from_ref(&a));
    ledger.due(at(10_000));
    ledger.assign(&[], at(10_001));
    ledger.assign(&[a], at(10_002));
    assert_eq!(ledger.wake(), Some(20 * SECOND));
}

#[test]
fn a_clock_stepped_forward_schedules_nothing_in_between() {
    let mut ledger = with(&[assignment("a", 10, 0)]);
    let due = ledger.due(stepped(9_000, 3_600_000));
    assert!(due.is_empty());
    let due = ledger.due(stepped(10_100, 3_600_000));
    assert_eq!(times(&due), [(3_610_000, None)]);
    assert_eq!(due[0].clock_step_ms, Some(3_600_000.0));
    let due = [ledger.due(stepped(20_100, 3_600_000)), ledger.due(stepped(30_100, 3_600_000))].concat();
    assert_eq!(due.iter().map(|due| due.clock_step_ms).collect::<Vec<_>>(), [Some(3_600_000.0), None], "for one interval");
}

#[test]
fn a_clock_stepped_back_reuses_no_time() {
    let mut ledger = with(&[assignment("a", 10, 0)]);
    let first = ledger.due(at(10_000));
    close_all(&mut ledger, &first);
    let again = ledger.due(stepped(15_000, -10_000));
    assert!(again.is_empty());
    let again = ledger.due(stepped(20_000, -10_000));
    assert_eq!(again[0].slot.time.nanos(), first[0].slot.time.nanos() + 1);
    assert_eq!(again[0].slot.due, 20 * SECOND);
    close_all(&mut ledger, &again);
    assert_eq!(times(&ledger.due(stepped(30_000, -10_000))), [(20_000, None)]);
}

#[test]
fn a_small_correction_moves_nothing() {
    let mut ledger = with(&[assignment("a", 10, 0)]);
    close_all_at(&mut ledger, stepped(10_100, -500), &[]);
    close_all_at(&mut ledger, stepped(10_600, -500), &[(10_000, None)]);
}

fn close_all_at(ledger: &mut Ledger, now: Moment, expected: &[(i64, Option<Skip>)]) {
    let due = ledger.due(now);
    assert_eq!(times(&due), expected);
    close_all(ledger, &due);
}

#[test]
fn transitions_are_told_once() {
    let mut ledger = with(&[assignment("a", 1, 0)]);
    let mut outcome = |ms, outcome| {
        let due = ledger.due(at(ms));
        ledger.close(&due[0].assignment.series, due[0].slot.time, outcome)
    };
    assert_eq!(outcome(1_000, Outcome::Ok), Closed::Unchanged);
    assert_eq!(outcome(2_000, Outcome::Timeout), Closed::Down);
    assert_eq!(outcome(3_000, Outcome::Unreachable), Closed::Unchanged);
    assert_eq!(outcome(4_000, Outcome::Skipped), Closed::Unchanged);
    assert_eq!(outcome(5_000, Outcome::Partial), Closed::UpAgain(3 * SECOND));
}

#[test]
fn ten_thousand_cycles_do_not_drift() {
    let mut ledger = with(&[assignment("a", 1, 0)]);
    for cycle in 1..=10_000_i64 {
        let due = ledger.due(at(cycle * 1_000 + cycle % 7));
        assert_eq!(times(&due), [(cycle * 1_000, None)]);
        close_all(&mut ledger, &due);
    }
}

#[test]
fn whoever_had_the_ledger_before_is_refused() {
    let ledger = Arc::new(Mutex::new(with(&[assignment("a", 1, 0)])));
    let first = Tenure::begin(&ledger);
    assert!(!first.has_predecessor());
    assert_eq!(first.with(|ledger| ledger.open()), Some(0));
    let second = Tenure::begin(&ledger);
    assert!(second.has_predecessor());
    assert_eq!(first.with(|ledger| ledger.open()), None);
    assert_eq!(second.with(|ledger| ledger.open()), Some(0));
}

#[test]
fn a_reload_loses_no_slot_that_was_due() {
    let mut ledger = with(&[assignment("a", 10, 0), assignment("b", 10, 0)]);
    let due = ledger.assign(&[assignment("b", 10, 1)], at(10_020));
    assert_eq!(times(&due), [(10_000, None), (10_000, None)]);
    close_all(&mut ledger, &due);
    assert_eq!(ledger.counts(), Counts { scheduled: 2, rows: 2, skipped: 0 });
    assert_eq!(times(&ledger.due(at(20_000))), [(20_000, None)]);
}

#[test]
fn a_host_that_slept_missed_its_slots_and_stepped_no_clock() {
    let mut ledger = with(&[assignment("a", 10, 0)]);
    let slept = Duration::from_secs(25);
    let now = Moment { boot: at(5_000).mono + slept, mono: at(5_000).mono, unix: unix(30_000) };
    let due = ledger.due(now);
    assert_eq!(times(&due), [(10_000, Some(Skip::Suspended)), (20_000, Some(Skip::Suspended)), (30_000, None)]);
    assert!(due.iter().all(|due| due.clock_step_ms.is_none()));
    assert_eq!(ledger.wake(), Some(15 * SECOND), "ten seconds from now");
}

#[test]
fn what_passed_long_ago_is_told_in_one() {
    let mut ledger = with(&[assignment("a", 60, 0)]);
    let hours = 12 * 3_600_000;
    let mut rows = 0;
    loop {
        let due = ledger.due(at(hours));
        if due.is_empty() {
            break;
        }
        rows += due.len() as u64;
    }
    let (from, to, slots) = ledger.take_gap().unwrap();
    assert_eq!((from, to), (unix(60_000), unix(hours - 3_600_000)));
    assert_eq!((rows, slots), (61, 659), "720 slots in 12 hours");
    assert_eq!(ledger.take_gap(), None);
}

#[test]
fn times_that_a_process_before_used_are_not_used_again() {
    let mut ledger = Ledger::default();
    ledger.used_until(unix(15_000), unix(0));
    ledger.assign(&[assignment("a", 10, 0)], at(0));
    let due = [ledger.due(at(10_000)), ledger.due(at(20_000))].concat();
    assert!((unix(10_000).nanos() + 1..unix(10_000).nanos() + 1000).contains(&due[0].slot.time.nanos()));
    assert_eq!(due[1].slot.time, unix(20_000));
}
