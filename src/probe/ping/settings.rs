//! `[ping.NAME]`: what the config says of a ping probe, and the series that it makes.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::packet::{self, Family, ICMP_HEADER, IPV4_HEADER, IPV6_HEADER, MIN_PAYLOAD};
use crate::probe::schedule::Phase;
use crate::probe::target::{Target, check_labels};
use crate::probe::{Cost, Naming, Planned};
use crate::resolve;
use crate::settings::units::{self, show_duration};
use crate::settings::{KeyProblem, out_of_range};

/// The longest payload that an IPv4 packet holds.
const MAX_PAYLOAD: u32 = 65_507;
/// A run ends this long after all its waiting, however slow the host is.
const MARGIN: Duration = Duration::from_secs(2);

/// `[ping.NAME]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    targets: Vec<Target>,
    #[serde(with = "units::duration")]
    interval: Duration,
    count: u32,
    #[serde(with = "units::duration")]
    spacing: Duration,
    #[serde(with = "units::duration")]
    timeout: Duration,
    family: FamilyChoice,
    size: u32,
    warmup: u32,
    phase: Phase,
    #[serde(skip_serializing_if = "Option::is_none")]
    dscp: Option<Dscp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u8>,
    dont_fragment: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            interval: Duration::from_mins(1),
            count: 5,
            spacing: Duration::from_millis(200),
            timeout: Duration::from_secs(1),
            family: FamilyChoice::Auto,
            size: 56,
            warmup: 0,
            phase: Phase::Spread,
            dscp: None,
            ttl: None,
            dont_fragment: false,
            source: None,
            interface: None,
        }
    }
}

/// Which protocol a probe speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum FamilyChoice {
    /// That of the literal; for a name IPv4, and IPv6 if it has no such address.
    Auto,
    Ipv4,
    Ipv6,
    /// A series each.
    Both,
}

/// A DSCP by name (RFC 2474, 2597, 3246, 8622) or number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
struct Dscp(String);

const DSCP_NAMES: &[(&str, u8)] = &[
    ("cs0", 0),
    ("le", 1),
    ("cs1", 8),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("cs2", 16),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("cs3", 24),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("cs4", 32),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("cs5", 40),
    ("va", 44),
    ("ef", 46),
    ("cs6", 48),
    ("cs7", 56),
];

impl Dscp {
    fn code(&self) -> Option<u8> {
        let named = DSCP_NAMES.iter().find(|(name, _)| *name == self.0.to_ascii_lowercase()).map(|(_, code)| *code);
        named.or_else(|| self.0.parse().ok().filter(|code| *code < 64))
    }
}

/// Whom a run pings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name, resolved at every run.
    Name(String, resolve::Wanted),
}

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Whom.
    pub host: Host,
    /// How many packets count.
    pub count: u32,
    /// How many are sent first and do not.
    pub warmup: u32,
    /// From packet to packet.
    pub spacing: Duration,
    /// How long to wait for a reply.
    pub timeout: Duration,
    /// Bytes of payload.
    pub size: usize,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// TOS byte or traffic class.
    pub traffic_class: Option<u8>,
    /// Never fragment.
    pub whole: bool,
    /// Source address.
    pub source: Option<IpAddr>,
    /// Interface, by name.
    pub interface: Option<String>,
}

/// The series that a probe's table asks for.
pub fn plan(settings: &Settings, naming: &Naming) -> Result<Vec<Planned<Job>>, Vec<KeyProblem>> {
    let mut problems = check(settings);
    let mut all = Vec::new();
    for (index, target) in settings.targets.iter().enumerate() {
        match hosts(settings, target) {
            Ok(hosts) => all.extend(hosts.into_iter().map(|(family, host)| (target, family, host))),
            Err(message) => problems.push(KeyProblem::new(format!("targets[{index}]"), message)),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(all.into_iter().map(|(target, family, host)| series(settings, naming, target, family, host)).collect())
}

fn check(settings: &Settings) -> Vec<KeyProblem> {
    let s = settings;
    let mut problems: Vec<KeyProblem> = [
        out_of_range("interval", &s.interval, &(Duration::from_secs(1)..=Duration::from_hours(24)), show_duration),
        out_of_range("count", &s.count, &(1..=100_000), u32::to_string),
        out_of_range("spacing", &s.spacing, &(Duration::from_millis(10)..=Duration::from_hours(1)), show_duration),
        out_of_range("timeout", &s.timeout, &(Duration::from_millis(1)..=Duration::from_mins(1)), show_duration),
        out_of_range("size", &s.size, &(MIN_PAYLOAD as u32..=MAX_PAYLOAD), u32::to_string),
        out_of_range("warmup", &s.warmup, &(0..=100), u32::to_string),
        out_of_range("ttl", &s.ttl.unwrap_or(64), &(1..=255), u8::to_string),
    ]
    .into_iter()
    .flatten()
    .collect();
    if s.targets.is_empty() {
        problems.push(KeyProblem::new("targets", "is missing or empty, expected at least one host or address"));
    }
    let packets = s.warmup.saturating_add(s.count);
    if problems.is_empty() && s.spacing.saturating_mul(packets) > s.interval {
        let (needed, interval) = (show_duration(&s.spacing.saturating_mul(packets)), show_duration(&s.interval));
        problems.push(KeyProblem::new("count", format!("{packets} packets take {needed}, allowed is at most the interval of {interval}")));
    }
    if let Some(Dscp(name)) = s.dscp.as_ref().filter(|dscp| dscp.code().is_none()) {
        problems.push(KeyProblem::new(
            "dscp",
            format!("{name:?} is not known, allowed are 0 to 63 and names such as \"ef\", \"af41\", \"cs6\""),
        ));
    }
    if let Some(name) = s.interface.as_ref().filter(|name| name.is_empty() || name.len() > 15 || name.contains(['/', ' ', '\0'])) {
        problems.push(KeyProblem::new("interface", format!("{name:?} is no interface name, expected one such as \"eth0\"")));
    }
    problems
}

/// Whom a target means, by family.
fn hosts(settings: &Settings, target: &Target) -> Result<Vec<(&'static str, Host)>, String> {
    target.check()?;
    let choice = settings.family;
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return literal(settings, packet::canonical(address)).map(|host| vec![host]);
    }
    if target.host.contains([':', '/', '[', ']', '%', '@']) {
        return Err(format!("{:?} is neither a host name nor an address; for a zone use `interface`", target.host));
    }
    let looks_numeric = target.host.split('.').next_back().is_some_and(|last| !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()));
    if looks_numeric {
        return Err(format!("{:?} is not an address and cannot be a host name", target.host));
    }
    check_labels(&target.host)?;
    let name = |wanted| Host::Name(target.host.clone(), wanted);
    let source = settings.source.map(Family::of);
    let hosts = match (choice, source) {
        (FamilyChoice::Auto, None) => vec![("auto", name(resolve::Wanted::Any))],
        (FamilyChoice::Auto, Some(Family::V4)) => vec![("auto", name(resolve::Wanted::V4))],
        (FamilyChoice::Auto, Some(Family::V6)) => vec![("auto", name(resolve::Wanted::V6))],
        (FamilyChoice::Ipv4, None | Some(Family::V4)) => vec![("ipv4", name(resolve::Wanted::V4))],
        (FamilyChoice::Ipv6, None | Some(Family::V6)) => vec![("ipv6", name(resolve::Wanted::V6))],
        (FamilyChoice::Both, None) => vec![("ipv4", name(resolve::Wanted::V4)), ("ipv6", name(resolve::Wanted::V6))],
        (_, Some(_)) => return Err("the probe's `source` is of the other family".to_owned()),
    };
    Ok(hosts)
}

fn literal(settings: &Settings, address: IpAddr) -> Result<(&'static str, Host), String> {
    if let Some(what) = packet::refused_destination(address) {
        return Err(format!("{address} is {what}, allowed are unicast addresses"));
    }
    let family = Family::of(address);
    let (word, other) = match family {
        Family::V4 => ("ipv4", FamilyChoice::Ipv6),
        Family::V6 => ("ipv6", FamilyChoice::Ipv4),
    };
    if settings.family == other {
        return Err(format!("{address} is {word}, but the probe's `family` is the other"));
    }
    if settings.source.is_some_and(|source| Family::of(source) != family) {
        return Err(format!("{address} is {word}, but the probe's `source` is not"));
    }
    Ok((word, Host::Address(address)))
}

fn series(settings: &Settings, naming: &Naming, target: &Target, family: &'static str, host: Host) -> Planned<Job> {
    let series = naming.series(target.label(), family, &target.tags);
    let schedule = settings.phase.schedule(settings.interval, &series);
    let packets = settings.warmup + settings.count;
    let header = ICMP_HEADER + if family == "ipv6" { IPV6_HEADER } else { IPV4_HEADER };
    let per_second = f64::from(packets) / settings.interval.as_secs_f64();
    let job = Job {
        host,
        count: settings.count,
        warmup: settings.warmup,
        spacing: settings.spacing,
        timeout: settings.timeout,
        size: settings.size as usize,
        ttl: settings.ttl,
        traffic_class: settings.dscp.as_ref().and_then(Dscp::code).map(|code| code << 2),
        whole: settings.dont_fragment,
        source: settings.source,
        interface: settings.interface.clone(),
    };
    Planned {
        series,
        schedule,
        longest: job.longest(),
        cost: Cost { packets_per_second: per_second, bytes_per_day: per_second * 2.0 * (header + job.size) as f64 * 86_400.0 },
        job,
    }
}

impl Job {
    /// The longest that a run may take: the look-up, all packets, the last reply, and a slow host.
    pub fn longest(&self) -> Duration {
        let lookup = if matches!(self.host, Host::Name(..)) { resolve::DEADLINE } else { Duration::ZERO };
        lookup + self.spacing * (self.warmup + self.count) + self.timeout + MARGIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::ping::Ping;
    use crate::probe::{AnyKind, Assignment, Member, Reading};

    fn read(toml: &str) -> Result<Reading, Vec<KeyProblem>> {
        let file = config::File::from_str(toml, config::FileFormat::Toml);
        Member::<Ping>::NEW.read("rome-1", "core", config::Source::collect(&file).unwrap().into())
    }

    fn assignments(toml: &str) -> Vec<std::sync::Arc<Assignment>> {
        read(toml).unwrap_or_else(|problems| panic!("{problems:?}")).assignments
    }

    fn problems(toml: &str) -> Vec<String> {
        let problems = read(toml).err().unwrap_or_default();
        problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
    }

    fn families(toml: &str) -> Vec<(String, Host)> {
        let family = |assignment: &Assignment| assignment.series.tag("family").unwrap().to_owned();
        let host = |assignment: &Assignment| assignment.job::<Job>().unwrap().host.clone();
        assignments(toml).iter().map(|assignment| (family(assignment), host(assignment))).collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let all = assignments("targets = ['192.0.2.1']");
        let job = all[0].job::<Job>().unwrap();
        assert_eq!((job.count, job.spacing, job.timeout, job.size), (5, Duration::from_millis(200), Duration::from_secs(1), 56));
        assert_eq!((job.warmup, job.ttl, job.traffic_class, job.whole), (0, None, None, false));
        assert_eq!(all[0].schedule.interval(), Duration::from_mins(1));
        let tags: Vec<_> = all[0].series.tags().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(tags, ["family=ipv4", "kind=ping", "probe=core", "source=rome-1", "target=192.0.2.1"]);
    }

    #[test]
    fn a_target_has_the_family_it_shows_or_is_given() {
        let name = |wanted| Host::Name("host.example".to_owned(), wanted);
        let pair = |family: &str, host| (family.to_owned(), host);
        assert_eq!(families("targets = ['host.example']"), [pair("auto", name(resolve::Wanted::Any))]);
        assert_eq!(families("targets = ['host.example']\nfamily = 'ipv6'"), [pair("ipv6", name(resolve::Wanted::V6))]);
        let both = [pair("ipv4", name(resolve::Wanted::V4)), pair("ipv6", name(resolve::Wanted::V6))];
        assert_eq!(families("targets = ['host.example']\nfamily = 'both'"), both);
        let mapped = families("targets = ['::ffff:192.0.2.1']");
        assert_eq!(mapped, [pair("ipv4", Host::Address("192.0.2.1".parse().unwrap()))], "a mapped address is what it maps");
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_its_place() {
        let table = [
            ("targets = []", "targets: is missing or empty, expected at least one host or address"),
            ("targets = ['224.0.0.1']", "targets[0]: 224.0.0.1 is a multicast address, allowed are unicast addresses"),
            ("targets = ['a.example', '1.2.3.400']", "targets[1]: \"1.2.3.400\" is not an address and cannot be a host name"),
            ("targets = ['a..b']", "targets[0]: \"a..b\" is no host name: nothing stands between two of its dots, or before the first"),
            (
                "targets = ['fe80::1%eth0']",
                "targets[0]: \"fe80::1%eth0\" is neither a host name nor an address; for a zone use `interface`",
            ),
            ("targets = ['::1']\nfamily = 'ipv4'", "targets[0]: ::1 is ipv6, but the probe's `family` is the other"),
            ("targets = ['::1']\nsource = '192.0.2.1'", "targets[0]: ::1 is ipv6, but the probe's `source` is not"),
            ("targets = ['a.example']\ncount = 301", "count: 301 packets take 1m200ms, allowed is at most the interval of 1m"),
            (
                "targets = ['a.example']\ndscp = 'gold'",
                "dscp: \"gold\" is not known, allowed are 0 to 63 and names such as \"ef\", \"af41\", \"cs6\"",
            ),
            ("targets = ['a.example']\ninterval = '0s'", "interval: 0s is out of range, allowed is 1s to 1d"),
            ("targets = ['a.example']\nspacing = '1ms'", "spacing: 1ms is out of range, allowed is 10ms to 1h"),
            ("targets = ['a.example']\nsize = 4", "size: 4 is out of range, allowed is 8 to 65507"),
            ("targets = ['a.example']\ncount = 4294967295\nwarmup = 1", "count: 4294967295 is out of range, allowed is 1 to 100000"),
            ("targets = ['a.example']\nttl = 0", "ttl: 0 is out of range, allowed is 1 to 255"),
        ];
        for (toml, expected) in table {
            assert_eq!(problems(toml), [expected], "{toml}");
        }
    }

    #[test]
    fn a_stream_fills_its_interval() {
        let stream = assignments("targets = ['192.0.2.1']\ninterval = '60s'\ncount = 600\nspacing = '100ms'");
        assert!((stream[0].cost.packets_per_second - 10.0).abs() < 1e-9);
        // Request and reply of 20 + 8 + 56 bytes.
        assert!((stream[0].cost.bytes_per_day - 10.0 * 2.0 * 84.0 * 86_400.0).abs() < 1e-3);
    }

    #[test]
    fn dscp_is_the_upper_six_bits() {
        for (dscp, class) in [("ef", 0xb8), ("EF", 0xb8), ("46", 0xb8), ("cs6", 0xc0), ("0", 0)] {
            let all = assignments(&format!("targets = ['192.0.2.1']\ndscp = '{dscp}'"));
            assert_eq!(all[0].job::<Job>().unwrap().traffic_class, Some(class), "{dscp}");
        }
    }

    #[test]
    fn series_are_spread_over_the_interval_and_stay_where_they_are() {
        let targets: Vec<String> = (1..=200).map(|n| format!("'192.0.2.{n}'")).collect();
        let toml = format!("targets = [{}]", targets.join(","));
        let phases = |toml: &str| assignments(toml).iter().map(|assignment| assignment.schedule.phase()).collect::<Vec<_>>();
        let spread = phases(&toml);
        assert_eq!(spread, phases(&toml));
        for quarter in 0..4 {
            let here = |phase: &&Duration| phase.as_secs() / 15 == quarter;
            assert!(spread.iter().filter(here).count() > 30, "quarter {quarter}");
        }
        assert!(phases(&format!("{toml}\nphase = 'aligned'")).iter().all(Duration::is_zero));
    }

    #[test]
    fn equal_settings_make_equal_assignments_and_others_do_not() {
        let one = |more: &str| assignments(&format!("targets = ['192.0.2.1']\n{more}")).remove(0);
        assert_eq!(one(""), one("count = 5"));
        assert_ne!(one(""), one("count = 6"));
        assert_ne!(one(""), one("interval = '2m'"));
    }
}
