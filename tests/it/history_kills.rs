//! SIGKILL while the history is being written: it is found whole at each start, never made anew, and at the end what it says of a
//! long range is what the journal holds, each row once.
//!
//! So much is to be added before each life that the history writes from its first moment on; rows of probes come beside it.

#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use qosd::clock::{Clock, Timestamp};
use qosd::history::rest::{AtRest, at_rest};
use qosd::journal::{Journal, Mode, Position, Settings};
use qosd::measurement::{Fields, Row, Value, field_name};
use qosd::probe::{Finding, Naming, Outcome};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rusqlite::Connection;

use crate::daemon::{Daemon, Home};

/// The instants are drawn from this.
const SEED: u64 = 14;
/// How often it is killed.
const KILLS: usize = 21;
/// How long it lives after its first batch, or after it was ready, at most: some batches.
const LIFE: Duration = Duration::from_millis(500);
/// Positions that the history is behind at the start of each life: more than it leaves to answers, by what a life may add.
const BEHIND: u64 = 32_000;
/// Series of the rows that are put in between two lives.
const SERIES: u64 = 12;
/// Rows that are put in at once.
const PIECE: u64 = 5_000;
/// Positions of which answers take the rows from the journal.
const LACKING: u64 = 20_000;
/// Series that are measured meanwhile, without the right to ping as well as with it.
const PROBE: &str = r#"
[ping.loopback]
targets = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]
interval = "1s"
count = 2
spacing = "20ms"
timeout = "200ms"
"#;
/// What the log says when the history is not as it was left.
const DAMAGE: [&str; 5] = ["made anew", "damaged", "aside", "not kept", "panicked"];

/// Rows of each series by how they ended: by probe, target, result.
type Sums = BTreeMap<(String, String), BTreeMap<String, u64>>;

/// What the history's file is after a kill.
#[derive(Debug)]
struct Left {
    inode: u64,
    position: u64,
    rows: u64,
}

/// Looks at a copy, as whoever opens the file itself changes what the next start finds.
fn left(data: &Path) -> Left {
    let copy = tempfile::tempdir().unwrap();
    fs::copy(data.join("history.sqlite3"), copy.path().join("history.sqlite3")).unwrap();
    // There is none if it was killed before it looked at what a clean stop had left.
    if data.join("history.sqlite3-wal").exists() {
        fs::copy(data.join("history.sqlite3-wal"), copy.path().join("history.sqlite3-wal")).unwrap();
    }
    let conn = Connection::open(copy.path().join("history.sqlite3")).unwrap();
    let sound: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let (position, rows): (i64, i64) =
        conn.query_row("SELECT position, rows FROM rolled", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    Left { inode: data.join("history.sqlite3").metadata().unwrap().ino(), position: position as u64, rows: rows as u64 }
}

/// A row of a series for each number; every seventh run failed.
fn made(number: u64, since: Timestamp) -> Row {
    let naming = Naming { agent: "rome-1".into(), kind: "ping", probe: "core".into() };
    let series = naming.series(&format!("192.0.2.{}", number % SERIES), "ipv4", &BTreeMap::new());
    let mut fields = Fields::new();
    let outcome = if number.is_multiple_of(7) { Outcome::Timeout } else { Outcome::Ok };
    if outcome == Outcome::Ok {
        fields.put(field_name("ping_avg_ms"), Value::Float(number as f64 % 97.0));
    }
    let time = since.plus(Duration::from_secs(number / SERIES)).plus(Duration::from_nanos(number % SERIES));
    Row { series, time, fields: Finding { outcome, error: None, fields }.into_fields(None) }
}

/// The journal, while no qosd has it.
struct Between {
    since: Timestamp,
    made: u64,
}

impl Between {
    fn journal(data: &Path) -> Journal {
        let settings = Settings { flush: Duration::from_millis(20), max_size: 1 << 30, max_age: Duration::from_hours(30 * 24) };
        Journal::open(data, settings, Clock::system(), Mode::Threaded).unwrap()
    }

    /// Adds rows until there are so many behind a position.
    async fn add(&mut self, data: &Path, position: u64) {
        let journal = Self::journal(data);
        let there = journal.tip().borrow().0.saturating_sub(position);
        let until = self.made + BEHIND.saturating_sub(there);
        for from in (self.made..until).step_by(PIECE as usize) {
            let mut rows: Vec<_> = (from..until.min(from + PIECE)).map(|number| made(number, self.since)).collect();
            // Whoever looks for slots that were missed goes back in the journal until all is old for long: something is new.
            rows.push(Row { time: Clock::system().now().unix, ..made(from, self.since) });
            journal.append(rows);
            journal.flush().await.unwrap();
        }
        self.made = until;
    }

    /// What the journal holds.
    async fn sums(data: &Path) -> Sums {
        let journal = Self::journal(data);
        let (tip, mut after, mut sums) = (*journal.tip().borrow(), Position(0), Sums::new());
        while after < tip {
            let rows = journal.read(after, tip, 10_000).await.unwrap();
            for stored in &rows {
                let tag = |key: &str| stored.row.series.tag(key).unwrap_or_default().to_owned();
                let Some(Value::Text(result)) = stored.row.fields.get("result").filter(|_| tag("kind") == "ping") else { continue };
                *sums.entry((tag("probe"), tag("target"))).or_default().entry(result.clone()).or_default() += 1;
            }
            after = rows.last().map_or(tip, |last| last.position);
        }
        sums
    }
}

/// What the page's API says of a long range of each of these series.
fn told(daemon: &Daemon, of: &Sums) -> Sums {
    let sum = |(probe, target): &(String, String)| {
        let (status, body) = daemon.ask("GET", &format!("/api/v1/range/ping/{probe}/{target}?range=7d"));
        assert_eq!(status, 200, "{body}");
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        let ranges = answer["ranges"].as_array().unwrap();
        let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
        for range in ranges {
            assert_eq!(range["complete"], true, "{body}");
            for (result, rows) in range["columns"].as_array().unwrap().iter().flat_map(|column| column["outcomes"].as_object().unwrap()) {
                *outcomes.entry(result.clone()).or_default() += rows.as_u64().unwrap();
            }
        }
        ((probe.clone(), target.clone()), outcomes)
    };
    of.keys().map(sum).collect()
}

/// After a clean stop whoever looks finds the file closed, and can look into it.
#[test]
fn a_history_is_whole_in_its_file_after_a_clean_stop() {
    let home = Home::new(PROBE);
    let daemon = home.start();
    daemon.until(|| daemon.status()["history"]["rows"].as_u64() > Some(0));
    daemon.stop();
    let found = at_rest(&home.data_dir());
    assert!(matches!(found, AtRest::Behind(_)), "{found:?}");
}

fn is_sound(daemon: &Daemon) {
    let log = daemon.log();
    assert!(DAMAGE.iter().all(|word| !log.contains(word)), "it wrote:\n{log}");
}

#[tokio::test]
async fn a_history_that_is_killed_at_any_instant_is_found_whole_and_has_each_row_once() {
    let (home, begun) = (Home::new(PROBE), Instant::now());
    let data = home.data_dir();
    let mut random = StdRng::seed_from_u64(SEED);
    let since = Clock::system().now().unix.minus(Duration::from_hours(48));
    let mut between = Between { since, made: 0 };
    // The first life makes both files, and ends well.
    let first = home.start();
    first.until(|| first.status()["history"]["series"].as_u64() > Some(0));
    first.stop();
    let mut last = Left { inode: data.join("history.sqlite3").metadata().unwrap().ino(), position: 0, rows: 0 };
    let mut written = 0;
    for kill in 0..KILLS {
        between.add(&data, last.position).await;
        let daemon = home.start();
        // Two of three times it has put one batch in by then, and is about the next.
        if kill % 3 > 0 {
            daemon.until(|| !daemon.status()["history"]["added"].is_null());
        }
        thread::sleep(random.random_range(Duration::ZERO..LIFE));
        is_sound(&daemon);
        daemon.kill();
        let now = left(&data);
        assert_eq!(now.inode, last.inode, "kill {kill}: it was made anew");
        assert!(now.position >= last.position && now.rows >= last.rows, "kill {kill}: {now:?} after {last:?}");
        written += usize::from(now.position > last.position);
        last = now;
    }
    assert!(written * 3 >= KILLS * 2 && last.position > 0, "in {written} of {KILLS} lives only it came to write anything");
    // What the last kill left is told by a life that measures nothing, and ends well.
    home.replace("");
    home.start().stop();
    let journal = Between::sums(&data).await;
    let daemon = home.start();
    daemon.until(|| daemon.status()["history"]["behind"].as_u64() <= Some(LACKING));
    assert_eq!(told(&daemon, &journal), journal);
    is_sound(&daemon);
    daemon.stop();
    let all: u64 = journal.values().flat_map(BTreeMap::values).sum();
    assert!(all >= between.made && last.rows >= all / 2, "{all} rows, {last:?}");
    println!("{KILLS} kills in {:?}, {written} lives wrote; {all} rows of {} series", begun.elapsed(), journal.len());
}
