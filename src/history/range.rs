//! What a chart is made of: columns of time with what the rows of each come to, and what happened meanwhile.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::probe::Outcome;

/// A span of time, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub from: Timestamp,
    /// Where it ends; not part of it.
    pub to: Timestamp,
}

/// How the values of a field lie, in its unit.
///
/// Of a single row of ping, `ping_avg_ms` has all six from the packets of the run: `min` and `max` as they are, `low` = `min`,
/// `median` = p50, `high` = p95, `mean` = average. Of any other field of a single row all are the same. Of several rows: `min`
/// and `max` are the outermost; `low`, `median` and `high` the 10 %, 50 % and 90 % quantiles of the rows' medians; `mean` the
/// mean of the rows' means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The lower edge of the usual.
    pub low: f64,
    /// The middle.
    pub median: f64,
    /// The upper edge of the usual.
    pub high: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// Of how many rows.
    pub rows: u32,
}

/// What the rows of a series in one column of time come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Where it begins; of a single row, its slot.
    pub start: Timestamp,
    /// How wide it is.
    pub width: Duration,
    /// How many rows ended how; only those that there were, by their codes.
    pub outcomes: Vec<(Outcome, u32)>,
    /// In how many rows a throughput test of ours overlapped the run.
    pub loaded: u32,
    /// Each field that at least one row has, by its name.
    pub figures: Vec<(&'static str, Spread)>,
}

/// Something that happened at a moment, or from a moment on.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The target answered from another address than before.
    AddressChanged {
        /// Before.
        from: String,
        /// Since then.
        to: String,
    },
    /// No run succeeded any more, from here on: for which reason at first.
    Lost(Outcome),
    /// A run succeeded again.
    Back,
    /// Slots were skipped, for which reason: `restart`, `suspended`, …
    Skipped(String),
    /// The wall clock was stepped, by so many milliseconds.
    ClockStep(f64),
}

/// Rows of the journal, of all series, that are neither in the history nor could be looked through for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// How many.
    pub rows: u64,
    /// About when the first of them was measured; what came late may be older.
    pub from: Timestamp,
    /// About when the last of them was.
    pub to: Timestamp,
    /// Why they are not on their way into the history, if they are not.
    pub why: Option<String>,
}

impl Lacking {
    /// The part of a span that is about theirs.
    pub fn within(&self, span: Span) -> Option<Span> {
        let part = Span { from: self.from.max(span.from), to: self.to.min(span.to) };
        (part.from < part.to).then_some(part)
    }
}

/// What is known of a series in a span of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// The span that was asked for.
    pub span: Span,
    /// From column to column: the interval of the slots if each column is one row, else the width of columns. A column that
    /// is further from the one before than 1.5 times this has a hole before it.
    pub step: Duration,
    /// Whether each column is a single row.
    pub single: bool,
    /// Those that have any row, in order of time.
    pub columns: Vec<Column>,
    /// What happened, in order of time; at most 50, the latest.
    pub events: Vec<Event>,
    /// What was not looked through: rows of this series may be among it. None if the answer is complete.
    pub lacking: Option<Lacking>,
}

impl Column {
    /// How many rows it has.
    pub fn rows(&self) -> u32 {
        self.outcomes.iter().map(|(_, rows)| rows).sum()
    }

    /// How many rows ended so.
    pub fn count(&self, outcome: Outcome) -> u32 {
        self.outcomes.iter().find(|(found, _)| *found == outcome).map_or(0, |(_, rows)| *rows)
    }

    /// How the values of a field lie, if any row has it.
    pub fn figure(&self, field: &str) -> Option<&Spread> {
        self.figures.iter().find(|(name, _)| *name == field).map(|(_, spread)| spread)
    }
}

impl Range {
    /// Nothing is known.
    pub fn empty(span: Span) -> Self {
        Self { span, step: Duration::from_mins(1), single: true, columns: Vec::new(), events: Vec::new(), lacking: None }
    }
}
