//! Journals that are damaged while they are open, with rows of a failed commit in them.

use super::*;
use crate::journal::inbox::Batch;
use crate::journal::receipt::{Fate, Waiting};
use crate::journal::store::Counters;

const MAX: u64 = 1 << 30;
/// Rows whose commit succeeded.
const DURABLE: u64 = 10;
/// Rows of others, whose commit failed.
const RECEIVED: u64 = 4;
/// Rows that fell out of memory before that.
const DROPPED: u64 = 7;

/// What failed: with rows of others, and with rows that are lost.
fn failing() -> Batch {
    let received = |n| (original(100 + n as i64), Some(Receipt::new(&["a"], at(n as i64))));
    Batch { rows: Waiting::watched((0..RECEIVED).map(received).collect()).0, dropped: DROPPED, ..Batch::default() }
}

/// A file with a commit whose sync failed, so that nobody was told of it, and which is damaged then.
fn damaged(dir: &Path) -> (PathBuf, Before) {
    let path = dir.join(folder::FILE);
    let mut store = Store::open(&path, MAX).unwrap();
    store.commit(&Batch { rows: (0..DURABLE as i64).map(|time| original(time).into()).collect(), ..Batch::default() }, at(1)).unwrap();
    let before = store.now();
    store.commit(&failing(), at(2)).unwrap();
    store.close_untrusted();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"?", 0).unwrap();
    (path, before)
}

/// What comes again is stored, not known; and counted once.
fn goes_on(store: &mut Store, before: &Before) {
    let Counters { rows, receipts, dropped_memory, dropped_gone, damaged, .. } = store.counters();
    assert_eq!((rows, receipts, dropped_memory, dropped_gone, damaged), (DURABLE, 0, 0, 0, 0));
    assert!(store.tip() >= before.tip);
    let committed = store.commit(&failing(), at(3)).unwrap();
    assert_eq!(committed.fates, [Fate::Stored; RECEIVED as usize]);
    let Counters { rows, receipts, dropped_memory, .. } = store.counters();
    assert_eq!((rows, receipts, dropped_memory), (DURABLE + RECEIVED, RECEIVED, DROPPED));
    store.check(Path::new(""), Look::Whole).unwrap();
}

#[test]
fn of_a_commit_that_failed_nothing_is_in_the_new_file_as_all_of_it_comes_again() {
    let dir = scratch();
    let (path, before) = damaged(dir.path());
    let mut store = reopen(&path, MAX, &before, true, at(3)).unwrap();
    goes_on(&mut store, &before);
}

#[test]
fn rows_that_were_durable_and_are_missing_at_the_end_are_counted() {
    let dir = scratch();
    let path = dir.path().join(folder::FILE);
    let mut store = Store::open(&path, MAX).unwrap();
    let rows = |from: i64, to: i64| Batch { rows: (from..to).map(|time| original(time).into()).collect(), ..Batch::default() };
    store.commit(&rows(0, 10), at(1)).unwrap();
    let length = beside(&path, "-wal").metadata().unwrap().len();
    store.commit(&rows(10, 13), at(2)).unwrap();
    let before = store.now();
    store.close_untrusted();
    OpenOptions::new().write(true).open(beside(&path, "-wal")).unwrap().set_len(length).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"?", 0).unwrap();
    let store = reopen(&path, MAX, &before, true, at(3)).unwrap();
    assert_eq!((store.counters().rows, store.counters().damaged, store.tip()), (10, 3, before.tip));
}

#[test]
fn a_new_file_that_could_not_be_opened_at_once_is_no_other_file_afterwards() {
    let dir = scratch();
    let (path, before) = damaged(dir.path());
    salvage(&path, Some(&before), &JournalError::Gone, at(3)).unwrap();
    // Here the opening failed.
    let mut store = reopen(&path, MAX, &before, true, at(4)).unwrap();
    assert_ne!(store.now().id, before.id);
    goes_on(&mut store, &before);
}
