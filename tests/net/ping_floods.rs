//! Ping on a host that has other things to do: floods of junk, a receive buffer that is too small, a process that stands
//! still, a CPU that others have taken. None of it may count as the network's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::bed::daemon::{Home, Running};
use crate::bed::net::Namespace;
use crate::bed::process::Process;
use crate::bed::responder::log::{Counts, Entry, Fate, Log, truth};
use crate::bed::responder::packet::{message, sealed};
use crate::bed::responder::rule::{Means, Rule};
use crate::bed::responder::{HERE, Responder};
use crate::bed::rows::Exported;
use crate::bed::{eventually, short_or_long, told};
use crate::ping_scenarios::{measured, untrue};

const LIMIT: Duration = Duration::from_secs(30);

/// So many targets, half of them of each family.
fn targets(count: usize) -> Vec<IpAddr> {
    let target =
        |number: usize| if number.is_multiple_of(2) { format!("10.78.2.{}", number / 2) } else { format!("fd78::2:{}", number / 2) };
    (0..count).map(|number| target(number).parse().expect("it is built here")).collect()
}

fn rule(text: &str) -> Rule {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A responder with one rule for all of these, and a home whose probe asks them.
fn bed(targets: &[IpAddr], rule: &Rule, settings: &str) -> (Namespace, Responder, Home) {
    let namespace = Namespace::new();
    let responder = Responder::start(&namespace, targets.iter().map(|target| (*target, rule.clone())).collect());
    let hosts: Vec<_> = targets.iter().map(ToString::to_string).collect();
    let home = Home::new(&format!("[ping.p]\ntargets = {hosts:?}\n{settings}\n"));
    (namespace, responder, home)
}

/// Waits until every target has this many rows with figures, looking only now and then.
fn rows_of_each(home: &Home, targets: usize, rows: usize) {
    eventually(LIMIT, || {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for row in measured(home) {
            *counts.entry(row.tag("target").to_owned()).or_default() += 1;
        }
        let enough = counts.values().filter(|count| **count >= rows).count();
        if enough == targets { Ok(()) } else { Err(format!("{enough} of {targets} targets have {rows} rows")) }
    });
}

/// What the round trips of a run were, from the kernel's stamp of the request to the responder's write, in milliseconds and in order.
fn delays(run: &[&Entry]) -> Vec<f64> {
    let first =
        |entry: &&Entry| entry.replies.iter().find(|(means, _)| *means == Means::Genuine).map(|(_, at)| (at - entry.left) as f64 / 1e6);
    let mut delays: Vec<_> = run.iter().filter_map(first).collect();
    delays.sort_by(f64::total_cmp);
    delays
}

/// Of each row, by how much its longest round trip exceeds the longest that was, in milliseconds and in order.
fn errors(log: &Log, rows: &[Exported]) -> Vec<f64> {
    let of = |(row, run): (&Exported, Vec<&Entry>)| Some(row.float("ping_max_ms")? - delays(&run).last()?);
    let mut errors: Vec<_> = log.by_run(rows).into_iter().filter_map(of).collect();
    errors.sort_by(f64::total_cmp);
    errors
}

/// Nearest rank.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1]
}

/// Resident memory in KiB.
fn resident(running: &Running) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{}/statm", running.pid())).expect("it runs");
    pages.split(' ').nth(1).expect("proc(5)").parse::<u64>().expect("proc(5)") * 4
}

/// Messages that are nobody's answer: replies and errors with every identifier, and kinds that nobody asked for.
fn junk(targets: &[IpAddr]) -> Vec<Vec<u8>> {
    let packet = |number: usize| {
        let from = targets[number % targets.len()];
        let here = HERE[usize::from(from.is_ipv6())].parse().expect("an address");
        let ident = (number as u16).wrapping_mul(0x9e37).to_be_bytes();
        let (reply, error) = if from.is_ipv4() { (0, 3) } else { (129, 1) };
        let echo = message(if from.is_ipv4() { 8 } else { 128 }, 0, [ident[0], ident[1], 0, 1], &[0x5a; 56]);
        let bytes = match number / targets.len() % 8 {
            0..4 => message(reply, 0, [ident[0], ident[1], number as u8, 1], &[number as u8; 56]),
            4 => message(error, 1, [0; 4], &sealed(here, from, echo)),
            5 => message(if from.is_ipv4() { 5 } else { 137 }, 1, [0; 4], &sealed(here, from, echo)),
            6 => message(if from.is_ipv4() { 14 } else { 200 }, 0, [ident[0], ident[1], 0, 1], &[7; 12]),
            _ => message(reply, 0, [ident[0], ident[1], 0, 1], &[])[..number % 9].to_vec(),
        };
        sealed(from, here, bytes)
    };
    (0..4096 * 8).map(packet).collect()
}

/// Writes junk at a rate until it is dropped.
struct Flood {
    going: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    since: Instant,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn start(responder: &Responder, junk: Vec<Vec<u8>>, per_second: u64) -> Self {
        let (going, written) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let (write, since) = (responder.inject(), Instant::now());
        let (goes, count) = (Arc::clone(&going), Arc::clone(&written));
        let thread = thread::spawn(move || {
            for packet in junk.iter().cycle() {
                let ahead = |count: u64| Duration::from_micros(count * 1_000_000 / per_second).saturating_sub(since.elapsed());
                let ahead = ahead(count.fetch_add(1, Ordering::Relaxed));
                if !goes.load(Ordering::Relaxed) {
                    return;
                }
                // The pace of the flood, in steps that a timer can keep.
                if ahead > Duration::from_millis(1) {
                    thread::sleep(ahead);
                }
                write(packet);
            }
        });
        Self { going, written, since, thread: Some(thread) }
    }

    /// How many packets a second it has written.
    fn rate(&self) -> u64 {
        (self.written.load(Ordering::Relaxed) as f64 / self.since.elapsed().as_secs_f64()) as u64
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.going.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics only with the test.
            let _ = thread.join();
        }
    }
}

/// (N13, X5)
#[test]
fn a_flood_of_junk_makes_no_result_false_and_is_not_told_line_by_line() {
    let targets = targets(100);
    let settings = "interval = \"1s\"\ncount = 20\nspacing = \"50ms\"\ntimeout = \"500ms\"";
    let (namespace, responder, home) = bed(&targets, &rule("delays = ['5ms']"), settings);
    let running = home.start_in(&namespace);
    let flood = Flood::start(&responder, junk(&targets), short_or_long(30_000, 100_000));
    rows_of_each(&home, targets.len(), 1);
    let (before, since) = (resident(&running), Instant::now());
    rows_of_each(&home, targets.len(), short_or_long(3, 30));
    let (grown, seconds) = (resident(&running).saturating_sub(before), since.elapsed().as_secs_f64());
    let (rate, lines) = (flood.rate(), running.log().lines().count());
    drop(flood);
    running.stop();
    let (rows, log) = (home.probe_rows(), responder.stop());
    let errors = errors(&log, &rows);
    let worst = quantile(&errors, 0.99);
    told(&format!(
        "{rate} junk packets/s, {} rows, error p50 {:.3} p99 {worst:.3} ms, RSS +{grown} KiB, {lines} lines",
        rows.len(),
        quantile(&errors, 0.5)
    ));
    let untrue = untrue(&log, &rows, Duration::from_millis(500));
    assert!(untrue.is_empty(), "{} of {} rows are wrong:\n{}", untrue.len(), rows.len(), untrue[..untrue.len().min(5)].join("\n"));
    assert!(worst <= 1.0, "p99 of the error is {worst} ms");
    assert!(lines as f64 <= 10.0 * seconds, "{lines} lines in {seconds} s");
    assert!(grown <= 4096, "grown by {grown} KiB");
}

/// (R6)
#[test]
fn replies_that_the_receive_buffer_could_not_hold_are_local_drops_and_not_loss() {
    let targets = targets(50);
    // Behind so many forged ones no buffer holds all the right ones of a moment.
    let rule = rule("delays = ['300ms']\nexcept = [{ acts = [{ guesses = 40 }, 'genuine'] }]");
    let settings = "interval = \"5s\"\ncount = 100\nspacing = \"10ms\"\ntimeout = \"2s\"\nphase = \"aligned\"";
    let (namespace, responder, home) = bed(&targets, &rule, settings);
    let running = home.start_in(&namespace);
    eventually(LIMIT, || responder.look(|log| if log.entries.len() > 1500 { Ok(()) } else { Err("too few requests".to_owned()) }));
    running.signal(Signal::SIGSTOP);
    eventually(LIMIT, || {
        let waiting = responder.look(|log| log.entries.iter().filter(|entry| entry.replies.is_empty()).count());
        if waiting == 0 { Ok(()) } else { Err(format!("{waiting} requests wait for their replies")) }
    });
    running.signal(Signal::SIGCONT);
    rows_of_each(&home, targets.len(), 1);
    running.stop();
    let (rows, log) = (home.probe_rows(), responder.stop());
    let mut sum = Counts::default();
    for (row, run) in log.by_run(&rows) {
        let said = Counts::reported(row).unwrap();
        let right = truth(&run, Duration::from_secs(2)).unwrap();
        assert_eq!((said.sent, right.of(Fate::Received)), (right.sent, right.sent), "{row:?}");
        assert_eq!(said.of(Fate::Received) + said.of(Fate::LocalDrop), said.sent, "{row:?}");
        assert!(row.float("ping_packet_loss_pct").is_none_or(|loss| loss <= 0.0), "{row:?}");
        sum += &said;
    }
    told(&format!("{} sent, {} received, {} dropped here", sum.sent, sum.of(Fate::Received), sum.of(Fate::LocalDrop)));
    assert!(sum.of(Fate::LocalDrop) > 0 && sum.of(Fate::Received) > 0, "{sum:?}");
}

/// Stops the process for so long while one request to each target is in flight, and gives the errors of their round trips.
fn stopped_in_flight(stop: Duration) -> Vec<f64> {
    let targets = targets(20);
    let settings = "interval = \"6s\"\ncount = 1\nspacing = \"10ms\"\ntimeout = \"1s\"\nphase = \"aligned\"";
    let (namespace, responder, home) = bed(&targets, &rule("delays = ['400ms']"), settings);
    let running = home.start_in(&namespace);
    let asked = || responder.look(|log| log.entries.len());
    eventually(LIMIT, || if asked() == targets.len() { Ok(()) } else { Err("not all were asked".to_owned()) });
    running.signal(Signal::SIGSTOP);
    assert!(responder.look(|log| log.entries.iter().all(|entry| entry.replies.is_empty())), "stopped too late");
    // How long it stands still, not what is waited for.
    thread::sleep(stop);
    running.signal(Signal::SIGCONT);
    eventually(LIMIT, || if home.probe_rows().len() >= targets.len() { Ok(()) } else { Err("not all have rows".to_owned()) });
    running.stop();
    let (rows, log) = (home.probe_rows(), responder.stop());
    for row in rows.iter().filter(|row| row.text("result") != "skipped") {
        assert_eq!((row.text("result"), row.integer("ping_received")), ("ok", Some(1)), "{row:?}");
    }
    assert_eq!(untrue(&log, &rows, Duration::from_secs(1)), [""; 0]);
    let errors = errors(&log, &rows);
    assert!(errors.len() >= targets.len(), "{} of {} have a round trip", errors.len(), targets.len());
    told(&format!("error {:.3} to {:.3} ms", errors[0], errors[errors.len() - 1]));
    errors
}

/// (T6)
#[test]
fn a_reply_that_was_read_two_seconds_late_has_its_true_round_trip() {
    let errors = stopped_in_flight(Duration::from_secs(2));
    assert!(errors.iter().all(|error| (-0.2..=0.2).contains(error)), "{errors:?}");
}

/// (T6)
#[test]
fn so_has_one_that_was_read_when_its_run_should_long_have_ended() {
    let errors = stopped_in_flight(Duration::from_millis(4500));
    assert!(errors.iter().all(|error| (-0.2..=0.2).contains(error)), "{errors:?}");
}

/// (T6) Slots come due at the moment at which the process goes on, so it has more to do than to read what is there.
#[test]
fn replies_that_came_while_the_process_stood_still_are_read_before_anything_is_judged() {
    let targets = targets(60);
    let settings = "interval = \"1s\"\ncount = 1\nspacing = \"10ms\"\ntimeout = \"800ms\"";
    let (namespace, responder, home) = bed(&targets, &rule("delays = ['300ms']"), settings);
    let running = home.start_in(&namespace);
    rows_of_each(&home, targets.len(), 1);
    for round in 0..short_or_long(4, 20) {
        running.signal(Signal::SIGSTOP);
        // How long it stands still, not what is waited for.
        thread::sleep(Duration::from_millis(1500));
        running.signal(Signal::SIGCONT);
        rows_of_each(&home, targets.len(), 2 + round);
    }
    running.stop();
    responder.stop();
    let rows = home.probe_rows();
    let wrong: Vec<_> = rows.iter().filter(|row| !["ok", "skipped"].contains(&row.text("result"))).collect();
    assert!(wrong.is_empty(), "{} of {}, such as {:?}", wrong.len(), rows.len(), wrong[0]);
}

/// (T6)
#[test]
fn slots_that_passed_while_the_process_stood_still_are_told_and_not_made_up_for() {
    let targets = targets(10);
    let settings = "interval = \"1s\"\ncount = 2\nspacing = \"10ms\"\ntimeout = \"300ms\"\nphase = \"aligned\"";
    let (namespace, responder, home) = bed(&targets, &Rule::default(), settings);
    let running = home.start_in(&namespace);
    // Their rows come at once, as all were asked at once: nothing is in flight.
    rows_of_each(&home, targets.len(), 1);
    running.signal(Signal::SIGSTOP);
    // How long it stands still, not what is waited for.
    thread::sleep(Duration::from_millis(3500));
    running.signal(Signal::SIGCONT);
    let seen = home.probe_rows().len();
    eventually(LIMIT, || if home.probe_rows().len() >= seen + targets.len() * 5 { Ok(()) } else { Err("too few rows".to_owned()) });
    running.stop();
    let (rows, log) = (home.probe_rows(), responder.stop());
    for target in &targets {
        let asked = log.entries.iter().filter(|entry| entry.target == *target).count();
        let rows: Vec<_> = rows.iter().filter(|row| row.tag("target") == target.to_string()).collect();
        let results: Vec<_> = rows.iter().map(|row| (row.time(), row.text("result"), row.text("error"))).collect();
        let suspended = rows.iter().filter(|row| row.text("error") == "suspended").count();
        assert!(suspended >= 2, "{suspended} slots of {target} are told as suspended: {results:?}");
        let told = rows.iter().filter_map(|row| row.integer("ping_sent")).sum::<i64>() as usize;
        // The last run may have been cut short.
        assert!((told..=told + 2).contains(&asked), "{target} was asked {asked} times, rows tell of {told}");
        assert!(results.windows(2).all(|pair| pair[1].0 - pair[0].0 == 1_000_000_000), "a slot is missing: {results:?}");
        assert!(rows.iter().all(|row| ["ok", "skipped"].contains(&row.text("result"))), "{results:?}");
    }
}

/// (R4)
#[test]
fn a_cpu_that_others_have_taken_makes_no_loss() {
    let targets = targets(50);
    let settings = "interval = \"1s\"\ncount = 20\nspacing = \"20ms\"\ntimeout = \"300ms\"";
    let (namespace, responder, home) = bed(&targets, &rule("delays = ['10ms']"), settings);
    let _hogs = [0; 4].map(|_| Process::start(Command::new("/usr/bin/nice").args(["-n", "-5", "sh", "-c", "while :; do :; done"])));
    let running = home.start_in(&namespace);
    rows_of_each(&home, targets.len(), short_or_long(2, 20));
    running.stop();
    let (rows, log) = (home.probe_rows(), responder.stop());
    let errors = errors(&log, &rows);
    told(&format!("{} rows, error p50 {:.3} p99 {:.3} ms", rows.len(), quantile(&errors, 0.5), quantile(&errors, 0.99)));
    assert_eq!(untrue(&log, &rows, Duration::from_millis(300)), [""; 0]);
    assert!(rows.iter().all(|row| ["ok", "skipped"].contains(&row.text("result"))), "{rows:?}");
}
