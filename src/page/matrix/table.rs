//! The matrix: a row for each source, a column for each target, and in words who is worst. Pure.

use std::cmp::Reverse;
use std::fmt::Write;

use super::cell::Cell;
use super::listed::Listed;
use super::ways::Ways;
use super::{Show, Sort};
use crate::clock::Timestamp;
use crate::mesh::list::Proto;
use crate::probe::{Outcome, Says};
use crate::status::pairs::Named;

/// The most rows and the most columns that are shown. Of more, it is the worst.
const MOST: usize = 150;

/// What is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Which figure.
    pub(super) show: Show,
    /// In which order.
    pub(super) sort: Sort,
    /// Of which protocol.
    pub(super) proto: Proto,
}

/// A whole matrix.
#[derive(Debug, PartialEq)]
pub(super) struct Table {
    /// Who is measured.
    pub(super) targets: Vec<String>,
    /// Who measures, and what it found of each: there, and back.
    pub(super) rows: Vec<(String, Vec<(Cell, Cell)>)>,
    /// Names that are left out because there are too many.
    pub(super) left_out: usize,
}

/// Makes it of what is known.
pub(super) fn table(listed: &Listed, pairs: &[Named], view: View, now: Timestamp) -> Table {
    let ways = Ways::of(listed, pairs, view.proto, now);
    let cell = |source: &str, target: &str| ways.cell(source, target);
    let (mut sources, mut targets): (Vec<&str>, Vec<&str>) =
        (ways.sources.iter().copied().collect(), ways.targets.iter().copied().collect());
    if view.sort == Sort::Worst || sources.len().max(targets.len()) > MOST {
        let others = targets.clone();
        sources.sort_by_cached_key(|source| Reverse(Badness::of(others.iter().map(|target| cell(source, target)), view.show)));
        let others = sources.clone();
        targets.sort_by_cached_key(|target| Reverse(Badness::of(others.iter().map(|source| cell(source, target)), view.show)));
    }
    let left_out = sources.len().saturating_sub(MOST) + targets.len().saturating_sub(MOST);
    sources.truncate(MOST);
    targets.truncate(MOST);
    let cells = |source: &str| targets.iter().map(|target| (cell(source, target), cell(target, source))).collect();
    let rows = sources.iter().map(|source| ((*source).to_owned(), cells(source))).collect();
    Table { targets: targets.iter().map(|target| (*target).to_owned()).collect(), rows, left_out }
}

/// How bad a row or a column is: by the mean of its figures, a run that failed without any being the worst of them; then by
/// how many of its results are absent, or say nothing of the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Badness {
    /// Of a thousand thousandths; figures are not compared as floats.
    mean: u64,
    absent: usize,
    /// Neither a figure, nor failed, nor absent: this host could not measure.
    unmeasured: usize,
}

impl Badness {
    fn of(cells: impl Iterator<Item = Cell>, show: Show) -> Self {
        let (mut sum, mut count, mut absent, mut unmeasured) = (0.0, 0.0, 0, 0);
        for cell in cells {
            match (cell, cell.figure(show)) {
                (_, Some(figure)) => (sum, count) = (sum + f64::from(figure), count + 1.0),
                (Cell::Seen { pair, stale: false }, None) if pair.outcome == Outcome::PeerAbsent => absent += 1,
                (Cell::Seen { pair, stale: false }, None) if pair.outcome.says() == Says::Failed => {
                    (sum, count) = (sum + LOST, count + 1.0);
                }
                (Cell::Seen { stale: false, .. }, None) => unmeasured += 1,
                _ => {}
            }
        }
        let mean = if count > 0.0 { sum / count } else { 0.0 };
        Self { mean: (mean * 1000.0) as u64, absent, unmeasured }
    }
}

/// What a run that failed without a figure counts as: more than any loss, and than most times.
const LOST: f64 = 1000.0;

/// The matrix in sentences.
pub(super) fn sentences(table: &Table, view: View) -> String {
    let cells = || table.rows.iter().flat_map(|(_, cells)| cells.iter().map(|(there, _)| *there));
    let count = |class: &str| cells().filter(|cell| cell.class() == class).count();
    let (ok, low, mid, high) = (count("ok"), count("low"), count("mid"), count("high"));
    let lossy = low + mid + high;
    let pairs = cells().filter(|cell| !matches!(cell, Cell::Itself | Cell::Unlisted)).count();
    let mut told = format!("{pairs} pairs over {}: {ok} without loss, {lossy} with loss", spoken(view.proto));
    for (class, words) in [
        ("failed", "that could not be measured"),
        ("absent", "of which no result came (absent)"),
        ("stale", "of which the last result is old"),
        ("never", "never heard of"),
    ] {
        if count(class) > 0 {
            // Memory takes whatever is written.
            let _ = write!(told, ", {} {words}", count(class));
        }
    }
    told.push('.');
    let rows = table.rows.iter().map(|(name, cells)| (name.as_str(), cells.iter().map(|(there, _)| *there).collect()));
    told.push_str(&worst("row", "to", rows, view.show));
    let column = |index: usize| table.rows.iter().filter_map(|(_, cells)| cells.get(index)).map(|(there, _)| *there).collect();
    let columns = table.targets.iter().enumerate().map(|(index, name)| (name.as_str(), column(index)));
    told.push_str(&worst("column", "from", columns, view.show));
    if table.left_out > 0 {
        let _ = write!(told, " {} rows or columns have no place here.", table.left_out);
    }
    told
}

fn worst<'a>(what: &str, way: &str, lines: impl Iterator<Item = (&'a str, Vec<Cell>)>, show: Show) -> String {
    let judged = lines.map(|(name, cells)| (Badness::of(cells.iter().copied(), show), Reverse(name), cells));
    let Some((badness, Reverse(name), cells)) = judged.max_by_key(|(badness, name, _)| (*badness, *name)) else { return String::new() };
    if badness == Badness::default() {
        return String::new();
    }
    let figures: Vec<f64> = cells.iter().filter_map(|cell| cell.figure(show)).map(f64::from).collect();
    let of = |wanted: &dyn Fn(&Cell) -> bool| cells.iter().filter(|cell| wanted(cell)).count();
    let failed = |cell: &Cell| matches!(cell, Cell::Seen { pair, stale: false } if pair.outcome.says() == Says::Failed);
    let unanswered = of(&|cell| failed(cell) && cell.figure(show).is_none());
    let mut facts = Vec::new();
    if !figures.is_empty() {
        let mean = figures.iter().sum::<f64>() / figures.len() as f64;
        let unit = if show == Show::Loss { "% loss" } else { "ms" };
        facts.push(format!("{mean:.1} {unit} on average {way} {}", figures.len()));
    }
    if unanswered > 0 {
        facts.push(format!("no figure {way} {unanswered}"));
    }
    if badness.absent > 0 {
        facts.push(format!("{} absent", badness.absent));
    }
    if badness.unmeasured > 0 {
        facts.push(format!("{} not measured", badness.unmeasured));
    }
    format!(" Worst {what}: {name} ({}).", facts.join(", "))
}

/// The protocol as people call it.
pub(super) fn spoken(proto: Proto) -> &'static str {
    match proto {
        Proto::V4 => "IPv4",
        Proto::V6 => "IPv6",
    }
}
