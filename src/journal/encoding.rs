//! How a row's fields become a compact body and back. Pure.
//!
//! Names and types stand once, in a [`Layout`] that the rows of a series share; a body holds the values alone: a float as
//! its 8 bytes, little-endian; an integer as a zigzag varint; a text as its length in bytes, a varint, and its bytes.
//! [`checksum`] covers all that makes a row, so that a byte that flips anywhere in it is found.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::measurement::{FieldType, Fields, Value, field_name};

/// Names and types of a row's fields, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Layout(Vec<(&'static str, FieldType)>);

/// The letter of a type in a layout's text. For ever.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Letter {
    #[serde(rename = "f")]
    Float,
    #[serde(rename = "i")]
    Integer,
    #[serde(rename = "s")]
    Text,
}

impl Layout {
    /// The layout of these fields.
    pub(super) fn of(fields: &Fields) -> Self {
        Self(fields.iter().map(|(name, value)| (name, value.kind())).collect())
    }

    /// As one line of text: `[["ping_avg_ms","f"],…]`.
    pub(super) fn text(&self) -> String {
        let pairs: Vec<(&str, Letter)> = self.0.iter().map(|(name, kind)| (*name, Letter::of(*kind))).collect();
        serde_json::to_string(&pairs).expect("pairs of text are always JSON")
    }

    /// Reads what [`Layout::text`] wrote.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let pairs: Vec<(String, Letter)> = serde_json::from_str(text).ok()?;
        Some(Self(pairs.into_iter().map(|(name, letter)| (field_name(&name), letter.kind())).collect()))
    }

    /// The names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }
}

impl Letter {
    fn of(kind: FieldType) -> Self {
        match kind {
            FieldType::Float => Self::Float,
            FieldType::Integer => Self::Integer,
            FieldType::Text => Self::Text,
        }
    }

    fn kind(self) -> FieldType {
        match self {
            Self::Float => FieldType::Float,
            Self::Integer => FieldType::Integer,
            Self::Text => FieldType::Text,
        }
    }
}

/// The values of the fields, in order.
pub(super) fn encode(fields: &Fields) -> Vec<u8> {
    let mut body = Vec::with_capacity(160);
    for (_, value) in fields.iter() {
        match value {
            Value::Float(float) => body.extend_from_slice(&float.to_le_bytes()),
            Value::Integer(integer) => put_varint(&mut body, ((integer << 1) ^ (integer >> 63)).cast_unsigned()),
            Value::Text(text) => {
                put_varint(&mut body, text.len() as u64);
                body.extend_from_slice(text.as_bytes());
            }
        }
    }
    body
}

/// The fields of a body; none if it is not exactly one of this layout.
pub(super) fn decode(layout: &Layout, mut body: &[u8]) -> Option<Fields> {
    let mut fields = Fields::new();
    for (name, kind) in &layout.0 {
        let value = match kind {
            FieldType::Float => Value::Float(f64::from_le_bytes(take(&mut body, 8)?.try_into().ok()?)),
            FieldType::Integer => {
                let zigzag = take_varint(&mut body)?;
                Value::Integer((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
            }
            FieldType::Text => {
                let length = usize::try_from(take_varint(&mut body)?).ok()?;
                Value::Text(str::from_utf8(take(&mut body, length)?).ok()?.to_owned())
            }
        };
        fields.put(name, value);
    }
    body.is_empty().then_some(fields)
}

/// CRC32C of a row: series, layout, time and body. Series and layout are JSON arrays, so it is clear where each ends.
pub(super) fn checksum(series: &str, layout: &str, time: Timestamp, body: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(series.as_bytes()), layout.as_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &time.nanos().to_le_bytes()), body)
}

/// Appends a number in groups of 7 bits, the lowest first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number off the front.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        let group = u64::from(byte & 0x7f);
        if group << shift >> shift != group {
            return None;
        }
        value |= group << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(front)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::testing;

    #[test]
    #[expect(clippy::print_stdout, reason = "the figure is of interest")]
    fn a_full_ping_row_has_a_small_body() {
        let fields = testing::full_ping_fields();
        let body = encode(&fields);
        println!("body of a full ping row: {} fields in {} bytes", fields.len(), body.len());
        assert!(body.len() <= 160, "{} bytes", body.len());
        assert_eq!(decode(&Layout::of(&fields), &body), Some(fields));
    }

    #[test]
    fn the_text_of_a_layout_is_for_ever() {
        let mut fields = Fields::new();
        fields.put("a", Value::Float(1.0));
        fields.put("b\",", Value::Integer(1));
        fields.put("c", Value::Text(String::new()));
        let text = Layout::of(&fields).text();
        assert_eq!(text, r#"[["a","f"],["b\",","i"],["c","s"]]"#);
        assert_eq!(Layout::from_text(&text), Some(Layout::of(&fields)));
        assert_eq!(Layout::from_text(r#"[["a","x"]]"#), None);
    }

    #[test]
    fn a_body_too_short_or_too_long_is_refused() {
        let fields = testing::full_ping_fields();
        let layout = Layout::of(&fields);
        let mut body = encode(&fields);
        for length in 0..body.len() {
            assert_eq!(decode(&layout, &body[..length]), None);
        }
        body.push(0);
        assert_eq!(decode(&layout, &body), None);
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<f64>().prop_filter("finite", |float| float.is_finite()).prop_map(Value::Float),
            any::<i64>().prop_map(Value::Integer),
            ".{0,20}".prop_map(Value::Text),
        ]
    }

    proptest! {
        #[test]
        fn fields_read_back_as_they_were(values in prop::collection::vec((".{0,8}", value()), 0..30)) {
            let mut fields = Fields::new();
            for (name, value) in values {
                fields.put(field_name(&name), value);
            }
            let layout = Layout::from_text(&Layout::of(&fields).text()).unwrap();
            prop_assert_eq!(decode(&layout, &encode(&fields)), Some(fields));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            decode(&Layout::of(&testing::full_ping_fields()), &bytes);
        }

        #[test]
        fn a_flipped_bit_changes_the_checksum(bit in 0..800usize, time: i64) {
            let (series, layout, body) = (r#"["m",{}]"#, r#"[["a","f"]]"#, [7u8; 100]);
            let mut flipped = body;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let time = Timestamp::from_nanos(time);
            prop_assert_ne!(checksum(series, layout, time, &body), checksum(series, layout, time, &flipped));
        }
    }
}
