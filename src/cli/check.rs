//! `qosd check`: all that is wrong with a config, or what it will cost.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use crate::config::{self, Config, Env};
use crate::mesh::collector;
use crate::probe::AnyKind;
use crate::settings::units;
use crate::vitals;

/// Exit status for a good config.
pub const GOOD: u8 = 0;
/// Exit status when the answer could not be written.
pub const FAILED: u8 = 1;
/// Exit status for a bad config (`EX_CONFIG`).
pub const BAD_CONFIG: u8 = 78;

/// Bytes that a row takes in the journal.
const ROW_BYTES: f64 = 224.0;
const DAY: Duration = Duration::from_hours(24);

/// Checks a config and writes what there is to say; the result is the exit status.
pub fn check(path: &Path, kinds: &[&dyn AnyKind], env: &Env, show: bool, out: &mut dyn Write) -> u8 {
    let (text, status) = match config::load(path, kinds, env) {
        Ok(config) => (report(path, &config, kinds.len(), show), GOOD),
        Err(problems) => (format!("{problems}\n"), BAD_CONFIG),
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever closed the pipe wanted no more.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => FAILED,
        _ => status,
    }
}

/// The summary; with `show` after the effective config, as comments, so that the whole is a config again.
fn report(path: &Path, config: &Config, kinds: usize, show: bool) -> String {
    let lines = summary(path, config, kinds);
    if show { format!("{}\n# {}\n", config.effective, lines.join("\n# ")) } else { format!("{}\n", lines.join("\n")) }
}

fn summary(path: &Path, config: &Config, kinds: usize) -> Vec<String> {
    let mut lines = vec![format!("{}: ok, agent {}", path.display(), config.agent.name)];
    let series = config.assignments.len();
    if series == 0 && config.mesh.is_none() && config.collector.is_none() {
        lines.push("no probes: nothing will be measured".to_owned());
    } else {
        let outputs = match config.influxdb.len() + usize::from(config.mesh.is_some()) {
            0 => "no output: rows stay in the journal".to_owned(),
            n => format!("{n} {}", plural("output", n)),
        };
        lines.push(format!("{} {}, {series} series; {outputs}", config.probes, plural("probe", config.probes)));
        lines.push(costs(config, kinds));
    }
    if let Some(mesh) = &config.mesh {
        lines.push(format!("the mesh comes on top: what the collector's list asks for, but never more than {} packets/s", mesh.max_rate.0));
    }
    lines.extend(config.collector.as_ref().map(expected));
    lines
}

/// What comes to a collector if no agent is silent.
fn expected(collector: &collector::Settings) -> String {
    let names: BTreeSet<_> = collector.probes.probes.iter().map(|peer| &peer.name).collect();
    let results = collector.probes.probes.len() * names.len().saturating_sub(1);
    let interval = collector.schedule.unwrap_or_default().ping.interval;
    let a_day = results as f64 * DAY.as_secs_f64() / interval.as_secs_f64();
    format!(
        "collector at {}: {} {}, {results} results every {}, {a_day:.0} rows/day on top",
        collector.listen,
        names.len(),
        plural("probe", names.len()),
        units::show_duration(&interval),
    )
}

/// A word for so many.
pub(super) fn plural(word: &str, n: usize) -> String {
    if n == 1 { word.to_owned() } else { format!("{word}s") }
}

fn costs(config: &Config, kinds: usize) -> String {
    // A sum of nothing is negative zero, which would be shown so.
    let total = |of: fn(&crate::probe::Assignment) -> f64| 0.0 + config.assignments.iter().map(|assignment| of(assignment)).sum::<f64>();
    let packets = total(|assignment| assignment.cost.packets_per_second);
    let bytes = total(|assignment| assignment.cost.bytes_per_day);
    let measured = total(|assignment| DAY.as_secs_f64() / assignment.schedule.interval().as_secs_f64());
    // qosd's own: one for itself, one for each actor (the writer and the kinds) and each output.
    let own = (2 + kinds + config.influxdb.len() + usize::from(config.mesh.is_some())) as f64 * DAY.as_secs_f64()
        / vitals::INTERVAL.as_secs_f64();
    let rows = measured + own;
    let days = config.journal.max_size as f64 / (rows * ROW_BYTES);
    format!(
        "{packets:.2} packets/s, {} a day on the network, {measured:.0} rows/day and {own:.0} of qosd's own; the journal ({}) holds {days:.1} days, delivered rows for at most {}",
        traffic(bytes),
        units::show_bytes(&config.journal.max_size),
        units::show_duration(&config.journal.max_age),
    )
}

/// Bytes, rounded for people, in powers of 1000 as traffic is counted.
fn traffic(bytes: f64) -> String {
    let units = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let unit = units.iter().find(|(_, size)| bytes >= *size);
    unit.map_or_else(|| format!("{bytes:.0} bytes"), |(unit, size)| format!("{:.1} {unit}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_rounded_for_people() {
        assert_eq!([traffic(0.0), traffic(999.0), traffic(84_000.0), traffic(7.26e9)], ["0 bytes", "999 bytes", "84.0 kB", "7.3 GB"]);
    }
}
