//! Rows whose position is altered, in a journal whose start retention has vacated: there, outputs believe to have what comes.

use super::*;

/// Rows that the output has, and that went by age.
const GONE: u64 = 30;

fn vacated() -> [Vec<u8>; 2] {
    let dir = scratch();
    put(dir.path(), &written_and_delivered(false, GONE));
    let mut store = Store::open(&dir.path().join(folder::FILE), 1 << 30).unwrap();
    assert_eq!(store.delete((Position(1), Position(GONE)), GONE, at(1_000), false).unwrap(), GONE);
    assert!(store.shrink().unwrap());
    drop(store);
    contents(dir.path())
}

/// Where the positions of rows are that are all on one page, each of one byte.
fn positions(file: &[u8]) -> Vec<usize> {
    let of = |first: usize| {
        let number = |at: usize| usize::from(u16::from_be_bytes([file[at], file[at + 1]]));
        let cells = (0..number(first + 3)).map(|cell| first + number(first + 8 + 2 * cell));
        // Before it is the length of the row, of one byte.
        cells.map(|cell| cell + 1).collect::<Vec<_>>()
    };
    let wanted: Vec<u8> = (GONE + 1..=ROWS as u64).map(|position| position as u8).collect();
    let leaves = (schema::PAGE as usize..file.len()).step_by(schema::PAGE as usize).filter(|first| file[*first] == LEAF);
    let mut found = leaves.map(of).filter(|places| places.iter().map(|at| file[*at]).eq(wanted.iter().copied()));
    found.next().unwrap()
}

/// (S5)
#[test]
fn a_row_whose_position_is_altered_is_delivered_all_the_same() {
    let files = vacated();
    let places = positions(&files[0]);
    // A first row that comes a little earlier is where it could be: nothing tells.
    let fits = |at: usize, bit: u8| at == places[0] && files[0][at] & 1 << bit != 0 && files[0][at] != 1 << bit;
    let cases: Vec<(usize, u8)> = places.iter().flat_map(|at| (0..8).map(|bit| (*at, bit))).filter(|(at, bit)| !fits(*at, *bit)).collect();
    assert!(cases.len() > 200);
    let results = each(&cases, |(at, bit)| {
        let mut files = files.clone();
        files[0][*at] ^= 1 << bit;
        outcome_of(ROWS as u64 - GONE, &files, true, GONE)
    });
    judge(&cases.iter().map(|(at, bit)| at * 8 + usize::from(*bit)).collect::<Vec<_>>(), results);
}
