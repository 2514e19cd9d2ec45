//! Rows as everyone can read them: the lines of `qosd export --format json`, and how to compare them with a database's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::UNIX_EPOCH;

use serde::Deserialize;
use serde_json::Value;

/// What makes a row the same row: measurement, tags, time in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The measurement.
    pub(crate) measurement: String,
    /// The tags.
    pub(crate) tags: BTreeMap<String, String>,
    /// Nanoseconds since the epoch.
    pub(crate) time: i64,
}

/// Rows by what they are about.
pub(crate) type Rows = BTreeMap<Key, BTreeMap<String, Value>>;

/// A row as `qosd export --format json` writes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exported {
    /// The measurement.
    pub(crate) measurement: String,
    time: String,
    /// The tags.
    pub(crate) tags: BTreeMap<String, String>,
    /// The fields.
    pub(crate) fields: BTreeMap<String, Value>,
}

impl Exported {
    /// Reads one line.
    pub(crate) fn parse(line: &str) -> Self {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("not a row: {error}: {line}"))
    }

    /// Nanoseconds since the epoch.
    pub(crate) fn time(&self) -> i64 {
        let time = humantime::parse_rfc3339(&self.time).unwrap_or_else(|error| panic!("not a time: {error}: {}", self.time));
        let since = time.duration_since(UNIX_EPOCH).expect("rows are younger than the epoch");
        i64::try_from(since.as_nanos()).expect("this century fits into an i64")
    }

    /// A tag, empty if there is none.
    pub(crate) fn tag(&self, name: &str) -> &str {
        self.tags.get(name).map_or("", String::as_str)
    }

    /// A field that is text, empty if there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// An integer field, if there.
    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        self.fields.get(name).map(|value| value.as_i64().unwrap_or_else(|| panic!("{name} is no integer: {self:?}")))
    }

    /// A float field, if there.
    pub(crate) fn float(&self, name: &str) -> Option<f64> {
        let float = |value: &Value| value.as_f64().filter(|_| value.is_f64());
        self.fields.get(name).map(|value| float(value).unwrap_or_else(|| panic!("{name} is no float: {self:?}")))
    }
}

/// Rows by what they are about; panics if one is there twice.
pub(crate) fn by_key(exported: Vec<Exported>) -> Rows {
    let mut rows = Rows::new();
    for row in exported {
        let key = Key { time: row.time(), measurement: row.measurement, tags: row.tags };
        assert!(!rows.contains_key(&key), "the journal has a row twice: {key:?}");
        rows.insert(key, row.fields);
    }
    rows
}

/// What is missing in, extra in, or different in the database; nothing if it holds exactly the journal's rows.
pub(crate) fn difference(journal: &Rows, database: &Rows) -> Result<(), String> {
    let keys: BTreeSet<_> = journal.keys().chain(database.keys()).collect();
    let wrong: Vec<_> = keys.into_iter().filter_map(|key| complaint(key, journal.get(key), database.get(key))).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let (some, all) = (wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n"), wrong.len());
    Err(format!("{all} of {} rows in the journal and {} in the database differ, such as:\n{some}", journal.len(), database.len()))
}

fn complaint(key: &Key, journal: Option<&BTreeMap<String, Value>>, database: Option<&BTreeMap<String, Value>>) -> Option<String> {
    match (journal, database) {
        (Some(journal), Some(database)) if same_fields(journal, database) => None,
        (Some(journal), Some(database)) => Some(format!("{key:?}: {journal:?} in the journal, {database:?} in the database")),
        (Some(_), None) => Some(format!("{key:?}: missing in the database")),
        (None, _) => Some(format!("{key:?}: not in the journal")),
    }
}

fn same_fields(a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>) -> bool {
    a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| same_value(value, other)))
}

/// Equal up to the last bit of a float, which is what the JSON reader of this test may lose between two spellings of one number.
fn same_value(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => within(a, b, f64::EPSILON),
        _ => a == b,
    }
}

/// Whether two numbers are as near as this, relative to their size.
pub(crate) fn within(a: f64, b: f64, relative: f64) -> bool {
    (a - b).abs() <= relative * a.abs().max(b.abs())
}
