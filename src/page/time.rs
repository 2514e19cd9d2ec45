//! Which time is shown: `?range=1h` up to now, or `?from=` and `?to=`.

use std::time::Duration;

use super::Asked;
use crate::clock::Timestamp;
use crate::history::range::Span;

/// The ranges that are offered.
pub const RANGES: [(&str, Duration); 6] = [
    ("1h", Duration::from_hours(1)),
    ("6h", Duration::from_hours(6)),
    ("24h", Duration::from_hours(24)),
    ("3d", Duration::from_hours(72)),
    ("7d", Duration::from_hours(168)),
    ("30d", Duration::from_hours(720)),
];

/// What was asked for, or the sentence that says what is wrong with it.
pub fn span(asked: &Asked, now: Timestamp) -> Result<Span, String> {
    let time = |key: &str, text: &str| {
        let wrong = || format!("{key} is {text:?}, expected a time such as 2026-01-31T12:00:00Z, or seconds since 1970");
        if let Ok(seconds) = text.parse::<i64>() {
            return seconds.checked_mul(1_000_000_000).map(Timestamp::from_nanos).ok_or_else(wrong);
        }
        // What a form of a browser sends has neither zone nor, mostly, seconds.
        let whole = [text.to_owned(), format!("{text}Z"), format!("{text}:00Z")];
        let parsed = whole.iter().find_map(|text| humantime::parse_rfc3339_weak(text).ok()).ok_or_else(wrong)?;
        let since = parsed.duration_since(std::time::UNIX_EPOCH).map_err(|_| wrong())?;
        i64::try_from(since.as_nanos()).map(Timestamp::from_nanos).map_err(|_| wrong())
    };
    let to = asked.get("to").map_or(Ok(now), |text| time("to", text))?;
    let from = match (asked.get("from"), asked.get("range")) {
        (Some(from), _) => time("from", from)?,
        (None, None) => to.minus(RANGES[1].1),
        (None, Some(range)) => {
            let known = RANGES.iter().find(|(name, _)| *name == range);
            let names = RANGES.map(|(name, _)| name).join(", ");
            to.minus(known.ok_or_else(|| format!("range is {range:?}, expected one of {names}"))?.1)
        }
    };
    match from {
        _ if from >= to => Err("from is not before to".to_owned()),
        _ if from >= now => Err("from is a time that has not come yet".to_owned()),
        // Of what has not come yet nothing is missing.
        _ => Ok(Span { from, to: to.min(now) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::testing::asked;
    use crate::status::testing::at;

    #[test]
    fn what_has_not_come_yet_is_not_shown() {
        let of = |from: &str, to: &str| span(&asked(&[("from", from), ("to", to)]), at(1_000));
        assert_eq!(of("900", "2000"), Ok(Span { from: at(900), to: at(1_000) }));
        assert_eq!(of("900", "950"), Ok(Span { from: at(900), to: at(950) }));
        assert_eq!(of("1000", "2000"), Err("from is a time that has not come yet".to_owned()));
        assert_eq!(of("200", "100"), Err("from is not before to".to_owned()));
    }
}
