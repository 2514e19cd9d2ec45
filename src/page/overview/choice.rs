//! Which series the overview shows, and in which order: what was asked for, and what comes of it. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::measurement::Series;
use crate::page::{Asked, link};
use crate::probe::KINDS;
use crate::status::health::Health;
use crate::status::known::Known;

/// Rows on one page: more are hardly read, and a browser needs its time for them.
pub(super) const PER_PAGE: usize = 1_000;
/// The longest text that is looked for, as in the form: each word of it costs a look at every tag.
const LONGEST: usize = 200;

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// The most urgent first.
    #[default]
    State,
    /// By name.
    Target,
    /// The slowest first.
    Value,
    /// The most first.
    Loss,
    /// The oldest first.
    Age,
}

impl Sort {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [Self::State, Self::Target, Self::Value, Self::Loss, Self::Age];

    /// As in the query.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Target => "target",
            Self::Value => "value",
            Self::Loss => "loss",
            Self::Age => "age",
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Words that all have to match: be somewhere in target, probe or tags, or as `key=value` in the tag of that name.
    pub(super) text: String,
    /// A kind.
    pub(super) kind: String,
    /// A state.
    pub(super) health: Option<Health>,
    /// The order.
    pub(super) sort: Sort,
    /// Which page, from 1 on.
    pub(super) page: usize,
}

impl Wanted {
    /// What was asked for, or what is wrong with it.
    pub(super) fn of(asked: &Asked) -> Result<Self, String> {
        let wrong = |key: &str, words: &[&str], text: &str| format!("{key} is {text:?}, expected one of {}", words.join(", "));
        let health = |text: &str| {
            let words = Health::SCHEDULED.map(Health::name);
            Health::SCHEDULED.into_iter().find(|health| health.name() == text).ok_or_else(|| wrong("state", &words, text))
        };
        let sort = |text: &str| {
            let words = Sort::ALL.map(Sort::name);
            Sort::ALL.into_iter().find(|sort| sort.name() == text).ok_or_else(|| wrong("sort", &words, text))
        };
        let page =
            |text: &str| text.parse().ok().filter(|page| *page > 0).ok_or_else(|| format!("page is {text:?}, expected a number from 1 on"));
        let kind = |text: &str| {
            let words: Vec<_> = KINDS.iter().map(|kind| kind.name()).collect();
            if words.contains(&text) { Ok(text.to_owned()) } else { Err(wrong("kind", &words, text)) }
        };
        let text = asked.get("q").unwrap_or_default();
        if text.chars().count() > LONGEST {
            return Err(format!("q is longer than {LONGEST} characters"));
        }
        Ok(Self {
            text: text.to_owned(),
            kind: asked.get("kind").map(kind).transpose()?.unwrap_or_default(),
            health: asked.get("state").map(health).transpose()?,
            sort: asked.get("sort").map(sort).transpose()?.unwrap_or_default(),
            page: asked.get("page").map(page).transpose()?.unwrap_or(1),
        })
    }

    /// The address of the same with another state, order or page.
    pub(super) fn link(&self) -> String {
        let sort = if self.sort == Sort::default() { "" } else { self.sort.name() };
        let page = if self.page > 1 { self.page.to_string() } else { String::new() };
        let state = self.health.map(Health::name).unwrap_or_default();
        link::with_query("/", [("q", &*self.text), ("kind", &self.kind), ("state", state), ("sort", sort), ("page", &page)])
    }

    /// Whether anything is left out.
    pub(super) fn is_filtered(&self) -> bool {
        !self.text.is_empty() || !self.kind.is_empty() || self.health.is_some()
    }

    fn takes(&self, entry: &Entry, words: &[String]) -> bool {
        (self.kind.is_empty() || entry.series.tag("kind") == Some(&self.kind))
            && self.health.is_none_or(|health| health == entry.health)
            && (words.is_empty() || holds_all(&entry.series, words))
    }
}

/// Whether each word is in some tag, or of the form `key=value` and its value in the tag of that name. Kinds have a choice of
/// their own, so a plain word is not looked for there.
fn holds_all(series: &Series, words: &[String]) -> bool {
    let tags: Vec<(String, String)> = series.tags().map(|(key, value)| (key.to_lowercase(), value.to_lowercase())).collect();
    let plain = |word: &str| tags.iter().any(|(key, value)| key != "kind" && value.contains(word));
    let named = |wanted: &str, part: &str| tags.iter().any(|(key, value)| key == wanted && value.contains(part));
    words.iter().all(|word| plain(word) || word.split_once('=').is_some_and(|(key, part)| named(key, part)))
}

/// A series, and how it is.
pub(super) struct Entry {
    /// Which.
    pub(super) series: Series,
    /// What is known of it.
    pub(super) known: Arc<Known>,
    /// How it is.
    pub(super) health: Health,
}

/// What is shown.
pub(super) struct Chosen {
    /// How many series are how, of all; those of which there are none are left out.
    pub(super) counts: BTreeMap<Health, usize>,
    /// The kinds that there are.
    pub(super) kinds: Vec<String>,
    /// How many series match.
    pub(super) matching: usize,
    /// The time of the newest row.
    pub(super) newest: Option<Timestamp>,
    /// Those of this page, in order.
    pub(super) entries: Vec<Entry>,
    /// Which page, from 1 on.
    pub(super) page: usize,
    /// How many pages there are.
    pub(super) pages: usize,
}

/// Chooses and sorts.
pub(super) fn choose(board: Vec<(Series, Arc<Known>)>, wanted: &Wanted, now: Timestamp) -> Chosen {
    let health = |(series, known): (Series, Arc<Known>)| Entry { health: Health::of(&known, now), series, known };
    let mut entries: Vec<Entry> = board.into_iter().map(health).collect();
    let mut counts = BTreeMap::new();
    for entry in &entries {
        *counts.entry(entry.health).or_default() += 1;
    }
    let mut kinds: Vec<&str> = entries.iter().filter_map(|entry| entry.series.tag("kind")).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let kinds = kinds.into_iter().map(str::to_owned).collect();
    let newest = entries.iter().filter_map(|entry| Some(entry.known.last()?.time)).max();

    let words: Vec<String> = wanted.text.split_whitespace().map(str::to_lowercase).collect();
    entries.retain(|entry| wanted.takes(entry, &words));
    sort(&mut entries, wanted.sort);
    let matching = entries.len();
    let pages = matching.div_ceil(PER_PAGE).max(1);
    let page = wanted.page.clamp(1, pages);
    let entries = entries.into_iter().skip((page - 1) * PER_PAGE).take(PER_PAGE).collect();
    Chosen { counts, kinds, matching, newest, entries, page, pages }
}

fn sort(entries: &mut [Entry], by: Sort) {
    let name = |entry: &Entry| ["target", "probe", "kind"].map(|key| entry.series.tag(key).unwrap_or_default().to_owned());
    // What the board has is sorted, so equal ones stay in a fixed order.
    match by {
        Sort::Target => entries.sort_by_cached_key(name),
        Sort::State => entries.sort_by(|a, b| a.health.cmp(&b.health).then_with(|| more(loss(a), loss(b)))),
        Sort::Value => entries.sort_by(|a, b| slower(a.known.value(), b.known.value())),
        Sort::Loss => entries.sort_by(|a, b| more(loss(a), loss(b)).then(a.health.cmp(&b.health))),
        Sort::Age => entries.sort_by_key(|entry| entry.known.last().map(|last| last.time)),
    }
}

fn loss(entry: &Entry) -> Option<f64> {
    entry.known.recent().loss()
}

/// The greater before the less, and whatever is known before what is not.
fn more(a: Option<f64>, b: Option<f64>) -> Ordering {
    b.unwrap_or(f64::NEG_INFINITY).total_cmp(&a.unwrap_or(f64::NEG_INFINITY))
}

/// What is measured in different units is kept apart; of times the longest comes first, of throughputs the least.
fn slower(a: Option<(&str, f64)>, b: Option<(&str, f64)>) -> Ordering {
    let key = |value: Option<(&str, f64)>| match value {
        Some((field, value)) if field.ends_with("_mbps") => (1, value),
        Some((_, value)) => (0, -value),
        None => (2, 0.0),
    };
    let (a, b) = (key(a), key(b));
    a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Outcome;
    use crate::status::Board;
    use crate::status::testing::{at, failed, ok, series};

    fn wanted(query: &[(&str, &str)]) -> Result<Wanted, String> {
        Wanted::of(&Asked { query: query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect() })
    }

    fn board() -> Board {
        let board = Board::default();
        board.schedule(&["fast", "slow", "lost", "half", "new", "Skipped"].map(series));
        for row in [ok("slow", 90, 80.0), ok("fast", 95, 1.0), ok("lost", 80, 1.0), failed("lost", 96, Outcome::Timeout)] {
            board.observe(&row);
        }
        board.observe(&failed("half", 91, Outcome::Partial));
        board.observe(&failed("Skipped", 92, Outcome::Skipped));
        board
    }

    fn order(query: &[(&str, &str)]) -> Vec<String> {
        let chosen = choose(board().all(), &wanted(query).unwrap(), at(100));
        chosen.entries.iter().map(|entry| entry.series.tag("target").unwrap().to_owned()).collect()
    }

    #[test]
    fn the_worst_comes_first() {
        assert_eq!(order(&[]), ["lost", "half", "new", "Skipped", "fast", "slow"]);
    }

    #[test]
    fn a_text_that_would_take_long_is_refused() {
        assert!(wanted(&[("q", &"ä".repeat(LONGEST))]).is_ok());
        assert_eq!(wanted(&[("q", &"1 ".repeat(LONGEST))]).err(), Some("q is longer than 200 characters".to_owned()));
    }

    #[test]
    fn every_order_that_can_be_asked_for() {
        assert_eq!(order(&[("sort", "target")]), ["Skipped", "fast", "half", "lost", "new", "slow"]);
        assert_eq!(order(&[("sort", "value")])[..2], ["slow", "fast"]);
        assert_eq!(order(&[("sort", "loss")])[..2], ["half", "lost"]);
        assert_eq!(order(&[("sort", "age")])[..3], ["new", "slow", "half"]);
    }

    #[test]
    fn throughput_is_sorted_apart_from_times_and_the_least_first() {
        let mut values = [
            None,
            Some(("iperf_bandwidth_mbps", 90.0)),
            Some(("ping_avg_ms", 1.0)),
            Some(("iperf_bandwidth_mbps", 10.0)),
            Some(("http_ping_ms", 9.0)),
        ];
        values.sort_by(|a, b| slower(*a, *b));
        assert_eq!(values.map(|value| value.map(|(_, value)| value)), [Some(9.0), Some(1.0), Some(10.0), Some(90.0), None]);
    }

    #[test]
    fn filters_look_at_text_kind_and_state() {
        assert_eq!(order(&[("q", "SKIP")]), ["Skipped"]);
        assert_eq!(order(&[("q", "milan core lo")]), ["lost", "slow"]);
        assert_eq!(order(&[("q", "rome nothing")]), [""; 0]);
        assert_eq!(order(&[("q", "Site=MIL core target=lo")]), ["lost", "slow"]);
        assert_eq!(order(&[("q", "kind=ping")]).len(), 6);
        for nothing in ["site=rome", "sit=milan", "core=milan", "=milan"] {
            assert_eq!(order(&[("q", nothing)]), [""; 0], "{nothing}");
        }
        assert_eq!(order(&[("state", "ok")]), ["fast", "slow"]);
        assert_eq!(order(&[("kind", "http")]), [""; 0]);
        assert_eq!(order(&[("q", ""), ("state", ""), ("kind", "ping")]).len(), 6);
    }

    #[test]
    fn what_is_counted_is_all_whatever_is_shown() {
        let chosen = choose(board().all(), &wanted(&[("state", "ok")]).unwrap(), at(100));
        assert_eq!((chosen.counts.values().sum::<usize>(), chosen.counts[&Health::Ok], chosen.matching), (6, 2, 2));
        assert_eq!((chosen.kinds, chosen.newest), (vec!["ping".to_owned()], Some(at(96))));
    }

    #[test]
    fn beyond_a_thousand_there_are_further_pages() {
        let board = Board::default();
        board.schedule(&(0..2_001).map(|n| series(&format!("t{n:04}"))).collect::<Vec<_>>());
        let page = |n: &str| choose(board.all(), &wanted(&[("page", n), ("sort", "target")]).unwrap(), at(1));
        assert_eq!((page("1").entries.len(), page("1").pages), (1_000, 3));
        assert_eq!((page("3").entries.len(), page("9").page), (1, 3));
        let empty = choose(Vec::new(), &Wanted::default(), at(1));
        assert_eq!((empty.page, empty.pages, empty.matching), (1, 1, 0));
    }

    #[test]
    fn what_cannot_be_asked_for_is_told_in_a_sentence() {
        assert_eq!(wanted(&[("sort", "x")]).unwrap_err(), r#"sort is "x", expected one of state, target, value, loss, age"#);
        let states = "expected one of failing, stale, degraded, never, skipped, ok";
        for wrong in ["bad", "disabled"] {
            assert_eq!(wanted(&[("state", wrong)]).unwrap_err(), format!("state is {wrong:?}, {states}"));
        }
        assert_eq!(wanted(&[("kind", "dns")]).unwrap_err(), r#"kind is "dns", expected one of ping, iperf3, http"#);
        assert!(wanted(&[("page", "0")]).is_err() && wanted(&[("page", "-1")]).is_err());
    }

    #[test]
    fn links_keep_what_was_asked_for() {
        let wanted = wanted(&[("q", "a b"), ("sort", "loss"), ("page", "2")]).unwrap();
        assert_eq!(wanted.link(), "/?q=a+b&sort=loss&page=2");
        assert_eq!(Wanted { page: 1, ..Wanted::default() }.link(), "/");
    }
}
