//! A disk whose power can be cut at any instant, again and again, while whoever writes to it goes on.
//!
//! The disk is a file on a file system of its own, which is frozen while the file is copied: the copy is what was handed to the
//! disk at one instant, in the order in which it was handed, even in the middle of a sync. What was only in the kernel's
//! memory is not in it. Everything is in memory, and mounted for the calling thread and its children alone.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::{need_root, tool};

/// Does something on a thread that sees its own mounts, which are gone when it ends.
pub(crate) fn with_own_mounts<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    need_root();
    thread::scope(|scope| {
        let own = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("root may make a mount namespace");
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).expect("mounts of this namespace can be its own");
            act()
        });
        own.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A file system on a disk of its own.
pub(crate) struct Disk {
    /// Unmounted in order, the innermost first.
    _top: Mounted,
    below: Mounted,
    memory: Mounted,
    _folder: TempDir,
}

impl Disk {
    /// An empty ext4, mounted at this folder.
    pub(crate) fn mounted_at(path: &Path) -> Self {
        let folder = tempfile::tempdir().expect("there is a place for temporary files");
        let none = None::<&str>;
        mount(none, folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=256m")).expect("root may mount memory");
        let memory = Mounted(folder.path().to_owned());
        // It holds one file alone, and needs no journal of its own.
        let below = file_system(&memory.0.join("below.img"), 96 << 20, &["-O", "^has_journal"], &memory.0.join("below"));
        let top = file_system(&below.0.join("disk.img"), 32 << 20, &[], path);
        Self { _top: top, below, memory, _folder: folder }
    }

    /// What is left if the power fails now: mounted, as at the next start of the host.
    pub(crate) fn cut(&self) -> Image {
        let file = self.memory.0.join("image.img");
        {
            let _frozen = Frozen::new(&self.below.0);
            run("cp", [OsStr::new("--sparse=always"), self.below.0.join("disk.img").as_os_str(), file.as_os_str()]);
        }
        Image(looped(&file, &self.memory.0.join("image")))
    }
}

/// What a power cut left.
pub(crate) struct Image(Mounted);

impl Image {
    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.0.0
    }
}

fn file_system(file: &Path, bytes: u64, options: &[&str], at: &Path) -> Mounted {
    std::fs::File::create(file).and_then(|file| file.set_len(bytes)).expect("there is room in memory");
    let options = options.iter().map(OsStr::new);
    run(tool("mkfs.ext4"), [OsStr::new("-q"), OsStr::new("-F")].into_iter().chain(options).chain([file.as_os_str()]));
    looped(file, at)
}

fn looped(file: &Path, at: &Path) -> Mounted {
    std::fs::create_dir_all(at).expect("the folder is ours");
    run(tool("mount"), [OsStr::new("-o"), OsStr::new("loop"), file.as_os_str(), at.as_os_str()]);
    Mounted(at.to_owned())
}

/// A mount; dropping it takes it away.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // It goes with the thread at the latest.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A file system that takes no write; dropping it lets them go on.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn new(path: &'a Path) -> Self {
        run(tool("fsfreeze"), [OsStr::new("--freeze"), path.as_os_str()]);
        Self(path)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        run(tool("fsfreeze"), [OsStr::new("--unfreeze"), self.0.as_os_str()]);
    }
}

fn run<'a>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = &'a OsStr>) {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
