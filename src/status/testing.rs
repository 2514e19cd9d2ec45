//! Rows for the tests of what is shown.

use crate::clock::Timestamp;
use crate::measurement::{Row, Series, Value};
use crate::probe::{Finding, Naming, Outcome};

/// So many seconds since the epoch.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

/// The series of pings to a target.
pub(crate) fn series(target: &str) -> Series {
    let naming = Naming { agent: "rome-1".into(), kind: "ping", probe: "core".into() };
    naming.series(target, "ipv4", &[("site".to_owned(), "milan".to_owned())].into())
}

/// A run that got through.
pub(crate) fn ok(target: &str, seconds: i64, average: f64) -> Row {
    let mut fields = Finding { outcome: Outcome::Ok, error: None, fields: crate::measurement::Fields::new() }.into_fields(None);
    fields.put("ping_avg_ms", Value::Float(average));
    Row { series: series(target), time: at(seconds), fields }
}

/// A run that ended so. One that got through in part says how much was lost, as pings do.
pub(crate) fn failed(target: &str, seconds: i64, outcome: Outcome) -> Row {
    let mut fields = Finding::failed(outcome, "no reply").into_fields(None);
    if outcome == Outcome::Partial {
        fields.put("ping_packet_loss_pct", Value::Float(60.0));
    }
    Row { series: series(target), time: at(seconds), fields }
}
