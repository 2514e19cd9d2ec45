//! `/metrics`: qosd's own state and the last values of every series, for Prometheus.
//!
//! What is told of qosd are its own rows, as they would be written now: [`own`] says what each field of them is called here.
//! A value of a series is called after its field, in base units ([`last`]), so that a new kind of probe needs nothing here.
//! What was not measured is left out. `docs/measurements.md` has every name.
//!
//! The same families are written in two formats. In the text format the name of a counter ends in `_total` in its head as
//! well, and there is no end marker.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{Answer, Sight};
use crate::measurement::Row;

pub mod last;
pub mod own;

/// Names and values of labels.
type Labels = std::sync::Arc<[(String, String)]>;

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up, from a start on. Its name ends in `_total`, which is not said again here.
    Counter,
    /// A value of this moment.
    Gauge,
}

/// A metric with all its values.
#[derive(Clone, Debug, PartialEq)]
struct Family {
    name: String,
    kind: Kind,
    help: String,
    samples: Vec<(Labels, f64)>,
}

/// The exposition: `OpenMetrics` if that was asked for, else the text format.
pub fn exposition(sight: &Sight, own: &[Row], openmetrics: bool) -> Answer {
    let series = sight.board.series(sight.clock.now().unix);
    let families = own::families(own).chain(last::families(&series)).filter(|family| !family.samples.is_empty()).collect();
    match written(families, openmetrics) {
        Ok(body) => {
            let content_type = if openmetrics {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            } else {
                "text/plain; version=0.0.4; charset=utf-8"
            };
            Answer { status: 200, content_type, body }
        }
        Err(error) => Answer::refused(500, &error.to_string()),
    }
}

fn written(families: Vec<Family>, openmetrics: bool) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition { families, openmetrics }));
    let mut body = String::new();
    let encoded = if openmetrics { encode(&mut body, &registry) } else { encode_registry(&mut body, &registry) };
    encoded.map(|()| body)
}

#[derive(Debug)]
struct Exposition {
    families: Vec<Family>,
    openmetrics: bool,
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for family in &self.families {
            let (name, kind) = match family.kind {
                Kind::Counter if !self.openmetrics => (&format!("{}_total", family.name), MetricType::Counter),
                Kind::Counter => (&family.name, MetricType::Counter),
                Kind::Gauge => (&family.name, MetricType::Gauge),
            };
            // As a counter the name would get its ending once more.
            let sample = |encoder: MetricEncoder, value: f64| match family.kind {
                Kind::Counter if self.openmetrics => ConstCounter::new(value).encode(encoder),
                Kind::Counter | Kind::Gauge => ConstGauge::new(value).encode(encoder),
            };
            let mut head = encoder.encode_descriptor(name, &family.help, None, kind)?;
            match family.samples.as_slice() {
                [(labels, value)] if labels.is_empty() => sample(head, *value)?,
                samples => samples.iter().try_for_each(|(labels, value)| sample(head.encode_family(&&**labels)?, *value))?,
            }
        }
        Ok(())
    }
}

/// A metric that may be there, as it is documented.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Documented {
    /// Its whole name.
    pub name: String,
    /// `counter` or `gauge`.
    pub kind: &'static str,
}

/// Every metric that there can be.
pub fn documented() -> Vec<Documented> {
    let mut all: Vec<_> = own::names().chain(last::names()).collect();
    all.sort();
    all
}

fn document(name: &str, kind: Kind) -> Documented {
    match kind {
        Kind::Counter => Documented { name: format!("{name}_total"), kind: "counter" },
        Kind::Gauge => Documented { name: name.to_owned(), kind: "gauge" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(labels: &[(&str, &str)]) -> Labels {
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn families() -> Vec<Family> {
        let hostile = labels(&[("target", "<script>\"\\\n\u{1b}ü"), ("kind", "ping")]);
        vec![
            Family { name: "qosd_rows".into(), kind: Kind::Counter, help: "Rows.".into(), samples: vec![(labels(&[]), 7.0)] },
            Family { name: "qosd_x_seconds".into(), kind: Kind::Gauge, help: "X.".into(), samples: vec![(hostile, 0.0123)] },
        ]
    }

    #[test]
    fn the_text_format_names_a_counter_in_full() {
        let text = written(families(), false).unwrap();
        let expected = "# HELP qosd_rows_total Rows.\n# TYPE qosd_rows_total counter\nqosd_rows_total 7.0\n\
                        # HELP qosd_x_seconds X.\n# TYPE qosd_x_seconds gauge\n\
                        qosd_x_seconds{target=\"<script>\\\"\\\\\\n\u{1b}ü\",kind=\"ping\"} 0.0123\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn openmetrics_has_its_end_and_the_ending_on_values_alone() {
        let text = written(families(), true).unwrap();
        assert!(text.contains("# TYPE qosd_rows counter\nqosd_rows_total") && text.ends_with("\n# EOF\n"), "{text}");
    }
}
