//! Rows as line protocol. Pure.
//!
//! One row is exactly one line, whatever its names and texts hold: a raw newline in a tag would forge a second point, a
//! trailing backslash would break the first. The `influxdb` crate escapes spaces, commas and equals signs rightly and
//! quotes and backslashes in tags wrongly, so what it gets wrong never reaches it.
//!
//! The crate makes each head of a series, name and text once a body: rows share most of them, and a backlog has many rows.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use influxdb::{Query, Timestamp, Type, ValidQuery, WriteQuery};

use crate::measurement::{Row, Series, Value};

/// The longest name or tag value, in characters. `InfluxDB` refuses tags beyond 64 KiB.
const LONGEST_NAME: usize = 256;
/// The longest text of a field, in bytes.
const LONGEST_TEXT: usize = 4096;
/// A third of the time that the usual 6 takes, for a fifth more bytes: a backlog keeps a server busy, not this host.
const COMPRESSION: u32 = 2;

/// The row as a line without its newline. None if it has no field that can be sent.
pub fn line(row: &Row) -> Option<String> {
    let mut line = String::new();
    Lines::default().push(row, &mut line).then_some(line)
}

/// The body of a write request: the same rows always give the same bytes. None if no row has anything to send.
pub fn body<'a>(rows: impl IntoIterator<Item = &'a Row>, gzip: bool) -> Option<Bytes> {
    let mut body = Body::new(gzip);
    body.add(rows);
    body.finish()
}

/// As gzip, the same bytes each time.
pub(super) fn compress(plain: &[u8]) -> Bytes {
    let mut encoder = encoder();
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("writing into memory cannot fail").into()
}

/// Its header carries no time unless it is given one, so the bytes depend on the text alone.
fn encoder() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::new(COMPRESSION))
}

/// The body of a write request in the making: however its rows are sliced, the text is that of [`body`].
pub struct Body<'a> {
    lines: Lines<'a>,
    text: String,
    compressed: Option<GzEncoder<Vec<u8>>>,
    is_empty: bool,
}

impl<'a> Body<'a> {
    /// Without a row.
    pub fn new(gzip: bool) -> Self {
        let compressed = gzip.then(encoder);
        Self { lines: Lines::default(), text: String::new(), compressed, is_empty: true }
    }

    /// Adds rows at the end.
    pub fn add(&mut self, rows: impl IntoIterator<Item = &'a Row>) {
        for row in rows {
            if self.lines.push(row, &mut self.text) {
                self.text.push('\n');
            }
        }
        self.is_empty &= self.text.is_empty();
        if let Some(encoder) = &mut self.compressed {
            encoder.write_all(self.text.as_bytes()).expect("writing into memory cannot fail");
            self.text.clear();
        }
    }

    /// None if no row had anything to send.
    pub fn finish(self) -> Option<Bytes> {
        let Self { text, compressed, is_empty, .. } = self;
        let bytes = || compressed.map_or(text.into(), |encoder| encoder.finish().expect("writing into memory cannot fail").into());
        (!is_empty).then(bytes)
    }
}

/// Makes lines, and remembers what many of them have in common.
#[derive(Default)]
struct Lines<'a> {
    /// Measurement and tags.
    heads: HashMap<&'a Series, String>,
    /// Names of fields. None: nothing is left of it.
    names: HashMap<&'static str, Option<Name>>,
    /// Texts of fields, with their quotes.
    texts: HashMap<&'a str, String>,
    /// Some name was made safe, so that two may have become one.
    altered: bool,
}

/// The name of a field.
struct Name {
    safe: String,
    escaped: String,
}

impl<'a> Lines<'a> {
    /// Appends the line of a row. No: it has no field that can be sent, and nothing was appended.
    fn push(&mut self, row: &'a Row, out: &mut String) -> bool {
        let begin = out.len();
        out.push_str(self.heads.entry(&row.series).or_insert_with(|| head(&row.series)));
        let mut separator = ' ';
        for (index, (key, value)) in row.fields.iter().enumerate().filter(|(_, (_, value))| is_sendable(value)) {
            self.know(key);
            let Some(Some(name)) = self.names.get(key) else { continue };
            // A key twice in a line is refused, so the first stays.
            if self.altered && self.is_before(row, index, name) {
                continue;
            }
            out.push(separator);
            separator = ',';
            out.push_str(&name.escaped);
            out.push('=');
            let written = match value {
                Value::Float(float) => write!(out, "{float}"),
                Value::Integer(integer) => write!(out, "{integer}i"),
                Value::Text(text) => out.write_str(self.texts.entry(text).or_insert_with(|| quoted(text))),
            };
            written.expect("writing into memory cannot fail");
        }
        if separator == ' ' {
            out.truncate(begin);
            return false;
        }
        write!(out, " {}", row.time.nanos().max(0)).expect("writing into memory cannot fail");
        true
    }

    /// Has the name of a field in `names`.
    fn know(&mut self, key: &'static str) {
        let altered = &mut self.altered;
        self.names.entry(key).or_insert_with(|| {
            let safe = name(key, Place::Within)?;
            *altered |= safe != key;
            Some(Name { escaped: escaped(&safe), safe })
        });
    }

    /// Whether a field before this one has the same name, made safe. Those were looked at already.
    fn is_before(&self, row: &Row, index: usize, name: &Name) -> bool {
        let mut before = row.fields.iter().take(index).filter(|(_, value)| is_sendable(value));
        before.any(|(key, _)| self.names.get(key).is_some_and(|known| known.as_ref().is_some_and(|known| known.safe == name.safe)))
    }
}

/// Measurement and tags, as a line begins.
fn head(series: &Series) -> String {
    let measurement = name(series.measurement(), Place::Measurement).unwrap_or_else(|| "_".to_owned());
    let mut query = WriteQuery::new(Timestamp::Nanoseconds(0), measurement);
    let mut seen = BTreeSet::new();
    for (key, value) in series.tags() {
        // Two keys may become one when they are made safe; a key twice in a line is refused, so the first stays.
        if let (Some(key), Some(value)) = (name(key, Place::Within), name(value, Place::Within))
            && seen.insert(key.clone())
        {
            query = query.add_tag(key, value);
        }
    }
    cut(&query.add_field("f", Type::SignedInteger(0)), "", " f=0i 0")
}

/// The name of a field as it stands in a line.
fn escaped(safe: &str) -> String {
    cut(&WriteQuery::new(Timestamp::Nanoseconds(0), "m").add_field(safe, Type::SignedInteger(0)), "m ", "=0i 0")
}

/// The text of a field as it stands in a line.
fn quoted(raw: &str) -> String {
    cut(&WriteQuery::new(Timestamp::Nanoseconds(0), "m").add_field("f", Type::Text(safe_text(raw))), "m f=", " 0")
}

/// What the crate made of the one part of a line that is asked for.
fn cut(query: &WriteQuery, before: &str, behind: &str) -> String {
    let line = query.build().map(ValidQuery::get).expect("the only error is that there are no fields");
    line.strip_prefix(before).and_then(|line| line.strip_suffix(behind)).expect("what is around it was given").to_owned()
}

/// Whether the protocol has a way to write it.
fn is_sendable(value: &Value) -> bool {
    !matches!(value, Value::Float(float) if !float.is_finite())
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Measurement,
    Within,
}

/// A name or tag value without what the protocol cannot carry. None if nothing is left.
fn name(raw: &str, place: Place) -> Option<String> {
    let mut safe: String =
        raw.chars().take(LONGEST_NAME).map(|c| if c.is_control() || matches!(c, '"' | '\\') { '_' } else { c }).collect();
    // A line that begins with # is a comment.
    if place == Place::Measurement && safe.starts_with('#') {
        safe.replace_range(..1, "_");
    }
    (!safe.is_empty()).then_some(safe)
}

fn safe_text(raw: &str) -> String {
    let end = raw.floor_char_boundary(LONGEST_TEXT);
    raw[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;
    use crate::measurement::{Field, Fields, Series};

    fn row(measurement: &str, tags: &[(&str, &str)], fields: &[(&str, Value)]) -> Row {
        let mut set = Fields::new();
        for (name, value) in fields {
            set.put(crate::measurement::field_name(name), value.clone());
        }
        Row {
            series: Series::new(measurement, tags.iter().copied()),
            time: crate::clock::Timestamp::from_nanos(1_700_000_000_000_000_001),
            fields: set,
        }
    }

    const ONE: &[(&str, Value)] = &[("n", Value::Integer(1))];

    #[test]
    fn a_row_has_sorted_tags_and_typed_fields() {
        let fields =
            [("a", Value::Float(1.5)), ("b", Value::Integer(-7)), ("c", Value::Text("x \"y\" \\".to_owned())), ("d", Value::Float(0.0))];
        assert_eq!(
            line(&row("qos_metrics", &[("target", "a b,c=d"), ("source", "x")], &fields)).unwrap(),
            r#"qos_metrics,source=x,target=a\ b\,c\=d a=1.5,b=-7i,c="x \"y\" \\",d=0 1700000000000000001"#
        );
    }

    #[test]
    fn a_name_cannot_forge_a_line_nor_break_one() {
        let hostile = [("a\nb", "x\ny"), ("q", "a\"b\\"), ("trailing", "z\\"), ("nul", "\0")];
        assert_eq!(line(&row("#m\r\n", &hostile, ONE)).unwrap(), "_m__,a_b=x_y,nul=_,q=a_b_,trailing=z_ n=1i 1700000000000000001");
    }

    #[test]
    fn two_keys_that_become_one_are_sent_once() {
        let fields = [("f\"", Value::Integer(1)), ("f\\", Value::Integer(2))];
        assert_eq!(line(&row("m", &[("k\"", "1"), ("k\\", "2")], &fields)).unwrap(), "m,k_=1 f_=1i 1700000000000000001");
    }

    #[test]
    fn what_is_not_finite_is_left_out_and_a_row_of_nothing_is_no_line() {
        let mixed = [("bad", Value::Float(f64::NAN)), ("inf", Value::Float(f64::INFINITY)), ("n", Value::Integer(i64::MIN))];
        assert_eq!(line(&row("m", &[], &mixed)).unwrap(), "m n=-9223372036854775808i 1700000000000000001");
        assert_eq!(line(&row("m", &[], &mixed[..2])), None);
        assert_eq!(line(&row("m", &[("a", "b")], &[])), None);
    }

    #[test]
    fn lengths_are_capped_between_characters() {
        let long = "ü".repeat(40_000);
        let line = line(&row("m", &[("t", &long)], &[("s", Value::Text(long.clone()))])).unwrap();
        assert_eq!(line, format!("m,t={} s=\"{}\" 1700000000000000001", "ü".repeat(256), "ü".repeat(2048)));
    }

    #[test]
    fn a_body_is_the_same_bytes_each_time_and_nothing_for_nothing() {
        let rows = [row("m", &[("a", "b")], ONE), row("m", &[], &[]), row("n", &[], ONE)];
        let packed = body(&rows, true).unwrap();
        assert_eq!(packed, body(&rows, true).unwrap());
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "m,a=b n=1i 1700000000000000001\nn n=1i 1700000000000000001\n");
        assert_eq!(body(&rows, false).unwrap(), text.as_bytes());
        assert_eq!(body(&rows[1..2], true), None);
    }

    #[test]
    fn fields_declared_as_constants_keep_their_types() {
        let mut fields = Fields::new();
        fields.float(Field::float("f"), 3.0).integer(Field::integer("i"), 3).text(Field::text("s"), "3");
        let row = Row { series: Series::new("m", [("", "")]), time: crate::clock::Timestamp::from_nanos(-1), fields };
        assert_eq!(line(&row).unwrap(), "m f=3,i=3i,s=\"3\" 0");
    }

    /// What a server reads from a line: measurement, tags, fields as written, time.
    #[derive(Debug, PartialEq)]
    struct Parsed {
        measurement: String,
        tags: Vec<(String, String)>,
        fields: Vec<(String, String)>,
        time: String,
    }

    /// Splits at the first separator that is neither escaped nor quoted.
    fn split<'a>(text: &'a str, separators: &str, quotes: bool) -> (&'a str, Option<(char, &'a str)>) {
        let (mut escaped, mut inside) = (false, false);
        for (at, c) in text.char_indices() {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if quotes && c == '"' {
                inside = !inside;
            } else if !inside && separators.contains(c) {
                return (&text[..at], Some((c, &text[at + c.len_utf8()..])));
            }
        }
        assert!(!escaped && !inside, "unterminated: {text}");
        (text, None)
    }

    fn unescape(text: &str) -> String {
        let mut chars = text.chars();
        let mut plain = String::new();
        while let Some(c) = chars.next() {
            plain.push(if c == '\\' { chars.next().unwrap() } else { c });
        }
        plain
    }

    fn parse(line: &str) -> Parsed {
        let (measurement, mut rest) = split(line, ", ", false);
        let mut tags = Vec::new();
        while let Some((',', tail)) = rest {
            let (key, value) = split(tail, "=", false);
            let (value, next) = split(value.unwrap().1, ", ", false);
            tags.push((unescape(key), unescape(value)));
            rest = next;
        }
        let mut fields = Vec::new();
        let mut tail = rest.unwrap().1;
        let time = loop {
            let (key, value) = split(tail, "=", false);
            let (value, next) = split(value.unwrap().1, ", ", true);
            fields.push((unescape(key), value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).map_or(value.to_owned(), unescape)));
            match next.unwrap() {
                (',', more) => tail = more,
                (_, time) => break time.to_owned(),
            }
        };
        Parsed { measurement: unescape(measurement), tags, fields, time }
    }

    /// The whole line as the crate makes it.
    fn by_the_crate(row: &Row) -> Option<String> {
        let nanos = Timestamp::Nanoseconds(row.time.nanos().max(0).cast_unsigned().into());
        let measurement = name(row.series.measurement(), Place::Measurement).unwrap_or("_".to_owned());
        let mut query = WriteQuery::new(nanos, measurement);
        let mut seen = BTreeSet::new();
        for (key, value) in row.series.tags() {
            if let (Some(key), Some(value)) = (name(key, Place::Within), name(value, Place::Within))
                && seen.insert(key.clone())
            {
                query = query.add_tag(key, value);
            }
        }
        let mut seen = BTreeSet::new();
        for (key, value) in row.fields.iter() {
            let value = match value {
                Value::Float(float) if !float.is_finite() => continue,
                Value::Float(float) => Type::Float(*float),
                Value::Integer(integer) => Type::SignedInteger(*integer),
                Value::Text(text) => Type::Text(safe_text(text)),
            };
            if let Some(key) = name(key, Place::Within).filter(|key| seen.insert(key.clone())) {
                query = query.add_field(key, value);
            }
        }
        query.build().ok().map(ValidQuery::get)
    }

    fn any_row() -> impl Strategy<Value = Row> {
        let tags = prop::collection::btree_map(any_name(), any_name(), 0..4);
        let fields = prop::collection::vec((any_name(), any_value()), 0..6);
        (any_name(), tags, fields, any::<i64>()).prop_map(|(measurement, tags, fields, nanos)| {
            let mut set = Fields::new();
            for (key, value) in &fields {
                set.put(crate::measurement::field_name(key), value.clone());
            }
            Row { series: Series::new(measurement, tags), time: crate::clock::Timestamp::from_nanos(nanos), fields: set }
        })
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<f64>().prop_map(Value::Float),
            any::<i64>().prop_map(Value::Integer),
            ".{0,20}|[\\PC\n\r\"\\\\]{0,9}".prop_map(Value::Text)
        ]
    }

    fn any_name() -> impl Strategy<Value = String> {
        prop_oneof![any::<String>(), "[a-z =,\"\\\\\n#]{0,6}"]
    }

    fn written(value: &Value) -> String {
        match value {
            Value::Float(float) => float.to_string(),
            Value::Integer(integer) => format!("{integer}i"),
            Value::Text(text) => safe_text(text),
        }
    }

    proptest! {
        #[test]
        fn a_body_is_the_lines_that_the_crate_makes_of_each_row(rows in prop::collection::vec(any_row(), 0..6)) {
            let lines: Vec<_> = rows.iter().filter_map(by_the_crate).map(|line| line + "\n").collect();
            prop_assert_eq!(body(&rows, false).unwrap_or_default(), lines.concat());
        }

        #[test]
        fn any_row_is_one_line_that_reads_back(
            measurement in any_name(),
            tags in prop::collection::btree_map(any_name(), any_name(), 0..6),
            fields in prop::collection::vec((any_name(), any_value()), 0..6),
            nanos in 0..i64::MAX,
        ) {
            let mut set = Fields::new();
            for (key, value) in &fields {
                set.put(crate::measurement::field_name(key), value.clone());
            }
            let row = Row { series: Series::new(measurement.clone(), tags), time: crate::clock::Timestamp::from_nanos(nanos), fields: set };
            let Some(line) = line(&row) else {
                prop_assert!(row.fields.iter().all(|(key, value)| key.is_empty() || !is_sendable(value)));
                return Ok(());
            };
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert!(!line.starts_with('#'));
            let parsed = parse(&line);
            prop_assert_eq!(&parsed.measurement, &name(&measurement, Place::Measurement).unwrap_or("_".to_owned()));
            prop_assert_eq!(parsed.time, nanos.to_string());
            for (key, value) in parsed.tags {
                prop_assert!(row.series.tags().any(|(k, v)| name(k, Place::Within).as_ref() == Some(&key) && name(v, Place::Within).as_ref() == Some(&value)));
            }
            for (key, value) in parsed.fields {
                prop_assert!(row.fields.iter().any(|(k, v)| name(k, Place::Within).as_ref() == Some(&key) && written(v) == value));
            }
        }
    }
}
