//! Ping on a host that changes: addresses, routes and links come and go, others ping as well, the kernel refuses to send.
//! None of it may count as the network's, and all is well again when it is over. N numbers are those of the list of faults.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::bed::daemon::{Home, Running};
use crate::bed::dns::{Dns, Says};
use crate::bed::net::Namespace;
use crate::bed::process::Process;
use crate::bed::responder::packet::message;
use crate::bed::responder::rule::Rule;
use crate::bed::responder::{DEVICE, Responder, STRANGER, plug};
use crate::bed::rows::Exported;
use crate::bed::{eventually, short_or_long, told, tool};
use crate::ping_scenarios::{measured, untrue};

const LIMIT: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_millis(300);
/// A target of each family that always answers.
const TARGETS: [&str; 2] = ["10.78.3.1", "fd78::3:1"];
/// A run a second, over in a fraction of it.
const QUICK: &str = "interval = \"1s\"\ncount = 5\nspacing = \"20ms\"\ntimeout = \"300ms\"";

fn home(targets: &[&str], settings: &str) -> Home {
    Home::new(&format!("[ping.p]\ntargets = {targets:?}\n{settings}\n"))
}

/// Targets that do the same.
fn responder(namespace: &Namespace, targets: &[&str], rule: &str) -> Responder {
    let rule: Rule = toml::from_str(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
    Responder::start(namespace, targets.iter().map(|target| (target.parse().expect("an address"), rule.clone())).collect())
}

/// Waits for a row of each of these after a time that is as wanted, and gives the time of the last of them.
fn each(home: &Home, targets: &[&str], after: i64, wanted: impl Fn(&Exported) -> bool) -> i64 {
    let times = targets.iter().map(|target| {
        eventually(LIMIT, || {
            let rows: Vec<_> = home.probe_rows().into_iter().filter(|row| row.tag("target") == *target && row.time() > after).collect();
            rows.iter().find(|row| wanted(row)).map(Exported::time).ok_or_else(|| format!("none of these: {rows:?}"))
        })
    });
    times.max().expect("there are targets")
}

fn is_ok(row: &Exported) -> bool {
    row.text("result") == "ok"
}

/// Not sent, said so, and no loss.
fn is_local(row: &Exported) -> bool {
    row.text("result") == "local_error" && row.float("ping_packet_loss_pct").is_none() && row.text("error").contains("not sent")
}

/// Every slot has its row, of which none was skipped.
fn assert_every_slot(home: &Home, targets: &[&str]) {
    for target in targets {
        let rows: Vec<_> =
            home.probe_rows().into_iter().filter(|row| row.tag("target") == *target && row.text("error") != "shutdown").collect();
        assert!(rows.windows(2).all(|pair| pair[1].time() - pair[0].time() == 1_000_000_000), "a slot is missing: {rows:?}");
        assert!(rows.iter().all(|row| row.text("result") != "skipped"), "{rows:?}");
    }
}

/// (N14)
#[test]
fn our_own_requests_on_the_loopback_are_no_replies() {
    let namespace = Namespace::new();
    let targets = ["127.0.0.1", "::1"];
    let home = home(&targets, QUICK);
    let running = home.start_in(&namespace);
    each(&home, &targets, 0, is_ok);
    running.stop();
    for row in measured(&home) {
        let counts = ["ping_sent", "ping_received", "ping_duplicates", "ping_corrupt"].map(|name| row.integer(name));
        assert_eq!(counts, [Some(5), Some(5), Some(0), Some(0)], "{row:?}");
    }
}

/// (N15)
#[test]
fn others_who_ping_the_same_targets_under_the_same_numbers_confuse_nobody() {
    let namespace = Namespace::new();
    let responder = responder(&namespace, &TARGETS, "delays = ['40ms', '3ms', '80ms']");
    let home = home(&TARGETS, "interval = \"1s\"\ncount = 40\nspacing = \"20ms\"\ntimeout = \"300ms\"");
    let socket = |domain, protocol| namespace.enter(|| Socket::new(domain, Type::RAW, Some(protocol))).expect("root may have it");
    let sockets = [socket(Domain::IPV4, Protocol::ICMPV4), socket(Domain::IPV6, Protocol::ICMPV6)];
    let running = home.start_in(&namespace);
    let payload = [STRANGER, &[0; 48][..]].concat();
    let mut seen = 0;
    let wanted = short_or_long(200, 4000);
    eventually(Duration::from_secs(short_or_long(20, 120)), || {
        // As long as there is something new to imitate, at once; else a moment later.
        loop {
            let new: Vec<_> = responder.look(|log| log.entries[seen..].to_vec());
            if new.is_empty() {
                break;
            }
            seen += new.len();
            for entry in new {
                let ([a, b], [c, d]) = (entry.ident.to_be_bytes(), entry.sequence.to_be_bytes());
                imitate(&sockets, entry.target, [a, b, c, d], &payload);
            }
        }
        if seen >= wanted { Ok(()) } else { Err(format!("{seen} of {wanted} requests imitated")) }
    });
    running.stop();
    let log = responder.stop();
    assert!(log.strangers as usize >= seen, "{} of {seen} others' requests arrived", log.strangers);
    assert_eq!(untrue(&log, &home.probe_rows(), TIMEOUT), [""; 0]);
    assert!(measured(&home).iter().all(is_ok), "{:?}", measured(&home));
}

/// Sends a stranger's request with these numbers. Of ICMPv6 the kernel makes the checksum.
fn imitate(sockets: &[Socket; 2], target: IpAddr, numbers: [u8; 4], payload: &[u8]) {
    let (socket, kind) = if target.is_ipv4() { (&sockets[0], 8) } else { (&sockets[1], 128) };
    let mut request = message(kind, 0, numbers, payload);
    if target.is_ipv4() {
        let sum = crate::bed::responder::packet::checksum(&request);
        request[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    socket.send_to(&request, &SocketAddr::new(target, 0).into()).expect("the target is routed");
}

/// (N17)
#[test]
fn what_the_kernel_will_not_route_is_a_local_error_by_its_name() {
    let namespace = Namespace::new();
    let responder = responder(&namespace, &TARGETS, "");
    let forbidden = ["10.78.4.1", "fd78::4:1"];
    let unreachable = ["10.78.5.1", "fd78::5:1"];
    for line in ["prohibit 10.78.4.0/24", "prohibit fd78::4:0/112", "unreachable 10.78.5.0/24", "unreachable fd78::5:0/112"] {
        namespace.ip(&format!("{}route add {line}", if line.contains("fd78") { "-6 " } else { "" }));
    }
    let all = [TARGETS, forbidden, unreachable].concat();
    let home = home(&all, QUICK);
    let running = home.start_in(&namespace);
    each(&home, &TARGETS, 0, is_ok);
    each(&home, &forbidden, 0, |row| is_local(row) && row.text("error").contains("EACCES"));
    each(&home, &unreachable, 0, |row| is_local(row) && row.text("error").contains("EHOSTUNREACH"));
    running.stop();
    assert_eq!(untrue(&responder.stop(), &home.probe_rows(), TIMEOUT), [""; 0]);
}

/// (N17)
#[test]
fn a_source_address_that_is_gone_is_a_local_error_until_it_is_back() {
    let namespace = Namespace::new();
    let responder = responder(&namespace, &TARGETS, "");
    let sources = ["10.77.0.5/32", "fd77::5/128 nodad"];
    let address = |what: &str| sources.map(|source| namespace.ip(&format!("address {what} {source} dev {DEVICE}")));
    address("add");
    let settings = |family: usize| {
        format!(
            "[ping.{}]\ntargets = [\"{}\"]\nsource = \"{}\"\n{QUICK}\n",
            ["v4", "v6"][family],
            TARGETS[family],
            ["10.77.0.5", "fd77::5"][family]
        )
    };
    let home = Home::new(&(settings(0) + &settings(1)));
    let running = home.start_in(&namespace);
    let good = each(&home, &TARGETS, 0, is_ok);
    for source in ["10.77.0.5/32", "fd77::5/128"] {
        namespace.ip(&format!("address delete {source} dev {DEVICE}"));
    }
    let bad = each(&home, &TARGETS, good, is_local);
    address("add");
    each(&home, &TARGETS, bad, is_ok);
    running.stop();
    assert_every_slot(&home, &TARGETS);
    assert_eq!(untrue(&responder.stop(), &home.probe_rows(), TIMEOUT), [""; 0]);
}

/// A tracer that has calls which send fail: those named, or all.
fn without_buffers(running: &Running, when: &str) -> Process {
    let calls = "sendmsg,sendmmsg,sendto";
    let inject = format!("inject={calls}:error=ENOBUFS{when}");
    let (pid, trace) = (running.pid().to_string(), format!("trace={calls}"));
    let tracer =
        Process::start(Command::new(tool("strace")).args(["-f", "-q", "-e", &trace, "-e", "signal=none", "-e", &inject, "-p", &pid]));
    tracer.said("ENOBUFS", LIMIT);
    tracer
}

/// (N18)
#[test]
fn a_kernel_that_has_no_buffer_is_asked_once_more_and_then_believed() {
    let namespace = Namespace::new();
    let responder = responder(&namespace, &TARGETS, "");
    let home = home(&TARGETS, "interval = \"1s\"\ncount = 30\nspacing = \"20ms\"\ntimeout = \"300ms\"");
    let running = home.start_in(&namespace);
    let good = each(&home, &TARGETS, 0, is_ok);
    let mut now_and_then = without_buffers(&running, ":when=5+7");
    let bridged = each(&home, &TARGETS, good + 2_000_000_000, is_ok);
    assert!(measured(&home).iter().all(is_ok), "{:?}", measured(&home));
    now_and_then.kill();
    let mut for_good = without_buffers(&running, "");
    let bad = each(&home, &TARGETS, bridged, |row| is_local(row) && row.text("error").contains("ENOBUFS"));
    for_good.kill();
    each(&home, &TARGETS, bad, is_ok);
    running.stop();
    assert_every_slot(&home, &TARGETS);
    assert_eq!(untrue(&responder.stop(), &home.probe_rows(), TIMEOUT), [""; 0]);
    assert!(measured(&home).iter().all(|row| row.float("ping_packet_loss_pct").is_none_or(|loss| loss <= 0.0)), "{:?}", measured(&home));
}

/// (N19)
#[test]
fn a_packet_that_is_too_big_for_the_link_and_must_not_be_split_is_a_local_error() {
    let namespace = Namespace::new();
    let responder = responder(&namespace, &TARGETS, "");
    namespace.ip(&format!("link set {DEVICE} mtu 1280"));
    let home = home(&TARGETS, &format!("size = 1400\ndont_fragment = true\n{QUICK}"));
    let running = home.start_in(&namespace);
    let bad = each(&home, &TARGETS, 0, |row| is_local(row) && row.text("error").contains("EMSGSIZE"));
    namespace.ip(&format!("link set {DEVICE} mtu 1500"));
    each(&home, &TARGETS, bad, is_ok);
    running.stop();
    assert_every_slot(&home, &TARGETS);
    assert_eq!(untrue(&responder.stop(), &home.probe_rows(), TIMEOUT), [""; 0]);
}

/// (N20)
#[test]
fn a_link_that_goes_down_and_comes_up_is_told_and_needs_no_restart() {
    let namespace = Namespace::new();
    let responder = responder(&namespace, &TARGETS, "");
    let home = home(&TARGETS, QUICK);
    let running = home.start_in(&namespace);
    let good = each(&home, &TARGETS, 0, is_ok);
    namespace.ip(&format!("link set {DEVICE} down"));
    let bad = each(&home, &TARGETS, good, is_local);
    plug(&namespace);
    each(&home, &TARGETS, bad, is_ok);
    running.stop();
    assert_every_slot(&home, &TARGETS);
    assert_eq!(untrue(&responder.stop(), &home.probe_rows(), TIMEOUT), [""; 0]);
}

/// (N21)
#[test]
fn an_interface_that_is_deleted_and_made_anew_is_used_again() {
    let namespace = Namespace::new();
    let first = responder(&namespace, &TARGETS, "");
    let home = home(&TARGETS, &format!("interface = \"{DEVICE}\"\n{QUICK}"));
    let running = home.start_in(&namespace);
    let good = each(&home, &TARGETS, 0, is_ok);
    first.stop();
    let bad = each(&home, &TARGETS, good, |row| row.text("result") == "local_error" && row.float("ping_packet_loss_pct").is_none());
    let second = responder(&namespace, &TARGETS, "");
    each(&home, &TARGETS, bad, is_ok);
    running.stop();
    second.stop();
    assert_every_slot(&home, &TARGETS);
}

/// (N22)
#[test]
fn a_host_without_ipv4_measures_in_ipv6() {
    let namespace = Namespace::new();
    let responder = responder(&namespace, &TARGETS, "");
    namespace.ip(&format!("-4 address flush dev {DEVICE}"));
    namespace.ip("-4 address flush dev lo");
    let home = home(&TARGETS, QUICK);
    let running = home.start_in(&namespace);
    each(&home, &TARGETS[..1], 0, is_local);
    each(&home, &TARGETS[1..], 0, is_ok);
    running.stop();
    assert_eq!(untrue(&responder.stop(), &home.probe_rows(), TIMEOUT), [""; 0]);
}

/// (N23)
#[test]
fn of_a_name_with_both_families_each_is_told_by_itself() {
    let namespace = Namespace::new();
    let dns = Dns::start(&namespace);
    let [v4, v6] = TARGETS;
    dns.say("both.test", Says::Both(v4.parse().expect("an address"), v6.parse().expect("an address")));
    for (answers, silent) in [(v4, "ipv6"), (v6, "ipv4")] {
        let responder = responder(&namespace, &[answers], "");
        let home = home(&["both.test"], &format!("family = \"both\"\n{QUICK}")).resolving_by("nameserver 127.0.0.1\n");
        let running = home.start_in(&namespace);
        each(&home, &["both.test"], 0, |row| is_ok(row) && row.tag("family") != silent && row.text("address") == answers);
        each(&home, &["both.test"], 0, |row| row.text("result") == "timeout" && row.tag("family") == silent);
        running.stop();
        responder.stop();
        assert!(measured(&home).iter().all(|row| is_ok(row) != (row.tag("family") == silent)), "{:?}", measured(&home));
    }
}

/// (N24)
#[test]
fn a_link_local_target_is_reached_by_its_interface_and_a_mapped_one_as_what_it_is() {
    let namespace = Namespace::new();
    let (local, mapped) = ("fe80::7801", "::ffff:10.78.3.1");
    let responder = responder(&namespace, &[local, TARGETS[0]], "");
    namespace.ip(&format!("address add fe80::77/64 dev {DEVICE} nodad"));
    let config = format!(
        "[ping.local]\ntargets = [\"{local}\"]\ninterface = \"{DEVICE}\"\n{QUICK}\n[ping.mapped]\ntargets = [\"{mapped}\"]\n{QUICK}\n"
    );
    let home = Home::new(&config);
    let running = home.start_in(&namespace);
    each(&home, &[local], 0, is_ok);
    let row = eventually(LIMIT, || measured(&home).into_iter().find(|row| row.tag("probe") == "mapped").ok_or_else(|| "no row".to_owned()));
    assert_eq!((row.text("result"), row.text("address"), row.tag("family")), ("ok", TARGETS[0], "ipv4"), "{row:?}");
    running.stop();
    responder.stop();
}

/// (N26)
#[test]
fn while_a_route_comes_and_goes_every_packet_has_its_fate() {
    let namespace = Namespace::new();
    let responder = responder(&namespace, &TARGETS, "delays = ['25ms']");
    let home = home(&TARGETS, "interval = \"1s\"\ncount = 45\nspacing = \"20ms\"\ntimeout = \"300ms\"");
    let running = home.start_in(&namespace);
    let flaps = short_or_long(15, 300);
    for _ in 0..flaps {
        namespace.ip("route delete 10.78.0.0/16");
        namespace.ip("-6 route delete fd78::/64");
        // How fast the route flaps, not what is waited for.
        std::thread::sleep(Duration::from_millis(100));
        plug(&namespace);
        std::thread::sleep(Duration::from_millis(100));
    }
    running.stop();
    let rows = measured(&home);
    let sum = |name| rows.iter().filter_map(|row| row.integer(name)).sum::<i64>();
    told(&format!("{flaps} flaps: {} sent, {} received, {} not sent", sum("ping_sent"), sum("ping_received"), sum("ping_local_errors")));
    assert!(sum("ping_local_errors") > 0 && sum("ping_received") > 0, "{rows:?}");
    assert_eq!(sum("ping_sent"), sum("ping_received") + sum("ping_local_errors"), "{rows:?}");
    assert_eq!(untrue(&responder.stop(), &home.probe_rows(), TIMEOUT), [""; 0]);
}
