//! Reads files of a disk of which some sectors can not be read any more: what is there is zeros, everything else is as it was.
//!
//! Such a sector stays as it is for good, and so it is damage, like one with other bytes. That nothing at all can be read is none:
//! the disk is away, and may come back.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;

use super::super::schema;

/// Read at once where all is well.
const LARGE: usize = 256 * SMALL;
/// Read at once where it is not.
const SMALL: usize = schema::PAGE as usize;
/// How often what can not be read is tried.
const ATTEMPTS: u32 = 2;

/// How much could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Pages of the file.
    pub(super) pages: u64,
    /// Those that could not be read.
    pub(super) unreadable: u64,
    /// Whether the first could not.
    pub(super) first: bool,
}

impl Tally {
    /// Whether this is a disk that is away rather than one with bad sectors.
    pub(super) fn is_away(self) -> bool {
        self.first && 2 * self.unreadable > self.pages
    }
}

/// A disk, as far as it matters here.
pub(super) trait Disk {
    /// Reads from a place on; at the end, nothing.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
}

impl Disk for File {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, at)
    }
}

/// What is read from a file, with zeros where nothing can be read.
pub(super) struct Sectors<D> {
    disk: D,
    /// Of the file: where nothing can be read, nothing else tells its end.
    length: u64,
    block: Vec<u8>,
    /// What of the block was handed out.
    taken: usize,
    /// Where the block after this one begins.
    next: u64,
    tally: Tally,
}

/// Reads an open file.
pub(super) fn of(file: File) -> io::Result<Sectors<File>> {
    let length = file.metadata()?.len();
    Ok(Sectors::new(file, length))
}

impl<D: Disk> Sectors<D> {
    /// From the beginning.
    pub(super) fn new(disk: D, length: u64) -> Self {
        Self { disk, length, block: Vec::new(), taken: 0, next: 0, tally: Tally::default() }
    }

    /// What could be read so far.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    fn advance(&mut self) -> io::Result<()> {
        self.taken = 0;
        self.block.resize(self.length.saturating_sub(self.next).min(LARGE as u64) as usize, 0);
        let length = match fill(&self.disk, &mut self.block, self.next) {
            Err(error) if is_unreadable(&error) => self.page_by_page()?,
            read => read?,
        };
        self.block.truncate(length);
        self.next += length as u64;
        self.tally.pages += length.div_ceil(SMALL) as u64;
        Ok(())
    }

    fn page_by_page(&mut self) -> io::Result<usize> {
        let mut length = 0;
        for (page, at) in self.block.chunks_mut(SMALL).zip((self.next..).step_by(SMALL)) {
            let read = (0..ATTEMPTS).map(|_| fill(&self.disk, page, at)).find(|read| !matches!(read, Err(error) if is_unreadable(error)));
            let Some(read) = read else {
                page.fill(0);
                self.tally.unreadable += 1;
                self.tally.first |= at == 0;
                length += page.len();
                continue;
            };
            let read = read?;
            length += read;
            if read < page.len() {
                break;
            }
        }
        Ok(length)
    }
}

impl<D: Disk> Read for Sectors<D> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.block.len() {
            self.advance()?;
        }
        let read = (&self.block[self.taken..]).read(into)?;
        self.taken += read;
        Ok(read)
    }
}

/// Copies a file, which is made anew.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<Tally> {
    let mut from = of(File::open(from)?)?;
    let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    loop {
        from.advance()?;
        if from.block.is_empty() {
            return Ok(from.tally());
        }
        to.write_all(&from.block)?;
    }
}

/// Whether the disk says that it can not read this place.
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EIO as i32)
}

/// Less than there is room for only at the end.
fn fill(disk: &impl Disk, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match disk.read_at(&mut into[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of which no read succeeds that touches one of some places.
    struct Failing<'a>(&'a [u8], &'a [usize]);

    impl Disk for Failing<'_> {
        fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
            let Self(bytes, bad) = self;
            let from = (at as usize).min(bytes.len());
            let to = (from + into.len()).min(bytes.len());
            if bad.iter().any(|bad| (from..to).contains(bad)) {
                return Err(Errno::EIO.into());
            }
            into[..to - from].copy_from_slice(&bytes[from..to]);
            Ok(to - from)
        }
    }

    fn read(bytes: &[u8], bad: &[usize]) -> (Vec<u8>, Tally) {
        let mut sectors = Sectors::new(Failing(bytes, bad), bytes.len() as u64);
        let mut found = Vec::new();
        sectors.read_to_end(&mut found).unwrap();
        (found, sectors.tally())
    }

    #[test]
    fn what_can_not_be_read_is_zeros_and_the_rest_as_it_was() {
        let bytes: Vec<u8> = (0..2 * LARGE + 5 * SMALL + 100).map(|at| (at % 251) as u8 + 1).collect();
        let last = bytes.len() - 1;
        for bad in [vec![], vec![0], vec![SMALL, 3 * SMALL - 1], vec![LARGE + 7, 2 * LARGE], vec![last - 100], vec![last]] {
            let (found, tally) = read(&bytes, &bad);
            let pages: Vec<usize> = bad.iter().map(|at| at / SMALL).collect();
            let is_bad = |at: usize| pages.contains(&(at / SMALL));
            assert_eq!(found.len(), bytes.len(), "{bad:?}");
            assert!((0..bytes.len()).all(|at| found[at] == if is_bad(at) { 0 } else { bytes[at] }), "{bad:?}");
            let wanted = Tally { pages: bytes.len().div_ceil(SMALL) as u64, unreadable: bad.len() as u64, first: pages.contains(&0) };
            assert_eq!(tally, wanted, "{bad:?}");
        }
    }

    #[test]
    fn a_disk_that_is_away_is_told_from_one_with_bad_sectors() {
        let bytes = vec![1; 10 * SMALL];
        let bad = |pages: std::ops::Range<usize>| read(&bytes, &pages.map(|page| page * SMALL).collect::<Vec<_>>()).1;
        assert!(bad(0..10).is_away());
        assert!(bad(0..6).is_away());
        assert!(!bad(0..5).is_away());
        assert!(!bad(1..10).is_away());
        assert!(!read(&[], &[]).1.is_away());
    }
}
