//! Journals with every byte altered, cut at every length, and killed while they are repaired.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::journal::acknowledged::Acknowledged;
use crate::journal::testing::{row, settings};
use crate::journal::{Journal, Mode, Position, Receipt, Settings, Stored, folder};
use crate::measurement::Row;
use crate::probe::schedule::Schedule;

mod gaps;
mod places;
mod room;
mod running;
mod wal;

const EPOCH: i64 = 1_700_000_000_000_000_000;
/// Rows in the journal that is damaged.
const ROWS: i64 = 60;
/// Those that its output has.
const DELIVERED: u64 = 5;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_nanos(EPOCH + seconds * 1_000_000_000)
}

/// In memory where that is possible: nothing here is about syncs.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open_in(dir: &Path) -> Journal {
    Journal::open(dir, settings(), Clock::virtual_from(at(100)), Mode::Inline).unwrap()
}

fn original(time: i64) -> Row {
    row(["a", "b", "c"][time as usize % 3], EPOCH + time)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// The file and the write-ahead file of a journal: stopped, or killed with everything in the latter.
fn written(killed: bool) -> [Vec<u8>; 2] {
    written_and_delivered(killed, DELIVERED)
}

fn written_and_delivered(killed: bool, delivered: u64) -> [Vec<u8>; 2] {
    let dir = scratch();
    let journal = open_in(dir.path());
    wait(journal.output("main", None)).unwrap();
    journal.scheduled(vec![(original(0).series, Schedule::new(Duration::from_secs(10), Duration::ZERO))]);
    journal.append((0..ROWS / 2).map(original).collect());
    let received = (ROWS / 2..ROWS).map(|time| (original(time), Some(Receipt::new(&["a"], at(time)))));
    journal.receive(received.collect()).unwrap();
    journal.acknowledge("main", &Acknowledged::starting_at(Position(delivered)));
    if !killed {
        wait(journal.close()).unwrap();
        drop(journal);
    }
    contents(dir.path())
}

fn contents(dir: &Path) -> [Vec<u8>; 2] {
    ["", "-wal"].map(|ending| std::fs::read(beside(&dir.join(folder::FILE), ending)).unwrap_or_default())
}

fn put(dir: &Path, files: &[Vec<u8>; 2]) {
    for (ending, bytes) in ["", "-wal"].iter().zip(files) {
        if !bytes.is_empty() || ending.is_empty() {
            std::fs::write(beside(&dir.join(folder::FILE), ending), bytes).unwrap();
        }
    }
}

/// What became of the rows of a journal with these files.
fn outcome(files: &[Vec<u8>; 2], is_known: bool, delivered: u64) -> Result<u64, String> {
    outcome_of(ROWS as u64, files, is_known, delivered)
}

fn outcome_of(rows: u64, files: &[Vec<u8>; 2], is_known: bool, delivered: u64) -> Result<u64, String> {
    let dir = scratch();
    put(dir.path(), files);
    // A delivered row whose time is altered to long ago may go, and is no loss.
    let settings = Settings { max_age: Duration::MAX, ..settings() };
    let journal = Journal::open(dir.path(), settings, Clock::virtual_from(at(100)), Mode::Inline).map_err(|error| explain(&error))?;
    let new = row("new", EPOCH + 1_000);
    journal.append(vec![new.clone()]);
    let acknowledged = wait(journal.output("main", None)).map_err(|error| explain(&error))?;
    let tip = *journal.tip().borrow();
    let stored = wait(journal.read(Position(0), tip, 1_000)).map_err(|error| explain(&error))?;
    let (fresh, kept): (Vec<_>, Vec<_>) = stored.into_iter().partition(|stored| stored.row == new);
    let [fresh] = &fresh[..] else { return Err(format!("the new row is there {} times", fresh.len())) };
    let mut times: Vec<i64> = kept.iter().map(|stored| stored.row.time.nanos() - EPOCH).collect();
    if let Some(altered) = kept.iter().zip(&times).find(|(stored, time)| stored.row != original(**time)) {
        return Err(format!("altered: {altered:?}"));
    }
    times.sort_unstable();
    times.dedup();
    if times.len() != kept.len() {
        return Err("a row is there twice".to_owned());
    }
    let passed = |stored: &&Stored| acknowledged.contains(stored.position) && stored.row.time.nanos() - EPOCH >= delivered as i64;
    if let Some(passed) = kept.iter().chain([fresh]).find(passed) {
        return Err(format!("never delivered: {passed:?}"));
    }
    let damaged = journal.stats().damaged;
    let told = kept.len() as u64 + damaged;
    if told > rows || (is_known && told != rows) {
        return Err(format!("{} rows of {rows} are there, {damaged} are counted", kept.len()));
    }
    Ok(damaged)
}

/// Runs cases on all processors; says what became of each.
fn each<T: Sync>(cases: &[T], run: impl Fn(&T) -> Result<u64, String> + Sync) -> Vec<(usize, Result<u64, String>)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((index, case)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            cases.get(index).map(|case| (index, case))
        } {
            done.push((index, run(case)));
        }
        done
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

fn prove() -> bool {
    std::env::var_os("QOSD_PROVE").is_some_and(|value| value == "1")
}

/// Fails with each reason and the places where it was met.
fn judge(places: &[usize], results: Vec<(usize, Result<u64, String>)>) {
    let mut failed = std::collections::BTreeMap::<String, Vec<usize>>::new();
    for (index, result) in results {
        if let Err(reason) = result {
            failed.entry(reason).or_default().push(places[index]);
        }
    }
    let told: Vec<String> =
        failed.iter().map(|(reason, at)| format!("{reason}: {} times, at {:?}", at.len(), &at[..at.len().min(12)])).collect();
    assert!(failed.is_empty(), "{told:#?}");
}

/// (S5)
#[test]
#[expect(clippy::print_stdout, reason = "the figures are of interest")]
fn whichever_byte_is_altered_no_row_is_and_each_is_there_or_counted() {
    let files = written(false);
    // Of the bytes that are zero, nearly all are between what is written and are never looked at: each 64th is enough.
    let wanted = |at: &usize| prove() || files[0][*at] != 0 || at.is_multiple_of(64);
    let places: Vec<usize> = (0..files[0].len()).filter(wanted).collect();
    let results = each(&places, |place| {
        let mut files = files.clone();
        files[0][*place] ^= [0xff, 0x01, 0x80, 0x10][place % 4];
        outcome(&files, true, DELIVERED)
    });
    let lost: u64 = results.iter().filter_map(|(_, result)| result.as_ref().ok()).sum();
    println!("{} bytes altered, {:.2} rows lost a byte", places.len(), lost as f64 / places.len() as f64);
    judge(&places, results);
}

/// (S6)
#[test]
#[expect(clippy::print_stdout, reason = "the figures are of interest")]
fn wherever_the_file_is_cut_each_row_is_there_or_counted() {
    let files = written(false);
    let step = if prove() { 1 } else { 509 };
    // Of a page, too, of which no more is left than its kind: it reads as one without entries.
    let at_pages = (schema::PAGE as usize..files[0].len()).step_by(schema::PAGE as usize).flat_map(|page| page + 1..page + 8);
    let lengths: Vec<usize> = (1..files[0].len()).step_by(step).chain(at_pages).collect();
    let results = each(&lengths, |length| {
        let mut files = files.clone();
        files[0].truncate(*length);
        // How many there were stands in the pages of two small tables; the first of them is the sixth.
        outcome(&files, *length >= 6 * schema::PAGE as usize, DELIVERED)
    });
    println!("cut at {} lengths", lengths.len());
    judge(&lengths, results);
}

/// (S7)
#[test]
fn what_is_no_journal_is_renamed_and_the_journal_goes_on() {
    type Put = fn(&Path);
    let cases: [(&str, Put); 4] = [
        ("a text", |file| std::fs::write(file, "precious".repeat(1_000)).unwrap()),
        ("a short text", |file| std::fs::write(file, "precious").unwrap()),
        ("a folder", |file| std::fs::create_dir_all(file.join("precious")).unwrap()),
        ("another database", |file| {
            let other = rusqlite::Connection::open(file).unwrap();
            other.execute_batch("CREATE TABLE row (precious); INSERT INTO row VALUES (1)").unwrap();
        }),
    ];
    for (what, put) in cases {
        let dir = scratch();
        put(&dir.path().join(folder::FILE));
        let journal = open_in(dir.path());
        journal.append(vec![original(1)]);
        assert_eq!((journal.stats().rows, journal.stats().damaged), (1, 0), "{what}");
        assert_eq!(renamed(dir.path()).len(), 1, "{what}");
    }
}

#[test]
fn a_process_that_is_killed_while_it_repairs_is_followed_by_one_that_ends_it() {
    let files = written(false);
    let mut broken = files.clone();
    broken[0][0] ^= 1;
    let repaired = scratch();
    put(repaired.path(), &broken);
    drop(open_in(repaired.path()));
    let [whole, _] = contents(repaired.path());
    for (step, old, wal, half) in
        [("made", true, true, true), ("whole", true, true, false), ("one renamed", true, false, false), ("both", false, false, false)]
    {
        let dir = scratch();
        let file = dir.path().join(folder::FILE);
        if old {
            std::fs::write(&file, &broken[0]).unwrap();
        }
        if wal {
            std::fs::write(beside(&file, "-wal"), "rubbish").unwrap();
        }
        std::fs::write(beside(&file, if half { NEW } else { WHOLE }), &whole[..if half { 5_000 } else { whole.len() }]).unwrap();
        let journal = open_in(dir.path());
        assert_eq!((journal.stats().rows, journal.stats().damaged), (ROWS as u64, 0), "{step}");
        assert_eq!(renamed(dir.path()).len(), usize::from(old), "{step}");
    }
}

#[test]
fn the_newest_three_renamed_files_are_kept() {
    let dir = scratch();
    for round in 0..5 {
        let now = Clock::virtual_from(at(round));
        drop(Journal::open(dir.path(), settings(), now, Mode::Inline).unwrap());
        std::fs::write(dir.path().join(folder::FILE), format!("round {round}")).unwrap();
    }
    drop(open_in(dir.path()));
    let kept: Vec<String> = renamed(dir.path()).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    assert_eq!(kept, ["round 2", "round 3", "round 4"]);
}

#[test]
fn damage_that_is_met_while_running_is_repaired_without_a_restart() {
    let dir = scratch();
    let journal = open_in(dir.path());
    wait(journal.output("main", None)).unwrap();
    let rows = 2_000;
    journal.append((0..rows).map(original).collect());
    wait(journal.close()).unwrap();
    // A page in the middle of the file is not what was written any more.
    let file = OpenOptions::new().write(true).open(dir.path().join(folder::FILE)).unwrap();
    file.write_all_at(&[0xaa; 4_096], 20 * schema::PAGE).unwrap();
    journal.append(vec![original(rows)]);
    let tip = *journal.tip().borrow();
    let stored = wait(journal.read(Position(0), tip, 10_000)).unwrap();
    let damaged = journal.stats().damaged;
    assert!((1..200).contains(&damaged), "{damaged}");
    assert_eq!(stored.len() as u64 + damaged, rows as u64 + 1);
    assert!(stored.iter().all(|stored| stored.row == original(stored.row.time.nanos() - EPOCH)));
    assert_eq!(wait(journal.output("main", None)).unwrap(), Acknowledged::default());
    assert_eq!(renamed(dir.path()).len(), 1);
}

fn renamed(dir: &Path) -> Vec<PathBuf> {
    let paths = dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut renamed: Vec<PathBuf> =
        paths.filter(|path| path.to_string_lossy().contains(".damaged-") && !path.to_string_lossy().ends_with("-wal")).collect();
    renamed.sort();
    renamed
}

#[test]
fn without_the_page_that_tells_where_the_rows_are_they_are_found_all_the_same() {
    let dir = scratch();
    let journal = open_in(dir.path());
    let rows = 2_000;
    journal.append((0..rows).map(original).collect());
    wait(journal.close()).unwrap();
    drop(journal);
    let path = dir.path().join(folder::FILE);
    let root: i64 = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'row'", [], |row| row.get(0))
        .unwrap();
    // The root of so many rows holds none itself.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xaa; 4_096], (root as u64 - 1) * schema::PAGE).unwrap();
    let journal = open_in(dir.path());
    assert_eq!((journal.stats().rows, journal.stats().damaged), (rows as u64, 0));
}
