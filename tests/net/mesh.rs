//! The mesh, whole: an agent in each of five namespaces on a bridge, a collector, and a real database.
//!
//! Version 1 stores a result with the time of its receipt, so a row of an agent's journal and what the collector made of
//! it are told to be the same by their order and their figures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::bridge::{Bridge, HUB, address};
use crate::bed::daemon::{Home, Running};
use crate::bed::influx::Influx;
use crate::bed::rows::{Exported, within};
use crate::bed::{eventually, need_root, short_or_long};

const SITES: usize = 5;
const INTERVAL: Duration = Duration::from_secs(5);
const PORT: u16 = 9878;
const KEY: &str = "the-key-of-this-mesh";
/// Longer than an agent takes to notice that the collector is back after its longest back-off, and to post all.
const DRAINED: Duration = Duration::from_secs(150);

/// Source and target.
type Pair = (String, String);

fn name(site: usize) -> String {
    format!("p{site}")
}

fn pairs() -> impl Iterator<Item = Pair> {
    (1..=SITES).flat_map(|a| (1..=SITES).filter(move |b| *b != a).map(move |b| (name(a), name(b))))
}

/// All of it, running. What is `None` is down.
struct Mesh {
    influx: Influx,
    collector: Home,
    collecting: Option<Running>,
    agents: Vec<(Home, Option<Running>)>,
}

impl Mesh {
    /// To be called on a thread in the bridge's hub.
    fn start(bridge: &Bridge) -> Self {
        let influx = Influx::start();
        let signed = rcgen::generate_simple_self_signed([HUB.to_owned()]).expect("a name like any other");
        let listen = format!(
            "[collector]\nlisten = \"{HUB}:{PORT}\"\nbase_path = \"/backend\"\nprobes = \"probes.json\"\nschedule = \"schedule.json\"\n\
             api_key_file = \"api_key\"\ntls_cert = \"collector.pem\"\ntls_key = \"collector.key\"\n"
        );
        let collector = Home::named("collector", &format!("{listen}{}", influx.output("main", Duration::from_millis(300))));
        let probes: Vec<_> = (1..=SITES).map(|site| json!({ "name": name(site), "proto": 4, "address": address(site) })).collect();
        collector.file("probes.json", &json!({ "probes": probes }).to_string());
        collector.file("schedule.json", r#"{"ping":{"interval":"5s","count":4,"spacing":"1s"}}"#);
        collector.file("api_key", KEY);
        collector.file("collector.pem", &signed.cert.pem());
        collector.file("collector.key", &signed.signing_key.serialize_pem());
        let agent = |site: usize| {
            let mesh = format!(
                "[mesh]\ncollector = \"https://{HUB}:{PORT}/backend\"\nkey_file = \"mesh_key\"\nprotocol = \"v1\"\nca_file = \"ca.pem\"\n"
            );
            let home = Home::named(&name(site), &mesh);
            home.file("mesh_key", KEY);
            home.file("ca.pem", &signed.cert.pem());
            (home, None)
        };
        let mut mesh = Self { influx, collector, collecting: None, agents: (1..=SITES).map(agent).collect() };
        mesh.collecting = Some(mesh.collector.start_in(&bridge.hub));
        (1..=SITES).for_each(|site| mesh.start_agent(bridge, site));
        mesh
    }

    fn start_agent(&mut self, bridge: &Bridge, site: usize) {
        let (home, running) = &mut self.agents[site - 1];
        *running = Some(home.start_in(bridge.site(site)));
    }

    /// What the agents found, by pair, in the order of their slots.
    fn found(&self) -> BTreeMap<Pair, Vec<Exported>> {
        let rows = self.agents.iter().flat_map(|(home, _)| home.probe_rows());
        let mut found: BTreeMap<_, Vec<_>> = pairs().map(|pair| (pair, Vec::new())).collect();
        for row in rows {
            assert_eq!(row.tag("probe"), "mesh", "{row:?}");
            found.get_mut(&(row.tag("source").to_owned(), row.tag("target").to_owned())).expect("only pairs of the list").push(row);
        }
        found
    }

    /// What the database holds of every pair, in the order of receipt.
    fn stored(&self) -> Stored {
        let mut stored = Stored::default();
        for (key, fields) in self.influx.rows() {
            let tag = |name: &str| key.tags.get(name).cloned().unwrap_or_default();
            let pair = (tag("source"), tag("target"));
            match (key.measurement.as_str(), fields.get("result").and_then(Value::as_str)) {
                ("Ping", None) => stored.results.entry(pair).or_default().push(fields),
                ("qos_metrics", Some("peer_absent")) => {
                    assert_eq!(fields.len(), 2, "a row that a better one may replace says nothing else: {fields:?}");
                    *stored.absent.entry(pair).or_default() += 1;
                }
                ("qos_metrics", Some("tool_error")) => *stored.unknown.entry(pair).or_default() += 1,
                ("qosd", _) => {}
                _ => panic!("{key:?}: {fields:?}"),
            }
        }
        stored
    }

    /// Whether the database holds what the agents found: each result of each pair once, and no other.
    fn agree(&self) -> Result<(BTreeMap<Pair, Vec<Exported>>, Stored), String> {
        let (found, stored) = (self.found(), self.stored());
        for (pair, rows) in &found {
            let (measured, unknown): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.float("ping_packet_loss_pct").is_some());
            let results = stored.results.get(pair).map_or(&[][..], Vec::as_slice);
            if measured.len() != results.len() {
                return Err(format!("{pair:?}: {} measured, {} stored", measured.len(), results.len()));
            }
            if let Some((row, result)) = measured.iter().zip(results).find(|(row, result)| !same(row, result)) {
                return Err(format!("{pair:?}: found {row:?}, stored {result:?}"));
            }
            let told = stored.unknown.get(pair).copied().unwrap_or_default();
            if told != unknown.len() {
                return Err(format!("{pair:?}: {} without figures, {told} stored", unknown.len()));
            }
        }
        Ok((found, stored))
    }
}

#[derive(Default)]
struct Stored {
    results: BTreeMap<Pair, Vec<BTreeMap<String, Value>>>,
    absent: BTreeMap<Pair, usize>,
    unknown: BTreeMap<Pair, usize>,
}

/// Whether a result is what the row says.
fn same(row: &Exported, result: &BTreeMap<String, Value>) -> bool {
    let equal = |ours: &str, theirs: &str, factor: f64| match (row.float(ours), result.get(theirs).and_then(Value::as_f64)) {
        (Some(ours), Some(theirs)) => within(ours * factor, theirs, 1e-12),
        (ours, theirs) => ours.is_none() && theirs.is_none(),
    };
    let names = [("ping_min_ms", "min"), ("ping_max_ms", "max"), ("ping_avg_ms", "avg"), ("ping_stddev_ms", "jitter")];
    names.into_iter().all(|(ours, theirs)| equal(ours, theirs, 1.0)) && equal("ping_packet_loss_pct", "loss", 0.01)
}

/// Whether the slots of every pair follow each other without a gap.
fn no_slot_is_missing(found: &BTreeMap<Pair, Vec<Exported>>) {
    for (pair, rows) in found {
        for two in rows.windows(2) {
            assert_eq!(two[1].time() - two[0].time(), INTERVAL.as_nanos() as i64, "{pair:?}: {two:?}");
        }
    }
}

#[test]
fn five_sites_find_each_other_and_the_database_holds_every_result_once() {
    need_root();
    let bridge = Bridge::new(SITES);
    bridge.hub.enter(|| {
        let mesh = Mesh::start(&bridge);
        let slots = short_or_long(3, 60);
        let (found, stored) = eventually(INTERVAL * (slots as u32 + 12), || {
            let (found, stored) = mesh.agree()?;
            match found.values().map(Vec::len).min() {
                Some(least) if least >= slots => Ok((found, stored)),
                least => Err(format!("{least:?} slots so far")),
            }
        });
        no_slot_is_missing(&found);
        assert_eq!(found.len(), SITES * (SITES - 1));
        for (pair, rows) in &found {
            // The first packets wait for a neighbour's address.
            let ok = rows.iter().skip(1).filter(|row| row.text("result") == "ok").count();
            assert_eq!(ok, rows.len() - 1, "{pair:?}: {rows:?}");
        }
        assert!(stored.absent.is_empty() && stored.unknown.is_empty(), "{:?} {:?}", stored.absent, stored.unknown);
        loss_on_one_link_is_stored_in_both_directions(&bridge, &mesh);
    });
}

/// Between sites 1 and 2: half of all echo requests, all, and none again. The others see nothing of it.
fn loss_on_one_link_is_stored_in_both_directions(bridge: &Bridge, mesh: &Mesh) {
    let drop_at = |site: usize, from: usize, rule: &str| {
        bridge.site(site).nft_flush();
        bridge.site(site).nft("input", &[&format!("ip saddr {} icmp type echo-request {rule}", address(from))]);
    };
    for site in [1, 2] {
        bridge.site(site).nft("input", &["accept"]);
    }
    for (rule, loss) in [("numgen inc mod 2 0 drop", 0.5), ("drop", 1.0), ("accept", 0.0)] {
        for (site, from) in [(1, 2), (2, 1)] {
            drop_at(site, from, rule);
        }
        let since = mesh.stored().results.values().map(Vec::len).min().expect("there are results");
        // A run may have begun before the rule; the ones after it have not.
        eventually(INTERVAL * 8, || {
            let (_, stored) = mesh.agree()?;
            for (pair, results) in &stored.results {
                let on_the_link = [("p1", "p2"), ("p2", "p1")].contains(&(&*pair.0, &*pair.1));
                let expected = if on_the_link { loss } else { 0.0 };
                let new: Vec<_> = results.iter().skip(since + 2).map(|result| result["loss"].as_f64()).collect();
                if new.len() < 2 {
                    return Err(format!("{pair:?}: {} new results", new.len()));
                }
                assert!(new.iter().all(|loss| *loss == Some(expected)), "{pair:?}: {new:?}, not {expected}");
                let rtt = results.last().is_some_and(|result| result.contains_key("avg"));
                assert_eq!(rtt, expected < 1.0, "{pair:?}: {results:?}");
            }
            Ok(())
        });
    }
}

#[test]
fn nothing_is_lost_or_doubled_when_the_collector_an_agent_or_the_network_goes_away() {
    need_root();
    let bridge = Bridge::new(SITES);
    bridge.hub.enter(|| {
        let mut mesh = Mesh::start(&bridge);
        let away = short_or_long(Duration::from_secs(12), Duration::from_mins(2));
        let enough = |mesh: &Mesh, least: usize| {
            eventually(DRAINED, || {
                let (found, stored) = mesh.agree()?;
                let fewest = found.values().map(Vec::len).min().unwrap_or_default();
                if fewest >= least { Ok((found, stored)) } else { Err(format!("{fewest} slots so far")) }
            })
        };
        let start = Instant::now();
        let slots = |start: Instant| (start.elapsed().as_secs() / INTERVAL.as_secs()) as usize;
        enough(&mesh, 2);
        // The collector, in the middle of everything; the agents go on.
        mesh.collecting.take().expect("it runs").stop();
        std::thread::sleep(away);
        mesh.collecting = Some(mesh.collector.start_in(&bridge.hub));
        enough(&mesh, slots(start) - 3);
        // The collector, by force.
        mesh.collecting.take().expect("it runs").kill();
        mesh.collecting = Some(mesh.collector.start_in(&bridge.hub));
        // An agent, by force: its slots meanwhile are rows of its own afterwards.
        for _ in 0..short_or_long(1, 5) {
            mesh.agents[2].1.take().expect("it runs").kill();
            std::thread::sleep(Duration::from_secs(7));
            mesh.start_agent(&bridge, 3);
            enough(&mesh, slots(start) - 3);
        }
        // The network of a site, with what was on its way.
        let before = enough(&mesh, slots(start) - 3).1;
        bridge.cable(4, false);
        std::thread::sleep(away);
        bridge.cable(4, true);
        let (found, stored) = enough(&mesh, slots(start) - 3);
        no_slot_is_missing(&found);
        // What was expected of the site that could not be reached, and did not come in time, is said; of the others nothing is.
        let absent = |stored: &Stored, pair: &Pair| stored.absent.get(pair).copied().unwrap_or_default();
        for pair in pairs() {
            let new = absent(&stored, &pair) - absent(&before, &pair);
            let most = slots(start);
            let expected = if pair.0 == "p4" { 1..=most } else { 0..=0 };
            assert!(expected.contains(&new), "{pair:?}: {new} rows, expected {expected:?}");
        }
    });
}
