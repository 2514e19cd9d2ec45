//! What this host itself refuses: descriptors and processes. What needs none goes on, the rest says why not, and all is well
//! again when the limit is gone. R numbers are those of the list of faults.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use crate::bed::daemon::{Home, Running};
use crate::bed::eventually;
use crate::bed::net::Namespace;
use crate::bed::rows::Exported;
use crate::scripted_server::{Reply, ScriptedServer};

const LIMIT: Duration = Duration::from_secs(20);

/// Sets a soft limit of the running service, as whoever runs it.
pub(crate) fn limit(running: &Running, what: &str, most: &str) {
    let owner = fs::metadata(format!("/proc/{}", running.pid())).expect("it runs");
    let mut command = Command::new("/usr/bin/prlimit");
    command.uid(owner.uid()).gid(owner.gid()).arg(format!("--pid={}", running.pid())).arg(format!("--{what}={most}:"));
    assert!(command.status().expect("util-linux is there").success(), "{what}={most}");
}

/// What a soft limit may be raised to again.
pub(crate) fn hard(running: &Running, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{}/limits", running.pid())).expect("it runs");
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("proc(5)");
    line.split_whitespace().nth(1).expect("proc(5)").to_owned()
}

/// The lowest descriptor that is free.
fn free_descriptor(running: &Running) -> usize {
    (0..1024).find(|number| !fs::exists(format!("/proc/{}/fd/{number}", running.pid())).unwrap_or(true)).expect("few are in use")
}

/// CPU time in ticks of 10 ms.
fn ticks(running: &Running) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", running.pid())).expect("it runs");
    let words: Vec<_> = stat.rsplit(") ").next().expect("proc(5)").split(' ').collect();
    [11, 12].map(|at: usize| words[at].parse::<u64>().expect("proc(5)")).iter().sum()
}

fn rows(home: &Home, kind: &str) -> Vec<Exported> {
    home.probe_rows().into_iter().filter(|row| row.tag("kind") == kind).collect()
}

/// The first row of a kind after this time that has this result, and this in its error.
fn row(home: &Home, kind: &str, after: i64, result: &str, error: &str) -> i64 {
    eventually(LIMIT, || {
        let rows = rows(home, kind);
        let found = rows.iter().find(|row| row.time() > after && row.text("result") == result && row.text("error").contains(error));
        found.map(Exported::time).ok_or_else(|| format!("no {result} of {kind}: {:?}", rows.last()))
    })
}

/// No slot of these is missing, and none was skipped.
fn assert_every_slot(rows: &[Exported]) {
    assert!(rows.windows(2).all(|pair| pair[1].time() - pair[0].time() == 1_000_000_000), "a slot is missing: {rows:?}");
    assert!(rows.iter().all(|row| row.text("result") != "skipped"), "{rows:?}");
}

/// Pings, GETs and tests every second, and a program called iperf3 that fails at once.
fn home(namespace: &Namespace) -> (Home, ScriptedServer, tempfile::TempDir) {
    let server = namespace.enter(|| ScriptedServer::start([], Reply::status(200)));
    let programs = tempfile::tempdir().expect("there is a place for temporary files");
    let open = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(programs.path(), open(0o755)).expect("the folder is ours");
    let stand_in = programs.path().join("iperf3");
    fs::write(&stand_in, "#!/bin/sh\nexit 1\n").expect("the folder is ours");
    fs::set_permissions(&stand_in, open(0o755)).expect("the file is ours");
    let ping = "[ping.p]\ntargets = [\"127.0.0.1\"]\ninterval = \"1s\"\ncount = 2\nspacing = \"100ms\"\n";
    let http = format!("[http.p]\ntargets = [\"{}\"]\ninterval = \"1s\"\ntimeout = \"900ms\"\n", server.url());
    let iperf3 = "[iperf3.p]\ntargets = [\"127.0.0.1\"]\ninterval = \"2s\"\nduration = \"1s\"\nprotocols = [\"tcp\"]\n";
    let home = Home::new(&(ping.to_owned() + &http + iperf3)).finding_programs_in(programs.path());
    (home, server, programs)
}

/// (R1)
#[test]
fn without_descriptors_ping_goes_on_and_the_others_say_why_not() {
    let namespace = Namespace::new();
    namespace.sysctl("net/ipv4/ping_group_range", "0 65535");
    let (home, _server, _programs) = home(&namespace);
    let running = home.start_in(&namespace);
    let good = row(&home, "http", 0, "ok", "");
    let why = "Too many open files";
    // The lowest may be one that a request had for a moment.
    let refused = eventually(LIMIT, || {
        limit(&running, "nofile", &free_descriptor(&running).to_string());
        let found = rows(&home, "http").into_iter().find(|row| row.time() > good && row.text("result") == "local_error");
        found.ok_or_else(|| "no local_error".to_owned())
    });
    assert!(refused.text("error").contains(why), "{refused:?}");
    row(&home, "iperf3", good, "local_error", why);
    // Whoever waits for the state socket is not accepted, but also not tried again and again.
    let _waiting = UnixStream::connect(home.socket()).expect("it listens");
    let (before, since) = (ticks(&running), row(&home, "http", refused.time(), "local_error", why));
    let until = row(&home, "http", since + 3_000_000_000, "local_error", why);
    let (took, seconds) = (ticks(&running) - before, (until - since) as u64 / 1_000_000_000);
    assert!(took < 50 * seconds, "{took} ticks in {seconds} s: it spins");
    limit(&running, "nofile", &hard(&running, "Max open files"));
    row(&home, "http", until, "ok", "");
    row(&home, "iperf3", until, "tool_error", "");
    let pings = rows(&home, "ping");
    assert_every_slot(&pings);
    assert!(pings.iter().all(|row| row.text("result") == "ok"), "{pings:?}");
    assert_every_slot(&rows(&home, "http"));
    running.stop();
}

/// (R1)
#[test]
fn a_soft_limit_of_32_descriptors_is_raised_at_the_start() {
    let namespace = Namespace::new();
    let (home, _server, _programs) = home(&namespace);
    let home = home.with_descriptors("32:");
    let running = home.start_in(&namespace);
    for (kind, result) in [("ping", "ok"), ("http", "ok"), ("iperf3", "tool_error")] {
        row(&home, kind, 0, result, "");
    }
    running.stop();
}

/// (R2)
#[test]
fn without_processes_only_iperf3_cannot_be_run() {
    let namespace = Namespace::new();
    namespace.sysctl("net/ipv4/ping_group_range", "0 65535");
    let (home, _server, _programs) = home(&namespace);
    // Root may have as many as it likes.
    let home = home.unprivileged();
    let running = home.start_in(&namespace);
    let good = row(&home, "iperf3", 0, "tool_error", "ended with status 1");
    limit(&running, "nproc", "1");
    let refused = row(&home, "iperf3", good, "local_error", "iperf3 cannot be started: Resource temporarily unavailable");
    limit(&running, "nproc", &hard(&running, "Max processes"));
    row(&home, "iperf3", refused, "tool_error", "ended with status 1");
    for kind in ["ping", "http"] {
        let rows = rows(&home, kind);
        assert_every_slot(&rows);
        assert!(rows.iter().all(|row| row.text("result") == "ok"), "{rows:?}");
    }
    running.stop();
}
