//! A server's socket in the file system: for owner and group alone, never half made, and never in the place of something else.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

/// Owner and group may connect.
const MODE: u32 = 0o660;
/// Connections that may wait until they are accepted.
const BACKLOG: i32 = 1024;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Something else stands at its path.
    #[error("{0} is in the way: it is no socket")]
    InTheWay(PathBuf),
    /// Another process listens there.
    #[error("another process listens on {0}")]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot listen on {0}")]
    System(PathBuf, #[source] io::Error),
}

/// Binds beside the path and moves the socket there, so that nobody ever finds it half made or too open. A socket that
/// a dead process left behind is replaced; anything else, a symbolic link above all, is not.
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let system = |error| SocketError::System(path.to_owned(), error);
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::InTheWay(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::InUse(path.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(system(error)),
    }
    let beside = path.with_extension(format!("sock.{}", std::process::id()));
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(system(error)),
        _ => {}
    }
    let listener = bind(&beside).map_err(system)?;
    std::fs::rename(&beside, path).map_err(system)?;
    Ok(listener)
}

/// A socket that is never more open than it is to be, whatever the umask.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // What is bound takes the mode of the socket, less the umask.
    fchmod(&socket, Mode::from_bits_truncate(MODE))?;
    socket.bind(&SockAddr::unix(path)?)?;
    // And now the whole mode, whatever the umask took away.
    std::fs::set_permissions(path, PermissionsExt::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The file of a socket that this process bound. It goes when this is dropped, unless something else is in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// That of a socket which was just bound.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), inode: inode(path)? })
    }

    /// Whether the path still leads to the socket that this process bound.
    pub fn is_in_place(&self) -> bool {
        inode(&self.path).is_ok_and(|found| found == self.inode)
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_in_place() {
            // It may be gone by now, which is as good.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_process_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qosd.sock");
        drop(listen(&path).unwrap());
        let listener = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert!(matches!(listen(&path), Err(SocketError::InUse(_))));
        drop(listener);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn its_file_goes_with_it_unless_another_is_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qosd.sock");
        let listener = listen(&path).unwrap();
        drop(SocketFile::of(&path).unwrap());
        assert!(!path.exists());
        drop(listener);
        let _first = listen(&path).unwrap();
        let file = SocketFile::of(&path).unwrap();
        let other = listen(&folder.path().join("other.sock")).unwrap();
        std::fs::rename(folder.path().join("other.sock"), &path).unwrap();
        drop(file);
        assert!(path.exists() && matches!(listen(&path), Err(SocketError::InUse(_))));
        drop(other);
    }

    #[test]
    fn a_file_or_a_link_in_the_way_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "precious").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            assert!(matches!(listen(path), Err(SocketError::InTheWay(_))));
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }
}
