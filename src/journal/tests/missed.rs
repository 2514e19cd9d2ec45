//! Slots that nobody told while no qosd ran.

use super::*;

#[tokio::test(start_paused = true)]
async fn slots_that_a_killed_process_left_without_a_row_are_told_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    assert_eq!(journal.missed(at(0)).await.unwrap(), Missed::default(), "a new journal missed nothing");
    let (a, b) = (row("a", 0).series, row("b", 0).series);
    journal.scheduled(vec![(a.clone(), every(10)), (b.clone(), every(30))]);
    tokio::time::advance(Duration::from_secs(45)).await;
    let first = every(10).after(at(0));
    journal.append((0..3).map(|k| row("a", first.nanos() + k * 10_000_000_000)).collect());
    journal.append(vec![row("b", every(30).after(at(0)).nanos())]);
    let copy = killed(dir.path());
    let after = open_at(copy.path(), Mode::Inline, 60);
    let mut expected: Vec<(Series, Timestamp)> = Vec::new();
    let mut slot = first.plus(Duration::from_secs(30));
    while slot <= at(60) {
        expected.push((a.clone(), slot));
        slot = every(10).after(slot);
    }
    let mut slot = every(30).after(every(30).after(at(0)));
    while slot <= at(60) {
        expected.push((b.clone(), slot));
        slot = every(30).after(slot);
    }
    let mut missed = after.missed(at(60)).await.unwrap();
    missed.slots.sort();
    expected.sort();
    assert_eq!(missed, Missed { slots: expected.clone(), ..Missed::default() });
    after.append(missed.slots.into_iter().map(|(series, time)| Row { series, time, ..row("a", 0) }).collect());
    drop(after);
    let again = open_at(copy.path(), Mode::Inline, 60);
    assert_eq!(again.missed(at(60)).await.unwrap(), Missed::default(), "what was told and appended is not missed twice");
    journal.close().await.unwrap();
    drop(journal);
    assert_eq!(open_at(dir.path(), Mode::Inline, 900).missed(at(900)).await.unwrap(), Missed::default(), "nor after a clean stop");
}

/// A collector takes what agents could not post for days.
#[tokio::test(start_paused = true)]
async fn rows_of_other_hosts_that_come_very_late_make_no_slot_missed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    let (a, hour) = (row("a", 0).series, 3_600 * 1_000_000_000);
    tokio::time::advance(Duration::from_hours(48)).await;
    let began = at(48 * 3_600);
    journal.scheduled(vec![(a.clone(), every(10))]);
    tokio::time::advance(Duration::from_mins(1)).await;
    let slots = std::iter::successors(Some(every(10).after(began)), |slot| Some(every(10).after(*slot)));
    journal.append(slots.take_while(|slot| *slot <= at(48 * 3_600 + 60)).map(|slot| row("a", slot.nanos())).collect());
    for late in 0..3 {
        journal.append((0..10_000).map(|k| row("of another host", late * hour + k)).collect());
    }
    let now = at(48 * 3_600 + 60);
    assert_eq!(open_at(killed(dir.path()).path(), Mode::Inline, 48 * 3_600 + 60).missed(now).await.unwrap(), Missed::default());
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_came_due_while_the_missed_ones_were_told_is_missed_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    let a = row("a", 0).series;
    journal.missed(at(0)).await.unwrap();
    tokio::time::advance(Duration::from_secs(15)).await;
    journal.scheduled_since(at(0), vec![(a.clone(), every(10))]);
    let copy = killed(dir.path());
    let missed = open_at(copy.path(), Mode::Inline, 16).missed(at(16)).await.unwrap();
    assert_eq!(missed, Missed { slots: vec![(a, every(10).after(at(0)))], ..Missed::default() });
}

#[tokio::test(start_paused = true)]
async fn a_run_in_flight_of_a_series_that_a_reload_removed_is_missed_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    let (a, b, c) = (row("a", 0).series, row("b", 0).series, row("c", 0).series);
    journal.scheduled([&a, &b, &c].map(|series| (series.clone(), every(10))).to_vec());
    tokio::time::advance(Duration::from_secs(15)).await;
    let first = every(10).after(at(0));
    journal.append(vec![row("a", first.nanos())]);
    journal.scheduled(vec![(a.clone(), every(10)), (c.clone(), every(3600))]);
    let copy = killed(dir.path());
    let mut missed = open_at(copy.path(), Mode::Inline, 16).missed(at(16)).await.unwrap();
    missed.slots.sort();
    assert_eq!(missed, Missed { slots: vec![(b, first), (c, first)], ..Missed::default() });
}

#[tokio::test(start_paused = true)]
async fn after_a_clock_that_went_back_the_newest_time_of_each_series_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    let (a, b) = (row("a", 0).series, row("b", 0).series);
    journal.scheduled([&a, &b].map(|series| (series.clone(), every(10))).to_vec());
    journal.append([10, 20, 30].map(|second| row("a", at(second).nanos())).to_vec());
    journal.append(vec![row("b", at(10).nanos()), row("b", at(20).nanos()), row("unscheduled", at(90).nanos())]);
    let copy = killed(dir.path());
    journal.close().await.unwrap();
    drop(journal);
    sqlite(dir.path()).execute("UPDATE row SET time = time * 2 WHERE position = 5", []).unwrap();
    for (dir, newest) in [(copy.path(), vec![(a.clone(), at(30)), (b, at(20))]), (dir.path(), vec![(a, at(30))])] {
        let mut missed = open_at(dir, Mode::Inline, 15).missed(at(15)).await.unwrap();
        missed.newest.sort();
        assert_eq!(missed, Missed { newest, ..Missed::default() }, "also after a clean stop, and damage is no time");
    }
    assert_eq!(open_at(copy.path(), Mode::Inline, 31).missed(at(31)).await.unwrap().newest, [], "nor is the past told");
}
