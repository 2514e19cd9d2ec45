//! `qosd doctor` on hosts that lack one thing each: it names the cause and the fix, and where the fix can be tried, it helps.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::bed::daemon::Home;
use crate::bed::dns::{Dns, Says};
use crate::bed::influx::{DATABASE, Influx};
use crate::bed::net::Namespace;
use crate::bed::{need_root, tool};
use crate::scripted_server::{Reply, ScriptedServer};

const PING: &str = "[ping.a]\ntargets = [\"127.0.0.1\", \"::1\"]\n";
const IPERF3: &str = "[iperf3.b]\ntargets = [\"127.0.0.1\"]\ninterval = \"1h\"\n";
const NAMED: &str = "[ping.a]\ntargets = [\"host.example\"]\n";

/// What doctor said.
struct Said {
    status: ExitStatus,
    text: String,
}

impl Said {
    fn on(home: &Home, host: &Namespace) -> Self {
        let (status, text) = home.finished_in(host, &["doctor"]);
        Self { status, text }
    }

    /// The line of a check, without its name: `fail: found; fix: …`.
    fn line(&self, name: &str) -> String {
        let mut lines = self.text.lines().filter_map(|line| {
            let (state, rest) = line.split_once(' ')?;
            Some(format!("{state}: {}", rest.strip_prefix(name)?.strip_prefix(": ")?))
        });
        lines.next().unwrap_or_else(|| panic!("no {name} in:\n{}", self.text))
    }

    /// These checks fail, each with these words as its cause and these as its fix; no other does.
    fn fails(&self, expected: &[(&str, &str, &str)]) {
        for (name, cause, fix) in expected {
            let line = self.line(name);
            let (found, said) = line.split_once("; fix: ").unwrap_or_else(|| panic!("{name} needs no fix:\n{}", self.text));
            assert!(found.starts_with("fail: ") && found.contains(cause), "{name} is not failed by {cause:?}: {line}");
            assert!(said.contains(fix), "{name} is not mended by {fix:?}: {line}");
        }
        let failed = self.text.lines().filter(|line| line.starts_with("fail ")).count();
        assert_eq!((failed, self.status.code()), (expected.len(), Some(1)), "{}", self.text);
    }

    /// Nothing fails, and these are well.
    fn is_well(&self, names: &[&str]) {
        for name in names {
            assert!(self.line(name).starts_with("ok: "), "{name}:\n{}", self.text);
        }
        assert_eq!(self.status.code(), Some(0), "{}", self.text);
        assert!(!self.text.contains("fail "), "{}", self.text);
    }
}

/// No group may open datagram sockets in a fresh namespace, which is what `1 0` says.
#[test]
fn without_capability_and_group_both_are_named_and_either_helps() {
    let (host, home) = (Namespace::new(), Home::new(PING).unprivileged());
    let (raw, datagram) = ("setcap cap_net_raw=ep ", "sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"");
    let said = Said::on(&home, &host);
    said.fails(&[
        ("capabilities", "no CAP_NET_RAW (it has none)", raw),
        ("icmp_raw_ipv4", "CAP_NET_RAW is missing", raw),
        ("icmp_raw_ipv6", "CAP_NET_RAW is missing", raw),
        ("icmp_datagram_ipv4", "no group of this process", datagram),
        ("icmp_datagram_ipv6", "no group of this process", datagram),
        ("ping_group_range", "\"1 0\": closed to everybody", datagram),
    ]);
    assert!(said.line("user").contains("run as nobody (uid 65534)"), "{}", said.text);

    Said::on(&Home::new(PING), &host).is_well(&["capabilities", "icmp_raw_ipv4", "icmp_raw_ipv6", "time_stamps_ipv4", "time_stamps_ipv6"]);
    host.sysctl("net/ipv4/ping_group_range", "0 2147483647");
    Said::on(&home, &host).is_well(&[
        "ping_group_range",
        "icmp_datagram_ipv4",
        "icmp_datagram_ipv6",
        "time_stamps_ipv4",
        "time_stamps_ipv6",
    ]);
}

#[test]
fn a_ping_group_that_leaves_this_process_out_is_named() {
    let (host, home) = (Namespace::new(), Home::new(PING).unprivileged());
    host.sysctl("net/ipv4/ping_group_range", "0 1000");
    let said = Said::on(&home, &host);
    let line = said.line("ping_group_range");
    assert!(
        line.starts_with("fail: net.ipv4.ping_group_range is \"0 1000\": closed to every group of this process; fix: sysctl -w"),
        "{line}"
    );
}

/// A folder with this program alone, a shell script.
fn folder_with(home: &Home, program: &str, script: &str) -> PathBuf {
    let folder = home.path("programs");
    fs::create_dir(&folder).expect("the folder is ours");
    let program = folder.join(program);
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("the folder is ours");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("the file is ours");
    folder
}

#[test]
fn a_missing_iperf3_and_one_that_is_too_old_are_named_if_they_are_needed() {
    let (host, install) = (Namespace::new(), "apt-get install iperf3");
    let home = Home::new(IPERF3);
    let folder = folder_with(&home, "another", "");
    Said::on(&home.finding_programs_in(&folder), &host).fails(&[("iperf3", "not found in PATH; needed by iperf3.b", install)]);

    let home = Home::new("[iperf3_server]\n");
    let folder = folder_with(&home, "iperf3", "echo 'iperf 3.1.7 (cJSON 1.5.2)'");
    let home = home.finding_programs_in(&folder);
    Said::on(&home, &host).fails(&[("iperf3", "version 3.1 is too old", install)]);
    home.configure(PING);
    let said = Said::on(&home, &host);
    said.is_well(&[]);
    assert!(said.line("iperf3").starts_with("note: "), "{}", said.text);

    Said::on(&Home::new(IPERF3), &host).is_well(&["iperf3"]);
}

#[test]
fn without_dns_the_name_and_the_server_are_named() {
    let host = Namespace::new();
    Said::on(&Home::new(NAMED).resolving_by("# nothing\n"), &host).fails(&[("dns", "host.example", "nameserver 192.0.2.53")]);
    let home = Home::new(NAMED).resolving_by("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    Said::on(&home, &host).fails(&[("dns", "host.example", "whether 127.0.0.1 answers")]);
    let dns = Dns::start(&host);
    Said::on(&home, &host).fails(&[("dns", "there is no such name", "correct host.example in the config")]);
    dns.say("host.example", Says::address("127.0.0.1"));
    Said::on(&home, &host).is_well(&["dns"]);
}

#[test]
fn a_read_only_data_folder_is_named() {
    let (host, home) = (Namespace::new(), Home::new(PING));
    let look = || {
        let (data, none) = (home.path("data"), None::<&str>);
        unshare(CloneFlags::CLONE_NEWNS).expect("root may make a mount namespace");
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).expect("mounts of this namespace can be its own");
        mount(Some("tmpfs"), &data, Some("tmpfs"), MsFlags::MS_RDONLY, Some("mode=700")).expect("root may mount");
        Said::on(&home, &host).fails(&[("journal", "read-only file system", "mount -o remount,rw")]);
        mount(Some("tmpfs"), &data, Some("tmpfs"), MsFlags::empty(), Some("mode=700,size=8m")).expect("root may mount");
        Said::on(&home, &host).fails(&[("journal", "8MiB free", "make room: df -h")]);
    };
    // What is mounted is so for a thread and its children alone, and ends with them.
    thread::scope(|scope| scope.spawn(look).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn a_data_folder_of_somebody_else_is_named() {
    let (host, home) = (Namespace::new(), Home::new(PING).unprivileged());
    host.sysctl("net/ipv4/ping_group_range", "0 2147483647");
    let data = home.path("data");
    std::os::unix::fs::chown(&data, Some(0), Some(0)).expect("root may");
    fs::set_permissions(&data, Permissions::from_mode(0o700)).expect("root may");
    Said::on(&home, &host).fails(&[("journal", "of root with mode 0700, is closed to nobody", "chown -R nobody: ")]);
}

/// An output of version 1 with a login.
fn login(port: u16, user: &str, password: &str, database: &str) -> (String, String) {
    let config = format!(
        "[influxdb.main]\nurl = \"http://127.0.0.1:{port}\"\ndatabase = \"{database}\"\nusername = \"{user}\"\npassword_file = \"password\"\n"
    );
    (config, format!("{password}\n"))
}

#[test]
fn a_real_influxdb_tells_who_may_write_and_nothing_is_left_in_it() {
    need_root();
    let influx = Influx::start_guarded();
    for query in [
        "CREATE USER w WITH PASSWORD 'secret-w'",
        "GRANT WRITE ON qos TO w",
        "CREATE USER r WITH PASSWORD 'secret-r'",
        "GRANT READ ON qos TO r",
    ] {
        influx.query(query);
    }
    let home = Home::new("");
    let said = |user: &str, password: &str, database: &str, more: &str| {
        let (config, password) = login(influx.port, user, password, database);
        home.file("password", &password);
        home.configure(&format!("{config}{more}"));
        let (status, text) = home.finished(&["doctor"]);
        assert!(!text.contains("secret-"), "{text}");
        Said { status, text }
    };
    said("w", "secret-w", DATABASE, "").is_well(&["influxdb.main"]);
    said("w", "secret-w", DATABASE, "gzip = false\n").is_well(&["influxdb.main"]);
    said("w", "secret-x", DATABASE, "").fails(&[(
        "influxdb.main",
        "401 Unauthorized: authorization failed",
        "put the password of \"w\", who may write to \"qos\" into ",
    )]);
    said("r", "secret-r", DATABASE, "").fails(&[("influxdb.main", "403 Forbidden", "GRANT WRITE ON \"qos\" TO \"r\"")]);
    said("w", "secret-w", "other", "").fails(&[("influxdb.main", "404 Not Found: database not found", "CREATE DATABASE \"other\"")]);
    let policy = "retention_policy = \"week\"\n";
    said("w", "secret-w", DATABASE, policy).fails(&[(
        "influxdb.main",
        "retention policy not found: week",
        "CREATE RETENTION POLICY \"week\" ON \"qos\"",
    )]);
    assert!(influx.query("SHOW SERIES").is_empty() && influx.rows().is_empty());
}

#[test]
fn a_wrong_token_is_named_with_its_file() {
    let (host, home) = (Namespace::new(), Home::new(""));
    let unauthorized = Reply::said(401, r#"{"code":"unauthorized","message":"unauthorized access"}"#);
    let database = host.enter(|| ScriptedServer::start([unauthorized], Reply::status(204)));
    home.file("token", "not-this-one\n");
    home.configure(&format!("[influxdb.main]\nurl = \"{}\"\norg = \"o\"\nbucket = \"b\"\ntoken_file = \"token\"\n", database.url()));
    let said = Said::on(&home, &host);
    let file = home.path("token").display().to_string();
    said.fails(&[(
        "influxdb.main",
        "401 Unauthorized: unauthorized access",
        &format!("put a token that may write to bucket \"b\" of \"o\" into {file}"),
    )]);
    assert!(!said.text.contains("not-this-one"), "{}", said.text);
    Said::on(&home, &host).is_well(&["influxdb.main"]);
    for request in database.requests() {
        assert!(request.path == "/api/v2/write" && request.body.starts_with('#') && !request.body.contains('\n'), "{request:?}");
    }
}

#[test]
fn a_clock_that_is_not_synchronised_is_named() {
    let (host, home) = (Namespace::new(), Home::new(PING).with_own_run());
    let timesync = home.path("run/systemd/timesync");
    fs::create_dir_all(&timesync).expect("the folder is ours");
    let fix = "timedatectl set-ntp true";
    Said::on(&home, &host).fails(&[("clock", "not synchronised, says systemd-timesyncd", fix)]);
    fs::write(timesync.join("synchronized"), "").expect("the folder is ours");
    Said::on(&home, &host).is_well(&["clock"]);

    let home = Home::new("").with_environment([("LD_PRELOAD", tool("libfaketimeMT.so.1")), ("FAKETIME", "@2019-01-01 00:00:00".into())]);
    let said = Said::on(&home, &host);
    let line = said.line("clock");
    assert!(line.starts_with("fail: not set: it shows 2019-01-01T00:00:0") && line.contains(fix), "{line}");
}

/// systemd as far as doctor asks it: a folder that says that it runs this host, and what `systemctl show` prints.
#[test]
fn what_the_user_of_the_unit_lacks_is_named_also_if_root_asks() {
    let (host, home) = (Namespace::new(), Home::new(PING).with_own_run());
    fs::create_dir_all(home.path("run/systemd/system")).expect("the folder is ours");
    let shown = "LoadState=loaded\\nActiveState=inactive\\nSubState=dead\\nResult=success\\nUser=nobody\\nAmbientCapabilities=\\n";
    let folder = folder_with(&home, "systemctl", &format!("printf '{shown}'"));
    let home = home.finding_programs_in(&folder);
    // The config that only its owner can read, in a folder that only its owner can enter, is root's.
    home.configure(PING);
    let said = Said::on(&home, &host);
    said.fails(&[
        ("unit", "without CAP_NET_RAW, and datagram ICMP is closed", "AmbientCapabilities=CAP_NET_RAW"),
        ("files", "nobody, as whom the service runs, may not read", &format!("chgrp \"$(id -gn nobody)\" {}", home.config())),
    ]);
    let journal = said.line("journal");
    assert!(journal.starts_with("warn: ") && journal.contains("chown -R nobody: "), "{journal}");
    assert!(said.line("user").starts_with("note: run as root (uid 0), but qosd.service runs as nobody"), "{}", said.text);
}

#[test]
fn beside_a_running_service_all_is_well_and_the_service_is_not_disturbed() {
    need_root();
    let influx = Influx::start();
    let home = Home::new(&format!("{}{PING}{IPERF3}", influx.output("main", Duration::from_millis(100))));
    let running = home.start();
    let (status, text) = home.finished(&["doctor"]);
    let said = Said { status, text };
    said.is_well(&["config", "capabilities", "iperf3", "journal", "history", "rows", "service", "influxdb.main"]);
    let pid = running.pid();
    assert!(said.line("journal").contains(&format!("in use by process {pid};")), "{}", said.text);
    assert!(said.line("service").contains(&format!("process {pid} answers on ")), "{}", said.text);
    running.stop();
}

#[test]
fn nothing_that_hangs_holds_it_up() {
    let host = Namespace::new();
    let home = Home::new("").resolving_by("nameserver 127.0.0.1\n");
    let dns = Dns::start(&host);
    dns.say_otherwise(Says::Silence);
    let database = host.enter(|| ScriptedServer::start([], Reply::Stall));
    let folder = folder_with(&home, "iperf3", "exec /bin/sleep 60");
    let url = database.url();
    home.configure(&format!("{NAMED}{IPERF3}[influxdb.slow]\nurl = \"{url}\"\ndatabase = \"x\"\ntimeout = \"5m\"\n[influxdb.lost]\nurl = \"http://database.example:8086\"\ndatabase = \"x\"\ntimeout = \"5m\"\n"));
    let home = home.finding_programs_in(&folder);
    let begun = Instant::now();
    let said = Said::on(&home, &host);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    said.fails(&[
        ("dns", "host.example", "whether 127.0.0.1 answers"),
        ("iperf3", "no end within 3s", "iperf3 --version has to end"),
        ("influxdb.slow", "no whole answer within 10s", "start the database"),
        ("influxdb.lost", "does not answer", "correct influxdb.lost.url"),
    ]);
}

#[test]
fn a_wrong_config_is_named_and_the_rest_is_looked_at_all_the_same() {
    let (host, home) = (Namespace::new(), Home::new("[ping.a]\ntargets = []\ncolour = \"red\"\n"));
    let said = Said::on(&home, &host);
    said.fails(&[("config", "qosd.toml:", "qosd check --config ")]);
    assert!(
        said.line("journal").contains(&home.path("data").display().to_string()) && said.line("outputs").starts_with("note: "),
        "{}",
        said.text
    );
    fs::remove_file(home.path("qosd.toml")).expect("the file is ours");
    let said = Said::on(&home, &host);
    let (cause, fix) = ("qosd.toml: cannot be read", format!("write {}", home.config()));
    said.fails(&[("config", cause, &fix)]);
}
