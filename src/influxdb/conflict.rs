//! Which field a server refuses, by its own words: its type is not the one that the field has there already. Pure.
//!
//! The name is only a claim. What is done about it, and how far it is believed, is the writer's business.

use serde::Deserialize;

use crate::writer::part::FieldName;

/// A field that the server names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Which.
    pub(super) name: FieldName,
    /// How many lines of the request the server says that it did not store.
    pub(super) refused: Option<usize>,
}

/// What a server says in JSON.
#[derive(Deserialize)]
pub(super) struct Said {
    pub(super) error: Option<String>,
    pub(super) message: Option<String>,
    #[serde(default)]
    pub(super) data: Lines,
}

/// What version 3 says of lines: all that it did not store, or, when it stores nothing then, the first.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Lines {
    All(Vec<Line>),
    First(Line),
    Other(serde::de::IgnoredAny),
}

impl Default for Lines {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl Lines {
    /// The lines that are spoken of.
    pub(super) fn lines(&self) -> &[Line] {
        match self {
            Self::All(lines) => lines,
            Self::First(line) => std::slice::from_ref(line),
            Self::Other(_) => &[],
        }
    }
}

/// A line that was not stored.
#[derive(Deserialize)]
pub(super) struct Line {
    original_line: Option<String>,
    pub(super) error_message: String,
}

impl Said {
    /// None if the body is anything else, or cut off.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

/// The field that the answer names.
pub(super) fn of(body: &[u8]) -> Option<Named> {
    let said = Said::of(body)?;
    [&said.message, &said.error].into_iter().flatten().find_map(|text| in_message(text)).or_else(|| in_lines(&said.data))
}

/// Versions 1 and 2: `field type conflict: input field "f" on measurement "m" is type float, already exists as type integer
/// dropped=3`. Names are not escaped in it; ours have no quotes.
fn in_message(text: &str) -> Option<Named> {
    let (_, rest) = text.split_once("field type conflict: input field \"")?;
    let (field, rest) = rest.split_once("\" on measurement \"")?;
    let (measurement, rest) = rest.split_once("\" is type ")?;
    named(measurement, field, count(rest))
}

/// How many lines of a request the server says that it did not store, for whatever reason.
pub(super) fn dropped(body: &[u8]) -> Option<usize> {
    let said = Said::of(body)?;
    [&said.message, &said.error].into_iter().flatten().filter(|text| text.contains("partial write")).find_map(|text| count(text))
}

/// The count at the end of a message.
fn count(text: &str) -> Option<usize> {
    let (_, count) = text.rsplit_once(" dropped=")?;
    count.trim_end().parse().ok()
}

/// Version 3: `invalid column type for column 'f', expected …, got …`, beside the line.
fn in_lines(lines: &Lines) -> Option<Named> {
    let refused = if let Lines::All(lines) = lines { Some(lines.len()) } else { None };
    lines.lines().iter().find_map(|line| {
        let (_, rest) = line.error_message.split_once("invalid column type for column '")?;
        let (field, _) = rest.split_once("', expected ")?;
        named(&measurement(line.original_line.as_deref()?), field, refused)
    })
}

/// What a line begins with.
fn measurement(line: &str) -> String {
    let mut name = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next().filter(|c| !matches!(c, ',' | ' ')) {
        name.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    name
}

fn named(measurement: &str, field: &str, refused: Option<usize>) -> Option<Named> {
    let known = !measurement.is_empty() && !field.is_empty();
    known.then(|| Named { name: FieldName { measurement: measurement.to_owned(), field: field.to_owned() }, refused })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(body: &serde_json::Value) -> Option<Named> {
        of(body.to_string().as_bytes())
    }

    fn words(field: &str, measurement: &str, end: &str) -> String {
        format!(
            "partial write: field type conflict: input field \"{field}\" on measurement \"{measurement}\" is type float, already exists as type integer{end}"
        )
    }

    fn is(measurement: &str, field: &str, refused: Option<usize>) -> Named {
        named(measurement, field, refused).unwrap()
    }

    #[test]
    fn versions_1_and_2_name_the_field_and_count_the_lines() {
        let first = json!({ "error": words("http_ping_ms", "qos_metrics", " dropped=5000") });
        assert_eq!(found(&first), Some(is("qos_metrics", "http_ping_ms", Some(5000))));
        let second = words("http_ping_ms", "qos_metrics", " dropped=11");
        let second = json!({ "code": "unprocessable entity", "message": format!("failure writing points to database: {second}") });
        assert_eq!(found(&second), Some(is("qos_metrics", "http_ping_ms", Some(11))));
        assert_eq!(found(&json!({ "error": words("a b=,", "m m", "") })), Some(is("m m", "a b=,", None)), "an old one does not count");
    }

    #[test]
    fn lines_that_were_not_stored_are_counted_whatever_the_reason() {
        let said = |text: &str| dropped(json!({ "error": text }).to_string().as_bytes());
        assert_eq!(said("partial write: points beyond retention policy dropped=5000"), Some(5000));
        assert_eq!(said("partial write: max-series-per-database limit exceeded: (1000000) dropped=3"), Some(3));
        for none in ["partial write: unable to parse 'x'", "unable to parse 'm f=1 dropped=x'", "dropped=1", "", "a dropped=-1"] {
            assert_eq!(said(none), None, "{none}");
        }
        assert_eq!(dropped(b" dropped=7"), None, "a proxy's page");
    }

    #[test]
    fn version_3_names_it_line_by_line() {
        let line = |text: &str, error: &str| json!({ "original_line": text, "line_number": 1, "error_message": error });
        let wrong = "invalid column type for column 'f', expected iox::column_type::field::integer, got iox::column_type::field::float";
        let all = json!({ "error": "partial write of line protocol occurred", "data": [
            line("x y=1", "Unable to parse"), line("a\\ b\\,c,t=u f=1,g=2i 7", wrong), line("m f=1", wrong),
        ] });
        assert_eq!(found(&all), Some(is("a b,c", "f", Some(3))));
        let first = json!({ "error": "parsing failed for write_lp endpoint", "data": line("m f=1", wrong) });
        assert_eq!(found(&first), Some(is("m", "f", None)));
    }

    #[test]
    fn whatever_else_a_server_says_names_no_field() {
        let long = "x".repeat(100_000);
        for text in [
            "partial write: points beyond retention policy dropped=1",
            "field type conflict",
            "field type conflict: input field \"",
            "field type conflict: input field \"a\" on measurement \"m\"",
            "field type conflict: input field \"a\" on measurement \"m",
            "field type conflict: input field \\\"a\\\" on measurement \\\"m\\\" is type float",
            "",
            &long,
        ] {
            assert_eq!(found(&json!({ "error": text })), None, "{text:.80}");
        }
        assert_eq!(found(&json!({ "error": words("", "m", "") })), None);
        assert_eq!(found(&json!({ "error": words("a", "", "") })), None);
        for data in [
            json!(null),
            json!([]),
            json!(7),
            json!([7]),
            json!({}),
            json!([{ "error_message": "invalid column type for column 'f', expected x" }]),
        ] {
            assert_eq!(found(&json!({ "error": "partial write of line protocol occurred", "data": data })), None, "{data}");
        }
        let whole = json!({ "error": words("a", "m", " dropped=1") }).to_string();
        for end in 0..whole.len() {
            assert_eq!(of(&whole.as_bytes()[..end]), None, "cut off");
        }
        assert_eq!(of(words("a", "m", " dropped=1").as_bytes()), None, "a proxy's page");
        assert_eq!(of(&b"[".repeat(100_000)), None);
    }

    #[test]
    fn names_and_counts_are_taken_as_they_are_said() {
        let hostile = words("a\\\" on \n{}", "m\u{1b}[31m", " dropped=2");
        assert_eq!(found(&json!({ "error": hostile })), Some(is("m\u{1b}[31m", "a\\\" on \n{}", Some(2))));
        for (end, count) in
            [(" dropped=0", Some(0)), (" dropped=-1", None), (" dropped=99999999999999999999999", None), (" dropped=1 dropped=9 ", Some(9))]
        {
            assert_eq!(found(&json!({ "error": words("a", "m", end) })).unwrap().refused, count, "{end}");
        }
    }
}
