//! What is told of a history that nobody has open, and that nobody sees that it was looked at.

use super::*;
use crate::history::rest::{AtRest, at_rest};

/// Every file of a folder, with what is in it.
fn all(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn looked(folder: &Path) -> AtRest {
    let before = all(folder);
    let found = at_rest(folder);
    assert_eq!(all(folder), before, "it left a trace");
    found
}

#[tokio::test(start_paused = true)]
async fn a_history_at_rest_says_how_far_it_is_behind_and_is_left_as_it_was() {
    // Whatever the folder is called, it is found.
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("50%?mode=ro&x#y z");
    let mut bench = Bench::open(&dir);
    bench.append(0..100);
    bench.roll();
    drop(bench);
    assert_eq!(looked(&dir), AtRest::Behind(0));
    let bench = Bench::open(&dir);
    bench.append(100..110);
    assert!(matches!(at_rest(&dir), AtRest::Unknown(_)), "somebody has it open");
    drop(bench);
    assert_eq!(looked(&dir), AtRest::Behind(30));
    let file = dir.join("journal.sqlite3");
    let rest = crate::journal::rest(&file).unwrap();
    assert_eq!((rest.tip.0, rest.dropped_size, rest.dead), (330, 0, 0));
    rusqlite::Connection::open(&file).unwrap().execute("DELETE FROM row WHERE position <= 320", []).unwrap();
    assert_eq!(looked(&dir), AtRest::Behind(10), "what the journal dropped is not lacking");
}

#[tokio::test(start_paused = true)]
async fn a_history_that_will_be_made_anew_says_so_while_it_rests() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.append(0..100);
    bench.roll();
    drop(bench);
    let file = dir.path().join(FILE);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, vec![7; 100_000]).unwrap();
    assert!(matches!(looked(dir.path()), AtRest::Anew(_)));
    std::fs::write(&file, whole).unwrap();
    std::fs::remove_file(dir.path().join("journal.sqlite3")).unwrap();
    assert!(matches!(looked(dir.path()), AtRest::Unknown(_)));
    let bench = Bench::open(dir.path());
    bench.append(0..100);
    drop(bench);
    assert_eq!(looked(dir.path()), AtRest::Anew("it is of another journal".to_owned()));
}
