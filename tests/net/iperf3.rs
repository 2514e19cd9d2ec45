//! iperf3 on a real path: what the real program measures, and what it says of a server that is broken in one way.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::bed::daemon::{Home, Running};
use crate::bed::net::{FAR, Namespace, Net};
use crate::bed::process::Process;
use crate::bed::rows::{Exported, within};
use crate::bed::{eventually, short_or_long, told, tool};

mod server;

/// The longest from the last deadline to the row.
const AFTER: Duration = Duration::from_secs(2);
/// A test of 1 s may take so long.
const DEADLINE: Duration = Duration::from_secs(6);
const SECOND: Duration = Duration::from_secs(1);

/// An iperf3 probe with these settings, and pings every second beside it.
fn config(settings: &str) -> String {
    let ping =
        format!("[ping.beside]\ntargets = [\"{}\"]\ninterval = \"1s\"\ncount = 2\nspacing = \"50ms\"\nphase = \"aligned\"\n", FAR.v4);
    let duration = if settings.contains("duration") { "" } else { "duration = \"1s\"" };
    format!("{ping}[iperf3.test]\ntargets = [\"{}\"]\n{duration}\n{settings}\n", FAR.v4)
}

/// An iperf3 as a person would start it.
fn bare(namespace: &Namespace, arguments: &[&str]) -> Process {
    namespace.enter(|| Process::start(Command::new(tool("iperf3")).args(arguments)))
}

fn server(namespace: &Namespace) -> Process {
    let server = bare(namespace, &["-s", "--forceflush"]);
    server.said("Server listening", SECOND * 5);
    server
}

fn rows(home: &Home, probe: &str) -> Vec<Exported> {
    home.probe_rows().into_iter().filter(|row| row.tag("probe") == probe).collect()
}

fn slot(row: &Exported) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(row.time().unsigned_abs())
}

/// The first row of the test, and how long after its slot it could be read.
fn first(home: &Home, limit: Duration) -> (Exported, Duration) {
    let row = eventually(limit, || rows(home, "test").into_iter().next().ok_or_else(|| "no row".to_owned()));
    let delay = SystemTime::now().duration_since(slot(&row)).expect("a row is written after its slot");
    (row, delay)
}

/// What is wrong with the pings beside: each second has its row, and nothing was skipped.
fn missed(home: &Home) -> Vec<String> {
    let pings = rows(home, "beside");
    let gap = |pair: &[Exported]| pair[1].time() - pair[0].time() != 1_000_000_000;
    let gaps = pings.windows(2).filter(|pair| gap(pair)).map(|pair| format!("gap before {:?}", pair[1]));
    gaps.chain(pings.iter().filter(|row| row.text("result") == "skipped").map(|row| format!("{row:?}"))).collect()
}

/// Runs qosd until the first row of the test is there, which has this result and is there soon after `deadline`.
fn comes_to(net: &Net, settings: &str, deadline: Duration, result: &str) -> Exported {
    let home = Home::new(&config(settings));
    let running = home.start_in(&net.host);
    // A slot comes within an interval, which is 20 s at most.
    let (row, delay) = first(&home, deadline + SECOND * 25);
    assert_eq!(missed(&home), Vec::<String>::new());
    running.stop();
    assert_eq!(row.text("result"), result, "{row:?}");
    assert!(delay < deadline + AFTER, "the row came {delay:?} after its slot: {row:?}");
    row
}

const TCP: &str = "interval = \"5s\"\nprotocols = [\"tcp\"]";
const BOTH: &str = "interval = \"5s\"";

/// (F10)
#[test]
fn a_real_server_gives_bandwidth_jitter_and_loss_and_pings_know_of_the_load() {
    let net = Net::new();
    let _server = server(&net.far);
    let home = Home::new(&config("interval = \"10s\"\nphase = \"aligned\"\ndirection = \"both\""));
    let running = home.start_in(&net.host);
    let (row, _) = first(&home, SECOND * 20);
    eventually(SECOND * 10, || {
        let after = rows(&home, "beside").into_iter().rfind(|ping| ping.time() > row.time() + 6_000_000_000);
        after.ok_or_else(|| "no ping long after the test".to_owned())
    });
    let (pings, missed) = (rows(&home, "beside"), missed(&home));
    running.stop();
    assert_eq!((row.text("result"), row.integer("loaded")), ("ok", Some(0)), "{row:?}");
    for field in ["iperf_bandwidth_mbps", "iperf_download_mbps", "iperf_sent_mbps", "iperf_rtt_ms", "iperf_jitter_ms"] {
        assert!(row.float(field).is_some_and(|figure| figure > 0.0), "{field}: {row:?}");
    }
    assert!(within(row.float("iperf_udp_mbps").expect("UDP was tested"), 10.0, 0.05), "{row:?}");
    assert!(row.integer("iperf_lost_packets").is_some() && row.float("iperf_lost_pct").is_some(), "{row:?}");
    assert_eq!(missed, Vec::<String>::new());
    for ping in pings {
        // The three tests run from the slot on, for 3 s and what it takes to begin and end them.
        let since = ping.time() - row.time();
        let expected = match since {
            0..3_000_000_000 => Some(1),
            ..-500_000_000 | 5_000_000_000.. => Some(0),
            _ => continue,
        };
        assert_eq!(ping.integer("loaded"), expected, "{since} ns after the slot of the test: {ping:?}");
        assert_eq!(ping.text("load_test") == "iperf3/test/10.71.2.1", expected == Some(1), "{ping:?}");
    }
}

#[test]
fn ipv6_is_tested_as_well() {
    let net = Net::new();
    let _server = server(&net.far);
    let home = Home::new(&format!("[iperf3.test]\ntargets = [\"[{}]:5201\"]\nduration = \"1s\"\n{TCP}", FAR.v6));
    let running = home.start_in(&net.host);
    let (row, _) = first(&home, SECOND * 20);
    running.stop();
    assert_eq!((row.text("result"), row.tag("target"), row.tag("family")), ("ok", FAR.v6, "ipv6"), "{row:?}");
}

/// (F10)
#[test]
fn tests_of_several_targets_take_turns() {
    let net = Net::new();
    let _server = server(&net.far);
    let both = format!("targets = [\"{}\", \"{}\"]\ninterval = \"10s\"\nduration = \"1s\"\nphase = \"aligned\"", FAR.v4, FAR.v6);
    let home = Home::new(&format!("[iperf3.test]\n{both}\n"));
    let running = home.start_in(&net.host);
    let rows =
        eventually(SECOND * 25, || Some(rows(&home, "test")).filter(|rows| rows.len() >= 2).ok_or_else(|| "too few rows".to_owned()));
    running.stop();
    for row in rows.iter().take(2) {
        assert_eq!((row.text("result"), row.integer("loaded")), ("ok", Some(0)), "{row:?}");
    }
    assert_eq!(rows[0].time(), rows[1].time(), "they came due together");
}

/// (F3)
#[test]
fn nobody_there_is_refused_at_once() {
    let row = comes_to(&Net::new(), BOTH, AFTER, "refused");
    let why = "unable to connect to server: Connection refused";
    assert_eq!(row.text("error"), format!("tcp upload: {why}; udp upload: {why}"));
}

#[test]
fn a_black_hole_is_a_time_out() {
    let net = Net::new();
    net.far.nft("input", &["tcp dport 5201 drop"]);
    comes_to(&net, BOTH, SECOND * 6, "timeout");
}

#[test]
fn a_router_without_a_route_is_unreachable() {
    let net = Net::new();
    net.router.nft("forward", &["tcp dport 5201 reject with icmpx type host-unreachable"]);
    comes_to(&net, BOTH, AFTER, "unreachable");
}

/// (F2)
#[test]
fn a_server_that_is_frozen_before_the_test_ends_it_at_our_deadline() {
    let net = Net::new();
    let frozen = server(&net.far);
    frozen.signal(Signal::SIGSTOP);
    let row = comes_to(&net, "interval = \"15s\"", DEADLINE * 2, "killed");
    assert!(row.fields.keys().all(|field| !field.starts_with("iperf_")), "{row:?}");
}

/// (F2)
#[test]
fn a_server_that_freezes_in_the_middle_ends_it_at_our_deadline() {
    let net = Net::new();
    let server = server(&net.far);
    thread::scope(|scope| {
        scope.spawn(|| {
            server.said("Accepted connection", SECOND * 25);
            server.signal(Signal::SIGSTOP);
        });
        comes_to(&net, "interval = \"10s\"\nduration = \"3s\"\nprotocols = [\"tcp\"]", SECOND * 8, "killed");
    });
}

#[test]
fn a_server_that_dies_in_the_middle_is_a_tool_error_in_its_own_words() {
    let net = Net::new();
    let server = server(&net.far);
    thread::scope(|scope| {
        scope.spawn(|| {
            server.said("Accepted connection", SECOND * 25);
            server.signal(Signal::SIGKILL);
        });
        let row = comes_to(&net, "interval = \"5s\"\nduration = \"3s\"\nprotocols = [\"tcp\"]", SECOND * 3, "tool_error");
        assert!(row.text("error").starts_with("tcp upload: "), "{row:?}");
    });
}

/// (F4)
#[test]
fn a_server_that_is_busy_is_asked_twice_and_then_busy() {
    let net = Net::new();
    let _server = server(&net.far);
    let other = bare(&net.host, &["-c", FAR.v4, "-t", "60", "--forceflush"]);
    other.said("connected to", SECOND * 5);
    // Two tries, and between them at most the time of a test and 1 s.
    comes_to(&net, TCP, SECOND * 2, "busy");
}

/// A server that follows a script: what it sends after the client's cookie, again and again.
fn scripted(net: &Net, script: impl Fn(&mut std::net::TcpStream) -> std::io::Result<()> + Send + Sync, test: impl FnOnce()) {
    let listener = net.far.enter(|| TcpListener::bind((FAR.v4, 5201)).expect("nobody else is there"));
    listener.set_nonblocking(true).expect("a socket can be");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let Ok((mut client, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                client.set_nonblocking(false).expect("a socket can be");
                client.set_read_timeout(Some(SECOND)).expect("a socket can have one");
                // What the client does then is what is tested.
                let _ = script(&mut client);
            }
        });
        // Also when the test fails: the scope waits for the server.
        let _end = End(&over);
        test();
    });
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The server's half of the protocol, up to the point where it sends its results. Numbers as in iperf3's `iperf_api.h`.
fn up_to_results(client: &mut std::net::TcpStream) -> std::io::Result<()> {
    const PARAM_EXCHANGE: u8 = 9;
    const EXCHANGE_RESULTS: u8 = 13;
    client.read_exact(&mut [0; 37])?;
    for state in [PARAM_EXCHANGE, EXCHANGE_RESULTS] {
        client.write_all(&[state])?;
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        client.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize])?;
    }
    Ok(())
}

/// (F5)
#[test]
fn results_that_claim_four_gigabytes_or_never_stop_nesting_do_no_harm() {
    let net = Net::new();
    let hostile = |results: Vec<u8>, length: u32| {
        let script = move |client: &mut std::net::TcpStream| {
            up_to_results(client)?;
            client.write_all(&length.to_be_bytes())?;
            client.write_all(&results)?;
            // Stays connected until the client has had enough.
            client.set_read_timeout(Some(SECOND * 20))?;
            client.read(&mut [0; 1]).map(|_| ())
        };
        scripted(&net, script, || {
            let home = Home::new(&config("interval = \"5s\"\nprotocols = [\"tcp\"]"));
            let running = home.start_in(&net.host);
            let (row, delay) = first(&home, SECOND * 40);
            assert_eq!(missed(&home), Vec::<String>::new());
            running.stop();
            assert!(["tool_error", "killed"].contains(&row.text("result")), "{row:?}");
            assert!(delay < DEADLINE + AFTER, "the row came {delay:?} after its slot: {row:?}");
            assert!(row.fields.keys().all(|field| !field.starts_with("iperf_")), "{row:?}");
        });
    };
    hostile(Vec::new(), u32::MAX);
    hostile(vec![b'['; 1_000_000], 1_000_000);
}

/// (F2)
#[test]
fn a_server_that_accepts_and_says_nothing_ends_at_our_deadline() {
    let net = Net::new();
    let silent = |client: &mut std::net::TcpStream| {
        client.set_read_timeout(Some(SECOND * 20))?;
        while client.read(&mut [0; 64])? > 0 {}
        Ok(())
    };
    scripted(&net, silent, || drop(comes_to(&net, "interval = \"5s\"\nprotocols = [\"tcp\"]", DEADLINE, "killed")));
}

/// (F7)
#[test]
fn without_the_program_every_slot_has_its_row_and_the_log_one_line() {
    let net = Net::new();
    let nothing = tempfile::tempdir().expect("there is a place for temporary files");
    let home = Home::new(&config("interval = \"2s\"\nprotocols = [\"tcp\"]")).finding_programs_in(nothing.path());
    let running = home.start_in(&net.host);
    let found =
        eventually(SECOND * 15, || Some(rows(&home, "test")).filter(|rows| rows.len() >= 3).ok_or_else(|| "too few rows".to_owned()));
    assert_eq!(running.times_said("install iperf3"), 1, "the line that says what to do");
    assert_eq!(missed(&home), Vec::<String>::new());
    for row in &found {
        assert_eq!((row.text("result"), row.integer("result_code")), ("tool_missing", Some(13)), "{row:?}");
    }
    // It is installed: the next slots find it.
    let _server = server(&net.far);
    std::os::unix::fs::symlink(tool("iperf3"), nothing.path().join("iperf3")).expect("the folder is ours");
    eventually(SECOND * 15, || {
        rows(&home, "test").into_iter().find(|row| row.text("result") == "ok").ok_or_else(|| "no good row".to_owned())
    });
    running.said("iperf3 can be run again");
    running.stop();
}

/// Processes of this parent: number and state.
fn children(parent: u32) -> Vec<(u32, char)> {
    let processes = fs::read_dir("/proc").expect("there is a /proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let of = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut words = stat.rsplit(") ").next()?.split(' ');
        let (state, its_parent) = (words.next()?.chars().next()?, words.next()?.parse::<u32>().ok()?);
        (its_parent == parent).then_some((pid, state))
    };
    processes.filter_map(of).collect()
}

fn in_a_test(running: &Running) -> Vec<(u32, char)> {
    eventually(SECOND * 25, || Some(children(running.pid())).filter(|all| all.len() >= 2).ok_or_else(|| "not two children".to_owned()))
}

/// (F8)
#[test]
fn no_child_outlives_qosd_however_it_ends() {
    let net = Net::new();
    let _server = server(&net.far);
    let home = Home::new(&config("interval = \"20s\"\nduration = \"10s\"\nprotocols = [\"tcp\"]\nphase = \"aligned\"\n[iperf3_server]"));
    for end in [Running::kill as fn(Running), Running::stop] {
        let running = home.start_in(&net.host);
        let children = in_a_test(&running);
        end(running);
        eventually(SECOND * 2, || {
            let left: Vec<_> = children.iter().filter(|(pid, _)| fs::exists(format!("/proc/{pid}")).unwrap_or(true)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?} are left")) }
        });
    }
}

/// (F8)
#[test]
fn many_runs_leave_no_zombie() {
    let net = Net::new();
    let _server = server(&net.far);
    let home = Home::new(&config("interval = \"2s\"\nprotocols = [\"tcp\"]"));
    let running = home.start_in(&net.host);
    let runs = short_or_long(10, 200);
    eventually(SECOND * (2 * runs + 20), || {
        let zombies: Vec<_> = children(running.pid()).into_iter().filter(|(_, state)| *state == 'Z').collect();
        let done = rows(&home, "test").len() as u32;
        // One that has just ended may be seen before it is waited for.
        if done >= runs && zombies.is_empty() { Ok(()) } else { Err(format!("{done} runs, zombies {zombies:?}")) }
    });
    let (all, missed) = (rows(&home, "test"), missed(&home));
    running.stop();
    assert!(all.iter().all(|row| row.text("result") == "ok"), "{all:?}");
    assert_eq!(missed, Vec::<String>::new());
}

#[test]
fn the_bandwidth_is_that_of_a_bare_iperf3() {
    let net = Net::new();
    let _server = server(&net.far);
    net.host.exec(tool("tc"), &["qdisc", "add", "dev", "up0", "root", "tbf", "rate", "200mbit", "burst", "64kb", "latency", "50ms"]);
    let seconds = short_or_long(3, 10).to_string();
    let bare = || {
        let text = net.host.exec(tool("iperf3"), &["-c", FAR.v4, "-t", &seconds, "--json"]);
        let json: serde_json::Value = serde_json::from_str(&text).expect("iperf3 writes JSON");
        json.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64).expect("it was measured") / 1e6
    };
    let before = bare();
    let home = Home::new(&config(&format!("interval = \"15s\"\nduration = \"{seconds}s\"\nprotocols = [\"tcp\"]")));
    let running = home.start_in(&net.host);
    let (row, _) = first(&home, SECOND * 50);
    running.stop();
    let ours = row.float("iperf_bandwidth_mbps").unwrap_or_else(|| panic!("{row:?}"));
    told(&format!("{ours} Mbit/s, a bare iperf3 {before} Mbit/s"));
    assert!(within(ours, before, 0.02), "{ours} Mbit/s, a bare iperf3 {before} Mbit/s");
}
