//! Every rule mixed over many targets: what the responder did against what the rows say, packet by packet.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use crate::bed::daemon::{Home, Running};
use crate::bed::net::Namespace;
use crate::bed::responder::Responder;
use crate::bed::responder::log::{Counts, Fate, Log, truth};
use crate::bed::responder::rule::Rule;
use crate::bed::rows::Exported;
use crate::bed::{eventually, proving, short_or_long, told};
use crate::ping_scenarios::{compare, measured};

const TIMEOUT: Duration = Duration::from_millis(300);

/// What targets do; each in IPv4 and in IPv6. Those that come late do so clearly before the end of a run, or clearly after.
const RULES: [&str; 20] = [
    "",
    "delays = ['5ms']",
    "delays = ['1ms', '30ms', '2ms', '200ms']",
    "except = [{ every = 10 }]",
    "except = [{ every = 3 }]",
    "except = [{ acts = [] }]",
    "except = [{ every = 4, acts = ['genuine', 'genuine', 'genuine'] }]",
    "except = [{ every = 5, acts = [{ held = '70ms' }] }]",
    "except = [{ every = 50, acts = [{ held = '390ms' }] }]",
    "except = [{ every = 7, acts = ['damaged_byte'] }]",
    "except = [{ every = 6, acts = ['bad_checksum'] }]",
    "except = [{ every = 5, acts = [{ cut_to = 24 }] }, { every = 3, acts = [{ cut_to = 5 }] }]",
    "except = [{ every = 4, acts = [{ guesses = 5 }] }, { every = 3, acts = [{ guesses = 5 }, 'genuine'] }]",
    "except = [{ every = 4, acts = ['other_source'] }, { every = 3, acts = ['shifted'] }, { every = 5, acts = ['other_sequence', 'genuine'] }]",
    "except = [{ every = 4, acts = [ERROR] }]",
    "except = [{ acts = [ERROR] }]",
    "except = [{ every = 4, acts = [MISQUOTED] }, { every = 3, acts = [MISQUOTED, 'genuine'] }]",
    "except = [{ every = 2, acts = [{ other = 100 }, 'genuine'] }, { every = 3, acts = [{ total_length = -3 }, 'longer'] }]",
    "delays = ['12ms'], except = [{ every = 50, acts = [{ held = '390ms' }] }, { every = 7, acts = [] }, { every = 9, acts = ['damaged_byte'] }, { every = 11, acts = [ERROR] }, { every = 13, acts = ['genuine', 'genuine'] }, { every = 6, acts = [{ held = '45ms' }] }]",
    "except = [{ every = 3, acts = ['options'] }, { every = 5, acts = [{ guesses = 2 }, 'genuine', 'shifted', 'genuine'] }]",
];

fn rule(text: &str, family: usize) -> Rule {
    let error = |quote: &str| format!("{{ error = {{ type = {}, code = 1, quote = '{quote}' }} }}", [3, 1][family]);
    let text = text.replace("MISQUOTED", &error("other_sequence")).replace("ERROR", &error("whole"));
    let table: HashMap<String, Rule> = toml::from_str(&format!("rule = {{ {text} }}")).unwrap_or_else(|error| panic!("{text}: {error}"));
    table["rule"].clone()
}

/// So many targets of both families, the rules in turn.
fn rules(targets: usize) -> HashMap<IpAddr, Rule> {
    let target = |number: usize| {
        let address = if number.is_multiple_of(2) { format!("10.78.1.{}", number / 2) } else { format!("fd78::1:{}", number / 2) };
        (address.parse().expect("it is built here"), rule(RULES[number / 2 % RULES.len()], number % 2))
    };
    (0..targets).map(target).collect()
}

/// A probe of all these targets.
fn config<'a>(targets: impl IntoIterator<Item = &'a IpAddr>, settings: &str) -> String {
    let hosts: Vec<_> = targets.into_iter().map(ToString::to_string).collect();
    format!("[ping.many]\ntargets = {hosts:?}\ntimeout = \"300ms\"\n{settings}\n")
}

/// What was done, by what was said: the diagonal is right.
#[derive(Default)]
struct Matrix([[u64; 7]; 7]);

impl Matrix {
    /// Adds a run. Rows say how many met each fate and not which: what both agree on is right, and what is too much of one
    /// stands for what is missing of another.
    fn add(&mut self, right: &Counts, said: &Counts) {
        let (mut missing, mut extra) = (right.fates, said.fates);
        for fate in 0..7 {
            let both = missing[fate].min(extra[fate]);
            self.take(fate, fate, both, &mut missing, &mut extra);
        }
        for (done, told) in (0..7).flat_map(|done| (0..7).map(move |told| (done, told))) {
            let these = missing[done].min(extra[told]);
            self.take(done, told, these, &mut missing, &mut extra);
        }
    }

    fn take(&mut self, done: usize, told: usize, these: u64, missing: &mut [u64; 7], extra: &mut [u64; 7]) {
        self.0[done][told] += these;
        missing[done] -= these;
        extra[told] -= these;
    }

    fn is_diagonal(&self) -> bool {
        self.0.iter().enumerate().all(|(done, row)| row.iter().enumerate().all(|(told, count)| done == told || *count == 0))
    }

    fn show(&self) -> String {
        let names = Fate::ALL.map(|fate| format!("{fate:?}"));
        let mut text = format!("{:>11}", "done \\ said");
        for name in &names {
            _ = write!(text, "{name:>11}");
        }
        for (name, row) in names.iter().zip(self.0) {
            _ = write!(text, "\n{name:>11}");
            for count in row {
                _ = write!(text, "{count:>11}");
            }
        }
        text
    }
}

/// Compares every row with the log: the matrix, and what is wrong.
fn judge(log: &Log, rows: &[Exported]) -> (Matrix, Counts, Vec<String>) {
    let (mut matrix, mut sum, mut wrong) = (Matrix::default(), Counts::default(), Vec::new());
    for (row, run) in log.by_run(rows) {
        match (truth(&run, TIMEOUT), Counts::reported(row)) {
            (Ok(right), Ok(said)) => {
                let right = right.with_unsent(said.of(Fate::LocalError));
                matrix.add(&right, &said);
                sum += &said;
                wrong.extend(compare(row, &run, TIMEOUT).err());
            }
            (Err(why), _) | (_, Err(why)) => wrong.push(why),
        }
    }
    (matrix, sum, wrong)
}

/// Runs a probe until its rows are about so many packets; looks at them only when as many have been seen.
fn until_measured(home: &Home, running: Running, responder: Responder, packets: u64) -> (Vec<Exported>, Log) {
    let limit = Duration::from_secs(short_or_long(60, 300));
    let enough = packets + packets / 10;
    eventually(limit, || match responder.look(|log| log.entries.len() as u64) {
        seen if seen >= enough => Ok(()),
        seen => Err(format!("{seen} packets seen, {enough} wanted")),
    });
    eventually(limit, || {
        let sent: i64 = measured(home).iter().filter_map(|row| row.integer("ping_sent")).sum();
        if sent as u64 >= packets { Ok(()) } else { Err(format!("rows of {sent} packets")) }
    });
    running.stop();
    (home.probe_rows(), responder.stop())
}

#[test]
fn with_every_rule_mixed_each_packet_has_the_fate_that_it_met() {
    // What a build without optimisation keeps up with: an overflow here would blur who lost what.
    let rules = rules(short_or_long(100, 200));
    let settings = "interval = \"3200ms\"\ncount = 150\nspacing = \"20ms\"";
    let namespace = Namespace::new();
    let home = Home::new(&config(rules.keys(), settings));
    let responder = Responder::start(&namespace, rules);
    let running = home.start_in(&namespace);
    let (rows, log) = until_measured(&home, running, responder, short_or_long(20_000, 1_000_000));
    let (matrix, sum, wrong) = judge(&log, &rows);
    let beside = format!("{} packets, beside {} duplicates and {} reordered", sum.sent, sum.duplicates, sum.reordered);
    told(&format!("{}\n{beside}", matrix.show()));
    assert!(wrong.is_empty(), "{} of {} rows are wrong:\n{}", wrong.len(), rows.len(), wrong[..wrong.len().min(5)].join("\n"));
    assert!(matrix.is_diagonal(), "not diagonal:\n{}", matrix.show());
    assert!([Fate::Received, Fate::Late, Fate::Lost, Fate::IcmpError, Fate::Corrupt].iter().all(|fate| sum.of(*fate) > 0), "{sum:?}");
}

/// (N7)
#[test]
fn of_many_forged_replies_none_is_believed() {
    let forging = "except = [{ every = 5, acts = ['shifted', 'genuine'] }, { acts = [{ guesses = 25 }, 'shifted'] }]";
    let rules: HashMap<_, _> = rules(20).into_keys().map(|address| (address, rule(forging, 0))).collect();
    let namespace = Namespace::new();
    let settings = "interval = \"2s\"\ncount = 100\nspacing = \"20ms\"";
    let home = Home::new(&config(rules.keys(), settings));
    let responder = Responder::start(&namespace, rules);
    let running = home.start_in(&namespace);
    let forged = short_or_long(20_000, 1_000_000);
    eventually(Duration::from_secs(short_or_long(60, 300)), || {
        match responder.look(|log| log.entries.iter().map(|entry| entry.noise).sum::<u64>()) {
            seen if seen >= forged => Ok(()),
            seen => Err(format!("{seen} of {forged} replies were forged")),
        }
    });
    if proving() {
        assert_counted(&home, forged);
    }
    let (rows, log) = until_measured(&home, running, responder, 1000);
    let (matrix, sum, wrong) = judge(&log, &rows);
    told(&format!("{forged} forged replies to {} packets\n{}", sum.sent, matrix.show()));
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(5)].join("\n"));
    assert!(matrix.is_diagonal(), "not diagonal:\n{}", matrix.show());
    assert_eq!((sum.of(Fate::Received) * 5, sum.of(Fate::Corrupt)), (sum.sent, 0), "only every fifth was answered");
}

/// qosd speaks of itself at every full minute.
fn assert_counted(home: &Home, forged: u64) {
    eventually(Duration::from_secs(70), || {
        let rows = home.rows().into_iter().filter(|row| row.measurement == "qosd" && row.tag("actor") == "ping");
        match rows.filter_map(|row| row.integer("ping_forged")).max() {
            Some(counted) if counted as u64 >= forged => Ok(()),
            counted => Err(format!("{counted:?} of {forged} counted")),
        }
    });
}

#[test]
fn a_matrix_is_diagonal_only_if_all_agree() {
    let counts = |fates| Counts { fates, ..Counts::default() };
    let mut matrix = Matrix::default();
    matrix.add(&counts([3, 0, 2, 0, 0, 0, 0]), &counts([3, 0, 2, 0, 0, 0, 0]));
    assert!(matrix.is_diagonal());
    matrix.add(&counts([3, 0, 2, 0, 0, 0, 0]), &counts([4, 0, 1, 0, 0, 0, 0]));
    assert!(!matrix.is_diagonal());
    assert_eq!((matrix.0[0][0], matrix.0[2][2], matrix.0[2][0]), (6, 3, 1));
}
