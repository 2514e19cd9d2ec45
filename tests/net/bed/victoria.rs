//! A real `VictoriaMetrics`. It answers 204 to anything, so only what it gives back proves something.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use super::http::{free_port, request};
use super::process::Process;
use super::{eventually, tool};

/// A running `VictoriaMetrics`.
pub(crate) struct Victoria {
    _dir: TempDir,
    /// Where it answers.
    pub(crate) port: u16,
    _process: Process,
}

/// One metric as it comes back: a field of a series.
#[derive(Deserialize)]
pub(crate) struct Metric {
    /// The tags, and `__name__` = measurement and field.
    #[serde(rename = "metric")]
    pub(crate) labels: BTreeMap<String, String>,
    /// What was stored.
    pub(crate) values: Vec<f64>,
    /// When, in milliseconds.
    pub(crate) timestamps: Vec<i64>,
}

impl Victoria {
    /// A fresh one.
    pub(crate) fn start() -> Self {
        for _ in 0..5 {
            let dir = tempfile::tempdir().expect("there is a place for temporary files");
            let port = free_port();
            let mut process = Process::start(
                Command::new(tool("victoria-metrics"))
                    .env_clear()
                    .arg(format!("-storageDataPath={}", dir.path().display()))
                    .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
                    // Without it, rows older than a month are not taken.
                    .args(["-retentionPeriod=100y", "-memory.allowedBytes=200MB"]),
            );
            let up = eventually(Duration::from_secs(30), || match request("GET", port, "/health", &[], "") {
                Ok((200, _)) => Ok(true),
                _ if !process.runs() => Ok(false),
                other => Err(format!("{other:?}")),
            });
            if up {
                return Self { _dir: dir, port, _process: process };
            }
        }
        panic!("victoria-metrics does not start on any of 5 ports");
    }

    /// Everything it has stored until now.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        // What was written is visible to queries only after a flush, which would come by itself later.
        request("GET", self.port, "/internal/force_flush", &[], "").expect("victoria-metrics answers");
        let parameters = [("match[]", "{__name__!=\"\"}"), ("reduce_mem_usage", "1")];
        let (status, body) = request("GET", self.port, "/api/v1/export", &parameters, "").expect("victoria-metrics answers");
        assert_eq!(status, 200, "{body}");
        body.lines().map(|line| serde_json::from_str(line).expect("victoria-metrics answers JSON")).collect()
    }
}
