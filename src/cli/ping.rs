//! `qosd ping HOST…`: one run of the ping probe, with the service's own engine.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::System;
use clap::Args;
use futures_util::future::join_all;

use super::complain;
use super::oneshot::{self, Output};
use crate::clock::millis;
use crate::measurement::Row;
use crate::probe::ping::Ping;
use crate::probe::ping::engine::{Lent, PingEngine};
use crate::probe::ping::exchange::Watcher;
use crate::probe::ping::settings::Job;
use crate::probe::{Assignment, Engine, Member};
use crate::settings::units::show_duration;

/// The columns of the table, and the fields they show.
pub(super) const COLUMNS: &[(&str, &str)] = &[
    ("address", "address"),
    ("result", "result"),
    ("sent", "ping_sent"),
    ("received", "ping_received"),
    ("loss %", "ping_packet_loss_pct"),
    ("min ms", "ping_min_ms"),
    ("avg ms", "ping_avg_ms"),
    ("max ms", "ping_max_ms"),
    ("jitter ms", "ping_jitter_ms"),
    ("error", "error"),
];

/// What `qosd ping` takes.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Host names or addresses
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<String>,
    /// Packets to send to each
    #[arg(short, long, default_value_t = 5)]
    count: u32,
    /// From packet to packet
    #[arg(short, long, value_name = "DUR", default_value = "200ms", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Bytes of payload
    #[arg(short, long, value_name = "BYTES", default_value_t = 56)]
    size: u32,
    /// How long to wait for a reply
    #[arg(short = 'W', long, value_name = "DUR", default_value = "1s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// IPv4 only
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// IPv6 only
    #[arg(short = '6')]
    ipv6: bool,
    /// Packets sent first and not counted
    #[arg(long, default_value_t = 0)]
    warmup: u32,
    /// TTL or hop limit
    #[arg(short, long)]
    ttl: Option<u8>,
    /// DSCP, by name or number
    #[arg(long)]
    dscp: Option<String>,
    /// Source address
    #[arg(long, value_name = "ADDRESS")]
    source: Option<String>,
    /// Interface
    #[arg(short = 'I', long, value_name = "NAME")]
    interface: Option<String>,
    /// Never fragment
    #[arg(long)]
    dont_fragment: bool,
    /// A line on stderr for each answer, as it comes
    #[arg(short, long)]
    verbose: bool,
    /// How to show the rows
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Arguments {
    /// The probe's table, as a config would have it: one set of rules for both.
    fn table(&self) -> toml::Table {
        let longest = self.interval.saturating_mul(self.warmup.saturating_add(self.count)).max(Duration::from_secs(1));
        let mut table = toml::Table::new();
        let mut set = |key: &str, value: toml::Value| drop(table.insert(key.to_owned(), value));
        set("targets", self.hosts.clone().into());
        set("interval", show_duration(&longest).into());
        set("count", i64::from(self.count).into());
        set("spacing", show_duration(&self.interval).into());
        set("timeout", show_duration(&self.timeout).into());
        set("size", i64::from(self.size).into());
        set("warmup", i64::from(self.warmup).into());
        set("dont_fragment", self.dont_fragment.into());
        set(
            "family",
            if self.ipv4 {
                "ipv4"
            } else if self.ipv6 {
                "ipv6"
            } else {
                "auto"
            }
            .into(),
        );
        for (key, value) in [("dscp", &self.dscp), ("source", &self.source), ("interface", &self.interface)] {
            if let Some(value) = value {
                set(key, value.clone().into());
            }
        }
        if let Some(ttl) = self.ttl {
            set("ttl", i64::from(ttl).into());
        }
        table
    }
}

/// Runs it; the result is the exit status.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let assignments = match oneshot::assignments(&Member::<Ping>::NEW, &arguments.table()) {
        Ok(assignments) => assignments,
        Err(problems) => {
            complain(&problems);
            return oneshot::USAGE;
        }
    };
    let live = if arguments.verbose { Live::Answers } else { Live::for_stderr() };
    let rows = System::new().block_on(measure(&assignments, live));
    oneshot::finish(rows, arguments.output, COLUMNS)
}

/// What stderr shows while packets are on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Live {
    /// Nothing: nobody watches.
    Nothing,
    /// One line that follows the replies.
    Progress,
    /// A line for each answer.
    Answers,
}

impl Live {
    /// Progress for a terminal, nothing for a file.
    pub(super) fn for_stderr() -> Self {
        if oneshot::is_watched() { Self::Progress } else { Self::Nothing }
    }
}

/// One run of each, all at one time.
pub(super) async fn measure(assignments: &[Arc<Assignment>], live: Live) -> Result<Vec<Row>, String> {
    let shared = oneshot::shared();
    let clock = shared.clock.clone();
    let engine = PingEngine::new(Arc::new(Lent::open()), shared)?;
    if let Some(drive) = engine.drive() {
        actix_rt::spawn(drive);
    }
    let progress = Rc::new(Progress::default());
    let time = clock.now().unix;
    let runs = assignments.iter().filter_map(|assignment| Some((assignment, assignment.job::<Job>()?))).map(|(assignment, job)| {
        let engine = engine.clone();
        let watcher = match live {
            Live::Nothing => None,
            Live::Progress => Some(progress.clone().watch(assignment, &job)),
            Live::Answers => Some(answers_of(assignment)),
        };
        async move {
            tokio::time::sleep(assignment.offset).await;
            let finding = engine.measure(&job, watcher).await;
            Row { series: assignment.series.clone(), time, fields: finding.into_fields(None) }
        }
    });
    let rows = join_all(runs).await;
    if live == Live::Progress {
        oneshot::overwrite("");
    }
    Ok(rows)
}

/// A line on stderr for each answer, to the nanosecond. Packets are numbered from 0, warm-up included.
fn answers_of(assignment: &Assignment) -> Watcher {
    let target = assignment.series.tag("target").unwrap_or_default().to_owned();
    Rc::new(move |answered| {
        let word = answered.rtt.map_or_else(|| "an error".to_owned(), |rtt| format!("{:.6} ms", millis(rtt)));
        oneshot::tell(&format!("{target}: packet {}: {word}", answered.index));
    })
}

/// A line on stderr that follows the replies as they come.
#[derive(Default)]
struct Progress {
    answered: Cell<u32>,
    expected: Cell<u32>,
}

impl Progress {
    fn watch(self: Rc<Self>, assignment: &Assignment, job: &Job) -> Watcher {
        self.expected.set(self.expected.get() + job.count + job.warmup);
        let target = assignment.series.tag("target").unwrap_or_default().to_owned();
        Rc::new(move |answered| {
            self.answered.set(self.answered.get() + 1);
            let word = answered.rtt.map_or_else(|| "an error".to_owned(), |rtt| format!("{:.3} ms", millis(rtt)));
            oneshot::overwrite(&format!("{}/{} answered, last {target}: {word}", self.answered.get(), self.expected.get()));
        })
    }
}
