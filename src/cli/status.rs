//! `qosd status`: asks the running service over its state socket.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_rt::System;
use anyhow::Context;
use clap::Args;
use comfy_table::{Table, presets};
use reqwest::{Method, Response};

use super::OK;
use crate::config::{self, DEFAULT_PATH, Env};
use crate::history::HistoryStatus;
use crate::mesh::agent::standing::AgentStatus;
use crate::mesh::collector::status::CollectorStatus;
use crate::status::report::{Journal, Report, Slots};
use crate::status::server::STATUS_PATH;
use crate::status::{SeriesStatus, age};

/// How long the service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Where the service's socket is when systemd started it.
const SOCKET_OF_THE_UNIT: &str = "/run/qosd/qosd.sock";
/// How many figures of a series are shown: the first floats of its row.
const FIGURES: usize = 5;

/// How many sources of a collector are shown.
const SOURCES: usize = 20;

/// What `qosd status` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// The service's socket, instead of the one that the config tells
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
}

/// Asks and shows; the result is the exit status.
pub(super) fn run(config: &Path, env: &Env, arguments: &Arguments) -> anyhow::Result<u8> {
    let socket = match &arguments.socket {
        Some(socket) => socket.clone(),
        None => find(config, env)?,
    };
    let json = arguments.json;
    let text = System::new().block_on(ask(&socket)).with_context(|| format!("no qosd answers on {}", socket.display()))?;
    let shown = if json { text } else { show(&serde_json::from_str(&text).context("the service speaks another version of qosd")?) };
    match writeln!(std::io::stdout().lock(), "{shown}") {
        // Whoever closed the pipe wanted no more.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(OK),
    }
}

/// The socket of the service with this config. Under systemd the unit decides where it is, which nobody else sees.
pub(super) fn find(config: &Path, env: &Env) -> anyhow::Result<PathBuf> {
    let unit_s = (config == Path::new(DEFAULT_PATH)).then(|| PathBuf::from(SOCKET_OF_THE_UNIT)).filter(|socket| socket.exists());
    match (config::whereabouts(config, env), unit_s) {
        (Ok(there), None) => Ok(there.socket),
        (Ok(there), Some(_)) if there.socket.exists() => Ok(there.socket),
        (_, Some(socket)) => Ok(socket),
        (Err(problems), None) => Err(anyhow::anyhow!("{problems}")),
    }
}

async fn ask(socket: &Path) -> anyhow::Result<String> {
    Ok(request(socket, Method::GET, STATUS_PATH).await?.error_for_status()?.text().await?)
}

/// A request to the service, by its state socket.
pub(super) async fn request(socket: &Path, method: Method, path: &str) -> reqwest::Result<Response> {
    crate::tls::install_provider();
    let client = reqwest::Client::builder().unix_socket(socket).timeout(TIMEOUT).no_proxy().build()?;
    client.request(method, format!("http://qosd{path}")).send().await
}

fn show(report: &Report) -> String {
    let mut lines = vec![format!(
        "qosd {} · agent {} · pid {} · up {}",
        report.version,
        report.agent,
        report.pid,
        age(Duration::from_secs(report.uptime_s))
    )];
    lines.push(format!("config {} of {}", report.config.file, report.config.loaded));
    lines.extend(report.config.problem.iter().map(|problem| format!("reload refused: {problem}")));
    for actor in &report.actors {
        let last = actor.last_exit.as_ref().map(|exit| format!(", last ended: {exit}")).unwrap_or_default();
        let why = if actor.state == "idle" { " (nothing configured)" } else { "" };
        lines.push(format!("actor {}: {}{why}, {} restarts{last}", actor.name, actor.state, actor.restarts));
    }
    for listener in &report.listeners {
        let state = listener.error.as_ref().map_or_else(|| "listens".to_owned(), |why| format!("cannot listen, it is tried again: {why}"));
        lines.push(format!("{} at {}: {state}", listener.actor, listener.listen));
    }
    let Slots { scheduled, rows, skipped } = report.slots;
    lines.push(format!("slots: {scheduled} scheduled, {rows} rows, {skipped} of them skipped"));
    let journal = &report.journal;
    let failing = journal.failing.as_ref().map(|why| format!(", failing: {why}")).unwrap_or_default();
    lines.push(format!(
        "journal: {} rows, {} bytes, {} rows not durable yet{}{failing}",
        journal.rows,
        journal.bytes,
        journal.waiting,
        lost(journal)
    ));
    lines.push(history(&report.history));
    for output in &report.outputs {
        let error = output.last_error.as_ref().map(|why| format!(", failing: {why}")).unwrap_or_default();
        let dead = match output.requeued {
            0 => format!("{} dead", output.dead),
            requeued => format!("{} dead, {requeued} of them requeued", output.dead),
        };
        let refusal = output.last_refusal.as_ref().map(|why| format!(", last refused: {why}")).unwrap_or_default();
        let fields = match output.refused_fields {
            0 => String::new(),
            count => format!(", {count} fields left out as refused ({})", output.refused_field_names.join(", ")),
        };
        lines.push(format!(
            "output {}: {} delivered, {} pending, {dead}{fields}{refusal}{error}",
            output.name, output.delivered, output.pending
        ));
    }
    lines.extend(report.collector.iter().flat_map(collector));
    lines.extend(report.mesh.iter().flat_map(mesh));
    lines.push(String::new());
    lines.push(series(&report.series));
    lines.join("\n")
}

fn history(status: &HistoryStatus) -> String {
    let failing = status.failing.as_ref().map(|why| format!(", failing: {why}")).unwrap_or_default();
    let short = status.short.as_ref().map(|why| format!("; the newest alone is kept: {why}")).unwrap_or_default();
    let added = status.added.as_ref().map(|time| format!("; last added to at {time}")).unwrap_or_default();
    format!(
        "history: {} buckets of {} series, {} bytes, {} rows behind the journal: {}{added}{failing}{short}",
        status.buckets,
        status.series,
        status.bytes,
        status.behind,
        status.lag()
    )
}

/// The rows that were ever lost, by reason.
fn lost(journal: &Journal) -> String {
    journal.lost().iter().flat_map(|(rows, why)| [", ".into(), rows.to_string(), format!(" lost {why}")]).collect()
}

fn collector(status: &CollectorStatus) -> Vec<String> {
    let counts = &status.counts;
    let mut lines = vec![format!(
        "collector: {} probes, every {}, {} of {} results absent; since the start {} posts, {} results, {} known already, {} rejected, {} posts not stored",
        status.probes,
        humantime::format_duration(Duration::from_secs_f64(status.interval_s)),
        status.absent_now,
        status.expected,
        counts.posts,
        counts.stored,
        counts.duplicates,
        counts.rejected,
        counts.not_durable
    )];
    for source in status.sources.iter().take(SOURCES) {
        let last = source.age_s.map_or_else(
            || "no post yet".to_owned(),
            |seconds| format!("last post {} ago, {} results", age(Duration::from_secs_f64(seconds)), source.results),
        );
        lines.push(format!("  {}: {last}, {} absent", source.name, source.absent));
    }
    let more = status.sources.len().saturating_sub(SOURCES);
    lines.extend((more > 0).then(|| format!("  … and {more} more")));
    lines
}

fn mesh(agent: &AgentStatus) -> Vec<String> {
    let AgentStatus { collector, name, peers, count, interval, spacing, .. } = agent;
    let list = agent.age_s.map_or_else(
        || "no list yet".to_owned(),
        |old| {
            let stale = if agent.stale { ", stale" } else { "" };
            let listed = if agent.listed == Some(false) { ", which this agent is not in" } else { "" };
            format!("list of {} ago{stale}{listed}: {peers} peers", age(Duration::from_secs_f64(old)))
        },
    );
    let asked = agent.asked.as_ref().map(|asked| format!(" (asked for: {asked}; kept within max_rate)")).unwrap_or_default();
    let mut lines = vec![format!("mesh: {name} at {collector}; {list}; {count} packets every {interval}, {spacing} apart{asked}")];
    lines.extend(agent.error.iter().map(|why| format!("mesh: failing: {why}")));
    if agent.refused > 0 {
        lines.push(format!("mesh: {} entries of the list are not measured, such as {}", agent.refused, agent.refusals.join("; ")));
    }
    let why = agent.lost_why.as_deref().unwrap_or_default();
    lines.extend((agent.lost > 0).then(|| format!("mesh: the collector did not take {} results: {why}", agent.lost)));
    lines
}

fn series(all: &[SeriesStatus]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["kind", "probe", "target", "family", "result", "age", "figures", "error"]);
    let tag = |one: &SeriesStatus, key: &str| one.tags.get(key).cloned().unwrap_or_default();
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by_cached_key(|one| ["kind", "probe", "target", "family"].map(|key| tag(one, key)));
    for one in sorted {
        let tag = |key| tag(one, key);
        let age = one.age_s.map_or_else(|| "–".to_owned(), |seconds| age(Duration::from_secs_f64(seconds)));
        let mut cells =
            vec![tag("kind"), tag("probe"), tag("target"), tag("family"), one.result.clone().unwrap_or_else(|| "–".to_owned()), age];
        let floats = one.figures.iter().filter_map(|(name, figure)| Some((name, figure.float()?)));
        cells.push(floats.take(FIGURES).map(|(name, value)| format!("{name}={value:.3}")).collect::<Vec<_>>().join(" "));
        cells.push(one.error.clone().unwrap_or_default());
        table.add_row(cells);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::collector::status::{Counts, SourceStatus};

    #[test]
    fn what_it_means_that_the_history_is_behind_is_said() {
        let status = HistoryStatus { behind: 5, added: Some("2026-01-31T12:00:00Z".into()), ..HistoryStatus::default() };
        let line = history(&status);
        assert!(line.contains("5 rows behind the journal: added together, within 15 minutes"), "{line}");
        assert!(line.ends_with("; last added to at 2026-01-31T12:00:00Z"), "{line}");
        let line = history(&HistoryStatus { short: Some("it is too small".into()), ..status });
        assert!(line.contains("added together") && line.ends_with("; the newest alone is kept: it is too small"), "{line}");
    }

    #[test]
    fn of_many_sources_those_that_a_person_has_to_look_at_are_shown() {
        let source =
            |n: usize| SourceStatus { name: format!("p{n}"), protos: Vec::new(), age_s: (n > 0).then_some(61.5), results: 999, absent: 0 };
        let status = CollectorStatus {
            probes: 1000,
            interval_s: 300.0,
            expected: 999_000,
            absent_now: 0,
            counts: Counts { posts: 7, ..Counts::default() },
            sources: (0..1000).map(source).collect(),
        };
        let lines = collector(&status);
        assert_eq!(lines.len(), 22);
        assert!(
            lines[0].starts_with("collector: 1000 probes, every 5m, 0 of 999000 results absent; since the start 7 posts, "),
            "{}",
            lines[0]
        );
        assert_eq!(lines[1..3], ["  p0: no post yet, 0 absent", "  p1: last post 1m 1s ago, 999 results, 0 absent"]);
        assert_eq!(lines[21], "  … and 980 more");
    }
}
