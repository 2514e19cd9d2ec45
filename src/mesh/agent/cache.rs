//! The last good list and schedule on disk, for a start while the collector is away.
//!
//! `mesh.json` in the data folder is replaced whole or not at all. It carries a checksum, because a digit that flips in an
//! address would have somebody else pinged; what does not match is as good as none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::mesh::list::{self, List};
use crate::mesh::schedule::{self, Schedule};
use crate::settings::file::{self, FileError};

/// The file in the data folder.
pub const FILE: &str = "mesh.json";
/// The largest file: list and schedule as they may come over the network, and what stands around them.
const LARGEST: u64 = 2 * list::LARGEST + schedule::LARGEST;

/// What a collector said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which collector.
    pub collector: String,
    /// When it said so.
    pub fetched: Timestamp,
    /// The entries of its list that are in order.
    pub list: List,
    /// Its schedule; none = it has none.
    pub schedule: Option<Schedule>,
}

/// Why there is nothing from disk.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be read; also if it is not there.
    #[error("the list on disk cannot be read")]
    Unreadable(#[source] FileError),
    /// It is not what was written.
    #[error("the list on disk is damaged")]
    Damaged,
    /// It is of another collector than that of the config.
    #[error("the list on disk is of another collector")]
    OtherCollector,
}

impl CacheError {
    /// Whether there never was one.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Unreadable(FileError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// The file: a checksum, and what it is the sum of.
#[derive(Deserialize, Serialize)]
struct Sealed<'a> {
    crc32c: u32,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize, Serialize)]
struct Content<'a> {
    collector: String,
    /// In nanoseconds since the epoch.
    fetched: i64,
    #[serde(borrow)]
    list: &'a RawValue,
    schedule: Option<Schedule>,
}

/// Reads what this collector said last.
pub fn read(folder: &Path, collector: &str) -> Result<Known, CacheError> {
    let contents = file::read(&folder.join(FILE), LARGEST).map_err(CacheError::Unreadable)?;
    let known = unseal(&contents.bytes).ok_or(CacheError::Damaged)?;
    if known.collector == collector { Ok(known) } else { Err(CacheError::OtherCollector) }
}

fn unseal(bytes: &[u8]) -> Option<Known> {
    let Sealed { crc32c, content } = serde_json::from_slice(bytes).ok()?;
    if crc32c::crc32c(content.get().as_bytes()) != crc32c {
        return None;
    }
    let Content { collector, fetched, list, schedule } = serde_json::from_str(content.get()).ok()?;
    // The rules may be stricter than when it was written.
    let list = List::take(list.get().as_bytes()).ok()?.list;
    let text = serde_json::to_vec(&schedule.unwrap_or_default()).ok()?;
    Schedule::read(&text).ok()?;
    Some(Known { collector, fetched: Timestamp::from_nanos(fetched), list, schedule })
}

/// Replaces what is on disk; `by` tells writers apart that may work at the same time.
pub fn write(folder: &Path, by: &str, known: &Known) -> io::Result<()> {
    let list = serde_json::value::to_raw_value(&known.list)?;
    let content = Content { collector: known.collector.clone(), fetched: known.fetched.nanos(), list: &list, schedule: known.schedule };
    let content = serde_json::value::to_raw_value(&content)?;
    let text = serde_json::to_vec(&Sealed { crc32c: crc32c::crc32c(content.get().as_bytes()), content: &content })?;
    let fresh = folder.join(format!("{FILE}.{by}"));
    replace(&text, &fresh, &folder.join(FILE)).inspect_err(|_| drop(fs::remove_file(&fresh)))?;
    File::open(folder)?.sync_all()
}

fn replace(text: &[u8], fresh: &PathBuf, file: &PathBuf) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(fresh)?;
    out.write_all(text)?;
    out.sync_all()?;
    fs::rename(fresh, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLLECTOR: &str = "https://collector.example/backend";

    fn known() -> Known {
        let list = br#"{"probes":[{"name":"a","proto":4,"address":"10.0.0.1"},{"name":"b","proto":6,"address":"2001:db8::1"}]}"#;
        let schedule = Schedule::read(br#"{"ping":{"interval":"5s","count":3}}"#).unwrap();
        let fetched = Timestamp::from_nanos(1_700_000_000_000_000_001);
        Known { collector: COLLECTOR.to_owned(), fetched, list: List::read(list).unwrap(), schedule: Some(schedule) }
    }

    #[test]
    fn what_is_written_is_read_again_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path(), COLLECTOR).unwrap_err().is_missing());
        let largest = Known { list: List { probes: vec![known().list.probes[0].clone(); 1] }, schedule: None, ..known() };
        for known in [known(), largest] {
            write(folder.path(), "new", &known).unwrap();
            assert_eq!(read(folder.path(), COLLECTOR).unwrap(), known);
        }
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE]);
        assert!(matches!(read(folder.path(), "https://other.example").unwrap_err(), CacheError::OtherCollector));
        assert!(write(&folder.path().join("missing"), "new", &known()).is_err());
    }

    #[test]
    fn m17_a_damaged_file_is_no_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        write(folder.path(), "new", &known()).unwrap();
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            let error = read(folder.path(), COLLECTOR).expect_err(&format!("byte {at}"));
            assert!(!error.is_missing());
        }
        for bad in [&good[..good.len() / 2], b"", b"{}", &vec![b' '; LARGEST as usize + 1]] {
            fs::write(&path, bad).unwrap();
            assert!(!read(folder.path(), COLLECTOR).unwrap_err().is_missing());
        }
    }
}
