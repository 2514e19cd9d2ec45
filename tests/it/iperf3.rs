//! iperf3 as a child, with stand-ins for the program: whatever it does, the row says so in time and no process is left.
//!
//! The stand-ins are found as the real one is, through `PATH`; the runs are those of `qosd iperf3`, which has the service's engine.

#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// One second of test, and five more.
const DEADLINE: Duration = Duration::from_secs(6);
/// The longest from the deadline to the row.
const AFTER: Duration = Duration::from_secs(2);

/// A folder with a program called iperf3 that does this.
fn stand_in(script: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("iperf3");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn command(programs: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qosd"));
    command.arg("iperf3").args(arguments).stdin(Stdio::null());
    command.env_clear().env("PATH", format!("{}:/usr/bin:/bin", programs.display())).env("SECRET", "hunter2");
    command
}

/// The row of a test of 192.0.2.1 that takes 1 s, where the program does this; and the exit status.
fn row(script: &str) -> (Value, i32) {
    let dir = stand_in(script);
    let output = command(dir.path(), &["192.0.2.1", "-t", "1s", "--output", "json"]).output().unwrap();
    (parse(&output), output.status.code().unwrap())
}

fn parse(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn result(row: &Value) -> (&str, &str) {
    let field = |name: &str| row["fields"][name].as_str().unwrap_or_default();
    (field("result"), field("error"))
}

/// A recording of the real program's output.
fn recorded(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/iperf3").join(name);
    format!("cat '{}'", path.display())
}

/// Whether a process of this number runs. A zombie does not, whoever has to reap it.
fn runs(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

fn is_gone(pid: &str) -> bool {
    let start = Instant::now();
    while runs(pid) && start.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(10));
    }
    !runs(pid)
}

#[test]
fn what_iperf3_measured_is_the_row() {
    let (row, status) = row(&recorded("tcp_upload.json"));
    assert_eq!((result(&row).0, status), ("ok", 0));
    assert!((row["fields"]["iperf_bandwidth_mbps"].as_f64().unwrap() - 19_309.036_089_684_666).abs() < 1e-6);
    assert_eq!(row["fields"]["address"], "192.0.2.1");
}

/// (F3)
#[test]
fn the_error_in_the_json_counts_though_the_exit_status_is_0() {
    let (row, status) = row(&recorded("refused.json"));
    assert_eq!((result(&row), status), (("refused", "tcp upload: unable to connect to server: Connection refused"), 1));
}

/// (F4)
#[test]
fn a_busy_server_is_asked_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let asked = dir.path().join("asked");
    let script =
        |then: &str| format!("echo x >>'{0}'; [ $(wc -l <'{0}') = 1 ] && exec {1}; {then}", asked.display(), recorded("busy.json"));
    let (free, _) = row(&script(&recorded("tcp_upload.json")));
    assert_eq!(result(&free).0, "ok");
    fs::remove_file(&asked).unwrap();
    let (busy, status) = row(&script(&recorded("busy.json")));
    assert_eq!((result(&busy), status), (("busy", "tcp upload: the server is busy running a test. try again later"), 1));
    assert_eq!(fs::read_to_string(&asked).unwrap().lines().count(), 2);
}

/// (F1)
#[test]
fn arguments_and_environment_are_ours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let script = format!("{{ printf '%s\\n' \"$@\"; env; }} >'{}'; {}", seen.display(), recorded("tcp_upload.json"));
    let (row, _) = row(&script);
    assert_eq!(result(&row).0, "ok");
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.starts_with("--json\n-c\n192.0.2.1\n-p\n5201\n--connect-timeout\n3000\n-t\n1\n"), "{seen}");
    assert!(seen.contains("LC_ALL=C\n") && !seen.contains("SECRET"), "{seen}");
}

/// (F1)
#[test]
fn no_server_can_be_an_option() {
    let dir = stand_in("exit 0");
    for server in ["--logfile=/tmp/x", "-s", "a b", "$(reboot)", "[--logfile=x]:1"] {
        let output = command(dir.path(), &["-t", "1s", "--", server]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{server}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("targets[0]: "), "{server}");
    }
}

/// (F7)
#[test]
fn a_missing_or_broken_program_is_tool_missing() {
    let empty = tempfile::tempdir().unwrap();
    let closed = stand_in("exit 0");
    fs::set_permissions(closed.path().join("iperf3"), fs::Permissions::from_mode(0o644)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("iperf3")).unwrap();
    for (dir, why) in
        [(&empty, "not found in PATH"), (&closed, "Permission denied (os error 13)"), (&folder, "Permission denied (os error 13)")]
    {
        let mut command = command(dir.path(), &["192.0.2.1", "--output", "json"]);
        let output = command.env("PATH", dir.path()).output().unwrap();
        let row = parse(&output);
        assert_eq!(result(&row), ("tool_missing", format!("tcp upload: iperf3 cannot be run: {why}").as_str()));
        assert_eq!(output.status.code(), Some(1));
    }
}

/// (F5, F6)
#[test]
fn a_program_that_ends_badly_is_a_tool_error() {
    let cut = format!("{} | head -c 300", recorded("tcp_upload.json"));
    let table = [
        ("kill -SEGV $$", "iperf3 was killed by signal 11"),
        ("echo \"iperf3: unrecognized option '--json'\" >&2; exit 1", "iperf3 ended with status 1: iperf3: unrecognized option '--json'"),
        (&cut, "what iperf3 wrote cannot be read: EOF while parsing"),
        ("echo '{\"end\":{\"sum_received\":{\"bits_per_second\":nan}}}'", "what iperf3 wrote cannot be read: expected"),
        ("head -c 100000000 /dev/zero", "iperf3 wrote more than is allowed"),
        ("head -c 10000000 /dev/zero >&2; echo '{}'", "what iperf3 wrote has not the bandwidth at the receiver"),
        (
            "printf '{\"intervals\":'; head -c 1000000 /dev/zero | tr '\\0' '['",
            "what iperf3 wrote cannot be read: EOF while parsing a list",
        ),
    ];
    for (script, why) in table {
        let start = Instant::now();
        let (row, status) = row(script);
        let (result, error) = result(&row);
        assert_eq!((result, status), ("tool_error", 1), "{script}: {error}");
        assert!(error.starts_with(&format!("tcp upload: {why}")), "{script}: {error}");
        assert!(start.elapsed() < DEADLINE, "{script}");
    }
}

/// (F2)
#[test]
fn a_program_that_hangs_is_ended_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    // Neither it nor its child listens to SIGTERM, and the child keeps the output open.
    let script = format!("trap '' TERM; sleep 1000 & echo $$ $! >'{}'; wait; sleep 1000", pids.display());
    let start = Instant::now();
    let (row, status) = row(&script);
    let took = start.elapsed();
    assert_eq!((result(&row), status), (("killed", "tcp upload: iperf3 had not ended after 6s, the test takes 1s"), 1));
    assert!((DEADLINE..DEADLINE + AFTER).contains(&took), "{took:?}");
    for pid in fs::read_to_string(pids).unwrap().split_whitespace() {
        assert!(is_gone(pid), "{pid} still runs");
    }
}

/// (F8)
#[test]
fn a_child_that_outlives_the_program_is_no_reason_to_wait_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("sleep 1000 & echo $! >'{}'", pid.display());
    let (row, _) = row(&script);
    assert_eq!(result(&row).0, "killed");
    assert!(is_gone(&fs::read_to_string(pid).unwrap()));
}

/// (F8)
#[test]
fn the_death_of_qosd_is_the_death_of_its_child() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let programs = stand_in(&format!("echo $$ >'{0}.new'; mv '{0}.new' '{0}'; exec sleep 1000", pid.display()));
    let mut qosd = command(programs.path(), &["192.0.2.1"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !pid.exists() && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = fs::read_to_string(pid).unwrap();
    assert!(runs(&pid));
    qosd.kill().unwrap();
    qosd.wait().unwrap();
    assert!(is_gone(&pid), "{pid} still runs");
}

/// (F5)
#[test]
fn the_child_has_limits() {
    let dir = tempfile::tempdir().unwrap();
    let limits = dir.path().join("limits");
    row(&format!("cat /proc/self/limits /proc/self/status >'{}'; exit 1", limits.display()));
    let limits = fs::read_to_string(limits).unwrap();
    let soft = |name: &str| limits.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()).unwrap();
    assert_eq!(soft("Max address space"), ((256 << 20) + (2 << 20)).to_string());
    assert_eq!((soft("Max core file size"), soft("Max stack size")), ("0", "1048576"));
    assert!((8..=30).contains(&soft("Max cpu time").parse::<u32>().unwrap()), "{}", soft("Max cpu time"));
    assert_eq!(soft("NoNewPrivs:"), "1");
}
