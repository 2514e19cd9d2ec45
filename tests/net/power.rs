//! The power fails at any instant: every row that was acknowledged before is on the disk, and the journal opens by itself.
//!
//! The journal of a qosd that measures is on a disk of its own, of which images are taken. A row counts as acknowledged once a
//! reader of the journal has seen it. A control shows that these images do lose what was not synced: the same qosd, whose
//! syncs do nothing, loses rows.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use qosd::clock::Clock;
use qosd::journal::{Journal, Mode, Position, Settings, Stored};

use crate::bed::daemon::{Home, Running, pause};
use crate::bed::net::Namespace;
use crate::bed::power::{Disk, with_own_mounts};
use crate::bed::witness::Witness;
use crate::bed::{short_or_long, told, tool};

/// Rows a second.
const SERIES: usize = 200;
/// What was found on an image.
struct Found {
    /// The last row that had been acknowledged when the power failed.
    acknowledged: u64,
    /// The rows that are there, or why there are none to be had.
    rows: Result<Vec<Stored>, String>,
}

/// Settings as the service has them by default. Whoever opens it does what a start does, upgrades and checkpoints included.
fn journal(folder: &Path) -> Result<Journal, String> {
    let settings = Settings { flush: Duration::from_millis(250), max_size: 1 << 30, max_age: Duration::from_hours(24) };
    Journal::open(folder, settings, Clock::system(), Mode::Inline).map_err(|error| error.to_string())
}

/// Every row; fails if one is damaged.
fn rows(folder: &Path) -> Result<Vec<Stored>, String> {
    let journal = journal(folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    let rows = runtime.block_on(journal.read(Position(0), Position(u64::MAX), usize::MAX)).map_err(|error| error.to_string())?;
    match journal.stats() {
        stats if stats.damaged > 0 || stats.failing.is_some() => Err(format!("{stats:?}")),
        _ => Ok(rows),
    }
}

/// How a qosd lives.
struct Life {
    /// How often the power fails.
    images: usize,
    /// How long after the last time, at most.
    apart: Duration,
    /// It stands still while an image is looked at.
    stands_still: bool,
    /// What takes its system calls.
    preloaded: Option<PathBuf>,
}

const USUAL: Life = Life { images: 10, apart: Duration::from_millis(120), stands_still: false, preloaded: None };

impl Life {
    /// What was found each time that the power failed, and what its journal holds in the end.
    fn lived(self) -> (Vec<Found>, Vec<Stored>) {
        let namespace = Namespace::new();
        let targets: Vec<_> = (1..=SERIES).map(|n| format!("\"127.1.0.{n}\"")).collect();
        let ping = format!("[ping.many]\ntargets = [{}]\ninterval = \"1s\"\ncount = 1\ntimeout = \"200ms\"\n", targets.join(", "));
        // The smaller the journal may be, the more often its write-ahead file is emptied.
        let home = Home::new(&format!("[journal]\nflush = \"10ms\"\nmax_size = \"4MiB\"\n{ping}"));
        let home = home.with_environment(self.preloaded.clone().map(|library| ("LD_PRELOAD", library)));
        with_own_mounts(|| {
            let data = home.path("data");
            let disk = Disk::mounted_at(&data);
            let running = home.launch_in(&namespace);
            let mut witness = Witness::of(data.join("journal.sqlite3"));
            let found = (0..self.images).map(|_| self.cut(&running, &disk, &mut witness)).collect();
            running.kill();
            (found, rows(&data).expect("a kill leaves a journal that opens"))
        })
    }

    fn cut(&self, running: &Running, disk: &Disk, witness: &mut Witness) -> Found {
        if self.stands_still {
            running.signal(Signal::SIGCONT);
        }
        pause(Duration::ZERO, self.apart);
        witness.look();
        let acknowledged = witness.last().unsigned_abs();
        let image = disk.cut();
        if self.stands_still {
            running.signal(Signal::SIGSTOP);
        }
        Found { acknowledged, rows: rows(image.path()) }
    }
}

impl Found {
    /// Why this image is not what it has to be: the first rows of the journal, at least those that were acknowledged.
    fn wrong(&self, all: &[Stored]) -> Result<(), String> {
        let rows = self.rows.as_ref().map_err(Clone::clone)?;
        let acknowledged = self.acknowledged;
        if (rows.len() as u64) < acknowledged {
            return Err(format!("{} rows, {acknowledged} were acknowledged", rows.len()));
        }
        let altered = rows.iter().zip(all).find(|(row, written)| row != written);
        altered.map_or(Ok(()), |(row, written)| Err(format!("{row:?} was written as {written:?}")))
    }
}

#[test]
fn s1_whatever_was_acknowledged_is_on_the_disk_when_the_power_fails() {
    let begun = Instant::now();
    let (mut images, mut acknowledged, mut beyond, mut empty) = (0, 0, 0, 0);
    for _ in 0..short_or_long(4, 52) {
        let (found, all) = USUAL.lived();
        for image in &found {
            image.wrong(&all).unwrap_or_else(|why| panic!("image {images}: {why}"));
            images += 1;
            acknowledged += image.acknowledged;
            empty += usize::from(image.acknowledged == 0);
            beyond += image.rows.iter().map(|rows| rows.len() as u64 - image.acknowledged).sum::<u64>();
        }
    }
    told(&format!(
        "{images} power cuts in {:?}, {empty} of them before the first row; {acknowledged} rows acknowledged, all there, and {beyond} that were not yet",
        begun.elapsed()
    ));
    assert!(empty < images / 2, "most images hold rows");
}

#[test]
fn s16_a_power_cut_while_the_journal_is_made_leaves_one_that_opens() {
    let (mut images, mut made) = (0, 0);
    for _ in 0..short_or_long(3, 30) {
        let (found, all) = Life { images: 6, apart: Duration::from_millis(15), stands_still: true, ..USUAL }.lived();
        for image in &found {
            image.wrong(&all).unwrap_or_else(|why| panic!("image {images}: {why}"));
            images += 1;
            made += usize::from(image.acknowledged > 0);
        }
    }
    told(&format!("{images} power cuts while the journal was made, {made} of them after the first row"));
    assert!(made < images, "some come before the first row");
}

#[test]
fn s1_without_syncs_a_power_cut_does_lose_what_was_acknowledged() {
    let (found, all) = Life { preloaded: Some(tool("libeatmydata.so")), ..USUAL }.lived();
    let lost = found.iter().filter(|image| image.acknowledged > 0 && image.wrong(&all).is_err()).count();
    told(&format!("without syncs {lost} of {} images lost rows that were acknowledged", found.len()));
    assert!(lost > 0, "images that lose nothing prove nothing");
}
