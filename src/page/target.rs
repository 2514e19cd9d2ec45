//! A target: its charts over a range of time, its last values, and what happened.

use askama::Template;

use super::shown::{Shown, shown};
use super::subject::{NoSeries, keep_addressed};
use super::time::{RANGES, span};
use super::{Answer, Asked, Sight, Subject, refusal, words};
use crate::clock::Timestamp;
use crate::history::range::{Range, Span};
use crate::measurement::Series;
use elsewhere::Elsewhere;
use events::Happened;
use group::Group;
use query::Query;

mod elsewhere;
mod events;
mod group;
mod query;
#[cfg(test)]
mod tests;

/// Series whose charts are shown at once. A collector may have one of each of a thousand sources: they are chosen by link.
const MOST_GROUPS: usize = 4;
/// Links to series that are shown at once.
const MOST_LINKS: usize = 200;
/// Columns of time in a chart.
const COLUMNS: usize = 300;

#[derive(Template)]
#[template(path = "target.html")]
struct Page {
    target: Shown,
    kind: Shown,
    probe: Shown,
    now: String,
    from: String,
    to: String,
    trouble: Option<Shown>,
    ranges: Vec<Choice>,
    earlier: String,
    later: Option<String>,
    /// What the form keeps beside the times.
    kept: Vec<(String, String)>,
    groups: Vec<Group>,
    /// When there are several series: each alone.
    series: Vec<Choice>,
    series_count: usize,
    events: Vec<Happened>,
    /// Whether what happened is known of every series that is shown.
    is_known: bool,
}

/// A link, and whether it leads to what is shown.
struct Choice {
    word: Shown,
    link: String,
    is_chosen: bool,
}

/// The page.
pub async fn page(sight: &Sight, subject: &Subject, asked: &Asked) -> Answer {
    let now = sight.clock.now().unix;
    let span = match span(asked, now) {
        Ok(span) => span,
        Err(why) => return refusal::page(400, "Not a range of time", &why),
    };
    let (mut series, trouble) = match subject.known(sight, asked).await {
        Ok((series, trouble)) => (series, trouble.map(|error| shown(&error.to_string()))),
        Err(why @ NoSeries::Away(_)) => return refusal::page(why.status(), "Not known now", &why.to_string()),
        Err(why) => return refusal::page(why.status(), "Not a target", &why.to_string()),
    };
    keep_addressed(&mut series, asked);
    let seen = seen(sight, &series, span, trouble.clone()).await;
    let view = View { subject, asked, now, span, series: &series, seen: &seen, trouble };
    refusal::rendered(view.page(sight).render())
}

/// Asks the history, until it fails: it would fail for the others as slowly.
async fn seen(sight: &Sight, series: &[Series], span: Span, mut trouble: Option<Shown>) -> Vec<Seen> {
    let mut seen = Vec::new();
    for series in series.iter().take(MOST_GROUPS) {
        let range = match &trouble {
            Some(why) => Err(why.clone()),
            None => sight.range(series, span, COLUMNS).await.map_err(|error| shown(&error.to_string())),
        };
        trouble = range.as_ref().err().cloned();
        seen.push((series.clone(), range));
    }
    seen
}

/// A series, and what is known of it in the span, or why that is not known.
type Seen = (Series, Result<Range, Shown>);

/// All that the page is made of.
struct View<'a> {
    subject: &'a Subject,
    asked: &'a Asked,
    now: Timestamp,
    span: Span,
    series: &'a [Series],
    seen: &'a [Seen],
    /// Why it is not known which series there were.
    trouble: Option<Shown>,
}

impl View<'_> {
    fn page(&self, sight: &Sight) -> Page {
        let query = Query::of(self.asked);
        let alone = self.series.len() == 1;
        let member = if self.subject.is_mesh() { super::matrix::member(&(sight.report)()) } else { None };
        let groups = self.seen.iter().enumerate().map(|(number, (series, range))| {
            let known = sight.board.of(series);
            let elsewhere = member.as_ref().and_then(|member| Elsewhere::of(&sight.pairs, member, series));
            Group::new(number, series, (known.as_deref(), elsewhere.as_ref()), range.as_ref(), &query, self.now)
        });
        let series = |series: &Series| Choice { word: shown(&group::label(series)), link: query.of_series(series), is_chosen: alone };
        let range = |name: &str| Choice { word: shown(name), link: query.range(name), is_chosen: query.is_range(name) };
        let is_narrow = !query.kept().is_empty();
        Page {
            target: shown(&self.subject.target),
            kind: shown(&self.subject.kind),
            probe: shown(&self.subject.probe),
            now: words::time(self.now),
            from: words::time(self.span.from),
            to: words::time(self.span.to),
            trouble: self.trouble.clone(),
            ranges: RANGES.iter().map(|(name, _)| range(name)).collect(),
            earlier: query.moved(self.span, false, self.now).unwrap_or_default(),
            later: query.moved(self.span, true, self.now),
            kept: query.kept(),
            groups: groups.collect(),
            series: if alone && !is_narrow { Vec::new() } else { self.series.iter().take(MOST_LINKS).map(series).collect() },
            series_count: self.series.len(),
            events: events::all(self.seen),
            is_known: self.seen.iter().all(|(_, range)| range.as_ref().is_ok_and(|range| range.lacking.is_none())),
        }
    }
}
