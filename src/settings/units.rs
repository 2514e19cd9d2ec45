//! The units of the config, as serde `with` modules. What they write they read back.
//!
//! Durations `250ms`, `60s`, `1m30s`, `30d`; sizes `100KiB`; rates `10M` (bits a second, powers of 1000).

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{Error, Unexpected, Visitor};

/// A hundred years: longer durations are mistakes, and would overflow times further on.
const LONGEST: Duration = Duration::from_hours(24 * 36500);
/// An exbibyte: larger sizes are mistakes.
const LARGEST: u64 = 1 << 60;

/// A text of a certain form.
struct Form<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for Form<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

const DURATION: Form<Duration> = Form { expected: "a duration such as \"250ms\", \"60s\", \"1m30s\" or \"30d\"", parse: parse_duration };
const BYTES: Form<u64> = Form { expected: "a size such as \"100KiB\" or \"1GiB\"", parse: parse_bytes };
const RATE: Form<u64> = Form { expected: "bits per second such as \"500K\", \"10M\" or \"1G\"", parse: parse_rate };

fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|duration| *duration <= LONGEST)
}

fn parse_bytes(text: &str) -> Option<u64> {
    let size: ByteSize = text.trim().parse().ok()?;
    (size.as_u64() <= LARGEST).then_some(size.as_u64())
}

const RATES: [(char, u64); 4] = [('T', 1_000_000_000_000), ('G', 1_000_000_000), ('M', 1_000_000), ('K', 1_000)];

fn parse_rate(text: &str) -> Option<u64> {
    let unit = RATES.iter().find(|(unit, _)| text.ends_with([*unit, unit.to_ascii_lowercase()]));
    let (number, factor) = unit.map_or((text, 1), |(_, factor)| (&text[..text.len() - 1], *factor));
    // `parse` would take a sign.
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<u64>().ok()?.checked_mul(factor)).flatten()
}

/// A duration as the config has it, exact: `1m30s`.
pub fn show_duration(duration: &Duration) -> String {
    const UNITS: [(&str, u128); 7] = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (unit, nanos) in UNITS {
        if rest >= nanos {
            text = format!("{text}{}{unit}", rest / nanos);
            rest %= nanos;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A size as the config has it, exact: `100KiB`.
pub fn show_bytes(bytes: &u64) -> String {
    const UNITS: [(&str, u32); 5] = [("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = UNITS.iter().find(|(_, bits)| *bytes >= 1 << bits && bytes.trailing_zeros() >= *bits);
    unit.map_or_else(|| format!("{bytes}B"), |(unit, bits)| format!("{}{unit}", bytes >> bits))
}

/// A rate as the config has it, exact: `10M`.
pub fn show_rate(rate: &u64) -> String {
    let unit = RATES.iter().find(|(_, factor)| *rate >= *factor && rate.is_multiple_of(*factor));
    unit.map_or_else(|| rate.to_string(), |(unit, factor)| format!("{}{unit}", rate / factor))
}

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident: $value:ty, $form:ident, $show:ident) => {
        $(#[$doc])*
        pub mod $name {
            use super::*;

            /// Reads it.
            pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<$value, D::Error> {
                deserializer.deserialize_str($form)
            }

            /// Writes it as it is read.
            pub fn serialize<S: serde::Serializer>(value: &$value, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&$show(value))
            }
        }
    };
}

unit! {
    /// `#[serde(with = "units::duration")]`: `1m30s`.
    duration: Duration, DURATION, show_duration
}
unit! {
    /// `#[serde(with = "units::bytes")]`: `100KiB`.
    bytes: u64, BYTES, show_bytes
}
unit! {
    /// `#[serde(with = "units::rate")]`: `10M`, bits a second.
    rate: u64, RATE, show_rate
}

/// `#[serde(default, with = "units::optional_duration", skip_serializing_if = "Option::is_none")]`: `7d`, or no key.
pub mod optional_duration {
    use super::Duration;

    /// Reads it.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        super::duration::deserialize(deserializer).map(Some)
    }

    /// Writes it as it is read.
    pub fn serialize<S: serde::Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::duration::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_has_a_unit_is_a_duration() {
        assert_eq!(parse_duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("30d"), Some(Duration::from_hours(720)));
        for wrong in ["", "5", "-1s", "s", "1 lightyear", "1e3s", "1000000000000s", "200years"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_and_rates_that_overflow_are_refused() {
        assert_eq!(parse_bytes("100KiB"), Some(102_400));
        assert_eq!(parse_rate("10M"), Some(10_000_000));
        assert_eq!(parse_rate("7"), Some(7));
        for wrong in ["", "-1KiB", "KiB", "1 parsec", "99999999999999EiB", "NaN"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
        for wrong in ["", "M", "-1M", "+1M", "1.5M", "99999999999999T", "10Mbit"] {
            assert_eq!(parse_rate(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(nanos in 0..LONGEST.as_nanos() as u64, bytes in 0..=LARGEST, rate: u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&show_duration(&duration)), Some(duration));
            prop_assert_eq!(parse_bytes(&show_bytes(&bytes)), Some(bytes));
            prop_assert_eq!(parse_rate(&show_rate(&rate)), Some(rate));
        }

        #[test]
        fn no_text_makes_a_unit_panic(text in ".{0,40}") {
            let _ = (parse_duration(&text), parse_bytes(&text), parse_rate(&text));
        }
    }
}
