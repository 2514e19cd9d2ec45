//! The test bed proves itself: what the other tests take for granted is shown here without qosd.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use crate::bed::http::request;
use crate::bed::influx::{DATABASE, Influx};
use crate::bed::net::{FAR, NO_ROUTE, Namespace, Net, UNREACHABLE};
use crate::bed::process::Process;
use crate::bed::responder::Responder;
use crate::bed::responder::log::Entry;
use crate::bed::responder::rule::Means;
use crate::bed::rows::{Exported, by_key, difference};
use crate::bed::told;
use crate::bed::victoria::Victoria;

/// The type of the ICMP message that came back for an echo, or why none did.
fn echo(from: &Namespace, to: &str, ttl: u32) -> Result<u8, ErrorKind> {
    let to: IpAddr = to.parse().expect("it is written in this file");
    let answer = from.enter(|| if to.is_ipv4() { echo_v4(to, ttl) } else { echo_v6(to, ttl) });
    answer.map_err(|error| error.kind())
}

fn echo_v4(to: IpAddr, ttl: u32) -> std::io::Result<u8> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.set_ttl_v4(ttl)?;
    // The checksum is that of these very words.
    send(&socket, to, [8, 0, 0xa6, 0xad, 0x51, 0x51, 0, 1])?;
    let mut bytes = [0; 1500];
    (&socket).read_exact(&mut bytes[..28]).map(|()| bytes[20])
}

fn echo_v6(to: IpAddr, hops: u32) -> std::io::Result<u8> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_unicast_hops_v6(hops)?;
    send(&socket, to, [128, 0, 0, 0, 0x51, 0x51, 0, 1])?;
    loop {
        let mut bytes = [0; 1500];
        let length = (&socket).read(&mut bytes)?;
        // Neighbour discovery and the like is not for us.
        if length >= 8 && !(130..=143).contains(&bytes[0]) {
            return Ok(bytes[0]);
        }
    }
}

fn send(socket: &Socket, to: IpAddr, packet: [u8; 8]) -> std::io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.send_to(&packet, &SocketAddr::new(to, 0).into()).map(drop)
}

#[test]
fn packets_flow_at_once_through_the_router_in_both_families() {
    let net = Net::new();
    assert_eq!(echo(&net.host, FAR.v4, 64), Ok(0));
    assert_eq!(echo(&net.host, FAR.v6, 64), Ok(129));
}

#[test]
fn the_router_answers_in_place_of_targets_it_cannot_reach() {
    let net = Net::new();
    assert_eq!(echo(&net.host, UNREACHABLE.v4, 64), Ok(3));
    assert_eq!(echo(&net.host, UNREACHABLE.v6, 64), Ok(1));
    assert_eq!(echo(&net.host, FAR.v4, 1), Ok(11));
    assert_eq!(echo(&net.host, FAR.v6, 1), Ok(3));
}

#[test]
fn the_host_has_no_route_elsewhere() {
    let net = Net::new();
    assert_eq!(echo(&net.host, NO_ROUTE.v4, 64), Err(ErrorKind::NetworkUnreachable));
    assert_eq!(echo(&net.host, NO_ROUTE.v6, 64), Err(ErrorKind::NetworkUnreachable));
}

#[test]
fn nft_drops_exactly_every_tenth_echo_of_each_family() {
    let net = Net::new();
    net.far.nft("input", &["icmp type echo-request numgen inc mod 10 0 drop", "icmpv6 type echo-request numgen inc mod 10 0 drop"]);
    for target in [FAR.v4, FAR.v6] {
        let answers: Vec<_> = (0..20).map(|_| echo(&net.host, target, 64).is_ok()).collect();
        let lost: Vec<_> = answers.iter().enumerate().filter(|(_, answered)| !**answered).map(|(index, _)| index).collect();
        assert_eq!(lost.len(), 2, "{target}: {lost:?}");
        assert_eq!(lost[1] - lost[0], 10, "{target}: {lost:?}");
    }
}

#[test]
fn nft_forbids_sending_and_rejects_on_the_way() {
    let net = Net::new();
    net.router
        .nft("forward", &["meta nfproto ipv4 reject with icmp admin-prohibited", "meta nfproto ipv6 reject with icmpv6 admin-prohibited"]);
    assert_eq!(echo(&net.host, FAR.v4, 64), Ok(3));
    assert_eq!(echo(&net.host, FAR.v6, 64), Ok(1));
    net.host.nft("output", &["icmp type echo-request drop", "icmpv6 type echo-request drop"]);
    assert_eq!(echo(&net.host, FAR.v4, 64), Err(ErrorKind::PermissionDenied));
    assert_eq!(echo(&net.host, FAR.v6, 64), Err(ErrorKind::PermissionDenied));
}

#[test]
fn networks_do_not_meet() {
    let (one, other) = (Net::new(), Net::new());
    one.far.nft("input", &["icmp type echo-request drop"]);
    assert_eq!(echo(&one.host, FAR.v4, 64), Err(ErrorKind::WouldBlock));
    assert_eq!(echo(&other.host, FAR.v4, 64), Ok(0));
}

#[test]
fn a_responder_does_what_its_rules_say_when_they_say_and_logs_it() {
    let delay = Duration::from_millis(20);
    let rules = [
        ("10.78.0.1", "delays = ['20ms']"),
        ("fd78::1", "delays = ['20ms']"),
        ("10.78.0.2", "except = [{ acts = [{ error = { type = 3, code = 1 } }] }]"),
        ("fd78::2", "except = [{ acts = [{ error = { type = 1, code = 3 } }] }]"),
        ("10.78.0.3", "except = [{ acts = ['other_source'] }]"),
        ("fd78::3", "except = [{ at = [0] }]"),
    ];
    let rules = rules.map(|(target, rule)| (target.parse().expect("an address"), toml::from_str(rule).expect("a rule"))).into();
    let namespace = Namespace::new();
    let responder = Responder::start(&namespace, rules);
    for (target, answer) in [("10.78.0.1", 0), ("fd78::1", 129), ("10.78.0.2", 3), ("fd78::2", 1), ("10.78.0.3", 0)] {
        assert_eq!(echo(&namespace, target, 64), Ok(answer), "{target}");
    }
    for _ in 0..20 {
        assert_eq!((echo(&namespace, "10.78.0.1", 64), echo(&namespace, "fd78::1", 64)), (Ok(0), Ok(129)));
    }
    for silent in ["10.78.9.9", "fd78::9", "fd78::3"] {
        assert_eq!(echo(&namespace, silent, 64), Err(ErrorKind::WouldBlock), "{silent}");
    }
    let log = responder.stop();
    let of = |target: &str| log.entries.iter().filter(|entry| entry.target.to_string() == target).collect::<Vec<_>>();
    let counts = ["10.78.0.1", "fd78::1", "10.78.0.2", "10.78.0.3", "10.78.9.9"].map(|target| of(target).len());
    assert_eq!(counts, [21, 21, 1, 1, 1]);
    assert_eq!((of("10.78.0.2")[0].replies[0].0, of("10.78.0.3")[0].noise, of("fd78::3")[0].replies.len()), (Means::Error, 1, 0));
    let waited = |entry: &&Entry| Duration::from_nanos((entry.replies[0].1 - entry.left).unsigned_abs()).saturating_sub(delay);
    let mut beyond: Vec<_> = [of("10.78.0.1"), of("fd78::1")].concat().iter().map(waited).collect();
    beyond.sort_unstable();
    told(&format!("replies are written {:?} after they are due, {:?} at most", beyond[21], beyond[41]));
    assert!(beyond[21] < Duration::from_micros(250), "{beyond:?}");
}

#[test]
fn a_child_ends_with_the_test() {
    let process = Process::start(Command::new("sh").args(["-c", "echo $$; exec sleep 600"]));
    let pid = process.said("", Duration::from_secs(5));
    drop(process);
    assert!(!std::path::Path::new("/proc").join(pid).exists());
}

#[test]
fn a_real_influxdb_keeps_rows_over_a_crash_and_gives_them_back_value_by_value() {
    let mut influx = Influx::start();
    let lines = "qos_metrics,target=a,kind=ping ping_avg_ms=10,ping_sent=5i,result=\"ok\" 1700000000000000001";
    write(influx.port, "/write", &[("db", DATABASE)], lines);
    influx.down();
    influx.up();
    let line = json!({"measurement": "qos_metrics", "time": "2023-11-14T22:13:20.000000001Z", "tags": {"target": "a", "kind": "ping"},
        "fields": {"ping_avg_ms": 10.0, "ping_sent": 5, "result": "ok"}});
    let journal = by_key(vec![Exported::parse(&line.to_string())]);
    assert_eq!(difference(&journal, &influx.rows()), Ok(()));
    let types = influx.field_types();
    assert_eq!((types["ping_avg_ms"].as_str(), types["ping_sent"].as_str(), types["result"].as_str()), ("float", "integer", "string"));
}

#[test]
fn a_missing_an_extra_and_a_changed_row_are_all_seen() {
    let row = |time: &str, value: f64| {
        Exported::parse(&json!({"measurement": "m", "time": time, "tags": {}, "fields": {"value": value}}).to_string())
    };
    let (first, second) = ("2023-11-14T22:13:20Z", "2023-11-14T22:13:21Z");
    let journal = by_key(vec![row(first, 1.0)]);
    for other in [vec![], vec![row(first, 1.5)], vec![row(second, 1.0)], vec![row(first, 1.0), row(second, 1.0)]] {
        assert!(difference(&journal, &by_key(other.clone())).is_err(), "{other:?}");
    }
}

#[test]
fn a_real_victoria_metrics_gives_back_what_it_took() {
    let victoria = Victoria::start();
    write(victoria.port, "/api/v2/write", &[("bucket", "b"), ("org", "o")], "m,target=a x=0.123456789012,y=5i 1700000000123456789");
    let metrics = victoria.metrics();
    let x = metrics.iter().find(|metric| metric.labels["__name__"] == "m_x").expect("it was written");
    assert_eq!((x.values.as_slice(), x.timestamps.as_slice()), ([0.123_456_789_012].as_slice(), [1_700_000_000_123].as_slice()));
    assert_eq!(x.labels["target"], "a");
}

fn write(port: u16, path: &str, parameters: &[(&str, &str)], lines: &str) {
    let (status, body) = request("POST", port, path, parameters, lines).expect("the database answers");
    assert_eq!(status, 204, "{body}");
}
