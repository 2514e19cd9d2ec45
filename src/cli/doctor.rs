//! `qosd doctor`: every permission and dependency of the service, and for each that is missing the exact fix.
//!
//! Nothing is changed, and no row is left anywhere: packets go to this host's own loopback alone, and to an output goes a
//! write without a row. Whatever hangs, each look has a deadline. [`check`] is what a check is; the other modules make one of
//! what was found, and `look` and `ask` find it.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use actix_rt::System;

use super::check::plural;
use super::{FAILED, OK, oneshot};
use crate::clock::sync;
use crate::config::{self, Config, Env, Problems, Whereabouts};
use crate::probe::iperf3::Iperf3;
use crate::probe::ping::packet::Family;
use crate::probe::{KINDS, Kind};
use check::{Check, State};
use icmp::Stamps;
use look::Person;
use unit::Found;

mod ask;
mod away;
mod check;
mod data;
mod files;
mod host;
mod icmp;
mod look;
mod stored;
mod unit;

/// The check of the config.
const CONFIG: &str = "config";
/// How long reading of files may take, be they on a file system that does not answer.
const FILES: Duration = Duration::from_secs(5);

/// Looks at everything, shows it, and gives the exit status: 0 if nothing failed.
pub(super) fn run(config: &Path, env: &Env) -> anyhow::Result<u8> {
    let system = System::new();
    let checks = system.block_on(examine(config, env));
    // A thread that waits for a file system or for the C library's look-up of a name cannot be ended, and is not waited for.
    std::mem::forget(system);
    let mut out = std::io::stdout().lock();
    let text = if out.is_terminal() { check::table(&checks) } else { check::plain(&checks) };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever closed the pipe wanted no more.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ if checks.iter().any(|check| check.state() == State::Fail) => Ok(FAILED),
        _ => Ok(OK),
    }
}

/// Every check, in the order in which they are shown.
async fn examine(path: &Path, env: &Env) -> Vec<Check> {
    let shared = oneshot::shared();
    let (file, given) = (path.to_owned(), env.clone());
    let read = look::within(FILES, move || {
        let loaded = config::load(&file, KINDS, &given).map_err(|problems| wrong(&file, &problems, matches!(file.try_exists(), Ok(false))));
        (loaded, config::whereabouts(&file, &given).ok())
    });
    let (loaded, whereabouts) = match read.await {
        Ok(read) => read,
        Err(why) => (Err(Check::fail(CONFIG, format!("{}: {why}", path.display()), "look whether its file system answers")), None),
    };
    let config = loaded.as_ref().ok();
    let unit = ask::unit().await;
    let person = look::person(&unit).await;
    let (pings, iperf3, names, outputs) =
        tokio::join!(ask::pings(&shared), ask::iperf3(), ask::names(config, &shared), ask::outputs(config, &shared.clock));
    let data = look::folder(whereabouts.as_ref(), config, &person);
    let (data, files, asked) = tokio::join!(data, look::files(path, config, &person), ask::service(path, env));
    let stored = look::stored(whereabouts.as_ref(), config, asked.report()).await;

    let mut checks = vec![person.check(), loaded.as_ref().map_or_else(Clone::clone, |config| good(path, config))];
    checks.push(files);
    checks.extend(rights(&unit, &person, &pings, &data_dir(whereabouts.as_ref())));
    checks.push(host::rmem_max(&look::buffers(config)));
    checks.push(host::iperf3(&iperf3, &config.map(needs_iperf3).unwrap_or_default()));
    checks.push(host::dns(&names));
    let now = shared.clock.now().unix;
    checks.push(host::clock(sync::look(now), &now.to_string()));
    checks.push(data);
    checks.extend(stored);
    checks.push(asked.check());
    checks.extend(outputs);
    checks
}

/// What the right to send ICMP rests on.
fn rights(unit: &Found, person: &Person, pings: &[(Family, Stamps)], data_dir: &Path) -> Vec<Check> {
    let (sockets, groups) = (look::sockets(), look::groups(person));
    let program = std::env::current_exe().map_or_else(|_| "/usr/bin/qosd".to_owned(), |path| path.display().to_string());
    let held = look::capabilities();
    let mut checks = vec![unit::judge(unit, person.unit, groups.open_to_the_unit(), data_dir)];
    checks.push(icmp::capabilities(held.as_deref().map_err(String::as_str), &sockets, &program));
    checks.extend(icmp::sockets(&sockets, &program));
    checks.push(icmp::ping_group_range(&groups, &sockets));
    checks.extend(pings.iter().map(|(family, stamps)| icmp::time_stamps(*family, stamps)));
    checks
}

/// A config in which nothing is wrong.
fn good(path: &Path, config: &Config) -> Check {
    let outputs = config.influxdb.len() + usize::from(config.mesh.is_some());
    let count = |word: &str, n: usize| format!("{n} {}", plural(word, n));
    let (probes, outputs) = (count("probe", config.probes), count("output", outputs));
    let found = format!("{}: agent {}, {probes}, {} series, {outputs}", path.display(), config.agent.name, config.assignments.len());
    Check::ok(CONFIG, found)
}

/// The first of its problems, and how to see all.
fn wrong(path: &Path, problems: &Problems, is_missing: bool) -> Check {
    let first = problems.iter().next().map(ToString::to_string).unwrap_or_default();
    let path = path.display();
    if is_missing {
        return Check::fail(
            CONFIG,
            first,
            format!("write {path} ([ping.NAME] with targets is enough), or name another: qosd doctor --config FILE"),
        );
    }
    let more = match problems.iter().len() {
        0 | 1 => String::new(),
        all => format!(" (and {} more)", all - 1),
    };
    Check::fail(CONFIG, format!("{first}{more}"), format!("correct it, and look at all: qosd check --config {path}"))
}

/// What of the config runs iperf3.
fn needs_iperf3(config: &Config) -> Vec<String> {
    let probes = config.assignments.iter().filter(|assignment| assignment.kind == Iperf3::NAME);
    let mut needed: Vec<_> =
        probes.map(|assignment| format!("{}.{}", Iperf3::NAME, assignment.series.tag("probe").unwrap_or_default())).collect();
    needed.dedup();
    needed.extend(config.iperf3_server.is_some().then(|| "iperf3_server".to_owned()));
    needed
}

/// Where the journal is, as far as that can be known.
fn data_dir(whereabouts: Option<&Whereabouts>) -> std::path::PathBuf {
    whereabouts.map_or_else(|| "/var/lib/qosd".into(), |there| there.data_dir.clone())
}
