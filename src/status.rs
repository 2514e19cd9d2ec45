//! What the running service knows of itself, as one value: for `qosd status`, and for the page.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::measurement::{QOS_METRICS, Row, Series, Value};
use crate::probe::{ERROR, Outcome, RESULT, Skip};

pub mod pairs;
pub mod server;

/// The last row of every series that is scheduled. Clones share it.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    last: BTreeMap<Series, Option<Last>>,
    /// Skipped rows by reason.
    skipped: BTreeMap<&'static str, u64>,
}

/// What is shown of the last row of a series: there may be very many of them.
struct Last {
    time: Timestamp,
    result: Option<Box<str>>,
    error: Option<Box<str>>,
    figures: Box<[(&'static str, f64)]>,
}

impl Last {
    fn of(row: &Row) -> Self {
        let text = |name: &str| match row.fields.get(name)? {
            Value::Text(text) => Some(text.as_str().into()),
            Value::Float(_) | Value::Integer(_) => None,
        };
        let figure = |(name, value): (&'static str, &Value)| match value {
            Value::Float(figure) => Some((name, *figure)),
            Value::Integer(_) | Value::Text(_) => None,
        };
        Self {
            time: row.time,
            result: text(RESULT.info().name),
            error: text(ERROR.info().name),
            figures: row.fields.iter().filter_map(figure).collect(),
        }
    }
}

impl Board {
    /// The series that are scheduled; others are forgotten.
    pub fn schedule<'a>(&self, series: impl IntoIterator<Item = &'a Series>) {
        let mut board = self.lock();
        let mut before = std::mem::take(&mut board.last);
        board.last = series.into_iter().map(|series| (series.clone(), before.remove(series).flatten())).collect();
    }

    /// A row was made.
    pub fn observe(&self, row: &Row) {
        if row.series.measurement() != QOS_METRICS {
            return;
        }
        let mut board = self.lock();
        if let Some(reason) = skipped_because(row) {
            *board.skipped.entry(reason.name()).or_default() += 1;
        }
        if let Some(last) = board.last.get_mut(&row.series) {
            *last = Some(Last::of(row));
        }
    }

    /// Skipped rows by reason.
    pub fn skipped(&self) -> BTreeMap<&'static str, u64> {
        self.lock().skipped.clone()
    }

    /// The series that are scheduled.
    pub fn scheduled(&self) -> Vec<Series> {
        self.lock().last.keys().cloned().collect()
    }

    /// What is known of every series.
    pub fn series(&self, now: Timestamp) -> Vec<SeriesStatus> {
        self.lock().last.iter().map(|(series, last)| SeriesStatus::of(series, last.as_ref(), now)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the slot of a row was skipped, if it was.
fn skipped_because(row: &Row) -> Option<Skip> {
    let text = |name: &str| match row.fields.get(name)? {
        Value::Text(text) => Some(text.as_str()),
        Value::Float(_) | Value::Integer(_) => None,
    };
    let reason = text(ERROR.info().name).filter(|_| text(RESULT.info().name) == Some(Outcome::Skipped.name()))?;
    Skip::ALL.into_iter().find(|skip| skip.name() == reason)
}

/// One series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeriesStatus {
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The time of its last row.
    pub time: Option<String>,
    /// How old that is.
    pub age_s: Option<f64>,
    /// How its last run ended.
    pub result: Option<String>,
    /// What happened, if it is not ok.
    pub error: Option<String>,
    /// Its figures, in the order of the row.
    pub figures: Vec<(String, f64)>,
}

impl SeriesStatus {
    fn of(series: &Series, last: Option<&Last>, now: Timestamp) -> Self {
        let owned = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        let figures = |last: &Last| last.figures.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect();
        Self {
            tags: series.tags().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            time: last.map(|last| last.time.to_string()),
            age_s: last.map(|last| now.since(last.time).as_secs_f64()),
            result: last.and_then(|last| owned(&last.result)),
            error: last.and_then(|last| owned(&last.error)),
            figures: last.map(figures).unwrap_or_default(),
        }
    }
}

/// The config that is in force.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Its file.
    pub file: String,
    /// When it was read.
    pub loaded: String,
    /// Why the last reload was refused, if it was.
    pub problem: Option<String>,
}

/// The time since a start, as people say it.
pub fn age(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
