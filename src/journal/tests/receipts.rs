//! Rows of others are stored once, whatever happens between them and the disk.

use super::*;

/// The rows of a post: what is of the same slot has the same receipts, at whatever time it comes.
fn post(slot: i64, time: i64) -> Vec<(Row, Option<Receipt>)> {
    let of = |target: &str| (row(target, EPOCH + time), Some(Receipt::new(&[target], Timestamp::from_nanos(slot))));
    ["a", "b", "c"].map(of).to_vec()
}

async fn send(journal: &Journal, rows: Vec<(Row, Option<Receipt>)>) -> Result<Vec<Fate>, JournalError> {
    let fates = journal.receive(rows)?;
    journal.flush().await?;
    assert!(fates.are_decided());
    Ok(fates.iter().flatten().collect())
}

async fn times(journal: &Journal) -> Vec<i64> {
    all(journal).await.into_iter().map(|stored| stored.row.time.nanos() - EPOCH).collect()
}

const NEW: [Fate; 3] = [Fate::Stored; 3];
const OLD: [Fate; 3] = [Fate::Known; 3];

#[tokio::test]
async fn a_result_that_comes_again_is_left_out_also_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Threaded);
    assert_eq!(send(&journal, post(1, 10)).await.unwrap(), NEW);
    assert_eq!(send(&journal, [post(1, 11), post(2, 11), post(2, 12)].concat()).await.unwrap(), [OLD, NEW, OLD].concat());
    let bare = || post(1, 13).into_iter().map(|(row, _)| (row, None)).collect::<Vec<_>>();
    assert_eq!(send(&journal, bare()).await.unwrap(), NEW, "without a receipt everything is new");
    let copy = killed(dir.path());
    let after = open(copy.path(), Mode::Threaded);
    assert_eq!(send(&after, [post(2, 14), post(3, 14)].concat()).await.unwrap(), [OLD, NEW].concat());
    assert_eq!(times(&after).await, [10, 10, 10, 11, 11, 11, 13, 13, 13, 14, 14, 14]);
    assert_eq!((after.stats().rows, after.stats().receipts, after.tip().borrow().0), (12, 9, 12));
}

#[tokio::test]
async fn what_waits_while_the_disk_takes_nothing_is_not_doubled_when_it_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Threaded);
    let other = sqlite(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiting = journal.receive(post(1, 10)).unwrap();
    assert!(matches!(journal.flush().await, Err(JournalError::Failing(_))));
    assert!(!waiting.are_decided());
    assert!(matches!(journal.receive(post(2, 11)), Err(JournalError::Failing(_))), "it will come again");
    let bare = journal.receive(vec![(row("d", EPOCH + 12), None)]).unwrap();
    assert_eq!(journal.stats().waiting, 4);
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    journal.tip().wait_for(|tip| tip.0 == 4).await.unwrap();
    journal.flush().await.unwrap();
    assert_eq!(waiting.iter().chain(bare.iter()).flatten().collect::<Vec<_>>(), [Fate::Stored; 4]);
    assert_eq!(send(&journal, post(1, 13)).await.unwrap(), OLD);
    assert_eq!(send(&journal, post(2, 13)).await.unwrap(), NEW);
    assert_eq!(times(&journal).await, [10, 10, 10, 12, 13, 13, 13]);
}

#[test]
fn receipts_that_a_failed_commit_left_behind_go_with_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = folder::own(dir.path()).unwrap().file;
    let batch = |slot| inbox::Batch { rows: Waiting::watched(post(slot, slot)).0, ..Default::default() };
    let mut store = Store::open(&path, 1 << 30).unwrap();
    store.commit(&batch(1), at(0)).unwrap();
    let before = store.now();
    assert_eq!(store.commit(&batch(2), at(0)).unwrap().fates, NEW);
    store.close_untrusted();
    let mut store = Store::reopen(&path, 1 << 30, &before).unwrap();
    assert_eq!(store.commit(&batch(1), at(0)).unwrap().fates, OLD);
    assert_eq!(store.commit(&batch(2), at(0)).unwrap().fates, NEW);
    assert_eq!((store.tip(), store.counters().rows, store.counters().receipts), (Position(6), 6, 6));
}

#[tokio::test]
async fn a_file_of_version_1_is_read_as_it_is_and_brought_up_to_date_by_who_writes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    journal.append(rows(0..10));
    drop(journal);
    sqlite(dir.path()).execute_batch("DROP TABLE receipt; DROP TABLE dead; PRAGMA user_version = 1").unwrap();
    let file = dir.path().join(folder::FILE);
    assert_eq!(reader::Reader::open(&file).unwrap().rows(Position(0), Position(99), 99).unwrap().rows.len(), 10);
    let journal = open(dir.path(), Mode::Inline);
    assert_eq!(contents(&journal).await, rows(0..10));
    assert_eq!(send(&journal, post(1, 10)).await.unwrap(), NEW);
    assert_eq!(send(&journal, post(1, 11)).await.unwrap(), OLD);
    let version: i64 = sqlite(dir.path()).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 3);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the figure is of interest")]
async fn receipts_are_forgotten_after_a_week_and_have_a_share_of_the_journal_alone() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { max_size: 16 << 20, ..settings() };
    let journal = Journal::open(dir.path(), settings, Clock::virtual_from(at(0)), Mode::Inline).unwrap();
    let many = |slot: i64| {
        let of = |n: usize| (row("a", EPOCH + slot), Some(Receipt::new(&[&n.to_string()], Timestamp::from_nanos(EPOCH + slot))));
        (0..1_000).map(of).collect::<Vec<_>>()
    };
    let empty = journal.stats().bytes;
    for slot in 0..20 {
        journal.receive(many(slot)).unwrap();
    }
    assert_eq!(journal.stats().receipts, 20_000);
    let pages = |pragma: &str| sqlite(dir.path()).pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).unwrap();
    sqlite(dir.path()).execute_batch("DELETE FROM row").unwrap();
    let each = ((pages("page_count") - pages("freelist_count")) as u64 * 4096 - empty) / 20_000;
    println!("a receipt takes {each} bytes of the file");
    assert!(each <= retention::BYTES_OF_RECEIPT, "{each}");
    for slot in 20..40 {
        journal.receive(many(slot)).unwrap();
    }
    let most = (16 << 20) / 8 / retention::BYTES_OF_RECEIPT;
    assert!((most..=most + most / 16).contains(&journal.stats().receipts), "{}", journal.stats().receipts);
    assert!(send(&journal, many(0)).await.unwrap().contains(&Fate::Stored), "the oldest are forgotten");
    assert!(!send(&journal, many(39)).await.unwrap().contains(&Fate::Stored));
    tokio::time::advance(Duration::from_hours(7 * 24 - 1)).await;
    send(&journal, post(1, 1)).await.unwrap();
    tokio::time::advance(Duration::from_hours(2)).await;
    journal.append(rows(0..1));
    assert_eq!(journal.stats().receipts, 3);
}

#[derive(Clone, Debug)]
enum Way {
    /// All goes well.
    Through,
    /// The answer is lost, so it is sent again.
    AnswerLost,
    /// Killed before the commit.
    KilledBefore,
    /// Killed after it, before the answer.
    KilledAfter,
    /// Ended and started again, then sent.
    Restarted,
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![Just(Way::Through), Just(Way::AnswerLost), Just(Way::KilledBefore), Just(Way::KilledAfter), Just(Way::Restarted)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whoever_sends_until_he_has_an_answer_is_stored_exactly_once(ways in prop::collection::vec((0..4i64, way()), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut dir = tempfile::tempdir().unwrap();
            let mut journal = open(dir.path(), Mode::Inline);
            let (mut answered, mut unanswered) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
            for (time, (slot, way)) in (0..).zip(&ways) {
                let before = killed(dir.path());
                if matches!(way, Way::Restarted) {
                    drop(journal);
                    journal = open(dir.path(), Mode::Inline);
                }
                send(&journal, post(*slot, time)).await.unwrap();
                match way {
                    Way::Through | Way::Restarted => drop(answered.insert(*slot)),
                    Way::AnswerLost => drop(unanswered.insert(*slot)),
                    Way::KilledBefore | Way::KilledAfter => {
                        unanswered.insert(*slot);
                        let after = killed(dir.path());
                        drop(journal);
                        dir = if matches!(way, Way::KilledBefore) { before } else { after };
                        journal = open(dir.path(), Mode::Inline);
                    }
                }
            }
            for slot in &unanswered {
                send(&journal, post(*slot, 99)).await.unwrap();
            }
            let slots = answered.union(&unanswered).count();
            assert_eq!((contents(&journal).await.len(), journal.stats().receipts), (3 * slots, 3 * slots as u64));
        });
    }
}
