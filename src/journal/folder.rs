//! The journal's folder: private, and owned by one process at a time. It may be missing for a while.
//!
//! A folder that was taken away is made anew. One whose file system was unmounted is waited for: what is below the place
//! where it was mounted is not ours to fill.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::fcntl::OFlag;

use super::JournalError;
use super::shared::held;

/// The journal's file in its folder.
pub(crate) const FILE: &str = "journal.sqlite3";
/// Whoever holds its lock owns the journal. Its content means nothing.
const LOCK: &str = "journal.lock";

/// The folder, whether it is there or not.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    owned: Option<Owned>,
    /// Where the file system is mounted that the folder was on.
    mounted: Option<PathBuf>,
}

impl Folder {
    /// Not looked at yet.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), state: Mutex::default() }
    }

    /// The journal's file, in a folder that is ours from here on: nothing changes if it was and still is, else it is taken
    /// anew. To be called while no file in it is open, as `SQLite`'s locks would not survive.
    pub(super) fn own(&self) -> Result<PathBuf, JournalError> {
        let mut state = held(&self.state);
        if let Some(owned) = state.owned.as_ref().filter(|owned| owned.is_in_place()) {
            return Ok(owned.file.clone());
        }
        state.owned = None;
        if let Some(gone) = state.mounted.as_ref().filter(|point| !is_mounted(point)) {
            return Err(JournalError::Unmounted(gone.clone()));
        }
        let owned = own(&self.dir)?;
        state.mounted = mount_point(&owned.file);
        Ok(state.owned.insert(owned).file.clone())
    }

    /// Where the journal's file is or will be.
    pub(super) fn place(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// What is in the place of the journal's file is ours. Whether it is another file than before.
    pub(super) fn know(&self, file: &Path) -> Result<bool, JournalError> {
        let found = file.symlink_metadata().map_err(|source| JournalError::Folder { path: file.to_owned(), source })?;
        let found = Inode::from(&found);
        let mut state = held(&self.state);
        let known = state.owned.iter_mut().flat_map(|owned| &mut owned.known).find(|(path, _)| path == file);
        Ok(known.is_some_and(|(_, inode)| std::mem::replace(inode, found) != found))
    }

    /// Whether what was owned last is still where it was.
    pub(super) fn is_in_place(&self) -> bool {
        held(&self.state).owned.as_ref().is_some_and(Owned::is_in_place)
    }

    /// The journal's file, if the folder is ours.
    pub(super) fn file(&self) -> Option<PathBuf> {
        held(&self.state).owned.as_ref().map(|owned| owned.file.clone())
    }
}

/// A folder that is ours while this lives.
#[derive(Debug)]
pub(super) struct Owned {
    /// The journal's file, its folder without symbolic links.
    pub(super) file: PathBuf,
    /// The files that were there when the lock was taken.
    known: Vec<(PathBuf, Inode)>,
    _lock: File,
}

impl Owned {
    /// Whether its path still leads to the same files.
    fn is_in_place(&self) -> bool {
        self.known.iter().all(|(path, inode)| path.symlink_metadata().is_ok_and(|found| Inode::from(&found) == *inode))
    }
}

/// What makes a file the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
}

impl From<&std::fs::Metadata> for Inode {
    fn from(found: &std::fs::Metadata) -> Self {
        Self { device: found.dev(), number: found.ino() }
    }
}

fn device(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|found| found.dev())
}

/// Where the file system of a file is mounted.
fn mount_point(file: &Path) -> Option<PathBuf> {
    let on = device(file)?;
    file.ancestors().skip(1).take_while(|above| device(above) == Some(on)).last().map(Path::to_owned)
}

/// Whether a file system is mounted here.
fn is_mounted(point: &Path) -> bool {
    point.parent().is_none_or(|above| device(point).is_some_and(|on| device(above) != Some(on)))
}

/// Makes the folder and the file if need be, and takes the lock.
pub(super) fn own(dir: &Path) -> Result<Owned, JournalError> {
    let failed = |source| JournalError::Folder { path: dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    // SQLite follows no link below; systemd's own link to a private state directory is fine.
    let dir = dir.canonicalize().map_err(failed)?;
    if is_ours_alone(&dir) {
        restrict(&dir, 0o700);
    }
    let (path, file) = (dir.join(LOCK), dir.join(FILE));
    let lock = open(&path)?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => JournalError::InUse(file.clone()),
        TryLockError::Error(source) => JournalError::Folder { path: path.clone(), source },
    })?;
    let inodes = [(&path, &lock), (&file, &open(&file)?)].map(|(path, opened)| Ok((path.clone(), Inode::from(&opened.metadata()?))));
    let known = inodes.into_iter().collect::<io::Result<_>>().map_err(failed)?;
    File::open(&dir).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(Owned { file, known, _lock: lock })
}

fn open(path: &Path) -> Result<File, JournalError> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path);
    let file = opened.map_err(|source| JournalError::Folder { path: path.to_owned(), source })?;
    restrict(path, 0o600);
    Ok(file)
}

/// Whether nothing of anybody else is in the folder: one that others use, too, is not ours to close.
fn is_ours_alone(dir: &Path) -> bool {
    let ours =
        |name: &OsStr| [FILE, LOCK, "qosd.sock", "mesh.json", "history.sqlite3"].iter().any(|own| name.to_string_lossy().starts_with(own));
    let foreign =
        dir.read_dir().ok().and_then(|mut entries| entries.find_map(|entry| entry.ok().filter(|entry| !ours(&entry.file_name()))));
    if let Some(entry) = &foreign {
        let mode = dir.metadata().map(|metadata| metadata.permissions().mode()).unwrap_or_default();
        if mode & 0o077 != 0 {
            tracing::warn!(path = %dir.display(), other = %entry.path().display(), "the journal's folder is open to others and holds other files, left as it is");
        }
    }
    foreign.is_none()
}

/// Takes away what others may do. That it can not be done is no reason to lose measurements.
fn restrict(path: &Path, wanted: u32) {
    let Ok(metadata) = path.metadata() else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & !wanted == 0 {
        return;
    }
    let was = format!("{mode:04o}");
    match std::fs::set_permissions(path, Permissions::from_mode(wanted)) {
        Ok(()) => tracing::warn!(path = %path.display(), was, "journal was open to others, closed it"),
        Err(error) => tracing::warn!(path = %path.display(), was, %error, "journal is open to others"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_folder_that_others_use_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("precious"), "").unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        let owned = own(dir.path()).unwrap();
        assert_eq!((mode(dir.path()), mode(&owned.file)), (0o777, 0o600));
    }

    /// (S10)
    #[test]
    fn folder_and_files_are_private_also_if_they_were_not() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("a/b");
        let owned = own(&new).unwrap();
        assert_eq!((mode(&new), mode(&owned.file)), (0o700, 0o600));
        drop(owned);
        std::fs::set_permissions(&new, Permissions::from_mode(0o777)).unwrap();
        std::fs::set_permissions(new.join(FILE), Permissions::from_mode(0o644)).unwrap();
        let owned = own(&new).unwrap();
        assert_eq!((mode(&new), mode(&owned.file)), (0o700, 0o600));
    }

    #[test]
    fn a_second_owner_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = own(dir.path()).unwrap();
        let refused = own(dir.path()).unwrap_err();
        assert!(matches!(refused, JournalError::InUse(_)), "{refused}");
        drop(first);
        own(dir.path()).unwrap();
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        std::fs::write(&elsewhere, "precious").unwrap();
        for name in [LOCK, FILE] {
            let folder = dir.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::os::unix::fs::symlink(&elsewhere, folder.join(name)).unwrap();
            assert!(matches!(own(&folder), Err(JournalError::Folder { .. })));
        }
        assert_eq!(std::fs::read(&elsewhere).unwrap(), b"precious");
    }
}
