//! `[iperf3.NAME]`: what the config says of an iperf3 probe, and the series that it makes.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::process;
use super::test::{DATAGRAM, Direction, Protocol, Test};
use crate::probe::load::Load;
use crate::probe::schedule::Phase;
use crate::probe::target::{Target, check_labels};
use crate::probe::{Cost, Naming, Planned};
use crate::resolve;
use crate::settings::units::{self, show_duration, show_rate};
use crate::settings::{KeyProblem, out_of_range};

/// The port of iperf3.
pub const PORT: u16 = 5201;
/// The share of an interval that its tests may take, in percent.
const MOST_BUSY: u32 = 80;
/// What a TCP test is taken to carry, in bits per second, where its cost has to be told.
const ASSUMED_RATE: f64 = 1e9;
/// Bytes of IP and UDP around a datagram's payload.
const HEADERS: f64 = 28.0;
/// A run ends this long after all its waiting, however slow the host is.
const MARGIN: Duration = Duration::from_secs(2);

/// `[iperf3.NAME]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    targets: Vec<Target>,
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    interval: Option<Duration>,
    #[serde(with = "units::duration")]
    duration: Duration,
    protocols: Vec<ProtocolChoice>,
    #[serde(with = "units::rate")]
    udp_bitrate: u64,
    direction: DirectionChoice,
    streams: u32,
    #[serde(with = "units::duration")]
    omit: Duration,
    phase: Phase,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            interval: None,
            duration: Duration::from_secs(10),
            protocols: vec![ProtocolChoice::Tcp, ProtocolChoice::Udp],
            udp_bitrate: 10_000_000,
            direction: DirectionChoice::Upload,
            streams: 1,
            omit: Duration::ZERO,
            phase: Phase::Spread,
        }
    }
}

/// A protocol by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum ProtocolChoice {
    /// For the bandwidth.
    Tcp,
    /// For jitter and loss.
    Udp,
}

/// Which ways are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum DirectionChoice {
    /// From here.
    Upload,
    /// To here.
    Download,
    /// TCP one way, then the other; UDP from here, as a row has one jitter.
    Both,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name, resolved at every run.
    Name(String),
}

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// With whom.
    pub host: Host,
    /// The server's port.
    pub port: u16,
    /// What, one after the other.
    pub tests: Vec<Test>,
    /// From slot to slot: what has not begun to be tested in time for the next one is given up.
    pub interval: Duration,
    /// What rows of other series call it, if it overlapped their runs.
    pub load: String,
}

impl Job {
    /// How long the path is busy with a run in which nothing goes wrong.
    pub fn time(&self) -> Duration {
        self.tests.iter().map(Test::time).sum()
    }

    /// The longest that a run may take: the look-up, the wait for its turn and for busy servers, and every test twice.
    pub fn longest(&self) -> Duration {
        let lookup = if matches!(self.host, Host::Name(_)) { resolve::DEADLINE } else { Duration::ZERO };
        let tests: Duration = self.tests.iter().map(|test| (test.deadline() + process::ENDING) * 2).sum();
        lookup + self.interval + tests + MARGIN
    }
}

/// The series that a probe's table asks for.
pub fn plan(settings: &Settings, naming: &Naming) -> Result<Vec<Planned<Job>>, Vec<KeyProblem>> {
    let mut problems = check(settings);
    let mut planned = Vec::new();
    for (index, target) in settings.targets.iter().enumerate() {
        match place(target) {
            Ok(place) => planned.extend(settings.interval.map(|interval| series(settings, interval, naming, target, place))),
            Err(message) => problems.push(KeyProblem::new(format!("targets[{index}]"), message)),
        }
    }
    if problems.is_empty() { Ok(planned) } else { Err(problems) }
}

fn check(settings: &Settings) -> Vec<KeyProblem> {
    let s = settings;
    let (second, longest) = (Duration::from_secs(1), Duration::from_mins(10));
    let interval = s.interval.unwrap_or(longest);
    let mut problems: Vec<KeyProblem> = [
        out_of_range("interval", &interval, &(second..=Duration::from_hours(7 * 24)), show_duration),
        out_of_range("duration", &s.duration, &(second..=longest), show_duration),
        out_of_range("udp_bitrate", &s.udp_bitrate, &(1_000..=100_000_000_000), show_rate),
        out_of_range("streams", &s.streams, &(1..=128), u32::to_string),
        out_of_range("omit", &s.omit, &(Duration::ZERO..=Duration::from_mins(1)), show_duration),
        whole_seconds("duration", s.duration),
        whole_seconds("omit", s.omit),
        protocols(&s.protocols),
    ]
    .into_iter()
    .flatten()
    .collect();
    if s.targets.is_empty() {
        problems.push(KeyProblem::new("targets", "is missing or empty, expected at least one server"));
    }
    if s.interval.is_none() {
        problems.push(KeyProblem::new("interval", "is missing; a test fills the path, so how often has to be said"));
    }
    if problems.is_empty() {
        problems.extend(too_busy(s, interval));
    }
    problems
}

/// iperf3 counts in seconds.
fn whole_seconds(key: &str, duration: Duration) -> Option<KeyProblem> {
    let shown = show_duration(&duration);
    (duration.subsec_nanos() > 0).then(|| KeyProblem::new(key, format!("{shown} is out of step, allowed are whole seconds")))
}

fn protocols(protocols: &[ProtocolChoice]) -> Option<KeyProblem> {
    let twice = protocols.len() > 1 && protocols[1..].contains(&protocols[0]);
    let wrong = protocols.is_empty() || protocols.len() > 2 || twice;
    wrong.then(|| KeyProblem::new("protocols", "expected \"tcp\", \"udp\" or both, each once"))
}

fn too_busy(settings: &Settings, interval: Duration) -> Option<KeyProblem> {
    let round: Duration = tests(settings).iter().map(Test::time).sum::<Duration>() * settings.targets.len() as u32;
    let allowed = interval * MOST_BUSY / 100;
    let (round, most) = (round > allowed).then(|| (show_duration(&round), show_duration(&allowed)))?;
    let all = show_duration(&interval);
    let message = format!("all tests take {round}, allowed are {MOST_BUSY} % of the interval of {all}, which is {most}");
    Some(KeyProblem::new("interval", message))
}

fn tests(settings: &Settings) -> Vec<Test> {
    let test =
        |protocol, direction| Test { protocol, direction, duration: settings.duration, omit: settings.omit, streams: settings.streams };
    let udp = Protocol::Udp(settings.udp_bitrate);
    let of = |protocol: &ProtocolChoice| match (protocol, settings.direction) {
        (ProtocolChoice::Tcp, DirectionChoice::Upload) => vec![test(Protocol::Tcp, Direction::Upload)],
        (ProtocolChoice::Tcp, DirectionChoice::Download) => vec![test(Protocol::Tcp, Direction::Download)],
        (ProtocolChoice::Tcp, DirectionChoice::Both) => {
            vec![test(Protocol::Tcp, Direction::Upload), test(Protocol::Tcp, Direction::Download)]
        }
        (ProtocolChoice::Udp, DirectionChoice::Upload | DirectionChoice::Both) => vec![test(udp, Direction::Upload)],
        (ProtocolChoice::Udp, DirectionChoice::Download) => vec![test(udp, Direction::Download)],
    };
    settings.protocols.iter().flat_map(of).collect()
}

/// Where a target is: as text for the tag, as host, and its port.
struct Place {
    label: String,
    host: Host,
    port: u16,
}

/// `HOST`, `HOST:PORT`, `[IPv6]:PORT` or an IPv6 address alone.
fn place(target: &Target) -> Result<Place, String> {
    target.check()?;
    let text = target.host.as_str();
    let unbracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (label, port) = match unbracketed {
        Some((address, rest)) if address.parse::<Ipv6Addr>().is_ok() => (address, rest.strip_prefix(':').or(rest.is_empty().then_some(""))),
        Some(_) => return Err(format!("{text:?} has something else than an IPv6 address in brackets")),
        None if text.parse::<Ipv6Addr>().is_ok() => (text, Some("")),
        None => text.split_once(':').map_or((text, Some("")), |(host, port)| (host, Some(port).filter(|port| !port.is_empty()))),
    };
    let port = match port {
        Some("") => Some(PORT),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok().filter(|port| *port > 0),
        _ => None,
    };
    let port = port.ok_or_else(|| format!("{text:?} is no server, expected HOST, HOST:PORT or [IPv6]:PORT with a port from 1 to 65535"))?;
    Ok(Place { label: label.to_owned(), host: host(label)?, port })
}

fn host(text: &str) -> Result<Host, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let address = address.to_canonical();
        let unicast = !address.is_unspecified() && !address.is_multicast();
        return if unicast { Ok(Host::Address(address)) } else { Err(format!("{address} is no unicast address")) };
    }
    let named = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) || !byte.is_ascii());
    let numeric = text.split('.').next_back().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    check_labels(text)?;
    if named && !numeric { Ok(Host::Name(text.to_owned())) } else { Err(format!("{text:?} is neither a host name nor an address")) }
}

fn series(settings: &Settings, interval: Duration, naming: &Naming, target: &Target, place: Place) -> Planned<Job> {
    let Place { label, host, port } = place;
    let family = match host {
        Host::Address(IpAddr::V4(_)) => "ipv4",
        Host::Address(IpAddr::V6(_)) => "ipv6",
        Host::Name(_) => "auto",
    };
    let series = naming.series(target.name.as_deref().unwrap_or(&label), family, &target.tags);
    let job = Job { host, port, tests: tests(settings), interval, load: Load::name(&series) };
    let schedule = settings.phase.schedule(interval, &series);
    Planned { series, schedule, longest: job.longest(), cost: cost(&job), job }
}

fn cost(job: &Job) -> Cost {
    let of = |test: &Test| {
        let bytes_per_packet = DATAGRAM as f64 + HEADERS;
        let packets_per_second = match test.protocol {
            Protocol::Tcp => ASSUMED_RATE / 8.0 / bytes_per_packet,
            Protocol::Udp(rate) => f64::from(test.streams) * rate as f64 / 8.0 / DATAGRAM as f64,
        };
        let packets = packets_per_second * test.time().as_secs_f64();
        (packets, packets * bytes_per_packet)
    };
    let (packets, bytes) = job.tests.iter().map(of).fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let runs_per_second = 1.0 / job.interval.as_secs_f64();
    Cost { packets_per_second: packets * runs_per_second, bytes_per_day: bytes * runs_per_second * 86_400.0 }
}

#[cfg(test)]
mod tests;
