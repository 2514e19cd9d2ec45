//! A disk that fails under the running service: full, read-only, taken away, slow, lying. Measuring goes on, rows wait in
//! memory, and they are in the journal at most 5 s after the cause is gone. S, P and R numbers are those of the list of faults.
//!
//! Each test has a mount namespace of its own, so that nothing is mounted for anybody else, and it ends with the test.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bed::daemon::{Home, Running};
use crate::bed::net::Namespace;
use crate::bed::process::Process;
use crate::bed::rows::Exported;
use crate::bed::{eventually, short_or_long, tool};

mod damaged;
mod taken_away;
mod traced;

const SECOND: i64 = 1_000_000_000;
/// How long rows may take into the journal once the cause is gone.
const RECOVERED: Duration = Duration::from_secs(5);
/// How soon a fault is noticed.
const NOTICED: Duration = Duration::from_secs(10);
/// Series of one row a second each.
const SERIES: usize = 8;
const FAILS: &str = "journal takes no rows, they wait in memory";

/// qosd with a fast kind, whose folder for data is in a mount namespace of this thread and its children.
struct Bed {
    home: Home,
    namespace: Namespace,
    /// What is mounted, last first.
    mounted: Vec<PathBuf>,
}

impl Bed {
    fn new() -> Self {
        let namespace = Namespace::new();
        unshare(CloneFlags::CLONE_NEWNS).expect("root may make a mount namespace");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).expect("mounts of this namespace can be its own");
        let targets: Vec<_> = (1..=SERIES).map(|host| format!("\"127.0.0.{host}\"")).collect();
        let ping = format!("[ping.fast]\ntargets = [{}]\ninterval = \"1s\"\ncount = 1\ntimeout = \"500ms\"\n", targets.join(", "));
        let home = Home::new(&ping);
        let run = home.path("run");
        fs::create_dir(&run).expect("the folder is ours");
        Self { home: home.with_environment([("RUNTIME_DIRECTORY", run)]), namespace, mounted: Vec::new() }
    }

    /// With its data on a small file system of its own.
    fn on_tmpfs(options: &str) -> Self {
        let mut bed = Self::new();
        let data = bed.data();
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", text(&data)]);
        bed.mounted.push(data);
        bed
    }

    fn data(&self) -> PathBuf {
        self.home.path("data")
    }

    fn start(&self) -> Running {
        self.home.start_in(&self.namespace)
    }

    /// What the service says of itself.
    fn status(&self) -> Value {
        let socket = self.home.path("run/qosd.sock");
        let status = self.home.command(&["status", "--json", "--socket", text(&socket)]);
        serde_json::from_str(&status).unwrap_or_else(|error| panic!("{error}: {status}"))
    }

    fn journal(&self, what: &str) -> Value {
        self.status()["journal"][what].clone()
    }

    /// Waits until that many more slots have their row, wherever it is.
    fn measured(&self, more: u64) {
        let slots = || self.status()["slots"]["rows"].as_u64().expect("a number");
        let before = slots();
        let limit = Duration::from_secs(5 + 2 * more / SERIES as u64);
        eventually(limit, || Some(slots()).filter(|now| *now >= before + more).ok_or_else(|| "measuring does not go on".to_owned()));
    }

    /// Waits until the journal takes nothing, and measures on meanwhile: what comes waits in memory.
    fn fails(&self) {
        eventually(NOTICED, || self.journal("failing").is_string().then_some(()).ok_or_else(|| "nothing fails".to_owned()));
        let waiting = || self.journal("waiting").as_u64().expect("a number");
        let before = waiting();
        self.measured(SERIES as u64 * 3 / 2);
        assert!(waiting() >= before + SERIES as u64, "rows do not wait in memory: {}", self.status()["journal"]);
        assert!(self.journal("failing").is_string(), "{}", self.status()["journal"]);
    }

    /// The cause is gone since then: everything has to be in the journal soon.
    fn recovers(&self, since: Instant) {
        let well = || {
            let journal = self.status()["journal"].clone();
            if journal["failing"].is_null() { Ok(()) } else { Err(journal.to_string()) }
        };
        eventually(RECOVERED.saturating_sub(since.elapsed()), well);
        assert!(since.elapsed() < RECOVERED, "after {:?}", since.elapsed());
        crate::bed::told(&format!("the journal takes rows again after {:?}", since.elapsed()));
        self.measured(1);
    }

    /// Stops it; every slot has its row, and none is lost. Gives the rows of probes.
    fn ends_whole(&self, running: Running) -> Vec<Exported> {
        let status = self.status();
        let (scheduled, journal) = (status["slots"]["scheduled"].as_u64().expect("a number"), &status["journal"]);
        for lost in ["dropped_memory", "dropped_size", "dropped_gone", "damaged"] {
            assert_eq!(journal[lost], 0, "{lost}: {journal}");
        }
        running.stop();
        let rows = self.home.probe_rows();
        assert!(rows.len() as u64 >= scheduled, "{} rows of {scheduled} slots", rows.len());
        assert_consecutive(&rows);
        rows
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for path in self.mounted.iter().rev() {
            // So that the folder can be removed; what fails here ends with the namespace.
            let _ = Command::new("umount").arg("-l").arg(path).output();
        }
    }
}

/// Every series has a row for each second, from its first to its last.
fn assert_consecutive(rows: &[Exported]) {
    let mut series: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for row in rows {
        series.entry(row.tag("target")).or_default().push(row.time());
    }
    assert_eq!(series.len(), SERIES);
    for (target, times) in series {
        for pair in times.windows(2) {
            assert_eq!(pair[1] - pair[0], SECOND, "{target}: a slot is missing or twice");
        }
    }
}

fn assert_all_ok(rows: &[Exported]) {
    let bad: Vec<_> = rows.iter().filter(|row| row.text("result") != "ok" && row.text("error") != "shutdown").collect();
    assert!(bad.is_empty(), "{bad:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the paths of a test are ASCII")
}

/// Runs a program of the host, which must succeed.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Writes until there is no room left.
fn fill(path: &Path) {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).expect("the folder is ours");
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
}

/// (S2)
#[test]
fn a_full_disk_costs_no_row() {
    let bed = Bed::on_tmpfs("size=600k");
    let running = bed.start();
    bed.measured(SERIES as u64);
    for _ in 0..short_or_long(1, 5) {
        let filler = bed.data().join("filler");
        // What the write-ahead file has already is used before anything is missing.
        eventually(Duration::from_mins(1), || {
            fill(&filler);
            bed.journal("failing").is_string().then_some(()).ok_or_else(|| "there is still room".to_owned())
        });
        bed.fails();
        fs::remove_file(filler).expect("it is ours");
        bed.recovers(Instant::now());
    }
    assert_eq!(running.times_said(FAILS), short_or_long(1, 5), "once an episode");
    assert_all_ok(&bed.ends_whole(running));
}

/// (S14)
#[test]
fn without_an_inode_for_its_files_it_measures_and_takes_the_first_that_is_free() {
    let bed = Bed::on_tmpfs("size=8m,nr_inodes=40");
    let used = |number: usize| bed.data().join(format!("used{number}"));
    let most = (0..100).take_while(|number| fs::write(used(*number), "").is_ok()).count();
    let running = bed.start();
    bed.fails();
    assert!(running.said(FAILS).contains("No space left on device"));
    (0..most).for_each(|number| fs::remove_file(used(number)).expect("it is ours"));
    bed.recovers(Instant::now());
    assert_all_ok(&bed.ends_whole(running));
}

/// (S8)
#[test]
fn a_read_only_folder_at_the_start_stops_no_measuring_and_what_was_missed_before_is_told_later() {
    let bed = Bed::on_tmpfs("size=8m");
    let data = bed.data();
    let killed = bed.start();
    bed.measured(2 * SERIES as u64);
    killed.kill();
    run("mount", &["-o", "remount,ro", text(&data)]);
    let running = bed.start();
    bed.fails();
    assert!(running.said(FAILS).contains("Read-only file system"));
    assert!(bed.home.command(&["status", "--socket", text(&bed.home.path("run/qosd.sock"))]).contains("Read-only file system"));
    run("mount", &["-o", "remount,rw", text(&data)]);
    bed.recovers(Instant::now());
    assert_eq!(running.times_said(FAILS), 1, "it is said once");
    let rows = bed.ends_whole(running);
    let skipped = rows.iter().filter(|row| row.text("error") == "restart").count();
    assert!(skipped > 0 && rows.iter().all(|row| ["ok", "skipped"].contains(&row.text("result"))), "{skipped} skipped");
}

/// (S7)
#[test]
fn what_is_in_the_way_of_the_journal_is_left_alone_until_it_is_gone() {
    let bed = Bed::new();
    let (elsewhere, file) = (bed.home.path("precious"), bed.data().join("journal.sqlite3"));
    fs::write(&elsewhere, "precious").expect("the folder is ours");
    std::os::unix::fs::symlink(&elsewhere, &file).expect("the folder is ours");
    let running = bed.start();
    bed.fails();
    bed.measured(SERIES as u64);
    assert!(bed.journal("failing").is_string());
    fs::remove_file(&file).expect("it is ours");
    bed.recovers(Instant::now());
    assert_eq!(fs::read_to_string(elsewhere).expect("it is there"), "precious");
    assert_all_ok(&bed.ends_whole(running));
}

/// (S7)
#[test]
fn a_folder_in_the_place_of_the_journal_is_renamed() {
    let bed = Bed::new();
    fs::create_dir(bed.data().join("journal.sqlite3")).expect("the folder is ours");
    let running = bed.start();
    bed.measured(SERIES as u64);
    assert_all_ok(&bed.ends_whole(running));
    let mut kept = fs::read_dir(bed.data()).expect("it is there").map(|entry| entry.expect("it can be read"));
    let kept = kept.find(|entry| entry.file_name().to_string_lossy().starts_with("journal.sqlite3.damaged-"));
    assert!(kept.expect("it was renamed").path().is_dir());
}

/// (P8)
#[test]
fn a_folder_in_use_or_of_a_later_version_ends_it_with_a_clear_message() {
    let bed = Bed::new();
    let running = bed.start();
    bed.measured(SERIES as u64);
    let second = || bed.namespace.enter(|| bed.home.finished(&["run"]));
    let (status, said) = second();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("journal.sqlite3 is in use by another qosd"), "{said}");
    assert_all_ok(&bed.ends_whole(running));
    // A number alone would be one that was altered.
    let later = rusqlite::Connection::open(bed.data().join("journal.sqlite3")).expect("it is there");
    later.execute_batch("CREATE TABLE later (value); PRAGMA user_version = 99").expect("the file is ours");
    drop(later);
    let (status, said) = second();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("was written by a later qosd: its tables have version 99"), "{said}");
}
