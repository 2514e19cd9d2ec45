//! The folder that is not there, or no longer.

use super::*;
use crate::journal::store::Before;

/// Waits for the journal's own attempt.
async fn taken(journal: &Journal, tip: u64) {
    journal.tip().wait_for(|known| known.0 == tip).await.unwrap();
    journal.flush().await.unwrap();
}

#[tokio::test]
async fn without_a_folder_at_the_start_rows_wait_in_memory_until_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let first = open(&data, Mode::Threaded);
    first.output("old", None).await.unwrap();
    first.append(rows(0..5));
    first.flush().await.unwrap();
    drop(first);
    std::fs::rename(&data, dir.path().join("away")).unwrap();
    std::fs::write(&data, "in the way").unwrap();

    let journal = open(&data, Mode::Threaded);
    journal.outputs(vec!["old".into(), "new".into()]);
    for name in ["old", "new"] {
        assert!(matches!(journal.output(name, None).await, Err(JournalError::Failing(_))));
    }
    assert!(matches!(journal.missed(at(0)).await, Err(JournalError::Failing(_))));
    journal.append(rows(5..9));
    journal.flush().await.unwrap_err();
    let stats = journal.stats();
    assert!(stats.failing.unwrap().contains("data"));
    assert_eq!((stats.waiting, stats.rows), (4, 0));

    std::fs::remove_file(&data).unwrap();
    std::fs::rename(dir.path().join("away"), &data).unwrap();
    journal.readable().await;
    taken(&journal, 9).await;
    assert_eq!(contents(&journal).await, rows(0..9));
    assert_eq!(journal.output("old", None).await.unwrap().floor(), Position(0));
    assert_eq!(journal.output("new", None).await.unwrap().floor(), Position(5), "it has what was measured since the start");
    assert_eq!(journal.output("later", None).await.unwrap().floor(), Position(9));
    assert_eq!(journal.stats().failing, None);
}

#[tokio::test]
async fn what_was_missed_before_the_folder_was_there_can_be_told_later() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let a = row("a", 0).series;
    let first = open(&data, Mode::Threaded);
    first.scheduled(vec![(a.clone(), every(10))]);
    first.flush().await.unwrap();
    let copy = killed(&data);
    drop(first);
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::write(&data, "in the way").unwrap();

    let journal = open_at(&data, Mode::Threaded, 60);
    journal.account_later();
    journal.scheduled(vec![(a, every(10))]);
    std::fs::remove_file(&data).unwrap();
    std::fs::rename(copy.path(), &data).unwrap();
    journal.readable().await;
    journal.append(rows(0..1));
    journal.flush().await.unwrap();
    assert_eq!(open_at(killed(&data).path(), Mode::Inline, 60).missed(at(60)).await.unwrap().slots.len(), 6, "also by another");
    let missed = journal.missed(at(60)).await.unwrap();
    assert_eq!(missed.slots.len(), 6);
    journal.append(missed.slots.into_iter().map(|(series, time)| Row { series, time, ..row("a", 0) }).collect());
    journal.accounted();
    journal.flush().await.unwrap();
    assert_eq!(open_at(killed(&data).path(), Mode::Inline, 60).missed(at(60)).await.unwrap().slots, []);
}

#[tokio::test]
async fn a_folder_that_is_taken_away_is_made_anew_and_what_went_with_it_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let journal = open(&data, Mode::Threaded);
    let acknowledged = journal.output("main", None).await.unwrap();
    journal.append(rows(0..10));
    journal.flush().await.unwrap();
    assert_eq!(contents(&journal).await, rows(0..10));
    for round in 1..=3 {
        let (before, tip) = (journal.stats(), *journal.tip().borrow());
        std::fs::remove_dir_all(&data).unwrap();
        journal.append(rows(10..14));
        taken(&journal, tip.0 + 4).await;
        assert_eq!(contents(&journal).await, rows(10..14), "round {round}");
        let stats = journal.stats();
        assert_eq!((stats.rows, stats.dropped_gone), (4, before.dropped_gone + before.rows));
    }
    drop(journal);
    let after = open(&data, Mode::Threaded);
    assert_eq!((after.stats().rows, after.stats().dropped_gone, *after.tip().borrow()), (4, 18, Position(22)));
    assert_eq!(after.output("main", None).await.unwrap(), acknowledged, "an output stays where it was");
    assert_eq!(all(&after).await[0].position, Position(19), "no position is used again");
}

#[tokio::test]
async fn a_journal_that_comes_back_goes_on_above_the_one_that_took_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let journal = open(&data, Mode::Threaded);
    journal.append(rows(0..3));
    journal.flush().await.unwrap();
    std::fs::rename(&data, dir.path().join("kept")).unwrap();
    journal.append(rows(3..5));
    taken(&journal, 5).await;
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(dir.path().join("kept"), &data).unwrap();
    journal.append(rows(5..6));
    taken(&journal, 6).await;
    assert_eq!(contents(&journal).await, [rows(0..3), rows(5..6)].concat());
    assert_eq!((journal.stats().rows, journal.stats().dropped_gone), (4, 2));
}

#[tokio::test]
async fn rows_that_an_output_lacks_in_a_journal_that_comes_back_are_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let old = open(&data, Mode::Threaded);
    old.output("main", None).await.unwrap();
    old.append(rows(0..5));
    old.flush().await.unwrap();
    old.acknowledge("main", &Acknowledged::starting_at(Position(2)));
    old.flush().await.unwrap();
    drop(old);
    std::fs::rename(&data, dir.path().join("kept")).unwrap();

    let journal = open(&data, Mode::Threaded);
    journal.output("main", None).await.unwrap();
    journal.append(rows(5..15));
    journal.flush().await.unwrap();
    let acknowledged = Acknowledged::starting_at(Position(10));
    journal.acknowledge("main", &acknowledged);
    journal.flush().await.unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(dir.path().join("kept"), &data).unwrap();
    journal.append(rows(15..16));
    taken(&journal, 16).await;
    let kept: Vec<Row> =
        all(&journal).await.into_iter().filter(|stored| !acknowledged.contains(stored.position)).map(|stored| stored.row).collect();
    assert_eq!(kept, [rows(2..5), rows(15..16)].concat(), "what it lacks, and nothing else");
    assert_eq!((journal.stats().rows, journal.stats().dropped_gone), (6, 10));
    drop(journal);
    assert_eq!(open(&data, Mode::Threaded).output("main", None).await.unwrap(), acknowledged);
}

#[tokio::test]
async fn a_write_ahead_file_that_is_removed_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Threaded);
    journal.append(rows(0..10));
    journal.flush().await.unwrap();
    std::fs::remove_file(dir.path().join("journal.sqlite3-wal")).unwrap();
    journal.append(rows(10..12));
    taken(&journal, 12).await;
    assert_eq!(contents(&journal).await, rows(0..12));
    drop(journal);
    let after = open(dir.path(), Mode::Threaded);
    assert_eq!((contents(&after).await, after.stats().dropped_gone), (rows(0..12), 0));
}

#[tokio::test]
async fn dead_letters_that_go_with_a_file_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let journal = open(&data, Mode::Threaded);
    journal.append(rows(0..10));
    journal.flush().await.unwrap();
    let letter = DeadLetter { position: Position(3), reason: "400".to_owned() };
    journal.bury("main", &Acknowledged::starting_at(Position(10)), vec![letter]);
    journal.flush().await.unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    journal.append(rows(10..11));
    taken(&journal, 11).await;
    assert_eq!((journal.dead("main").letters, journal.stats().dropped_dead), (0, 1));
}

#[test]
fn what_a_failed_commit_counted_is_not_counted_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(folder::FILE);
    let batch = || inbox::Batch { rows: rows(0..10).into_iter().map(Waiting::from).collect(), dropped: 7, ..Default::default() };
    let mut store = Store::open(&path, 1 << 30).unwrap();
    let before = store.now();
    // It reaches the file, but its sync failed: it is given back and comes again.
    store.commit(&batch(), at(0)).unwrap();
    store.close_untrusted();
    let mut store = Store::reopen(&path, 1 << 30, &before).unwrap();
    store.commit(&batch(), at(1)).unwrap();
    assert_eq!((store.counters().dropped_memory, store.counters().rows, store.tip()), (7, 10, Position(10)));
}

#[tokio::test]
async fn letters_that_wait_are_of_no_row_of_a_file_that_takes_the_place_of_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let old = open(&data, Mode::Threaded);
    old.append(rows(0..5));
    old.flush().await.unwrap();
    drop(old);
    std::fs::rename(&data, dir.path().join("kept")).unwrap();
    let journal = open(&data, Mode::Threaded);
    journal.append(rows(5..10));
    journal.flush().await.unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(dir.path().join("kept"), &data).unwrap();
    let letter = DeadLetter { position: Position(3), reason: "400".to_owned() };
    journal.bury("main", &Acknowledged::starting_at(Position(5)), vec![letter]);
    journal.append(rows(10..11));
    taken(&journal, 6).await;
    assert_eq!((journal.dead("main").letters, journal.stats().rows), (0, 6), "position 3 is another row there");
}

#[test]
fn positions_of_rows_that_a_file_has_lost_are_not_given_again_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(folder::FILE);
    let batch = inbox::Batch { rows: rows(0..10).into_iter().map(Waiting::from).collect(), ..Default::default() };
    let mut store = Store::open(&path, 1 << 30).unwrap();
    store.commit(&batch, at(0)).unwrap();
    let before = Before { tip: Position(15), ..store.now() };
    drop(store);
    Store::reopen(&path, 1 << 30, &before).unwrap().close_untrusted();
    let store = Store::open(&path, 1 << 30).unwrap();
    assert_eq!((store.tip(), store.counters().dropped_gone), (Position(15), 5));
}
