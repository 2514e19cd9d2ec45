//! Reading a file that an operator named: never more than a bound, never waiting, nothing but a regular file.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// What a file held, and who may read it.
#[derive(Debug)]
pub struct Contents {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether users other than its owner and group may read, write or enter it.
    pub open_to_others: bool,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot be read")]
    Unreadable(#[source] io::Error),
    /// A device, FIFO, socket or folder.
    #[error("is a {0}, not a file")]
    NotAFile(&'static str),
    /// More than allowed.
    #[error("is larger than {}", super::units::show_bytes(.0))]
    TooLarge(u64),
}

/// Reads a regular file of at most `limit` bytes; symbolic links are followed.
pub fn read(path: &Path, limit: u64) -> Result<Contents, FileError> {
    // Without O_NONBLOCK opening a FIFO waits for a writer. Close-on-exec is std's default.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(FileError::Unreadable)?;
    let about = file.metadata().map_err(FileError::Unreadable)?;
    if !about.is_file() {
        return Err(FileError::NotAFile(kind(about.file_type())));
    }
    if about.len() > limit {
        return Err(FileError::TooLarge(limit));
    }
    let mut bytes = Vec::new();
    // The length may have changed since, or be unknown.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(FileError::Unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge(limit));
    }
    Ok(Contents { bytes, open_to_others: about.permissions().mode() & 0o007 != 0 })
}

fn kind(file_type: std::fs::FileType) -> &'static str {
    match file_type {
        kind if kind.is_dir() => "folder",
        kind if kind.is_fifo() => "FIFO",
        kind if kind.is_socket() => "socket",
        _ => "device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(path: &Path) -> String {
        read(path, 10).unwrap_err().to_string()
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(read(&path, 10).unwrap().bytes, b"0123456789");
        std::fs::write(&path, "0123456789a").unwrap();
        assert_eq!(failure(&path), "is larger than 10B");
        assert_eq!(failure(dir.path()), "is a folder, not a file");
        assert_eq!(failure(Path::new("/dev/zero")), "is a device, not a file");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(failure(&fifo), "is a FIFO, not a file");
    }

    #[test]
    fn a_file_whose_length_is_not_known_is_still_bounded() {
        assert_eq!(failure(Path::new("/proc/self/status")), "is larger than 10B");
    }

    #[test]
    fn a_loop_of_links_and_a_missing_file_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loop");
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert_eq!(failure(&path), "cannot be read");
        assert_eq!(failure(&dir.path().join("missing")), "cannot be read");
    }
}
