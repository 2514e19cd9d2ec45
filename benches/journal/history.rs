//! What long charts cost: how long the history of a journal takes to be made, its size, and each offered range with nothing cached.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use qosd::clock::Clock;
use qosd::history::range::Span;
use qosd::history::{History, HistoryStatus};
use qosd::journal::{Journal, Mode};
use qosd::page::time::RANGES;
use qosd::vitals::usage;
use serde_json::{Value, json};

use super::SETTINGS;

/// Columns of a chart.
const COLUMNS: usize = 300;
/// Series that are looked at for each range.
const SERIES: usize = 5;
/// Positions that may be lacking in the file as it is kept.
const LACKING: u64 = 60_000;
/// How often it is looked how far it has come.
const LOOK: Duration = Duration::from_millis(100);

/// Makes the history of the journal in `dir`, from nothing.
pub(crate) async fn roll(dir: &Path, clock: &Clock) -> anyhow::Result<Value> {
    for suffix in ["", "-wal", "-shm"] {
        let file = dir.join(format!("history.sqlite3{suffix}"));
        ensure!(!file.exists() || std::fs::remove_file(&file).is_ok(), "{} stays", file.display());
    }
    let journal = Journal::open(dir, SETTINGS, clock.clone(), Mode::Threaded)?;
    let (begun, before) = (clock.mono(), usage().context("no figures of this process")?);
    let history = History::open(&journal, clock.clone());
    let (status, most) = made(&history).await?;
    let seconds = clock.mono().saturating_sub(begun).as_secs_f64();
    let cpu = usage().context("no figures of this process")?.cpu.saturating_sub(before.cpu).as_secs_f64();
    Ok(json!({"rows": status.rows, "buckets": status.buckets, "bytes": status.bytes, "seconds": seconds, "cpu_s": cpu, "rss_bytes": most}))
}

/// Waits until nothing is lacking that should not. Says how much memory it took at most.
async fn made(history: &History) -> anyhow::Result<(HistoryStatus, u64)> {
    let mut most = 0;
    loop {
        most = most.max(usage().context("no figures of this process")?.rss_bytes);
        let status = history.status();
        ensure!(status.failing.is_none(), "{:?}", status.failing);
        if status.rows > 0 && status.behind < LACKING {
            return Ok((status, most));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks for each range, of some series, each time with nothing cached.
pub(crate) async fn ranges(dir: &Path, clock: &Clock) -> anyhow::Result<Value> {
    let mut told = serde_json::Map::new();
    for (name, length) in RANGES {
        let (mut cold, mut warm, mut columns, mut single) = (Vec::new(), Vec::new(), 0, false);
        for index in 0..SERIES {
            let journal = Journal::open(dir, SETTINGS, clock.clone(), Mode::Threaded)?;
            let history = History::open(&journal, clock.clone());
            made(&history).await?;
            let all = history.series().await?;
            let series = all.get(index * all.len() / SERIES).context("no series")?;
            let to = clock.now().unix;
            let span = Span { from: to.minus(length), to };
            forget(dir)?;
            for times in [&mut cold, &mut warm] {
                let begun = clock.mono();
                let range = history.range(series, span, COLUMNS).await?;
                times.push(clock.mono().saturating_sub(begun).as_secs_f64() * 1e3);
                (columns, single) = (range.columns.len().max(columns), range.single);
            }
        }
        let worst = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
        told.insert(name.to_owned(), json!({"cold_ms": worst(&cold), "warm_ms": worst(&warm), "columns": columns, "single": single}));
    }
    Ok(Value::Object(told))
}

/// Has the kernel forget what it has of the files.
fn forget(dir: &Path) -> anyhow::Result<()> {
    for name in ["journal.sqlite3", "journal.sqlite3-wal", "history.sqlite3", "history.sqlite3-wal"] {
        let file = File::open(dir.join(name)).with_context(|| format!("opening {name}"))?;
        // Only what is on disk already can be forgotten.
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}
