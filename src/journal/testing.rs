//! Rows and settings for the tests of the journal.

use std::time::Duration;

use super::Settings;
use crate::clock::Timestamp;
use crate::measurement::{Fields, Row, Series, Value};

/// Settings with room for everything.
pub(super) fn settings() -> Settings {
    Settings { flush: Duration::from_millis(250), max_size: 1 << 30, max_age: Duration::from_hours(30 * 24) }
}

/// A small row of a series.
pub(super) fn row(target: &str, time: i64) -> Row {
    let mut fields = Fields::new();
    fields.put("rtt_ms", Value::Float(time as f64 / 7.0));
    fields.put("sent", Value::Integer(time));
    let series = Series::new("qos_metrics", [("target", target), ("kind", "ping"), ("probe", "core")]);
    Row { series, time: Timestamp::from_nanos(time), fields }
}

/// Every field that a ping row of an address with partial loss can have.
pub(super) fn full_ping_fields() -> Fields {
    let mut fields = Fields::new();
    let mut put = |name: &str, value| fields.put(crate::measurement::field_name(name), value);
    put("result", Value::Text("partial".into()));
    put("result_code", Value::Integer(1));
    put("loaded", Value::Integer(0));
    put("error", Value::Text("4 of 5 replies".into()));
    put("address", Value::Text("203.113.210.199".into()));
    put("dns_stale", Value::Integer(1));
    for name in ["avg", "min", "max", "jitter", "p50", "p95", "p99", "stddev", "jitter_rfc3550", "pdv_p99"] {
        put(&format!("ping_{name}_ms"), Value::Float(12.345_678_9));
    }
    put("ping_packet_loss_pct", Value::Float(20.0));
    for name in ["received", "duplicates", "reordered", "late", "corrupt", "icmp_errors", "local_errors", "local_drops", "ttl"] {
        put(&format!("ping_{name}"), Value::Integer(64));
    }
    put("ping_sent", Value::Integer(60));
    put("ping_timestamps", Value::Text("kernel_rx".into()));
    fields
}

/// A full ping row of one of many series.
pub(super) fn ping_row(target: usize, time: i64) -> Row {
    let series = Series::new(
        "qos_metrics",
        [("target", format!("192.0.2.{target}")), ("source", "rome-1".into()), ("kind", "ping".into()), ("family", "ipv4".into())],
    );
    Row { series, time: Timestamp::from_nanos(time), fields: full_ping_fields() }
}
