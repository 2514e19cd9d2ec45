//! What keeping the history writes to the disk, beside what the journal writes for the same rows: hours of many series with a row a
//! minute each, in virtual time and in one thread, so that each byte is the one's or the other's.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use qosd::clock::{Clock, Timestamp};
use qosd::history::hand::ByHand;
use qosd::journal::{Journal, Mode};
use serde_json::{Value, json};

use super::SETTINGS;
use super::rows::{INTERVAL, Kind, Maker};

/// How often the history is looked at, as by its thread.
const LOOK: Duration = Duration::from_secs(2);
/// Commits of the journal in that time, as shipped: one every `flush`.
const COMMITS: u64 = 8;
/// When the first row is.
const BEGIN: Timestamp = Timestamp::from_nanos(1_750_003_200_000_000_000);
/// What a batch writes of each series, as ADR 0014 reckons it.
const RECKONED: f64 = 16_384.0;
/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// Bytes that this process gave to writes, and those of pages that it made dirty.
#[derive(Clone, Copy, Default)]
struct Written {
    given: u64,
    dirtied: u64,
}

impl Written {
    fn now() -> anyhow::Result<Self> {
        let io = std::fs::read_to_string("/proc/self/io").context("reading /proc/self/io")?;
        let of = |name: &str| {
            let line = io.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.with_context(|| format!("no {name} in /proc/self/io"))?.parse::<u64>().context("no number")
        };
        Ok(Self { given: of("wchar")?, dirtied: of("write_bytes")? })
    }

    /// With what was written since.
    fn add(&mut self, before: Self) -> anyhow::Result<u64> {
        let now = Self::now()?;
        self.given += now.given - before.given;
        self.dirtied += now.dirtied - before.dirtied;
        Ok(now.given - before.given)
    }

    fn told(self, rows: u64, seconds: f64) -> Value {
        let gb_a_day = |bytes: u64| bytes as f64 / seconds * DAY / 1e9;
        json!({
            "bytes_per_row": self.dirtied as f64 / rows as f64,
            "gb_a_day": gb_a_day(self.dirtied),
            "given_gb_a_day": gb_a_day(self.given),
        })
    }
}

/// So many hours of so many series, after as many as a history of weeks makes no difference to.
pub(crate) fn keep(dir: &Path, series: usize, hours: u64, before: u64) -> anyhow::Result<Value> {
    ensure!(!dir.join("journal.sqlite3").exists(), "{} has a journal already", dir.display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(kept(dir, series, hours, before))
}

async fn kept(dir: &Path, series: usize, hours: u64, before: u64) -> anyhow::Result<Value> {
    let clock = Clock::virtual_from(BEGIN);
    let journal = Journal::open(dir, SETTINGS, clock.clone(), Mode::Inline)?;
    let mut history = ByHand::of(&journal, clock);
    let mut maker = Maker::new(Kind::Ping, series, BEGIN);
    let looks = hours * 3600 / LOOK.as_secs();
    let (mut of_history, mut of_journal, mut batches, mut made) = (Written::default(), Written::default(), 0, 0);
    for _ in 0..before * 60 {
        journal.append(maker.take(series));
        tokio::time::advance(INTERVAL).await;
        add(dir, &mut history, &mut Written::default())?;
    }
    let first = history.status().rows;
    let mut there = first;
    for look in 1..=looks {
        let begun = Written::now()?;
        for commit in 1..=COMMITS {
            let due = due(series, (look - 1) * COMMITS + commit);
            journal.append(maker.take(usize::try_from(due - made)?));
            made = due;
        }
        of_journal.add(begun)?;
        tokio::time::advance(LOOK).await;
        let rows = add(dir, &mut history, &mut of_history)?;
        batches += u64::from(rows > there);
        there = rows;
    }
    let seconds = (hours * 3600) as f64;
    let (rows, reckoned) = (there - first, RECKONED * series as f64 * batches as f64);
    ensure!(rows > 0 && of_history.dirtied > 0, "nothing was written to a disk: is {} in memory?", dir.display());
    Ok(json!({
        "series": series, "hours": hours, "rows": rows, "batches": batches, "file_bytes": history.status().bytes,
        "history": of_history.told(rows, seconds),
        "journal": of_journal.told(made, seconds),
        "of_the_journal": of_history.dirtied as f64 / of_journal.dirtied as f64,
        "reckoned_gb_a_day": reckoned / seconds * DAY / 1e9,
        "of_the_reckoned": of_history.dirtied as f64 / reckoned,
    }))
}

/// How many rows came due by a commit: those of a minute are spread over it.
fn due(series: usize, commits: u64) -> u64 {
    series as u64 * commits * LOOK.as_secs() / (COMMITS * INTERVAL.as_secs())
}

/// One turn. What it wrote goes to the disk at once, as it would long before the next batch: what is dirty already is not counted
/// again. Says how many rows there are now.
fn add(dir: &Path, history: &mut ByHand, written: &mut Written) -> anyhow::Result<u64> {
    let begun = Written::now()?;
    history.turn();
    let wrote = written.add(begun)? > 0;
    let status = history.status();
    ensure!(status.failing.is_none(), "{:?}", status.failing);
    for name in ["history.sqlite3", "history.sqlite3-wal"] {
        let file = dir.join(name);
        if wrote && file.exists() {
            File::open(file)?.sync_all()?;
        }
    }
    Ok(status.rows)
}
