//! The unit as it is shipped, run by a real systemd. Each test boots a host of its own.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::bed::influx::{DATABASE, Influx};
use crate::bed::machine::Machine;
use crate::bed::rows::Exported;
use crate::bed::{eventually, short_or_long, told};
use crate::scripted_server::{Reply, ScriptedServer};

/// A ping of the host itself each second.
const PING: &str = "[agent]\nname = \"a\"\n[ping.self]\ntargets = [\"127.0.0.1\", \"::1\"]\ninterval = \"1s\"\ncount = 1\n";
const SOON: Duration = Duration::from_secs(20);
/// `WatchdogSec` of the unit.
const WATCHDOG: Duration = Duration::from_secs(10);

fn is_ok(row: &Exported, kind: &str, target: &str) -> bool {
    (row.tag("kind"), row.tag("target"), row.text("result")) == (kind, target, "ok")
}

/// A file of the repository.
fn shipped(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)).expect("it is in the repository")
}

/// How long until there is a row of a slot that came after now.
fn measuring_again(machine: &Machine, since: Instant, limit: Duration) -> Duration {
    let known = machine.rows().iter().map(Exported::time).max().unwrap_or_default();
    machine.wait_for_row(limit, |row| row.time() > known && row.text("result") == "ok");
    since.elapsed()
}

fn hung_database() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    (listener, format!("[influxdb.main]\nurl = \"{url}\"\ndatabase = \"qos\"\n"))
}

#[test]
fn every_kind_the_journal_and_the_database_work_inside_the_sandbox_without_a_capability_in_any_thread() {
    let machine = Machine::new("");
    let influx = machine.net.enter(Influx::start);
    let probes = "[iperf3_server]\n[iperf3.self]\ntargets = [\"127.0.0.1\"]\ninterval = \"10s\"\nduration = \"1s\"\n\
        [responder]\nlisten = \"127.0.0.1:9877\"\n[http.self]\ntargets = [\"http://127.0.0.1:9877/\"]\ndownload = \"/testfile.bin\"\ninterval = \"1s\"\n";
    machine.configure(&format!("{PING}{probes}[influxdb.main]\nurl = \"http://127.0.0.1:{}\"\ndatabase = \"{DATABASE}\"\n", influx.port));
    machine.start();
    assert_eq!((machine.show("ActiveState"), machine.show("SubState")), ("active".to_owned(), "running".to_owned()));
    assert!(machine.show("StatusText").contains("series"), "{}", machine.show("StatusText"));
    for (kind, target) in [("ping", "127.0.0.1"), ("ping", "::1"), ("http", "127.0.0.1"), ("iperf3", "127.0.0.1")] {
        machine.wait_for_row(SOON, |row| is_ok(row, kind, target));
    }
    let rows = machine.rows();
    let stamped = rows.iter().filter(|row| is_ok(row, "ping", "127.0.0.1"));
    assert!(stamped.map(|row| row.text("ping_timestamps")).all(|stamps| stamps == "kernel"));
    eventually(SOON, || {
        let stored = machine.net.enter(|| influx.rows());
        let kinds = ["ping", "http", "iperf3"].map(|kind| stored.keys().any(|key| key.tags.get("kind").is_some_and(|of| of == kind)));
        if kinds == [true; 3] { Ok(()) } else { Err(format!("{kinds:?}")) }
    });

    // Also of iperf3, which runs as a server all the time.
    let every_thread = "for p in /proc/[0-9]*; do [ \"$(stat -c %U $p)\" = qosd ] && cat $p/task/*/status; done 2>/dev/null; true";
    let status = machine.done(&["sh", "-c", every_thread]);
    assert!(status.contains("Name:\tiperf3"), "{status}");
    let sets: Vec<_> = ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"]
        .iter()
        .flat_map(|set| status.lines().filter(move |line| line.starts_with(set)))
        .collect();
    assert!(sets.len() > 4 * 10, "all threads were looked at");
    for set in sets {
        assert!(set.ends_with("\t0000000000000000"), "{set}");
    }
    assert_eq!(machine.show("NRestarts"), "0");
}

#[test]
fn a_reload_applies_a_good_config_and_fails_on_a_bad_one_with_the_service_untouched() {
    let machine = Machine::new(PING);
    machine.start();
    let pid = machine.main_pid();
    machine.configure(&PING.replace("\"::1\"", "\"::1\", \"127.0.0.2\""));
    machine.done(&["systemctl", "reload", "qosd"]);
    machine.wait_for_row(SOON, |row| is_ok(row, "ping", "127.0.0.2"));

    machine.configure("[ping.self]\ninterval = \"never\"\n");
    let refused = machine.run(&["systemctl", "reload", "qosd"]);
    assert!(!refused.status.success(), "systemctl has to say that it is bad");
    assert!(machine.log().contains("qosd.toml:2:1: ping.self.interval"), "{}", machine.log());
    measuring_again(&machine, Instant::now(), SOON);
    assert_eq!((machine.main_pid(), machine.show("ActiveState")), (pid, "active".to_owned()));
}

#[test]
fn after_a_kill_it_measures_again_within_three_seconds() {
    let machine = Machine::new(PING);
    machine.start();
    machine.wait_for_row(SOON, |row| is_ok(row, "ping", "127.0.0.1"));
    let killed = Instant::now();
    machine.done(&["kill", "-KILL", &machine.main_pid()]);
    let ready = eventually(SOON, || match machine.show("SubState").as_str() {
        "running" if machine.show("NRestarts") == "1" => Ok(killed.elapsed()),
        other => Err(other.to_owned()),
    });
    let again = measuring_again(&machine, killed, SOON);
    told(&format!("killed: ready after {ready:.2?}, a row after {again:.2?}"));
    assert!(ready < Duration::from_secs(3), "{ready:?}");
    // A second until the next slot, and what it takes to see it.
    assert!(again < Duration::from_secs(5), "{again:?}");
}

#[test]
fn a_wedged_process_is_healed_by_the_watchdog() {
    let machine = Machine::new(PING);
    machine.start();
    let (pid, wedged) = (machine.main_pid(), Instant::now());
    machine.done(&["kill", "-STOP", &pid]);
    let healed = eventually(Duration::from_secs(40), || {
        let now = machine.main_pid();
        if now != pid && machine.show("SubState") == "running" { Ok(wedged.elapsed()) } else { Err(machine.show("SubState")) }
    });
    told(&format!("wedged: healed after {healed:.2?}"));
    assert!(healed < WATCHDOG + Duration::from_secs(3), "{healed:?}");
}

#[test]
fn it_stops_in_time_although_the_database_hangs() {
    let machine = Machine::new("");
    let (_listener, output) = machine.net.enter(hung_database);
    machine.configure(&format!("{PING}{output}"));
    machine.start();
    machine.wait_for_row(SOON, |row| is_ok(row, "ping", "::1"));
    let start = Instant::now();
    machine.done(&["systemctl", "stop", "qosd"]);
    let stopped = start.elapsed();
    told(&format!("stopped after {stopped:.2?}"));
    assert!(stopped < Duration::from_secs(2), "{stopped:?}");
    assert_eq!((machine.show("Result"), machine.show("ExecMainStatus")), ("success".to_owned(), "0".to_owned()));
}

#[test]
fn it_is_never_given_up_however_often_it_is_killed() {
    let machine = Machine::new(PING);
    let (kills, pause) = short_or_long((20, "50ms"), (100, "2s"));
    machine.drop_in("pause", &format!("[Service]\nRestartSec={pause}\n"));
    machine.start();
    for round in 1..=kills {
        machine.done(&["kill", "-KILL", &machine.main_pid()]);
        eventually(SOON, || match machine.show("NRestarts") {
            count if count == round.to_string() && machine.show("SubState") == "running" => Ok(()),
            count => Err(format!("{count} restarts, {}", machine.show("SubState"))),
        });
    }
    measuring_again(&machine, Instant::now(), SOON);
}

#[test]
fn a_bad_config_stops_it_for_a_person_to_look_at() {
    let machine = Machine::new("[ping.self]\ninterval = \"never\"\n");
    assert!(!machine.run(&["systemctl", "start", "qosd"]).status.success());
    // Longer than the pause before a restart.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(
        (machine.show("ActiveState"), machine.show("ExecMainStatus"), machine.show("NRestarts")),
        ("failed".into(), "78".into(), "0".into())
    );
}

#[test]
fn a_credential_is_read_and_seen_by_the_service_alone() {
    let machine = Machine::new("");
    let server = machine.net.enter(|| ScriptedServer::start([], Reply::status(204)));
    machine.write("/etc/credstore/influx_token", "canary-of-a-token\n");
    machine.done(&["chmod", "600", "/etc/credstore/influx_token"]);
    let output = format!("[influxdb.main]\nurl = \"{}\"\norg = \"o\"\nbucket = \"b\"\ntoken_file = \"influx_token\"\n", server.url());
    machine.configure(&format!("{PING}{output}"));
    machine.start();
    let request = eventually(SOON, || server.requests().into_iter().next().ok_or_else(|| machine.log()));
    assert_eq!(request.headers["authorization"], "Token canary-of-a-token");
    assert!(!machine.log().contains("canary"));
    // Who else asks about this config finds it, too.
    machine.done(&["systemctl", "reload", "qosd"]);
    machine.done(&["qosd", "check"]);
    let doctor = machine.run(&["qosd", "doctor"]);
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains("ok unit: ") && doctor.contains("ok config: ") && doctor.contains("ok influxdb.main: "), "{doctor}");
    assert!(!doctor.contains("canary"));
}

#[test]
fn a_stop_in_the_middle_of_a_throughput_test_is_told_as_what_it_is() {
    let iperf3 = "[iperf3_server]\n[iperf3.self]\ntargets = [\"127.0.0.1\"]\ninterval = \"25s\"\nduration = \"20s\"\nprotocols = [\"tcp\"]\nphase = \"aligned\"\n";
    let machine = Machine::new(&format!("{PING}{iperf3}"));
    machine.start();
    let client = "for p in /proc/[0-9]*; do grep -qs -- -c $p/cmdline && grep -qs '^Name:.iperf3' $p/status && exit 0; done; exit 1";
    eventually(Duration::from_secs(40), || if machine.run(&["sh", "-c", client]).status.success() { Ok(()) } else { Err(machine.log()) });
    machine.done(&["systemctl", "stop", "qosd"]);
    let rows = machine.rows();
    let told: Vec<_> = rows.iter().filter(|row| row.tag("kind") == "iperf3").map(|row| (row.text("result"), row.text("error"))).collect();
    assert_eq!(told, [("skipped", "shutdown")]);
}

#[test]
fn with_the_drop_in_without_a_capability_pings_go_through_datagram_sockets() {
    let machine = Machine::new(PING);
    machine.net.sysctl("net/ipv4/ping_group_range", "0 2147483647");
    machine.drop_in("datagram", &shipped("datagram.conf"));
    machine.start();
    for target in ["127.0.0.1", "::1"] {
        machine.wait_for_row(SOON, |row| is_ok(row, "ping", target));
    }
    let status = machine.done(&["cat", &format!("/proc/{}/status", machine.main_pid())]);
    assert!(status.contains("CapBnd:\t0000000000000000"), "{status}");
}

#[test]
fn with_the_drop_in_of_networks_what_is_outside_of_them_is_a_local_error_and_never_loss() {
    let machine = Machine::new(&PING.replace("\"::1\"", "\"203.0.113.1\""));
    machine.net.ip("route add local 203.0.113.0/24 dev lo");
    machine.drop_in("networks", &shipped("networks.conf"));
    machine.start();
    machine.wait_for_row(SOON, |row| is_ok(row, "ping", "127.0.0.1"));
    machine.wait_for_row(SOON, |row| row.tag("target") == "203.0.113.1" && row.text("result") == "local_error");
    assert!(machine.rows().iter().all(|row| row.tag("target") != "203.0.113.1" || !row.fields.contains_key("ping_packet_loss_pct")));
}

#[test]
fn the_unit_has_no_errors_and_little_exposure() {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let analyze = |arguments: &[&str], dropped_in: Option<&str>| {
        // The program need not be installed here.
        let unit = shipped("qosd.service").replace("/usr/bin/qosd", "/bin/true");
        let drop_ins = dir.path().join("qosd.service.d");
        std::fs::create_dir_all(&drop_ins)
            .and_then(|()| std::fs::write(dir.path().join("qosd.service"), unit))
            .expect("the folder is ours");
        if let Some(name) = dropped_in {
            std::fs::write(drop_ins.join(name), shipped(name)).expect("the folder is ours");
        }
        let mut command = Command::new("systemd-analyze");
        command.args(arguments).arg("qosd.service").current_dir(dir.path()).env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()));
        let output = command.output().expect("systemd is installed");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let exposure = |dropped_in: Option<&str>| {
        let limit = if dropped_in.is_none() { "15" } else { "11" };
        analyze(&["security", "--offline=true", &format!("--threshold={limit}")], dropped_in)
    };
    let (right, _, errors) = analyze(&["verify", "--man=no"], None);
    assert_eq!((right, errors.as_str()), (true, ""));
    for dropped_in in ["datagram.conf", "networks.conf"] {
        let (right, _, errors) = analyze(&["verify", "--man=no"], Some(dropped_in));
        assert_eq!((right, errors.as_str()), (true, ""), "{dropped_in}");
        std::fs::remove_file(dir.path().join("qosd.service.d").join(dropped_in)).expect("it was put there");
    }
    for dropped_in in [None, Some("datagram.conf")] {
        let (low, said, _) = exposure(dropped_in);
        assert!(low, "{dropped_in:?}: {said}");
    }
}
