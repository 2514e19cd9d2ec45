//! Dead letters: in one commit with the acknowledgement, requeued in rounds, exported, bounded.

use super::*;
use crate::journal::export::export_letters;
use crate::journal::export::{Filter, Format};

fn letter(position: u64, reason: &str) -> DeadLetter {
    DeadLetter { position: Position(position), reason: reason.to_owned() }
}

fn upto(position: u64) -> Acknowledged {
    Acknowledged::starting_at(Position(position))
}

/// A journal with rows, and an output that refused two of them.
fn with_letters(dir: &Path) -> Journal {
    let journal = open(dir, Mode::Inline);
    journal.append(rows(0..10));
    journal.bury("main", &upto(9), vec![letter(3, "400 three"), letter(7, "400\r\n\u{1b}[31mseven")]);
    journal
}

fn count(journal: &Journal, output: &str) -> (u64, u64) {
    let DeadCount { letters, requeued } = journal.dead(output);
    (letters, requeued)
}

async fn read(journal: &Journal, round: Round) -> Vec<u64> {
    let found = journal.read_round("main", round, (Position(0), round.last), 100).await.unwrap();
    found.rows.into_iter().map(|stored| stored.position.0).collect()
}

fn exported(dir: &Path, filter: &Filter, format: Format) -> String {
    let mut out = Vec::new();
    export_letters(dir, filter, format, &mut out, |row| Some(format!("{} {}", row.series, row.time.nanos()))).unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn a_letter_and_the_acknowledgement_of_its_row_are_both_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let journal = with_letters(dir.path());
    let copy = killed(dir.path());
    let after = open(copy.path(), Mode::Inline);
    assert_eq!(after.output("main", None).await.unwrap(), upto(9));
    assert_eq!((count(&after, "main"), after.stats().dropped_dead), ((2, 0), 0));
    // Refused again after a crash that lost the acknowledgement: still one letter each.
    after.bury("main", &upto(9), vec![letter(3, "500 three"), letter(3, "400 again")]);
    after.bury("other", &upto(9), vec![letter(3, "400 other")]);
    assert_eq!((count(&after, "main"), count(&after, "other")), ((2, 0), (1, 0)));
    drop(journal);
}

#[tokio::test(start_paused = true)]
async fn a_letter_stays_when_retention_takes_its_row() {
    let dir = tempfile::tempdir().unwrap();
    let journal = with_letters(dir.path());
    journal.bury("main", &upto(10), vec![]);
    drop(journal);
    // Old by now, and delivered.
    let journal = open_at(dir.path(), Mode::Inline, 40 * 24 * 3600);
    tokio::time::advance(Duration::from_hours(1)).await;
    journal.append(rows(10..11));
    assert_eq!(contents(&journal).await, rows(10..11));
    assert_eq!(count(&journal, "main"), (2, 0));
    assert_eq!(exported(dir.path(), &Filter::default(), Format::Json).lines().count(), 2);
}

#[tokio::test]
async fn a_round_is_what_was_requeued_together_and_ends_with_each_letter_gone_or_dead_again() {
    let dir = tempfile::tempdir().unwrap();
    let journal = with_letters(dir.path());
    let mut requeues = journal.requeues();
    assert_eq!(journal.round("main").await.unwrap(), None);
    assert_eq!(journal.requeue(Some("main")).await.unwrap(), 2);
    assert_eq!(journal.requeue(None).await.unwrap(), 0, "they are on their way");
    assert_eq!(*requeues.borrow_and_update(), 2);
    let round = journal.round("main").await.unwrap().unwrap();
    assert_eq!((round, count(&journal, "main")), (Round { number: 1, last: Position(7) }, (2, 2)));
    assert_eq!(read(&journal, round).await, [3, 7]);
    // A kill in between: they are on their way again.
    let copy = killed(dir.path());
    assert_eq!(open(copy.path(), Mode::Inline).round("main").await.unwrap(), Some(round));
    journal.settle("main", round, &upto(3), vec![letter(3, "400 still")]);
    assert_eq!((count(&journal, "main"), read(&journal, round).await), ((2, 1), vec![7]));
    // Requeued while the round goes on: not of this round, and not taken for delivered with it.
    assert_eq!(journal.requeue(None).await.unwrap(), 1);
    journal.settle("main", round, &upto(7), vec![]);
    let next = journal.round("main").await.unwrap().unwrap();
    assert_eq!((next.number, next.last, count(&journal, "main")), (3, Position(3), (1, 1)));
    journal.settle("main", next, &upto(3), vec![]);
    assert_eq!((journal.round("main").await.unwrap(), count(&journal, "main")), (None, (0, 0)));
}

#[tokio::test]
async fn letters_are_requeued_of_the_output_that_is_named_and_of_no_unknown_one() {
    let dir = tempfile::tempdir().unwrap();
    let journal = with_letters(dir.path());
    journal.bury("other", &upto(9), vec![letter(3, "400")]);
    let refused = journal.requeue(Some("typo")).await.unwrap_err();
    assert_eq!(refused.to_string(), "no output is called typo");
    assert_eq!(journal.requeue(Some("other")).await.unwrap(), 1);
    assert_eq!((count(&journal, "main"), count(&journal, "other")), ((2, 0), (1, 1)));
    let refused = requeue(dir.path(), None).unwrap_err();
    assert!(matches!(refused, JournalError::InUse(_)), "{refused}");
    drop(journal);
    assert!(matches!(requeue(dir.path(), Some("typo")), Err(JournalError::NoOutput(_))));
    assert_eq!(requeue(dir.path(), None).unwrap(), 2);
    assert_eq!(requeue(dir.path(), None).unwrap(), 0);
    let journal = open(dir.path(), Mode::Inline);
    assert_eq!((count(&journal, "main"), count(&journal, "other")), ((2, 2), (1, 1)));
    let nowhere = tempfile::tempdir().unwrap();
    assert!(matches!(requeue(nowhere.path(), None), Err(JournalError::Missing(_))));
    assert_eq!(nowhere.path().read_dir().unwrap().count(), 0, "none is made");
}

#[tokio::test]
async fn a_letter_that_was_altered_is_told_and_neither_sent_nor_exported() {
    let dir = tempfile::tempdir().unwrap();
    let journal = with_letters(dir.path());
    let flip = "UPDATE dead SET body = CAST(x'ff' || substr(body, 2) AS BLOB) WHERE position = 3";
    assert_eq!(sqlite(dir.path()).execute(flip, []).unwrap(), 1);
    journal.requeue(None).await.unwrap();
    let round = journal.round("main").await.unwrap().unwrap();
    let found = journal.read_round("main", round, (Position(0), round.last), 100).await.unwrap();
    assert_eq!((found.rows[0].position, found.damaged), (Position(7), vec![Position(3)]));
    let first = journal.read_round("main", round, (Position(0), round.last), 1).await.unwrap();
    assert_eq!(first.rows[0].position, Position(7), "fewer than asked for would mean that there are no more");
    assert_eq!(exported(dir.path(), &Filter::default(), Format::Line).lines().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn letters_are_exported_as_rows_with_who_refused_them_why_and_when() {
    let dir = tempfile::tempdir().unwrap();
    let journal = with_letters(dir.path());
    journal.bury("other", &upto(9), vec![letter(1, "422")]);
    let json = exported(dir.path(), &Filter::default(), Format::Json);
    let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines.iter().map(|line| (line["refused_by"].as_str().unwrap(), line["refused_reason"].as_str().unwrap())).collect();
    assert_eq!(told, [("other", "422"), ("main", "400 three"), ("main", "400   [31mseven")]);
    assert_eq!(lines[1]["tags"]["target"], "c");
    assert_eq!(
        (lines[1]["time"].as_str(), lines[1]["refused_time"].as_str()),
        (Some("2023-11-14T22:13:20.000000002Z"), Some("2023-11-14T22:13:20.000000000Z"))
    );
    let csv = exported(dir.path(), &Filter { target: Some("a".to_owned()), ..Filter::default() }, Format::Csv);
    assert_eq!(
        csv,
        "time,measurement,kind,probe,target,rtt_ms,sent,refused_by,refused_reason,refused_time\n\
         2023-11-14T22:13:20.000000000Z,qos_metrics,ping,core,a,242857142857142850,1700000000000000000,other,422,2023-11-14T22:13:20.000000000Z\n\
         2023-11-14T22:13:20.000000006Z,qos_metrics,ping,core,a,242857142857142850,1700000000000000006,main,400   [31mseven,2023-11-14T22:13:20.000000000Z\n"
    );
    let since = Filter { since: Timestamp::from_nanos(EPOCH + 6), ..Filter::default() };
    assert_eq!(exported(dir.path(), &since, Format::Line).lines().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn too_many_letters_lose_the_oldest_and_an_output_that_is_forgotten_all_and_both_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let small = Settings { max_size: 1 << 20, ..settings() };
    let clock = Clock::virtual_from(at(0));
    let journal = Journal::open(dir.path(), small, clock, Mode::Inline).unwrap();
    journal.append(rows(0..1_000));
    journal.bury("main", &upto(600), (1..=600).map(|position| letter(position, "400")).collect());
    let kept = (1 << 20) / 8 / 600;
    assert_eq!((count(&journal, "main").0, journal.stats().dropped_dead), (kept, 600 - kept));
    let first: i64 = sqlite(dir.path()).query_row("SELECT min(position) FROM dead", [], |row| row.get(0)).unwrap();
    assert_eq!(first as u64, 600 - kept + 1);
    journal.outputs(vec![]);
    drop(journal);
    let journal = open_at(dir.path(), Mode::Inline, 8 * 24 * 3600);
    tokio::time::advance(Duration::from_hours(1)).await;
    journal.append(rows(1_000..1_001));
    assert_eq!((count(&journal, "main"), journal.stats().dropped_dead), ((0, 0), 600));
}

#[tokio::test]
async fn a_file_of_version_2_has_no_letters_to_export_and_gets_the_table_from_who_writes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    journal.append(rows(0..10));
    drop(journal);
    sqlite(dir.path()).execute_batch("DROP TABLE dead; PRAGMA user_version = 2").unwrap();
    assert_eq!(exported(dir.path(), &Filter::default(), Format::Line), "");
    let journal = with_letters(dir.path());
    assert_eq!((count(&journal, "main"), contents(&journal).await.len()), ((2, 0), 20));
}

#[tokio::test]
async fn while_the_disk_takes_nothing_letters_wait_and_requeuing_fails() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    journal.append(rows(0..10));
    let other = sqlite(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    journal.bury("main", &upto(9), vec![letter(3, "400")]);
    assert_eq!((journal.letters_waiting(), count(&journal, "main")), (1, (0, 0)));
    assert!(matches!(journal.requeue(None).await, Err(JournalError::Failing(_))));
    other.execute_batch("ROLLBACK").unwrap();
    journal.flush().await.unwrap();
    assert_eq!((journal.letters_waiting(), count(&journal, "main")), (0, (1, 0)));
}
