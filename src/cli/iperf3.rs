//! `qosd iperf3 HOST[:PORT]…`: one run of the iperf3 probe, with the service's own engine.

use std::sync::Arc;
use std::time::Duration;

use actix_rt::System;
use clap::Args;
use futures_util::future::join_all;

use super::complain;
use super::oneshot::{self, Output};
use crate::measurement::Row;
use crate::probe::iperf3::Iperf3;
use crate::probe::iperf3::engine::{Iperf3Engine, Lent};
use crate::probe::iperf3::settings::Job;
use crate::probe::{Assignment, Member};
use crate::settings::units::show_duration;

/// The columns of the table, and the fields they show.
const COLUMNS: &[(&str, &str)] = &[
    ("address", "address"),
    ("result", "result"),
    ("upload Mbit/s", "iperf_bandwidth_mbps"),
    ("download Mbit/s", "iperf_download_mbps"),
    ("retransmits", "iperf_retransmits"),
    ("rtt ms", "iperf_rtt_ms"),
    ("udp Mbit/s", "iperf_udp_mbps"),
    ("jitter ms", "iperf_jitter_ms"),
    ("lost %", "iperf_lost_pct"),
    ("error", "error"),
];

/// What `qosd iperf3` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Servers; they are tested one after the other
    #[arg(required = true, value_name = "HOST[:PORT]")]
    servers: Vec<String>,
    /// Test with UDP, for jitter and loss, instead of TCP
    #[arg(short, long)]
    udp: bool,
    /// How long to test, in whole seconds
    #[arg(short = 't', long, value_name = "DUR", default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Bits per second of each UDP stream
    #[arg(short, long, value_name = "RATE", default_value = "10M")]
    bitrate: String,
    /// The server sends
    #[arg(short = 'R', long)]
    reverse: bool,
    /// Streams at the same time
    #[arg(short = 'P', long, value_name = "N", default_value_t = 1)]
    parallel: u32,
    /// How long to send before it counts, in whole seconds
    #[arg(short = 'O', long, value_name = "DUR", default_value = "0s", value_parser = humantime::parse_duration)]
    omit: Duration,
    /// How to show the rows
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Arguments {
    /// The probe's table, as a config would have it: one set of rules for both.
    fn table(&self) -> toml::Table {
        let mut table = toml::Table::new();
        let mut set = |key: &str, value: toml::Value| drop(table.insert(key.to_owned(), value));
        set("targets", self.servers.clone().into());
        // Nobody waits for another slot.
        set("interval", "7d".into());
        set("duration", show_duration(&self.duration).into());
        set("omit", show_duration(&self.omit).into());
        set("protocols", vec![if self.udp { "udp" } else { "tcp" }].into());
        set("udp_bitrate", self.bitrate.clone().into());
        set("direction", if self.reverse { "download" } else { "upload" }.into());
        set("streams", i64::from(self.parallel).into());
        table
    }
}

/// Runs it; the result is the exit status.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let assignments = match oneshot::assignments(&Member::<Iperf3>::NEW, &arguments.table()) {
        Ok(assignments) => assignments,
        Err(problems) => {
            complain(&problems);
            return oneshot::USAGE;
        }
    };
    if oneshot::is_watched() {
        let time = arguments.duration.saturating_add(arguments.omit);
        complain(&format!("each server is tested for {}", show_duration(&time)));
    }
    let rows = System::new().block_on(measure(&assignments));
    oneshot::finish(Ok(rows), arguments.output, COLUMNS)
}

async fn measure(assignments: &[Arc<Assignment>]) -> Vec<Row> {
    let shared = oneshot::shared();
    let clock = shared.clock.clone();
    let engine = Iperf3Engine::new(Arc::new(Lent::default()), shared);
    let runs = assignments.iter().filter_map(|assignment| Some((assignment, assignment.job::<Job>()?))).map(|(assignment, job)| {
        let (engine, now) = (engine.clone(), clock.now());
        async move {
            let finding = engine.measure(&job, now.mono).await;
            Row { series: assignment.series.clone(), time: now.unix, fields: finding.into_fields(None) }
        }
    });
    join_all(runs).await
}
