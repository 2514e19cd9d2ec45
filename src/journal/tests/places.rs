//! What else may be where the journal's files should be (S7), and files of a later qosd (P12).

use std::os::unix::fs::symlink;

use super::*;
use crate::journal::export::{ExportError, Filter, Format, export};

const NAMES: [&str; 4] = ["journal.sqlite3", "journal.sqlite3-wal", "journal.sqlite3-shm", "journal.lock"];

/// Every file below, with what is in it.
fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[tokio::test]
async fn no_link_is_followed_to_a_file_elsewhere_and_nothing_is_lost_meanwhile() {
    for name in NAMES {
        for exists in [true, false] {
            let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (link, target) = (dir.path().join(name), elsewhere.path().join("precious"));
            if exists {
                std::fs::write(&target, "precious").unwrap();
            }
            symlink(&target, &link).unwrap();
            let journal = open(dir.path(), Mode::Threaded);
            journal.append(rows(0..3));
            // Whether the disk has them depends on the name: all that counts is that they are not where the link leads.
            let _ = journal.flush().await;
            assert_eq!(std::fs::read(&target).ok(), exists.then(|| b"precious".to_vec()), "{name}");
            if link.is_symlink() {
                std::fs::remove_file(&link).unwrap();
            }
            journal.readable().await;
            let mut tip = journal.tip();
            tip.wait_for(|tip| tip.0 == 3).await.unwrap();
            assert_eq!(contents(&journal).await, rows(0..3), "{name}");
            assert_eq!(std::fs::read(&target).ok(), exists.then(|| b"precious".to_vec()), "{name}");
        }
    }
}

#[tokio::test]
async fn a_link_in_place_of_the_folder_is_the_operator_s() {
    let dir = tempfile::tempdir().unwrap();
    let (private, link) = (dir.path().join("private"), dir.path().join("public"));
    std::fs::create_dir(&private).unwrap();
    symlink(&private, &link).unwrap();
    let journal = open(&link, Mode::Inline);
    journal.append(rows(0..3));
    assert_eq!((contents(&journal).await, private.join(folder::FILE).exists()), (rows(0..3), true));
}

#[tokio::test]
async fn an_empty_file_is_a_new_journal_and_strange_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(folder::FILE), "").unwrap();
    for name in ["precious", "journal.sqlite3.bak", "journal.sqlite3-journal.txt"] {
        std::fs::write(dir.path().join(name), "precious").unwrap();
    }
    let journal = open(dir.path(), Mode::Inline);
    journal.append(rows(0..3));
    drop(journal);
    let journal = open(dir.path(), Mode::Inline);
    assert_eq!((contents(&journal).await, journal.stats().damaged), (rows(0..3), 0));
    assert_eq!(files(dir.path()).iter().filter(|(_, bytes)| bytes == b"precious").count(), 3);
}

#[tokio::test]
async fn files_beside_it_that_are_none_of_its_own_cost_no_row() {
    for (name, junk) in [("-wal", &b"precious"[..]), ("-wal", &[0; 9_000]), ("-shm", b"precious"), ("-shm", &[0xff; 9_000])] {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path(), Mode::Inline);
        journal.append(rows(0..3));
        journal.close().await.unwrap();
        drop(journal);
        std::fs::write(dir.path().join(format!("{}{name}", folder::FILE)), junk).unwrap();
        let journal = open(dir.path(), Mode::Inline);
        journal.append(rows(3..5));
        assert_eq!((contents(&journal).await, journal.stats().damaged), (rows(0..5), 0), "{name}");
    }
}

/// (P12)
#[test]
fn who_goes_back_to_an_earlier_qosd_is_told_so_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Mode::Inline);
    journal.append(rows(0..10));
    // Killed, so that the write-ahead file has something, too.
    let copy = killed(dir.path());
    let later = sqlite(copy.path());
    later.execute_batch("CREATE TABLE later (x); INSERT INTO later VALUES (1); PRAGMA user_version = 4").unwrap();
    let copy = killed(copy.path());
    let before = files(copy.path());
    for _ in 0..2 {
        let refused = Journal::open(copy.path(), settings(), Clock::system(), Mode::Inline).err().unwrap();
        assert!(matches!(refused, JournalError::Newer { version: 4, .. }), "{refused}");
        assert!(matches!(export(copy.path(), &Filter::default(), Format::Line, &mut Vec::new(), |_| None), Err(ExportError::Journal(_))));
    }
    let is_a_row = |conn: &Connection| conn.query_row("SELECT count(*) FROM row JOIN later", [], |row| row.get::<_, i64>(0)).unwrap();
    let left: Vec<_> = files(copy.path()).into_iter().map(|(path, _)| path).collect();
    assert!(before.iter().all(|(path, _)| left.contains(path)), "{left:?}");
    assert_eq!(is_a_row(&sqlite(copy.path())), 10, "all is as it was for who knows it");
}
