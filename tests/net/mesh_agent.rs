//! The agent of a mesh on real packets, against a collector as the existing server is. M numbers are those of the list of faults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::daemon::{Home, QOSD, pause};
use crate::bed::eventually;
use crate::bed::net::{FAR, Net, UNREACHABLE};
use crate::bed::rows::{Exported, within};
use crate::existing_collector::{Collector, KEY};

const SECOND: i64 = 1_000_000_000;
const LIMIT: Duration = Duration::from_secs(30);
/// All but the agent itself: three series.
const PEERS: usize = 3;

/// The far end has both protocols; `gone` is unreachable; the rest may not be pinged at all.
fn list() -> Value {
    let peer = |name: &str, address: &str| json!({ "name": name, "proto": if address.contains(':') { 6 } else { 4 }, "address": address });
    json!({ "probes": [
        peer("under-test", "10.71.1.1"),
        peer("far", FAR.v4),
        peer("far", FAR.v6),
        peer("gone", UNREACHABLE.v4),
        peer("myself", "10.71.1.1"),
        peer("all-of-us", "10.71.1.255"),
        peer("loopback", "127.0.0.1"),
    ] })
}

/// A collector on the host's loopback, and an agent's home with it.
fn bed(interval: &str) -> (Net, Collector, Home) {
    let net = Net::new();
    let collector = net.host.enter(|| Collector::start(list().to_string()));
    collector.lock().schedule = Some(format!("{{\"ping\":{{\"interval\":\"{interval}\",\"count\":4,\"spacing\":\"100ms\"}}}}"));
    let home = Home::new(&format!("[mesh]\ncollector = \"{}\"\nkey_file = \"mesh_key\"\nprotocol = \"v1\"\n", collector.url()));
    home.file("mesh_key", KEY);
    (net, collector, home)
}

/// Slot, target and proto of a result.
type Key = (i64, String, u64);

/// The mesh's rows.
fn rows(home: &Home) -> BTreeMap<Key, Exported> {
    let rows = home.probe_rows().into_iter().filter(|row| row.tag("probe") == "mesh");
    let proto = |row: &Exported| if row.tag("family") == "ipv4" { 4 } else { 6 };
    rows.map(|row| ((row.time(), row.tag("target").to_owned(), proto(&row)), row)).collect()
}

/// What the collector stored: each result once, or as often the very same.
fn posted(collector: &Collector) -> BTreeMap<Key, Value> {
    let mut all = BTreeMap::new();
    for post in collector.stored() {
        assert_eq!(post.json()["source"], "under-test");
        for item in post.items() {
            let key = (
                post.slot.expect("every post of ours has its slot"),
                item["name"].as_str().unwrap_or_default().to_owned(),
                item["proto"].as_u64().unwrap_or_default(),
            );
            let before = all.insert(key, item.clone());
            assert!(before.as_ref().is_none_or(|before| *before == item), "{before:?} became {item}");
        }
    }
    all
}

/// Waits until every row of now is posted, and compares them.
fn agree(home: &Home, collector: &Collector) -> BTreeMap<Key, Exported> {
    let rows = rows(home);
    let posted = eventually(LIMIT, || {
        let posted = posted(collector);
        let missing = rows.keys().filter(|key| !posted.contains_key(*key)).count();
        if missing == 0 { Ok(posted) } else { Err(format!("{missing} of {} rows are not posted", rows.len())) }
    });
    for (key, row) in &rows {
        let item = &posted[key];
        let pairs = [("ping_min", "ping_min_ms", 1.0), ("ping_avg", "ping_avg_ms", 1.0), ("ping_max", "ping_max_ms", 1.0)];
        for (sent, field, unit) in
            pairs.into_iter().chain([("ping_jitter", "ping_stddev_ms", 1.0), ("ping_loss", "ping_packet_loss_pct", 100.0)])
        {
            match (item[sent].as_f64(), row.float(field)) {
                (Some(sent), Some(measured)) => assert!(within(sent * unit, measured, 1e-9), "{row:?} {item}"),
                (sent, measured) => assert_eq!(sent, measured, "{row:?} {item}"),
            }
        }
        assert_eq!(item["pinged"], json!(row.integer("ping_received").unwrap_or(0) > 0));
    }
    rows
}

/// Every slot from the first to the last has a row of every series.
fn assert_whole(rows: &BTreeMap<Key, Exported>, interval: i64) {
    let slots: BTreeSet<_> = rows.keys().map(|(slot, ..)| *slot).collect();
    let (first, last) = slots.first().zip(slots.last()).expect("there are rows");
    assert_eq!((last - first) / interval + 1, slots.len() as i64, "a slot is missing");
    // Of the last the rows may not be there yet.
    for slot in slots.range(..last) {
        assert_eq!(rows.keys().filter(|(of, ..)| of == slot).count(), PEERS, "slot {slot} has not all results");
    }
}

fn wait_for_slots(home: &Home, count: usize) {
    eventually(LIMIT, || {
        let slots: BTreeSet<_> = rows(home).keys().map(|(slot, ..)| *slot).collect();
        if slots.len() >= count { Ok(()) } else { Err(format!("{} slots", slots.len())) }
    });
}

#[test]
fn rows_and_posts_agree_and_nobody_else_is_pinged() {
    let (net, collector, home) = bed("1s");
    let running = home.start_in(&net.host);
    wait_for_slots(&home, 5);
    let rows = agree(&home, &collector);
    running.stop();
    assert_whole(&rows, SECOND);
    for ((_, target, _), row) in &rows {
        // How many errors come for the other is the kernel's choice.
        let received = if target == "far" { Some(4) } else { Some(0) };
        assert_eq!((row.integer("ping_sent"), row.integer("ping_received")), (Some(4), received), "{row:?}");
        assert_eq!(row.tag("source"), "under-test");
    }
    let targets: BTreeSet<_> = rows.keys().map(|(_, target, proto)| (target.as_str(), *proto)).collect();
    assert_eq!(targets, BTreeSet::from([("far", 4), ("far", 6), ("gone", 4)]), "M16: not its own address, broadcast or loopback");
}

#[test]
fn m17_a_kill_while_the_collector_is_away_loses_no_slot_and_no_result() {
    let (net, collector, home) = bed("1s");
    let running = home.start_in(&net.host);
    wait_for_slots(&home, 2);
    let away = collector.stop();
    pause(Duration::from_millis(1500), Duration::from_millis(2500));
    running.kill();
    pause(Duration::from_millis(500), Duration::from_millis(1500));
    let before = rows(&home).len();
    // The list is that from disk.
    let running = home.start_in(&net.host);
    running.said("mesh begins with the list on disk, which is stale");
    eventually(LIMIT, || if rows(&home).len() > before + 2 * PEERS { Ok(()) } else { Err("no new rows".to_owned()) });
    running.said("mesh collector is failing");
    let collector = net.host.enter(|| away.start());
    let rows = agree(&home, &collector);
    running.stop();
    assert_whole(&rows, SECOND);
    assert!(rows.values().any(|row| row.text("result") == "skipped" && row.text("error") == "restart"), "the kill missed slots");
}

#[test]
fn a_round_by_hand_pings_and_posts_also_beside_a_running_service() {
    let (net, collector, home) = bed("10s");
    let config = home.config();
    let once = || net.host.exec(QOSD, &["mesh", "once", "--output", "json", "--config", &config]);
    let shown = |text: String| text.lines().map(Exported::parse).collect::<Vec<_>>();
    let alone = shown(once());
    let running = home.start_in(&net.host);
    let beside = shown(once());
    for rows in [&alone, &beside] {
        assert_eq!(rows.len(), PEERS);
        assert!(rows.iter().all(|row| row.time() == rows[0].time()), "one round, one time");
        let stored = posted(&collector);
        let of_this: Vec<_> = stored.iter().filter(|((slot, ..), _)| *slot == rows[0].time()).collect();
        assert_eq!(of_this.len(), PEERS);
        assert_eq!(of_this.iter().filter(|(_, item)| item["ping_loss"] == 0.0).count(), 2, "{of_this:?}");
    }
    running.stop();
    drop(collector);
    assert!(home.command(&["mesh", "once"]).contains("not posted"), "from another network there is no collector");
}
