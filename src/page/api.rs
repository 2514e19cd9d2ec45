//! `/api/v1`: what the pages show, for programs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::shown::shown;
use super::{Answer, Asked, Sight, Subject, time};
use crate::clock::Timestamp;
use crate::history::range::{Column, Event, Lacking, Range, Spread, What};
use crate::measurement::Series;
use crate::probe::KINDS;
use crate::status::SeriesStatus;

/// How many columns a range has at most, about.
const COLUMNS: usize = 400;
/// The most series in one answer: of a mesh a subject may have very many.
const MOST: usize = 16;

/// Everything that qosd knows of itself, as on the state socket.
pub fn status(sight: &Sight) -> Answer {
    let mut status = (sight.report)();
    status["series"] = serde_json::json!(sight.board.series(sight.clock.now().unix));
    json(&status)
}

/// The overview: every series with its last values.
pub fn series(sight: &Sight) -> Answer {
    #[derive(Serialize)]
    struct Overview {
        time: Timestamp,
        series: Vec<SeriesStatus>,
    }
    let time = sight.clock.now().unix;
    json(&Overview { time, series: sight.board.series(time) })
}

/// What a chart is made of: a range for each series of the subject, of one field or of all.
pub async fn range(sight: &Sight, subject: &Subject, asked: &Asked) -> Answer {
    let span = match time::span(asked, sight.clock.now().unix) {
        Ok(span) => span,
        Err(why) => return Answer::refused(400, &why),
    };
    if let Err(why) = field(&subject.kind, asked.get("field")) {
        return Answer::refused(400, &why);
    }
    let found = match subject.series(sight, asked).await {
        Ok(found) => found,
        Err(why) => return Answer::refused(why.status(), &why.to_string()),
    };
    if found.len() > MOST {
        return Answer::refused(400, &format!("these are {} series, choose at most {MOST} with family= and source=", found.len()));
    }
    let mut ranges = Vec::new();
    for series in found {
        match sight.range(&series, span, COLUMNS).await {
            Ok(range) => ranges.push((series, range)),
            Err(error) => return Answer::refused(503, &error.to_string()),
        }
    }
    let ranges: Vec<_> = ranges.iter().map(|(series, range)| RangeOf::new(series, range, asked.get("field"))).collect();
    json(&BTreeMap::from([("ranges", ranges)]))
}

/// Whether ranges of a kind have such a field; else which they have. Of a kind that is not known there is nothing to choose from.
fn field(kind: &str, wanted: Option<&str>) -> Result<(), String> {
    let (Some(wanted), Some(kind)) = (wanted, KINDS.iter().find(|known| known.name() == kind)) else { return Ok(()) };
    let known: Vec<_> = kind.fields().iter().map(|field| field.name).filter(|name| crate::history::FIELDS.contains(name)).collect();
    if known.contains(&wanted) {
        return Ok(());
    }
    Err(format!("field is {:?}, expected one of {}", shown(wanted).to_string(), known.join(", ")))
}

pub(super) fn json(document: &impl Serialize) -> Answer {
    match serde_json::to_string(document) {
        Ok(body) => Answer::json(body),
        Err(error) => Answer::refused(500, &error.to_string()),
    }
}

/// A range as it is written. Its shape is that of [`Range`], its times RFC 3339, its durations in seconds.
#[derive(Serialize)]
struct RangeOf<'a> {
    tags: BTreeMap<&'a str, &'a str>,
    from: Timestamp,
    to: Timestamp,
    step_s: f64,
    single: bool,
    columns: Vec<ColumnOf<'a>>,
    events: Vec<EventOf<'a>>,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lacking: Option<LackingOf<'a>>,
}

/// What of the journal is not in it yet, of all series.
#[derive(Serialize)]
struct LackingOf<'a> {
    rows: u64,
    from: Timestamp,
    to: Timestamp,
    why: Option<&'a str>,
}

#[derive(Serialize)]
struct ColumnOf<'a> {
    start: Timestamp,
    width_s: f64,
    rows: u32,
    outcomes: BTreeMap<&'static str, u32>,
    loaded: u32,
    figures: BTreeMap<&'static str, SpreadOf<'a>>,
}

struct SpreadOf<'a>(&'a Spread);

struct EventOf<'a>(&'a Event);

impl<'a> RangeOf<'a> {
    fn new(series: &'a Series, range: &'a Range, field: Option<&str>) -> Self {
        Self {
            tags: series.tags().collect(),
            from: range.span.from,
            to: range.span.to,
            step_s: range.step.as_secs_f64(),
            single: range.single,
            columns: range.columns.iter().map(|column| ColumnOf::new(column, field)).collect(),
            events: range.events.iter().map(EventOf).collect(),
            complete: range.lacking.is_none(),
            lacking: range.lacking.as_ref().map(LackingOf::new),
        }
    }
}

impl<'a> LackingOf<'a> {
    fn new(lacking: &'a Lacking) -> Self {
        let Lacking { rows, from, to, why } = lacking;
        Self { rows: *rows, from: *from, to: *to, why: why.as_deref() }
    }
}

impl<'a> ColumnOf<'a> {
    fn new(column: &'a Column, field: Option<&str>) -> Self {
        let wanted = column.figures.iter().filter(|(name, _)| field.is_none_or(|field| field == *name));
        Self {
            start: column.start,
            width_s: column.width.as_secs_f64(),
            rows: column.rows(),
            outcomes: column.outcomes.iter().map(|(outcome, rows)| (outcome.name(), *rows)).collect(),
            loaded: column.loaded,
            figures: wanted.map(|(name, spread)| (*name, SpreadOf(spread))).collect(),
        }
    }
}

impl Serialize for SpreadOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Spread { min, low, median, high, max, mean, rows } = self.0;
        let mut map = serializer.serialize_map(Some(7))?;
        for (name, value) in [("min", min), ("low", low), ("median", median), ("high", high), ("max", max), ("mean", mean)] {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("rows", rows)?;
        map.end()
    }
}

impl Serialize for EventOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Event { time, what } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", time)?;
        match what {
            What::AddressChanged { from, to } => {
                map.serialize_entry("what", "address_changed")?;
                map.serialize_entry("from", from)?;
                map.serialize_entry("to", to)?;
            }
            What::Lost(outcome) => {
                map.serialize_entry("what", "lost")?;
                map.serialize_entry("result", outcome.name())?;
            }
            What::Back => map.serialize_entry("what", "back")?,
            What::Skipped(reason) => {
                map.serialize_entry("what", "skipped")?;
                map.serialize_entry("reason", reason)?;
            }
            What::ClockStep(step_ms) => {
                map.serialize_entry("what", "clock_step")?;
                map.serialize_entry("step_ms", step_ms)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::history::range::Span;
    use crate::probe::Outcome;

    #[test]
    fn a_field_that_ranges_of_a_kind_do_not_have_is_refused_with_those_that_they_have() {
        for (kind, wanted) in [("ping", None), ("ping", Some("ping_jitter_ms")), ("http", Some("http_tls_ms")), ("nothing", Some("x"))] {
            assert_eq!(field(kind, wanted), Ok(()), "{kind} {wanted:?}");
        }
        let known = "expected one of ping_avg_ms, ping_jitter_ms, ping_packet_loss_pct";
        for wrong in ["pingg_avg_ms", "ping_ttl", "http_ping_ms"] {
            assert_eq!(field("ping", Some(wrong)), Err(format!("field is {wrong:?}, {known}")));
        }
        let long = field("ping", Some(&"x".repeat(8_000))).unwrap_err();
        assert!(long.len() < 500 && long.ends_with(known), "{long}");
    }

    #[test]
    fn a_range_is_written_as_it_is_documented() {
        let at = |seconds: i64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let spread = Spread { min: 1.0, low: 1.0, median: 2.0, high: 3.0, max: 4.0, mean: 2.5, rows: 2 };
        let column = Column {
            start: at(60),
            width: Duration::from_mins(1),
            outcomes: vec![(Outcome::Ok, 1), (Outcome::Timeout, 1)],
            loaded: 0,
            figures: vec![("ping_avg_ms", spread), ("ping_ttl", spread)],
        };
        let event = |seconds, what| Event { time: at(seconds), what };
        let range = Range {
            span: Span { from: at(0), to: at(120) },
            step: Duration::from_mins(1),
            single: false,
            columns: vec![column],
            events: vec![
                event(1, What::Lost(Outcome::Timeout)),
                event(2, What::Back),
                event(3, What::Skipped("restart".to_owned())),
                event(4, What::ClockStep(-1500.0)),
                event(5, What::AddressChanged { from: "192.0.2.1".to_owned(), to: "192.0.2.2".to_owned() }),
            ],
            lacking: None,
        };
        let series = Series::new("qos_metrics", [("kind", "ping"), ("target", "<script>")]);
        let written = serde_json::to_value(RangeOf::new(&series, &range, Some("ping_avg_ms"))).unwrap();
        let expected = serde_json::json!({
            "tags": {"kind": "ping", "target": "<script>"},
            "from": "1970-01-01T00:00:00.000000000Z",
            "to": "1970-01-01T00:02:00.000000000Z",
            "step_s": 60.0,
            "single": false,
            "columns": [{
                "start": "1970-01-01T00:01:00.000000000Z",
                "width_s": 60.0,
                "rows": 2,
                "outcomes": {"ok": 1, "timeout": 1},
                "loaded": 0,
                "figures": {"ping_avg_ms": {"min": 1.0, "low": 1.0, "median": 2.0, "high": 3.0, "max": 4.0, "mean": 2.5, "rows": 2}},
            }],
            "events": [
                {"time": "1970-01-01T00:00:01.000000000Z", "what": "lost", "result": "timeout"},
                {"time": "1970-01-01T00:00:02.000000000Z", "what": "back"},
                {"time": "1970-01-01T00:00:03.000000000Z", "what": "skipped", "reason": "restart"},
                {"time": "1970-01-01T00:00:04.000000000Z", "what": "clock_step", "step_ms": -1500.0},
                {"time": "1970-01-01T00:00:05.000000000Z", "what": "address_changed", "from": "192.0.2.1", "to": "192.0.2.2"},
            ],
            "complete": true,
        });
        assert_eq!(written, expected);
        let lacking = Lacking { rows: 7, from: at(0), to: at(60), why: None };
        let part = Range { lacking: Some(lacking), ..Range::empty(range.span) };
        let written = serde_json::to_value(RangeOf::new(&series, &part, None)).unwrap();
        let expected = serde_json::json!({
            "rows": 7, "from": "1970-01-01T00:00:00.000000000Z", "to": "1970-01-01T00:01:00.000000000Z", "why": null,
        });
        assert_eq!((&written["complete"], &written["lacking"]), (&false.into(), &expected));
    }
}
