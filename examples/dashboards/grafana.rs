//! Dashboards as Grafana stores them. It knows each by its `uid`, which stays the same for ever.

use qosd::probe::Outcome;
use serde_json::{Value, json};

use super::ask::{Ask, Over};
use super::panel::{Board, Panel, Section, Shape, Variable};
use super::{flux, influxql};

/// Of Grafana 12.0; older ones from 10 on read it as well.
const SCHEMA: u32 = 41;
/// The variable that holds the data source, so that none is wired into a panel.
const SOURCE: &str = "datasource";

/// A language of `InfluxDB`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    InfluxQl,
    Flux,
}

impl Language {
    const ALL: [Self; 2] = [Self::InfluxQl, Self::Flux];

    fn name(self) -> &'static str {
        if self == Self::Flux { "Flux" } else { "InfluxQL" }
    }

    /// In names of folders and dashboards.
    fn slug(self) -> String {
        self.name().to_lowercase()
    }
}

/// Every dashboard in every language, with its file.
pub(crate) fn files(boards: [Board; 3]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for board in boards {
        for language in Language::ALL {
            let text = serde_json::to_string_pretty(&dashboard(&board, language)).expect("it has only text for keys");
            files.push((format!("{}/{}.json", language.slug(), board.name), text));
        }
    }
    files
}

fn dashboard(board: &Board, language: Language) -> Value {
    let variables = board.variables.iter().map(|of| variable(of, language));
    let variables: Vec<_> = std::iter::once(datasource(language)).chain(variables).collect();
    let title = format!("{} ({})", board.title, language.name());
    json!({
        "uid": format!("qosd-{}-{}", board.name, language.slug()),
        "title": title,
        "description": board.description,
        "tags": ["qosd", language.slug()],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": { "from": "now-6h", "to": "now" },
        "timezone": "browser",
        "links": [{
            "type": "dashboards", "title": "qosd", "tags": ["qosd", language.slug()],
            "asDropdown": false, "includeVars": false, "keepTime": true, "targetBlank": false, "icon": "external link", "tooltip": "", "url": "",
        }],
        "annotations": { "list": [] },
        "templating": { "list": variables },
        "panels": panels(&board.sections, language),
    })
}

fn datasource(language: Language) -> Value {
    json!({
        "name": SOURCE, "label": format!("{} source", language.name()), "type": "datasource", "query": "influxdb", "regex": "",
        "hide": 0, "refresh": 1, "multi": false, "includeAll": false, "options": [], "current": {},
    })
}

fn of_source() -> Value {
    json!({ "type": "influxdb", "uid": format!("${{{SOURCE}}}") })
}

fn variable(variable: &Variable, language: Language) -> Value {
    let values = if language == Language::Flux { flux::values } else { influxql::values };
    let query = values(variable);
    json!({
        "name": variable.name, "type": "query", "datasource": of_source(), "definition": query, "query": query,
        "regex": "", "sort": 1, "refresh": 2, "multi": true, "includeAll": true, "allValue": ".*",
        "hide": if variable.hidden { 2 } else { 0 }, "options": [], "current": { "text": ["All"], "value": ["$__all"] },
    })
}

/// From left to right, and on below where there is no more room.
fn panels(sections: &[Section], language: Language) -> Vec<Value> {
    let (mut found, mut id, mut y) = (Vec::new(), 0, 0);
    for section in sections {
        id += 1;
        let row = id;
        let (mut inside, mut x, mut height) = (Vec::new(), 0, 0);
        let top = y;
        y += 1;
        for of in &section.panels {
            if x + of.width > 24 {
                (x, y, height) = (0, y + height, 0);
            }
            id += 1;
            inside.push(panel(of, id, &json!({ "x": x, "y": y, "w": of.width, "h": of.height }), language));
            (x, height) = (x + of.width, height.max(of.height));
        }
        y += height;
        let (within, beside) = if section.closed { (inside, Vec::new()) } else { (Vec::new(), inside) };
        found.push(json!({
            "id": row, "type": "row", "title": section.title, "collapsed": section.closed, "panels": within,
            "gridPos": { "x": 0, "y": top, "w": 24, "h": 1 },
        }));
        found.extend(beside);
    }
    found
}

fn panel(panel: &Panel, id: u32, place: &Value, language: Language) -> Value {
    let targets: Vec<_> = panel.asks.iter().zip('A'..).map(|(ask, letter)| target(ask, panel.asks.len(), letter, language)).collect();
    let mut built = json!({
        "id": id, "type": kind(panel.shape), "title": panel.title, "description": panel.description, "gridPos": place,
        "datasource": of_source(), "targets": targets, "fieldConfig": field_config(panel, language), "options": options(panel.shape),
        "transformations": transformations(panel),
    });
    if let Some(variable) = panel.repeat {
        built["repeat"] = json!(variable);
        built["repeatDirection"] = json!("h");
        built["maxPerRow"] = json!(2);
    }
    built
}

fn kind(shape: Shape) -> &'static str {
    match shape {
        Shape::Lines | Shape::Stacked | Shape::Bars | Shape::Smoke => "timeseries",
        Shape::Results => "state-timeline",
        Shape::Table | Shape::Matrix => "table",
    }
}

fn target(ask: &Ask, figures: usize, letter: char, language: Language) -> Value {
    if language == Language::Flux {
        return json!({ "refId": letter.to_string(), "datasource": of_source(), "query": flux::query(ask) });
    }
    let format = if matches!(ask.over, Over::Whole(_)) { "table" } else { "time_series" };
    json!({
        "refId": letter.to_string(), "datasource": of_source(), "rawQuery": true, "query": influxql::query(ask),
        "alias": influxql::alias(ask, figures), "resultFormat": format,
    })
}

fn field_config(panel: &Panel, language: Language) -> Value {
    let mut defaults = json!({ "unit": panel.unit, "custom": custom(panel), "color": { "mode": "palette-classic" } });
    if let Some(thresholds) = panel.thresholds {
        defaults["thresholds"] = steps(thresholds);
    }
    // In InfluxQL each line has its own name. A table's columns are called as the query calls them.
    let named = language == Language::Flux && !matches!(panel.shape, Shape::Table | Shape::Matrix);
    if let Some(ask) = panel.asks.first().filter(|_| named) {
        defaults["displayName"] = json!(flux::display_name(ask, panel.asks.len()));
    }
    let overrides = match panel.shape {
        Shape::Results => {
            defaults["mappings"] = results();
            json!([])
        }
        Shape::Table => json!([{
            "matcher": { "id": "byName", "options": "result" },
            "properties": [{ "id": "mappings", "value": results() }, { "id": "custom.cellOptions", "value": { "type": "color-background" } }],
        }]),
        Shape::Smoke => json!([
            band("min", &json!([hidden_line()])),
            band("max", &json!([hidden_line(), { "id": "custom.fillBelowTo", "value": "min" }])),
            band("p50", &json!([{ "id": "custom.lineWidth", "value": 2 }])),
        ]),
        _ => json!([]),
    };
    if panel.shape == Shape::Matrix {
        defaults["color"] = json!({ "mode": if panel.thresholds.is_some() { "thresholds" } else { "continuous-GrYlRd" } });
    }
    json!({ "defaults": defaults, "overrides": overrides })
}

fn band(name: &str, properties: &Value) -> Value {
    json!({ "matcher": { "id": "byName", "options": name }, "properties": properties })
}

fn hidden_line() -> Value {
    json!({ "id": "custom.lineWidth", "value": 0 })
}

fn custom(panel: &Panel) -> Value {
    let line = |width: u32, fill: u32, stacking: &str, style: &str| {
        json!({
            "drawStyle": style, "lineWidth": width, "fillOpacity": fill, "showPoints": "auto", "pointSize": 4, "spanNulls": panel.hole,
            "stacking": { "mode": stacking, "group": "A" },
            "thresholdsStyle": { "mode": if panel.thresholds.is_some() { "dashed" } else { "off" } },
        })
    };
    match panel.shape {
        Shape::Lines => line(1, 0, "none", "line"),
        Shape::Stacked => line(1, 40, "normal", "line"),
        Shape::Bars => line(1, 60, "normal", "bars"),
        Shape::Smoke => line(1, 15, "none", "line"),
        Shape::Results => json!({ "lineWidth": 0, "fillOpacity": 80, "spanNulls": panel.hole }),
        Shape::Table => json!({ "filterable": true }),
        Shape::Matrix => json!({ "cellOptions": { "type": "color-background" } }),
    }
}

fn options(shape: Shape) -> Value {
    let legend = json!({ "showLegend": true, "displayMode": "list", "placement": "bottom", "calcs": [] });
    match shape {
        Shape::Table | Shape::Matrix => json!({ "showHeader": true, "cellHeight": "sm" }),
        Shape::Results => {
            json!({ "mergeValues": true, "showValue": "never", "rowHeight": 0.8, "legend": legend, "tooltip": { "mode": "single" } })
        }
        _ => json!({ "legend": legend, "tooltip": { "mode": "multi", "sort": "desc" } }),
    }
}

/// Of a table of pairs a matrix; of another one the columns that tell nothing are left out.
fn transformations(panel: &Panel) -> Value {
    let Some(ask) = panel.asks.first() else { return json!([]) };
    match panel.shape {
        Shape::Matrix => json!([{
            "id": "groupingToMatrix",
            "options": { "rowField": ask.by[0], "columnField": ask.by[1], "valueField": ask.shown, "emptyValue": "null" },
        }]),
        Shape::Table => {
            json!([{ "id": "organize", "options": { "excludeByName": { "Time": true }, "indexByName": {}, "renameByName": {} } }])
        }
        _ => json!([]),
    }
}

/// Green, yellow and red; downwards if yellow is above red.
fn steps((yellow, red): (f64, f64)) -> Value {
    let step = |color: &str, value: Option<f64>| json!({ "color": color, "value": value });
    let steps = if yellow > red {
        [step("red", None), step("yellow", Some(red)), step("green", Some(yellow))]
    } else {
        [step("green", None), step("yellow", Some(yellow)), step("red", Some(red))]
    };
    json!({ "mode": "absolute", "steps": steps })
}

/// A word and a colour for each code of a result.
fn results() -> Value {
    let options = Outcome::ALL.iter().map(|outcome| {
        let shown = json!({ "text": outcome.name(), "color": colour(*outcome), "index": outcome.code() });
        (outcome.code().to_string(), shown)
    });
    json!([{ "type": "value", "options": options.collect::<serde_json::Map<_, _>>() }])
}

/// Red and orange: the target or the way to it. Purple: this side. Blue: nothing was measured.
fn colour(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "green",
        Outcome::Partial => "yellow",
        Outcome::Skipped | Outcome::Busy => "blue",
        Outcome::PeerAbsent => "dark-blue",
        Outcome::Killed | Outcome::ToolMissing | Outcome::ToolError | Outcome::Permission | Outcome::LocalError => "purple",
        Outcome::Timeout | Outcome::Unreachable => "red",
        Outcome::Prohibited
        | Outcome::TtlExceeded
        | Outcome::DnsError
        | Outcome::Refused
        | Outcome::TlsError
        | Outcome::BadStatus
        | Outcome::BodyTooLarge => "dark-orange",
    }
}
