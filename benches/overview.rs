//! How long the overview takes to be made, with so many series that all have their last 60 rows: `cargo bench --bench overview`,
//! with another number of series as its argument. Ends with 1 if 1000 series take longer than 50 ms.

#![expect(clippy::print_stdout, reason = "what it prints is its result")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use qosd::clock::{Clock, Timestamp};
use qosd::history::History;
use qosd::measurement::{Row, Series, Value, field_name};
use qosd::page::{Asked, Sight, overview};
use qosd::probe::{Finding, Naming, Outcome};
use qosd::status::Board;
use qosd::status::pairs::Pairs;

/// Series, if no other number is asked for.
const SERIES: usize = 1_000;
/// The longest that this many may take.
const LIMIT: Duration = Duration::from_millis(50);
/// Pages that are made.
const PAGES: usize = 51;
/// Every float of a row of ping.
const FLOATS: [&str; 10] = ["avg", "min", "max", "jitter", "p50", "p95", "p99", "stddev", "jitter_rfc3550", "pdv_p99"];

fn main() -> ExitCode {
    let wanted = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(SERIES);
    let clock = Clock::system();
    let sight = sight(wanted, &clock);
    let mut bytes = 0;
    let mut times: Vec<Duration> = (0..PAGES)
        .map(|_| {
            let before = clock.mono();
            bytes = overview::page(&sight, &Asked::default()).body.len();
            clock.mono().saturating_sub(before)
        })
        .collect();
    times.sort_unstable();
    let (median, worst) = (times[PAGES / 2], times[PAGES - 1]);
    println!("{}", serde_json::json!({ "series": wanted, "bytes": bytes, "median_ms": millis(median), "worst_ms": millis(worst) }));
    ExitCode::from(u8::from(wanted == SERIES && median > LIMIT))
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 1e2
}

fn sight(wanted: usize, clock: &Clock) -> Sight {
    let board = Board::default();
    let naming = Naming { agent: "rome-1".into(), kind: "ping", probe: "core".into() };
    let tags = [("site".to_owned(), "milan".to_owned())].into();
    let series: Vec<Series> = (0..wanted).map(|n| naming.series(&format!("192.0.{}.{}", n / 256, n % 256), "ipv4", &tags)).collect();
    board.schedule(&series);
    let now = clock.now().unix;
    for (number, series) in series.iter().enumerate() {
        (0..60).for_each(|slot| board.observe(&row(series, number, now.minus(Duration::from_mins(60 - slot as u64)), slot)));
    }
    let reported = board.clone();
    // As the service does it, series included.
    let report = move || {
        serde_json::json!({
            "version": "0", "agent": "rome-1", "pid": 1, "uptime_s": 1, "config": { "file": "", "loaded": "", "problem": null },
            "actors": [], "slots": { "scheduled": 0, "rows": 0, "skipped": 0 }, "outputs": [], "collector": null, "mesh": null,
            "journal": {
                "rows": 0, "bytes": 0, "waiting": 0, "dropped_memory": 0, "dropped_size": 0, "dropped_gone": 0, "dropped_dead": 0,
                "failing": null,
            },
            "series": reported.series(now),
        })
    };
    Sight { clock: clock.clone(), report: Arc::new(report), board, pairs: Pairs::default(), history: History::default() }
}

/// One in twenty runs fails, as do all of one series in ten at last.
fn row(series: &Series, number: usize, time: Timestamp, slot: usize) -> Row {
    if (number * 7 + slot).is_multiple_of(20) || (number.is_multiple_of(10) && slot > 50) {
        let finding = Finding::failed(Outcome::Timeout, "0 of 5 replies");
        return Row { series: series.clone(), time, fields: finding.into_fields(None) };
    }
    let mut fields = Finding { outcome: Outcome::Ok, error: None, fields: qosd::measurement::Fields::new() }.into_fields(None);
    for (at, name) in FLOATS.iter().enumerate() {
        fields.put(field_name(&format!("ping_{name}_ms")), Value::Float(10.0 + ((number * 31 + slot * 17 + at) % 97) as f64 / 7.0));
    }
    fields.put("ping_packet_loss_pct", Value::Float(0.0));
    fields.put("ping_sent", Value::Integer(5));
    fields.put("address", Value::Text("192.0.2.1".into()));
    Row { series: series.clone(), time, fields }
}
