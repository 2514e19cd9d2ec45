//! Scenarios of `tests/data/ping`: targets that answer by rule, and what every row must say of them.
//!
//! A scenario names the probe's settings and its cases. Each case is one target of each family with a rule, and what is
//! expected of its first row; beyond that *every* row must agree with what the responder has logged. N numbers are those
//! of the list of faults.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::bed::daemon::Home;
use crate::bed::eventually;
use crate::bed::net::Namespace;
use crate::bed::responder::Responder;
use crate::bed::responder::log::{Counts, Entry, Fate, Log, round_trips, truth};
use crate::bed::responder::rule::{Rule, Span};
use crate::bed::rows::Exported;

/// What a file of `tests/data/ping` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// As in the config, without the targets.
    probe: toml::Table,
    case: Vec<Case>,
}

/// One target of each family.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What is shown, for people.
    about: String,
    /// 4 or 6, if the other has no such thing.
    only: Option<u8>,
    #[serde(default)]
    rule: Rule,
    /// Fields of the first row, and their values.
    #[serde(default)]
    row: BTreeMap<String, Value>,
    /// Words in the row's error.
    #[serde(default)]
    error: String,
    /// The least and the greatest of its round trips.
    rtt: Option<[Span; 2]>,
}

/// How much longer than the rule's delay a round trip may be: the responder's own wake-ups on a busy machine.
const SLACK_MS: f64 = 20.0;
/// How far from the truth a round trip may be: the responder may be interrupted between its clock and its write.
const EXACTLY_MS: f64 = 1.0;

impl Scenario {
    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ping").join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The targets, and the case that each belongs to.
    fn targets(&self) -> Vec<(IpAddr, &Case)> {
        let families = |number: usize| [format!("10.78.0.{number}"), format!("fd78::{number}")];
        let addresses = self.case.iter().enumerate().flat_map(|(index, case)| families(index + 1).map(|address| (address, case)));
        let addresses = addresses.map(|(address, case)| (address.parse::<IpAddr>().expect("it is built above"), case));
        addresses.filter(|(address, case)| case.only.is_none_or(|only| (only == 4) == address.is_ipv4())).collect()
    }

    fn config(&self) -> String {
        let hosts: Vec<_> = self.targets().iter().map(|(address, _)| address.to_string()).collect();
        format!("[ping.scenario]\ntargets = {hosts:?}\n{}", toml::to_string(&self.probe).expect("it was read from TOML"))
    }

    fn timeout(&self) -> Duration {
        let text = self.probe["timeout"].as_str().expect("a scenario names its time-out");
        humantime::parse_duration(text).expect("a duration as in the config")
    }
}

/// Runs a scenario until every target has its first row.
fn play(name: &str) {
    let scenario = Scenario::read(name);
    let targets = scenario.targets();
    let namespace = Namespace::new();
    let responder = Responder::start(&namespace, targets.iter().map(|(address, case)| (*address, case.rule.clone())).collect());
    let home = Home::new(&scenario.config());
    let running = home.start_in(&namespace);
    eventually(Duration::from_secs(20), || {
        let rows = measured(&home);
        let missing = targets.iter().find(|(address, _)| first(&rows, *address).is_none());
        missing.map_or(Ok(()), |(address, _)| Err(format!("no row of {address}")))
    });
    running.stop();
    let untrue = untrue(&responder.stop(), &home.probe_rows(), scenario.timeout());
    let rows = measured(&home);
    let wrong: Vec<_> = targets.iter().flat_map(|(address, case)| case.complaints(*address, &rows)).chain(untrue).collect();
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
}

/// The rows of runs that were not cut short, oldest first.
pub(crate) fn measured(home: &Home) -> Vec<Exported> {
    home.probe_rows().into_iter().filter(|row| row.integer("ping_sent").is_some()).collect()
}

fn first(rows: &[Exported], address: IpAddr) -> Option<&Exported> {
    rows.iter().find(|row| row.tag("target") == address.to_string())
}

impl Case {
    /// What is wrong with the first row of its target.
    fn complaints(&self, address: IpAddr, rows: &[Exported]) -> Vec<String> {
        let row = first(rows, address).expect("every target has a row");
        let mut wrong: Vec<_> = self.row.iter().filter_map(|(name, wanted)| differs(row, name, wanted)).collect();
        if !row.text("error").contains(&self.error) {
            wrong.push(format!("error is not about {:?}", self.error));
        }
        if let Some([least, most]) = self.rtt {
            let [least, most] = [least, most].map(|span| span.0.as_secs_f64() * 1e3);
            let [min, max] = ["ping_min_ms", "ping_max_ms"].map(|name| row.float(name).unwrap_or(f64::NAN));
            if !(least <= min && min < least + SLACK_MS && most <= max && max < most + SLACK_MS) {
                wrong.push(format!("round trips are from {min} to {max} ms, not from {least} to {most}"));
            }
        }
        wrong.into_iter().map(|wrong| format!("{}, {address}: {wrong}: {row:?}", self.about)).collect()
    }
}

/// A field that is not as expected; `"absent"` if it must not be there.
fn differs(row: &Exported, name: &str, wanted: &Value) -> Option<String> {
    let found = row.fields.get(name);
    let right = match (found, wanted) {
        (None, wanted) => wanted == "absent",
        (Some(found), wanted) => match (found.as_f64(), wanted.as_f64()) {
            (Some(found), Some(wanted)) => (found - wanted).abs() < 1e-9,
            _ => found == wanted,
        },
    };
    (!right).then(|| format!("{name} is {found:?}, not {wanted}"))
}

/// Every row that does not say what the responder did.
pub(crate) fn untrue(log: &Log, rows: &[Exported], timeout: Duration) -> Vec<String> {
    log.by_run(rows).into_iter().filter_map(|(row, run)| compare(row, &run, timeout).err()).collect()
}

/// Whether a row says of its run what the responder did.
pub(crate) fn compare(row: &Exported, run: &[&Entry], timeout: Duration) -> Result<(), String> {
    let reported = Counts::reported(row)?;
    let mut right = truth(run, timeout)?.with_unsent(reported.of(Fate::LocalError));
    if right.of(Fate::Late) > 0 {
        // Whether one that is lost for being late has also been reordered is a matter of words.
        right.reordered = reported.reordered;
    }
    if right != reported {
        return Err(format!("true is {right:?}, but the row says {reported:?}: {row:?}"));
    }
    // Where this host has dropped replies, nobody knows which.
    if right.of(Fate::Received) == 0 || reported.of(Fate::LocalDrop) > 0 { Ok(()) } else { compare_trips(row, &round_trips(run, timeout)) }
}

/// Whether the round trips are those that the kernel's stamp of each request and the write of its reply make.
fn compare_trips(row: &Exported, trips: &[f64]) -> Result<(), String> {
    let (least, most) = trips.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), trip| (least.min(*trip), most.max(*trip)));
    let mean = trips.iter().sum::<f64>() / trips.len() as f64;
    for (name, right) in [("ping_min_ms", least), ("ping_avg_ms", mean), ("ping_max_ms", most)] {
        let said = row.float(name);
        if said.is_none_or(|said| (said - right).abs() > EXACTLY_MS) {
            return Err(format!("{name} is {said:?}, not {right}: {row:?}"));
        }
    }
    Ok(())
}

/// A test for each file, and one that no file is forgotten.
macro_rules! scenarios {
    ($($name:ident: $file:literal,)*) => {
        $(#[test]
        fn $name() {
            play($file);
        })*

        #[test]
        fn every_scenario_has_its_test() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ping");
            let files = std::fs::read_dir(folder).expect("the folder is part of the project");
            let mut files: Vec<_> = files.map(|file| file.expect("it can be read").file_name().into_string().expect("ASCII")).collect();
            files.sort_unstable();
            assert_eq!(files, [$($file),*]);
        }
    };
}

scenarios! {
    damaged_and_malformed_replies_are_no_answer: "damaged.toml",
    a_damaged_reply_beside_the_right_one_does_no_harm: "damaged_and_answered.toml",
    delays_are_measured_as_they_are: "delays.toml",
    copies_count_once_and_order_costs_nothing: "duplicates_and_order.toml",
    every_icmp_error_is_told_by_its_own_name: "errors_ipv4.toml",
    every_icmpv6_error_is_told_by_its_own_name: "errors_ipv6.toml",
    forged_replies_are_not_believed: "forged.toml",
    late_replies_are_no_success_and_credited_to_no_other_packet: "late.toml",
    loss_is_exactly_what_was_lost: "loss.toml",
    errors_about_other_packets_are_ignored: "misquoted.toml",
    messages_that_are_no_answer_are_ignored: "other_messages.toml",
}
