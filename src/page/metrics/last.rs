//! The last values of every series: the floats of its last row, in base units. Whole numbers of a run, such as packets
//! and statuses, are in the rows alone.

use std::collections::BTreeMap;

use super::{Documented, Family, Kind, Labels, document};
use crate::measurement::FieldType;
use crate::probe::{COMMON_FIELDS, KINDS, Outcome};
use crate::status::SeriesStatus;

const RESULT_CODE: &str = "qosd_result_code";
const ROW_AGE: &str = "qosd_row_age_seconds";

/// A unit of fields.
struct Unit {
    /// How the names of its fields end.
    end: &'static str,
    /// How those of their metrics end.
    base: &'static str,
    /// A value of the field times this …
    times: f64,
    /// … by this is one of the metric. Both are whole, so that no digits come in that were not there.
    by: f64,
    /// That of the metric, in words.
    words: &'static str,
}

const UNITS: [Unit; 5] = [
    Unit { end: "_days_left", base: "_left_seconds", times: 86_400.0, by: 1.0, words: "in seconds" },
    Unit { end: "_mbps", base: "_bytes_per_second", times: 125_000.0, by: 1.0, words: "in bytes per second" },
    Unit { end: "_pct", base: "_ratio", times: 1.0, by: 100.0, words: "as a ratio" },
    Unit { end: "_ms", base: "_seconds", times: 1.0, by: 1000.0, words: "in seconds" },
    Unit { end: "_s", base: "_seconds", times: 1.0, by: 1.0, words: "in seconds" },
];
const NO_UNIT: Unit = Unit { end: "", base: "", times: 1.0, by: 1.0, words: "as in the row" };

impl Unit {
    fn of(field: &str) -> &'static Self {
        UNITS.iter().find(|unit| field.ends_with(unit.end)).unwrap_or(&NO_UNIT)
    }

    fn name(&self, field: &str) -> String {
        format!("qosd_{}{}", field.strip_suffix(self.end).unwrap_or(field), self.base)
    }
}

/// The metrics of these series.
pub(super) fn families(all: &[SeriesStatus]) -> impl Iterator<Item = Family> {
    let gauge = |name: &str, help: &str| Family { name: name.to_owned(), kind: Kind::Gauge, help: help.to_owned(), samples: Vec::new() };
    let mut codes = gauge(RESULT_CODE, "How the last run of the series ended: 0 is ok, docs/measurements.md has the others.");
    let mut ages = gauge(ROW_AGE, "The age of the last row of the series.");
    let mut values: BTreeMap<&str, (&Unit, Family)> = BTreeMap::new();
    for series in all {
        let labels = labels(series);
        // A target does not get well because a slot was skipped.
        let result = series.last_run.as_ref().map(|run| &run.result).or(series.result.as_ref());
        let outcome = result.and_then(|result| Outcome::ALL.into_iter().find(|outcome| outcome.name() == *result));
        codes.samples.extend(outcome.map(|outcome| (labels.clone(), outcome.code() as f64)));
        ages.samples.extend(series.age_s.map(|age| (labels.clone(), age)));
        let floats = series.figures.iter().filter_map(|(field, figure)| Some((field, figure.float()?)));
        for (field, figure) in floats {
            let (unit, family) = values.entry(field).or_insert_with(|| {
                let unit = Unit::of(field);
                (unit, gauge(&unit.name(field), &format!("The field {field} of the last row of the series, {}.", unit.words)))
            });
            family.samples.push((labels.clone(), figure * unit.times / unit.by));
        }
    }
    [codes, ages].into_iter().chain(values.into_values().map(|(_, family)| family))
}

/// The tags of a series. Those that its target has of its own come from the config, so there are no more of them than are
/// written there; before their names stands `tag_`, as Prometheus has names of its own.
fn labels(series: &SeriesStatus) -> Labels {
    let name = |key: &str| match key {
        "target" | "source" | "probe" | "kind" | "family" => key.to_owned(),
        own => format!("tag_{}", own.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_")),
    };
    series.tags.iter().map(|(key, value)| (name(key), value.clone())).collect()
}

/// Every metric of a series that there can be.
pub(super) fn names() -> impl Iterator<Item = Documented> {
    let fields = COMMON_FIELDS.iter().chain(KINDS.iter().flat_map(|kind| kind.fields()));
    let floats = fields.filter(|field| field.kind == FieldType::Float).map(|field| Unit::of(field.name).name(field.name));
    [RESULT_CODE, ROW_AGE].into_iter().map(str::to_owned).chain(floats).map(|name| document(&name, Kind::Gauge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::board::RunStatus;
    use crate::status::known::Figure;

    fn series(target: &str, result: Option<&str>, figures: &[(&str, f64)]) -> SeriesStatus {
        SeriesStatus {
            tags: [("target", target), ("kind", "ping"), ("rack_2", "b"), ("instance", "x")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            time: None,
            age_s: result.map(|_| 1.5),
            result: result.map(str::to_owned),
            last_run: None,
            error: None,
            figures: figures.iter().map(|(name, figure)| ((*name).to_owned(), Figure::Float(*figure))).collect(),
        }
    }

    #[test]
    fn fields_become_metrics_in_base_units() {
        let table = [
            ("ping_avg_ms", "qosd_ping_avg_seconds", 12.3, 0.0123),
            ("ping_packet_loss_pct", "qosd_ping_packet_loss_ratio", 12.5, 0.125),
            ("iperf_bandwidth_mbps", "qosd_iperf_bandwidth_bytes_per_second", 8.0, 1_000_000.0),
            ("http_tls_days_left", "qosd_http_tls_left_seconds", 2.0, 172_800.0),
            ("of_its_own", "qosd_of_its_own", 3.0, 3.0),
        ];
        for (field, metric, figure, value) in table {
            let all = families(&[series("a", None, &[(field, figure)])]).collect::<Vec<_>>();
            let family = all.iter().find(|family| family.name == metric).unwrap_or_else(|| panic!("{field}: {all:?}"));
            assert!((family.samples[0].1 - value).abs() < f64::EPSILON, "{field}: {}", family.samples[0].1);
        }
    }

    #[test]
    fn whole_numbers_of_a_run_are_no_metrics() {
        let mut one = series("a", None, &[("ping_avg_ms", 1.0)]);
        one.figures.push(("ping_sent".to_owned(), Figure::Integer(5)));
        let names: Vec<_> = families(&[one]).filter(|family| !family.samples.is_empty()).map(|family| family.name).collect();
        assert_eq!(names, ["qosd_ping_avg_seconds"]);
    }

    #[test]
    fn a_series_without_a_row_has_no_value_at_all() {
        let all: Vec<_> = families(&[series("a", None, &[]), series("b", Some("timeout"), &[])]).collect();
        let values: Vec<_> = all.iter().map(|family| (family.name.as_str(), family.samples.len(), family.samples[0].1)).collect();
        assert_eq!(values, [(RESULT_CODE, 1, 2.0), (ROW_AGE, 1, 1.5)]);
    }

    #[test]
    fn a_slot_that_was_skipped_does_not_hide_how_the_last_run_ended() {
        let last_run = Some(RunStatus { time: String::new(), result: "timeout".to_owned() });
        let all: Vec<_> = families(&[SeriesStatus { last_run, ..series("a", Some("skipped"), &[]) }]).collect();
        assert_eq!((all[0].name.as_str(), all[0].samples[0].1), (RESULT_CODE, 2.0));
    }

    #[test]
    fn own_tags_of_a_target_cannot_be_taken_for_labels_of_prometheus() {
        let all: Vec<_> = families(&[series("a", Some("ok"), &[])]).collect();
        let names: Vec<_> = all[0].samples[0].0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["tag_instance", "kind", "tag_rack_2", "target"]);
    }
}
