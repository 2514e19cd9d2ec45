//! Repairs on a disk that has little room left, and what is kept of them.

use super::*;

/// A journal of many rows with a page in the middle, or its first, overwritten.
fn damaged_at(dir: &Path, page: u64, rows: i64) -> PathBuf {
    let journal = open_in(dir);
    journal.append((0..rows).map(original).collect());
    wait(journal.close()).unwrap();
    drop(journal);
    let path = dir.join(folder::FILE);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xaa; 4_096], page * schema::PAGE).unwrap();
    path
}

#[test]
fn without_room_for_a_copy_what_the_damaged_file_itself_gives_is_taken() {
    let dir = scratch();
    let path = damaged_at(dir.path(), 20, 2_000);
    let found = attempt(&path, None, at(1), false).unwrap();
    assert_eq!((found.moved + found.lost, found.lost < 200), (2_000, true), "{found:?}");
    let left: Vec<bool> = [NEW, COPY, LAID_OVER].iter().map(|ending| beside(&path, ending).exists()).collect();
    assert_eq!(left, [true, false, false]);
}

#[test]
fn if_that_gives_no_row_it_waits_for_room_and_takes_none() {
    let dir = scratch();
    let path = damaged_at(dir.path(), 0, 100);
    let error = attempt(&path, None, at(1), false).unwrap_err();
    assert!(sound::is_full(&error), "{error}");
    let left = [NEW, COPY, LAID_OVER].iter().any(|ending| beside(&path, ending).exists());
    assert!(!left, "what was begun takes no room");
    assert_eq!(attempt(&path, None, at(1), true).unwrap(), Yield { moved: 100, lost: 0 });
}

#[test]
fn a_write_ahead_file_that_was_kept_goes_also_without_its_main_file() {
    let dir = scratch();
    let path = dir.path().join(folder::FILE);
    for name in [".damaged-1", ".damaged-1-wal", ".damaged-2-wal", ".damaged-3", ".damaged-4"] {
        std::fs::write(beside(&path, name), "").unwrap();
    }
    assert_eq!(prune(&path, 2), 3);
    assert_eq!(renamed(dir.path()), [beside(&path, ".damaged-3"), beside(&path, ".damaged-4")]);
    assert!(!beside(&path, ".damaged-2-wal").exists());
}
