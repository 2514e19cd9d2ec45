//! What a write-ahead file holds behind a frame that was altered.
//!
//! `SQLite` believes frames up to the first whose checksum does not match, and nothing behind it: that may be a commit which the
//! power cut short. But a commit is synced before the next is written. If a whole one follows, the frame had been durable and is
//! damaged, and so much of it that follows can still be believed: the checksum of a frame goes on from that of the one before,
//! which stands beside it. For the format see <https://sqlite.org/fileformat2.html#walformat>.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use super::super::{JournalError, schema};
use super::{beside, sectors, sound};

/// What stands before the frames, and before the page in each.
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const FRAME: usize = FRAME_HEADER + schema::PAGE as usize;
/// How it begins if its checksums are of words in little-endian order; one more in big-endian order.
const MAGIC: u32 = 0x377f_0682;

/// The state of a checksum.
type Sum = [u32; 2];

/// Pages that were durable and that `SQLite` does not see any more: those of all frames that can be believed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Unseen {
    /// Where the newest frame of each page has it.
    pages: BTreeMap<u32, u64>,
    /// Pages of the main file.
    size: u32,
}

/// Fails if the write-ahead file of a journal was altered where `SQLite` would take it for a commit that was cut short.
pub(super) fn check(path: &Path) -> Result<(), JournalError> {
    match unseen(path)? {
        Some(_) => Err(sound::damaged(path, "its write-ahead file was altered, and commits follow")),
        None => Ok(()),
    }
}

/// What [`check`] fails for.
pub(super) fn unseen(path: &Path) -> Result<Option<Unseen>, JournalError> {
    let wal = beside(path, "-wal");
    match OpenOptions::new().read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(&wal) {
        // A frame that can not be read was altered.
        Ok(file) => sectors::of(file).and_then(look),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
    .map_err(|source| JournalError::Folder { path: wal, source })
}

impl Unseen {
    /// Makes a copy of the main file with these pages.
    pub(super) fn lay_over(&self, path: &Path, copy: &Path) -> io::Result<()> {
        sectors::copy(path, copy)?;
        let (wal, copy) = (File::open(beside(path, "-wal"))?, OpenOptions::new().write(true).open(copy)?);
        let mut page = vec![0; schema::PAGE as usize];
        for (number, place) in &self.pages {
            wal.read_exact_at(&mut page, *place)?;
            copy.write_all_at(&page, u64::from(number - 1) * schema::PAGE)?;
        }
        copy.set_len(u64::from(self.size) * schema::PAGE)
    }
}

fn look(mut wal: impl Read) -> io::Result<Option<Unseen>> {
    let mut header = [0; HEADER];
    let mut frame = vec![0; FRAME];
    if !fill(&mut wal, &mut header)? || !fill(&mut wal, &mut frame)? {
        return Ok(None);
    }
    let mut place = HEADER as u64;
    if header == [0; HEADER] {
        // What can not be read goes on in the first frame: a later one has the salts.
        while frame[8..16] == [0; 8] {
            place += FRAME as u64;
            if !fill(&mut wal, &mut frame)? {
                return Ok(None);
            }
        }
    }
    let mut frames = Frames::behind(&header, &frame);
    loop {
        frames.see(&frame, place + FRAME_HEADER as u64);
        place += FRAME as u64;
        if !fill(&mut wal, &mut frame)? {
            return Ok(frames.unseen());
        }
    }
}

/// Says whether there was enough.
fn fill(from: &mut impl Read, into: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(into) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

/// The frames up to one.
struct Frames {
    word: fn([u8; 4]) -> u32,
    salts: [u8; 8],
    /// As the last one says it.
    stated: Sum,
    /// The last one, if only its checksum was altered: what that should be, and its page.
    mended: Option<(Sum, u32, u64)>,
    /// Whether the last one is believed.
    believed: bool,
    /// How many commits there are from the first frame on at which `SQLite` stops; none = it does not.
    commits: Option<u32>,
    /// Pages of frames that are believed, of the last commits and of what follows them.
    seen: Unseen,
    open: BTreeMap<u32, u64>,
}

impl Frames {
    fn behind(header: &[u8; HEADER], first: &[u8]) -> Self {
        let big = if let [magic @ (MAGIC | 0x377f_0683), ..] = [number(header, 0)] { magic != MAGIC } else { cfg!(target_endian = "big") };
        let word = if big { u32::from_be_bytes } else { u32::from_le_bytes };
        let stated = [number(header, 24), number(header, 28)];
        let is_whole = sum([0; 2], &header[..24], word) == stated && number(header, 0) & !1 == MAGIC;
        // The header was synced before anything followed: if it is altered, whatever is whole behind it had been durable.
        let (salts, commits) = if is_whole { (&header[16..24], None) } else { (&first[8..16], Some(1)) };
        let salts = salts.try_into().expect("both are eight bytes");
        Self { word, salts, stated, mended: None, believed: true, commits, seen: Unseen::default(), open: BTreeMap::new() }
    }

    fn see(&mut self, frame: &[u8], place: u64) {
        let (page, size, stated) = (number(frame, 0), number(frame, 4), [number(frame, 16), number(frame, 20)]);
        let is_ours = frame[8..16] == self.salts;
        let goes_on = |from| sum(sum(from, &frame[..8], self.word), &frame[FRAME_HEADER..], self.word);
        let computed = goes_on(self.stated);
        if let Some((before, page, place)) = self.mended.take()
            && goes_on(before) == stated
        {
            self.open.insert(page, place);
            self.believed = true;
        } else if computed != stated || page == 0 || !(is_ours || self.believed) {
            // Only what follows can tell whether the page or the checksum was altered.
            self.mended = (self.believed && page > 0).then_some((computed, page, place));
            self.believed = false;
        } else {
            self.believed = true;
        }
        if !(self.believed && is_ours) && self.commits.is_none() {
            self.commits = Some(0);
        }
        self.stated = stated;
        if self.believed {
            self.open.insert(page, place);
        }
        if size > 0 && (self.believed || is_ours) {
            self.commit(size);
        }
    }

    fn commit(&mut self, size: u32) {
        self.commits = self.commits.map(|commits| commits + 1);
        if self.believed {
            self.seen.pages.append(&mut self.open);
            self.seen.size = size;
        }
    }

    /// What is there if a whole commit follows the one that is not whole.
    fn unseen(mut self) -> Option<Unseen> {
        self.seen.pages.retain(|page, _| *page <= self.seen.size);
        (self.commits > Some(1) && self.seen.size > 0).then_some(self.seen)
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Goes on with a checksum over these bytes, eight at a time.
fn sum(from: Sum, bytes: &[u8], word: fn([u8; 4]) -> u32) -> Sum {
    let (pairs, _) = bytes.as_chunks::<8>();
    pairs.iter().fold(from, |[first, second], &[a, b, c, d, e, f, g, h]| {
        let first = first.wrapping_add(word([a, b, c, d])).wrapping_add(second);
        [first, second.wrapping_add(word([e, f, g, h])).wrapping_add(first)]
    })
}
