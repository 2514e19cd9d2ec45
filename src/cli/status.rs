//! `qosd status`: asks the running service over its state socket.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use actix_rt::System;
use anyhow::Context;
use comfy_table::{Table, presets};
use serde::Deserialize;

use super::OK;
use crate::config::Env;
use crate::mesh::agent::standing::AgentStatus;
use crate::status::server::STATUS_PATH;
use crate::status::{ConfigStatus, SeriesStatus, age};

/// How long the service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many figures of a series are shown: the first of its row.
const FIGURES: usize = 5;

/// The parts of the report that people look at.
#[derive(Deserialize)]
struct Report {
    version: String,
    agent: String,
    pid: u32,
    uptime_s: u64,
    config: ConfigStatus,
    actors: Vec<Actor>,
    slots: Slots,
    journal: Journal,
    outputs: Vec<Output>,
    mesh: Option<AgentStatus>,
    series: Vec<SeriesStatus>,
}

#[derive(Deserialize)]
struct Actor {
    name: String,
    state: String,
    restarts: u64,
    last_exit: Option<String>,
}

#[derive(Deserialize)]
struct Slots {
    scheduled: u64,
    rows: u64,
    skipped: u64,
}

#[derive(Deserialize)]
struct Journal {
    rows: u64,
    bytes: u64,
    waiting: u64,
    failing: Option<String>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    delivered: u64,
    pending: u64,
    held: u64,
    last_error: Option<String>,
    stopped: bool,
    last_refusal: Option<String>,
}

/// Asks and shows; the result is the exit status.
pub(super) fn run(config: &Path, env: &Env, json: bool) -> anyhow::Result<u8> {
    let socket = super::load(config, env)?.socket_path();
    let text = System::new().block_on(ask(&socket)).with_context(|| format!("no qosd answers on {}", socket.display()))?;
    let shown = if json { text } else { show(&serde_json::from_str(&text).context("the service speaks another version of qosd")?) };
    match writeln!(std::io::stdout().lock(), "{shown}") {
        // Whoever closed the pipe wanted no more.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(OK),
    }
}

async fn ask(socket: &Path) -> anyhow::Result<String> {
    crate::tls::install_provider();
    let client = reqwest::Client::builder().unix_socket(socket).timeout(TIMEOUT).no_proxy().build()?;
    Ok(client.get(format!("http://qosd{STATUS_PATH}")).send().await?.error_for_status()?.text().await?)
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
        lines.push(format!("actor {}: {}, {} restarts{last}", actor.name, actor.state, actor.restarts));
    }
    let Slots { scheduled, rows, skipped } = report.slots;
    lines.push(format!("slots: {scheduled} scheduled, {rows} rows, {skipped} of them skipped"));
    let journal = &report.journal;
    let failing = journal.failing.as_ref().map(|why| format!(", failing: {why}")).unwrap_or_default();
    lines.push(format!("journal: {} rows, {} bytes, {} rows not durable yet{failing}", journal.rows, journal.bytes, journal.waiting));
    for output in &report.outputs {
        let error = output.last_error.as_ref().map(|why| format!(", failing: {why}")).unwrap_or_default();
        let refusal = output.last_refusal.as_ref().map(|why| format!(", refused: {why}")).unwrap_or_default();
        let error = format!("{}{refusal}{error}", if output.stopped { ", stopped by too many held rows" } else { "" });
        lines.push(format!(
            "output {}: {} delivered, {} pending, {} held{error}",
            output.name, output.delivered, output.pending, output.held
        ));
    }
    lines.extend(report.mesh.iter().flat_map(mesh));
    lines.push(String::new());
    lines.push(series(&report.series));
    lines.join("\n")
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
    for one in all {
        let tag = |key: &str| one.tags.get(key).cloned().unwrap_or_default();
        let age = one.age_s.map_or_else(|| "–".to_owned(), |seconds| age(Duration::from_secs_f64(seconds)));
        let mut cells =
            vec![tag("kind"), tag("probe"), tag("target"), tag("family"), one.result.clone().unwrap_or_else(|| "–".to_owned()), age];
        cells.push(one.figures.iter().take(FIGURES).map(|(name, value)| format!("{name}={value:.3}")).collect::<Vec<_>>().join(" "));
        cells.push(one.error.clone().unwrap_or_default());
        table.add_row(cells);
    }
    table.to_string()
}
