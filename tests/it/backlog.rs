//! A backlog of an outage beside live rows, through the whole pipeline in virtual time: neither waits for the other's end.

use std::collections::BTreeSet;
use std::time::Duration;

use actix_rt::System;
use qosd::clock::Timestamp;
use qosd::measurement::{Field, Fields, Row, Series};
use tokio::time::sleep;

use crate::database::{Database, Mood, key};
use crate::service::{Service, World};

/// The most rows that a request carries.
const BATCH: usize = 5_000;
/// The latest that a live row may arrive after its slot.
const SOON: Duration = Duration::from_secs(2);
const PROBE: &str = "[agent]\nname = \"rome-1\"\n[toy.core]\ntargets = [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\"]\ninterval = \"1s\"\n";

/// How many rows were not delivered: twelve requests, and more when it is to be proven.
fn backlog() -> usize {
    if std::env::var_os("QOSD_PROVE").is_some() { 600_000 } else { 60_000 }
}

/// Rows of the time before.
fn outage(until: Timestamp) -> Vec<Row> {
    let row = |n: usize| {
        let mut fields = Fields::new();
        fields.integer(Field::integer("n"), n as i64);
        Row { series: Series::new("m", [("of", "outage")]), time: until.minus(Duration::from_millis(n as u64)), fields }
    };
    (1..=backlog()).rev().map(row).collect()
}

#[test]
fn live_rows_arrive_within_two_seconds_while_a_backlog_drains_to_its_end() {
    System::new().block_on(async {
        let database = Database::taking(BATCH);
        database.is(Mood::Away);
        let service = Service::start(World::Virtual, &[("toy", PROBE)], &database).await;
        let rows = outage(service.started.unix);
        let old: BTreeSet<_> = rows.iter().map(key).collect();
        for some in rows.chunks(BATCH) {
            service.journal.append(some.to_vec());
            service.journal.flush().await.unwrap();
        }
        let asked = database.requests();
        database.is(Mood::Slow);
        let back = service.clock.now().unix;
        sleep(Duration::from_millis(backlog() as u64 / 2)).await;
        let stopped = service.stop().await;

        let arrived = database.arrived();
        let missing = old.iter().filter(|key| !arrived.contains_key(key)).count();
        assert_eq!(missing, 0, "rows of the backlog");
        // Full batches, and every other request at least is one of the backlog's.
        let drained = old.iter().map(|key| arrived[key]).max().unwrap().since(back);
        let least = Duration::from_millis(200) * (old.len() / BATCH) as u32;
        assert!((least..=2 * least + SOON).contains(&drained), "the backlog took {drained:?}");
        let slots = service.slots(stopped);
        // A slot from before may have waited for the end of the outage.
        let late = |(series, slot): &(String, i64)| arrived[&(series.clone(), *slot)].since(Timestamp::from_nanos(*slot).max(back));
        let meanwhile = slots.iter().filter(|(_, slot)| *slot > back.nanos() && *slot < back.plus(drained).nanos()).count();
        assert!(meanwhile >= 10, "only {meanwhile} live rows beside the backlog");
        let latest = slots.iter().map(late).max().unwrap();
        assert!(latest <= SOON, "a live row came {latest:?} after its slot");
        println!("backlog drained in {drained:?}, live rows {latest:?} late at most, {} requests", database.requests() - asked);
    });
}
