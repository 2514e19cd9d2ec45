//! What becomes of a damaged file: it is renamed, what reads right goes into a new one, and the journal goes on.
//!
//! `journal.sqlite3.damaged-<time>` is what was there, with its write-ahead file beside it; the newest three are kept. The new file
//! is made under another name and takes its place when it is whole: a kill before that leaves the damaged file where it was,
//! a kill afterwards is made good by [`finish`]. How much can be read is told in [`harvest`], what counts as damage in [`sound`].

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use harvest::{Harvest, Yield};
use sound::Look;

use super::reader::Reader;
use super::store::{self, Before, Store};
use super::{JournalError, failed, schema};
use crate::clock::Timestamp;
use crate::settings::explain;

mod harvest;
mod order;
mod sectors;
pub(super) mod sound;
#[cfg(test)]
mod tests;
mod wal;

/// Renamed files that are kept.
const KEPT: usize = 3;
/// Ends the names of the new file while it is made, when it is whole, and of a copy to be tried out.
const NEW: &str = ".new";
const WHOLE: &str = ".salvaged";
const COPY: &str = ".copy";
/// Ends the name of a copy with what a damaged write-ahead file still holds.
const LAID_OVER: &str = ".laid-over";
/// First byte of a page with rows.
const LEAF: u8 = 0x0d;

/// Opens the file at the start of the process, if it is not damaged.
pub(super) fn open_sound(path: &Path, max_size: u64, now: Timestamp) -> Result<Store, JournalError> {
    finish(path, now)?;
    let opened = trusted(path).and_then(|()| Store::open(path, max_size));
    opened.and_then(|store| looked(store, path, Look::Start))
}

/// Opens the file at the start of the process.
pub(super) fn open(path: &Path, max_size: u64, now: Timestamp) -> Result<Store, JournalError> {
    match open_sound(path, max_size, now) {
        Err(error) if sound::is_damage(&error) => {
            salvage(path, None, &error, now)?;
            Store::open(path, max_size)
        }
        opened => opened,
    }
}

/// Opens the file after a failure, see [`Store::reopen`]. On a sign of damage all of it is looked through.
pub(super) fn reopen(path: &Path, max_size: u64, before: &Before, suspect: bool, now: Timestamp) -> Result<Store, JournalError> {
    finish(path, now)?;
    let opened = trusted(path).and_then(|()| Store::reopen(path, max_size, before));
    match opened.and_then(|store| if suspect { looked(store, path, Look::Whole) } else { Ok(store) }) {
        Err(error) if sound::is_damage(&error) => {
            salvage(path, Some(before), &error, now)?;
            Store::open(path, max_size)
        }
        opened => opened,
    }
}

/// Renames a folder that is in the place of the file, and tells of a file that lost everything.
///
/// At a later attempt an empty file is one that we could not fill.
pub(super) fn make_way(path: &Path, is_first: bool, now: Timestamp) -> Result<(), JournalError> {
    for ending in ["-wal", "-shm", ""] {
        let file = beside(path, ending);
        if file.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            let kept = free_name(path, now);
            rename(&file, &kept)?;
            tracing::error!(path = %file.display(), kept = %kept.display(), "a folder was in the place of the journal, renamed it");
        }
    }
    let is_repaired = beside(path, WHOLE).exists();
    if is_first && !is_repaired && path.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        tracing::warn!(path = %path.display(), "the journal's file is empty, what it held is lost");
    }
    Ok(())
}

/// Looks at what `SQLite` itself would not tell.
fn trusted(path: &Path) -> Result<(), JournalError> {
    sound::header(path)?;
    wal::check(path)
}

fn looked(store: Store, path: &Path, look: Look) -> Result<Store, JournalError> {
    match store.check(path, look) {
        Ok(()) => Ok(store),
        Err(error) => {
            // Nothing more is to be written into it.
            store.close_untrusted();
            Err(error)
        }
    }
}

/// Moves what reads right into a new file, which takes the place of the damaged one. Rows behind the tip of `before` still wait in memory.
fn salvage(path: &Path, before: Option<&Before>, why: &JournalError, now: Timestamp) -> Result<(), JournalError> {
    [NEW, COPY, LAID_OVER].iter().try_for_each(|ending| remove(&beside(path, ending)))?;
    // Room for the new one.
    prune(path, KEPT - 1);
    let mut found = attempt(path, before, now, true);
    // What was kept of earlier damage is worth less than what is here.
    if is_full(&found) && prune(path, 0) > 0 {
        tracing::warn!("disk is full, removed what was kept of earlier damage to the journal");
        found = attempt(path, before, now, true);
    }
    if is_full(&found) {
        found = attempt(path, before, now, false);
    }
    let found = found?;
    rename(&beside(path, NEW), &beside(path, WHOLE))?;
    let kept = finish(path, now)?.unwrap_or_default();
    let (why, kept) = (explain(why), kept.display());
    tracing::error!(why, %kept, rows = found.moved, lost = found.lost, "journal was damaged, moved what reads right into a new one");
    Ok(())
}

fn is_full(found: &Result<Yield, JournalError>) -> bool {
    found.as_ref().is_err_and(sound::is_full)
}

/// Makes the new file, whose name ends with [`NEW`]. If it fails, it leaves nothing behind.
fn attempt(path: &Path, before: Option<&Before>, now: Timestamp, with_copy: bool) -> Result<Yield, JournalError> {
    let found = fill(path, &beside(path, NEW), before, now, with_copy);
    let over = if found.is_ok() { &[COPY, LAID_OVER][..] } else { &[NEW, COPY, LAID_OVER] };
    over.iter().try_for_each(|ending| remove(&beside(path, ending)))?;
    found
}

fn fill(path: &Path, new: &Path, before: Option<&Before>, now: Timestamp, with_copy: bool) -> Result<Yield, JournalError> {
    let io = |source| JournalError::Folder { path: new.to_owned(), source };
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(new).map_err(io)?;
    let mut conn = schema::writer(new)?;
    schema::fill_in_memory(&conn).map_err(failed("making a new file"))?;
    let tx = conn.transaction().map_err(failed("making a new file"))?;
    schema::id(&tx).map_err(failed("making a new file"))?;
    if let Some(before) = before {
        // If it is opened only by a later attempt, it is told by this from a file that was put in the place of the other.
        store::keep_meta(&tx, schema::SALVAGED_FROM, before.id).map_err(failed("making a new file"))?;
    }
    let mut harvest = Harvest::new(&tx, before, now).map_err(failed("making a new file"))?;
    gather(path, new, &mut harvest, with_copy)?;
    let moving = failed("moving rows into a new file");
    let found = harvest.finish().map_err(&moving)?;
    tx.commit().map_err(&moving)?;
    schema::filled(&conn).map_err(moving)?;
    drop(conn);
    File::open(new).and_then(|file| file.sync_all()).map_err(io)?;
    Ok(found)
}

/// Takes what there is from the damaged file, and what is not found there from a copy of it that can be altered.
fn gather(path: &Path, new: &Path, harvest: &mut Harvest<'_>, with_copy: bool) -> Result<(), JournalError> {
    let io = |source| JournalError::Folder { path: new.to_owned(), source };
    let moving = failed("moving rows into a new file");
    let (copy, laid_over) = (beside(path, COPY), beside(path, LAID_OVER));
    let path = match wal::unseen(path)? {
        Some(unseen) => {
            unseen.lay_over(path, &laid_over).map_err(io)?;
            &laid_over
        }
        None => path,
    };
    if let Some((source, mut reader)) = doubted(path)? {
        harvest.take(&source, &mut reader).map_err(&moving)?;
    }
    if harvest.is_whole().map_err(&moving)? {
        return Ok(());
    }
    if !with_copy {
        // Without any row it is better to wait for room.
        return if harvest.has_rows() { Ok(()) } else { Err(io(ErrorKind::StorageFull.into())) };
    }
    copy_with_first_page(path, new, &copy).map_err(io)?;
    if let Some((source, mut reader)) = doubted(&copy)? {
        harvest.take(&source, &mut reader).map_err(&moving)?;
        if harvest.has_gaps() {
            take_loose_pages(&copy, harvest, &mut reader)?;
        }
    }
    Ok(())
}

fn doubted(path: &Path) -> Result<Option<(rusqlite::Connection, Reader)>, JournalError> {
    usable(schema::doubted(path).and_then(|source| Ok((source, Reader::over(schema::doubted(path)?, path)))))
}

/// None if it is damaged.
fn usable<T>(opened: Result<T, JournalError>) -> Result<Option<T>, JournalError> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if sound::is_damage(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A copy whose first page, header and tables, is that of a new journal: it fits all, as the tables always are on the same pages.
fn copy_with_first_page(path: &Path, new: &Path, copy: &Path) -> std::io::Result<()> {
    let least = new.metadata()?.len();
    let mut tally = sectors::copy(path, copy)?;
    let pages = copy.metadata()?.len().max(least).div_ceil(schema::PAGE);
    let wal = beside(path, "-wal");
    if wal.exists() {
        let more = sectors::copy(&wal, &beside(copy, "-wal"))?;
        tally.pages += more.pages;
        tally.unreadable += more.unreadable;
    }
    if tally.is_away() {
        // A journal that is made of nothing would be taken for all that there was.
        return Err(Errno::EIO.into());
    }
    let mut first = vec![0; schema::PAGE as usize];
    File::open(new)?.read_exact(&mut first)?;
    let pages = u32::try_from(pages).unwrap_or(u32::MAX);
    first[28..32].copy_from_slice(&pages.to_be_bytes());
    // No page is free: what is on it may be wanted.
    first[32..40].fill(0);
    let copy = OpenOptions::new().write(true).open(copy)?;
    // Pages that are cut off read as empty: they would spoil the whole.
    copy.set_len(u64::from(pages) * schema::PAGE)?;
    copy.write_all_at(&first, 0)
}

/// Reads each page with rows as if it were all of the table: what leads to it may be damaged.
fn take_loose_pages(copy: &Path, harvest: &mut Harvest<'_>, reader: &mut Reader) -> Result<(), JournalError> {
    let io = |source| JournalError::Folder { path: copy.to_owned(), source };
    let mut file = File::open(copy).map_err(io)?;
    let pages = file.seek(SeekFrom::End(0)).map_err(io)? / schema::PAGE;
    let Some(scratch) = usable(schema::scratch(copy))? else { return Ok(()) };
    for page in 3..=pages {
        let mut first = [0];
        file.read_exact_at(&mut first, (page - 1) * schema::PAGE).map_err(io)?;
        if first[0] == LEAF && schema::point_rows_at(&scratch, page).is_ok() {
            harvest.take_page(&scratch, reader).map_err(failed("moving rows into a new file"))?;
        }
    }
    Ok(())
}

/// Puts a new file that is whole into the place of the damaged one, which is renamed. Says to what, if there was one to be put.
pub(super) fn finish(path: &Path, now: Timestamp) -> Result<Option<PathBuf>, JournalError> {
    let whole = beside(path, WHOLE);
    if !whole.exists() {
        return Ok(None);
    }
    let kept = free_name(path, now);
    // The write-ahead file first: beside the new file it would be taken for its own.
    for ending in ["-wal", ""] {
        let file = beside(path, ending);
        match file.metadata().map(|metadata| metadata.len()) {
            Ok(0) => remove(&file)?,
            Ok(_) => rename(&file, &beside(&kept, ending))?,
            Err(_) => {}
        }
    }
    remove_file(&beside(path, "-shm"))?;
    rename(&whole, path)?;
    prune(path, KEPT);
    Ok(Some(kept))
}

/// Removes all but the newest renamed files. Folders are not ours to remove. Says how many are gone.
fn prune(path: &Path, keep: usize) -> usize {
    let Some((folder, prefix)) = path.parent().zip(beside(path, ".damaged-").file_name().map(ToOwned::to_owned)) else { return 0 };
    let Ok(entries) = folder.read_dir() else { return 0 };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    // A write-ahead file goes with its main file, also if that is there no more.
    let ours = names.filter(|name| name.starts_with(&*prefix.to_string_lossy()));
    let kept: BTreeSet<String> = ours.map(|name| name.trim_end_matches("-wal").to_owned()).collect();
    let old = kept.iter().take(kept.len().saturating_sub(keep)).map(|name| folder.join(name));
    // That it can not be removed is no reason to lose measurements.
    old.map(|file| ["", "-wal"].iter().filter(|ending| std::fs::remove_file(beside(&file, ending)).is_ok()).count()).sum()
}

fn free_name(path: &Path, now: Timestamp) -> PathBuf {
    let time: String = now.to_string().chars().filter(|letter| !['-', ':'].contains(letter)).collect();
    let name = |number: u32| if number == 1 { format!(".damaged-{time}") } else { format!(".damaged-{time}.{number}") };
    let names = (1..).map(|number| beside(path, &name(number)));
    let is_free = |name: &PathBuf| name.symlink_metadata().is_err() && beside(name, "-wal").symlink_metadata().is_err();
    names.into_iter().find(is_free).expect("there are more names than files")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Renames for good: the folder is synced.
fn rename(from: &Path, to: &Path) -> Result<(), JournalError> {
    let renamed = std::fs::rename(from, to).and_then(|()| File::open(from.parent().unwrap_or(Path::new("/")))?.sync_all());
    renamed.map_err(|source| JournalError::Folder { path: from.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), JournalError> {
    ["", "-wal", "-shm"].iter().try_for_each(|ending| remove_file(&beside(path, ending)))
}

fn remove_file(path: &Path) -> Result<(), JournalError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(JournalError::Folder { path: path.to_owned(), source }),
        _ => Ok(()),
    }
}
