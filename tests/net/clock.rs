//! A wall clock that is set while qosd measures: no round trip is wild, no row is written over another, no slot is made up.
//!
//! Debian's libfaketime gives qosd a wall clock of its own, which the test sets; the monotonic clock stays the host's. The
//! kernel stamps packets with the host's wall clock, so that its stamps contradict all that qosd believes: worse than a
//! clock that is really set, which would also set that of the stamps.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::bed::daemon::{Home, pause};
use crate::bed::net::{FAR, Net};
use crate::bed::rows::{Exported, by_key};
use crate::bed::{eventually, need_root, proving, short_or_long, tool};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 24 * HOUR;
/// From row to row.
const INTERVAL: i64 = SECOND;
const PACKETS: i64 = 10;
const TIMEOUT_MS: f64 = 500.0;
/// How long qosd waits for a clock that is not set.
const CLOCK_WAIT: Duration = Duration::from_mins(1);
/// How often it looks whether the clock is set by now.
const LOOKS_EVERY: Duration = Duration::from_mins(1);
/// How much the time of a row may be moved so that it is not that of another row.
const MOVED: i64 = 1_000;

/// qosd with a wall clock that a test can set, measuring a stream of ten packets a second.
struct Bed {
    home: Home,
    net: Net,
}

impl Bed {
    fn new() -> Self {
        need_root();
        let settings = "interval = \"1s\"\ncount = 10\nspacing = \"100ms\"\ntimeout = \"500ms\"";
        let home = Home::new(&format!("[ping.stream]\ntargets = [\"{}\"]\n{settings}\n", FAR.v4));
        let faked = home.path("wall_clock");
        let home = home.ready_within(CLOCK_WAIT + Duration::from_secs(20)).with_environment([
            ("LD_PRELOAD", tool("libfaketimeMT.so.1")),
            ("FAKETIME_TIMESTAMP_FILE", faked),
            ("FAKETIME_NO_CACHE", PathBuf::from("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", PathBuf::from("1")),
            ("NO_FAKE_STAT", PathBuf::from("1")),
        ]);
        let bed = Self { home, net: Net::new() };
        bed.set_clock("+0");
        bed
    }

    /// Sets the clock: so far from the host's, or to a date.
    fn set_clock(&self, to: &str) {
        self.home.file("wall_clock", to);
    }

    /// Every row of the stream, whatever time it has; no two have the same.
    fn rows(&self) -> Vec<Exported> {
        let exported = self.home.command(&["export", "--since", "100y", "--kind", "ping", "--format", "json"]);
        let rows: Vec<_> = exported.lines().map(Exported::parse).collect();
        by_key(rows.clone());
        rows
    }

    /// Waits until there are so many rows from when the clock was so many seconds away, and goes on to the middle of a run.
    fn await_rows(&self, shift: i64, many: usize) {
        eventually(Duration::from_secs(20 + many as u64), || {
            let rows = self.rows();
            let there = rows.iter().filter(|row| row.is_of(shift)).count();
            if there >= many { Ok(()) } else { Err(format!("{there} rows {shift} s away: {rows:?}")) }
        });
        pause(Duration::from_millis(50), Duration::from_millis(950));
    }

    /// Runs qosd with a clock that is so many seconds away, then so many, each for some rows; gives all rows.
    fn run(&self, shifts: &[i64]) -> Vec<Exported> {
        let (running, since) = (self.home.start_in(&self.net.host), Instant::now());
        for (index, shift) in shifts.iter().enumerate() {
            self.set_clock(&format!("{shift:+}"));
            // Where the clock was before, there are rows already.
            let before = if shifts[..index].contains(shift) { self.rows().iter().filter(|row| row.is_of(*shift)).count() } else { 0 };
            self.await_rows(*shift, before + short_or_long(5, 30));
        }
        let (rows, elapsed) = (self.rows(), i64::try_from(since.elapsed().as_nanos()).expect("a test is short"));
        running.stop();
        assert!(rows.len() as i64 <= elapsed / INTERVAL + 1 + shifts.len() as i64, "{} rows in {elapsed} ns", rows.len());
        for row in &rows {
            row.assert_true();
            let off = (row.time() - rows[0].time() + MOVED).rem_euclid(INTERVAL) - MOVED;
            assert!(off < MOVED, "{off} ns beside the grid: {row:?}");
        }
        rows
    }
}

/// The host's wall clock.
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the host's clock is set");
    i64::try_from(now.as_nanos()).expect("this century fits into an i64")
}

impl Exported {
    /// Whether it is from when qosd's clock was so many seconds away from the host's.
    fn is_of(&self, shift: i64) -> bool {
        (self.time() - shift * SECOND).abs_diff(now()) < 600 * SECOND as u64
    }

    /// All packets answered, in a time that is possible.
    fn assert_true(&self) {
        assert_eq!((self.text("result"), self.integer("ping_sent")), ("ok", Some(PACKETS)), "{self:?}");
        assert_eq!((self.integer("ping_received"), self.float("ping_packet_loss_pct")), (Some(PACKETS), Some(0.0)), "{self:?}");
        let [min, avg, max] = ["ping_min_ms", "ping_avg_ms", "ping_max_ms"].map(|name| self.float(name).expect("replies came"));
        assert!(0.0 < min && min <= avg && avg <= max && max < TIMEOUT_MS, "{self:?}");
    }
}

/// One row for each slot, none left out, none in between.
fn assert_consecutive(rows: &[&Exported]) {
    for pair in rows.windows(2) {
        let apart = pair[1].time() - pair[0].time();
        assert!((apart - INTERVAL).abs() < MOVED, "slots are {apart} ns apart: {pair:?}");
    }
}

/// What must hold for the rows from when the clock was set by `step` seconds to be `shift` away, so that stamps are no help.
fn assert_set(rows: &[Exported], step: i64, shift: i64) {
    let rows: Vec<_> = rows.iter().filter(|row| row.is_of(shift)).collect();
    assert_consecutive(&rows);
    for (index, row) in rows.iter().enumerate() {
        // Of one interval: of the slot that it begins with, and of the one that it ends with.
        let told = row.float("clock_step_ms");
        assert_eq!(told.is_some(), index < 2, "row {index}: {row:?}");
        assert!(told.is_none_or(|told| (told - step as f64 * 1e3).abs() < 100.0), "set by {step} s: {row:?}");
    }
    // The last run may have seen the clock being set again.
    for row in &rows[..rows.len() - 1] {
        assert_eq!(row.text("ping_timestamps"), "user", "the kernel's stamps are not of this clock: {row:?}");
    }
}

#[test]
fn a_clock_set_by_an_hour_leaves_no_wild_round_trip_and_every_slot_its_row() {
    let far = HOUR + 1;
    let rows = Bed::new().run(&[0, far, -far, 0]);
    assert_set(&rows, far, far);
    assert_set(&rows, -2 * far, -far);

    // Of before and after: with a gap in between, and as long as the clock was right no word about it.
    let right: Vec<_> = rows.iter().filter(|row| row.is_of(0)).collect();
    let gap = right.windows(2).position(|pair| pair[1].time() - pair[0].time() >= 2 * INTERVAL).expect("the clock was away");
    let (before, after) = right.split_at(gap + 1);
    assert_consecutive(before);
    assert_consecutive(after);
    for row in before.iter().chain(&after[2..]) {
        assert_eq!(row.float("clock_step_ms"), None, "{row:?}");
    }
    for row in before[..before.len() - 1].iter().chain(&after[1..]) {
        assert_eq!(row.text("ping_timestamps"), "kernel", "{row:?}");
    }
}

#[test]
fn a_clock_that_is_a_year_ahead_for_a_while_makes_no_burst_of_rows() {
    let far = YEAR + 1;
    let rows = Bed::new().run(&[0, far, 0]);
    assert_set(&rows, far, far);
}

#[test]
fn times_that_a_clock_set_back_goes_through_again_are_not_used_again() {
    let bed = Bed::new();
    let running = bed.home.start_in(&bed.net.host);
    bed.await_rows(0, 8);
    let before = bed.rows();
    bed.set_clock("-6");
    bed.await_rows(0, before.len() + 8);
    let after = bed.rows();
    running.stop();

    for row in &after {
        row.assert_true();
    }
    for earlier in &before {
        let same = after.iter().find(|row| row.time() == earlier.time()).expect("a row stays");
        assert_eq!(same.fields, earlier.fields, "a row was written over");
    }
    let moved = |row: &&Exported| before.iter().any(|earlier| (1..MOVED).contains(&(row.time() - earlier.time())));
    let again: Vec<_> = after.iter().filter(moved).collect();
    assert!(again.len() >= 3, "6 s were gone through again: {after:?}");
    assert_consecutive(&again);
    let told: Vec<_> = after.iter().filter(|row| row.float("clock_step_ms").is_some()).collect();
    assert_eq!(told, again[..2], "the first of them say why");
}

#[test]
fn a_clock_that_goes_too_fast_is_no_clock_that_was_set() {
    let bed = Bed::new();
    // 500 parts in a million: the most that the kernel makes up for when it slews.
    bed.set_clock("+0 x1.0005");
    let running = bed.home.start_in(&bed.net.host);
    bed.await_rows(0, short_or_long(8, 60));
    let rows = bed.rows();
    running.stop();
    assert_consecutive(&rows.iter().collect::<Vec<_>>());
    for row in &rows {
        row.assert_true();
        assert_eq!(row.float("clock_step_ms"), None, "{row:?}");
    }
}

/// A host without a clock of its own.
const LONG_AGO: &str = "@2019-01-01 00:00:00";

#[test]
fn a_clock_that_is_not_set_is_waited_for_but_not_for_ever() {
    let bed = Bed::new();
    bed.set_clock(LONG_AGO);
    let running = thread::scope(|scope| {
        scope.spawn(|| {
            pause(Duration::from_millis(500), Duration::from_secs(4));
            bed.set_clock("+0");
        });
        bed.home.start_in(&bed.net.host)
    });
    bed.await_rows(0, 3);
    let rows = bed.rows();
    running.stop();
    assert!(rows.iter().all(|row| row.is_of(0) && row.text("clock").is_empty() && row.float("clock_step_ms").is_none()), "{rows:?}");

    if proving() {
        never_set_and_then_set(&Bed::new());
    }
}

fn never_set_and_then_set(bed: &Bed) {
    bed.set_clock(LONG_AGO);
    let (since, running) = (Instant::now(), bed.home.start_in(&bed.net.host));
    assert!(since.elapsed() >= CLOCK_WAIT, "started after {:?}", since.elapsed());
    let rows = eventually(Duration::from_secs(20), || Some(bed.rows()).filter(|rows| rows.len() > 3).ok_or_else(|| "few rows".to_owned()));
    for row in &rows {
        row.assert_true();
        assert_eq!(row.text("clock"), "unsynced", "{row:?}");
    }
    bed.set_clock("+0");
    eventually(LOOKS_EVERY + Duration::from_secs(20), || {
        let rows = bed.rows();
        let right = rows.iter().filter(|row| row.is_of(0) && row.text("clock").is_empty()).count();
        if right > 0 { Ok(()) } else { Err(format!("{:?}", rows.last())) }
    });
    let rows = bed.rows();
    running.stop();
    let first = rows.iter().find(|row| row.is_of(0)).expect("rows of now");
    assert!(first.float("clock_step_ms").is_some_and(|step| step > 1e3 * YEAR as f64), "{first:?}");
    for row in &rows {
        row.assert_true();
    }
}
