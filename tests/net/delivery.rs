//! What the journal holds is in the database, each row once and value by value, whatever happens to either.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::bed::daemon::{Home, pause};
use crate::bed::influx::Influx;
use crate::bed::rows::{Rows, by_key, difference, within};
use crate::bed::victoria::Victoria;
use crate::bed::{eventually, need_root, short_or_long};

const SERIES: usize = 20;
/// Longer than a database takes to come up and qosd to notice after its longest back-off.
const DRAINED: Duration = Duration::from_secs(90);

/// 20 series on loopback, a row a second each.
fn probe() -> String {
    let targets: Vec<_> = (1..=SERIES).map(|n| format!("\"127.0.1.{n}\"")).collect();
    let targets = targets.join(", ");
    format!("[ping.many]\ntargets = [{targets}]\ninterval = \"1s\"\ncount = 3\nspacing = \"50ms\"\ntimeout = \"500ms\"\n")
}

/// Runs until every series has this many rows, and stops with SIGTERM.
fn measure(home: &Home, rows_each: usize) {
    let running = home.start();
    eventually(Duration::from_secs(rows_each as u64 + 20), || {
        let rows = home.probe_rows();
        let mut each: HashMap<_, usize> = HashMap::new();
        for row in &rows {
            *each.entry(row.tag("target").to_owned()).or_default() += 1;
        }
        let least = each.values().copied().min().unwrap_or(0);
        if each.len() == SERIES && least >= rows_each { Ok(()) } else { Err(format!("{} series, {least} rows each", each.len())) }
    });
    running.stop();
}

/// The journal's rows, with the least that there must be.
fn journal(home: &Home, least: usize) -> Rows {
    let rows = by_key(home.rows());
    assert!(rows.len() >= least, "the journal has only {} rows", rows.len());
    rows
}

#[test]
fn a_real_influxdb_holds_exactly_the_journal_s_rows_value_by_value() {
    need_root();
    let rows_each = short_or_long(6, 600);
    let influx = Influx::start();
    let output = influx.output("main", Duration::from_millis(300));
    let home = Home::new(&format!("{output}{}", probe()));
    measure(&home, rows_each);
    // What was not delivered when it stopped is delivered by the next incarnation, which measures nothing itself.
    home.configure(&output);
    let running = home.start();
    eventually(DRAINED, || difference(&journal(&home, rows_each * SERIES), &influx.rows()));
    running.stop();
    difference(&journal(&home, rows_each * SERIES), &influx.rows()).expect("nothing comes or goes after the end");
    assert_types_agree(&journal(&home, 1), &influx);
}

fn assert_types_agree(journal: &Rows, influx: &Influx) {
    let types = influx.field_types();
    for (name, value) in journal.values().flatten() {
        let ours = match value {
            Value::String(_) => "string",
            Value::Number(number) if number.is_f64() => "float",
            _ => "integer",
        };
        assert_eq!(types[name], ours, "{name}");
    }
}

#[test]
fn a_real_victoria_metrics_holds_every_number_of_the_journal_and_no_other() {
    need_root();
    let rows_each = short_or_long(6, 600);
    let victoria = Victoria::start();
    let port = victoria.port;
    let output = format!(
        "[influxdb.main]\nurl = \"http://127.0.0.1:{port}\"\norg = \"o\"\nbucket = \"b\"\ntoken_file = \"token\"\nflush_interval = \"300ms\"\n"
    );
    let home = Home::new(&format!("{output}{}", probe()));
    home.file("token", "any\n");
    measure(&home, rows_each);
    home.configure(&output);
    let running = home.start();
    eventually(DRAINED, || numbers_agree(&journal(&home, rows_each * SERIES), &victoria));
    running.stop();
}

/// Name of the metric with its labels, and milliseconds.
type Sample = (BTreeMap<String, String>, i64);

/// The journal's fields as samples; text has no number.
fn samples(journal: &Rows) -> BTreeMap<Sample, Option<f64>> {
    let mut samples = BTreeMap::new();
    for (key, fields) in journal {
        for (field, value) in fields {
            let mut labels = key.tags.clone();
            labels.insert("__name__".to_owned(), format!("{}_{field}", key.measurement));
            samples.insert((labels, key.time.div_euclid(1_000_000)), value.as_f64());
        }
    }
    samples
}

fn numbers_agree(journal: &Rows, victoria: &Victoria) -> Result<(), String> {
    let expected = samples(journal);
    let mut missing: BTreeSet<_> = expected.iter().filter(|(_, value)| value.is_some()).map(|(sample, _)| sample).collect();
    for mut metric in victoria.metrics() {
        // What VictoriaMetrics makes of the bucket.
        metric.labels.remove("db");
        // A row that was sent again is there twice, with the same value: harmless, as its queries see one.
        for (time, stored) in metric.timestamps.into_iter().zip(metric.values) {
            let sample = (metric.labels.clone(), time);
            match expected.get(&sample) {
                Some(Some(number)) if !within(*number, stored, 1e-11) => return Err(format!("{sample:?}: {stored}, not {number}")),
                // Text is stored as 0.
                Some(_) => missing.remove(&sample),
                None => return Err(format!("{sample:?}: not in the journal")),
            };
        }
    }
    missing.first().map_or(Ok(()), |sample| Err(format!("{} numbers are missing, such as {sample:?}", missing.len())))
}

#[test]
fn rows_survive_kill_9_at_any_moment_with_the_database_up_and_down_in_turn() {
    need_root();
    let rounds = short_or_long(5, 50);
    let mut influx = Influx::start();
    let output = influx.output("main", Duration::from_millis(100));
    let home = Home::new(&format!("{output}{}", probe()));
    for round in 0..rounds {
        let running = home.start();
        pause(Duration::ZERO, Duration::from_millis(2500));
        running.kill();
        if round % 2 == 0 { influx.down() } else { influx.up() }
    }
    if rounds % 2 == 1 {
        influx.up();
    }
    home.configure(&output);
    let running = home.start();
    eventually(DRAINED, || difference(&journal(&home, rounds * 2), &influx.rows()));
    running.stop();
}

#[test]
fn a_backlog_of_an_outage_is_delivered_when_the_database_is_back_and_live_rows_with_it() {
    need_root();
    let mut influx = Influx::start();
    let home = Home::new(&format!("{}{}", influx.output("main", Duration::from_millis(300)), probe()));
    influx.down();
    let running = home.start();
    eventually(Duration::from_secs(20), || {
        let rows = home.probe_rows().len();
        if rows >= 3 * SERIES { Ok(()) } else { Err(format!("only {rows} rows")) }
    });
    influx.up();
    let before = journal(&home, 3 * SERIES);
    eventually(DRAINED, || {
        let stored = influx.rows();
        let missing = before.keys().filter(|key| !stored.contains_key(key)).count();
        let live = stored.keys().any(|key| !before.contains_key(key));
        if missing == 0 && live { Ok(()) } else { Err(format!("{missing} rows missing, live rows: {live}")) }
    });
    running.stop();
}

#[test]
fn sigterm_ends_it_in_two_seconds_while_the_database_hangs() {
    need_root();
    let database = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = database.local_addr().expect("it is bound").port();
    let (asked, request) = mpsc::channel();
    // Takes every request and never answers. Ends with the test's process.
    thread::spawn(move || {
        let mut held = Vec::new();
        for mut connection in database.incoming().map_while(Result::ok) {
            let mut first = [0];
            if connection.read(&mut first).is_ok_and(|length| length == 1) {
                // Nobody listens any more once the test is over.
                let _ = asked.send(());
            }
            held.push(connection);
        }
    });
    let output =
        format!("[influxdb.main]\nurl = \"http://127.0.0.1:{port}\"\ndatabase = \"qos\"\nflush_interval = \"100ms\"\ntimeout = \"1m\"\n");
    let home = Home::new(&format!("{output}{}", probe()));
    let mut running = home.start();
    request.recv_timeout(Duration::from_secs(20)).expect("it sends rows");
    let before = home.rows().len();
    let (status, time) = running.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(time <= Duration::from_secs(2), "it took {time:?}");
    assert!(home.rows().len() >= before, "what was durable stays");
}
