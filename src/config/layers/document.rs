//! A TOML file: its values for merging, and the place of each key in it.

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use crate::settings::{is_plain, plain_key};

/// What is wrong with a file, and at which line and column.
pub(super) type Mistake = (Option<(usize, usize)>, String);

/// A parsed file.
pub(super) struct Document {
    /// What it says, for the `config` crate.
    pub(super) values: Map<String, Value>,
    lines: Lines,
    places: Node,
}

/// Where something stands, in bytes, and what is in it.
struct Node {
    at: usize,
    inside: Inside,
}

enum Inside {
    Value,
    /// By key as it stands in a path.
    Table(BTreeMap<String, Node>),
    Array(Vec<Node>),
}

/// One step of the path to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a table.
    Key(String),
    /// Into a list.
    Element(usize),
}

impl Step {
    /// The key, if it goes into a table.
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(key),
            Self::Element(_) => None,
        }
    }
}

/// The steps of a path as problems have it: `ping.core.targets[1].tags."odd key"`. Quoted keys stay quoted.
pub(super) fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let end = if rest.starts_with('"') { end_of_quoted(rest) } else { next_separator(rest) };
        let (step, more) = rest.split_at(end);
        let index = step.strip_prefix('[').and_then(|step| step.strip_suffix(']')).and_then(|index| index.parse().ok());
        steps.push(index.map_or_else(|| Step::Key(step.to_owned()), Step::Element));
        rest = more.strip_prefix('.').unwrap_or(more);
    }
    steps
}

/// A separator at the very beginning belongs to the step, so that there is no empty one.
fn next_separator(text: &str) -> usize {
    text.char_indices().skip(1).find(|(_, c)| matches!(c, '.' | '[')).map_or(text.len(), |(at, _)| at)
}

fn end_of_quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            c => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

impl Document {
    /// Parses a file, or finds its mistakes: those of form, and values that no config has.
    pub(super) fn parse(bytes: Vec<u8>, origin: &str) -> Result<Self, Vec<Mistake>> {
        let mut text = String::from_utf8(bytes).map_err(|error| {
            let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
            let end = good.len();
            vec![(Some(Lines::new(good).position(end)), "is not UTF-8 text".to_owned())]
        })?;
        if text.starts_with('\u{feff}') {
            text.remove(0);
        }
        let lines = Lines::new(text);
        let table = match DeTable::parse(&lines.text) {
            Ok(table) => table.into_inner(),
            // The error's own display would show the line, and a secret in it.
            Err(error) => {
                let at = error.span().map(|span| lines.position(span.start));
                return Err(vec![(at, error.message().replace('\n', ", "))]);
            }
        };
        let mut builder = Builder { origin: origin.to_owned(), mistakes: Vec::new() };
        builder.sections(&table);
        let (values, places) = builder.table(&table);
        if builder.mistakes.is_empty() {
            let places = Node { at: 0, inside: Inside::Table(places) };
            return Ok(Self { values, lines, places });
        }
        Err(builder.mistakes.into_iter().map(|(at, message)| (Some(lines.position(at)), message)).collect())
    }

    /// How many steps of a path lead to something in this file.
    pub(super) fn depth(&self, steps: &[Step]) -> usize {
        self.walk(steps).1
    }

    /// Line and column of what a path leads to; nothing for the file as a whole.
    pub(super) fn position(&self, steps: &[Step]) -> Option<(usize, usize)> {
        let (node, depth) = self.walk(steps);
        (depth > 0).then(|| self.lines.position(node.at))
    }

    fn walk(&self, steps: &[Step]) -> (&Node, usize) {
        let mut here = &self.places;
        for (depth, step) in steps.iter().enumerate() {
            let next = match (&here.inside, step) {
                (Inside::Table(entries), Step::Key(key)) => entries.get(key),
                (Inside::Array(items), Step::Element(index)) => items.get(*index),
                _ => None,
            };
            let Some(next) = next else { return (here, depth) };
            here = next;
        }
        (here, steps.len())
    }
}

/// A text with the places of its lines.
struct Lines {
    text: String,
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: String) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// Line and column of a byte, both from 1; columns are characters.
    fn position(&self, at: usize) -> (usize, usize) {
        // The first line starts at 0, so there is always one.
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let before = self.text.get(self.starts[line - 1]..at.min(self.text.len())).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

/// Makes values and places out of the parser's tree.
struct Builder {
    origin: String,
    mistakes: Vec<(usize, String)>,
}

impl Builder {
    /// The `config` crate would take odd names at the top for paths, and `"a[4000000000]"` for a list of that length.
    fn sections(&mut self, table: &DeTable<'_>) {
        let odd = table.keys().filter(|key| !is_plain(key.get_ref()));
        self.mistakes.extend(odd.map(|key| (key.span().start, format!("{:?} is no section", key.get_ref()))));
    }

    fn table(&mut self, table: &DeTable<'_>) -> (Map<String, Value>, BTreeMap<String, Node>) {
        let (mut values, mut places) = (Map::new(), BTreeMap::new());
        for (key, value) in table {
            let (kind, inside) = self.value(value);
            values.insert(key.get_ref().clone().into_owned(), Value::new(Some(&self.origin), kind));
            places.insert(plain_key(key.get_ref()), Node { at: key.span().start, inside });
        }
        (values, places)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>) -> (ValueKind, Inside) {
        let at = value.span().start;
        let kind = match value.get_ref() {
            DeValue::Table(table) => {
                let (values, places) = self.table(table);
                return (ValueKind::Table(values), Inside::Table(places));
            }
            DeValue::Array(array) => {
                let (values, places) = array.iter().map(|value| self.element(value)).unzip();
                return (ValueKind::Array(values), Inside::Array(places));
            }
            DeValue::String(text) => ValueKind::String(text.clone().into_owned()),
            DeValue::Boolean(value) => ValueKind::Boolean(*value),
            DeValue::Integer(number) => integer(number).unwrap_or_else(|| self.mistake(at, "the number is too large")),
            DeValue::Float(number) => float(number).unwrap_or_else(|| self.mistake(at, "the number is not finite")),
            DeValue::Datetime(_) => self.mistake(at, "no key takes a date; for a text put it in quotes"),
        };
        (kind, Inside::Value)
    }

    fn element(&mut self, value: &Spanned<DeValue<'_>>) -> (Value, Node) {
        let (kind, inside) = self.value(value);
        (Value::new(Some(&self.origin), kind), Node { at: value.span().start, inside })
    }

    fn mistake(&mut self, at: usize, message: &str) -> ValueKind {
        self.mistakes.push((at, message.to_owned()));
        ValueKind::Nil
    }
}

fn integer(number: &DeInteger<'_>) -> Option<ValueKind> {
    i64::from_str_radix(number.as_str(), number.radix()).ok().map(ValueKind::I64)
}

fn float(number: &DeFloat<'_>) -> Option<ValueKind> {
    number.as_str().parse().ok().filter(|value: &f64| value.is_finite()).map(ValueKind::Float)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(text: &str, path: &str) -> Option<(usize, usize)> {
        Document::parse(text.into(), "0").unwrap_or_else(|mistakes| panic!("{mistakes:?}")).position(&steps(path))
    }

    fn mistakes(bytes: &[u8]) -> Vec<Mistake> {
        Document::parse(bytes.to_vec(), "0").err().unwrap_or_default()
    }

    #[test]
    fn every_key_has_its_line_and_column() {
        let text = "[agent]\nname = \"ä\"\n\n[ping.core]\ntargets = [\"a\",\n  { host = \"b\", tags = { \"odd key\" = 1 } }]\n";
        assert_eq!(position(text, "agent"), Some((1, 2)));
        assert_eq!(position(text, "agent.name"), Some((2, 1)));
        assert_eq!(position(text, "ping.core"), Some((4, 7)));
        assert_eq!(position(text, "ping.core.targets[0]"), Some((5, 12)));
        assert_eq!(position(text, "ping.core.targets[1].host"), Some((6, 5)));
        assert_eq!(position(text, "ping.core.targets[1].tags.\"odd key\""), Some((6, 26)));
        assert_eq!(position(text, "ping.core.missing"), Some((4, 7)));
        assert_eq!(position(text, "other"), None);
    }

    #[test]
    fn byte_order_mark_and_carriage_returns_are_accepted() {
        assert_eq!(position("\u{feff}[agent]\r\nname = \"a\"\r\n", "agent.name"), Some((2, 1)));
    }

    #[test]
    fn what_is_no_toml_has_its_place() {
        assert_eq!(mistakes(b"[agent]\nname = \"\xff\""), [(Some((2, 9)), "is not UTF-8 text".to_owned())]);
        assert_eq!(mistakes(b"[agent]\nname = \"half")[0].0.map(|(line, _)| line), Some(2));
        assert_eq!(mistakes(b"a = 1\na = 2")[0].0, Some((2, 1)));
        assert_eq!(mistakes(b"a:\n  - b\n").len(), 1);
    }

    #[test]
    fn values_that_no_config_has_are_told_all() {
        let found = mistakes(b"a = 99999999999999999999\nb = [inf, 1e999]\nc = 1979-05-27\n\"x[4000000000]\" = 1\n");
        assert_eq!(found.len(), 5, "{found:?}");
    }

    #[test]
    fn a_secret_in_a_broken_line_is_not_shown() {
        for text in ["token = \"c4n4ry", "token = c4n4ry", "token c4n4ry", "token = \"a\" c4n4ry", "c4n4ry"] {
            assert!(!format!("{:?}", mistakes(text.as_bytes())).contains("c4n4ry"), "{:?}", mistakes(text.as_bytes()));
        }
    }

    #[test]
    fn nesting_without_end_is_a_mistake() {
        assert_eq!(mistakes("[".repeat(100_000).as_bytes()).len(), 1);
        assert_eq!(mistakes(format!("a = {}", "[".repeat(100_000)).as_bytes()).len(), 1);
        assert_eq!(mistakes(format!("{}b = 1", "a.".repeat(100_000)).as_bytes()).len(), 1);
        assert_eq!(mistakes(format!("[{}b]", "a.".repeat(100_000)).as_bytes()).len(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, path in ".{0,40}") {
            if let Ok(document) = Document::parse(bytes, "0") {
                document.position(&steps(&path));
            }
        }
    }
}
