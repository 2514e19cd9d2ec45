//! Hundreds of servers that hang, and some whose answers have no end: nobody else notices, and memory stays where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{LIMIT, RESOLV_CONF, assert_cadence, probe, rows, server};
use crate::bed::daemon::{Home, Running};
use crate::bed::dns::{Dns, Says};
use crate::bed::net::Namespace;
use crate::bed::rows::Exported;
use crate::bed::{eventually, proving, short_or_long, told};
use crate::scripted_server::Reply;

/// By how much slots may be later than those of a qosd beside that nobody is hostile to, in 99 of 100 cases: on a quiet machine
/// nothing that anybody would notice, and on a busy one some times what is usual there.
const LATER_MS: f64 = 2.0;
const LATER_TIMES: f64 = 3.0;

/// Two probes that everything is fine with.
fn undisturbed(port: u16) -> String {
    let ping = "[ping.ping]\ntargets = [\"127.0.0.1\"]\ninterval = \"1s\"\ncount = 5\nspacing = \"100ms\"\n";
    format!("{ping}{}", probe("good", &format!("http://127.0.0.1:{port}/"), ""))
}

/// Waits for some more rows of the two probes that everything is fine with, and sees that none is missing.
fn assert_undisturbed(home: &Home, seconds: usize) {
    let wanted = ["ping", "good"].map(|probe| (probe, rows(home, probe).len() + seconds));
    for (probe, wanted) in wanted {
        eventually(LIMIT + Duration::from_secs(2 * seconds as u64), || {
            let so_far = rows(home, probe).len();
            if so_far >= wanted { Ok(()) } else { Err(format!("{so_far} rows of {probe}")) }
        });
        assert_cadence(&rows(home, probe), Duration::from_secs(1));
    }
}

/// A minute's lateness of the slots of a kind, as qosd tells it: the middle one of all minutes.
fn lateness(home: &Home, kind: &str) -> f64 {
    let of_kind = |row: &Exported| row.float("lateness_p99_ms").filter(|_| row.tag("actor") == kind);
    let mut minutes: Vec<_> = home.rows().iter().filter_map(of_kind).collect();
    minutes.sort_by(f64::total_cmp);
    assert!(minutes.len() >= 2, "qosd tells it once a minute: {minutes:?}");
    minutes[minutes.len() / 2]
}

/// Slots were as punctual as those of a qosd beside. Only the long version sees a minute that is whole.
fn assert_punctual(home: &Home, beside: &Home) {
    if proving() {
        for kind in ["ping", "http"] {
            let (late, usual) = (lateness(home, kind), lateness(beside, kind));
            told(&format!("slots of {kind} were late by {late} ms, those of a qosd beside by {usual} ms"));
            assert!(late <= usual * LATER_TIMES + LATER_MS, "{kind}: late by {late} ms, usual are {usual} ms");
        }
    }
}

/// Memory of a process in bytes: what it has now, or the most that it has had.
fn memory(running: &Running, which: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("the kernel says so");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// The rows of each target of a probe.
fn by_target(home: &Home, probe: &str) -> BTreeMap<String, Vec<Exported>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for row in rows(home, probe) {
        all.entry(row.tag("target").to_owned()).or_default().push(row);
    }
    all
}

/// (D7)
#[test]
fn d7_a_slow_name_server_disturbs_nobody_who_needs_no_name() {
    let namespace = Namespace::new();
    let dns = Dns::start(&namespace);
    dns.say_otherwise(Says::Addresses(vec![std::net::Ipv4Addr::LOCALHOST], 1, Duration::from_secs(5)));
    let (_server, port) = server(&namespace, vec![], Reply::status(200));
    let targets: Vec<_> = (0..500).map(|n| format!("\"http://host{n}.test:{port}/\"")).collect();
    let slow = format!("[http.slow]\ntargets = [{}]\ninterval = \"10s\"\n", targets.join(", "));
    let home = Home::new(&(undisturbed(port) + &slow)).resolving_by(RESOLV_CONF);
    let beside = Home::new(&undisturbed(port));
    let (running, control) = (home.start_in(&namespace), beside.start_in(&namespace));
    assert_undisturbed(&home, short_or_long(15, 185));
    assert_punctual(&home, &beside);
    control.stop();
    let slow = rows(&home, "slow");
    assert!(slow.iter().all(|row| row.text("result") == "dns_error"), "{:?}", slow.iter().find(|row| row.text("result") != "dns_error"));
    assert!(slow.iter().map(|row| row.tag("target")).collect::<BTreeSet<_>>().len() > 400);
    running.stop();
}

/// (H13) Two hundred that accept and never answer, and two hundred that nothing ever comes back from.
#[test]
fn h13_hundreds_of_servers_that_hang_disturb_nobody() {
    let namespace = Namespace::new();
    let (_hanging, at) = server(&namespace, vec![], Reply::Stall);
    let (_server, port) = server(&namespace, vec![], Reply::status(200));
    namespace.nft("input", &["ip daddr 127.0.2.0/24 tcp dport 80 drop"]);
    let table = |name: &str, urls: &mut dyn Iterator<Item = String>| {
        let limits = "interval = \"10s\"\ntimeout = \"3s\"\ndownload = \"/x\"\ndownload_timeout = \"3s\"\n";
        format!("[http.{name}]\ntargets = [{}]\n{limits}", urls.collect::<Vec<_>>().join(", "))
    };
    let silent = table("silent", &mut (1..=200).map(|n| format!("\"http://127.0.1.{n}:{at}/\"")));
    let black_hole = table("hole", &mut (1..=200).map(|n| format!("\"http://127.0.2.{n}/\"")));
    let (home, beside) = (Home::new(&undisturbed(port)), Home::new(&undisturbed(port)));
    let (mut running, control) = (home.start_in(&namespace), beside.start_in(&namespace));
    assert_undisturbed(&home, 3);
    let before = memory(&running, "VmHWM:");
    home.configure(&(undisturbed(port) + &silent + &black_hole));
    running.reload();
    assert_undisturbed(&home, short_or_long(30, 185));
    assert_punctual(&home, &beside);
    let after = memory(&running, "VmHWM:");
    control.stop();
    running.stop();
    told(&format!("{before} bytes, {after} with 400 targets that hang"));
    assert!(after - before <= 32 << 20, "{before} bytes before, {after} with 400 targets that hang");
    for (probe, while_doing) in [("silent", "waiting for the answer"), ("hole", "connecting")] {
        let targets = by_target(&home, probe);
        assert_eq!(targets.len(), 200, "{probe}");
        for rows in targets.values() {
            assert!(rows.len() >= 2, "{rows:?}");
            // The last one may have been on its way when qosd stopped.
            for row in &rows[..rows.len() - 1] {
                let error = format!("get: not done within 3s while {while_doing}; download: not done within 3s while {while_doing}");
                assert_eq!((row.text("result"), row.text("error")), ("timeout", error.as_str()), "{row:?}");
            }
            assert!(rows.windows(2).all(|pair| pair[1].time() - pair[0].time() == 10_000_000_000), "a slot is missing: {rows:?}");
        }
    }
}

/// (H1, H2, H3) In the service.
#[test]
fn answers_without_end_slow_ones_and_bombs_cost_little_memory() {
    let namespace = Namespace::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 200 << 20), &mut packed).expect("memory is large");
    let packed = packed.finish().expect("memory is large");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", packed.len());
    let slow = Reply::Pieces(vec![(Duration::from_millis(10), b"HTTP/1.1 200 OK\r\n\r\n".to_vec()); 1000]);
    let hostile = [
        ("endless", Reply::endless(), "timeout body_too_large"),
        ("slow", slow, "timeout"),
        ("bomb", Reply::Raw([head.as_bytes(), &packed].concat()), "ok"),
    ];
    let servers: Vec<_> = hostile.iter().map(|_| server(&namespace, vec![], Reply::status(200))).collect();
    let probes = hostile.iter().zip(&servers).map(|((name, ..), (_, port))| probe(name, &format!("http://127.0.0.1:{port}/"), ""));
    let home = Home::new(&probes.collect::<String>());
    let running = home.start_in(&namespace);
    let more_rows = |count: usize| {
        let wanted = hostile.each_ref().map(|(name, ..)| (*name, rows(&home, name).len() + count));
        for (name, wanted) in wanted {
            eventually(LIMIT * 10, || if rows(&home, name).len() >= wanted { Ok(()) } else { Err("few rows".to_owned()) });
        }
    };
    more_rows(5);
    let before = memory(&running, "VmHWM:");
    for ((_, reply, _), (server, _)) in hostile.iter().zip(&servers) {
        server.afterwards(reply.clone());
    }
    more_rows(short_or_long(10, 100));
    let after = memory(&running, "VmHWM:");
    running.stop();
    told(&format!("{before} bytes, {after} with hostile answers"));
    assert!(after - before <= 4 << 20, "{before} bytes before, {after} with hostile answers");
    for (name, _, results) in hostile {
        let rows = rows(&home, name);
        let last = &rows[rows.len() - 2];
        assert!(results.split(' ').any(|result| result == last.text("result")), "{last:?}");
    }
}
