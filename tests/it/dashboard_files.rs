//! The dashboards for Grafana as files, and their queries as Grafana sends them.

#![allow(dead_code, reason = "shared by two test binaries, neither of which uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, as it should")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// The languages: a folder each.
pub(crate) const LANGUAGES: [&str; 2] = ["influxql", "flux"];

/// The dashboards in a language, by the names of their files.
pub(crate) fn boards(language: &str) -> BTreeMap<String, Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards").join(language);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut boards = BTreeMap::new();
    for entry in entries {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let board = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        boards.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), board);
    }
    assert!(!boards.is_empty(), "{} is empty", folder.display());
    boards
}

/// The elements of a list, of which there must be one.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

/// A text, which must be there.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// Every panel, rows and those within closed rows included.
pub(crate) fn panels<'a>(board: &'a Value) -> Vec<&'a Value> {
    let within = |panel: &'a Value| std::iter::once(panel).chain(panel.get("panels").map_or(&[][..], list));
    list(&board["panels"]).iter().flat_map(within).collect()
}

/// A query of a dashboard, and where it stands there.
pub(crate) struct Query {
    /// For whoever reads what failed.
    pub(crate) place: String,
    /// As it is in the file.
    pub(crate) text: String,
}

/// Every query of the panels.
pub(crate) fn asked(file: &str, board: &Value) -> Vec<Query> {
    let mut found = Vec::new();
    for panel in panels(board) {
        let targets = panel.get("targets").map_or(&[][..], list);
        let place = |target: &Value| format!("{file}: {}, {}", text(&panel["title"]), text(&target["refId"]));
        found.extend(targets.iter().map(|target| Query { place: place(target), text: text(&target["query"]).to_owned() }));
    }
    found
}

/// Every query of the variables, by the variable's name, in the order in which Grafana asks them.
pub(crate) fn variables(board: &Value) -> Vec<(&str, &str)> {
    let variables = list(&board["templating"]["list"]).iter().filter(|variable| variable["type"] == "query");
    variables.map(|variable| (text(&variable["name"]), text(&variable["query"]))).collect()
}

/// A query in `InfluxQL` as Grafana sends it, of a span in ms and a step in seconds, with what was chosen for each variable.
pub(crate) fn sent(query: &str, (from, to): (i64, i64), step: u64, chosen: &BTreeMap<String, String>) -> String {
    let mut sent =
        query.replace("$timeFilter", &format!("time >= {from}ms and time <= {to}ms")).replace("$__interval", &format!("{step}s"));
    for (name, choice) in chosen {
        sent = sent.replace(&format!("${name}$/"), &format!("{choice}$/"));
    }
    let left = sent.replace("$/", "");
    assert!(!left.contains('$'), "something is left that Grafana would not know: {sent}");
    sent
}

/// A choice of several values, as Grafana writes it into a regular expression.
pub(crate) fn any_of(values: &[String]) -> String {
    let escape = |value: &String| {
        value.chars().flat_map(|c| if "\\^$*+?.()|[]{}/".contains(c) { vec!['\\', c] } else { vec![c] }).collect::<String>()
    };
    format!("({})", values.iter().map(escape).collect::<Vec<_>>().join("|"))
}
