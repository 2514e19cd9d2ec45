//! The dashboards of the three scripts that qosd replaces: their nine panels show what the journal holds, and a row has
//! every field that applies to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::bed::daemon::Home;
use crate::bed::eventually;
use crate::bed::influx::Influx;
use crate::bed::net::Namespace;
use crate::bed::rows::{Exported, by_key, difference, within};

const DICTIONARY: &str = include_str!("../../docs/measurements.md");
const DEMO: &str = include_str!("../../config/demo.toml");

/// What the panels draw over time.
const PANELS: [&str; 9] = [
    "http_upload_ms",
    "iperf_bandwidth_mbps",
    "ping_min_ms",
    "ping_avg_ms",
    "ping_max_ms",
    "ping_jitter_ms",
    "http_ping_ms",
    "http_download_ms",
    "http_download_bytes",
];

/// Widths of a panel's buckets, as a viewer zooms: less than the intervals, more, and more than all there is.
const BUCKETS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_mins(1)];

/// Everything that qosd can measure without a name and without TLS, as fast as it may.
const PROBES: &str = r#"
[responder]
[iperf3_server]
[ping.all]
targets = ["127.0.0.1", "::1"]
interval = "1s"
spacing = "20ms"
[iperf3.all]
targets = ["127.0.0.1"]
interval = "5s"
duration = "1s"
direction = "both"
[http.all]
targets = ["http://127.0.0.1:9877/"]
download = "/testfile.bin"
upload = "/upload"
interval = "1s"
timeout = "900ms"
download_timeout = "900ms"
upload_timeout = "900ms"
"#;

const LIMIT: Duration = Duration::from_mins(1);

/// The fields that the dictionary describes below a heading.
fn described(heading: &str) -> BTreeSet<&'static str> {
    let lines = DICTIONARY.lines().skip_while(|line| **line != *heading).skip(1).take_while(|line| !line.starts_with("## "));
    let cells = lines.filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    // Other tables have no type there.
    let typed = cells.filter(|(_, rest)| ["float |", "integer |", "text |"].iter().any(|kind| rest.starts_with(kind)));
    let names: BTreeSet<_> = typed.map(|(name, _)| name).collect();
    assert!(!names.is_empty(), "{heading}: nothing is described there");
    names
}

/// What a row without a fault must have: all that its kind has but what `without` names.
fn expected(row: &Exported, without: &[&str]) -> BTreeSet<&'static str> {
    let mut fields = described("## Fields of every kind");
    fields.retain(|field| !["error", "dns_stale"].contains(field));
    // These come and go with the load and the host's clock.
    fields.retain(|field| row.fields.contains_key(*field) || !["load_test", "clock", "clock_step_ms"].contains(field));
    fields.extend(described(&format!("## Fields of {}", row.tag("kind"))));
    fields.retain(|field| !without.contains(field));
    fields
}

/// Each row of a probe that went well has every field that applies and no other; gives how many did, by kind.
fn complete(rows: &[Exported], without: &[&str]) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for row in rows.iter().filter(|row| row.text("result") == "ok") {
        let fields: BTreeSet<_> = row.fields.keys().map(String::as_str).collect();
        assert_eq!(fields, expected(row, without), "{row:?}");
        assert_eq!(row.integer("loaded") == Some(1), row.fields.contains_key("load_test"), "{row:?}");
        *counted.entry(row.tag("kind").to_owned()).or_default() += 1;
    }
    counted
}

/// Waits for so many rows of each kind that went well.
fn rows_of_every_kind(home: &Home, least: usize, without: &[&str], limit: Duration) -> Vec<Exported> {
    eventually(limit, || {
        let rows = home.probe_rows();
        let counted = complete(&rows, without);
        let enough = ["http", "iperf3", "ping"].iter().all(|kind| counted.get(*kind).is_some_and(|count| *count >= least));
        if enough { Ok(rows) } else { Err(format!("{counted:?}, last {:?}", rows.last())) }
    })
}

/// Fields that need a name, or TLS.
const NOT_OF_PLAIN_ADDRESSES: [&str; 3] = ["http_dns_ms", "http_tls_ms", "http_tls_days_left"];

#[test]
fn the_nine_panels_of_the_scripts_show_the_journal_s_figures_over_time() {
    let namespace = Namespace::new();
    let influx = namespace.enter(Influx::start);
    let output = influx.output("main", Duration::from_millis(300));
    let home = Home::new(&format!("{output}{PROBES}"));
    let running = home.start_in(&namespace);
    rows_of_every_kind(&home, 3, &NOT_OF_PLAIN_ADDRESSES, LIMIT);
    running.stop();
    // What was not delivered when it stopped is delivered by the next incarnation, which measures nothing itself.
    home.configure(&output);
    let running = home.start_in(&namespace);
    eventually(LIMIT, || difference(&by_key(home.rows()), &namespace.enter(|| influx.rows())));
    running.stop();
    let rows = home.probe_rows();
    for field in PANELS {
        for bucket in BUCKETS {
            let shown = namespace.enter(|| panel(&influx, field, bucket, &rows));
            agrees(field, bucket, &rows, &shown);
        }
    }
}

/// A panel's points: the begin of each bucket with its mean, or nothing. The text is what Grafana makes of the panel.
fn panel(influx: &Influx, field: &str, bucket: Duration, rows: &[Exported]) -> BTreeMap<i64, Option<f64>> {
    let times = rows.iter().map(Exported::time);
    let millis = |time: Option<i64>| time.expect("there are rows") / 1_000_000;
    let (from, to) = (millis(times.clone().min()) - 1, millis(times.max()) + 1);
    let seconds = bucket.as_secs();
    let query = format!(
        "SELECT mean(\"{field}\") FROM \"qos_metrics\" WHERE time > {from}ms and time < {to}ms GROUP BY time({seconds}s) fill(null)"
    );
    let series = influx.query(&query);
    assert_eq!(series.len(), 1, "{query}: a panel has one line");
    let point = |values: &Vec<serde_json::Value>| (values[0].as_i64().expect("a time in ns"), values[1].as_f64());
    series[0].values.iter().map(point).collect()
}

/// The panel shows, for every bucket, the mean of the journal's rows in it.
fn agrees(field: &str, bucket: Duration, rows: &[Exported], shown: &BTreeMap<i64, Option<f64>>) {
    let width = i64::try_from(bucket.as_nanos()).expect("a bucket is short");
    let mut values: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for row in rows {
        let value = row.fields.get(field).and_then(serde_json::Value::as_f64);
        values.entry(row.time().div_euclid(width) * width).or_default().extend(value);
    }
    let mut drawn = 0;
    for (begin, shown) in shown {
        let of_journal = values.remove(begin).unwrap_or_default();
        let mean = of_journal.iter().sum::<f64>() / of_journal.len() as f64;
        match shown {
            Some(shown) => assert!(within(mean, *shown, 1e-9), "{field} by {bucket:?} at {begin}: {shown}, not {mean}"),
            None => assert!(of_journal.is_empty(), "{field} by {bucket:?} at {begin}: nothing, not {mean}"),
        }
        drawn += usize::from(shown.is_some());
    }
    assert!(values.values().all(Vec::is_empty), "{field} by {bucket:?}: left out {values:?}");
    assert!(drawn > 0, "{field} by {bucket:?}: nothing is drawn");
}

#[test]
fn the_demo_has_complete_rows_of_all_three_kinds_within_a_minute() {
    let namespace = Namespace::new();
    // The home has a folder and a name of its own.
    let (_, demo) = DEMO.split_once("[log]").expect("the demo has a section about the log, after that about the agent");
    let home = Home::new(&format!("[log]{demo}"));
    let start = Instant::now();
    let running = home.start_in(&namespace);
    let without = [&NOT_OF_PLAIN_ADDRESSES[..], &["iperf_download_mbps"]].concat();
    rows_of_every_kind(&home, 1, &without, LIMIT);
    assert!(start.elapsed() < LIMIT, "it took {:?}", start.elapsed());
    running.stop();
}
