//! Looks at this host and this process: files, sockets, capabilities, users. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use caps::CapSet;
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use nix::unistd::{self, AccessFlags, Gid, Uid, access, getegid, geteuid, getgrouplist, getgroups};

use super::super::credentials::is_one;
use super::ask::Silence;
use super::away::Report;
use super::check::Check;
use super::data::{self, Facts, Folder, Place, Refusal};
use super::files::{self, Entry, Need, Reader};
use super::host::Buffers;
use super::icmp::{self, Access, Groups, Sockets};
use super::stored::{self, History, Lost, Told};
use super::unit::{Found, UNIT, User};
use super::{FILES, data_dir};
use crate::config::{Config, Whereabouts};
use crate::history;
use crate::history::rest::{AtRest, at_rest};
use crate::journal::{self, JOURNAL};
use crate::probe::ping::packet::Family;
use crate::probe::ping::settings::Job;
use crate::probe::ping::socket::{Channel, IcmpSocket};
use crate::settings::explain;

/// The families, in the order in which they are shown.
pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// `journal.max_size` where no config says it.
const DEFAULT_SIZE: u64 = 1 << 30;
/// Who has the journal holds this.
const LOCK: &str = "journal.lock";

/// The files of the history that count for its size.
fn of_the_history(folder: &Path) -> [PathBuf; 2] {
    ["", "-wal"].map(|ending| folder.join(format!("{}{ending}", history::FILE)))
}

/// The files of the journal, as far as they matter here: the main one and its write-ahead file first.
fn of_the_journal(folder: &Path) -> [PathBuf; 4] {
    let [file, wal, shm] = ["", "-wal", "-shm"].map(|ending| folder.join(format!("{JOURNAL}{ending}")));
    [file, wal, shm, folder.join(LOCK)]
}

/// Does what may wait for a disk on a thread of its own, and does not wait for that longer than this.
pub(super) async fn within<T: Send + 'static>(limit: Duration, act: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    match tokio::time::timeout(limit, tokio::task::spawn_blocking(act)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err("looking at it failed".to_owned()),
        Err(_) => Err(format!("no answer within {}", humantime::format_duration(limit))),
    }
}

/// Who runs this, and who the service.
#[derive(Clone, Debug)]
pub(super) struct Person {
    uid: Uid,
    name: String,
    /// The unit's user, if there is a unit and its user exists.
    pub(super) unit: Option<User>,
    unit_name: Option<String>,
}

/// Who runs this, and who the service. Names of users may be somewhere in the network.
pub(super) async fn person(unit: &Found) -> Person {
    let unit = unit.clone();
    let nobody_known = || Person { uid: geteuid(), name: geteuid().to_string(), unit: None, unit_name: None };
    within(FILES, move || named(&unit)).await.unwrap_or_else(|_| nobody_known())
}

fn named(unit: &Found) -> Person {
    let unit_name = match unit {
        Found::Unit(unit) if unit.user.is_empty() => Some("root".to_owned()),
        Found::Unit(unit) => Some(unit.user.clone()),
        _ => None,
    };
    let user = unit_name.as_ref().and_then(|name| unistd::User::from_name(name).ok().flatten());
    let unit = user.map(|user| User { uid: user.uid.as_raw(), gid: user.gid.as_raw() });
    Person { uid: geteuid(), name: name_of(geteuid()), unit, unit_name }
}

fn name_of(uid: Uid) -> String {
    unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

impl Person {
    /// Who looks, and for whom.
    pub(super) fn check(&self) -> Check {
        let me = format!("run as {} (uid {})", self.name, self.uid);
        match (&self.unit_name, self.unit) {
            (Some(name), Some(user)) if user.uid == self.uid.as_raw() => Check::ok("user", format!("{me}, as is {UNIT}: {name}")),
            (Some(name), _) => Check::note("user", format!("{me}, but {UNIT} runs as {name}, who may see other things")),
            (None, _) => Check::note("user", format!("{me}; a service of another user may see other things")),
        }
    }

    /// The unit's user, as one who has to read files.
    fn reader(&self) -> Option<Reader> {
        let (user, name) = (self.unit?, self.unit_name.clone()?);
        let groups = CString::new(name.as_str()).ok().and_then(|name| getgrouplist(&name, Gid::from_raw(user.gid)).ok());
        let groups = groups.map_or_else(|| vec![user.gid], |groups| groups.into_iter().map(Gid::as_raw).collect());
        Some(Reader { uid: user.uid, groups, name })
    }

    /// As whom the service runs, as far as is known.
    fn service(&self) -> (u32, String) {
        match (self.unit, &self.unit_name) {
            (Some(user), Some(name)) => (user.uid, name.clone()),
            _ => (self.uid.as_raw(), self.name.clone()),
        }
    }
}

/// Which ICMP sockets open.
pub(super) fn sockets() -> Vec<Sockets> {
    let access = |opened: io::Result<IcmpSocket>| match opened {
        Ok(_) => Access::Open,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Access::Denied,
        Err(error) => Access::Unavailable(error.to_string()),
    };
    let of = |family| {
        let channel = Channel { family, whole: false };
        Sockets { family, raw: access(IcmpSocket::raw(channel, rand::random())), datagram: access(IcmpSocket::datagram(channel)) }
    };
    FAMILIES.map(of).into()
}

/// The capabilities that this process may use.
pub(super) fn capabilities() -> Result<Vec<String>, String> {
    let held = caps::read(None, CapSet::Effective).map_err(|error| error.to_string())?;
    let mut names: Vec<_> = held.iter().map(ToString::to_string).collect();
    names.sort();
    Ok(names)
}

/// Whose groups may open datagram sockets.
pub(super) fn groups(person: &Person) -> Groups {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").ok().and_then(|text| icmp::range(&text));
    let ours = std::iter::once(getegid()).chain(getgroups().unwrap_or_default()).map(Gid::as_raw);
    Groups { range, ours: ours.collect(), unit: person.unit.map(|user| user.gid) }
}

/// What the pings of a config need of the receive buffer, and what they get.
pub(super) fn buffers(config: Option<&Config>) -> Buffers {
    let rmem_max = fs::read_to_string("/proc/sys/net/core/rmem_max").ok().and_then(|text| text.trim().parse().ok());
    let channel = Channel { family: Family::V4, whole: false };
    let socket = IcmpSocket::raw(channel, rand::random()).or_else(|_| IcmpSocket::datagram(channel));
    let granted = socket.and_then(|socket| socket.receive_buffer()).ok();
    let pings = config.iter().flat_map(|config| &config.assignments).filter_map(|assignment| Some((assignment, assignment.job::<Job>()?)));
    // Series that share a slot send at once; others meet no more often than by chance.
    let mut at_once: BTreeMap<Duration, f64> = BTreeMap::new();
    let (mut rate, mut payload) = (0.0, 0);
    for (assignment, job) in pings {
        rate += assignment.cost.packets_per_second;
        payload = payload.max(job.size);
        *at_once.entry(assignment.schedule.phase()).or_default() += job.spacing.as_secs_f64().recip();
    }
    let mesh = config.and_then(|config| config.mesh.as_ref()).map_or(0.0, |mesh| f64::from(mesh.max_rate.0));
    Buffers { rmem_max, granted, rate: mesh + at_once.into_values().fold(rate, f64::max), payload }
}

/// The journal's folder.
pub(super) async fn folder(whereabouts: Option<&Whereabouts>, config: Option<&Config>, person: &Person) -> Check {
    let path = data_dir(whereabouts);
    let (service, max_size) = (person.service(), config.map_or(DEFAULT_SIZE, |config| config.journal.max_size));
    let me = person.uid.as_raw();
    let shown = path.display().to_string();
    let looked = within(FILES, move || {
        let place = place(&path);
        let on = if let Place::Nothing(above, _) = &place { above } else { &path };
        let free = free(on);
        Facts { path, place, free, max_size, service, me }
    });
    match looked.await {
        Ok(facts) => data::journal(&facts),
        Err(why) => Check::fail(
            "journal",
            format!("{shown}: {why}"),
            "look whether its file system answers, or set agent.data_dir to a folder that does",
        ),
    }
}

/// The history, and what the journal counted as lost: by the word of the service; where none runs, by the files.
pub(super) async fn stored(whereabouts: Option<&Whereabouts>, config: Option<&Config>, report: Result<&Report, Silence>) -> [Check; 2] {
    let (folder, max_size) = (data_dir(whereabouts), config.map_or(DEFAULT_SIZE, |config| config.journal.max_size));
    let told = report.map(|report| (report.history(), report.lost()));
    let looked = within(FILES, move || {
        let bytes = |files: &[PathBuf]| files.iter().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
        let path = folder.join(history::FILE);
        let is_there = path.try_exists();
        let (told, lost) = match told {
            Ok((history, lost)) => (Told::Service(history), Ok(lost)),
            Err(Silence::Away) => (Told::File(at_rest(&folder)), lost_at_rest(&folder)),
            Err(Silence::Unknown) => {
                let why = "the service was not asked".to_owned();
                (Told::File(AtRest::Unknown(why.clone())), Err(why))
            }
        };
        let history = History {
            bytes: is_there.as_ref().map_or(true, |there| *there).then(|| bytes(&of_the_history(&folder))),
            told: is_there.err().map_or(told, |error| Told::File(AtRest::Unknown(error.to_string()))),
            path,
            free: free(&folder),
            journal: bytes(&of_the_journal(&folder)),
            max_size,
        };
        [stored::history(&history), stored::lost(&lost)]
    });
    looked.await.unwrap_or_else(|why| ["history", "rows"].map(|name| Check::note(name, format!("not looked at: {why}"))))
}

/// What a journal that nobody has open says of its losses.
fn lost_at_rest(folder: &Path) -> Result<Lost, String> {
    let [file, wal, ..] = of_the_journal(folder);
    if !file.try_exists().map_err(|error| error.to_string())? {
        return Ok(Lost::default());
    }
    if wal.metadata().is_ok_and(|wal| wal.len() > 0) {
        return Err("the journal was not closed, and no service runs".to_owned());
    }
    let rest = journal::rest(&file).map_err(|error| explain(&error))?;
    Ok(Lost {
        size: rest.dropped_size,
        memory: rest.dropped_memory,
        gone: rest.dropped_gone,
        damaged: rest.damaged,
        dead: rest.dead,
        dropped_dead: rest.dropped_dead,
    })
}

/// Bytes that are free on the file system of a folder.
fn free(folder: &Path) -> Option<u64> {
    statvfs(folder).ok().map(|on| on.blocks_available().saturating_mul(on.fragment_size()))
}

fn place(path: &Path) -> Place {
    let found = match path.metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = path.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(Path::new("/"));
            return Place::Nothing(above.to_owned(), writable(above));
        }
        Err(error) => return Place::Hidden(error.to_string()),
    };
    if !found.is_dir() {
        return Place::NoFolder;
    }
    let files: Vec<PathBuf> = of_the_journal(path).into_iter().filter(|file| file.exists()).collect();
    let inode = path.join(LOCK).metadata().ok().map(|lock| lock.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    Place::Folder(Folder {
        owner: (found.uid(), name_of(Uid::from_raw(found.uid()))),
        mode: found.mode() & 0o7777,
        writable: writable(path),
        used: files.iter().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum(),
        closed_file: files.into_iter().find(|file| access(file, AccessFlags::R_OK | AccessFlags::W_OK).is_err()),
        locked_by: inode.and_then(|inode| data::holder(&locks, inode)),
    })
}

/// The files that the service has to read, with the folders on the way; but for what systemd reads in its stead.
pub(super) async fn files(main: &Path, config: Option<&Config>, person: &Person) -> Check {
    let person = person.clone();
    let main = std::path::absolute(main).unwrap_or_else(|_| main.to_owned());
    let beside = main.parent().unwrap_or(Path::new("/")).join("conf.d");
    let mut paths = vec![main];
    let secrets = config.iter().flat_map(|config| config.influxdb.values()).filter_map(|output| output.secret_file.clone());
    let key = config.and_then(|config| config.mesh.as_ref()).map(|mesh| mesh.key_file.clone());
    paths.extend(secrets.chain(key).filter(|path| !is_one(path)));
    let looked = within(FILES, move || {
        let merged = beside.read_dir().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        paths.extend(merged.filter(|path| path.extension().is_some_and(|extension| extension == "toml")));
        let mut entries: Vec<_> = paths.iter().filter_map(|path| entry(path, Need::Read)).collect();
        let folders: BTreeSet<_> = paths.iter().flat_map(|path| path.ancestors().skip(1)).collect();
        entries.extend(folders.into_iter().filter_map(|path| entry(path, Need::Enter)));
        files::files(&entries, person.reader().as_ref())
    });
    match looked.await {
        Ok(check) => check,
        Err(why) => Check::fail("files", why, "look whether their file system answers"),
    }
}

fn entry(path: &Path, need: Need) -> Option<Entry> {
    let found = path.metadata().ok()?;
    Some(Entry { path: path.to_owned(), owner: found.uid(), group: found.gid(), mode: found.mode() & 0o7777, need })
}

/// Whether files can be made in a folder, without making one.
fn writable(folder: &Path) -> Result<(), Refusal> {
    access(folder, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| match errno {
        Errno::EROFS => Refusal::ReadOnly,
        Errno::EACCES | Errno::EPERM => Refusal::Denied,
        other => Refusal::Other(other.desc().to_owned()),
    })
}
