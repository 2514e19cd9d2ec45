//! The matrix of a mesh: loss or latency from everyone to everyone. On a collector the whole mesh, on an agent its own row.
//!
//! In each cell stands what the row found of the column, and smaller, what the column found of the row: so a path that is
//! bad one way only is seen. Packets that were lost, a host that says nothing, and a pair that nobody heard of yet are words
//! of their own.

use std::fmt::Write;

use askama::Template;

use super::link::encoded;
use super::notices::{Notice, notices};
use super::refusal::rendered;
use super::{Answer, Asked, Sight, words};
use crate::clock::Timestamp;
use crate::mesh::list::Proto;
use crate::status::pairs::{MOST, MOST_NAMES, Named};
use crate::status::report::Report;
use listed::{Listed, listed};
use table::{Table, View, sentences, spoken, table};

mod cell;
mod document;
mod listed;
mod table;
#[cfg(test)]
mod tests;
mod ways;

pub(super) use document::document;
pub(super) use listed::{Member, member};

/// Which figure is shown: `?show=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    /// Per cent of the packets.
    Loss,
    /// The mean round-trip time in milliseconds.
    Latency,
}

/// In which order: `?sort=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Name,
    Worst,
}

/// A choice of a view.
struct Choice {
    query: String,
    words: &'static str,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "matrix.html")]
struct Page {
    /// Whether this host is in a mesh at all.
    member: bool,
    whole: bool,
    now: String,
    notices: Vec<Notice>,
    words: String,
    caption: String,
    choices: Vec<Choice>,
    targets: Vec<String>,
    rows: Vec<Line>,
}

struct Line {
    name: String,
    cells: Vec<Shown>,
}

struct Shown {
    class: &'static str,
    href: String,
    text: String,
    back: String,
}

/// The page.
pub fn page(sight: &Sight, asked: &Asked) -> Answer {
    let (report, scheduled, now) = ((sight.report)(), sight.board.scheduled(), sight.clock.now().unix);
    let Some(listed) = listed(&report, &scheduled) else { return rendered(Page::outside(now).render()) };
    let pairs = sight.pairs.all();
    let view = match view(asked, usual_proto(&listed, &pairs)) {
        Ok(view) => view,
        Err(why) => return Answer::refused(400, &why),
    };
    let table = table(&listed, &pairs, view, now);
    let mut page = Page::inside(table, view, listed.whole, now);
    page.notices = serde_json::from_value::<Report>(report).map(|report| notices(&report)).unwrap_or_default();
    let unplaced = sight.pairs.unplaced();
    if unplaced > 0 {
        let _ = write!(page.words, " {unplaced} results of pairs beyond {MOST}, or of names beyond {MOST_NAMES}, are not shown.");
    }
    rendered(page.render())
}

/// What was asked for, or the sentence that says what is wrong with it.
fn view(asked: &Asked, proto: Proto) -> Result<View, String> {
    let show = one_of(asked, "show", &[("loss", Show::Loss), ("latency", Show::Latency)])?.unwrap_or(Show::Loss);
    let sort = one_of(asked, "sort", &[("name", Sort::Name), ("worst", Sort::Worst)])?.unwrap_or(Sort::Name);
    let proto = one_of(asked, "family", &[("ipv4", Proto::V4), ("ipv6", Proto::V6)])?.unwrap_or(proto);
    Ok(View { show, sort, proto })
}

/// What a word of the query means, if it is there.
fn one_of<T: Copy>(asked: &Asked, key: &str, known: &[(&str, T)]) -> Result<Option<T>, String> {
    let Some(text) = asked.get(key) else { return Ok(None) };
    let meant = known.iter().find(|(word, _)| *word == text).map(|(_, meant)| Some(*meant));
    meant.ok_or_else(|| {
        let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
        format!("{key} is {text:?}, expected one of {}", words.join(", "))
    })
}

/// The protocol that is shown to who asks for none.
fn usual_proto(listed: &Listed, pairs: &[Named]) -> Proto {
    let has = |proto| listed.targets.values().any(|protos| protos.contains(&proto)) || pairs.iter().any(|named| named.proto == proto);
    if has(Proto::V4) || !has(Proto::V6) { Proto::V4 } else { Proto::V6 }
}

impl Page {
    /// Of a host that is in no mesh.
    fn outside(now: Timestamp) -> Self {
        Self {
            member: false,
            whole: false,
            now: words::time(now),
            notices: Vec::new(),
            words: String::new(),
            caption: String::new(),
            choices: Vec::new(),
            targets: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn inside(table: Table, view: View, whole: bool, now: Timestamp) -> Self {
        let told = sentences(&table, view);
        let figure = if view.show == Show::Loss { "Packet loss" } else { "Mean round-trip time in milliseconds" };
        let caption = format!("{figure} over {}, from the row to the column; in small letters the way back.", spoken(view.proto));
        let names: Vec<String> = table.targets.iter().map(|name| encoded(name).to_string()).collect();
        let family = view.proto.family();
        let line = |(name, cells): (String, Vec<(cell::Cell, cell::Cell)>)| {
            let source = encoded(&name);
            let shown = |((there, back), target): ((cell::Cell, cell::Cell), &String)| Shown {
                class: there.class(),
                href: match there {
                    cell::Cell::Seen { .. } => format!("/probe/ping/mesh/{target}?source={source}&family={family}"),
                    cell::Cell::Itself | cell::Cell::Unlisted | cell::Cell::Never => String::new(),
                },
                text: there.text(view.show),
                back: match back {
                    cell::Cell::Seen { .. } => back.text(view.show),
                    cell::Cell::Itself | cell::Cell::Unlisted | cell::Cell::Never => String::new(),
                },
            };
            Line { cells: cells.into_iter().zip(&names).map(shown).collect(), name }
        };
        let rows = table.rows.into_iter().map(line).collect();
        Self { member: true, whole, words: told, caption, choices: choices(view), targets: table.targets, rows, ..Self::outside(now) }
    }
}

/// The other views, each as a link that keeps the rest.
fn choices(view: View) -> Vec<Choice> {
    let query = |view: View| {
        let show = if view.show == Show::Loss { "loss" } else { "latency" };
        let sort = if view.sort == Sort::Name { "name" } else { "worst" };
        format!("?show={show}&family={}&sort={sort}", view.proto.family())
    };
    let choice = |other: View, words| Choice { query: query(other), words, chosen: other == view };
    vec![
        choice(View { show: Show::Loss, ..view }, "Loss"),
        choice(View { show: Show::Latency, ..view }, "Latency"),
        choice(View { proto: Proto::V4, ..view }, "IPv4"),
        choice(View { proto: Proto::V6, ..view }, "IPv6"),
        choice(View { sort: Sort::Name, ..view }, "By name"),
        choice(View { sort: Sort::Worst, ..view }, "Worst first"),
    ]
}
