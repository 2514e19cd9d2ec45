//! A limit of memory, as a container or a unit has it: a control group of its own, of version 1 or 2. It ends with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{eventually, need_root};

/// How soon the kernel has let go of those that it killed.
const EMPTY: std::time::Duration = std::time::Duration::from_secs(10);

/// What [`Memory::take`] leaves: too little for qosd, and enough for who takes the rest.
const LEFT: u64 = 6 << 20;

/// Groups that this process has made.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// The group. Who is in it gets no more than the limit, and is killed if it needs more.
pub(crate) struct Memory {
    group: PathBuf,
    files: Files,
    most: u64,
}

/// What files are called.
struct Files {
    limit: &'static str,
    peak: &'static str,
    kills: &'static str,
}

const V1: Files = Files { limit: "memory.limit_in_bytes", peak: "memory.max_usage_in_bytes", kills: "memory.oom_control" };
const V2: Files = Files { limit: "memory.max", peak: "memory.peak", kills: "memory.events" };

impl Memory {
    /// A group that may have so many bytes.
    pub(crate) fn limited_to(most: u64) -> Self {
        need_root();
        let (parent, files) = parent();
        let group = parent.join(format!("qosd-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&group).unwrap_or_else(|error| panic!("no group of memory can be made, {}: {error}", group.display()));
        let memory = Self { group, files, most };
        fs::write(memory.group.join(memory.files.limit), most.to_string()).expect("the group is ours");
        memory
    }

    /// Where a process writes its number to be in it.
    pub(crate) fn door(&self) -> PathBuf {
        self.group.join("cgroup.procs")
    }

    /// The most that was in use, with what the kernel holds of files.
    pub(crate) fn peak(&self) -> u64 {
        self.read(self.files.peak).trim().parse().expect("a number of bytes")
    }

    /// How many processes were killed for it.
    pub(crate) fn kills(&self) -> u64 {
        let events = self.read(self.files.kills);
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill ")).expect("the kernel counts them");
        kills.parse().expect("a number")
    }

    /// Somebody else takes most of it, so that too little is left for the rest. He is gone again when this returns, or was killed
    /// as well; what he took is held by the file, which is to be one of memory.
    pub(crate) fn take(&self, file: &Path) {
        let script = "echo $$ > \"$0\" && exec head -c \"$1\" /dev/zero > \"$2\"";
        let taken = (self.most - LEFT).to_string();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg(self.door()).arg(taken).arg(file).status().expect("there is a shell");
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.group.join(file)).expect("the group is there")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What holds it ends with the test, too.
            let _ = fs::remove_dir(&self.group);
        } else {
            eventually(EMPTY, || fs::remove_dir(&self.group).map_err(|error| error.to_string()));
        }
    }
}

/// Where this process may make groups of memory.
fn parent() -> (PathBuf, Files) {
    let own = fs::read_to_string("/proc/self/cgroup").expect("a process is in a group");
    let mine = |line: &str, controllers: &str| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        names.split(',').any(|name| name == controllers).then(|| path.trim_start_matches('/').to_owned())
    };
    let below = |root: &str, path: String| [Path::new(root).join(path), root.into()].into_iter().find(|folder| folder.is_dir());
    if let Some(path) = own.lines().find_map(|line| mine(line, "memory")) {
        return (below("/sys/fs/cgroup/memory", path).expect("version 1 is mounted"), V1);
    }
    // In version 2 a group that has processes has no limited groups below: they are made at the top.
    let top = PathBuf::from("/sys/fs/cgroup");
    // Where it is enabled already, this fails for no reason.
    let _ = fs::write(top.join("cgroup.subtree_control"), "+memory");
    (top, V2)
}
