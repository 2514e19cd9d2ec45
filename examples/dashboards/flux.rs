//! A question in Flux, as Grafana takes it: with what it puts in for `v`, and the variables of the dashboard.

use super::ask::{Ask, Over};
use super::panel::Variable;

/// The query.
pub(crate) fn query(ask: &Ask) -> String {
    let mut conditions = vec![format!("r._measurement == \"{}\"", ask.measurement), format!("r._field == \"{}\"", ask.field)];
    conditions.extend(ask.chosen.iter().map(|(tag, variable)| matches(tag, variable)));
    conditions.extend(ask.only.map(|value| format!("r._value == {value}")));
    let by: Vec<_> = ask.by.iter().map(|tag| format!("\"{tag}\"")).collect();
    let mut steps = vec![
        "from(bucket: v.defaultBucket)".to_owned(),
        "range(start: v.timeRangeStart, stop: v.timeRangeStop)".to_owned(),
        format!("filter(fn: (r) => {})", conditions.join(" and ")),
        format!("group(columns: [{}])", by.join(", ")),
    ];
    steps.extend(match ask.over {
        Over::Steps(aggregate) => vec![windows(aggregate.word(), true)],
        Over::Growth => vec![windows("last", false), "difference(nonNegative: true)".to_owned()],
        // What lies in one group comes from several series, each in its own order.
        Over::Whole(aggregate) => vec!["sort(columns: [\"_time\"])".to_owned(), format!("{}()", aggregate.word()), "group()".to_owned()],
    });
    // Grafana takes it for a line only with these names, and its name from `_field`.
    let table = matches!(ask.over, Over::Whole(_));
    let kept: Vec<_> = (!table).then(|| "\"_time\"".to_owned()).into_iter().chain(["\"_value\"".to_owned()]).chain(by).collect();
    steps.push(format!("keep(columns: [{}])", kept.join(", ")));
    let shown = ask.shown;
    steps.push(if table {
        format!("rename(columns: {{_value: \"{shown}\"}})")
    } else {
        format!("set(key: \"_field\", value: \"{shown}\")")
    });
    steps.join("\n  |> ")
}

fn windows(aggregate: &str, empty: bool) -> String {
    format!("aggregateWindow(every: v.windowPeriod, fn: {aggregate}, createEmpty: {empty})")
}

fn matches(tag: &str, variable: &str) -> String {
    format!("r.{tag} =~ /^${{{variable}:regex}}$/")
}

/// How lines are called: the same for all of a panel, which have the same tags.
pub(crate) fn display_name(ask: &Ask, figures: usize) -> String {
    ask.legend(figures, |tag| format!("${{__field.labels.{tag}}}"), "${__field.name}")
}

/// The values of a tag, among what was chosen before, in the time that is looked at.
pub(crate) fn values(variable: &Variable) -> String {
    let measurements: Vec<_> = variable.measurements.iter().map(|name| format!("r._measurement == \"{name}\"")).collect();
    let mut conditions = vec![format!("({})", measurements.join(" or "))];
    conditions.extend(variable.only.map(|(tag, value)| format!("(r.{tag} == \"{value}\" or not exists r.{tag})")));
    conditions.extend(variable.chosen.iter().map(|(tag, variable)| matches(tag, variable)));
    let (tag, predicate) = (variable.tag, conditions.join(" and "));
    let span = "start: v.timeRangeStart, stop: v.timeRangeStop";
    format!(
        "import \"influxdata/influxdb/schema\"\n\nschema.tagValues(bucket: v.defaultBucket, tag: \"{tag}\", predicate: (r) => {predicate}, {span})"
    )
}
