//! The running program: faults, signals, kills. No slot may be missing afterwards, and none may have two rows.
//!
//! Without the right to ping its rows say `permission`, which is as good here.

#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use qosd::clock::Timestamp;

use crate::daemon::{Daemon, Home, run};
use crate::service::assert_soon;

const SECOND: i64 = 1_000_000_000;
/// Eight series with a slot a second.
const PROBE: &str = r#"
[ping.loopback]
targets = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6", "127.0.0.7", "127.0.0.8"]
interval = "1s"
count = 2
spacing = "50ms"
timeout = "300ms"
"#;
/// How long an actor has to live to be healthy.
const HEALTHY: Duration = Duration::from_millis(50);

/// How many faults of a kind: more when it is to be proven.
fn faults() -> usize {
    if std::env::var_os("QOSD_PROVE").is_some() { 100 } else { 20 }
}

/// Until this many slots have their row.
fn until_rows(daemon: &Daemon, rows: u64) {
    daemon.until(|| daemon.status()["slots"]["rows"].as_u64().unwrap() >= rows);
}

/// The rows: every slot of each series from its first to its last, once. Gives how many were skipped, by the reason.
fn gapless(home: &Home, series: usize) -> BTreeMap<String, usize> {
    let mut times: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut skipped = BTreeMap::new();
    for (target, time, result, error) in home.rows() {
        times.entry(target).or_default().push(time);
        if result == "skipped" {
            *skipped.entry(error).or_default() += 1;
        }
    }
    assert_eq!(times.len(), series);
    for (target, times) in &mut times {
        times.sort_unstable();
        for pair in times.windows(2) {
            assert_eq!(pair[1] - pair[0], SECOND, "{target}: from {} to {}", pair[0], pair[1]);
        }
    }
    skipped
}

#[test]
fn panics_injected_into_the_running_service_are_over_soon_and_leave_no_gap() {
    let home = Home::new(PROBE);
    let daemon = home.start_with_hooks(HEALTHY);
    until_rows(&daemon, 8);
    for actor in ["ping", "writer"] {
        let mut away: Vec<Duration> = (0..faults())
            .map(|_| {
                let away = daemon.panic(actor);
                // A healthy life, as every failure is to be the first.
                thread::sleep(HEALTHY);
                away
            })
            .collect();
        assert_soon(actor, &mut away);
    }
    let restarts = faults() as u64;
    assert_eq!((daemon.actor("ping"), daemon.actor("writer")), ((restarts, true), (restarts, true)));
    until_rows(&daemon, daemon.status()["slots"]["rows"].as_u64().unwrap() + 16);
    daemon.stop();
    let skipped = gapless(&home, 8);
    assert!(skipped.keys().all(|reason| reason == "restart" || reason == "shutdown"), "{skipped:?}");
}

#[test]
fn faults_cannot_be_injected_unless_asked_for_and_not_into_nothing() {
    let home = Home::new(PROBE);
    let daemon = home.start();
    assert_eq!(daemon.ask("POST", "/test/fault/ping/panic").0, 404);
    assert_eq!(daemon.actor("ping"), (0, true));
    daemon.stop();
    let daemon = home.start_with_hooks(HEALTHY);
    assert_eq!(daemon.ask("POST", "/test/fault/nobody/panic").0, 404);
    assert_eq!(daemon.ask("POST", "/test/fault/ping/nothing").0, 404);
    assert_eq!(daemon.ask("GET", "/test/fault/ping/panic").0, 404);
    assert_eq!(daemon.actor("ping"), (0, true));
    daemon.stop();
}

#[test]
fn slots_missed_while_killed_are_skipped_rows_and_a_clean_stop_leaves_none() {
    let home = Home::new(PROBE);
    let daemon = home.start();
    until_rows(&daemon, 16);
    daemon.kill();
    let killed = Instant::now();
    // Dead for a while: these slots are to be told.
    thread::sleep(Duration::from_millis(2500));
    let daemon = home.start();
    let dead = killed.elapsed();
    until_rows(&daemon, 16);
    daemon.stop();
    // No slot is missing, so each that was missed has its row. There are not more: each series may have had one in flight.
    let restart = gapless(&home, 8).get("restart").copied().unwrap_or_default();
    let most = 8 * (dead.as_secs() as usize + 2);
    assert!((16..=most).contains(&restart), "{restart} slots of 8 series missed in {dead:?}");

    let rows = home.rows().len();
    thread::sleep(Duration::from_millis(1500));
    let daemon = home.start();
    let skipped_after: usize = home.rows()[rows..].iter().filter(|row| row.2 == "skipped").count();
    assert_eq!(skipped_after, 0, "a clean stop leaves no rows for the time in which nobody measured");
    daemon.stop();
}

#[test]
fn slots_that_pass_while_an_actor_waits_for_its_start_have_rows_though_qosd_stops_meanwhile() {
    let home = Home::new(PROBE);
    // Never healthy: the waits double.
    let daemon = home.start_with_hooks(Duration::from_hours(1));
    until_rows(&daemon, 8);
    for _ in 0..5 {
        daemon.panic("ping");
    }
    assert_eq!(daemon.ask("POST", "/test/fault/ping/panic").0, 204);
    daemon.until(|| !daemon.actor("ping").1);
    thread::sleep(Duration::from_millis(1500));
    assert!(!daemon.actor("ping").1, "it waits for more than 2 s");
    let asked = Instant::now();
    daemon.stop();
    let newest = home.rows().iter().map(|row| row.1).max().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    let stopped = now - asked.elapsed().as_nanos() as i64;
    assert!(newest > stopped - SECOND, "the last second before the stop has no row");
    let skipped = gapless(&home, 8);
    assert!(skipped["shutdown"] >= 8, "{skipped:?}");
}

#[test]
fn sigusr1_writes_the_state_to_the_log_and_the_service_goes_on() {
    let home = Home::new(PROBE);
    let daemon = home.start();
    daemon.signal(Signal::SIGUSR1);
    daemon.said("abandoned_threads");
    assert_eq!(daemon.actor("ping"), (0, true));
    daemon.stop();
}

#[test]
fn a_second_signal_ends_the_waiting_for_runs_in_flight() {
    // Some run is in flight at any time, for 2 s each.
    let slow = "[ping.slow]\ntargets = [\"127.0.0.1\", \"127.0.0.2\", \"127.0.0.3\", \"127.0.0.4\"]\ninterval = \"3s\"\ncount = 3\nspacing = \"1s\"\n";
    let homes = [Signal::SIGTERM, Signal::SIGINT].map(|second| (second, Home::new(slow)));
    let running = homes.each_ref().map(|(second, home)| (*second, home.start()));
    for ((second, mut daemon), (_, home)) in running.into_iter().zip(&homes) {
        daemon.until(|| daemon.status()["slots"]["scheduled"].as_u64().unwrap() >= 4);
        daemon.signal(Signal::SIGTERM);
        daemon.said("qosd stops");
        daemon.signal(second);
        let (status, after) = daemon.ended();
        assert_eq!(status.code(), Some(0));
        assert!(after <= Duration::from_millis(700), "it ended after {after:?}");
        daemon.said("journal closed");
        assert!(home.rows().len() >= 4, "{:?}", home.rows());
    }
}

#[test]
fn a_second_qosd_on_the_same_journal_says_so_and_ends() {
    let home = Home::new(PROBE);
    let daemon = home.start();
    let output = run(&mut home.command(&["run"]));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is in use by another qosd"), "{said}");
    assert_eq!(daemon.actor("ping"), (0, true), "the first goes on");
    daemon.stop();
}

#[test]
fn a_log_that_nobody_reads_any_more_harms_nothing() {
    let home = Home::new(PROBE);
    let daemon = home.start_unheard();
    until_rows(&daemon, 8);
    daemon.panic("ping");
    daemon.signal(Signal::SIGUSR1);
    until_rows(&daemon, 24);
    assert_eq!((daemon.actor("ping"), daemon.actor("writer")), ((1, true), (0, true)));
    daemon.stop();
    gapless(&home, 8);
}

#[test]
fn a_log_that_takes_nothing_holds_up_neither_the_measuring_nor_the_end() {
    let home = Home::new(&format!("[log]\nlevel = \"trace\"\n{PROBE}"));
    let (daemon, unread) = home.start_stalled();
    until_rows(&daemon, 8);
    daemon.signal(Signal::SIGUSR1);
    until_rows(&daemon, 32);
    daemon.stop();
    drop(unread);
    gapless(&home, 8);
}

#[test]
fn a_log_that_is_read_again_has_every_line_that_waited() {
    let home = Home::new(PROBE);
    let (daemon, unread) = home.start_stalled();
    until_rows(&daemon, 16);
    let read = thread::spawn(move || std::io::read_to_string(unread).unwrap());
    daemon.stop();
    let log = read.join().unwrap();
    for line in ["qosd starts", "qosd is ready", "qosd stops", "journal closed"] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

/// (W4)
#[test]
fn after_a_restart_the_last_row_of_before_is_known_until_there_is_a_new_one() {
    let probe =
        |interval: &str| format!("[ping.a]\ntargets = [\"127.0.0.1\"]\ninterval = \"{interval}\"\ncount = 1\ntimeout = \"200ms\"\n");
    let home = Home::new(&probe("1s"));
    let daemon = home.start();
    daemon.until(|| home.rows().len() >= 2);
    daemon.stop();
    let last = Timestamp::from_nanos(home.rows().last().unwrap().1).to_string();

    // The next slot is far away.
    home.replace(&probe("24h"));
    let daemon = home.start();
    daemon.until(|| daemon.status()["series"][0]["time"] == last.as_str());
    assert!(daemon.status()["series"][0]["age_s"].as_f64().unwrap() > 0.0);
}
