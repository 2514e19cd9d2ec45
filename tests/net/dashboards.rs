//! The dashboards for Grafana, asked as Grafana asks: every query in `InfluxQL`, of panels and of variables, has data in a real
//! `InfluxDB` that qosd has filled.
//!
//! Counters of faults are there all the time, as 0. What has a row only in a fault is provoked: an address that does not answer,
//! a host of the mesh that says nothing (`peer_absent`), and a post that says nothing (`tool_error`).

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::bed::bridge::{Bridge, HUB, address};
use crate::bed::daemon::Home;
use crate::bed::dns::{Dns, Says};
use crate::bed::eventually;
use crate::bed::http::request;
use crate::bed::influx::{DATABASE, Influx, Series};
use crate::dashboard_files::{Query, any_of, asked, boards, sent, variables};
use crate::http::self_signed;
use crate::scripted_server::{Reply, ScriptedServer};

/// What qosd says of itself comes at each full minute, and a counter has grown only from one to the next.
const LIMIT: Duration = Duration::from_mins(4);
const KEY: &str = "the-key-of-this-mesh";
/// Narrower than the intervals, and wider.
const STEPS: [u64; 2] = [10, 60];

/// Every field that there is without a fault, as fast as it may.
fn config(influx: &Influx, secure: u16) -> String {
    let output = influx.output("main", Duration::from_millis(300));
    format!(
        r#"{output}
[responder]
[iperf3_server]
[ping.all]
targets = ["127.0.0.1", "::1", "10.72.0.77"]
interval = "2s"
spacing = "20ms"
[iperf3.all]
targets = ["127.0.0.1"]
interval = "10s"
duration = "1s"
direction = "both"
[http.all]
targets = ["http://127.0.0.1:9877/"]
download = "/testfile.bin"
upload = "/upload"
interval = "2s"
timeout = "900ms"
download_timeout = "900ms"
upload_timeout = "900ms"
[http.secure]
targets = ["https://a.test:{secure}/"]
interval = "2s"
timeout = "1900ms"
insecure = true
[collector]
listen = "{HUB}:9878"
probes = "probes.json"
schedule = "schedule.json"
api_key_file = "api_key"
tls_cert = "collector.pem"
tls_key = "collector.key"
[mesh]
collector = "https://{HUB}:9878"
key_file = "api_key"
protocol = "v1"
ca_file = "collector.pem"
"#
    )
}

/// What a client of the existing protocol posts when a packet was lost.
fn post_without_a_loss(certificate: &[u8]) {
    qosd::tls::install_provider();
    let root = reqwest::Certificate::from_pem(certificate).expect("it was just made");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().expect("a client like any other");
    let result = json!({ "name": "milan", "proto": 4, "address": address(1), "pinged": false, "ping_min": null, "ping_max": null,
        "ping_avg": null, "ping_jitter": null, "ping_loss": null });
    let post = client.post(format!("https://{HUB}:9878/api/v1/data/probe-result")).header("X-API-Key", KEY);
    let post = post.json(&json!({ "source": "rome", "probes": [result] })).send();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
    let answer = runtime.block_on(post).expect("the collector answers");
    assert_eq!(answer.status(), 200);
}

/// What there is for a viewer to choose of each variable, as Grafana asks for it: each among what was chosen before.
fn choices(influx: &Influx, board: &Value) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, query) in variables(board) {
        let chosen = found.iter().map(|(name, values)| (name.clone(), any_of(values))).collect();
        let query = sent(query, (0, 0), 1, &chosen);
        let values = influx
            .query(&query)
            .iter()
            .flat_map(|series| &series.values)
            .map(|row| row[1].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>();
        found.insert(name.to_owned(), values);
    }
    found
}

/// Whether there is something to be drawn: what was asked for stands after the time.
fn drawn(series: &[Series]) -> bool {
    series.iter().flat_map(|series| &series.values).any(|values| values.iter().skip(1).any(|value| !value.is_null()))
}

/// A dashboard, its variables, and its queries that have had no data yet.
struct Waiting {
    file: String,
    board: Value,
    queries: Vec<Query>,
}

impl Waiting {
    fn all() -> Vec<Self> {
        boards("influxql").into_iter().map(|(file, board)| Self { queries: asked(&file, &board), file, board }).collect()
    }

    /// Asks each once more, with all chosen as `.*` and as the list of all values; tells what has nothing yet.
    fn ask(&mut self, influx: &Influx, span: (i64, i64)) -> Vec<String> {
        let choices = choices(influx, &self.board);
        let all: BTreeMap<_, _> = choices.keys().map(|name| (name.clone(), ".*".to_owned())).collect();
        let listed = choices.iter().map(|(name, values)| (name.clone(), any_of(values))).collect();
        let ways: Vec<_> = [all, listed].into_iter().flat_map(|chosen| STEPS.map(|step| (chosen.clone(), step))).collect();
        let has_data = |query: &Query| ways.iter().all(|(chosen, step)| drawn(&influx.query(&sent(&query.text, span, *step, chosen))));
        self.queries.retain(|query| !has_data(query));
        let without_values =
            choices.iter().filter(|(_, values)| values.is_empty()).map(|(name, _)| format!("{}: variable {name}", self.file));
        without_values.chain(self.queries.iter().map(|query| format!("{}: {}", query.place, query.text))).collect()
    }
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(now.as_millis()).expect("this century fits into an i64")
}

#[test]
fn every_influxql_query_of_the_dashboards_has_data_in_a_real_influxdb() {
    let bridge = Bridge::new(2);
    let dns = Dns::start(&bridge.hub);
    dns.say("a.test", Says::address("127.0.0.1"));
    let (influx, server) = bridge.hub.enter(|| {
        let listen = "127.0.0.1:0".parse().expect("an address");
        (Influx::start(), ScriptedServer::start_tls(listen, self_signed("a.test"), Duration::ZERO, [], Reply::status(200)))
    });
    let home = Home::named("rome", &config(&influx, server.address().port())).resolving_by("nameserver 127.0.0.1\n");
    let probe = |name: &str, address: &str| json!({ "name": name, "proto": 4, "address": address });
    // Of these only rome posts; the other two answer its pings.
    let probes = [probe("rome", HUB), probe("milan", &address(1)), probe("turin", &address(2))];
    home.file("probes.json", &json!({ "probes": probes }).to_string());
    home.file("schedule.json", r#"{"ping":{"interval":"3s","count":3,"spacing":"100ms"}}"#);
    home.file("api_key", KEY);
    let signed = rcgen::generate_simple_self_signed([HUB.to_owned()]).expect("a name like any other");
    home.file("collector.pem", &signed.cert.pem());
    home.file("collector.key", &signed.signing_key.serialize_pem());
    let begin = now();
    let running = home.start_in(&bridge.hub);
    bridge.hub.enter(|| {
        post_without_a_loss(signed.cert.pem().as_bytes());
        let mut waiting = Waiting::all();
        eventually(LIMIT, || {
            let empty: Vec<_> = waiting.iter_mut().flat_map(|board| board.ask(&influx, (begin - 1, now()))).collect();
            if empty.is_empty() { Ok(()) } else { Err(format!("{} without data:\n{}", empty.len(), empty.join("\n"))) }
        });
    });
    running.stop();
}

/// The query in a document that finds which targets are away, as it would be sent over a span.
fn away(span: &str) -> String {
    let text = include_str!("../../docs/grafana.md");
    let (_, query) = text.split_once("```sql\n").expect("it is there");
    let query = query.split_once("\n```").expect("it ends").0;
    assert!(query.contains(" AND $timeFilter "), "{query}");
    query.replace("$timeFilter", &format!("time > now() - {span}"))
}

#[test]
fn the_alert_on_a_target_comes_for_what_the_network_did_and_for_nothing_else() {
    let influx = Influx::start();
    let (now, minute) = (now() * 1_000_000, 60_000_000_000);
    // Of each target and kind the results of the last minutes, the newest last.
    let results: [(&str, &str, &[i64]); 8] = [
        ("ping", "silent", &[2, 2, 2]),
        ("ping", "once", &[2, 0, 2]),
        ("ping", "partial", &[3, 1, 3]),
        ("ping", "skipped", &[17, 17, 17]),
        ("ping", "silent-or-skipped", &[17, 2, 17]),
        ("http", "killed", &[12, 12, 12]),
        ("http", "here", &[16, 15, 14]),
        ("iperf3", "hourly", &[7]),
    ];
    let lines = results.into_iter().flat_map(|(kind, target, codes)| {
        let time = move |n: usize| now - (codes.len() - n) as i64 * minute;
        codes.iter().enumerate().map(move |(n, code)| format!("qos_metrics,kind={kind},target={target} result_code={code}i {}\n", time(n)))
    });
    let written = request("POST", influx.port, "/write", &[("db", DATABASE)], &lines.collect::<String>());
    assert_eq!(written.map(|(status, _)| status), Ok(204));
    let alerted = |query: &str| -> BTreeMap<String, i64> {
        let of = |series: Series| (series.tags["target"].clone(), series.values[0][1].as_i64().expect("a code"));
        influx.query(query).into_iter().map(of).filter(|(_, least)| *least > 1).collect()
    };
    let expected = |all: &[(&str, i64)]| all.iter().map(|(target, code)| ((*target).to_owned(), *code)).collect::<BTreeMap<_, _>>();
    assert_eq!(alerted(&away("5m")), expected(&[("silent", 2), ("silent-or-skipped", 2), ("killed", 12)]));
    assert_eq!(alerted(&away("3h").replace("<> 'iperf3'", "= 'iperf3'")), expected(&[("hourly", 7)]));
}
