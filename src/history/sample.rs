//! What the history keeps of a row: how the run ended, and the figures that charts are drawn of. Pure.

use crate::clock::Timestamp;
use crate::history::range::{Column, Spread};
use crate::measurement::{Fields, QOS_METRICS, Row, Value};
use crate::mesh::collector::rows::PING;
use crate::probe::{ADDRESS, CLOCK_STEP, ERROR, LOADED, Outcome, RESULT_CODE};

/// The fields of charts. Their places here are in the file: new ones come last, and none goes.
pub const FIELDS: [&str; 17] = [
    AVG,
    JITTER,
    LOSS,
    "http_ping_ms",
    "http_dns_ms",
    "http_connect_ms",
    "http_tls_ms",
    "http_first_byte_ms",
    "http_transfer_ms",
    "http_download_mbps",
    "http_upload_mbps",
    "iperf_bandwidth_mbps",
    "iperf_udp_mbps",
    "iperf_download_mbps",
    "iperf_jitter_ms",
    "iperf_lost_pct",
    "iperf_retransmits",
];

const AVG: &str = "ping_avg_ms";
const JITTER: &str = "ping_jitter_ms";
const LOSS: &str = "ping_packet_loss_pct";

/// A row, as far as charts need it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// Its slot.
    pub(super) time: Timestamp,
    /// How the run ended.
    pub(super) outcome: Outcome,
    /// Whether a throughput test of ours overlapped it.
    pub(super) loaded: bool,
    /// The figures, each with the place of its field in [`FIELDS`], in order.
    pub(super) figures: Vec<(u8, Spread)>,
    /// Who answered.
    pub(super) address: Option<String>,
    /// Why the slot was skipped.
    pub(super) skipped: Option<String>,
    /// By how much the wall clock was stepped.
    pub(super) clock_step: Option<f32>,
}

impl Sample {
    /// What is kept of a row; nothing of one that measures no network.
    pub(super) fn of(row: &Row) -> Option<Self> {
        match row.series.measurement() {
            QOS_METRICS => own(row),
            PING => Some(of_mesh(row)),
            _ => None,
        }
    }

    /// The row alone in a column.
    pub(super) fn column(&self) -> Column {
        Column {
            start: self.time,
            width: std::time::Duration::ZERO,
            outcomes: vec![(self.outcome, 1)],
            loaded: u32::from(self.loaded),
            figures: self.figures.iter().map(|(field, spread)| (FIELDS[usize::from(*field)], *spread)).collect(),
        }
    }
}

/// A row of a probe, of this host or of another.
fn own(row: &Row) -> Option<Sample> {
    let fields = &row.fields;
    let code = integer(fields, RESULT_CODE.info().name)?;
    let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.code() == code)?;
    let figures = FIELDS.iter().enumerate().filter_map(|(place, name)| Some((place as u8, spread(fields, name)?)));
    let error = || text(fields, ERROR.info().name).unwrap_or_default();
    Some(Sample {
        time: row.time,
        outcome,
        loaded: integer(fields, LOADED.info().name) == Some(1),
        figures: figures.collect(),
        address: text(fields, ADDRESS.info().name),
        skipped: (outcome == Outcome::Skipped).then(error),
        clock_step: figure(fields, CLOCK_STEP.info().name).map(|step| step as f32),
    })
}

/// A row of measurement `Ping`: its loss is a share, and it tells no more of a run than least, most and average.
fn of_mesh(row: &Row) -> Sample {
    let of = |name| figure(&row.fields, name);
    let loss = of("loss").unwrap_or_default();
    let outcome = match loss {
        _ if loss >= 1.0 => Outcome::Timeout,
        _ if loss > 0.0 => Outcome::Partial,
        _ => Outcome::Ok,
    };
    let rtt = of("avg").map(|avg| {
        let (min, max) = (of("min").unwrap_or(avg), of("max").unwrap_or(avg));
        Spread { min, low: min, median: avg, high: max, max, mean: avg, rows: 1 }
    });
    let figures = [rtt, of("jitter").map(alone), Some(alone(loss * 100.0))];
    let figures = figures.into_iter().enumerate().filter_map(|(place, spread)| Some((place as u8, spread?)));
    Sample { time: row.time, outcome, loaded: false, figures: figures.collect(), address: None, skipped: None, clock_step: None }
}

fn spread(fields: &Fields, name: &str) -> Option<Spread> {
    let value = figure(fields, name)?;
    if name != AVG {
        return Some(alone(value));
    }
    let of = |name, otherwise| figure(fields, name).unwrap_or(otherwise);
    let (min, max) = (of("ping_min_ms", value), of("ping_max_ms", value));
    let (median, high) = (of("ping_p50_ms", value), of("ping_p95_ms", max));
    Some(Spread { min, low: min, median, high, max, mean: value, rows: 1 })
}

fn alone(value: f64) -> Spread {
    Spread { min: value, low: value, median: value, high: value, max: value, mean: value, rows: 1 }
}

fn figure(fields: &Fields, name: &str) -> Option<f64> {
    match fields.get(name)? {
        Value::Float(value) => Some(*value),
        Value::Integer(value) => Some(*value as f64),
        Value::Text(_) => None,
    }
}

fn integer(fields: &Fields, name: &str) -> Option<i64> {
    match fields.get(name)? {
        Value::Integer(value) => Some(*value),
        Value::Float(_) | Value::Text(_) => None,
    }
}

fn text(fields: &Fields, name: &str) -> Option<String> {
    match fields.get(name)? {
        Value::Text(text) => Some(text.clone()),
        Value::Float(_) | Value::Integer(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::{Series, field_name};
    use crate::probe::{Finding, KINDS, Skip};

    #[test]
    fn every_field_of_a_chart_is_a_field_of_a_kind() {
        let known: Vec<_> = KINDS.iter().flat_map(|kind| kind.fields()).map(|field| field.name).collect();
        for field in FIELDS {
            assert!(known.contains(&field), "{field}");
        }
    }

    #[test]
    fn a_row_of_ping_has_the_spread_of_its_packets() {
        let mut fields = Finding { outcome: Outcome::Partial, error: None, fields: Fields::new() }.into_fields(Some("x".into()));
        let figures = [("avg_ms", 3.0), ("min_ms", 1.0), ("max_ms", 9.0), ("p50_ms", 2.0), ("p95_ms", 8.0), ("packet_loss_pct", 20.0)];
        for (name, value) in figures {
            fields.put(field_name(&format!("ping_{name}")), Value::Float(value));
        }
        let row = Row { series: Series::new(QOS_METRICS, [("a", "b")]), time: Timestamp::from_nanos(7), fields };
        let column = Sample::of(&row).unwrap().column();
        let rtt = Spread { min: 1.0, low: 1.0, median: 2.0, high: 8.0, max: 9.0, mean: 3.0, rows: 1 };
        assert_eq!(column.figures, [(AVG, rtt), (LOSS, alone(20.0))]);
        assert_eq!((column.outcomes, column.loaded), (vec![(Outcome::Partial, 1)], 1));
    }

    #[test]
    fn a_row_of_a_mesh_has_the_figures_of_ping() {
        let mut fields = Fields::new();
        for (name, value) in [("min", 1.0), ("max", 3.0), ("avg", 2.0), ("jitter", 0.5), ("loss", 0.25)] {
            fields.put(field_name(name), Value::Float(value));
        }
        let row = Row { series: Series::new(PING, [("source", "a")]), time: Timestamp::from_nanos(7), fields };
        let sample = Sample::of(&row).unwrap();
        let rtt = Spread { min: 1.0, low: 1.0, median: 2.0, high: 3.0, max: 3.0, mean: 2.0, rows: 1 };
        assert_eq!(sample.column().figures, [(AVG, rtt), (JITTER, alone(0.5)), (LOSS, alone(25.0))]);
        assert_eq!(sample.outcome, Outcome::Partial);
    }

    #[test]
    fn of_what_was_not_run_the_reason_is_kept_and_of_qosd_itself_nothing() {
        let row = |measurement: &str| {
            let fields = Finding::skipped(Skip::Restart).into_fields(None);
            Row { series: Series::new(measurement, [("a", "b")]), time: Timestamp::from_nanos(7), fields }
        };
        let sample = Sample::of(&row(QOS_METRICS)).unwrap();
        assert_eq!((sample.outcome, sample.skipped.as_deref()), (Outcome::Skipped, Some("restart")));
        assert_eq!(Sample::of(&row(crate::measurement::QOSD)), None);
    }
}
