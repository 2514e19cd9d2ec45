//! Days of the service in virtual time: slots scheduled = rows in the journal = rows in the database, whatever fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use actix_rt::System;
use qosd::clock::Timestamp;
use qosd::measurement::{Row, Value};
use tokio::time::sleep;

use crate::database::{BATCH, Database, Mood, key};
use crate::service::{SOON, Service, World, target};

/// What is said of a run that was ended a second after it should have.
const TOO_LONG: &str = "the run did not end within 1.1s";
const MINUTE: Duration = Duration::from_mins(1);

/// A probe of the toy kind with this many targets.
fn probe(targets: usize, more: &str) -> String {
    let targets: Vec<String> = (0..targets).map(|n| format!("\"host-{n}\"")).collect();
    format!("[agent]\nname = \"rome-1\"\n[toy.core]\ntargets = [{}]\ninterval = \"60s\"\n{more}\n", targets.join(", "))
}

/// How the database is in a minute of the day: away from the 8th to the 14th hour, and before and after ill in every way.
fn mood(minute: u64) -> Mood {
    let ways = Mood::BAD.len() as u64;
    match minute / 60 {
        8..14 => Mood::Away,
        // Five minutes of each, with one minute of health in between.
        7 | 14 => {
            if minute % 6 == 5 {
                Mood::Well
            } else {
                Mood::BAD[(minute / 6 % ways) as usize]
            }
        }
        _ => Mood::Well,
    }
}

fn float(row: &Row, field: &str) -> Option<f64> {
    match row.fields.get(field) {
        Some(Value::Float(value)) => Some(*value),
        _ => None,
    }
}

fn text<'a>(row: &'a Row, field: &str) -> &'a str {
    match row.fields.get(field) {
        Some(Value::Text(value)) => value,
        _ => "",
    }
}

/// Stops the service and checks that each slot of each series is one row in the journal and the same in the database.
async fn settle(service: &Service, database: &Database) -> Vec<Row> {
    database.is(Mood::Well);
    let stopped = service.stop().await;
    let slots = service.slots(stopped);
    let rows = service.rows().await;
    let keys: BTreeSet<_> = rows.iter().map(key).collect();
    assert_eq!(keys.len(), rows.len(), "a slot with two rows");
    assert!(keys == slots, "rows without a slot: {:?}, slots without a row: {:?}", keys.difference(&slots), slots.difference(&keys));
    let delivered: BTreeSet<_> = database.keys().into_iter().collect();
    assert!(delivered == keys, "the database lacks {:?}", keys.difference(&delivered));
    assert_eq!(database.amended(), 0);
    let (counts, all) = (service.counts(), rows.len() as u64);
    let skipped = rows.iter().filter(|row| text(row, "result") == "skipped").count() as u64;
    assert_eq!((counts.scheduled, counts.rows, counts.skipped), (all, all, skipped));
    let stats = service.journal.stats();
    assert_eq!((stats.rows, stats.waiting, stats.dropped_memory, stats.dropped_size, stats.damaged), (all, 0, 0, 0, 0));
    rows
}

#[test]
fn a_day_with_the_database_away_for_six_hours_is_scheduled_stored_and_delivered() {
    System::new().block_on(async {
        let database = Database::default();
        let service = Service::start(World::Virtual, &[("toy", &probe(20, ""))], &database).await;
        let mut most_waiting = 0;
        let mut most_pending = 0;
        for minute in 0..24 * 60 {
            database.is(mood(minute));
            sleep(MINUTE).await;
            most_waiting = most_waiting.max(service.journal.stats().waiting);
            most_pending = most_pending.max(service.statuses.get("main").unwrap().pending);
        }
        let rows = settle(&service, &database).await;
        assert_eq!(rows.len(), 20 * 24 * 60);
        assert!(rows.iter().all(|row| text(row, "result") == "ok"));
        // No drift: the last runs begin as soon after their slots as the first.
        let late = rows.iter().map(|row| float(row, "toy_late_ms").unwrap()).fold(0.0, f64::max);
        assert!(late <= 2.0, "a run began {late} ms after its slot");
        // Memory: what piles up is in the journal.
        assert!(most_pending >= 6 * 60 * 20, "{most_pending} pending");
        assert_eq!(most_waiting, 0);
        assert!(service.most_queued() <= 20, "{} rows in the queue", service.most_queued());
        let (largest, bytes) = database.largest();
        assert!(largest <= BATCH && bytes <= BATCH * 512, "a request of {largest} rows, {bytes} bytes");
        println!(
            "{} rows, queue at most {}, request at most {largest} rows and {bytes} bytes, {} requests",
            rows.len(),
            service.most_queued(),
            database.requests()
        );
    });
}

#[test]
fn panics_of_probe_and_writer_cost_only_the_runs_that_they_interrupt() {
    const TAKES: &str = "takes = \"2s\"";
    // Milliseconds within a minute, when runs begin at 0 and 30 s: just before, just after, amid, and between them.
    const PLACES: [u64; 6] = [29_950, 30_001, 31_000, 32_500, 59_950, 60_500];
    System::new().block_on(async {
        let database = Database::default();
        let service = Service::start(World::Virtual, &[("toy", &probe(20, TAKES))], &database).await;
        let first = Timestamp::from_nanos(service.started.unix.nanos() / 60_000_000_000 * 60_000_000_000);
        let mut panics = Vec::new();
        for minute in 0..4 * 60 {
            database.is(mood(6 * 60 + minute));
            let place = PLACES[(minute / 2 % PLACES.len() as u64) as usize];
            let at = first.plus(MINUTE * minute as u32 + Duration::from_millis(place));
            sleep(at.since(service.clock.now().unix)).await;
            let actor = if minute % 2 == 0 { "toy" } else { "writer" };
            if actor == "toy" {
                panics.push(service.clock.now().unix);
            }
            assert!(service.panic(actor).await <= SOON);
        }
        // The last runs end within this.
        sleep(Duration::from_secs(10)).await;
        let rows = settle(&service, &database).await;
        let (skipped, run): (Vec<_>, Vec<_>) = rows.iter().partition(|row| text(row, "result") == "skipped");
        assert!(run.iter().all(|row| text(row, "result") == "ok" && float(row, "toy_late_ms").unwrap() <= 2.0), "a run was made up for");
        assert!(!skipped.is_empty() && skipped.len() < rows.len() / 3, "{} of {} skipped", skipped.len(), rows.len());
        for row in skipped {
            assert_eq!(text(row, "error"), "restart");
            // In flight at a panic, or due while the actor was away.
            let near =
                |panic: &Timestamp| row.time <= panic.plus(Duration::from_millis(200)) && panic.since(row.time) <= Duration::from_secs(2);
            assert!(panics.iter().any(near), "{} was not interrupted", row.time);
        }
        let amid = |time: Timestamp| panics.iter().any(|panic| time < *panic && panic.since(time) < Duration::from_secs(2));
        assert!(!run.iter().any(|row| amid(row.time)), "an interrupted run has a result");
    });
}

#[test]
fn a_bad_target_costs_the_others_no_slot_and_one_that_breaks_the_engine_the_runs_in_flight() {
    // Those with an even number run together, and half a minute later the others.
    const BAD: &str = "does = { host-1 = \"breaks\", host-2 = \"panics\", host-4 = \"hangs\", host-6 = \"crawls\" }\nevery = 5";
    System::new().block_on(async {
        let database = Database::default();
        let service = Service::start(World::Virtual, &[("toy", &probe(8, BAD))], &database).await;
        // The last runs end within the extra seconds.
        sleep(60 * MINUTE + Duration::from_secs(10)).await;
        let rows = settle(&service, &database).await;
        let mut results: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
        for row in &rows {
            let error = text(row, "error").split(" at ").next().unwrap();
            *results.entry((target(&row.series), text(row, "result"), error)).or_default() += 1;
        }
        let mut expected = BTreeMap::from([(("host-0", "ok", ""), 60)]);
        for bad in ["host-1", "host-3", "host-5", "host-7"] {
            expected.extend([((bad, "ok", ""), 48), ((bad, "skipped", "restart"), 12)]);
        }
        for (bad, error) in [("host-2", "panic"), ("host-4", TOO_LONG), ("host-6", TOO_LONG)] {
            expected.extend([((bad, "ok", ""), 48), ((bad, "local_error", error), 12)]);
        }
        assert_eq!(results, expected);
        assert_eq!((service.actor("toy").restarts, service.actor("writer").restarts), (12, 0));
    });
}
