//! The journal's folder: whether the service can write there, and for how long. Pure.

use std::path::PathBuf;

use super::check::{Check, State};
use crate::settings::units::show_bytes;

/// With less than this the journal takes no rows for long.
const NEARLY_FULL: u64 = 16 << 20;

/// Why a folder cannot be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its file system is read-only.
    ReadOnly,
    /// This process may not.
    Denied,
    /// Something else.
    Other(String),
}

/// What was found at the folder's path.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Nothing: whether it can be made, in what there is above.
    Nothing(PathBuf, Result<(), Refusal>),
    /// Something else than a folder.
    NoFolder,
    /// It cannot even be looked at.
    Hidden(String),
    /// The folder.
    Folder(Folder),
}

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    /// User who owns it, and the name of that user.
    pub(super) owner: (u32, String),
    /// Permissions.
    pub(super) mode: u32,
    /// Whether this process may write there.
    pub(super) writable: Result<(), Refusal>,
    /// A file of the journal that this process may not write.
    pub(super) closed_file: Option<PathBuf>,
    /// Bytes that the journal takes already.
    pub(super) used: u64,
    /// Who holds the lock.
    pub(super) locked_by: Option<u32>,
}

/// Everything about the folder.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Where it is, or should be.
    pub(super) path: PathBuf,
    /// What is there.
    pub(super) place: Place,
    /// Bytes that are free on its file system.
    pub(super) free: Option<u64>,
    /// `journal.max_size`.
    pub(super) max_size: u64,
    /// As whom the service runs: the unit's user, else who runs this. Number and name.
    pub(super) service: (u32, String),
    /// Who looks.
    pub(super) me: u32,
}

/// The process that holds a lock on a file, in what the kernel prints of all locks.
pub(super) fn holder(locks: &str, inode: u64) -> Option<u32> {
    let mut lines = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find_map(|words| match words[..] {
        [_, "FLOCK", _, _, pid, file, ..] if file.rsplit(':').next()?.parse() == Ok(inode) => pid.parse().ok(),
        _ => None,
    })
}

/// Where systemd makes the folder for the service.
const STATE_DIRECTORY: &str = "/var/lib/qosd";
const NAME: &str = "journal";

/// Whether the journal has its place.
pub(super) fn journal(facts: &Facts) -> Check {
    let Facts { path: folder, place, service: (uid, user), me, .. } = facts;
    let path = folder.display();
    let make = format!("install -d -m 700 -o {user} -g \"$(id -gn {user})\" {path}");
    match place {
        Place::Hidden(why) => Check::fail(NAME, format!("{path}: {why}"), format!("run qosd doctor as root or as {user}, or: {make}")),
        Place::NoFolder => Check::fail(NAME, format!("{path} is not a folder"), "set agent.data_dir to a folder"),
        Place::Nothing(_, Ok(())) if uid != me && !folder.starts_with(STATE_DIRECTORY) => {
            Check::warn(NAME, format!("{path} does not exist, and {user}, as whom the service runs, may not be able to make it"), make)
        }
        Place::Nothing(above, Ok(())) => with_room(facts, &format!("{path} is made at the start, in {}", above.display()), 0),
        Place::Nothing(above, Err(Refusal::ReadOnly)) => {
            Check::fail(NAME, format!("{path} does not exist, and {} is on a read-only file system", above.display()), remount(facts))
        }
        Place::Nothing(above, Err(_)) => {
            Check::fail(NAME, format!("{path} does not exist and cannot be made in {}", above.display()), make)
        }
        Place::Folder(folder) => judge(facts, folder),
    }
}

fn remount(facts: &Facts) -> String {
    let path = facts.path.display();
    format!("mount -o remount,rw \"$(findmnt -no TARGET --target {path})\", or set agent.data_dir to a folder that can be written to")
}

/// The folder that is there: whether rows can be written, whether there is room, and whose it is.
fn judge(facts: &Facts, folder: &Folder) -> Check {
    let Facts { path, service: (uid, user), me, .. } = facts;
    let Folder { owner, mode, writable, closed_file, used, locked_by } = folder;
    let path = path.display();
    let found = format!("{path}, of {} with mode {mode:04o}", owner.1);
    let chown = format!("chown -R {user}: {path}");
    match writable {
        Err(Refusal::ReadOnly) => return Check::fail(NAME, format!("{found}, is on a read-only file system"), remount(facts)),
        // Of the service's own folder only the service, or root, can tell.
        Err(Refusal::Denied) if owner.0 == *uid && uid != me => {
            return Check::note(NAME, format!("{found}, is closed to who runs this, as it should be"));
        }
        Err(Refusal::Denied) => return Check::fail(NAME, format!("{found}, is closed to {user}"), chown),
        Err(Refusal::Other(why)) => {
            return Check::fail(
                NAME,
                format!("{found}, cannot be written to: {why}"),
                "set agent.data_dir to a folder that can be written to",
            );
        }
        Ok(()) => {}
    }
    if let Some(file) = closed_file {
        return Check::fail(NAME, format!("{found}: {} cannot be written to", file.display()), chown);
    }
    let lock = locked_by.map_or_else(|| "nobody uses it now".to_owned(), |pid| format!("in use by process {pid}"));
    let room = with_room(facts, &format!("{found}, {lock}"), *used);
    if room.state() != State::Ok {
        room
    } else if owner.0 != *uid {
        Check::warn(NAME, format!("{found}: the service runs as {user}"), chown)
    } else if mode & 0o077 != 0 {
        Check::warn(NAME, format!("{found}: open to others"), format!("chmod 700 {path}"))
    } else {
        room
    }
}

/// In whole MiB, or KiB where there are fewer, as people count them.
pub(super) fn size(bytes: u64) -> String {
    let bits = if bytes >= 1 << 20 { 20 } else { 10 };
    if bytes >= 1 << 10 { show_bytes(&(bytes >> bits << bits)) } else { show_bytes(&bytes) }
}

/// As found, if there is room for what the journal may still grow to.
fn with_room(facts: &Facts, found: &str, used: u64) -> Check {
    let Facts { path, free, max_size, .. } = facts;
    let Some(free) = *free else { return Check::ok(NAME, found) };
    let growth = max_size.saturating_sub(used);
    let found = format!("{found}; {} free, the journal has {} and may grow to {}", size(free), size(used), show_bytes(max_size));
    if free >= growth {
        return Check::ok(NAME, found);
    }
    // Half of all that it could ever have.
    let most = size(u64::midpoint(used, free));
    let fix = format!("set journal.max_size = \"{most}\", or make room: df -h {}", path.display());
    if free < NEARLY_FULL {
        Check::fail(NAME, found, format!("make room: df -h {}; or set agent.data_dir to a folder with room", path.display()))
    } else {
        Check::warn(NAME, found, fix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn folder() -> Folder {
        Folder { owner: (998, "qosd".to_owned()), mode: 0o700, writable: Ok(()), closed_file: None, used: GIB / 4, locked_by: None }
    }

    fn facts(place: Place, free: u64) -> Facts {
        Facts { path: "/var/lib/qosd".into(), place, free: Some(free), max_size: GIB, service: (998, "qosd".to_owned()), me: 0 }
    }

    fn of(folder: Folder, free: u64) -> Check {
        journal(&facts(Place::Folder(folder), free))
    }

    #[test]
    fn a_folder_of_the_service_with_room_is_well() {
        let check = of(Folder { locked_by: Some(77), ..folder() }, GIB);
        assert_eq!(check.state(), State::Ok);
        assert_eq!(
            check.found(),
            "/var/lib/qosd, of qosd with mode 0700, in use by process 77; 1GiB free, the journal has 256MiB and may grow to 1GiB"
        );
    }

    #[test]
    fn what_keeps_the_service_from_writing_is_named() {
        let read_only = of(Folder { writable: Err(Refusal::ReadOnly), ..folder() }, GIB);
        assert!(read_only.found().contains("read-only") && read_only.fix().starts_with("mount -o remount,rw"), "{read_only:?}");
        let denied = of(Folder { writable: Err(Refusal::Denied), ..folder() }, GIB);
        assert_eq!(denied.state(), State::Note, "of the service's own folder it alone can tell");
        let denied = of(Folder { writable: Err(Refusal::Denied), owner: (0, "root".to_owned()), ..folder() }, GIB);
        assert!(denied.state() == State::Fail && denied.fix() == "chown -R qosd: /var/lib/qosd", "{denied:?}");
        let closed = of(Folder { closed_file: Some("/var/lib/qosd/journal.lock".into()), ..folder() }, GIB);
        assert!(closed.state() == State::Fail && closed.found().contains("journal.lock"), "{closed:?}");
        let missing = journal(&facts(Place::Nothing("/var/lib".into(), Err(Refusal::Denied)), GIB));
        assert!(missing.fix().starts_with("install -d -m 700 -o qosd"), "{missing:?}");
        let elsewhere = journal(&Facts { path: "/srv/qosd".into(), ..facts(Place::Nothing("/srv".into(), Ok(())), GIB) });
        assert!(elsewhere.state() == State::Warn && elsewhere.fix().starts_with("install -d -m 700 -o qosd"), "{elsewhere:?}");
        assert_eq!(journal(&facts(Place::NoFolder, GIB)).state(), State::Fail);
        assert_eq!(journal(&facts(Place::Hidden("Permission denied".to_owned()), GIB)).state(), State::Fail);
    }

    #[test]
    fn a_folder_that_is_open_to_others_or_of_somebody_else_is_warned_of() {
        let open = of(Folder { mode: 0o755, ..folder() }, GIB);
        assert!(open.state() == State::Warn && open.fix() == "chmod 700 /var/lib/qosd", "{open:?}");
        let other = of(Folder { owner: (0, "root".to_owned()), ..folder() }, GIB);
        assert!(other.state() == State::Warn && other.fix() == "chown -R qosd: /var/lib/qosd", "{other:?}");
    }

    #[test]
    fn the_journal_needs_room_for_what_it_may_still_grow_to() {
        assert_eq!(of(folder(), 3 * GIB / 4).state(), State::Ok);
        let little = of(folder(), GIB / 2);
        assert!(little.state() == State::Warn && little.fix().starts_with("set journal.max_size = \"384MiB\""), "{little:?}");
        assert_eq!(of(folder(), 1 << 20).state(), State::Fail);
        assert_eq!(journal(&facts(Place::Nothing("/var/lib".into(), Ok(())), GIB)).state(), State::Ok);
    }

    #[test]
    fn a_small_journal_is_told_in_kibibytes() {
        let small = of(Folder { used: (300 << 10) + 7, ..folder() }, GIB);
        assert!(small.found().contains("the journal has 300KiB and"), "{small:?}");
        assert_eq!([0, 7, 1 << 10, (1 << 20) - 1, (5 << 20) + 9].map(size), ["0B", "7B", "1KiB", "1023KiB", "5MiB"]);
    }

    #[test]
    fn the_holder_of_a_lock_is_found_by_the_file() {
        let locks = "1: POSIX  ADVISORY  WRITE 12 fe:00:4711 0 EOF\n2: FLOCK  ADVISORY  WRITE 34 fe:00:4712 0 EOF\n3: FLOCK  ADVISORY  WRITE 56 fe:00:4711 0 EOF\nrubbish\n";
        assert_eq!(holder(locks, 4711), Some(56));
        assert_eq!(holder(locks, 4712), Some(34));
        assert_eq!(holder(locks, 1), None);
    }
}
