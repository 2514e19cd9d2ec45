//! The query of the page, and those of the pages and charts that it leads to. Pure.

use crate::clock::Timestamp;
use crate::history::range::Span;
use crate::measurement::Series;
use crate::page::Asked;
use crate::page::link::{TAG, choice, with_query};
use crate::page::time::RANGES;

/// What was asked for.
pub(super) struct Query {
    range: String,
    from: String,
    to: String,
    /// What chooses among the series.
    kept: Vec<(String, String)>,
}

impl Query {
    /// What was asked for.
    pub(super) fn of(asked: &Asked) -> Self {
        let text = |key| asked.get(key).unwrap_or_default().to_owned();
        let chooses = |key: &str| ["family", "source"].contains(&key) || key.starts_with(TAG);
        let kept = asked.query.iter().filter(|(key, value)| chooses(key) && !value.is_empty());
        let kept = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
        Self { range: text("range"), from: text("from"), to: text("to"), kept }
    }

    /// Up to now, so far back.
    pub(super) fn range(&self, name: &str) -> String {
        link(&[("range", name)], &self.kept)
    }

    /// Whether this range is shown; without any word it is the usual one.
    pub(super) fn is_range(&self, name: &str) -> bool {
        let is_fixed = !self.from.is_empty() || !self.to.is_empty();
        let shown = if self.range.is_empty() { RANGES[1].0 } else { &self.range };
        !is_fixed && shown == name
    }

    /// One series alone.
    pub(super) fn of_series(&self, series: &Series) -> String {
        link(&self.time(), &choice(series))
    }

    /// As long a time, right before or after; none if it has not begun.
    pub(super) fn moved(&self, span: Span, later: bool, now: Timestamp) -> Option<String> {
        let length = span.to.since(span.from);
        let (from, to) = if later { (span.to, span.to.plus(length)) } else { (span.from.minus(length), span.from) };
        let seconds = |time: Timestamp| time.nanos().div_euclid(1_000_000_000).to_string();
        (from < now).then(|| link(&[("from", &seconds(from)), ("to", &seconds(to))], &self.kept))
    }

    /// A chart of a series over the same time.
    pub(super) fn chart(&self, path: &str, field: &str, series: &Series) -> String {
        let (time, choice) = (self.time(), choice(series));
        with_query(path, [("field", field)].into_iter().chain(time).chain(pairs(&choice)))
    }

    /// What is kept when another time is asked for.
    pub(super) fn kept(&self) -> Vec<(String, String)> {
        self.kept.clone()
    }

    fn time(&self) -> Vec<(&str, &str)> {
        vec![("range", &self.range), ("from", &self.from), ("to", &self.to)]
    }
}

/// Below the same path; never empty, as an empty address would be that of the page with its query.
fn link(time: &[(&str, &str)], kept: &[(String, String)]) -> String {
    let link = with_query("", time.iter().copied().chain(pairs(kept)));
    if link.is_empty() { "?".to_owned() } else { link }
}

fn pairs(kept: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    kept.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::status::testing::at;

    fn query(asked: &[(&str, &str)]) -> Query {
        Query::of(&Asked { query: asked.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect() })
    }

    #[test]
    fn links_keep_the_series_and_charts_the_time() {
        let of = query(&[("from", "100"), ("to", "200"), ("family", "ipv6"), ("tag.site", "milan")]);
        let series = Series::new("qos_metrics", [("family", "ipv6"), ("source", "rome-1"), ("site", "milan")]);
        assert_eq!(of.range("1h"), "?range=1h&family=ipv6&tag.site=milan");
        assert_eq!(
            of.chart("/c.svg", "ping_avg_ms", &series),
            "/c.svg?field=ping_avg_ms&from=100&to=200&family=ipv6&source=rome-1&tag.site=milan"
        );
        let nothing = Series::new("qos_metrics", [("target", "x")]);
        assert_eq!((query(&[]).range("6h"), query(&[]).of_series(&nothing)), ("?range=6h".to_owned(), "?".to_owned()));
    }

    #[test]
    fn without_a_word_the_usual_range_is_shown_and_with_a_time_none() {
        assert!(query(&[]).is_range("6h") && !query(&[]).is_range("1h"));
        assert!(query(&[("range", "7d")]).is_range("7d") && !query(&[("range", "7d")]).is_range("6h"));
        assert!(!query(&[("from", "1")]).is_range("6h"));
    }

    #[test]
    fn there_is_always_an_earlier_time_but_no_later_one_than_now() {
        let span = Span { from: at(1_000), to: at(1_000).plus(Duration::from_mins(1)) };
        assert_eq!(query(&[]).moved(span, false, at(1_060)).unwrap(), "?from=940&to=1000");
        assert_eq!(query(&[]).moved(span, true, at(1_060)), None);
        assert_eq!(query(&[]).moved(span, true, at(1_061)).unwrap(), "?from=1060&to=1120");
    }
}
