//! One series of a target: how it is, its charts, its last values. Pure.

use super::elsewhere::Elsewhere;
use super::query::Query;
use crate::clock::Timestamp;
use crate::history::range::Range;
use crate::measurement::Series;
use crate::page::chart::{self, Drawn};
use crate::page::shown::{Shown, shown};
use crate::page::{link, words};
use crate::status::health::Health;
use crate::status::known::{Known, Last};

/// A series, as it is shown.
pub(super) struct Group {
    /// Its place in the page, from 1 on.
    pub(super) number: usize,
    pub(super) label: Shown,
    pub(super) tags: Vec<(Shown, Shown)>,
    pub(super) state: &'static str,
    pub(super) word: &'static str,
    pub(super) why: Shown,
    /// When its last row was, and how long ago.
    pub(super) last: Option<(String, String)>,
    pub(super) address: Option<Shown>,
    pub(super) interval: Option<String>,
    pub(super) loss: Option<String>,
    pub(super) good: Option<(String, String)>,
    pub(super) failing: Option<(String, String)>,
    /// Why there are no charts.
    pub(super) trouble: Option<Shown>,
    pub(super) charts: Vec<Figure>,
    /// Whether this host measures it.
    pub(super) is_here: bool,
    /// When the run was that has the values.
    pub(super) ran: Option<String>,
    pub(super) values: Vec<Value>,
}

/// A chart in the page.
pub(super) struct Figure {
    pub(super) id: String,
    pub(super) title: &'static str,
    pub(super) drawn: Drawn,
    pub(super) svg: String,
    pub(super) csv: String,
}

/// A field of the last run.
pub(super) struct Value {
    pub(super) field: &'static str,
    pub(super) text: Shown,
    pub(super) unit: &'static str,
}

/// What tells the series of a target apart.
pub(super) fn label(series: &Series) -> String {
    let family = match series.tag("family") {
        Some("ipv4") => "IPv4",
        Some("ipv6") => "IPv6",
        Some("auto") | None => "",
        Some(other) => other,
    };
    let source = series.tag("source").map(|source| format!("from {source}")).unwrap_or_default();
    let own = link::own_tags(series).map(|(key, value)| format!("{key}={value}"));
    let parts = [family.to_owned(), source].into_iter().chain(own).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" ")
}

impl Group {
    /// `number` says which it is in the page, from 0 on. Of a series of this host there is what is known, of one of another
    /// host in a mesh what came of it last.
    pub(super) fn new(
        number: usize,
        series: &Series,
        (known, elsewhere): (Option<&Known>, Option<&Elsewhere>),
        range: Result<&Range, &Shown>,
        query: &Query,
        now: Timestamp,
    ) -> Self {
        let (health, why) = state(known, elsewhere, now);
        let last = known.map_or_else(|| elsewhere.map(Elsewhere::time), |known| known.last().map(|last| last.time));
        let ran = known.and_then(Known::ran);
        let mark = if number == 0 { String::new() } else { format!("-{}", number + 1) };
        let moment = |time: Timestamp| (words::time(time), words::ago(time, now));
        Self {
            number: number + 1,
            label: shown(&label(series)),
            tags: link::own_tags(series).map(|(key, value)| (shown(key), shown(value))).collect(),
            state: health.name(),
            word: health.word(),
            why,
            last: last.map(moment),
            address: ran.and_then(Last::address).map(shown),
            interval: known.and_then(Known::pace).map(|pace| humantime::format_duration(pace.interval).to_string()),
            loss: known.and_then(|known| known.recent().loss()).map(words::percent),
            good: known.and_then(Known::good).map(moment),
            failing: known.and_then(Known::failing_since).map(moment),
            trouble: range.err().cloned(),
            charts: range.map(|range| figures(&mark, series, range, query)).unwrap_or_default(),
            is_here: known.is_some(),
            ran: ran.map(|ran| words::time(ran.time)),
            values: ran.map(values).unwrap_or_default(),
        }
    }
}

/// How it is, and what there is to be said of that.
fn state(known: Option<&Known>, elsewhere: Option<&Elsewhere>, now: Timestamp) -> (Health, Shown) {
    match (known, elsewhere) {
        (Some(known), _) => {
            let health = Health::of(known, now);
            (health, words::why(health, known))
        }
        (None, Some(elsewhere)) => (elsewhere.health(now), elsewhere.why(now)),
        (None, None) => (Health::Disabled, Shown::default()),
    }
}

fn figures(mark: &str, series: &Series, range: &Range, query: &Query) -> Vec<Figure> {
    let tag = |key| series.tag(key).unwrap_or_default();
    // A chart is as fit to be seen as the page around it.
    let name = shown(&format!("{} {}", tag("target"), label(series))).to_string();
    let address = |chart: &chart::Chart, ending| query.chart(&link::chart(series, ending), chart.field, series);
    let figure = |one: &chart::Chart| Figure {
        id: format!("chart-{}{mark}", one.field),
        title: one.title,
        drawn: chart::draw(one, &name, range),
        svg: address(one, "svg"),
        csv: address(one, "csv"),
    };
    chart::charts(tag("kind")).iter().map(figure).collect()
}

/// Numbers first, as the row has them, then texts.
fn values(last: &Last) -> Vec<Value> {
    let number = |(field, figure)| {
        let quantity = words::quantity(field, figure);
        Value { field, text: shown(&quantity.number), unit: quantity.unit }
    };
    let text = |(field, text): (&'static str, &str)| Value { field, text: shown(text), unit: "" };
    let result = last.outcome.map(|outcome| Value { field: "result", text: shown(outcome.name()), unit: "" });
    let error = last.error.as_deref().map(|error| Value { field: "error", text: shown(error), unit: "" });
    result.into_iter().chain(error).chain(last.figures().map(number)).chain(last.texts().map(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_of_a_target_are_told_apart_by_family_source_and_their_own_tags() {
        let of = |family: &str| Series::new("qos_metrics", [("family", family), ("source", "rome-1")]);
        assert_eq!((label(&of("ipv6")), label(&of("auto"))), ("IPv6 from rome-1".to_owned(), "from rome-1".to_owned()));
        let own = Series::new("qos_metrics", [("family", "ipv4"), ("source", "rome-1"), ("site", "milan")]);
        assert_eq!(label(&own), "IPv4 from rome-1 site=milan");
    }
}
