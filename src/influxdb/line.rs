//! Rows as line protocol. Pure.
//!
//! One row is exactly one line, whatever its names and texts hold: a raw newline in a tag would forge a second point, a
//! trailing backslash would break the first. The `influxdb` crate escapes spaces, commas and equals signs rightly and
//! quotes and backslashes in tags wrongly, so what it gets wrong never reaches it.

use std::collections::BTreeSet;
use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use influxdb::{Query, Timestamp, Type, ValidQuery, WriteQuery};

use crate::measurement::{Row, Value};

/// The longest name or tag value, in characters. `InfluxDB` refuses tags beyond 64 KiB.
const LONGEST_NAME: usize = 256;
/// The longest text of a field, in bytes.
const LONGEST_TEXT: usize = 4096;

/// The row as a line without its newline. None if it has no field that can be sent.
pub fn line(row: &Row) -> Option<String> {
    let nanos = u128::try_from(row.time.nanos()).unwrap_or(0);
    let measurement = name(row.series.measurement(), Place::Measurement).unwrap_or_else(|| "_".to_owned());
    let mut query = WriteQuery::new(Timestamp::Nanoseconds(nanos), measurement);
    let mut seen = BTreeSet::new();
    for (key, value) in row.series.tags() {
        // Two keys may become one when they are made safe; a key twice in a line is refused, so the first stays.
        if let (Some(key), Some(value)) = (name(key, Place::Within), name(value, Place::Within))
            && seen.insert(key.clone())
        {
            query = query.add_tag(key, value);
        }
    }
    let mut seen = BTreeSet::new();
    for (key, value) in row.fields.iter() {
        if let (Some(key), Some(value)) = (name(key, Place::Within), field_value(value))
            && seen.insert(key.clone())
        {
            query = query.add_field(key, value);
        }
    }
    // The only error is that there are no fields.
    query.build().ok().map(ValidQuery::get)
}

/// The body of a write request: the same rows always give the same bytes. None if no row has anything to send.
pub fn body<'a>(rows: impl IntoIterator<Item = &'a Row>, gzip: bool) -> Option<Bytes> {
    let mut text = String::new();
    for line in rows.into_iter().filter_map(line) {
        text.push_str(&line);
        text.push('\n');
    }
    if text.is_empty() {
        return None;
    }
    Some(if gzip { compress(text.as_bytes()) } else { text.into() })
}

/// As gzip, the same bytes each time.
pub(super) fn compress(plain: &[u8]) -> Bytes {
    // The encoder's header carries no time unless it is given one, so the bytes depend on the text alone.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("writing into memory cannot fail").into()
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

/// The value in the crate's terms. None if the protocol has no way to write it.
fn field_value(value: &Value) -> Option<Type> {
    match value {
        Value::Float(float) => float.is_finite().then_some(Type::Float(*float)),
        Value::Integer(integer) => Some(Type::SignedInteger(*integer)),
        Value::Text(text) => Some(Type::Text(safe_text(text))),
    }
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
                prop_assert!(row.fields.iter().all(|(key, value)| key.is_empty() || field_value(value).is_none()));
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
