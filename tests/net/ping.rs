//! What ping says of a network that is known to be broken in one way: the right result at once, in both families alike.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bed::daemon::Home;
use crate::bed::net::{FAR, NO_ROUTE, Net, Pair, UNREACHABLE};
use crate::bed::rows::Exported;
use crate::bed::{eventually, short_or_long};

/// The probes of every test here, one a family.
const PROBES: [&str; 2] = ["v4", "v6"];
/// The time-out of two packets, long enough to be told from an answer at once.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest from a slot to its row where nothing has to be waited for: two packets, the journal's flush, a busy machine.
const AT_ONCE: Duration = Duration::from_millis(2500);

/// Every echo.
const DROP: [&str; 2] = ["icmp type echo-request drop", "icmpv6 type echo-request drop"];
/// Exactly every tenth echo of each family.
const DROP_TENTH: [&str; 2] = ["icmp type echo-request numgen inc mod 10 0 drop", "icmpv6 type echo-request numgen inc mod 10 0 drop"];

/// Probe `v4` and probe `v6`, each with these settings.
fn probes(targets: Pair, settings: &str) -> String {
    let Pair { v4, v6 } = targets;
    format!("[ping.v4]\ntargets = [\"{v4}\"]\n{settings}\n[ping.v6]\ntargets = [\"{v6}\"]\n{settings}\n")
}

/// Two packets to a target of each family, with [`TIMEOUT`].
fn two_packets(targets: Pair) -> String {
    probes(targets, "interval = \"5s\"\ncount = 2\nspacing = \"100ms\"\ntimeout = \"5s\"")
}

/// The first row of each probe; all are there within [`AT_ONCE`] of their slot, have this result, and say why.
fn at_once(net: &Net, home: &Home, result: &str) -> [Exported; 2] {
    let running = home.start_in(&net.host);
    let mut seen = HashMap::new();
    let rows = eventually(TIMEOUT * 3, || {
        let rows = first_of_each(home);
        let now = SystemTime::now();
        for row in &rows {
            seen.entry(row.tag("probe").to_owned()).or_insert(now);
        }
        <[_; 2]>::try_from(rows).map_err(|rows| format!("rows of {} probes", rows.len()))
    });
    running.stop();
    for row in &rows {
        assert_eq!(row.text("result"), result, "{row:?}");
        assert_ne!(row.text("error"), "", "{row:?}");
        let slot = UNIX_EPOCH + Duration::from_nanos(row.time().unsigned_abs());
        let delay = seen[row.tag("probe")].duration_since(slot).expect("a row is written after its slot");
        assert!(delay < AT_ONCE, "the row came {delay:?} after its slot: {row:?}");
    }
    rows
}

/// The first row of each probe.
fn first_rows(home: &Home, limit: Duration) -> [Exported; 2] {
    eventually(limit, || first_of_each(home).try_into().map_err(|rows: Vec<_>| format!("rows of {} probes", rows.len())))
}

/// The first row of every probe that has one.
fn first_of_each(home: &Home) -> Vec<Exported> {
    let rows = home.probe_rows();
    PROBES.iter().filter_map(|probe| rows.iter().find(|row| row.tag("probe") == *probe).cloned()).collect()
}

/// The fields of round trips, of which a row without a reply has none.
fn round_trips(row: &Exported) -> Vec<&String> {
    row.fields.keys().filter(|name| name.starts_with("ping_") && name.ends_with("_ms")).collect()
}

#[test]
fn every_tenth_echo_dropped_is_exactly_ten_percent_of_loss() {
    let net = Net::new();
    net.far.nft("input", &DROP_TENTH);
    let home = Home::new(&probes(FAR, "interval = \"2s\"\ncount = 100\nspacing = \"10ms\"\ntimeout = \"500ms\""));
    let running = home.start_in(&net.host);
    let runs = short_or_long(2, 20);
    let rows = eventually(Duration::from_secs(2 * runs + 10), || {
        let rows = home.probe_rows();
        let enough = PROBES.iter().all(|probe| rows.iter().filter(|row| row.tag("probe") == *probe).count() as u64 >= runs);
        if enough { Ok(rows) } else { Err(format!("only {} rows", rows.len())) }
    });
    running.stop();
    for row in rows {
        assert_eq!(row.text("result"), "partial", "{row:?}");
        assert_eq!(row.integer("result_code"), Some(1));
        assert_eq!(row.float("ping_packet_loss_pct"), Some(10.0), "{row:?}");
        assert_eq!((row.integer("ping_sent"), row.integer("ping_received")), (Some(100), Some(90)), "{row:?}");
        assert_eq!(row.integer("ping_duplicates").unwrap_or(0), 0, "{row:?}");
        let [min, avg, max] = ["ping_min_ms", "ping_avg_ms", "ping_max_ms"].map(|name| row.float(name).expect("replies came"));
        assert!(0.0 < min && min <= avg && avg <= max, "{row:?}");
    }
}

#[test]
fn replies_dropped_on_the_way_back_are_loss_as_well() {
    let net = Net::new();
    let replies = ["icmp type echo-reply numgen inc mod 10 0 drop", "icmpv6 type echo-reply numgen inc mod 10 0 drop"];
    net.far.nft("output", &replies);
    let home = Home::new(&probes(FAR, "interval = \"2s\"\ncount = 100\nspacing = \"10ms\"\ntimeout = \"500ms\""));
    let running = home.start_in(&net.host);
    let rows = first_rows(&home, Duration::from_secs(10));
    running.stop();
    for row in rows {
        assert_eq!((row.text("result"), row.float("ping_packet_loss_pct")), ("partial", Some(10.0)), "{row:?}");
    }
}

#[test]
fn no_reply_at_all_is_a_row_with_all_lost_and_no_round_trip() {
    let net = Net::new();
    net.far.nft("input", &DROP);
    let home = Home::new(&probes(FAR, "interval = \"2s\"\ncount = 5\nspacing = \"50ms\"\ntimeout = \"500ms\""));
    let running = home.start_in(&net.host);
    let rows = first_rows(&home, Duration::from_secs(10));
    running.stop();
    for row in rows {
        assert_eq!((row.text("result"), row.integer("result_code")), ("timeout", Some(2)), "{row:?}");
        assert_eq!(row.float("ping_packet_loss_pct"), Some(100.0), "{row:?}");
        assert_eq!((row.integer("ping_sent"), row.integer("ping_received")), (Some(5), Some(0)), "{row:?}");
        assert!(round_trips(&row).is_empty(), "{row:?}");
    }
}

#[test]
fn what_our_own_firewall_forbids_to_send_is_a_local_error_and_not_loss() {
    let net = Net::new();
    net.host.nft("output", &DROP);
    for row in at_once(&net, &Home::new(&two_packets(FAR)), "local_error") {
        assert!(row.text("error").contains("EPERM"), "{row:?}");
        assert_eq!(row.integer("ping_local_errors"), Some(2), "{row:?}");
        assert_eq!(row.float("ping_packet_loss_pct"), None, "nothing was sent, so nothing was lost: {row:?}");
        assert!(round_trips(&row).is_empty(), "{row:?}");
    }
}

#[test]
fn some_packets_forbidden_by_our_own_firewall_are_not_loss_either() {
    let net = Net::new();
    net.host.nft("output", &DROP_TENTH);
    let home = Home::new(&probes(FAR, "interval = \"2s\"\ncount = 100\nspacing = \"10ms\"\ntimeout = \"500ms\""));
    let running = home.start_in(&net.host);
    let rows = first_rows(&home, Duration::from_secs(10));
    running.stop();
    for row in rows {
        assert_eq!(row.integer("ping_local_errors"), Some(10), "{row:?}");
        assert_eq!(row.float("ping_packet_loss_pct"), Some(0.0), "{row:?}");
        assert_eq!((row.integer("ping_sent"), row.integer("ping_received")), (Some(100), Some(90)), "{row:?}");
    }
}

#[test]
fn what_a_queue_of_our_own_host_drops_without_a_word_is_not_loss() {
    let net = Net::new();
    net.host.exec("tc", &["qdisc", "add", "dev", "up0", "root", "tbf", "rate", "16kbit", "burst", "200", "limit", "300"]);
    let home = Home::new(&probes(FAR, "interval = \"2s\"\ncount = 40\nspacing = \"10ms\"\ntimeout = \"500ms\""));
    let running = home.start_in(&net.host);
    let rows = first_rows(&home, Duration::from_secs(10));
    running.stop();
    for row in rows {
        assert_eq!(row.float("ping_packet_loss_pct"), Some(0.0), "{row:?}");
        let (sent, received) = (row.integer("ping_sent").unwrap(), row.integer("ping_received").unwrap());
        assert_eq!(row.integer("ping_local_errors"), Some(sent - received), "{row:?}");
        assert!(received > 0 && received < sent, "{row:?}");
    }
}

#[test]
fn no_route_is_a_local_error_at_once() {
    let net = Net::new();
    for row in at_once(&net, &Home::new(&two_packets(NO_ROUTE)), "local_error") {
        assert!(row.text("error").contains("ENETUNREACH"), "{row:?}");
        assert_eq!(row.float("ping_packet_loss_pct"), None, "{row:?}");
    }
}

#[test]
fn a_router_that_says_unreachable_is_believed_at_once() {
    let net = Net::new();
    for row in at_once(&net, &Home::new(&two_packets(UNREACHABLE)), "unreachable") {
        assert_eq!(row.integer("ping_icmp_errors"), Some(2), "{row:?}");
        assert!(round_trips(&row).is_empty(), "{row:?}");
    }
}

#[test]
fn a_router_that_says_prohibited_is_believed_at_once() {
    let net = Net::new();
    net.router
        .nft("forward", &["meta nfproto ipv4 reject with icmp admin-prohibited", "meta nfproto ipv6 reject with icmpv6 admin-prohibited"]);
    for row in at_once(&net, &Home::new(&two_packets(FAR)), "prohibited") {
        assert_eq!(row.integer("ping_icmp_errors"), Some(2), "{row:?}");
    }
}

#[test]
fn a_packet_whose_ttl_ends_at_the_router_is_told_at_once() {
    let net = Net::new();
    let config = probes(FAR, "interval = \"5s\"\ncount = 2\nspacing = \"100ms\"\ntimeout = \"5s\"\nttl = 1");
    for row in at_once(&net, &Home::new(&config), "ttl_exceeded") {
        assert_eq!(row.integer("ping_icmp_errors"), Some(2), "{row:?}");
    }
}

#[test]
fn a_name_that_does_not_resolve_is_a_dns_error_at_once() {
    let net = Net::new();
    let settings = "targets = [\"nowhere.invalid\"]\ninterval = \"5s\"\ncount = 2\nspacing = \"100ms\"\ntimeout = \"5s\"";
    let config = format!("[ping.v4]\nfamily = \"ipv4\"\n{settings}\n[ping.v6]\nfamily = \"ipv6\"\n{settings}\n");
    // Nobody listens on port 53 of the namespace's loopback.
    let home = Home::new(&config).resolving_by("nameserver 127.0.0.1\n");
    for row in at_once(&net, &home, "dns_error") {
        assert_eq!(row.float("ping_packet_loss_pct"), None, "{row:?}");
    }
}

#[test]
fn a_target_that_comes_back_is_seen_again_without_a_restart() {
    let net = Net::new();
    net.far.nft("input", &DROP);
    let home = Home::new(&probes(FAR, "interval = \"1s\"\ncount = 1\nspacing = \"10ms\"\ntimeout = \"500ms\""));
    let running = home.start_in(&net.host);
    first_rows(&home, Duration::from_secs(10));
    net.far.nft_flush();
    eventually(Duration::from_secs(10), || {
        let rows = home.probe_rows();
        let back = |probe: &str| rows.iter().any(|row| row.tag("probe") == probe && row.text("result") == "ok");
        if PROBES.into_iter().all(back) { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    running.stop();
}

#[test]
fn without_privileges_the_kernel_s_own_ping_sockets_serve_where_they_are_allowed() {
    let net = Net::new();
    net.host.sysctl("net/ipv4/ping_group_range", "0 2147483647");
    let home = Home::new(&two_packets(FAR)).unprivileged();
    let running = home.start_in(&net.host);
    let rows = first_rows(&home, TIMEOUT * 3);
    running.stop();
    for row in rows {
        assert_eq!((row.text("result"), row.integer("ping_received")), ("ok", Some(2)), "{row:?}");
    }
}

#[test]
fn without_privileges_and_ping_sockets_every_row_says_permission() {
    let net = Net::new();
    net.host.sysctl("net/ipv4/ping_group_range", "1 0");
    let home = Home::new(&two_packets(FAR)).unprivileged();
    for row in at_once(&net, &home, "permission") {
        assert_eq!((row.integer("result_code"), row.float("ping_packet_loss_pct")), (Some(15), None), "{row:?}");
    }
}
