//! The overview: every series, worst first.

use askama::Template;

use super::notices::{Notice, notices};
use super::shown::{Shown, shown};
use super::words::{self, Quantity};
use super::{Answer, Asked, Sight, chart, link, refusal};
use crate::clock::Timestamp;
use crate::probe::FIXED_TAGS;
use crate::status::health::Health;
use crate::status::known::Figure;
use crate::status::report::Report;
use choice::{Chosen, Entry, Sort, Wanted, choose};

mod choice;
#[cfg(test)]
mod tests;

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    agent: Shown,
    now: String,
    newest: Option<(String, String)>,
    notices: Vec<Notice>,
    total: usize,
    matching: usize,
    is_filtered: bool,
    counts: Vec<Count>,
    text: String,
    kinds: Vec<Choice>,
    states: Vec<Choice>,
    sorts: Vec<Choice>,
    heads: Vec<Head>,
    lines: Vec<Line>,
    pages: Vec<(usize, Option<String>)>,
}

/// How many series are in a state.
struct Count {
    name: &'static str,
    word: &'static str,
    series: usize,
    link: String,
}

/// What can be chosen in the form.
struct Choice {
    value: String,
    word: Shown,
    is_chosen: bool,
}

/// A column.
struct Head {
    word: &'static str,
    class: &'static str,
    /// Where it is sorted by this; none if it cannot be.
    link: Option<String>,
    is_sorted: bool,
}

/// A series.
struct Line {
    state: &'static str,
    word: &'static str,
    link: String,
    target: Shown,
    probe: Shown,
    kind: Shown,
    family: Shown,
    tags: Shown,
    value: Option<Quantity>,
    sparkline: String,
    loss: Option<String>,
    last: Option<(String, String)>,
    why: Shown,
}

/// The page.
pub fn page(sight: &Sight, asked: &Asked) -> Answer {
    let wanted = match Wanted::of(asked) {
        Ok(wanted) => wanted,
        Err(why) => return refusal::page(400, "Not an overview", &why),
    };
    let now = sight.clock.now().unix;
    let report = serde_json::from_value::<Report>((sight.report)()).ok();
    let chosen = choose(sight.board.all(), &wanted, now);
    refusal::rendered(Page::new(report.as_ref(), &wanted, &chosen, now).render())
}

impl Page {
    fn new(report: Option<&Report>, wanted: &Wanted, chosen: &Chosen, now: Timestamp) -> Self {
        let count = |(health, series): (&Health, &usize)| Count {
            name: health.name(),
            word: health.word(),
            series: *series,
            link: Wanted { health: Some(*health), page: 1, ..Wanted::default() }.link(),
        };
        let page = |number| (number, (number != chosen.page).then(|| Wanted { page: number, ..wanted.clone() }.link()));
        Self {
            agent: report.map(|report| shown(&report.agent)).unwrap_or_default(),
            now: words::time(now),
            newest: chosen.newest.map(|time| (words::time(time), words::ago(time, now))),
            notices: report.map(notices).unwrap_or_default(),
            total: chosen.counts.values().sum(),
            matching: chosen.matching,
            is_filtered: wanted.is_filtered(),
            counts: chosen.counts.iter().map(count).collect(),
            text: wanted.text.clone(),
            kinds: kinds(wanted, chosen),
            states: Health::SCHEDULED.iter().map(|of| choice(of.name(), of.word(), wanted.health == Some(*of))).collect(),
            sorts: Sort::ALL.iter().map(|sort| choice(sort.name(), sort_word(*sort), wanted.sort == *sort)).collect(),
            heads: heads(wanted),
            lines: chosen.entries.iter().map(|entry| Line::of(entry, now)).collect(),
            pages: if chosen.pages > 1 { (1..=chosen.pages).map(page).collect() } else { Vec::new() },
        }
    }
}

fn choice(value: &str, word: &str, is_chosen: bool) -> Choice {
    Choice { value: value.to_owned(), word: shown(word), is_chosen }
}

/// Those that there are, and what was asked for even if there is none.
fn kinds(wanted: &Wanted, chosen: &Chosen) -> Vec<Choice> {
    let other = (!wanted.kind.is_empty() && !chosen.kinds.contains(&wanted.kind)).then_some(&wanted.kind);
    chosen.kinds.iter().chain(other).map(|kind| choice(kind, kind, *kind == wanted.kind)).collect()
}

fn sort_word(sort: Sort) -> &'static str {
    match sort {
        Sort::State => "state, worst first",
        Sort::Target => "target",
        Sort::Value => "value, slowest first",
        Sort::Loss => "loss, most first",
        Sort::Age => "age, oldest first",
    }
}

fn heads(wanted: &Wanted) -> Vec<Head> {
    let columns = [
        ("State", "", Some(Sort::State)),
        ("Target", "", Some(Sort::Target)),
        ("Probe", "", None),
        ("Kind", "", None),
        ("Family", "", None),
        ("Tags", "", None),
        ("Value", "figure", Some(Sort::Value)),
        ("Trend", "", None),
        ("Loss", "figure", Some(Sort::Loss)),
        ("Age", "figure", Some(Sort::Age)),
        ("What happened", "", None),
    ];
    let head = |(word, class, sort): (_, _, Option<Sort>)| Head {
        word,
        class,
        link: sort.map(|sort| Wanted { sort, page: 1, ..wanted.clone() }.link()),
        is_sorted: sort == Some(wanted.sort),
    };
    columns.into_iter().map(head).collect()
}

impl Line {
    fn of(entry: &Entry, now: Timestamp) -> Self {
        let Entry { series, known, health } = entry;
        let tag = |key| shown(series.tag(key).unwrap_or_default());
        let own: Vec<String> =
            series.tags().filter(|(key, _)| !FIXED_TAGS.contains(key)).map(|(key, value)| format!("{key}={value}")).collect();
        Self {
            state: health.name(),
            word: health.word(),
            link: link::target(series),
            target: tag("target"),
            probe: tag("probe"),
            kind: tag("kind"),
            family: tag("family"),
            tags: shown(&own.join(" ")),
            value: known.value().map(|(field, value)| words::quantity(field, Figure::Float(value))),
            sparkline: chart::sparkline(&known.recent().slots()),
            loss: known.recent().loss().map(words::percent),
            last: known.last().map(|last| (words::time(last.time), words::ago(last.time, now))),
            why: words::why(*health, known),
        }
    }
}
