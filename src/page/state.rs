//! The status: actors, queues, outputs, journal, versions.

use askama::Template;

use super::notices::{Notice, notices};
use super::shown::{Shown, shown};
use super::{Answer, Asked, Sight, refusal, words};
use crate::clock::Timestamp;
use crate::history::HistoryStatus;
use crate::listeners::Listener;
use crate::mesh::agent::standing::AgentStatus;
use crate::mesh::collector::status::CollectorStatus;
use crate::status::report::{self, Report};

#[cfg(test)]
mod tests;

/// How many sources of a collector are shown.
const SOURCES: usize = 20;

#[derive(Template)]
#[template(path = "state.html")]
struct Page {
    agent: Shown,
    now: String,
    notices: Vec<Notice>,
    service: Facts,
    actors: Vec<Actor>,
    listeners: Facts,
    slots: Facts,
    journal: Facts,
    outputs: Vec<Output>,
    history: Facts,
    mesh: Facts,
    collector: Facts,
    sources: Vec<[Shown; 4]>,
}

/// What there is to know, each with its name.
type Facts = Vec<(Shown, Shown)>;

struct Actor {
    name: Shown,
    /// For style.
    class: &'static str,
    state: Shown,
    restarts: String,
    last_exit: Shown,
}

struct Output {
    name: Shown,
    class: &'static str,
    state: &'static str,
    delivered: String,
    pending: String,
    dead: String,
    refused: Shown,
    retries: String,
    trouble: Shown,
}

/// The page.
pub fn page(sight: &Sight, _asked: &Asked) -> Answer {
    match serde_json::from_value::<Report>((sight.report)()) {
        Ok(report) => refusal::rendered(Page::new(&report, sight.clock.now().unix).render()),
        Err(error) => refusal::page(500, "No status", &format!("the status cannot be read: {error}")),
    }
}

impl Page {
    fn new(report: &Report, now: Timestamp) -> Self {
        Self {
            agent: shown(&report.agent),
            now: words::time(now),
            notices: notices(report),
            service: service(report),
            actors: report.actors.iter().map(Actor::of).collect(),
            listeners: report.listeners.iter().map(listener).collect(),
            slots: slots(report),
            journal: journal(&report.journal),
            outputs: report.outputs.iter().map(Output::of).collect(),
            history: history(&report.history),
            mesh: report.mesh.as_ref().map(mesh).unwrap_or_default(),
            collector: report.collector.as_ref().map(collector).unwrap_or_default(),
            sources: report.collector.as_ref().map(sources).unwrap_or_default(),
        }
    }
}

fn fact(name: &str, value: impl AsRef<str>) -> (Shown, Shown) {
    (shown(name), shown(value.as_ref()))
}

fn service(report: &Report) -> Facts {
    let mut facts = vec![
        fact("qosd", &report.version),
        fact("agent", &report.agent),
        fact("process", report.pid.to_string()),
        fact("up for", words::seconds(report.uptime_s as f64)),
    ];
    facts.extend(report.started.iter().map(|time| fact("started", to_the_second(time))));
    facts.push(fact("config", &report.config.file));
    facts.push(fact("read", to_the_second(&report.config.loaded)));
    facts.extend(report.config.problem.iter().map(|why| fact("last reload refused", why)));
    facts
}

/// `2026-01-31T12:00:00.000000000Z` without its fraction.
fn to_the_second(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(whole, _)| format!("{whole}Z"))
}

impl Actor {
    fn of(actor: &report::Actor) -> Self {
        let class = match &*actor.state {
            "running" => "ok",
            "idle" => "idle",
            "degraded" | "starting" => "degraded",
            _ => "failing",
        };
        Self {
            name: shown(&actor.name),
            class,
            state: shown(&actor.state),
            restarts: words::count(actor.restarts),
            last_exit: shown(actor.last_exit.as_deref().unwrap_or_default()),
        }
    }
}

fn listener(listener: &Listener) -> (Shown, Shown) {
    let state = listener.error.as_ref().map_or_else(|| "listens".to_owned(), |why| format!("cannot listen, it is tried again: {why}"));
    fact(&format!("{} at {}", listener.actor, listener.listen), state)
}

fn slots(report: &Report) -> Facts {
    let slots = &report.slots;
    vec![
        fact("came due since the start", words::count(slots.scheduled)),
        fact("have their row", words::count(slots.rows)),
        fact("were skipped", words::count(slots.skipped)),
        fact("rows lost because no writer took them", words::count(report.queue_dropped)),
        fact("blocked threads left behind", words::count(report.abandoned_threads)),
    ]
}

fn journal(journal: &report::Journal) -> Facts {
    let mut facts = vec![
        fact("rows", words::count(journal.rows)),
        fact("size", words::bytes(journal.bytes)),
        fact("not durable yet", words::count(journal.waiting)),
    ];
    facts.extend(journal.oldest.iter().map(|time| fact("oldest row", to_the_second(time))));
    facts.extend(journal.lost().into_iter().map(|(rows, why)| fact(&format!("rows lost {why}"), words::count(rows))));
    facts.extend((journal.damaged > 0).then(|| fact("rows set aside as damaged", words::count(journal.damaged))));
    facts.extend(journal.failing.iter().map(|why| fact("failing", why)));
    facts
}

impl Output {
    fn of(output: &report::Output) -> Self {
        let since = output.since.as_ref().map(|since| format!(" since {}", to_the_second(since))).unwrap_or_default();
        let until = output.backing_off_until.as_ref().map(|until| format!(", tried again at {}", to_the_second(until))).unwrap_or_default();
        let trouble = output.last_error.as_ref().map(|why| format!("{why}{since}{until}"));
        let refusal = output.last_refusal.as_ref().map(|why| format!("last refused a row: {why}"));
        let refused = match output.refused_fields {
            0 => "0".to_owned(),
            fields => format!("{} ({})", words::count(fields), output.refused_field_names.join(", ")),
        };
        let dead = match output.requeued {
            0 => words::count(output.dead),
            requeued => format!("{}, {} of them requeued", words::count(output.dead), words::count(requeued)),
        };
        let failing = output.last_error.is_some();
        Self {
            name: shown(&output.name),
            class: if failing { "failing" } else { "ok" },
            state: if failing { "failing" } else { "ok" },
            delivered: words::count(output.delivered),
            pending: words::count(output.pending),
            dead,
            refused: shown(&refused),
            retries: words::count(output.retries),
            trouble: shown(&trouble.or(refusal).unwrap_or_default()),
        }
    }
}

fn history(history: &HistoryStatus) -> Facts {
    let mut facts = vec![
        fact("series", words::count(history.series)),
        fact("buckets of 5 minutes", words::count(history.buckets)),
        fact("size", words::bytes(history.bytes)),
        fact("rows behind the journal", format!("{}: {}", words::count(history.behind), history.lag())),
    ];
    facts.extend(history.added.iter().map(|time| fact("last added to", to_the_second(time))));
    facts.extend(history.failing.iter().map(|why| fact("failing", why)));
    facts.extend(history.short.iter().map(|why| fact("the newest alone is kept", why)));
    facts
}

fn mesh(agent: &AgentStatus) -> Facts {
    let mut facts = vec![
        fact("collector", &agent.collector),
        fact("this agent's name", &agent.name),
        fact("peers", words::count(agent.peers as u64)),
        fact("rhythm", format!("{} packets every {}, {} apart", agent.count, agent.interval, agent.spacing)),
    ];
    let list = agent.age_s.map_or_else(|| "none yet".to_owned(), |age| format!("{} old", words::seconds(age)));
    let stale = if agent.stale { ", stale" } else { "" };
    let listed = if agent.listed == Some(false) { ", this agent is not in it" } else { "" };
    facts.push(fact("list", format!("{list}{stale}{listed}")));
    facts.extend(agent.asked.iter().map(|asked| fact("asked for, but more than max_rate", asked)));
    facts.extend(agent.error.iter().map(|why| fact("failing", why)));
    if agent.refused > 0 {
        facts.push(fact("entries that are not measured", format!("{}, such as {}", agent.refused, agent.refusals.join("; "))));
    }
    let why = agent.lost_why.as_deref().unwrap_or_default();
    facts.extend((agent.lost > 0).then(|| fact("results that the collector did not take", format!("{} {why}", agent.lost))));
    facts
}

fn collector(status: &CollectorStatus) -> Facts {
    let counts = &status.counts;
    vec![
        fact("names in the list", words::count(status.probes as u64)),
        fact("from round to round", words::seconds(status.interval_s)),
        fact("results absent now", format!("{} of {}", words::count(status.absent_now as u64), words::count(status.expected as u64))),
        fact("posts since the start", words::count(counts.posts)),
        fact("results stored", words::count(counts.stored)),
        fact("results known already", words::count(counts.duplicates)),
        fact("results rejected", words::count(counts.rejected)),
        fact("posts that were not stored", words::count(counts.not_durable)),
    ]
}

/// Name, last post, results, absent ones: those that a person has to look at come first.
fn sources(status: &CollectorStatus) -> Vec<[Shown; 4]> {
    let age = |seconds: Option<f64>| seconds.map_or_else(|| "no post yet".to_owned(), |seconds| format!("{} ago", words::seconds(seconds)));
    let source = status.sources.iter().take(SOURCES);
    source.map(|one| [shown(&one.name), shown(&age(one.age_s)), shown(&one.results.to_string()), shown(&one.absent.to_string())]).collect()
}
