//! `[influxdb.NAME]`.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use crate::secret::Secret;

/// One `InfluxDB`, or whatever speaks its write API.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where it is, with a path if its API is below one.
    pub url: Url,
    /// Which API, and as whom.
    pub api: Api,
    /// The file that the secret came from, if it came from one. A reload reads it again.
    pub secret_file: Option<PathBuf>,
    /// The most rows a request carries.
    pub batch_size: usize,
    /// The longest a durable row waits for others before it is sent.
    pub flush_interval: Duration,
    /// The longest a request may take.
    pub timeout: Duration,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// How far back a new output starts; none = now.
    pub replay: Option<Duration>,
}

/// The two write APIs.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the words are InfluxDB's own")]
pub enum Api {
    /// `/api/v2/write`, also of version 3.
    V2 { org: String, bucket: String, token: Secret },
    /// `/write`.
    V1 { database: String, retention_policy: Option<String>, credentials: Option<(String, Secret)> },
}
