//! A journal full of rows that were never delivered: qosd is ready as soon as ever, takes no more memory, sends the backlog in order,
//! and live rows do not wait for it (S12, R3).

use std::fs;
use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qosd::clock::{Clock, Timestamp};
use qosd::journal::{Journal, Mode, Settings};
use qosd::measurement::{Fields, Row, Series, Value};

use crate::bed::daemon::{Home, Running};
use crate::bed::flapping::request;
use crate::bed::memory::Memory;
use crate::bed::net::Namespace;
use crate::bed::{eventually, short_or_long, told};

/// How soon it is ready, whatever its journal holds.
const READY: Duration = Duration::from_secs(2);
/// How late live rows are at most meanwhile, with a machine that is busy with other tests.
const LIVE: Duration = Duration::from_secs(15);
/// The most memory that is taken, in KiB.
const RESIDENT: u64 = 96 << 10;
/// Rows a commit, when the backlog is made.
const AT_ONCE: i64 = 10_000;

/// What the database was sent.
#[derive(Default)]
struct Sent {
    /// Times of the rows of the backlog, as they came.
    backlog: Vec<i64>,
    /// The latest that a live row was.
    latest: Duration,
    live: usize,
    /// Requests while it was away.
    refused: usize,
}

/// A database that takes everything, or is away, and remembers what came when. It ends with the test's process.
#[derive(Clone, Default)]
struct Database {
    sent: Arc<Mutex<Sent>>,
    here: Arc<AtomicBool>,
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    i64::try_from(since.as_nanos()).expect("this century fits into an i64")
}

impl Database {
    /// Gives its `[influxdb.main]` table.
    fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let all = self.clone();
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let one = all.clone();
                thread::spawn(move || one.serve(&connection));
            }
        });
        format!("[influxdb.main]\nurl = \"http://{address}\"\ndatabase = \"qos\"\ngzip = false\n")
    }

    fn serve(&self, mut connection: &TcpStream) {
        let mut reader = BufReader::new(connection);
        while let Some(body) = request(&mut reader) {
            let here = self.here.load(Ordering::Relaxed);
            if here {
                self.take(&body);
            } else {
                self.sent.lock().expect("nobody panics with it").refused += 1;
            }
            let status = if here { "204 No Content" } else { "503 Service Unavailable" };
            // A client that is gone needs no answer.
            if write!(connection, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    }

    fn take(&self, body: &str) {
        let (mut sent, now) = (self.sent.lock().expect("nobody panics with it"), now());
        for line in body.lines() {
            let time: i64 = line.rsplit(' ').next().and_then(|time| time.parse().ok()).expect("a line ends in its time");
            if line.contains("probe=backlog") {
                sent.backlog.push(time);
            } else if line.contains("probe=live") {
                sent.live += 1;
                sent.latest = sent.latest.max(Duration::from_nanos((now - time).unsigned_abs()));
            }
        }
    }

    fn is_back(&self) {
        self.here.store(true, Ordering::Relaxed);
    }
}

/// A row as ping has it.
fn row(host: i64, time: i64) -> Row {
    let mut fields = Fields::new();
    fields.put("result", Value::Text("ok".into()));
    fields.put("result_code", Value::Integer(0));
    fields.put("address", Value::Text("203.0.113.7".into()));
    for name in
        ["ping_avg_ms", "ping_min_ms", "ping_max_ms", "ping_jitter_ms", "ping_p50_ms", "ping_p95_ms", "ping_p99_ms", "ping_stddev_ms"]
    {
        fields.put(name, Value::Float(time as f64 / 7e9));
    }
    fields.put("ping_sent", Value::Integer(5));
    fields.put("ping_received", Value::Integer(5));
    let tags =
        [("target", format!("203.0.113.{host}")), ("source", "under-test".into()), ("probe", "backlog".into()), ("kind", "ping".into())];
    Row { series: Series::new("qos_metrics", tags), time: Timestamp::from_nanos(time), fields }
}

/// Puts rows of a hundred series into a home's journal, as a qosd does whose database was away all the time, and is killed.
fn fill(home: &Home, rows: i64) {
    let settings = Settings { flush: Duration::from_millis(250), max_size: 1 << 30, max_age: Duration::from_hours(720) };
    let journal = Journal::open(&home.path("data"), settings, Clock::system(), Mode::Threaded).expect("the folder is ours");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(journal.output("main", None)).expect("the disk works");
    let first = now() - rows * 1_000_000;
    for begin in (0..rows).step_by(AT_ONCE as usize) {
        journal.append((begin..rows.min(begin + AT_ONCE)).map(|n| row(n % 100, first + n * 1_000_000)).collect());
        runtime.block_on(journal.flush()).expect("the disk works");
    }
}

/// The most memory that it ever had, in KiB.
fn peak(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("proc(5)");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("proc(5)")
}

fn probe(targets: usize, interval: &str) -> String {
    let targets: Vec<_> = (0..targets).map(|n| format!("\"127.0.{}.{}\"", n / 250 + 1, n % 250 + 1)).collect();
    format!("[ping.live]\ntargets = [{}]\ninterval = \"{interval}\"\ncount = 1\ntimeout = \"500ms\"\n", targets.join(", "))
}

/// Waits until all of a backlog was sent.
fn drained(database: &Database, rows: i64) -> Duration {
    let since = Instant::now();
    eventually(Duration::from_secs(short_or_long(120, 1200)), || {
        match database.sent.lock().expect("nobody panics with it").backlog.len() {
            sent if sent as i64 >= rows => Ok(()),
            sent => Err(format!("{sent} of {rows}")),
        }
    });
    since.elapsed()
}

#[test]
fn s12_a_huge_backlog_delays_neither_the_start_nor_live_rows_and_is_sent_in_order() {
    let namespace = Namespace::new();
    let database = Database::default();
    let output = namespace.enter(|| database.start());
    let home = Home::new(&format!("{output}{}", probe(20, "1s")));
    let rows = short_or_long(100_000, 1_000_000);
    fill(&home, rows);
    database.is_back();
    let mut running = home.launch_in(&namespace);
    let ready = running.ready(Duration::from_mins(1));
    let took = drained(&database, rows);
    let (resident, sent) = (peak(&running), std::mem::take(&mut *database.sent.lock().expect("nobody panics with it")));
    running.stop();
    told(&format!(
        "{rows} rows: ready after {ready:?}, sent in {took:?}, {} live rows meanwhile, the latest after {:?}, at most {resident} KiB",
        sent.live, sent.latest
    ));
    assert!(ready <= READY, "ready after {ready:?}");
    assert!(resident <= RESIDENT, "{resident} KiB");
    // The newest rows of before went first, with the first live ones.
    let descents = sent.backlog.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(descents <= 1, "{descents} times an older row followed a newer one");
    assert_eq!(sent.backlog.len() as i64, rows, "each once");
    assert!(sent.live > 0 && sent.latest <= LIVE, "{} live rows, the latest after {:?}", sent.live, sent.latest);
}

#[test]
fn r3_a_thousand_series_and_a_backlog_stay_below_a_limit_of_64_mib() {
    let memory = Memory::limited_to(64 << 20);
    let namespace = Namespace::new();
    let database = Database::default();
    let output = namespace.enter(|| database.start());
    let home = Home::new(&format!("{output}{}", probe(1000, "5s"))).within(&memory);
    let rows = short_or_long(30_000, 500_000);
    fill(&home, rows);
    let running = home.start_in(&namespace);
    // Away at first, so that it reads and tries, and live rows become a backlog, too.
    eventually(Duration::from_mins(5), || match database.sent.lock().expect("nobody panics with it").refused {
        refused if refused >= short_or_long(3, 7) => Ok(()),
        refused => Err(format!("{refused} requests")),
    });
    database.is_back();
    let took = drained(&database, rows);
    let resident = peak(&running);
    told(&format!(
        "1000 series, {rows} rows sent in {took:?}: at most {resident} KiB, {} with the kernel's for files",
        memory.peak() >> 10
    ));
    assert_eq!(memory.kills(), 0);
    running.stop();
}
