//! A strict serde view of config values. Pure.
//!
//! The `config` crate turns values silently into the type that is asked for (`2.5` into 3, `5` into "5"); here a value is
//! what was written. A [`Tree`] can lose what is wrong and still knows where everything stood.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use config::{Value, ValueKind};
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_path_to_error::{Path, Segment};

use super::{ENVIRONMENT, plain_key};

/// A config value.
pub(super) enum Tree {
    Nothing,
    Bool(bool),
    Whole(i64),
    Float(f64),
    Text {
        text: String,
        from_environment: bool,
    },
    Table {
        entries: BTreeMap<String, Tree>,
        removed: BTreeSet<String>,
    },
    /// Each element with the index that it was written at.
    Array(Vec<(usize, Tree)>),
}

impl From<Value> for Tree {
    fn from(value: Value) -> Self {
        let from_environment = value.origin() == Some(ENVIRONMENT);
        match value.kind {
            ValueKind::Nil => Self::Nothing,
            ValueKind::Boolean(value) => Self::Bool(value),
            ValueKind::I64(value) => Self::Whole(value),
            ValueKind::U64(value) => i64::try_from(value).map_or(Self::Float(value as f64), Self::Whole),
            ValueKind::I128(value) => i64::try_from(value).map_or(Self::Float(value as f64), Self::Whole),
            ValueKind::U128(value) => i64::try_from(value).map_or(Self::Float(value as f64), Self::Whole),
            ValueKind::Float(value) => Self::Float(value),
            ValueKind::String(text) => Self::Text { text, from_environment },
            ValueKind::Table(table) => {
                Self::Table { entries: table.into_iter().map(|(key, value)| (key, value.into())).collect(), removed: BTreeSet::new() }
            }
            ValueKind::Array(values) => Self::Array(values.into_iter().map(Self::from).enumerate().collect()),
        }
    }
}

/// Where in a tree something stands.
pub(super) struct Place {
    steps: Vec<Step>,
}

enum Step {
    Key(String),
    Element { position: usize, written: usize },
}

impl Place {
    /// The path as people write it: `targets[1].host`.
    pub(super) fn key(&self) -> String {
        let mut path = String::new();
        for step in &self.steps {
            match step {
                Step::Key(key) if path.is_empty() => path = plain_key(key),
                Step::Key(key) => path = format!("{path}.{}", plain_key(key)),
                Step::Element { written, .. } => path = format!("{path}[{written}]"),
            }
        }
        path
    }
}

impl Tree {
    /// The part of serde's path that is in the tree.
    pub(super) fn place(&self, path: &Path) -> Place {
        let mut steps = Vec::new();
        let mut here = self;
        for segment in path {
            let (step, next) = match (segment, here) {
                (Segment::Map { key }, Self::Table { entries, .. }) => (Step::Key(key.clone()), entries.get(key)),
                (Segment::Seq { index }, Self::Array(items)) => match items.get(*index) {
                    Some((written, item)) => (Step::Element { position: *index, written: *written }, Some(item)),
                    None => break,
                },
                _ => break,
            };
            let Some(next) = next else { break };
            steps.push(step);
            here = next;
        }
        Place { steps }
    }

    /// Takes out what stands there. Not possible for the whole.
    pub(super) fn remove(&mut self, place: &Place) -> bool {
        let Some((last, above)) = place.steps.split_last() else { return false };
        let Some(parent) = self.walk(above) else { return false };
        match (parent, last) {
            (Self::Table { entries, removed }, Step::Key(key)) => {
                removed.insert(key.clone());
                entries.remove(key).is_some()
            }
            (Self::Array(items), Step::Element { position, .. }) if *position < items.len() => {
                items.remove(*position);
                true
            }
            _ => false,
        }
    }

    /// Whether the table there had this key before it was removed.
    pub(super) fn was_removed(&mut self, place: &Place, key: &str) -> bool {
        matches!(self.walk(&place.steps), Some(Self::Table { removed, .. }) if removed.contains(key))
    }

    fn walk(&mut self, steps: &[Step]) -> Option<&mut Self> {
        let mut here = self;
        for step in steps {
            here = match (here, step) {
                (Self::Table { entries, .. }, Step::Key(key)) => entries.get_mut(key)?,
                (Self::Array(items), Step::Element { position, .. }) => &mut items.get_mut(*position)?.1,
                _ => return None,
            };
        }
        Some(here)
    }

    fn environment_text(&self) -> Option<&str> {
        match self {
            Self::Text { text, from_environment: true } => Some(text),
            _ => None,
        }
    }
}

impl<'de> IntoDeserializer<'de, Fault> for &'de Tree {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! numbers {
    ($($method:ident $parsed:ty => $visit:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.environment_text().and_then(|text| text.trim().parse::<$parsed>().ok()) {
                Some(number) => visitor.$visit(number),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for &'de Tree {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Tree::Nothing => visitor.visit_unit(),
            Tree::Bool(value) => visitor.visit_bool(*value),
            Tree::Whole(value) => visitor.visit_i64(*value),
            Tree::Float(value) => visitor.visit_f64(*value),
            Tree::Text { text, .. } => visitor.visit_borrowed_str(text),
            Tree::Table { entries, .. } => visitor.visit_map(MapDeserializer::new(entries.iter().map(|(key, tree)| (key.as_str(), tree)))),
            Tree::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.iter().map(|(_, tree)| tree))),
        }
    }

    numbers! {
        deserialize_bool bool => visit_bool;
        deserialize_i8 i64 => visit_i64; deserialize_i16 i64 => visit_i64; deserialize_i32 i64 => visit_i64; deserialize_i64 i64 => visit_i64;
        deserialize_u8 i64 => visit_i64; deserialize_u16 i64 => visit_i64; deserialize_u32 i64 => visit_i64; deserialize_u64 i64 => visit_i64;
        deserialize_f32 f64 => visit_f64; deserialize_f64 f64 => visit_f64;
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.environment_text() {
            Some(text) => visitor.visit_seq(SeqDeserializer::new(text.split(',').map(str::trim))),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Tree::Nothing => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _name: &'static str, words: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        match self {
            Tree::Text { text, .. } => visitor.visit_enum(text.as_str().into_deserializer()),
            other => Err(Fault::Wrong(format!("is {}, expected one of {}", other.found(), quoted(words)))),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

impl Tree {
    fn found(&self) -> String {
        let unexpected = match self {
            Self::Nothing => Unexpected::Unit,
            Self::Bool(value) => Unexpected::Bool(*value),
            Self::Whole(value) => Unexpected::Signed(*value),
            Self::Float(value) => Unexpected::Float(*value),
            Self::Text { text, .. } => Unexpected::Str(text),
            Self::Table { .. } => Unexpected::Map,
            Self::Array(_) => Unexpected::Seq,
        };
        found(&unexpected)
    }
}

/// What serde finds wrong, in words for operators.
#[derive(Debug)]
pub(super) enum Fault {
    /// A key that must be there is not.
    Missing(&'static str),
    /// Everything else.
    Wrong(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(field) => write!(f, "`{field}` is missing"),
            Self::Wrong(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Wrong(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Wrong(format!("is {}, expected {}", found(&unexpected), wanted(&expected.to_string())))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let allowed = range(&expected).map_or_else(|| wanted(&expected), |(low, high)| format!("a whole number from {low} to {high}"));
        Self::Wrong(format!("is {}, expected {allowed}", found(&unexpected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::Wrong(format!("{variant:?} is not known, allowed are {}", expected.join(", ")))
    }

    fn unknown_field(_field: &str, expected: &'static [&'static str]) -> Self {
        Self::Wrong(format!("unknown key, allowed are {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

/// Longer texts are not repeated: they tell nobody more.
const LONGEST_SHOWN: usize = 64;

fn found(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) if text.len() <= LONGEST_SHOWN => format!("the text {text:?}"),
        Unexpected::Str(_) => "a long text".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// What serde's own types call themselves, in words.
fn wanted(expected: &str) -> String {
    match expected {
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other if range(other).is_some() => "a whole number",
        other => other,
    }
    .to_owned()
}

/// What fits into serde's whole numbers; TOML has none above `i64::MAX`.
fn range(expected: &str) -> Option<(i64, i64)> {
    Some(match expected {
        "u8" => (0, u8::MAX.into()),
        "u16" => (0, u16::MAX.into()),
        "u32" => (0, u32::MAX.into()),
        "u64" | "usize" => (0, i64::MAX),
        "i8" => (i8::MIN.into(), i8::MAX.into()),
        "i16" => (i16::MIN.into(), i16::MAX.into()),
        "i32" => (i32::MIN.into(), i32::MAX.into()),
        "i64" | "isize" => (i64::MIN, i64::MAX),
        _ => return None,
    })
}
