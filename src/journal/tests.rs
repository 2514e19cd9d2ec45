//! The journal as its users see it.

use std::path::Path;

use proptest::prelude::*;
use rusqlite::Connection;

use super::store::Store;
use super::testing::{ping_row, row, settings};
use super::*;

mod away;
mod exports;
mod letters;
mod missed;
mod model;
mod places;
mod receipts;

const EPOCH: i64 = 1_700_000_000_000_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_nanos(EPOCH + seconds * 1_000_000_000)
}

fn open(dir: &Path, mode: Mode) -> Journal {
    open_at(dir, mode, 0)
}

fn open_at(dir: &Path, mode: Mode, seconds: i64) -> Journal {
    Journal::open(dir, settings(), Clock::virtual_from(at(seconds)), mode).unwrap()
}

fn sqlite(dir: &Path) -> Connection {
    Connection::open(dir.join(folder::FILE)).unwrap()
}

fn rows(times: std::ops::Range<i64>) -> Vec<Row> {
    times.map(|time| row(["a", "b", "c"][time as usize % 3], EPOCH + time)).collect()
}

async fn all(journal: &Journal) -> Vec<Stored> {
    let tip = *journal.tip().borrow();
    journal.read(Position(0), tip, 1_000_000).await.unwrap()
}

async fn contents(journal: &Journal) -> Vec<Row> {
    all(journal).await.into_iter().map(|stored| stored.row).collect()
}

/// What a process that is killed now would leave behind.
fn killed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["journal.sqlite3", "journal.sqlite3-wal"] {
        std::fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[tokio::test]
async fn what_was_flushed_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Threaded);
    journal.append(rows(0..5_000));
    journal.append(rows(5_000..30_000));
    journal.flush().await.unwrap();
    assert_eq!(*journal.tip().borrow(), Position(30_000));
    let copy = killed(dir.path());
    let after = open(copy.path(), Mode::Threaded);
    assert_eq!(contents(&after).await, rows(0..30_000));
    assert_eq!(after.stats().rows, 30_000);
    assert_eq!(after.read(Position(10), Position(20_000), 5_000).await.unwrap()[4_999].position, Position(5_010));
}

#[tokio::test]
async fn dropping_the_last_handle_commits_and_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Threaded);
    journal.clone().append(rows(0..10));
    drop(journal);
    assert_eq!(contents(&open(dir.path(), Mode::Threaded)).await, rows(0..10));
}

#[tokio::test]
async fn the_tip_moves_without_anybody_asking() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Threaded);
    let mut tip = journal.tip();
    journal.append(rows(0..3));
    assert_eq!(*tip.wait_for(|tip| tip.0 > 0).await.unwrap(), Position(3));
}

/// (P8)
#[test]
fn a_second_qosd_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path(), Mode::Inline);
    let refused = Journal::open(dir.path(), settings(), Clock::system(), Mode::Threaded).err().unwrap();
    assert!(refused.to_string().ends_with("journal.sqlite3 is in use by another qosd"), "{refused}");
}

/// (P12)
#[test]
fn a_journal_of_a_later_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), Mode::Inline));
    sqlite(dir.path()).execute_batch("CREATE TABLE later (x); PRAGMA user_version = 99").unwrap();
    let refused = Journal::open(dir.path(), settings(), Clock::system(), Mode::Inline).err().unwrap();
    assert!(matches!(refused, JournalError::Newer { version: 99, .. }), "{refused}");
}

#[tokio::test]
async fn a_row_with_a_flipped_byte_is_set_aside_and_never_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    journal.append(rows(0..10));
    let flips = [
        "UPDATE row SET body = CAST(x'ff' || substr(body, 2) AS BLOB) WHERE position = 2",
        "UPDATE row SET time = time + 1 WHERE position = 4",
        "UPDATE row SET series = 99 WHERE position = 6",
        "UPDATE row SET layout = 99 WHERE position = 8",
        "UPDATE row SET crc = crc + 4294967296 WHERE position = 9",
    ];
    for flip in flips {
        assert_eq!(sqlite(dir.path()).execute(flip, []).unwrap(), 1);
    }
    let positions = |stored: Vec<Stored>| stored.into_iter().map(|stored| stored.position.0).collect::<Vec<_>>();
    assert_eq!(positions(journal.read(Position(0), Position(10), 4).await.unwrap()), [1, 3, 5, 7]);
    assert_eq!(positions(all(&journal).await), [1, 3, 5, 7, 10]);
    assert_eq!((journal.stats().damaged, journal.stats().rows), (5, 5));
    let kept: i64 = sqlite(dir.path()).query_row("SELECT count(*) FROM damaged", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 5);
}

#[tokio::test]
async fn rows_of_a_series_whose_name_was_altered_are_not_delivered_under_another() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    journal.append(rows(0..3));
    drop(journal);
    sqlite(dir.path()).execute("UPDATE series SET key = replace(key, '\"a\"', '\"x\"')", []).unwrap();
    let journal = open(dir.path(), Mode::Inline);
    assert_eq!(contents(&journal).await, rows(1..3));
    journal.append(rows(3..4));
    assert_eq!(contents(&journal).await, rows(1..4), "the series is written anew when it comes again");
}

#[tokio::test(start_paused = true)]
async fn delivered_rows_go_by_age_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { max_age: Duration::from_secs(100), ..settings() };
    let hour = Duration::from_hours(1);
    let journal = Journal::open(dir.path(), settings, Clock::virtual_from(at(1000).minus(hour)), Mode::Inline).unwrap();
    journal.output("main", None).await.unwrap();
    tokio::time::advance(hour).await;
    let seconds = |range: std::ops::Range<i64>| range.map(|second| row("a", at(second).nanos())).collect::<Vec<_>>();
    journal.append(seconds(0..1000));
    assert_eq!(journal.stats().rows, 1000);
    let mut acknowledged = Acknowledged::starting_at(Position(500));
    acknowledged.add(Position(801), Position(1000));
    journal.acknowledge("main", &acknowledged);
    assert!(contents(&journal).await == [seconds(500..800), seconds(900..1000)].concat());
    assert_eq!(journal.stats().oldest, Some(at(500)));
    journal.outputs(vec![]);
    assert!(contents(&journal).await == seconds(900..1000), "without outputs every row counts as delivered");
    assert_eq!(journal.stats().dropped_size, 0);
    assert_eq!(journal.output("main", None).await.unwrap(), acknowledged, "a removed output keeps its position");
}

/// (S11)
#[tokio::test]
async fn at_the_cap_delivered_rows_go_first_then_undelivered_ones_counted() {
    let dir = tempfile::tempdir().unwrap();
    let max_size = 1 << 20;
    let journal = Journal::open(dir.path(), Settings { max_size, ..settings() }, Clock::virtual_from(at(0)), Mode::Inline).unwrap();
    journal.output("main", None).await.unwrap();
    let fill = |from: i64, count: i64| {
        for chunk in from / 500..(from + count) / 500 {
            journal.append((chunk * 500..(chunk + 1) * 500).map(|time| ping_row(1, EPOCH + time)).collect());
            let files = ["journal.sqlite3", "journal.sqlite3-wal"].map(|name| dir.path().join(name).metadata().unwrap().len());
            assert!(files.iter().sum::<u64>() <= max_size, "{files:?}");
        }
    };
    fill(0, 2_000);
    journal.acknowledge("main", &Acknowledged::starting_at(Position(1_000)));
    fill(2_000, 3_500);
    assert_eq!(journal.stats().dropped_size, 0);
    let oldest = all(&journal).await[0].position;
    assert!(oldest > Position(1) && oldest <= Position(1_001), "{oldest:?}");
    fill(5_500, 4_500);
    let stats = journal.stats();
    let kept = all(&journal).await;
    assert_eq!(stats.dropped_size, kept[0].position.0 - 1_001, "every undelivered row that went is counted");
    assert_eq!(kept.len() as u64, 10_000 - 1_000 - stats.dropped_size);
    assert_eq!(stats.rows, kept.len() as u64);
    drop(journal);
    assert_eq!(open(dir.path(), Mode::Inline).stats().dropped_size, stats.dropped_size, "also after a restart");
}

#[tokio::test]
async fn while_the_disk_takes_nothing_rows_wait_in_a_bounded_ring() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::virtual_from(at(0));
    let journal = Journal::with_ring(dir.path(), settings(), clock, Mode::Threaded, 100).unwrap();
    journal.append(rows(0..50));
    journal.flush().await.unwrap();
    let other = sqlite(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    journal.append(rows(50..60));
    let refused = journal.flush().await.unwrap_err();
    assert!(refused.to_string().contains("locked"), "{refused}");
    journal.append(rows(60..175));
    journal.flush().await.unwrap_err();
    let stats = journal.stats();
    assert!(stats.failing.is_some());
    assert_eq!((stats.waiting, stats.dropped_memory, *journal.tip().borrow()), (100, 25, Position(50)));
    assert_eq!(contents(&journal).await, rows(0..50), "what is durable can be read meanwhile");
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    let mut tip = journal.tip();
    tip.wait_for(|tip| *tip == Position(150)).await.unwrap();
    journal.flush().await.unwrap();
    assert_eq!(contents(&journal).await, [rows(0..50), rows(75..175)].concat());
    let stats = journal.stats();
    assert_eq!((stats.failing, stats.waiting, stats.dropped_memory), (None, 0, 25));
}

#[tokio::test]
async fn who_waits_behind_more_than_a_commit_takes_is_told_that_the_disk_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Threaded);
    let other = sqlite(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    journal.append(rows(0..inbox::COMMIT as i64 + 1));
    for _ in 0..2 {
        let answer = tokio::time::timeout(Duration::from_secs(20), journal.flush()).await;
        assert!(matches!(answer, Ok(Err(JournalError::Failing(_)))), "{answer:?}");
    }
    let closed = tokio::time::timeout(Duration::from_secs(20), journal.close()).await;
    assert!(matches!(closed, Ok(Err(JournalError::Failing(_)))), "{closed:?}");
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    let mut tip = journal.tip();
    tip.wait_for(|tip| tip.0 == inbox::COMMIT as u64 + 1).await.unwrap();
}

#[test]
fn rows_that_a_failed_commit_left_behind_are_written_anew_in_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = folder::own(dir.path()).unwrap().file;
    let batch = |times| inbox::Batch { rows: rows(times).into_iter().map(Waiting::from).collect(), ..Default::default() };
    let mut store = Store::open(&path, 1 << 30).unwrap();
    store.commit(&batch(0..10), at(0)).unwrap();
    let before = store.now();
    store.commit(&batch(10..15), at(0)).unwrap();
    store.close_untrusted();
    // The second commit's sync is said to have failed, although the page cache still has all of it.
    let mut store = Store::reopen(&path, 1 << 30, &before).unwrap();
    store.commit(&batch(10..12), at(0)).unwrap();
    assert_eq!((store.tip(), store.counters().rows), (Position(12), 12));
    let found = reader::Reader::open(&path).unwrap().rows(Position(0), Position(99), 99).unwrap();
    assert_eq!(found.rows.into_iter().map(|stored| stored.row).collect::<Vec<_>>(), rows(0..12));
}

#[tokio::test(start_paused = true)]
async fn outputs_remember_what_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_at(dir.path(), Mode::Inline, 100);
    journal.append((0..100).map(|second| row("a", at(second).nanos())).collect());
    assert_eq!(journal.output("new", None).await.unwrap().floor(), Position(100));
    assert_eq!(journal.output("replayed", Some(Duration::from_secs(10))).await.unwrap().floor(), Position(90));
    assert_eq!(journal.output("all", Some(Duration::from_hours(1))).await.unwrap().floor(), Position(0));
    let mut acknowledged = Acknowledged::starting_at(Position(3));
    acknowledged.add(Position(50), Position(60));
    journal.acknowledge("all", &acknowledged);
    journal.append(rows(0..1));
    let copy = killed(dir.path());
    let after = open(copy.path(), Mode::Inline);
    assert_eq!(after.output("all", None).await.unwrap(), acknowledged);
    assert_eq!(after.output("new", Some(Duration::MAX)).await.unwrap().floor(), Position(100));
}

fn every(seconds: u64) -> Schedule {
    Schedule::new(Duration::from_secs(seconds), Duration::ZERO)
}

#[test]
#[expect(clippy::print_stdout, reason = "the figure is of interest")]
fn a_full_ping_row_takes_few_bytes_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    journal.append((0..20_000).map(|k| ping_row(k % 100, EPOCH + k as i64)).collect());
    let all = journal.stats().bytes;
    drop(journal);
    let bytes = dir.path().join(folder::FILE).metadata().unwrap().len();
    println!("a full ping row takes {:.1} bytes of the file, {:.1} with the write-ahead file", bytes as f64 / 2e4, all as f64 / 2e4);
    assert!(bytes / 20_000 < 200);
}

#[test]
#[expect(clippy::print_stdout, reason = "the figure is of interest")]
fn a_ping_row_that_is_ok_takes_fewer() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    let ok = |k: usize| {
        let full = ping_row(k % 100, EPOCH + k as i64);
        let mut fields = crate::measurement::Fields::new();
        for (name, value) in full.fields.iter().filter(|(name, _)| !["error", "dns_stale"].contains(name)) {
            fields.put(name, value.clone());
        }
        Row { fields, ..full }
    };
    journal.append((0..20_000).map(ok).collect());
    drop(journal);
    let bytes = dir.path().join(folder::FILE).metadata().unwrap().len();
    println!("a ping row that is ok takes {:.1} bytes of the file", bytes as f64 / 2e4);
    assert!(bytes / 20_000 < 190);
}

#[tokio::test]
async fn the_last_handle_goes_in_time_although_the_disk_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Threaded);
    journal.append(rows(0..5));
    journal.flush().await.unwrap();
    let other = sqlite(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    journal.append(rows(5..10));
    drop(journal);
    drop(other);
    assert_eq!(contents(&open(dir.path(), Mode::Threaded)).await, rows(0..5), "let go, with what was durable");
}

#[derive(Clone, Debug)]
enum Action {
    Append(u8),
    Flush,
    Reopen,
    Kill,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..40u8).prop_map(Action::Append),
        2 => Just(Action::Flush),
        1 => Just(Action::Reopen),
        1 => Just(Action::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_journal_is_a_list_of_rows(actions in prop::collection::vec(action(), 0..20), threaded: bool) {
        let mode = if threaded { Mode::Threaded } else { Mode::Inline };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut dir = tempfile::tempdir().unwrap();
            let mut journal = open(dir.path(), mode);
            let mut model = Vec::new();
            for action in actions {
                match action {
                    Action::Append(count) => {
                        let more = rows(model.len() as i64..model.len() as i64 + i64::from(count));
                        model.extend(more.iter().cloned());
                        journal.append(more);
                    }
                    Action::Flush => journal.flush().await.unwrap(),
                    Action::Reopen => {
                        drop(journal);
                        journal = open(dir.path(), mode);
                    }
                    Action::Kill => {
                        journal.flush().await.unwrap();
                        let copy = killed(dir.path());
                        drop(journal);
                        dir = copy;
                        journal = open(dir.path(), mode);
                    }
                }
            }
            journal.flush().await.unwrap();
            let stored = all(&journal).await;
            assert!(stored.iter().zip(1..).all(|(stored, position)| stored.position == Position(position)));
            assert_eq!(stored.into_iter().map(|stored| stored.row).collect::<Vec<_>>(), model);
        });
    }
}
