//! A real `InfluxDB` 1.6 with folders of its own, that can be stopped and started again on the same data.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use humantime::format_duration;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use super::http::{free_port, request};
use super::process::Process;
use super::rows::{Key, Rows};
use super::{eventually, tool};

/// Its database for the rows.
pub(crate) const DATABASE: &str = "qos";

/// A running, or stopped, `InfluxDB`.
pub(crate) struct Influx {
    dir: TempDir,
    /// Where it answers, while it runs.
    pub(crate) port: u16,
    process: Option<Process>,
    /// Whether it asks for user and password.
    guarded: bool,
}

/// Who may do everything in a guarded one, and the password.
const ADMIN: &str = "admin";

#[derive(Deserialize)]
struct Answer {
    results: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(default)]
    series: Vec<Series>,
    error: Option<String>,
}

/// One series of an answer.
#[derive(Deserialize)]
pub(crate) struct Series {
    /// The measurement.
    pub(crate) name: String,
    /// What was grouped by.
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    /// Names of the columns.
    pub(crate) columns: Vec<String>,
    /// Rows of columns.
    pub(crate) values: Vec<Vec<Value>>,
}

impl Influx {
    /// A fresh one, with an empty database [`DATABASE`].
    pub(crate) fn start() -> Self {
        Self::launch(false)
    }

    /// As [`Influx::start`], but it takes nothing from somebody whom it does not know.
    pub(crate) fn start_guarded() -> Self {
        Self::launch(true)
    }

    fn launch(guarded: bool) -> Self {
        let dir = tempfile::tempdir().expect("there is a place for temporary files");
        let mut influx = Self { dir, port: 0, process: None, guarded };
        // Between finding a free port and binding it, another test may have taken it.
        for _ in 0..5 {
            influx.port = free_port();
            if influx.try_up().is_ok() {
                if guarded {
                    // The one query that anybody may make, as long as there is no administrator.
                    let create = format!("CREATE USER {ADMIN} WITH PASSWORD '{ADMIN}' WITH ALL PRIVILEGES");
                    let created = request("POST", influx.port, "/query", &[("q", &create)], "");
                    assert_eq!(created.map(|(status, _)| status), Ok(200));
                }
                influx.query(&format!("CREATE DATABASE {DATABASE}"));
                return influx;
            }
        }
        panic!("influxd does not start on any of 5 ports");
    }

    /// Starts it again, on the same data and port.
    pub(crate) fn up(&mut self) {
        self.try_up().unwrap_or_else(|log| panic!("influxd does not start again:\n{log}"));
    }

    /// Ends it, as a crash would.
    pub(crate) fn down(&mut self) {
        self.process = None;
    }

    fn try_up(&mut self) -> Result<(), String> {
        let config = self.dir.path().join("influxdb.conf");
        std::fs::write(&config, self.config()).expect("the folder is ours");
        let mut process = Process::start(Command::new(tool("influxd")).arg("-config").arg(&config).env_clear());
        eventually(Duration::from_secs(30), || {
            if !process.runs() {
                return Ok(Err(process.log()));
            }
            match request("GET", self.port, "/ping", &[], "") {
                // Its own version in the answer would tell it from another program, but only it answers 204 here.
                Ok((204, _)) => Ok(Ok(())),
                other => Err(format!("{other:?}")),
            }
        })?;
        self.process = Some(process);
        Ok(())
    }

    fn config(&self) -> String {
        let (dir, port, guarded) = (self.dir.path().display(), self.port, self.guarded);
        format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:0\"\n\
             [meta]\ndir = \"{dir}/meta\"\n[data]\ndir = \"{dir}/data\"\nwal-dir = \"{dir}/wal\"\nquery-log-enabled = false\n\
             [monitor]\nstore-enabled = false\n[http]\nbind-address = \"127.0.0.1:{port}\"\nlog-enabled = false\nauth-enabled = {guarded}\n"
        )
    }

    /// Runs a query; times are nanoseconds.
    pub(crate) fn query(&self, query: &str) -> Vec<Series> {
        let mut parameters = vec![("db", DATABASE), ("epoch", "ns"), ("q", query)];
        if self.guarded {
            parameters.extend([("u", ADMIN), ("p", ADMIN)]);
        }
        let (status, body) = request("POST", self.port, "/query", &parameters, "").expect("influxd answers");
        assert_eq!(status, 200, "{query}: {body}");
        let answer: Answer = serde_json::from_str(&body).expect("influxd answers JSON");
        answer.results.into_iter().flat_map(|outcome| outcome.error.map_or(outcome.series, |error| panic!("{query}: {error}"))).collect()
    }

    /// Every row of the database.
    pub(crate) fn rows(&self) -> Rows {
        self.query("SELECT * FROM /.*/ GROUP BY *").iter().flat_map(rows_of).collect()
    }

    /// What the database knows of its fields: name and type, of every measurement.
    pub(crate) fn field_types(&self) -> BTreeMap<String, String> {
        let series = self.query("SHOW FIELD KEYS");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        series.iter().flat_map(|series| series.values.iter().map(|pair| (text(&pair[0]), text(&pair[1])))).collect()
    }

    /// Its `[influxdb.NAME]` table.
    pub(crate) fn output(&self, name: &str, flush: Duration) -> String {
        let (port, flush) = (self.port, format_duration(flush));
        format!("[influxdb.{name}]\nurl = \"http://127.0.0.1:{port}\"\ndatabase = \"{DATABASE}\"\nflush_interval = \"{flush}\"\n")
    }
}

fn rows_of(series: &Series) -> impl Iterator<Item = (Key, BTreeMap<String, Value>)> {
    // A tag that a series does not have comes as an empty one.
    let tags: BTreeMap<_, _> = series.tags.iter().filter(|(_, tag)| !tag.is_empty()).map(|(k, v)| (k.clone(), v.clone())).collect();
    series.values.iter().map(move |values| {
        let mut fields: BTreeMap<_, _> = series.columns.iter().cloned().zip(values.iter().cloned()).collect();
        let time = fields.remove("time").and_then(|time| time.as_i64()).expect("every row has a time in ns");
        fields.retain(|_, value| !value.is_null());
        (Key { measurement: series.name.clone(), tags: tags.clone(), time }, fields)
    })
}
