//! Asks others, each within a deadline: the loopback, iperf3, name servers, systemd, the outputs and the running service.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use tokio::process::Command;
use tokio::time::timeout;

use super::FILES;
use super::away::{self, Service};
use super::check::Check;
use super::host::{self, Iperf3, Names};
use super::icmp::Stamps;
use super::look::{FAMILIES, within};
use super::unit::{self, Found, UNIT};
use crate::cli::status;
use crate::clock::Clock;
use crate::config::{Config, Env};
use crate::influxdb;
use crate::measurement::Value;
use crate::mesh::agent::client::{Client as Collector, FetchError};
use crate::outgoing::one_line;
use crate::probe::iperf3::process::{self, End, StartError};
use crate::probe::ping::engine::{Lent, PingEngine};
use crate::probe::ping::flight::Stamps as Clocks;
use crate::probe::ping::packet::Family;
use crate::probe::ping::report::TIMESTAMPS;
use crate::probe::ping::settings::{Host, Job};
use crate::probe::{Engine, Finding, Outcome, Shared, http, iperf3};
use crate::resolve::Wanted;
use crate::settings::explain;
use crate::status::server::STATUS_PATH;

/// The longest that the pings may take, with all that is around them.
const PINGS: Duration = Duration::from_secs(5);
/// How often is looked for the kernel's stamps.
const ATTEMPTS: u32 = 6;
/// From one look to the next.
const MOMENT: Duration = Duration::from_millis(200);
/// How long a program may take to say what it is.
const PROGRAM: Duration = Duration::from_secs(3);
/// The longest that an output may take, whatever the config allows.
const ANSWER: Duration = Duration::from_secs(10);
/// How many names are asked for.
const MOST_NAMES: usize = 32;

/// Pings this host itself with the service's own engine.
pub(super) async fn pings(shared: &Shared) -> Vec<(Family, Stamps)> {
    let engine = match PingEngine::new(Arc::new(Lent::open()), shared.clone()) {
        Ok(engine) => engine,
        Err(why) => return FAMILIES.map(|family| (family, Stamps::Failed(why.clone()))).into(),
    };
    let driver = engine.drive().map(actix_rt::spawn);
    let of = async |family: Family| match timeout(PINGS, stamped(&engine, family)).await {
        Ok(stamps) => (family, stamps),
        Err(_) => (family, Stamps::Failed("the engine does not end".to_owned())),
    };
    let found = join_all(FAMILIES.map(of)).await;
    if let Some(driver) = driver {
        driver.abort();
    }
    found
}

/// How this host is stamped. The kernel begins to stamp what comes in a moment after the first socket of the host has asked for
/// it, so it is given that moment.
async fn stamped(engine: &PingEngine, family: Family) -> Stamps {
    let job = ping(family);
    for _ in 1..ATTEMPTS {
        match stamps(&engine.measure(&job, None).await) {
            Stamps::Made(clocks) if clocks != Clocks::Kernel.name() => tokio::time::sleep(MOMENT).await,
            stamps => return stamps,
        }
    }
    stamps(&engine.measure(&job, None).await)
}

/// A few packets to this host itself.
fn ping(family: Family) -> Job {
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    Job {
        host: Host::Address(address),
        count: 3,
        warmup: 0,
        spacing: Duration::from_millis(20),
        timeout: Duration::from_secs(1),
        size: 56,
        ttl: None,
        traffic_class: None,
        whole: false,
        source: None,
        interface: None,
    }
}

fn stamps(finding: &Finding) -> Stamps {
    match (finding.outcome, finding.fields.get(TIMESTAMPS.info().name)) {
        (Outcome::Ok | Outcome::Partial, Some(Value::Text(clocks))) => Stamps::Made(clocks.clone()),
        (Outcome::Permission, _) => Stamps::NoSocket,
        (outcome, _) => Stamps::Failed(finding.error.clone().unwrap_or_else(|| outcome.to_string())),
    }
}

/// Asks iperf3 for its version, as the service would run it.
pub(super) async fn iperf3() -> Iperf3 {
    let output = match process::run(&["--version".to_owned()], 1, PROGRAM).await {
        Ok(output) => output,
        Err(error @ StartError::Missing(_)) => return Iperf3::Missing(error.to_string()),
        Err(error) => return Iperf3::Silent(error.to_string()),
    };
    match output.end {
        End::Exited(status) if output.stdout.is_empty() => Iperf3::Silent(status.to_string()),
        End::Exited(_) => Iperf3::Says(one_line(&String::from_utf8_lossy(&output.stdout), &[])),
        End::Deadline(limit) => Iperf3::Silent(format!("no end within {limit:?}")),
        End::TooMuch => Iperf3::Silent("it does not stop writing".to_owned()),
    }
}

/// Asks the service's own resolver for the names of the probes.
pub(super) async fn names(config: Option<&Config>, shared: &Shared) -> Names {
    let mut wanted = config.map(names_of).unwrap_or_default();
    let configured = !wanted.is_empty();
    if !configured {
        wanted.insert("localhost".to_owned(), Wanted::Any);
    }
    let left_out = wanted.len().saturating_sub(MOST_NAMES);
    let asked = wanted.into_iter().take(MOST_NAMES).map(async |(name, wanted)| {
        let answer = shared.resolver.lookup(&name, wanted).await.map(|found| found.address);
        (name, answer)
    });
    let answers = join_all(asked).await;
    let read = within(FILES, || fs::read_to_string("/etc/resolv.conf").map_err(|error| error.to_string())).await;
    Names { answers, left_out, configured, servers: read.flatten().map(|text| host::name_servers(&text)) }
}

/// The names that probes resolve; those of outputs are looked up by the C library when the output is asked.
fn names_of(config: &Config) -> BTreeMap<String, Wanted> {
    let mut names = BTreeMap::new();
    for assignment in &config.assignments {
        let name = if let Some(job) = assignment.job::<Job>() {
            if let Host::Name(name, wanted) = &job.host { Some((name.clone(), *wanted)) } else { None }
        } else if let Some(job) = assignment.job::<iperf3::settings::Job>() {
            if let iperf3::settings::Host::Name(name) = &job.host { Some((name.clone(), Wanted::Any)) } else { None }
        } else {
            let job = assignment.job::<http::settings::Job>();
            job.and_then(|job| Some((job.get.url.domain()?.to_owned(), job.wanted)))
        };
        names.extend(name);
    }
    names
}

/// Asks systemd for the unit.
pub(super) async fn unit() -> Found {
    // What sd_booted(3) looks at.
    if !Path::new("/run/systemd/system").is_dir() {
        return Found::NoSystemd;
    }
    let mut command = Command::new("systemctl");
    command.args(["show", UNIT, "--property", unit::PROPERTIES]).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(PROGRAM, command.output()).await {
        Ok(Ok(output)) if output.status.success() => unit::read(&String::from_utf8_lossy(&output.stdout)),
        Ok(Ok(output)) => Found::Silent(one_line(&String::from_utf8_lossy(&output.stderr), &[])),
        Ok(Err(error)) => Found::Silent(format!("systemctl: {error}")),
        Err(_) => Found::Silent(format!("systemctl does not end within {PROGRAM:?}")),
    }
}

/// Asks each output whether it takes rows, and gives it none.
pub(super) async fn outputs(config: Option<&Config>, clock: &Clock) -> Vec<Check> {
    let Some(config) = config else {
        return vec![Check::note("outputs", "not asked, as long as the config is wrong")];
    };
    let databases = config.influxdb.iter().map(async |(name, settings)| {
        let tried = match influxdb::Client::new(settings, clock.clone()) {
            Ok(client) => client.try_out(settings.timeout.min(ANSWER)).await,
            Err(error) => Err(error.to_string()),
        };
        away::output(name, settings, &tried)
    });
    let mut checks = join_all(databases).await;
    if let Some(settings) = &config.mesh {
        let fetched = match Collector::new(settings, clock.clone()) {
            Ok(client) => match timeout(ANSWER, client.fetch()).await {
                Ok(fetched) => fetched.map(|fetched| fetched.taken.list.probes.len()),
                Err(_) => Err(FetchError::Late("list")),
            },
            Err(error) => Err(FetchError::Failed("list", error.to_string())),
        };
        checks.push(away::collector(settings, &fetched));
    }
    if checks.is_empty() {
        checks.push(Check::note("outputs", "the config has none: rows stay in the journal"));
    }
    checks
}

/// What came of asking the running service.
pub(super) enum Asked {
    /// It was asked, by this socket.
    At(PathBuf, Service),
    /// It was not, for this reason.
    Not(String),
}

impl Asked {
    /// How it is.
    pub(super) fn check(&self) -> Check {
        match self {
            Self::At(socket, service) => away::service(socket, service, env!("CARGO_PKG_VERSION")),
            Self::Not(why) => Check::note("service", format!("not asked: {why}")),
        }
    }

    /// What it said of itself; or why nothing.
    pub(super) fn report(&self) -> Result<&away::Report, Silence> {
        match self {
            Self::At(_, Service::Answers(report)) => Ok(report),
            Self::At(_, Service::Away) => Err(Silence::Away),
            Self::At(..) | Self::Not(_) => Err(Silence::Unknown),
        }
    }
}

/// Why the service says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// None runs.
    Away,
    /// One may run.
    Unknown,
}

/// Asks the running service.
pub(super) async fn service(config: &Path, env: &Env) -> Asked {
    let (config, env) = (config.to_owned(), env.clone());
    let found = within(FILES, move || {
        let socket = status::find(&config, &env).map_err(|error| format!("{error:#}"))?;
        let there = socket.symlink_metadata().map(drop);
        Ok::<_, String>((socket, there))
    });
    let (socket, there) = match found.await.flatten() {
        Ok(found) => found,
        Err(why) => return Asked::Not(one_line(&why, &[])),
    };
    let asked = match there.map_err(|error| error.kind()) {
        Ok(()) => ask(&socket).await,
        Err(io::ErrorKind::NotFound) => Service::Away,
        Err(io::ErrorKind::PermissionDenied) => Service::Denied,
        Err(kind) => Service::Silent(kind.to_string()),
    };
    Asked::At(socket, asked)
}

async fn ask(socket: &Path) -> Service {
    let answer = async { status::request(socket, Method::GET, STATUS_PATH).await?.error_for_status()?.bytes().await };
    match answer.await {
        Ok(body) => {
            serde_json::from_slice(&body).map_or_else(|error| Service::Silent(format!("it speaks otherwise: {error}")), Service::Answers)
        }
        Err(error) if is_denied(&error) => Service::Denied,
        Err(error) => Service::Silent(explain(&error.without_url())),
    }
}

fn is_denied(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = error.source();
    }
    false
}
