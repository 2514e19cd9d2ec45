//! Rows that a reader passes over, as what leads to them is damaged.

use super::*;

/// More than a page of pages.
const MANY: i64 = 2_000;

/// A journal, its file, and where the root of its rows begins.
fn large(dir: &Path) -> (PathBuf, Vec<u8>, usize) {
    let journal = open_in(dir);
    journal.append((0..MANY).map(original).collect());
    wait(journal.close()).unwrap();
    drop(journal);
    let path = dir.join(folder::FILE);
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'row'";
    let root: u64 = rusqlite::Connection::open(&path).unwrap().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64;
    let file = std::fs::read(&path).unwrap();
    (path, file, ((root - 1) * schema::PAGE) as usize)
}

fn number(file: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([file[at], file[at + 1]]))
}

fn read(path: &Path, after: u64) -> Result<usize, JournalError> {
    let found = Reader::open(path).unwrap().rows(Position(after), Position(MANY as u64), 10)?;
    Ok(found.rows.len())
}

#[test]
fn a_page_that_leads_past_rows_is_found_by_who_reads_there() {
    let dir = scratch();
    let (path, mut file, root) = large(dir.path());
    // The cells of an inner page: a child, and the position of the last row in it, here of two bytes.
    let cell = root + number(&file, root + 12 + 2 * 8);
    let last = (u64::from(file[cell + 4] & 0x7f) << 7) + u64::from(file[cell + 5]);
    assert_eq!(read(&path, last - 3).unwrap(), 10);
    let (high, low) = ((last - 10) >> 7, (last - 10) & 0x7f);
    file[cell + 4..cell + 6].copy_from_slice(&[0x80 | high as u8, low as u8]);
    std::fs::write(&path, &file).unwrap();
    let error = read(&path, last - 3).unwrap_err();
    assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
}

#[test]
fn a_page_that_says_it_had_fewer_rows_is_found_by_who_misses_them() {
    let dir = scratch();
    let (path, mut file, root) = large(dir.path());
    let cell = root + number(&file, root + 12 + 2 * 8);
    let last = (u64::from(file[cell + 4] & 0x7f) << 7) + u64::from(file[cell + 5]);
    let child = u32::from_be_bytes(file[cell..cell + 4].try_into().unwrap());
    let leaf = ((u64::from(child) - 1) * schema::PAGE) as usize;
    assert_eq!(file[leaf], LEAF);
    let cells = number(&file, leaf + 3) as u16 - 2;
    file[leaf + 3..leaf + 5].copy_from_slice(&cells.to_be_bytes());
    std::fs::write(&path, &file).unwrap();
    let error = read(&path, last - 3).unwrap_err();
    assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
}
