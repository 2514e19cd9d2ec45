//! A question in `InfluxQL`, as Grafana takes it: with `$timeFilter`, `$__interval` and the variables of the dashboard.

use super::ask::{Ask, Over};
use super::panel::Variable;

/// The query.
pub(crate) fn query(ask: &Ask) -> String {
    let field = format!("\"{}\"", ask.field);
    let (value, step, fill) = match ask.over {
        Over::Steps(aggregate) => (format!("{}({field})", aggregate.word()), true, " fill(null)"),
        // A step without a row says nothing about a counter.
        Over::Growth => (format!("non_negative_difference(last({field}))"), true, " fill(none)"),
        Over::Whole(aggregate) => (format!("{}({field})", aggregate.word()), false, ""),
    };
    let chosen = ask.chosen.iter().map(|(tag, variable)| matches(tag, variable));
    let only = ask.only.map(|value| format!("{field} = {value}"));
    let filters: Vec<_> = chosen.chain(only).chain(["$timeFilter".to_owned()]).collect();
    let step = step.then(|| "time($__interval)".to_owned());
    let groups: Vec<_> = step.into_iter().chain(ask.by.iter().map(|tag| format!("\"{tag}\""))).collect();
    let groups = if groups.is_empty() { String::new() } else { format!(" GROUP BY {}", groups.join(", ")) };
    format!("SELECT {value} AS \"{}\" FROM \"{}\" WHERE {}{groups}{fill}", ask.shown, ask.measurement, filters.join(" AND "))
}

/// How its lines are called.
pub(crate) fn alias(ask: &Ask, figures: usize) -> String {
    ask.legend(figures, |tag| format!("$tag_{tag}"), ask.shown)
}

/// The values of a tag, among what was chosen before.
pub(crate) fn values(variable: &Variable) -> String {
    let only = variable.only.map(|(tag, value)| format!("(\"{tag}\" = '{value}' OR \"{tag}\" = '')"));
    let chosen = variable.chosen.iter().map(|(tag, variable)| matches(tag, variable));
    let filters: Vec<_> = only.into_iter().chain(chosen).collect();
    let filters = if filters.is_empty() { String::new() } else { format!(" WHERE {}", filters.join(" AND ")) };
    let measurements: Vec<_> = variable.measurements.iter().map(|name| format!("\"{name}\"")).collect();
    format!("SHOW TAG VALUES FROM {} WITH KEY = \"{}\"{filters}", measurements.join(", "), variable.tag)
}

fn matches(tag: &str, variable: &str) -> String {
    format!("\"{tag}\" =~ /^${variable}$/")
}
