//! `qosd http URL…`: one run of the HTTP probe, with the service's own engine.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::System;
use clap::Args;
use futures_util::future::join_all;

use super::complain;
use super::oneshot::{self, Output};
use crate::measurement::Row;
use crate::probe::http::Http;
use crate::probe::http::engine::HttpEngine;
use crate::probe::http::settings::Job;
use crate::probe::{Assignment, Member};
use crate::settings::units::show_duration;

/// The columns of the table, and the fields they show.
const COLUMNS: &[(&str, &str)] = &[
    ("address", "address"),
    ("result", "result"),
    ("status", "http_status_code"),
    ("ping ms", "http_ping_ms"),
    ("dns", "http_dns_ms"),
    ("connect", "http_connect_ms"),
    ("tls", "http_tls_ms"),
    ("first byte", "http_first_byte_ms"),
    ("transfer", "http_transfer_ms"),
    ("download ms", "http_download_ms"),
    ("Mbit/s", "http_download_mbps"),
    ("upload ms", "http_upload_ms"),
    ("Mbit/s", "http_upload_mbps"),
    ("error", "error"),
];

/// What `qosd http` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to get
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// Then download this, from the same server
    #[arg(long, value_name = "PATH")]
    download: Option<String>,
    /// Then upload to this, on the same server
    #[arg(long, value_name = "PATH")]
    upload: Option<String>,
    /// How much to upload
    #[arg(long, value_name = "SIZE", default_value = "100KiB")]
    upload_size: String,
    /// How long the first request may take
    #[arg(short = 'W', long, value_name = "DUR", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// How long the download may take
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = humantime::parse_duration)]
    download_timeout: Duration,
    /// How long the upload may take
    #[arg(long, value_name = "DUR", default_value = "15s", value_parser = humantime::parse_duration)]
    upload_timeout: Duration,
    /// A status that is right, once or more [default: 200 to 299]
    #[arg(long, value_name = "STATUS")]
    expect_status: Vec<u16>,
    /// The most of an answer that is read
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    max_body: String,
    /// How many redirects a request follows
    #[arg(long, value_name = "N", default_value_t = 0)]
    redirects: u32,
    /// Take any certificate
    #[arg(short = 'k', long)]
    insecure: bool,
    /// IPv4 only
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// IPv6 only
    #[arg(short = '6')]
    ipv6: bool,
    /// A file with headers to send, "Name: value" a line, that others cannot read
    #[arg(long, value_name = "FILE")]
    headers_file: Option<PathBuf>,
    /// How to show the rows
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Arguments {
    fn table(&self) -> toml::Table {
        let mut table = toml::Table::new();
        let mut set = |key: &str, value: toml::Value| drop(table.insert(key.to_owned(), value));
        set("targets", self.urls.clone().into());
        set("upload_size", self.upload_size.clone().into());
        set("timeout", show_duration(&self.timeout).into());
        set("download_timeout", show_duration(&self.download_timeout).into());
        set("upload_timeout", show_duration(&self.upload_timeout).into());
        set("max_body", self.max_body.clone().into());
        set("redirects", i64::from(self.redirects).into());
        set("insecure", self.insecure.into());
        set("expect_status", self.expect_status.iter().map(|status| i64::from(*status)).collect::<Vec<_>>().into());
        let headers_file = self.headers_file.as_ref().map(|path| path.display().to_string());
        for (key, value) in [("download", &self.download), ("upload", &self.upload), ("headers_file", &headers_file)] {
            if let Some(value) = value {
                set(key, value.clone().into());
            }
        }
        if let Some(family) = self.ipv4.then_some("ipv4").or(self.ipv6.then_some("ipv6")) {
            set("family", family.into());
        }
        table
    }
}

/// Runs it; the result is the exit status.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let assignments = match oneshot::assignments(&Member::<Http>::NEW, &arguments.table()) {
        Ok(assignments) => assignments,
        Err(problems) => {
            complain(&problems);
            return oneshot::USAGE;
        }
    };
    let rows = System::new().block_on(measure(&assignments));
    oneshot::finish(Ok(rows), arguments.output, COLUMNS)
}

async fn measure(assignments: &[Arc<Assignment>]) -> Vec<Row> {
    let shared = oneshot::shared();
    let clock = shared.clock.clone();
    let engine = HttpEngine::new(shared);
    let (done, watched) = (Rc::new(Cell::new(0)), oneshot::is_watched());
    let all = assignments.len();
    let runs = assignments.iter().filter_map(|assignment| Some((assignment, assignment.job::<Job>()?))).map(|(assignment, job)| {
        let (engine, done, time) = (engine.clone(), Rc::clone(&done), clock.now().unix);
        async move {
            let finding = engine.measure(&job).await;
            done.set(done.get() + 1);
            if watched {
                oneshot::overwrite(&format!("{}/{all} done", done.get()));
            }
            Row { series: assignment.series.clone(), time, fields: finding.into_fields(None) }
        }
    });
    let rows = join_all(runs).await;
    if watched {
        oneshot::overwrite("");
    }
    rows
}
