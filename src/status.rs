//! What the running service knows of itself, as one value: for `qosd status`, and for the page.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::measurement::{QOS_METRICS, Row, Series, Value};
use crate::probe::{ERROR, RESULT};

pub mod server;

/// The last row of every series that is scheduled. Clones share it.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<BTreeMap<Series, Option<Row>>>>);

impl Board {
    /// The series that are scheduled; others are forgotten.
    pub fn schedule<'a>(&self, series: impl IntoIterator<Item = &'a Series>) {
        let mut board = self.lock();
        let mut before = std::mem::take(&mut *board);
        *board = series.into_iter().map(|series| (series.clone(), before.remove(series).flatten())).collect();
    }

    /// A row was made.
    pub fn observe(&self, row: &Row) {
        if row.series.measurement() == QOS_METRICS
            && let Some(last) = self.lock().get_mut(&row.series)
        {
            *last = Some(row.clone());
        }
    }

    /// What is known of every series.
    pub fn series(&self, now: Timestamp) -> Vec<SeriesStatus> {
        self.lock().iter().map(|(series, row)| SeriesStatus::of(series, row.as_ref(), now)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Series, Option<Row>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    /// Its figures.
    pub figures: BTreeMap<String, f64>,
}

impl SeriesStatus {
    fn of(series: &Series, row: Option<&Row>, now: Timestamp) -> Self {
        let text = |name: &str| match row?.fields.get(name)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        };
        let figure = |(name, value): (&Arc<str>, &Value)| match value {
            Value::Float(figure) => Some((name.to_string(), *figure)),
            Value::Integer(_) | Value::Text(_) => None,
        };
        Self {
            tags: series.tags().clone(),
            time: row.map(|row| row.time.to_string()),
            age_s: row.map(|row| now.since(row.time).as_secs_f64()),
            result: text(RESULT.info().name),
            error: text(ERROR.info().name),
            figures: row.map(|row| row.fields.iter().filter_map(figure).collect()).unwrap_or_default(),
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
