//! The oracle finds what is planted: a hole, a double, an altered value, a wrong count. Else it would prove nothing.

use serde_json::json;

use crate::bed::oracle::{Books, Counters, Scheduled, Sums};
use crate::bed::rows::{Exported, by_key};

const SECOND: i64 = 1_000_000_000;
/// 2023-11-14T22:13:20Z.
const BEGIN: i64 = 1_700_000_000 * SECOND;
const SERIES: i64 = 3;
const SLOTS: i64 = 20;

fn row(series: i64, slot: i64) -> Exported {
    let time = humantime::parse_rfc3339("2023-11-14T22:13:20Z").expect("a time") + std::time::Duration::from_secs(slot as u64);
    let time = humantime::format_rfc3339_nanos(time).to_string();
    let tags = json!({"target": format!("t{series}"), "source": "s"});
    let fields = json!({"result": "ok", "ping_avg_ms": 1.25, "ping_sent": slot});
    Exported::parse(&json!({"measurement": "qos_metrics", "time": time, "tags": tags, "fields": fields}).to_string())
}

/// What agrees in everything, and what a test makes of it.
struct Case {
    journal: Vec<Exported>,
    database: Vec<Exported>,
    counters: Counters,
}

impl Case {
    fn new() -> Self {
        let rows: Vec<_> = (0..SLOTS).flat_map(|slot| (0..SERIES).map(move |series| row(series, slot))).collect();
        let count = rows.len() as u64;
        let counters = Counters { slots: Some((count, count)), rows: count, delivered: count, ..Counters::default() };
        Self { journal: rows.clone(), database: rows, counters }
    }

    fn audit(&self) -> Result<Sums, String> {
        let scheduled = Scheduled { series: SERIES as usize, interval: SECOND, from: BEGIN, until: BEGIN + (SLOTS - 1) * SECOND };
        let database = by_key(self.database.clone());
        Books { scheduled, journal: &self.journal, database: &database, counters: self.counters }.audit()
    }

    /// Counts what is in journal and database, so that nothing but the rows is wrong.
    fn counted(mut self) -> Self {
        let (rows, delivered) = (self.journal.len() as u64, self.database.len() as u64);
        self.counters = Counters { slots: Some((rows, rows)), rows, delivered, ..Counters::default() };
        self
    }

    fn without(mut self, index: usize) -> Self {
        self.journal.remove(index);
        self.database.remove(index);
        self.counted()
    }
}

/// The complaints of these kinds, and no other.
fn complains(case: &Case, kinds: &[&str]) {
    let why = case.audit().expect_err("something is planted");
    let said: Vec<_> =
        why.lines().filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_once(": ")).map(|(kind, _)| kind).collect();
    for kind in kinds {
        assert!(said.contains(kind), "no {kind:?} in\n{why}");
    }
}

#[test]
fn the_oracle_agrees_with_what_agrees() {
    let sums = Case::new().audit().unwrap_or_else(|why| panic!("{why}"));
    assert_eq!((sums.slots, sums.results["ok"]), (60, 60));
}

#[test]
fn the_oracle_finds_a_hole_wherever_it_is() {
    complains(&Case::new().without(30), &["holes"]);
    complains(&Case::new().without(1), &["holes at an end"]);
    complains(&Case::new().without(58), &["holes at an end"]);
    let mut case = Case::new();
    case.journal.retain(|row| row.tag("target") != "t1");
    case.database = case.journal.clone();
    complains(&case.counted(), &["series"]);
}

#[test]
fn the_oracle_finds_a_double_and_a_row_that_is_no_slot() {
    let mut case = Case::new();
    case.journal.push(row(1, 7));
    complains(&case, &["doubles", "doubles in the journal"]);
    let mut case = Case::new();
    let text = serde_json::json!({"measurement": "qos_metrics", "time": "2023-11-14T22:13:25.000000001Z",
        "tags": {"target": "t1", "source": "s"}, "fields": {"result": "ok"}});
    case.journal.push(Exported::parse(&text.to_string()));
    case.database = case.journal.clone();
    complains(&case.counted(), &["rows that are no slots"]);
}

#[test]
fn the_oracle_finds_what_the_database_lacks_has_too_much_or_has_otherwise() {
    let mut case = Case::new();
    case.database.pop();
    complains(&case, &["differences to the database", "counters"]);
    let mut case = Case::new();
    case.database.push(row(1, SLOTS));
    complains(&case, &["differences to the database", "counters"]);
    for (field, value) in [("ping_avg_ms", json!(1.251)), ("ping_sent", json!(8)), ("result", json!("no"))] {
        let mut case = Case::new();
        case.database[22].fields.insert(field.to_owned(), value);
        complains(&case, &["differences to the database"]);
    }
    let mut case = Case::new();
    case.database[22].fields.remove("ping_sent");
    complains(&case, &["differences to the database"]);
}

#[test]
fn the_oracle_finds_a_count_that_is_wrong() {
    let count = Case::new().counters;
    let wrong = [
        Counters { slots: Some((61, 60)), ..count },
        Counters { slots: Some((61, 61)), ..count },
        Counters { rows: 61, ..count },
        Counters { delivered: 59, ..count },
        Counters { delivered: 59, pending: 1, ..count },
        Counters { pending: 1, ..count },
        Counters { dead: 1, ..count },
        Counters { dropped: 1, ..count },
    ];
    for counters in wrong {
        complains(&Case { counters, ..Case::new() }, &["counters"]);
    }
}
