//! The one value that flows through qosd: a [`Row`], the result of one slot of one [`Series`].
//!
//! A probe makes rows, the writer takes them, the journal keeps them, outputs deliver them. Nobody amends one on the way.
//!
//! Two promises are kept by types. A field is a constant [`Field<T>`] whose type parameter is the type of its value, so no
//! two rows can disagree about it. A value that was not measured is left out: floats that are not finite never get in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::clock::Timestamp;

/// Measurement of every probe's rows.
pub const QOS_METRICS: &str = "qos_metrics";
/// Measurement of the rows in which qosd speaks of itself.
pub const QOSD: &str = "qosd";

/// What kind of value a field holds, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FieldType {
    /// A 64-bit float, always finite.
    Float,
    /// A 64-bit signed integer.
    Integer,
    /// Text.
    Text,
}

/// Name and type of a field, without the type parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldInfo {
    /// The name in every output. Units come last: `ping_avg_ms`.
    pub name: &'static str,
    /// The type of its values.
    pub kind: FieldType,
}

/// A field that rows may have, declared once as a constant by the module that measures it.
#[derive(Debug)]
pub struct Field<T> {
    info: FieldInfo,
    value: PhantomData<fn(T)>,
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Field<T> {}

impl<T> Field<T> {
    const fn new(name: &'static str, kind: FieldType) -> Self {
        Self { info: FieldInfo { name, kind }, value: PhantomData }
    }

    /// Name and type.
    pub const fn info(self) -> FieldInfo {
        self.info
    }
}

impl Field<f64> {
    /// Declares a field of floats.
    pub const fn float(name: &'static str) -> Self {
        Self::new(name, FieldType::Float)
    }
}

impl Field<i64> {
    /// Declares a field of integers.
    pub const fn integer(name: &'static str) -> Self {
        Self::new(name, FieldType::Integer)
    }
}

impl Field<String> {
    /// Declares a field of text.
    pub const fn text(name: &'static str) -> Self {
        Self::new(name, FieldType::Text)
    }
}

/// What is counted under a field, for rows of measurement `qosd`.
pub type Counter = (Field<i64>, u64);

/// The value of a field in a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A finite float.
    Float(f64),
    /// An integer.
    Integer(i64),
    /// Text.
    Text(String),
}

impl Value {
    /// Its type.
    pub fn kind(&self) -> FieldType {
        match self {
            Self::Float(_) => FieldType::Float,
            Self::Integer(_) => FieldType::Integer,
            Self::Text(_) => FieldType::Text,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(v) => v.fmt(f),
            Self::Integer(v) => v.fmt(f),
            Self::Text(v) => v.fmt(f),
        }
    }
}

/// The fields of a row in the order in which they were set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields(Vec<(&'static str, Value)>);

/// The name of a field that is no constant here, as it was read from a journal. Each name is kept once and for good: there
/// are only so many names, and every row has many of them.
pub fn field_name(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let kept: &'static str = Box::leak(name.into());
    names.insert(kept);
    kept
}

impl Fields {
    /// No fields yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a float. One that is not finite was not measured and is left out.
    pub fn float(&mut self, field: Field<f64>, value: f64) -> &mut Self {
        if value.is_finite() {
            self.put(field.info.name, Value::Float(value));
        }
        self
    }

    /// Sets an integer; what does not fit into 63 bits saturates.
    pub fn integer(&mut self, field: Field<i64>, value: impl TryInto<i64>) -> &mut Self {
        self.put(field.info.name, Value::Integer(value.try_into().unwrap_or(i64::MAX)));
        self
    }

    /// Sets a text.
    pub fn text(&mut self, field: Field<String>, value: impl Into<String>) -> &mut Self {
        self.put(field.info.name, Value::Text(value.into()));
        self
    }

    /// Sets a value by name, for readers of the journal and of the wire. A later value replaces an earlier one.
    pub fn put(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Leaves a value out, for an output that does not take it.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| *known != name);
    }

    /// The value of a field, if it was measured.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Names and values in the order in which they were set.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    /// How many fields.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over the fields of another.
    pub fn extend(&mut self, other: Self) {
        for (name, value) in other.0 {
            self.put(name, value);
        }
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(&**name, value)?;
        }
        map.end()
    }
}

/// What a row is about: measurement and tags. Cheap to clone; equal by content.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series(Arc<Identity>);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Identity {
    measurement: Box<str>,
    tags: Tags,
}

/// Keys and values, sorted by key, each key once. A host with ten thousand series has as many of these, so they are kept small.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Tags(Box<[(Box<str>, Box<str>)]>);

impl Tags {
    fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    fn get(&self, key: &str) -> Option<&str> {
        let place = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.0.get(place).map(|(_, value)| &**value)
    }
}

impl FromIterator<(String, String)> for Tags {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(tags: I) -> Self {
        let sorted: BTreeMap<String, String> = tags.into_iter().collect();
        Self(sorted.into_iter().map(|(key, value)| (key.into_boxed_str(), value.into_boxed_str())).collect())
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Series {
    /// A series of this measurement with these tags. Tags without a value are left out.
    pub fn new<K: Into<String>, V: Into<String>>(measurement: impl Into<String>, tags: impl IntoIterator<Item = (K, V)>) -> Self {
        let tags =
            tags.into_iter().map(|(key, value)| (key.into(), value.into())).filter(|(_, value): &(String, String)| !value.is_empty());
        Self(Arc::new(Identity { measurement: measurement.into().into_boxed_str(), tags: tags.collect() }))
    }

    /// The measurement.
    pub fn measurement(&self) -> &str {
        &self.0.measurement
    }

    /// The tags, sorted by key.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.tags.iter()
    }

    /// The value of a tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.0.tags.get(key)
    }

    /// The identity as one line of text, the same for equal series and for no others: a JSON array of measurement and tags.
    pub fn key(&self) -> String {
        serde_json::json!([self.0.measurement, self.0.tags]).to_string()
    }

    /// Reads what [`Series::key`] wrote.
    pub fn from_key(key: &str) -> Result<Self, serde_json::Error> {
        let (measurement, tags): (String, BTreeMap<String, String>) = serde_json::from_str(key)?;
        Ok(Self::new(measurement, tags))
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.measurement)?;
        self.0.tags.iter().try_for_each(|(key, value)| write!(f, ",{key}={value}"))
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One measurement: what was measured of a series in one slot.
///
/// Two rows with the same series and time are the same row; sending one again overwrites it with itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it is about.
    pub series: Series,
    /// The slot's scheduled time.
    pub time: Timestamp,
    /// What was measured.
    pub fields: Fields,
}

/// `{"measurement","time","tags","fields"}`, the time in RFC 3339 with nanoseconds.
impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("measurement", self.series.measurement())?;
        map.serialize_entry("time", &self.time.to_string())?;
        map.serialize_entry("tags", &self.series.0.tags)?;
        map.serialize_entry("fields", &self.fields)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Field<f64> = Field::float("rtt_ms");
    const SENT: Field<i64> = Field::integer("sent");

    #[test]
    fn what_was_not_measured_is_left_out() {
        let mut fields = Fields::new();
        fields.float(RTT, f64::NAN).float(RTT, f64::INFINITY);
        assert!(fields.is_empty());
    }

    #[test]
    fn an_integer_too_large_saturates() {
        let mut fields = Fields::new();
        fields.integer(SENT, u64::MAX);
        assert_eq!(fields.get("sent"), Some(&Value::Integer(i64::MAX)));
    }

    #[test]
    fn a_series_reads_back_from_its_key() {
        let series = Series::new("m", [("b", "x \"y\"\n,="), ("a", "1"), ("empty", "")]);
        assert_eq!(Series::from_key(&series.key()).unwrap(), series);
        assert_eq!(series.tags().len(), 2);
    }

    #[test]
    fn a_row_in_json_has_the_shape_of_the_contract() {
        let mut fields = Fields::new();
        fields.float(RTT, 1.5).integer(SENT, 5);
        let row = Row { series: Series::new("m", [("a", "1")]), time: Timestamp::from_nanos(1_700_000_000_000_000_001), fields };
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"{"measurement":"m","time":"2023-11-14T22:13:20.000000001Z","tags":{"a":"1"},"fields":{"rtt_ms":1.5,"sent":5}}"#
        );
    }
}
