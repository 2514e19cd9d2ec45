//! The dashboards for Grafana: made of what `examples/dashboards` says, alike in both languages, and of fields that there are.
//! That `InfluxDB` answers their queries is tested in `tests/net/dashboards.rs`.

use std::collections::{BTreeMap, BTreeSet};

use qosd::page::metrics;
use serde_json::Value;

use crate::dashboard_files::{LANGUAGES, asked, boards, list, panels, text};

#[path = "../../examples/dashboards/ask.rs"]
mod ask;
#[path = "../../examples/dashboards/flux.rs"]
mod flux;
#[path = "../../examples/dashboards/grafana.rs"]
mod grafana;
#[path = "../../examples/dashboards/influxql.rs"]
mod influxql;
#[path = "../../examples/dashboards/itself.rs"]
mod itself;
#[path = "../../examples/dashboards/mesh.rs"]
mod mesh;
#[path = "../../examples/dashboards/network.rs"]
mod network;
#[path = "../../examples/dashboards/panel.rs"]
mod panel;

const DICTIONARY: &str = include_str!("../../docs/measurements.md");

/// What the scripts' dashboards draw over time.
const NINE: [&str; 9] = [
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

/// Every dashboard with its language and its file.
fn all() -> Vec<(&'static str, String, Value)> {
    LANGUAGES.into_iter().flat_map(|language| boards(language).into_iter().map(move |(file, board)| (language, file, board))).collect()
}

#[test]
fn the_files_are_what_the_example_makes() {
    let made = grafana::files([network::board(), mesh::board(), itself::board()]);
    let made: BTreeMap<String, Value> = made.into_iter().map(|(file, text)| (file, serde_json::from_str(&text).unwrap())).collect();
    let found: BTreeMap<_, _> = all().into_iter().map(|(language, file, board)| (format!("{language}/{file}"), board)).collect();
    assert!(made == found, "dashboards/ is not what the example makes: run `make dashboards`");
}

#[test]
fn numbers_and_names_are_unique_and_no_data_source_is_wired_in() {
    let mut uids = BTreeSet::new();
    for (language, file, board) in all() {
        assert!(uids.insert(text(&board["uid"]).to_owned()), "{language}/{file}: its uid is taken");
        let mut ids = BTreeSet::new();
        for panel in panels(&board) {
            let title = text(&panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{language}/{file}: the id of {title} is taken");
            if panel["type"] == "row" {
                continue;
            }
            assert!(!text(&panel["description"]).is_empty() && !text(&panel["fieldConfig"]["defaults"]["unit"]).is_empty(), "{title}");
            let letters: BTreeSet<_> = list(&panel["targets"]).iter().map(|target| text(&target["refId"])).collect();
            assert!(!letters.is_empty() && letters.len() == list(&panel["targets"]).len(), "{title}");
            let sources = list(&panel["targets"]).iter().chain([panel]).map(|of| text(&of["datasource"]["uid"]));
            assert!(sources.into_iter().all(|uid| uid == "${datasource}"), "{language}/{file}: {title} has a source of its own");
        }
    }
}

#[test]
fn no_two_panels_lie_in_the_same_place() {
    for (language, file, board) in all() {
        let mut taken = BTreeSet::new();
        for panel in panels(&board) {
            let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{language}/{file}: {} is beside the page", panel["title"]);
            let places = (at("y")..at("y") + at("h")).flat_map(|y| (at("x")..at("x") + at("w")).map(move |x| (x, y)));
            assert!(places.into_iter().all(|place| taken.insert(place)), "{language}/{file}: {} lies on another", panel["title"]);
        }
    }
}

#[test]
fn both_languages_have_the_same_panels() {
    let [influxql, flux] = LANGUAGES.map(|language| {
        let shown = |panel: &Value| {
            let targets = panel.get("targets").map_or(0, |targets| list(targets).len());
            (
                panel["title"].clone(),
                panel["type"].clone(),
                panel["gridPos"].clone(),
                panel["fieldConfig"]["defaults"]["unit"].clone(),
                targets,
            )
        };
        let of = |board: &Value| panels(board).into_iter().map(shown).collect::<Vec<_>>();
        boards(language).iter().map(|(file, board)| (file.clone(), of(board))).collect::<BTreeMap<_, _>>()
    });
    assert_eq!(influxql, flux);
}

/// The names in quotes that stand between two texts.
fn between<'a>(query: &'a str, begin: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    query.split(begin).skip(1).map(move |rest| rest.split(end).next().unwrap())
}

#[test]
fn every_field_that_a_panel_names_is_in_the_dictionary() {
    let typed = |rest: &str| ["float |", "integer |", "text |"].iter().any(|kind| rest.starts_with(kind));
    let lines = DICTIONARY.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let known: BTreeSet<_> = lines.filter(|(_, rest)| typed(rest)).map(|(name, _)| name).collect();
    for (language, file, board) in all() {
        for query in asked(&file, &board) {
            let (begin, end) = if language == "flux" { ("r._field == \"", "\"") } else { ("(\"", "\")") };
            let named: Vec<_> = between(&query.text, begin, end).collect();
            assert!(!named.is_empty(), "{language}/{}: names no field", query.place);
            assert!(named.iter().all(|field| known.contains(field)), "{language}/{}: {named:?}", query.place);
        }
    }
}

#[test]
fn the_nine_panels_of_the_scripts_are_there() {
    for (language, file, board) in all().into_iter().filter(|(_, file, _)| file == "network.json") {
        for field in NINE {
            let own = panels(&board).into_iter().filter(|panel| panel["title"] == field).collect::<Vec<_>>();
            let [panel] = own[..] else { panic!("{language}/{file}: {} panels {field}", own.len()) };
            let [target] = list(&panel["targets"]) else { panic!("{language}/{file}: {field} draws more than itself") };
            let query = text(&target["query"]);
            assert!(query.contains(&format!("\"{field}\"")) && query.contains("mean"), "{query}");
        }
    }
}

const RULES: &str = include_str!("../../dashboards/prometheus/rules.yml");

/// What follows `start` in a text, each time, up to what cannot be part of a name.
fn names<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(start).map(move |(at, _)| text[at..].split(|c| !is_part(c)).next().unwrap())
}

#[test]
fn every_metric_of_the_rules_for_prometheus_is_one_that_there_is() {
    let known: BTreeSet<_> = metrics::documented().into_iter().map(|metric| metric.name).collect();
    let named: BTreeSet<_> = names(RULES, "qosd_").collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(known.contains(name), "{name} is no metric");
    }
}

#[test]
fn every_alert_for_prometheus_says_what_it_means_and_is_in_the_document() {
    let alerts: Vec<_> = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for part in RULES.split("- alert: ").skip(1) {
        for key in ["expr: ", "severity: ", "summary: \"", "description: \""] {
            assert!(part.lines().any(|line| line.trim().starts_with(key)), "{key} is missing in {part}");
        }
    }
    let lines = include_str!("../../docs/grafana.md").lines();
    let told: Vec<_> =
        lines.filter_map(|line| line.strip_prefix("| `Qosd")?.split_once('`')).map(|(name, _)| format!("Qosd{name}")).collect();
    assert_eq!(told, alerts);
}
