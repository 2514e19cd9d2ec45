//! Those that are talked to: each output, the collector of a mesh, the running service. Pure.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::super::credentials::remedy;
use super::check::Check;
use super::stored::Lost;
use crate::history::HistoryStatus;
use crate::influxdb::trial::Trial;
use crate::influxdb::{Api, Settings};
use crate::listeners::Listener;
use crate::mesh;
use crate::mesh::agent::client::FetchError;
use crate::settings::plain_key;
use crate::status::age;

/// Whether a database takes rows, by what it said to none.
pub(super) fn output(name: &str, settings: &Settings, tried: &Result<Trial, String>) -> Check {
    let key = format!("influxdb.{}", plain_key(name));
    let url = &settings.url;
    let place = place(&settings.api);
    match tried {
        Ok(Trial::Taken) => {
            Check::ok(key, format!("{url} lets rows into {place}: 204 to a write without a row, so types of fields are not proven"))
        }
        Ok(Trial::Empty(said)) => Check::ok(
            key,
            format!("{url} let a write without a row in ({said}), which proves the token; that {place} is there is not proven"),
        ),
        Ok(Trial::Unauthorized(said)) => Check::fail(&key, format!("{url}: {said}"), secret(&key, settings)),
        Ok(Trial::Forbidden(said)) => Check::fail(&key, format!("{url}: {said}"), permission(settings)),
        Ok(Trial::NotFound(said)) => Check::fail(&key, format!("{url}: {said}"), missing(&key, settings)),
        Ok(Trial::NoPolicy(said)) => Check::fail(&key, format!("{url}: {said}"), policy(&key, settings)),
        Ok(Trial::NoWriteApi(said)) => Check::fail(
            &key,
            format!("{url}: {said}: not the answer of a write API, which is 204"),
            format!("correct {key}.url: where the API begins, without a redirect"),
        ),
        Ok(Trial::Other(said)) => {
            Check::fail(&key, format!("{url}: {said}"), format!("look into the log of the database; what it says is not about {place}"))
        }
        Err(why) if why.contains("certificate") => Check::fail(&key, format!("{url}: {why}"), CERTIFICATE),
        Err(why) => Check::fail(
            &key,
            format!("{url} does not answer: {why}"),
            format!("start the database, open the way to it, or correct {key}.url"),
        ),
    }
}

/// What mends TLS without the right certificates, here or there.
const CERTIFICATE: &str = "apt-get install ca-certificates; for an authority of your own: put it into /usr/local/share/ca-certificates, then: update-ca-certificates, systemctl restart qosd; else correct the server's certificate";

fn place(api: &Api) -> String {
    match api {
        Api::V2 { org, bucket, .. } => format!("bucket {bucket:?} of {org:?}"),
        Api::V1 { database, .. } => format!("database {database:?}"),
    }
}

/// Where a right secret has to go.
fn secret(key: &str, settings: &Settings) -> String {
    let (what, name) = match &settings.api {
        Api::V2 { bucket, org, .. } => (format!("a token that may write to bucket {bucket:?} of {org:?}"), "token"),
        Api::V1 { database, credentials: Some((user, _)), .. } => {
            (format!("the password of {user:?}, who may write to {database:?}"), "password")
        }
        Api::V1 { .. } => return format!("the database wants a login: set {key}.username and {key}.password_file"),
    };
    match &settings.secret_file {
        Some(file) => format!("put {what} into {}", remedy(file)),
        None => format!("set {key}.{name}_file to a file with {what}"),
    }
}

fn permission(settings: &Settings) -> String {
    match &settings.api {
        Api::V2 { org, bucket, .. } => format!(
            "give the token write access: influx auth create --org {org:?} --write-bucket ID, with the ID of {bucket:?} (influx bucket list)"
        ),
        Api::V1 { database, credentials, .. } => {
            let user = credentials.as_ref().map_or("USER", |(user, _)| user);
            format!("influx -execute 'GRANT WRITE ON {database:?} TO {user:?}'")
        }
    }
}

fn missing(key: &str, settings: &Settings) -> String {
    match &settings.api {
        Api::V2 { org, bucket, .. } => {
            format!(
                "influx bucket create --org {org:?} --name {bucket:?}; or correct {key}.org and {key}.bucket; a server of version 1 needs {key}.database instead"
            )
        }
        Api::V1 { database, .. } => format!("influx -execute 'CREATE DATABASE {database:?}'; or correct {key}.database or {key}.url"),
    }
}

fn policy(key: &str, settings: &Settings) -> String {
    match &settings.api {
        Api::V1 { database, retention_policy: Some(policy), .. } => {
            format!(
                "influx -execute 'CREATE RETENTION POLICY {policy:?} ON {database:?} DURATION 52w REPLICATION 1'; or correct {key}.retention_policy"
            )
        }
        _ => format!("correct {key}"),
    }
}

/// Whether the collector of a mesh knows the key: `Ok` is how many probes its list has.
pub(super) fn collector(settings: &mesh::agent::Settings, fetched: &Result<usize, FetchError>) -> Check {
    const NAME: &str = "mesh";
    let url = &settings.collector;
    match fetched {
        Ok(probes) => Check::ok(
            NAME,
            format!("{url} knows the key and lists {probes} probes; that it takes results is not proven, as a post would leave rows"),
        ),
        Err(error @ FetchError::Refused(_, said)) if ["400", "401", "403"].iter().any(|status| said.starts_with(status)) => {
            Check::fail(NAME, format!("{url}: {error}"), format!("put the collector's key into {}", remedy(&settings.key_file)))
        }
        Err(error @ FetchError::Refused(..)) => {
            Check::fail(NAME, format!("{url}: {error}"), "correct mesh.collector: what stands before /api/v1")
        }
        Err(error @ (FetchError::Late(_) | FetchError::Failed(..))) => Check::fail(
            NAME,
            format!("{url} does not answer: {error}"),
            "start the collector, open the way to it, or correct mesh.collector and mesh.ca_file",
        ),
        Err(error) => {
            Check::fail(NAME, format!("{url}: {error}"), "correct the files of the collector: collector.probes and collector.schedule")
        }
    }
}

/// What the running service says of itself, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    version: String,
    pid: u32,
    uptime_s: u64,
    config: Config,
    journal: Journal,
    outputs: Vec<Output>,
    #[serde(default)]
    listeners: Vec<Listener>,
    #[serde(default)]
    history: HistoryStatus,
}

impl Report {
    /// How the history is.
    pub(super) fn history(&self) -> HistoryStatus {
        self.history.clone()
    }

    /// What was lost.
    pub(super) fn lost(&self) -> Lost {
        let Journal { dropped_memory, dropped_size, dropped_gone, dropped_dead, damaged, .. } = self.journal;
        Lost {
            size: dropped_size,
            memory: dropped_memory,
            gone: dropped_gone,
            damaged,
            dead: self.outputs.iter().map(|output| output.dead).sum(),
            dropped_dead,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Config {
    problem: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Journal {
    failing: Option<String>,
    dropped_memory: u64,
    dropped_size: u64,
    dropped_gone: u64,
    dropped_dead: u64,
    damaged: u64,
}

#[derive(Debug, Deserialize)]
struct Output {
    name: String,
    last_error: Option<String>,
    #[serde(default)]
    dead: u64,
}

/// What came of asking the service.
#[derive(Debug)]
pub(super) enum Service {
    /// There is no socket: none runs.
    Away,
    /// It answers.
    Answers(Box<Report>),
    /// This user may not ask.
    Denied,
    /// A socket without anybody behind it, or who speaks otherwise.
    Silent(String),
}

/// How the running service is, by its own word; `version` is that of this program.
pub(super) fn service(socket: &Path, service: &Service, version: &str) -> Check {
    const NAME: &str = "service";
    let socket = socket.display();
    let report = match service {
        Service::Away => return Check::note(NAME, format!("no service runs: there is no {socket}")),
        Service::Denied => {
            return Check::warn(
                NAME,
                format!("this user may not ask {socket}"),
                "run qosd doctor as root or as the service's user: sudo -u qosd qosd doctor",
            );
        }
        Service::Silent(why) => return Check::warn(NAME, format!("nobody answers on {socket}: {why}"), "systemctl restart qosd"),
        Service::Answers(report) => report,
    };
    let found = format!("process {} answers on {socket}, up {}", report.pid, age(Duration::from_secs(report.uptime_s)));
    if report.version == version {
        complaints(report, found)
    } else {
        Check::warn(NAME, format!("{found}, with version {} while this is {version}", report.version), "systemctl restart qosd")
    }
}

/// What it complains of, the worst first.
fn complaints(report: &Report, found: String) -> Check {
    const NAME: &str = "service";
    if let Some(why) = &report.journal.failing {
        let fix = "do what the check of the journal says; it goes on by itself";
        return Check::fail(NAME, format!("{found}; its journal takes no rows: {why}"), fix);
    }
    if let Some(problem) = &report.config.problem {
        let fix = "correct the config (qosd check), then: systemctl reload qosd";
        return Check::warn(NAME, format!("{found}; it refused to reload: {problem}"), fix);
    }
    match [unheard(&report.listeners), failing(&report.outputs)].into_iter().flatten().collect::<Vec<_>>()[..] {
        [] => Check::ok(NAME, found),
        ref wrong => {
            let (what, fixes): (Vec<_>, Vec<_>) = wrong.iter().cloned().unzip();
            Check::warn(NAME, format!("{found}; {}", what.join("; ")), fixes.join("; "))
        }
    }
}

/// Where it cannot listen, and what mends that: what is wrong with a port is known, anything else is not.
fn unheard(listeners: &[Listener]) -> Option<(String, String)> {
    const PORT: &str = "ss -ltnp says who has the port, one below 1024 qosd may not have at all: choose another in the config, then: systemctl reload qosd";
    const OTHER: &str = "qosd status says more; correct the config, then: systemctl reload qosd";
    let silent: Vec<_> = listeners.iter().filter_map(|one| Some((one, one.error.as_deref()?))).collect();
    let what: Vec<_> = silent.iter().map(|(one, error)| format!("{} at {}: {error}", one.actor, one.listen)).collect();
    let is_port: Vec<_> = silent.iter().map(|(one, error)| is_of_its_port(&one.listen, error)).collect();
    let fixes: Vec<_> = [(true, PORT), (false, OTHER)].into_iter().filter(|(of, _)| is_port.contains(of)).map(|(_, fix)| fix).collect();
    (!silent.is_empty()).then(|| (format!("it cannot listen: {}", what.join("; ")), fixes.join("; ")))
}

/// Whether somebody else has the port, or qosd may not have it: of a path, the same words are about a file.
fn is_of_its_port(listen: &str, error: &str) -> bool {
    let error = error.to_lowercase();
    !listen.contains('/') && !error.contains('/') && ["in use", "denied"].iter().any(|words| error.contains(words))
}

/// Which outputs take nothing, and what mends that.
fn failing(outputs: &[Output]) -> Option<(String, String)> {
    let failing: Vec<_> = outputs.iter().filter_map(|output| Some(format!("{}: {}", output.name, output.last_error.as_ref()?))).collect();
    let fix = "do what the check of the output says; it goes on by itself";
    (!failing.is_empty()).then(|| (format!("failing outputs: {}", failing.join("; ")), fix.to_owned()))
}

#[cfg(test)]
mod tests;
