//! How a piece of config becomes a typed value: units, and every problem of it at once.
//!
//! Each module owns its settings as a plain serde struct; this module reads one and says what is wrong, with the key.
//! Reading is strict: `2.5`, `true` and `"2"` are no whole numbers and `5` is no text, except that a value from the
//! environment, where everything is text, may stand for what it spells. Settings structs need nothing for it but
//! `#[serde(deny_unknown_fields, default)]`; `flatten` and `untagged` would lose the keys.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;

use strict::{Fault, Tree};

pub mod file;
pub mod network;
mod strict;
pub mod units;

/// The origin that the `config` crate gives to values from the environment.
pub const ENVIRONMENT: &str = "the environment";

/// No table has more problems than this told; each costs a pass over the table.
const MOST_PROBLEMS: usize = 100;

/// Something wrong with a key. The path is relative to the table that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProblem {
    /// Where: `interval`, `targets[1].host`, or nothing for the table itself.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl KeyProblem {
    /// A problem with a key.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }

    /// The same problem, seen from the table around: its key begins with the table's.
    #[must_use]
    pub fn within(self, table: &str) -> Self {
        let separator = if table.is_empty() || self.key.is_empty() || self.key.starts_with('[') { "" } else { "." };
        Self { key: format!("{table}{separator}{}", self.key), message: self.message }
    }
}

/// Reads a typed value, or finds all problems at once.
pub fn typed<T: DeserializeOwned>(value: config::Value) -> Result<T, Vec<KeyProblem>> {
    match read(value) {
        (Some(value), problems) if problems.is_empty() => Ok(value),
        (_, problems) => Err(problems),
    }
}

/// Reads a typed value and makes something of it, or finds all problems at once: also those that `plan` finds beside
/// wrong types.
pub fn typed_into<T: DeserializeOwned, U>(
    value: config::Value,
    plan: impl FnOnce(&T) -> Result<U, Vec<KeyProblem>>,
) -> Result<(T, U), Vec<KeyProblem>> {
    let (value, mut problems) = read::<T>(value);
    let Some(value) = value else { return Err(problems) };
    match plan(&value) {
        Ok(planned) if problems.is_empty() => return Ok((value, planned)),
        Ok(_) => {}
        Err(more) => {
            // What was wrong and taken out may look missing now.
            let told: HashSet<String> = problems.iter().map(|problem| first_part(&problem.key).to_owned()).collect();
            problems.extend(more.into_iter().filter(|problem| !told.contains(first_part(&problem.key))));
        }
    }
    Err(problems)
}

fn first_part(key: &str) -> &str {
    key.split(['.', '[']).next().unwrap_or_default()
}

/// Reads what can be read, and finds all problems of the rest.
///
/// Serde stops at the first problem. So what is wrong is noted and taken out of the tree, and the rest read again.
fn read<T: DeserializeOwned>(value: config::Value) -> (Option<T>, Vec<KeyProblem>) {
    let mut tree = Tree::from(value);
    let mut problems = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize(&tree) {
            Ok(value) => return (Some(value), problems),
            Err(error) => error,
        };
        let place = tree.place(error.path());
        match error.inner() {
            // A key that is missing because it was wrong has been told already.
            Fault::Missing(field) if tree.was_removed(&place, field) => {}
            Fault::Missing(field) => problems.push(KeyProblem::new(place.key(), format!("`{field}` is missing"))),
            Fault::Wrong(message) => problems.push(KeyProblem::new(place.key(), message)),
        }
        if problems.len() >= MOST_PROBLEMS || !tree.remove(&place) {
            return (None, problems);
        }
    }
}

/// The problem of a value that is out of its range; `show` writes values as they stand in the config.
pub fn out_of_range<T: PartialOrd>(key: &str, value: &T, allowed: &RangeInclusive<T>, show: impl Fn(&T) -> String) -> Option<KeyProblem> {
    let (low, high) = (allowed.start(), allowed.end());
    (!allowed.contains(value))
        .then(|| KeyProblem::new(key, format!("{} is out of range, allowed is {} to {}", show(value), show(low), show(high))))
}

/// An error with its causes, in one line. A cause that the line ends with already is not said again.
pub fn explain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string);
    causes.fold(error.to_string(), |line, cause| if line.ends_with(&cause) { line } else { format!("{line}: {cause}") })
}

/// A key as it stands in a path: as it is if it is plain, else quoted and escaped, so that no key can forge a line.
pub fn plain_key(key: &str) -> String {
    if is_plain(key) { key.to_owned() } else { format!("{key:?}") }
}

/// Whether a key needs no quotes in TOML.
pub fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use config::{Value, ValueKind};
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        host: String,
        #[serde(default)]
        count: u16,
        #[serde(default)]
        on: bool,
        #[serde(default, with = "units::optional_duration")]
        interval: Option<Duration>,
        #[serde(default)]
        items: Vec<Item>,
        #[serde(default)]
        mode: Mode,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Item {
        size: i32,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        #[default]
        Auto,
        Both,
    }

    fn read(text: &str) -> Result<Sample, Vec<KeyProblem>> {
        let file = config::File::from_str(text, config::FileFormat::Toml);
        let map = config::Source::collect(&file).unwrap();
        typed(Value::from(map))
    }

    fn problems(text: &str) -> Vec<String> {
        read(text).unwrap_err().into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
    }

    #[test]
    fn all_problems_are_found_at_once() {
        let text = r#"
            host = 5
            count = "five"
            on = "yes"
            colour = "red"
            interval = "10 lightyears"
            mode = "neither"
            items = [{ size = 1 }, { size = 2.5 }, { sise = 1 }, { size = true }, 7]
        "#;
        assert_eq!(
            problems(text),
            [
                "colour: unknown key, allowed are host, count, on, interval, items, mode",
                "count: is the text \"five\", expected a whole number",
                "host: is the number 5, expected a text",
                "interval: is the text \"10 lightyears\", expected a duration such as \"250ms\", \"60s\", \"1m30s\" or \"30d\"",
                "items[1].size: is the number 2.5, expected a whole number",
                "items[2].sise: unknown key, allowed are size",
                "items[2]: `size` is missing",
                "items[3].size: is true, expected a whole number",
                "items[4]: is the number 7, expected a table",
                "mode: \"neither\" is not known, allowed are auto, both",
                "on: is the text \"yes\", expected true or false",
            ]
        );
    }

    #[test]
    fn a_number_out_of_its_type_says_the_range() {
        assert_eq!(problems("host = \"h\"\ncount = -1"), ["count: is the number -1, expected a whole number from 0 to 65535"]);
        assert_eq!(problems("host = \"h\"\ncount = 70000"), ["count: is the number 70000, expected a whole number from 0 to 65535"]);
    }

    #[test]
    fn a_missing_key_is_told_once_at_its_table() {
        assert_eq!(problems("count = 3"), [": `host` is missing"]);
    }

    #[test]
    fn values_from_the_environment_stand_for_what_they_spell() {
        let origin = ENVIRONMENT.to_owned();
        let text = |text: &str| Value::new(Some(&origin), ValueKind::String(text.into()));
        let table =
            [("host", text("007")), ("count", text("5")), ("on", text("true")), ("interval", text("1m30s")), ("mode", text("both"))];
        let map: config::Map<String, Value> = table.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let expected =
            Sample { host: "007".into(), count: 5, on: true, interval: Some(Duration::from_secs(90)), items: vec![], mode: Mode::Both };
        assert_eq!(typed::<Sample>(map.into()), Ok(expected));
    }

    #[test]
    fn a_list_from_the_environment_is_separated_by_commas() {
        let value = Value::new(Some(&ENVIRONMENT.to_owned()), ValueKind::String("a, b".into()));
        assert_eq!(typed::<Vec<String>>(value), Ok(vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn a_table_full_of_mistakes_ends() {
        let items: Vec<_> = (0..20_000).map(|n| Value::from(ValueKind::I64(n))).collect();
        let table: BTreeMap<String, Value> = [("items".to_owned(), items.into())].into();
        let problems = typed::<Sample>(Value::from(table.into_iter().collect::<config::Map<_, _>>())).unwrap_err();
        assert_eq!(problems.len(), MOST_PROBLEMS);
    }

    #[test]
    fn settings_read_back_as_they_were_written() {
        #[derive(Debug, Deserialize, PartialEq, Serialize)]
        struct Units {
            #[serde(with = "units::duration")]
            duration: Duration,
            #[serde(with = "units::bytes")]
            bytes: u64,
            #[serde(with = "units::rate")]
            rate: u64,
        }
        let units = Units { duration: Duration::from_millis(90_250), bytes: 100 * 1024, rate: 10_000_000 };
        let text = toml::to_string(&units).unwrap();
        assert_eq!(text, "duration = \"1m30s250ms\"\nbytes = \"100KiB\"\nrate = \"10M\"\n");
        let file = config::File::from_str(&text, config::FileFormat::Toml);
        assert_eq!(typed::<Units>(Value::from(config::Source::collect(&file).unwrap())), Ok(units));
    }

    #[test]
    fn a_problem_seen_from_outside_keeps_its_place() {
        let key = |key: &str| KeyProblem::new(key, "").within("ping.core").key;
        assert_eq!([key(""), key("count"), key("[1].host")], ["ping.core", "ping.core.count", "ping.core[1].host"]);
    }

    #[test]
    fn an_error_is_explained_with_each_of_its_causes_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Layer(&'static str, #[source] Option<Box<Layer>>);
        let layer = |said, cause| Layer(said, Some(Box::new(cause)));
        let error = layer("no answer", layer("connecting: refused", layer("refused", Layer("port closed", None))));
        assert_eq!(explain(&error), "no answer: connecting: refused: port closed");
    }
}
