//! SIGKILL at any instant, under load and with a database that flaps: what was accepted is there, once, and nothing else.
//!
//! What was accepted is told by witnesses outside of the process that is killed: the database remembers every row that it was
//! ever shown, and a reader looks at the journal until just before the kill. Among the instants is the one at which the database
//! has taken rows and qosd has not noted it yet (S15): they are sent again, and are there once.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::bed::daemon::{Home, Running, pause};
use crate::bed::flapping::{Flapping, Mood};
use crate::bed::net::Namespace;
use crate::bed::oracle::{Books, Counters, Scheduled, Sums};
use crate::bed::rows::by_key;
use crate::bed::witness::Witness;
use crate::bed::{eventually, need_root, short_or_long, told};

mod memory;

/// Rows a second.
const SERIES: usize = 300;
/// From row to row.
const INTERVAL: i64 = 1_000_000_000;
/// How many of them live at a time.
const SIDE_BY_SIDE: usize = 3;
/// How soon after its start qosd has to be ready, whatever it was doing when it was killed: nine times of ten, as one may meet
/// a machine that is busy with other things.
const READY: Duration = Duration::from_secs(1);
/// How soon it has to be ready even then.
const READY_AT_ALL: Duration = Duration::from_secs(30);
/// How long it lives after it was ready, at most.
const LIFE: Duration = Duration::from_millis(700);
/// How often the journal is looked at before a kill, and then just before it.
const LOOKS_EVERY: Duration = Duration::from_millis(20);
/// How long a start that is killed before it is ready lives, at most.
const STILLBORN: Duration = Duration::from_millis(80);
/// Longer than what is left takes to be delivered, after the longest back-off.
const DRAINED: Duration = Duration::from_mins(2);

/// qosd with its targets on loopback, and its database.
struct Bed {
    namespace: Namespace,
    database: Flapping,
    home: Home,
    since: i64,
}

impl Bed {
    fn new(hooks: Option<&str>) -> Self {
        need_root();
        let namespace = Namespace::new();
        let database = namespace.enter(Flapping::start);
        namespace.sysctl("net/ipv4/ip_local_reserved_ports", &database.port().to_string());
        // Every other target is silent: its slots are open until the time is up.
        namespace.nft("input", &["ip daddr 127.2.0.0/16 drop"]);
        let targets: Vec<_> = (0..SERIES).map(|n| format!("\"127.{}.0.{}\"", n % 2 + 1, n / 2 + 1)).collect();
        let ping = format!("[ping.many]\ntargets = [{}]\ninterval = \"1s\"\ncount = 1\ntimeout = \"200ms\"\n", targets.join(", "));
        let mut home = Home::new(&format!("[journal]\nflush = \"20ms\"\n{}{ping}", database.output()));
        if let Some(hooks) = hooks {
            home = home.with_environment([("QOSD_TEST_HOOKS", PathBuf::from(hooks))]);
        }
        Self { namespace, database, home, since: now() }
    }

    fn journal(&self) -> PathBuf {
        self.home.path("data/journal.sqlite3")
    }

    /// From here on nothing is measured, and the database takes everything.
    fn measure_nothing(&self) {
        self.home.configure(&self.database.output());
        self.database.flaps(false);
    }

    fn status(&self) -> Result<Value, String> {
        let (_, body) = ask(&self.home, "GET", "/api/v1/status").map_err(|error| error.to_string())?;
        serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))
    }

    /// What qosd counts.
    fn counters(&self) -> Result<Counters, String> {
        Counters::of(&self.status()?, "main")
    }

    /// Compares everything.
    fn audit(&self, until: i64, counters: Counters) -> Result<Sums, String> {
        let (rows, database) = (self.home.rows(), self.database.holds());
        let scheduled = Scheduled { series: SERIES, interval: INTERVAL, from: self.since, until };
        let sums = Books { scheduled, journal: &rows, database: &database, counters }.audit()?;
        if let Some(wrong) = self.database.wrong().first() {
            return Err(wrong.clone());
        }
        // What the database refused was durable, too.
        let journal = by_key(rows);
        let made_up = self.database.shown().into_iter().find(|(key, fields)| journal.get(key) != Some(fields));
        made_up.map_or(Ok(sums), |row| Err(format!("shown, and not in the journal: {row:?}")))
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    i64::try_from(since.as_nanos()).expect("this century fits into an i64")
}

/// A request on the state socket; gives head and body of the answer.
fn ask(home: &Home, method: &str, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = UnixStream::connect(home.socket())?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: qosd\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    Ok((head.to_owned(), body.to_owned()))
}

/// One life, until SIGKILL. Says how long it took to be ready, if it came to that.
fn live_and_die(bed: &Bed, witness: &mut Witness) -> Option<Duration> {
    let mut running = bed.home.launch_in(&bed.namespace);
    if rand::random_bool(0.2) {
        pause(Duration::ZERO, STILLBORN);
        running.kill();
        return None;
    }
    let ready = running.ready(READY_AT_ALL);
    let (born, age) = (Instant::now(), rand::random_range(Duration::ZERO..LIFE));
    while let Some(left) = age.checked_sub(born.elapsed()).filter(|left| !left.is_zero()) {
        thread::sleep(left.min(LOOKS_EVERY));
        witness.look();
    }
    running.kill();
    Some(ready)
}

/// What is to be told of some lives.
#[derive(Default)]
struct Lives {
    killed: usize,
    ready: Vec<Duration>,
    seen: usize,
    results: BTreeMap<String, usize>,
    requests: BTreeMap<Mood, usize>,
}

impl Lives {
    fn and(mut self, other: Self) -> Self {
        self.killed += other.killed;
        self.ready.extend(other.ready);
        self.seen += other.seen;
        other.results.into_iter().for_each(|(result, count)| *self.results.entry(result).or_default() += count);
        other.requests.into_iter().for_each(|(mood, count)| *self.requests.entry(mood).or_default() += count);
        self
    }
}

/// Lives of one qosd, one after the other, and the account of them all.
fn live_and_die_again_and_again(lives: usize) -> Lives {
    let bed = Bed::new(None);
    let mut witness = Witness::of(bed.journal());
    // From the first time that it is ready on, every slot is to have its row.
    let running = bed.start();
    let bed = Bed { since: now(), ..bed };
    running.kill();
    bed.database.flaps(true);
    let ready = (1..lives).filter_map(|_| live_and_die(&bed, &mut witness)).collect();
    let sums = account(&bed, &witness);
    Lives { killed: lives, ready, seen: witness.count(), results: sums.results, requests: bed.database.requests() }
}

/// The account of all lives, once the last was killed.
fn account(bed: &Bed, witness: &Witness) -> Sums {
    // What the last kill left is told by one more life, which ends well.
    let running = bed.start();
    let until = now();
    running.stop();
    bed.measure_nothing();
    let running = bed.start();
    let counters = eventually(DRAINED, || match bed.counters()? {
        counters if counters.pending == 0 => Ok(counters),
        counters => Err(format!("{counters:?}")),
    });
    running.stop();
    // Each life counts its own: what was ever delivered is what the database has.
    let delivered = bed.database.holds().len() as u64;
    let sums = bed.audit(until, Counters { slots: None, delivered, ..counters }).unwrap_or_else(|why| panic!("{why}"));
    witness.confirm().unwrap_or_else(|why| panic!("{why}"));
    sums
}

#[test]
fn p9_whatever_was_accepted_survives_kill_9_at_any_instant() {
    let (each, begun) = (short_or_long(34, 334), Instant::now());
    // Several side by side, as each spends most of its time waiting.
    let all = thread::scope(|scope| {
        let sides = [(); SIDE_BY_SIDE].map(|()| scope.spawn(|| live_and_die_again_and_again(each)));
        let ended = sides.map(|side| side.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.into_iter().fold(Lives::default(), Lives::and)
    });
    let Lives { killed, mut ready, seen, results, requests } = all;
    ready.sort_unstable();
    let rank = |percent: usize| ready[(ready.len() * percent).div_ceil(100) - 1];
    told(&format!(
        "{killed} kills in {:?}, {} of a qosd that was ready; that was after p50 {:?}, p99 {:?}, max {:?}; rows {results:?}, {seen} of them seen before a kill; requests {requests:?}",
        begun.elapsed(),
        ready.len(),
        rank(50),
        rank(99),
        rank(100),
    ));
    assert!(rank(90) <= READY, "ready after {:?}", rank(90));
    assert!(["ok", "timeout", "skipped"].iter().all(|result| results[*result] > 0), "{results:?}");
    assert!(requests.contains_key(&Mood::Takes) && requests.len() > 1, "{requests:?}");
}

impl Bed {
    fn start(&self) -> Running {
        self.home.start_in(&self.namespace)
    }

    /// How often the writer was started again, if it works.
    fn writer_restarts(&self) -> Result<u64, String> {
        let status = self.status()?;
        let actors = status["actors"].as_array().ok_or("actors are a list")?;
        let writer = actors.iter().find(|actor| actor["name"] == "writer").ok_or("there is no writer")?;
        let restarts = writer["restarts"].as_u64().filter(|_| writer["state"] == "running" || writer["state"] == "degraded");
        restarts.ok_or_else(|| writer.to_string())
    }
}

#[test]
fn p3_a_writer_that_panics_at_any_instant_loses_nothing() {
    let bed = Bed::new(Some("healthy_after=50ms"));
    let mut running = bed.start();
    let bed = Bed { since: now(), ..bed };
    bed.database.flaps(true);
    let panics = short_or_long(10, 200);
    for panic in 1..=panics {
        // A healthy life, then any instant of it.
        pause(Duration::from_millis(60), Duration::from_millis(200));
        let (head, _) = ask(&bed.home, "POST", "/test/fault/writer/panic").expect("it takes requests");
        assert!(head.contains(" 204 "), "{head}");
        eventually(Duration::from_secs(20), || match bed.writer_restarts()? {
            restarts if restarts == panic => Ok(()),
            restarts => Err(format!("{restarts} restarts, not {panic}")),
        });
    }
    let until = now();
    bed.measure_nothing();
    running.reload();
    // Comparing everything is work that would keep it from being done.
    eventually(DRAINED, || if bed.counters()?.pending == 0 { Ok(()) } else { Err("rows are pending".to_owned()) });
    // Runs that were under way are over a moment later.
    let sums = eventually(DRAINED, || bed.audit(until - INTERVAL, bed.counters()?));
    running.stop();
    assert_eq!(sums.results.keys().collect::<Vec<_>>(), ["ok", "timeout"], "the probes notice nothing");
}
