//! The files that the unit's user has to read: the config, what is merged into it, and secrets. Pure.
//!
//! Whoever runs `qosd doctor` is often root, who reads everything; the service is not.

use std::path::PathBuf;

use super::check::Check;

/// What has to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A file that is read.
    Read,
    /// A folder on the way to one.
    Enter,
}

/// A file, or a folder on the way to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where.
    pub(super) path: PathBuf,
    /// Number of the user who owns it.
    pub(super) owner: u32,
    /// Number of its group.
    pub(super) group: u32,
    /// Permissions.
    pub(super) mode: u32,
    /// What for.
    pub(super) need: Need,
}

/// The user who needs them.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    /// Number.
    pub(super) uid: u32,
    /// Groups.
    pub(super) groups: Vec<u32>,
    /// Name.
    pub(super) name: String,
}

impl Entry {
    /// Whether its permissions let a user do what is needed. The first class that fits decides, as in the kernel.
    fn lets(&self, reader: &Reader) -> bool {
        let bit = match self.need {
            Need::Read => 4,
            Need::Enter => 1,
        };
        let class = if self.owner == reader.uid {
            6
        } else if reader.groups.contains(&self.group) {
            3
        } else {
            0
        };
        reader.uid == 0 || (self.mode >> class) & bit != 0
    }
}

/// Whether the unit's user can read them all; without a unit nobody but who runs this is known.
pub(super) fn files(entries: &[Entry], reader: Option<&Reader>) -> Check {
    const NAME: &str = "files";
    let Some(reader) = reader else {
        return Check::note(NAME, "not looked at: without a unit it is not known who has to read the config and the secrets");
    };
    let read = entries.iter().filter(|entry| entry.need == Need::Read).count();
    let Some(closed) = entries.iter().find(|entry| !entry.lets(reader)) else {
        return Check::ok(NAME, format!("{} may read all {read} of the config", reader.name));
    };
    let (path, user) = (closed.path.display(), &reader.name);
    let (what, mode) = match closed.need {
        Need::Read => ("read", 640),
        Need::Enter => ("enter", 750),
    };
    let found = format!("{user}, as whom the service runs, may not {what} {path} (mode {:04o})", closed.mode);
    Check::fail(NAME, found, format!("chgrp \"$(id -gn {user})\" {path} && chmod {mode} {path}"))
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;

    fn check(owner: u32, group: u32, mode: u32, need: Need, uid: u32) -> Check {
        let entry = Entry { path: "/etc/qosd/token".into(), owner, group, mode, need };
        files(&[entry], Some(&Reader { uid, groups: vec![998, 27], name: "qosd".to_owned() }))
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        for (owner, group, mode, read) in [
            (0, 0, 0o600, false),
            (0, 998, 0o640, true),
            (0, 27, 0o640, true),
            (0, 0, 0o644, true),
            (998, 0, 0o400, true),
            (998, 0, 0o044, false),
            (0, 998, 0o604, false),
        ] {
            let state = check(owner, group, mode, Need::Read, 998).state();
            assert_eq!(state == State::Ok, read, "{owner} {group} {mode:o}");
        }
        assert_eq!(check(0, 0, 0o711, Need::Enter, 998).state(), State::Ok);
        assert_eq!(check(0, 0, 0o700, Need::Enter, 998).fix(), "chgrp \"$(id -gn qosd)\" /etc/qosd/token && chmod 750 /etc/qosd/token");
        assert_eq!(check(5, 5, 0, Need::Read, 0).state(), State::Ok, "root reads everything");
    }

    #[test]
    fn a_file_that_the_service_may_not_read_is_named_with_its_fix() {
        let check = check(0, 0, 0o600, Need::Read, 998);
        assert!(check.found().contains("qosd, as whom the service runs, may not read /etc/qosd/token (mode 0600)"), "{check:?}");
        assert_eq!(check.fix(), "chgrp \"$(id -gn qosd)\" /etc/qosd/token && chmod 640 /etc/qosd/token");
        assert_eq!(files(&[], None).state(), State::Note);
    }
}
