//! What qosd tells of itself: the fields of its own rows, by the names that Prometheus expects.

use super::{Documented, Family, Kind, Labels, document};
use crate::measurement::{Row, Value};

/// A metric, and the fields that are its values.
struct Own {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    of: &'static [Source],
}

/// A field, and the label by which its value is told from those of the other fields of the same metric.
struct Source {
    field: &'static str,
    label: Option<(&'static str, &'static str)>,
    /// So much of the field is one of the metric.
    by: f64,
}

const fn plain(field: &'static str) -> Source {
    Source { field, label: None, by: 1.0 }
}

const fn by_reason(field: &'static str, reason: &'static str) -> Source {
    Source { field, label: Some(("reason", reason)), by: 1.0 }
}

const fn counter(name: &'static str, help: &'static str, of: &'static [Source]) -> Own {
    Own { name, kind: Kind::Counter, help, of }
}

const fn gauge(name: &'static str, help: &'static str, of: &'static [Source]) -> Own {
    Own { name, kind: Kind::Gauge, help, of }
}

/// Fields of qosd's own rows that are no metric: a sum of what is told by its parts, and what a time without any qosd was.
pub const LEFT_OUT: [&str; 4] = ["skipped", "gap_from", "gap_to", "gap_slots"];

const SKIPPED: &[Source] = &[
    by_reason("skipped_overrun", "overrun"),
    by_reason("skipped_restart", "restart"),
    by_reason("skipped_suspended", "suspended"),
    by_reason("skipped_reload", "reload"),
    by_reason("skipped_shutdown", "shutdown"),
    by_reason("skipped_budget", "budget"),
];
const DROPPED: &[Source] = &[
    by_reason("queue_dropped", "queue"),
    by_reason("journal_dropped_memory", "memory"),
    by_reason("journal_dropped_size", "size"),
    by_reason("journal_dropped_gone", "gone"),
    by_reason("journal_dropped_dead", "dead"),
];
const LATENESS: &[Source] = &[Source { field: "lateness_p99_ms", label: None, by: 1000.0 }];

const ALL: &[Own] = &[
    counter("qosd_scheduled", "Slots that came due since the start.", &[plain("scheduled")]),
    counter("qosd_rows", "Slots since the start that have their row.", &[plain("rows")]),
    counter("qosd_skipped", "Rows since the start for slots that were skipped, by the reason.", SKIPPED),
    gauge("qosd_lateness_p99_seconds", "How late the slots of the last minute were taken, 99th percentile, by actor.", LATENESS),
    counter("qosd_restarts", "How often an actor was started again.", &[plain("restarts")]),
    gauge("qosd_not_listening", "Addresses where the actor is to listen and cannot.", &[plain("not_listening")]),
    gauge("qosd_abandoned_threads", "Blocked threads that were left behind.", &[plain("abandoned_threads")]),
    counter("qosd_dropped_rows", "Rows that were lost, by the reason.", DROPPED),
    gauge("qosd_journal_rows", "Rows in the journal.", &[plain("journal_rows")]),
    gauge("qosd_journal_bytes", "Size of the journal with its write-ahead file.", &[plain("journal_bytes")]),
    gauge("qosd_journal_oldest_age_seconds", "Age of the oldest row in the journal.", &[plain("journal_oldest_age_s")]),
    gauge("qosd_journal_waiting_rows", "Rows in memory that are not durable yet.", &[plain("journal_waiting")]),
    counter("qosd_journal_damaged_rows", "Rows set aside because they were damaged.", &[plain("journal_damaged")]),
    gauge("qosd_resident_memory_bytes", "Resident memory of the process.", &[plain("rss_bytes")]),
    counter("qosd_cpu_seconds", "CPU time of the process, user and system.", &[plain("cpu_s")]),
    counter("qosd_output_delivered_rows", "Rows that the output accepted since the start.", &[plain("delivered")]),
    gauge("qosd_output_pending_rows", "Rows that the output has not acknowledged.", &[plain("pending")]),
    gauge("qosd_output_dead_letters", "Rows that the output refused, kept until they are requeued.", &[plain("dead")]),
    counter("qosd_output_retries", "Requests that were sent again.", &[plain("retries")]),
    counter("qosd_output_refused_fields", "Fields left out of rows because the output refused them.", &[plain("refused_fields")]),
    counter("qosd_ping_late_after_close_packets", "Replies that came after their run was closed.", &[plain("ping_late_after_close")]),
    counter("qosd_ping_forged_packets", "Replies without the token of the packet that they claim to answer.", &[plain("ping_forged")]),
    counter("qosd_ping_unmatched_packets", "Replies and ICMP errors that belong to no packet of ours.", &[plain("ping_unmatched")]),
    gauge("qosd_mesh_peers", "Series that the agent of a mesh measures.", &[plain("mesh_peers")]),
    gauge("qosd_mesh_refused_entries", "Entries of the collector's list that are not measured.", &[plain("mesh_refused")]),
    gauge("qosd_mesh_stale", "1 if the collector has not confirmed the list lately, else 0.", &[plain("mesh_stale")]),
    counter("qosd_mesh_lost_results", "Results that the collector will never take.", &[plain("mesh_lost")]),
    counter("qosd_collector_attempts", "Posts with the right key, whatever came of them.", &[plain("collector_attempts")]),
    counter("qosd_collector_posts", "Posts of names in the list.", &[plain("collector_posts")]),
    counter("qosd_collector_refused_posts", "Posts and calls that the collector refused, by the reason.", REFUSED_POSTS),
    counter("qosd_collector_refused_connections", "Connections for which there was no room.", &[plain("collector_refused_connections")]),
    gauge("qosd_collector_connections", "Connections of the collector at this moment.", &[plain("collector_connections")]),
    counter("qosd_collector_stored_results", "Results stored.", &[plain("collector_stored")]),
    counter(
        "qosd_collector_duplicate_results",
        "Results that were stored already and were posted again.",
        &[plain("collector_duplicates")],
    ),
    counter("qosd_collector_rejected_results", "Results that cannot be, or of no target in the list.", &[plain("collector_rejected")]),
    counter("qosd_collector_absent_results", "Results that did not come, each with a row.", &[plain("collector_absent")]),
    counter("qosd_collector_passed_over_results", "Results that did not come and have no row.", &[plain("collector_passed_over")]),
];
const REFUSED_POSTS: &[Source] = &[
    by_reason("collector_no_key", "no_key"),
    by_reason("collector_wrong_key", "wrong_key"),
    by_reason("collector_rate_limited", "rate_limited"),
    by_reason("collector_bad_posts", "bad_post"),
    by_reason("collector_too_large", "too_large"),
    by_reason("collector_unknown_source", "unknown_source"),
    by_reason("collector_too_slow", "too_slow"),
    by_reason("collector_busy", "busy"),
    by_reason("collector_not_durable", "not_durable"),
];

const BUILD: &str = "qosd_build_info";

/// The metrics that these rows come to, and which program this is.
pub(super) fn families(rows: &[Row]) -> impl Iterator<Item = Family> {
    let version = [("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    let agent = rows.iter().find_map(|row| row.series.tag("source")).map(|source| ("source".to_owned(), source.to_owned()));
    let build = Family {
        name: BUILD.to_owned(),
        kind: Kind::Gauge,
        help: "Always 1; the labels say which version this is, and of which agent.".to_owned(),
        samples: vec![(version.into_iter().chain(agent).collect(), 1.0)],
    };
    std::iter::once(build).chain(ALL.iter().map(|own| own.family(rows)))
}

impl Own {
    fn family(&self, rows: &[Row]) -> Family {
        let samples = rows.iter().flat_map(|row| self.of.iter().filter_map(|source| Some((labels(row, source), source.value(row)?))));
        Family { name: self.name.to_owned(), kind: self.kind, help: self.help.to_owned(), samples: samples.collect() }
    }
}

impl Source {
    fn value(&self, row: &Row) -> Option<f64> {
        match row.fields.get(self.field)? {
            Value::Float(value) => Some(value / self.by),
            Value::Integer(value) => Some(*value as f64 / self.by),
            Value::Text(_) => None,
        }
    }
}

/// Which actor or output it is of. The agent is not said again with each: it is what is scraped.
fn labels(row: &Row, source: &Source) -> Labels {
    let of = row.series.tags().filter(|(key, _)| *key != "source");
    of.chain(source.label).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether a field of qosd's own rows is told, as far as it is to be.
pub fn tells(field: &str) -> bool {
    LEFT_OUT.contains(&field) || ALL.iter().flat_map(|own| own.of).any(|source| source.field == field)
}

/// Every value of the label `reason`: of which metric it is, the reason, and the field that it tells.
pub fn reasons() -> impl Iterator<Item = (String, &'static str, &'static str)> {
    let of = |own: &'static Own| {
        let name = document(own.name, own.kind).name;
        own.of.iter().filter_map(move |source| Some((name.clone(), source.label?.1, source.field)))
    };
    ALL.iter().flat_map(of)
}

/// Every metric about qosd that there can be.
pub(super) fn names() -> impl Iterator<Item = Documented> {
    std::iter::once(document(BUILD, Kind::Gauge)).chain(ALL.iter().map(|own| document(own.name, own.kind)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::measurement::{Field, Fields, QOSD, Series};

    fn row(tags: &[(&str, &str)], set: impl FnOnce(&mut Fields)) -> Row {
        let mut fields = Fields::new();
        set(&mut fields);
        let tags = [("source", "rome-1")].iter().chain(tags).copied();
        Row { series: Series::new(QOSD, tags), time: Timestamp::default(), fields }
    }

    fn shown(rows: &[Row]) -> Vec<String> {
        let of = |family: Family| {
            let name = family.name.clone();
            family.samples.into_iter().map(move |(labels, value)| {
                let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{name}{{{}}} {value}", labels.join(","))
            })
        };
        families(rows).skip(1).flat_map(of).collect()
    }

    #[test]
    fn rows_about_qosd_become_metrics_by_actor_output_and_reason() {
        let integer = |name| Field::integer(name);
        let rows = [
            row(&[], |fields| {
                fields.integer(integer("skipped_restart"), 3).integer(integer("journal_dropped_size"), 4).integer(integer("skipped"), 9);
            }),
            row(&[("actor", "ping")], |fields| {
                fields.integer(integer("restarts"), 1).float(Field::float("lateness_p99_ms"), 2.5);
            }),
            row(&[("output", "main")], |fields| {
                fields.integer(integer("delivered"), 7).integer(integer("pending"), 0);
            }),
        ];
        let expected = [
            "qosd_skipped{reason=restart} 3",
            "qosd_lateness_p99_seconds{actor=ping} 0.0025",
            "qosd_restarts{actor=ping} 1",
            "qosd_dropped_rows{reason=size} 4",
            "qosd_output_delivered_rows{output=main} 7",
            "qosd_output_pending_rows{output=main} 0",
        ];
        assert_eq!(shown(&rows), expected);
    }

    #[test]
    fn a_build_is_named_with_its_agent() {
        let build = families(&[row(&[], |_| ())]).next().unwrap();
        let labels: Vec<_> = build.samples[0].0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((build.name.as_str(), labels), (BUILD, vec!["version", "source"]));
    }
}
