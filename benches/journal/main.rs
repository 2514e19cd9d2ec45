//! What `benches/journal.py` measures with: the journal and the line protocol as the service uses them, one figure a command,
//! each told as a line of JSON.

#![expect(clippy::print_stdout, reason = "what it prints is its result")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};
use qosd::clock::Clock;
use qosd::influxdb::line;
use qosd::journal::{Journal, Mode, Position, Receipt, Settings, Stored};
use qosd::measurement::Row;
use serde_json::{Value, json};

use rows::{INTERVAL, Kind, Maker};

mod history;
mod keep;
mod rows;

/// What a fresh config says.
const SETTINGS: Settings = Settings { flush: Duration::from_millis(250), max_size: 1 << 30, max_age: Duration::from_hours(30 * 24) };
/// Rows that are put in at once.
const PIECE: usize = 500;
/// Rows that may wait for their commit: enough for the next one, and far from the bound of the journal.
const WAITING: u64 = 40_000;
/// Rows of a request: the default of an output.
const BATCH: usize = 5000;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What `cargo bench` adds.
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// How fast rows become durable: rows that are there already, group commit as shipped.
    Accept(Filling),
    /// What a row takes of the file, when the journal is closed.
    Size(Filling),
    /// How fast rows become lines.
    Encode {
        #[arg(long)]
        rows: usize,
    },
    /// Fills a journal until its cap makes the oldest go: how many rows it holds.
    Cap {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        max_size: u64,
        /// Rows of others, each with its receipt.
        #[arg(long)]
        receipts: bool,
    },
    /// Fills a journal with rows of a hundred series, the last of them of a minute ago.
    Fill(Filling),
    /// Makes the history of a journal from nothing: how long, how large.
    Roll {
        #[arg(long)]
        dir: PathBuf,
    },
    /// What keeping the history of many series writes to the disk, in virtual hours.
    Keep {
        /// On a real disk, and empty.
        #[arg(long)]
        dir: PathBuf,
        #[arg(long, default_value_t = 1000)]
        series: usize,
        /// Hours that are measured.
        #[arg(long, default_value_t = 2)]
        hours: u64,
        /// Hours before them: until each series has pages of its own, a page is written for several at once.
        #[arg(long, default_value_t = 36)]
        before: u64,
    },
    /// How long each range of a chart takes, with nothing cached.
    Ranges {
        #[arg(long)]
        dir: PathBuf,
    },
    /// Makes a file of each request that an output would send of a journal, in order.
    Bodies {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        into: PathBuf,
    },
    /// Posts such files, one after the other over one connection, as fast as the server answers.
    Post {
        #[arg(long)]
        bodies: PathBuf,
        #[arg(long)]
        port: u16,
        #[arg(long)]
        database: String,
    },
}

#[derive(clap::Args)]
struct Filling {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    rows: usize,
    #[arg(long, value_enum, default_value_t = Kind::Ping)]
    kind: Kind,
    #[arg(long, default_value_t = 100)]
    series: usize,
}

fn main() -> anyhow::Result<()> {
    let Arguments { command, bench: _ } = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clock = Clock::system();
    let figures = match command {
        Command::Accept(filling) => runtime.block_on(accept(&filling, &clock))?,
        Command::Size(filling) => runtime.block_on(size(&filling, &clock))?,
        Command::Encode { rows } => encode(rows, &clock),
        Command::Cap { dir, max_size, receipts } => runtime.block_on(cap(&dir, max_size, receipts, &clock))?,
        Command::Fill(filling) => runtime.block_on(fill(&filling, &clock))?,
        Command::Roll { dir } => runtime.block_on(history::roll(&dir, &clock))?,
        Command::Keep { dir, series, hours, before } => keep::keep(&dir, series, hours, before)?,
        Command::Ranges { dir } => runtime.block_on(history::ranges(&dir, &clock))?,
        Command::Bodies { dir, into } => runtime.block_on(bodies(&dir, &into, &clock))?,
        Command::Post { bodies, port, database } => post(&bodies, port, &database, &clock)?,
    };
    println!("{figures}");
    Ok(())
}

/// Makes rows whose last is of a minute ago.
fn maker(filling: &Filling, clock: &Clock) -> Maker {
    let rounds = filling.rows.div_ceil(filling.series) as u32 + 1;
    Maker::new(filling.kind, filling.series, clock.now().unix.minus(INTERVAL * rounds))
}

/// Bytes that this process had written to a disk.
fn written() -> anyhow::Result<u64> {
    let io = std::fs::read_to_string("/proc/self/io").context("reading /proc/self/io")?;
    let bytes = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).context("no write_bytes in /proc/self/io")?;
    Ok(bytes.parse()?)
}

/// Puts rows in as fast as they become durable, and waits until the last is.
async fn feed(journal: &Journal, pieces: impl Iterator<Item = Vec<Row>>) -> anyhow::Result<()> {
    let mut tip = journal.tip();
    for piece in pieces {
        while journal.stats().waiting > WAITING {
            tip.changed().await?;
        }
        journal.append(piece);
    }
    journal.flush().await?;
    ensure!(journal.stats().dropped_memory == 0, "rows fell out of memory");
    Ok(())
}

async fn accept(filling: &Filling, clock: &Clock) -> anyhow::Result<Value> {
    let mut maker = maker(filling, clock);
    let pieces: Vec<_> = (0..filling.rows.div_ceil(PIECE)).map(|_| maker.take(PIECE)).collect();
    let rows = pieces.len() * PIECE;
    let journal = Journal::open(&filling.dir, SETTINGS, clock.clone(), Mode::Threaded)?;
    let (begun, before) = (clock.mono(), written()?);
    feed(&journal, pieces.into_iter()).await?;
    let (seconds, bytes) = (clock.mono().saturating_sub(begun).as_secs_f64(), written()? - before);
    ensure!(journal.stats().rows == rows as u64, "not every row is in the journal");
    Ok(json!({"rows": rows, "seconds": seconds, "rows_per_s": rows as f64 / seconds, "written_per_row": bytes as f64 / rows as f64}))
}

async fn fill(filling: &Filling, clock: &Clock) -> anyhow::Result<Value> {
    let mut maker = maker(filling, clock);
    let journal = Journal::open(&filling.dir, SETTINGS, clock.clone(), Mode::Threaded)?;
    feed(&journal, (0..filling.rows.div_ceil(PIECE)).map(|_| maker.take(PIECE))).await?;
    let rows = journal.stats().rows;
    journal.close().await?;
    Ok(json!({"rows": rows}))
}

async fn size(filling: &Filling, clock: &Clock) -> anyhow::Result<Value> {
    let rows = fill(filling, clock).await?["rows"].as_u64().context("no rows")?;
    let bytes = filling.dir.join("journal.sqlite3").metadata()?.len();
    Ok(json!({"rows": rows, "bytes_per_row": bytes as f64 / rows as f64}))
}

/// The best of some rounds, as everything else on the machine only takes away from it.
fn best(rows: usize, clock: &Clock, mut work: impl FnMut() -> usize) -> Value {
    let mut fastest = Duration::MAX;
    let mut bytes = 0;
    for _ in 0..5 {
        let begun = clock.mono();
        bytes = work();
        fastest = fastest.min(clock.mono().saturating_sub(begun));
    }
    json!({"rows_per_s": rows as f64 / fastest.as_secs_f64(), "bytes_per_row": bytes as f64 / rows as f64})
}

fn encode(rows: usize, clock: &Clock) -> Value {
    let of = |kind| {
        let rows = Maker::new(kind, 100, clock.now().unix).take(rows);
        let encoded =
            |gzip| best(rows.len(), clock, || rows.chunks(BATCH).filter_map(|batch| line::body(batch, gzip)).map(|body| body.len()).sum());
        json!({"plain": encoded(false), "gzip": encoded(true)})
    };
    json!({"ping": of(Kind::Ping), "mixed": of(Kind::Mixed)})
}

async fn cap(dir: &Path, max_size: u64, receipts: bool, clock: &Clock) -> anyhow::Result<Value> {
    let settings = Settings { max_size, ..SETTINGS };
    let journal = Journal::open(dir, settings, clock.clone(), Mode::Threaded)?;
    // Older than they may be, but the clock is not trusted for that within an hour after a start.
    let mut maker = Maker::new(Kind::Ping, 100, clock.now().unix.minus(Duration::from_hours(60 * 24)));
    let mut put = 0;
    loop {
        let rows = maker.take(10 * PIECE);
        put += rows.len() as u64;
        if receipts {
            let receipt = |row: &Row| Some(Receipt::new(&[&row.series.key()], row.time));
            journal.receive(rows.into_iter().map(|row| (receipt(&row), row)).map(|(receipt, row)| (row, receipt)).collect())?;
        } else {
            journal.append(rows);
        }
        journal.flush().await?;
        let stats = journal.stats();
        ensure!(stats.dropped_size == 0, "rows are lost that count as delivered");
        if stats.rows < put {
            return held(&journal, max_size).await;
        }
    }
}

/// What a journal holds once it is no larger than it may be.
async fn held(journal: &Journal, max_size: u64) -> anyhow::Result<Value> {
    loop {
        journal.flush().await?;
        let stats = journal.stats();
        if stats.bytes <= max_size {
            let per_row = max_size as f64 / stats.rows as f64;
            let days = stats.rows as f64 / 100.0 / 1440.0;
            return Ok(
                json!({"rows": stats.rows, "bytes": stats.bytes, "receipts": stats.receipts, "bytes_per_row": per_row, "days": days}),
            );
        }
    }
}

async fn bodies(dir: &Path, into: &Path, clock: &Clock) -> anyhow::Result<Value> {
    let journal = Journal::open(dir, SETTINGS, clock.clone(), Mode::Threaded)?;
    let tip = *journal.tip().borrow();
    let (mut after, mut rows, mut bytes, mut count) = (Position(0), 0, 0, 0);
    loop {
        let batch = journal.read(after, tip, BATCH).await?;
        let Some(Stored { position, .. }) = batch.last() else { break };
        after = *position;
        let body = line::body(batch.iter().map(|stored| &stored.row), true).context("rows without a line")?;
        std::fs::write(into.join(format!("{count:06}")), &body)?;
        (rows, bytes, count) = (rows + batch.len(), bytes + body.len(), count + 1);
    }
    Ok(json!({"rows": rows, "bodies": count, "bytes": bytes}))
}

fn post(from: &Path, port: u16, database: &str, clock: &Clock) -> anyhow::Result<Value> {
    let mut files: Vec<_> = std::fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    files.sort();
    let head = |length| {
        format!(
            "POST /write?db={database}&precision=ns HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-encoding: gzip\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let request = |file: &PathBuf| std::fs::read(file).map(|body| [head(body.len()).into_bytes(), body].concat());
    let requests = files.iter().map(request).collect::<Result<Vec<_>, _>>()?;
    let mut server = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    server.set_nodelay(true)?;
    let begun = clock.mono();
    for request in &requests {
        server.write_all(request)?;
        stored(&mut server)?;
    }
    Ok(json!({"requests": requests.len(), "seconds": clock.mono().saturating_sub(begun).as_secs_f64()}))
}

/// Reads an answer, which has to be 204: that one has no body.
fn stored(server: &mut TcpStream) -> anyhow::Result<()> {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.ends_with(b"\r\n\r\n") {
        match server.read(&mut piece)? {
            0 => bail!("the server closed the connection"),
            read => answer.extend_from_slice(&piece[..read]),
        }
        ensure!(answer.len() < 64 * 1024, "an answer without an end");
    }
    ensure!(answer.starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}
