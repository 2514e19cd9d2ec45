//! Journals that were killed with rows in their write-ahead file, which is then altered or cut.

use super::*;

/// Rows that its output has: some of them are in the write-ahead file, and so is that.
const TAKEN: u64 = 35;

/// The file with half of the rows, and the write-ahead file with the rest, in several commits.
fn killed() -> [Vec<u8>; 2] {
    let dir = scratch();
    let journal = open_in(dir.path());
    wait(journal.output("main", None)).unwrap();
    journal.scheduled(vec![(original(0).series, Schedule::new(Duration::from_secs(10), Duration::ZERO))]);
    journal.append((0..ROWS / 2).map(original).collect());
    wait(journal.close()).unwrap();
    journal.append((ROWS / 2..40).map(original).collect());
    journal.acknowledge("main", &Acknowledged::starting_at(Position(TAKEN)));
    let received = (40..50).map(|time| (original(time), Some(Receipt::new(&["a"], at(time)))));
    journal.receive(received.collect()).unwrap();
    for time in 50..ROWS {
        journal.append(vec![original(time)]);
    }
    contents(dir.path())
}

/// Where the commits of a write-ahead file end.
fn commits(wal: &[u8]) -> Vec<usize> {
    let frame = 24 + schema::PAGE as usize;
    let ends = (32..wal.len()).step_by(frame).filter(|at| wal[at + 4..at + 8] != [0; 4]);
    ends.map(|at| at + frame).collect()
}

/// (S5)
#[test]
#[expect(clippy::print_stdout, reason = "the figures are of interest")]
fn whichever_byte_of_the_write_ahead_file_is_altered_each_row_is_there_or_counted() {
    let files = killed();
    let commits = commits(&files[1]);
    assert!(commits.len() > 10 && commits.last() == Some(&files[1].len()), "{commits:?}");
    // An altered end of a commit makes one of two.
    let known = commits[commits.len() - 3];
    // Of the headers, which are of consequence, more than of the pages.
    let in_header = |at: &usize| *at < 32 || (at - 32) % (24 + schema::PAGE as usize) < 24;
    let wanted = |at: &usize| prove() || (in_header(at) && at.is_multiple_of(3)) || at.is_multiple_of(257);
    let places: Vec<usize> = (0..files[1].len()).filter(wanted).collect();
    let results = each(&places, |place| {
        let mut files = files.clone();
        files[1][*place] ^= [0xff, 0x01, 0x80, 0x10][place % 4];
        outcome(&files, *place < known, TAKEN)
    });
    let lost: u64 = results.iter().filter_map(|(_, result)| result.as_ref().ok()).sum();
    println!("{} bytes altered, {:.3} rows lost a byte", places.len(), lost as f64 / places.len() as f64);
    judge(&places, results);
}

/// (S6)
#[test]
#[expect(clippy::print_stdout, reason = "the figures are of interest")]
fn wherever_the_write_ahead_file_is_cut_the_journal_goes_on_from_the_last_whole_commit() {
    let files = killed();
    let commits = commits(&files[1]);
    let step = if prove() { 1 } else { 1_009 };
    let lengths: Vec<usize> = (0..files[1].len()).step_by(step).chain(commits.iter().copied()).collect();
    let results = each(&lengths, |length| {
        let mut files = files.clone();
        files[1].truncate(*length);
        match outcome(&files, false, TAKEN) {
            Ok(damaged) if damaged > 0 => Err("a commit that was cut short is taken for damage".to_owned()),
            outcome => outcome,
        }
    });
    println!("cut at {} lengths", lengths.len());
    judge(&lengths, results);
}

#[test]
fn what_follows_an_altered_frame_is_not_lost_and_the_journal_says_so_in_its_counts() {
    let mut files = killed();
    // In the page of the first frame, far before the last commit.
    files[1][32 + 24 + 2_000] ^= 1;
    let dir = scratch();
    put(dir.path(), &files);
    let journal = open_in(dir.path());
    let stats = journal.stats();
    assert_eq!((stats.rows, stats.damaged), (ROWS as u64, 0));
    assert_eq!(wait(journal.output("main", None)).unwrap().floor(), Position(TAKEN));
    assert_eq!(renamed(dir.path()).len(), 1, "what was there is kept, to be looked at");
    let left: Vec<_> = dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(LAID_OVER)), "{left:?}");
}

/// As after a power cut: the last commit is there but for one frame.
#[test]
fn a_last_commit_that_is_not_whole_is_no_damage() {
    let mut files = killed();
    let last = commits(&files[1])[commits(&files[1]).len() - 2];
    files[1][last + 24 + 100] ^= 1;
    let dir = scratch();
    put(dir.path(), &files);
    let stats = open_in(dir.path()).stats();
    assert_eq!((stats.rows, stats.damaged), (ROWS as u64 - 1, 0));
    assert_eq!(renamed(dir.path()).len(), 0);
}

/// A commit that was cut short is written over by a shorter one: what is left of it stays behind that.
#[test]
fn what_an_earlier_commit_left_behind_the_last_is_no_damage() {
    let files = killed();
    let ends = commits(&files[1]);
    // The last but one is not there, and another takes its place; of the last, most frames are as they were.
    let cut = scratch();
    put(cut.path(), &[files[0].clone(), files[1][..ends[ends.len() - 3]].to_vec()]);
    let journal = open_in(cut.path());
    journal.append(vec![row("other", EPOCH + ROWS)]);
    let [main, mut wal] = contents(cut.path());
    assert!(wal.len() < files[1].len());
    wal.extend_from_slice(&files[1][wal.len()..]);
    let dir = scratch();
    put(dir.path(), &[main, wal]);
    let stats = open_in(dir.path()).stats();
    assert_eq!((stats.rows, stats.damaged), (ROWS as u64 - 1, 0));
    assert_eq!(renamed(dir.path()).len(), 0);
}

/// As what can not be read is taken.
#[test]
fn whichever_block_of_either_file_is_all_zeros_each_row_is_there_or_counted() {
    let files = killed();
    let blocks = |file: usize| (0..files[file].len()).step_by(schema::PAGE as usize).map(move |at| (file, at));
    let cases: Vec<(usize, usize)> = blocks(0).chain(blocks(1)).collect();
    let commits = commits(&files[1]);
    let known = commits[commits.len() - 3];
    let results = each(&cases, |(file, at)| {
        let mut files = files.clone();
        let to = (at + schema::PAGE as usize).min(files[*file].len());
        files[*file][*at..to].fill(0);
        outcome(&files, *file == 1 && to < known, TAKEN)
    });
    judge(&cases.iter().map(|(file, at)| file << 32 | at).collect::<Vec<_>>(), results);
}
