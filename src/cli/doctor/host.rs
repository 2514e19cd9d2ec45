//! What the host gives: receive buffers, iperf3, names, the time. Pure.

use std::net::IpAddr;

use super::check::Check;
use crate::clock::sync::Sync;
use crate::probe::iperf3;
use crate::probe::ping::pace;
use crate::resolve::ResolveError;

/// The receive buffer that qosd asks for, in bytes as `net.core.rmem_max` counts them.
const WANTED_BUFFER: usize = 4 << 20;

/// What the pings of a config need of the host, and what they get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffers {
    /// `net.core.rmem_max`, if it can be read here.
    pub(super) rmem_max: Option<usize>,
    /// What a socket got, if there is one.
    pub(super) granted: Option<usize>,
    /// The most packets a second that the config sends.
    pub(super) rate: f64,
    /// Bytes of the largest payload.
    pub(super) payload: usize,
}

/// Whether a burst of replies finds room while this process stands still for a moment.
pub(super) fn rmem_max(buffers: &Buffers) -> Check {
    const NAME: &str = "rmem_max";
    let Buffers { rmem_max, granted, rate, payload } = *buffers;
    // The kernel doubles what is asked for, as its own data beside each message counts, too.
    let Some(granted) = granted.or_else(|| rmem_max.map(|most| 2 * most.min(WANTED_BUFFER))) else {
        return Check::note(NAME, "net.core.rmem_max cannot be read, and there is no ICMP socket to ask");
    };
    let needed = pace::buffer_for(rate, payload);
    let limit = rmem_max.map_or_else(|| "is not to be seen here".to_owned(), |most| format!("is {most}"));
    let found = format!(
        "net.core.rmem_max {limit}: a socket gets {granted} bytes, and {needed} hold the answers of {} ms at {rate:.0} packets/s, the most that this config sends",
        pace::PAUSE.as_millis()
    );
    if granted >= needed.min(2 * WANTED_BUFFER) {
        return Check::ok(NAME, found);
    }
    let fix = format!(
        "sysctl -w net.core.rmem_max={WANTED_BUFFER}, then restart qosd; to keep it: echo \"net.core.rmem_max = {WANTED_BUFFER}\" > /etc/sysctl.d/61-qosd.conf"
    );
    Check::warn(NAME, found, fix)
}

/// The oldest iperf3 that knows every option that qosd gives it: `--connect-timeout` came with 3.2.
const OLDEST_IPERF3: (u32, u32) = (3, 2);

/// What asking iperf3 for its version gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Iperf3 {
    /// What it printed.
    Says(String),
    /// There is none that can be run.
    Missing(String),
    /// It did not say.
    Silent(String),
}

/// The version in `iperf 3.12 (cJSON 1.7.15)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let word = text.lines().next()?.strip_prefix("iperf ")?.split_whitespace().next()?;
    let mut parts = word.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether there is an iperf3 that qosd can use; `needed` says by what of the config.
pub(super) fn iperf3(found: &Iperf3, needed: &[String]) -> Check {
    const NAME: &str = "iperf3";
    let (what, fix) = match found {
        Iperf3::Missing(why) => (why.clone(), iperf3::engine::FIX),
        Iperf3::Silent(why) => {
            (format!("iperf3 --version: {why}"), "iperf3 --version has to end and to print its version; install another iperf3")
        }
        Iperf3::Says(text) => match version(text) {
            Some(version) if version >= OLDEST_IPERF3 => return Check::ok(NAME, format!("version {}.{}", version.0, version.1)),
            Some((major, minor)) => {
                let (oldest_major, oldest_minor) = OLDEST_IPERF3;
                let what = format!(
                    "version {major}.{minor} is too old, it has no --connect-timeout: {oldest_major}.{oldest_minor} or later is needed"
                );
                (what, "install a later iperf3, e.g. apt-get install iperf3, and look which one is found first: command -v iperf3")
            }
            None => (
                format!("iperf3 --version prints no version: {text:?}"),
                "look what is found: command -v iperf3; then install iperf3, e.g. apt-get install iperf3",
            ),
        },
    };
    match needed {
        [] => Check::note(NAME, format!("{what}; nothing in the config needs it")),
        needed => Check::fail(NAME, format!("{what}; needed by {}", needed.join(", ")), fix),
    }
}

/// What the service's own resolver said to the names of the config.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Each name with its answer.
    pub(super) answers: Vec<(String, Result<IpAddr, ResolveError>)>,
    /// How many names of the config were not asked for.
    pub(super) left_out: usize,
    /// Whether they are of the config; else they stand in.
    pub(super) configured: bool,
    /// The name servers, or why there are none.
    pub(super) servers: Result<Vec<String>, String>,
}

/// The name servers of a resolv.conf.
pub(super) fn name_servers(resolv_conf: &str) -> Vec<String> {
    let words = resolv_conf.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .filter_map(|words| match words[..] {
            ["nameserver", server, ..] => Some(server.to_owned()),
            _ => None,
        })
        .collect()
}

/// Whether names resolve.
pub(super) fn dns(names: &Names) -> Check {
    const NAME: &str = "dns";
    let servers = match &names.servers {
        Err(why) => format!("/etc/resolv.conf cannot be read: {why}"),
        Ok(servers) if servers.is_empty() => "no name server in /etc/resolv.conf".to_owned(),
        Ok(servers) => format!("name servers: {}", servers.join(", ")),
    };
    let failed: Vec<_> = names.answers.iter().filter_map(|(name, answer)| Some((name, answer.as_ref().err()?))).collect();
    let Some((name, error)) = failed.first() else {
        let asked = names.answers.len();
        let left_out = if names.left_out > 0 { format!(", {} not asked for", names.left_out) } else { String::new() };
        return match (names.configured, names.answers.first()) {
            (true, _) => Check::ok(NAME, format!("{asked} of {asked} names of the config resolve{left_out}; {servers}")),
            (false, Some((name, Ok(address)))) => Check::ok(NAME, format!("the config has no name; {name} is {address}; {servers}")),
            (false, _) => Check::note(NAME, format!("the config has no name; {servers}")),
        };
    };
    let fix = match (error, &names.servers) {
        (ResolveError::NoAddress(..), _) => format!("correct {name} in the config, or give it an address in DNS or /etc/hosts"),
        (_, Ok(servers)) if !servers.is_empty() => format!(
            "look whether {} answers (resolvectl query {name}); else correct the nameserver lines of /etc/resolv.conf",
            servers.join(" or ")
        ),
        _ => "put a name server into /etc/resolv.conf, for example: nameserver 192.0.2.53 (the address of yours)".to_owned(),
    };
    let found = format!("{} of {} names do not resolve: {error}; {servers}", failed.len(), names.answers.len());
    if names.configured { Check::fail(NAME, found, fix) } else { Check::warn(NAME, found, fix) }
}

/// Whether the clock is set, as far as the service can know.
pub(super) fn clock(sync: Sync, now: &str) -> Check {
    const NAME: &str = "clock";
    match sync {
        Sync::Synchronised => Check::ok(NAME, format!("synchronised, says systemd-timesyncd; it is {now}")),
        Sync::Untold => {
            Check::note(NAME, format!("taken to be right, as qosd can ask systemd-timesyncd alone, and that does not run; it is {now}"))
        }
        Sync::NotYet => Check::fail(
            NAME,
            format!("not synchronised, says systemd-timesyncd; it is {now}: rows are marked clock=unsynced"),
            "timedatectl set-ntp true; then look why there is no time: timedatectl timesync-status, journalctl -u systemd-timesyncd",
        ),
        Sync::LongAgo => Check::fail(
            NAME,
            format!("not set: it shows {now}, which is before qosd was written; rows are marked clock=unsynced"),
            "timedatectl set-ntp true (or install chrony); at once: date -s \"2026-01-31 12:00:00\" with the time that it is",
        ),
    }
}

#[cfg(test)]
mod tests;
