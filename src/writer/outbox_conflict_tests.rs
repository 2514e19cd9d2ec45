//! The outbox against a database that has other types for some fields, shard by shard.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::journal::Stored;
use crate::measurement::{Fields, Row, Series, Value};
use crate::writer::Verdict;
use crate::writer::part::RefusedField;

const BATCH: usize = 5000;

/// What rows of a kind have.
const PING: &[&str] = &["ping_avg_ms", "result"];
const IPERF3: &[&str] = &["iperf_bandwidth_mbps", "iperf_jitter_ms", "result"];
const HTTP: &[&str] = &["http_ping_ms", "http_status_code", "http_download_ms", "http_upload_ms", "result"];
/// What the scripts wrote as integers.
const OLD: &[&str] = &["iperf_jitter_ms", "http_ping_ms", "http_download_ms", "http_upload_ms"];

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn row(position: u64, fields: &[&str]) -> Stored {
    let mut set = Fields::new();
    for field in fields {
        set.put(crate::measurement::field_name(field), Value::Integer(1));
    }
    let time = Timestamp::from_nanos(i64::try_from(position).unwrap());
    Stored { position: Position(position), row: Row { series: Series::new("m", [("a", "b")]), time, fields: set } }
}

/// A row as it is sent: position and fields.
type Line = (u64, Vec<String>);

fn line(text: &str) -> Line {
    let (position, fields) = text.split_once(' ').unwrap();
    (position.parse().unwrap(), fields.split(',').map(str::to_owned).collect())
}

/// How a database tells that it refuses a field.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Words {
    /// The first, and how many lines of that shard were not stored.
    Count,
    /// The first alone; nothing is stored.
    Name,
    /// Nothing.
    None,
}

/// A database that refuses fields, in shards of so many rows, each with its own.
struct Database {
    shards: Vec<Vec<&'static str>>,
    rows_a_shard: u64,
    words: Words,
    /// Rows by position, and their fields.
    stored: BTreeMap<u64, Vec<String>>,
    requests: usize,
}

impl Database {
    fn refusing(fields: &[&'static str]) -> Self {
        let (shards, stored) = (vec![fields.to_vec()], BTreeMap::new());
        Self { shards, rows_a_shard: u64::MAX, words: Words::Count, stored, requests: 0 }
    }

    fn refused_in(&self, position: u64) -> &[&'static str] {
        let shard = usize::try_from(position / self.rows_a_shard).unwrap();
        &self.shards[shard.min(self.shards.len() - 1)]
    }

    /// The first field of a line that its shard refuses.
    fn wrong(&self, (position, fields): &Line) -> Option<String> {
        let refused = self.refused_in(*position);
        fields.iter().find(|field| refused.contains(&field.as_str())).cloned()
    }

    fn take(&mut self, body: &str) -> Verdict {
        self.requests += 1;
        let lines: Vec<Line> = body.lines().map(line).collect();
        let shard = |line: &Line| line.0 / self.rows_a_shard;
        let (wrong, fine): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| self.wrong(line).is_some());
        // A batch for several shards gets the answer of one.
        let refused = wrong.first().map(|first| wrong.iter().filter(|line| shard(line) == shard(first)).count());
        let field = wrong.first().and_then(|line| self.wrong(line));
        if field.is_none() || self.words != Words::Name {
            self.stored.extend(fine);
        }
        let Some(field) = field else { return Verdict::Accepted };
        let name = FieldName { measurement: "m".to_owned(), field };
        let why = format!("400 {name}");
        match self.words {
            Words::None => Verdict::Refused { why, refused: None },
            Words::Name => Verdict::Conflict(Conflict { field: RefusedField { name, why }, refused: None }),
            Words::Count => Verdict::Conflict(Conflict { field: RefusedField { name, why }, refused }),
        }
    }
}

/// A line for each row, or nothing if there is none.
fn body(rows: &[Stored]) -> Option<Bytes> {
    let fields = |row: &Row| row.fields.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(",");
    let lines: Vec<_> = rows.iter().map(|stored| format!("{} {}", stored.position.0, fields(&stored.row))).collect();
    (!lines.is_empty()).then(|| lines.join("\n").into())
}

fn outbox(batch_size: usize) -> Outbox {
    Outbox::new(Acknowledged::default(), Limits { batch_size, flush_interval: Duration::ZERO })
}

/// What the shell does for a step, with a server; false if there is nothing to do now.
fn step(outbox: &mut Outbox, now: Duration, journal: &[Stored], server: &mut impl FnMut(&str) -> Verdict) -> bool {
    match outbox.next(now, journal.last().unwrap().position) {
        Step::Read(reading) => {
            // Positions begin at 1, and none is unused.
            let index = |position: Position| usize::try_from(position.0).unwrap();
            let found = journal[index(reading.after)..index(reading.upto)].iter();
            let (positions, rows) = reading.part.of(found.take(reading.limit).cloned().collect());
            let body = rows.and_then(|rows| body(&rows));
            outbox.loaded(now, reading, positions, body);
        }
        Step::Post { body, .. } => {
            let verdict = server(std::str::from_utf8(&body).unwrap());
            outbox.answered(now, 0.5, verdict);
        }
        Step::Wait(_) | Step::Idle => return false,
    }
    true
}

/// Delivers until there is nothing to do now.
fn drain(outbox: &mut Outbox, now: Duration, journal: &[Stored], database: &mut Database) {
    while step(outbox, now, journal, &mut |body| database.take(body)) {}
}

/// Every row is there, without what its shard refuses and with everything else; gives how many fields were left out.
fn assert_stored(journal: &[Stored], database: &Database) -> u64 {
    let mut left_out = 0;
    for Stored { position, row } in journal {
        let refused = database.refused_in(position.0);
        let all: Vec<String> = row.fields.iter().map(|(name, _)| name.to_string()).collect();
        let expected: Vec<_> = all.iter().filter(|name| !refused.contains(&name.as_str())).cloned().collect();
        assert_eq!(database.stored.get(&position.0), Some(&expected), "{position:?}");
        left_out += (all.len() - expected.len()) as u64;
    }
    left_out
}

/// Ping, iperf3 and http in turn.
fn mixed(rows: u64) -> Vec<Stored> {
    (1..=rows).map(|position| row(position, [PING, HTTP, PING, IPERF3, HTTP][usize::try_from(position % 5).unwrap()])).collect()
}

fn names(outbox: &Outbox) -> Vec<String> {
    outbox.refused_fields().map(ToString::to_string).collect()
}

#[test]
fn a_backlog_of_refused_rows_costs_a_few_requests_a_batch_and_loses_the_refused_fields_alone() {
    for (journal, most) in [((1..=100_000).map(|n| row(n, HTTP)).collect::<Vec<_>>(), 4), (mixed(100_000), 9)] {
        let (mut outbox, mut database) = (outbox(BATCH), Database::refusing(OLD));
        drain(&mut outbox, s(1), &journal, &mut database);
        let left_out = assert_stored(&journal, &database);
        let Counters { delivered, refused_fields, refused, .. } = outbox.counters();
        assert_eq!((delivered, refused_fields, refused), (100_000, left_out, 0));
        assert_eq!((outbox.pending(), outbox.take_dead().len()), (0, 0));
        assert!(database.requests <= most * 20, "{} requests for 20 batches", database.requests);
    }
}

#[test]
fn a_field_is_told_once() {
    let (mut outbox, mut database, journal) = (outbox(100), Database::refusing(&["http_ping_ms"]), mixed(1000));
    drain(&mut outbox, s(1), &journal, &mut database);
    let name = FieldName { measurement: "m".to_owned(), field: "http_ping_ms".to_owned() };
    assert_eq!(outbox.take_events(), [Event::FieldRefused { name, why: "400 m.http_ping_ms".to_owned() }]);
    assert_eq!(names(&outbox), ["m.http_ping_ms"]);
}

#[test]
fn only_the_shard_that_refuses_a_field_does_without_it() {
    let (mut outbox, mut database, journal) = (outbox(BATCH), Database::refusing(OLD), mixed(20_000));
    database.shards = vec![OLD.to_vec(), vec![], vec!["iperf_jitter_ms"]];
    database.rows_a_shard = 7777;
    drain(&mut outbox, s(1), &journal, &mut database);
    assert_eq!(outbox.counters().refused_fields, assert_stored(&journal, &database));
    assert!(database.requests < 4 * 9 + 2 * 4 * 2 * 13, "{} requests", database.requests);
}

#[test]
fn a_server_that_does_not_count_costs_a_few_requests_a_row() {
    let (mut outbox, mut database, journal) = (outbox(BATCH), Database::refusing(&["http_ping_ms"]), mixed(5000));
    database.words = Words::Name;
    drain(&mut outbox, s(1), &journal, &mut database);
    assert_eq!(outbox.counters().refused_fields, assert_stored(&journal, &database));
    assert!(database.requests <= 3 * 2000 + 20, "{} requests", database.requests);
}

#[test]
fn a_row_of_which_nothing_is_left_is_a_dead_letter() {
    let fields = ["http_ping_ms", "http_download_ms"];
    for words in [Words::Count, Words::Name] {
        let (mut outbox, mut database) = (outbox(BATCH), Database::refusing(OLD));
        database.words = words;
        let journal: Vec<_> = (1..=30).map(|n| row(n, if n % 10 == 3 { &fields } else { PING })).collect();
        drain(&mut outbox, s(1), &journal, &mut database);
        let dead: Vec<_> = outbox.take_dead().into_iter().map(|letter| (letter.position.0, letter.reason)).collect();
        assert_eq!(dead, [3, 13, 23].map(|position| (position, "every field of it is refused".to_owned())));
        assert_eq!((outbox.counters().delivered, outbox.counters().refused_fields, names(&outbox).len()), (27, 0, 0));
        assert_eq!((outbox.pending(), outbox.take_changed().unwrap().floor()), (0, Position(30)));
    }
}

#[test]
fn a_database_that_names_no_field_costs_the_rows_that_have_it() {
    let (mut outbox, mut database, journal) = (outbox(BATCH), Database::refusing(&["iperf_jitter_ms"]), mixed(1000));
    database.words = Words::None;
    drain(&mut outbox, s(1), &journal, &mut database);
    assert_eq!((outbox.take_dead().len(), outbox.counters().delivered, outbox.pending()), (200, 800, 0));
}

#[test]
fn a_field_that_no_row_has_makes_the_row_that_is_refused_a_dead_letter() {
    let (mut outbox, journal) = (outbox(BATCH), mixed(100));
    let mut requests = 0;
    let mut server = |body: &str| {
        requests += 1;
        if !body.lines().any(|line| line.starts_with("77 ")) {
            return Verdict::Accepted;
        }
        let name = FieldName { measurement: "m".to_owned(), field: "nonsense".to_owned() };
        Verdict::Conflict(Conflict { field: RefusedField { name, why: "400".to_owned() }, refused: Some(1) })
    };
    while step(&mut outbox, s(1), &journal, &mut server) {}
    assert_eq!((outbox.take_dead().len(), outbox.pending(), outbox.counters().refused_fields), (1, 0, 0));
    assert!(requests <= 2 * 7 + 4, "{requests} requests");
}

#[test]
fn a_server_that_names_ever_new_fields_is_asked_a_bounded_number_of_times() {
    let (mut outbox, journal) = (outbox(BATCH), mixed(1000));
    let mut requests = 0_usize;
    let mut server = |body: &str| {
        requests += 1;
        let (count, has) = (body.lines().count(), body.split([' ', ',', '\n']).nth(1 + requests % 2).unwrap_or_default());
        let field = if requests.is_multiple_of(3) { format!("f{requests}") } else { has.to_owned() };
        let name = FieldName { measurement: "m".to_owned(), field };
        Verdict::Conflict(Conflict {
            field: RefusedField { name, why: "400".to_owned() },
            refused: requests.is_multiple_of(5).then_some(count),
        })
    };
    while step(&mut outbox, s(1), &journal, &mut server) {}
    assert_eq!((outbox.take_dead().len(), outbox.counters().delivered, outbox.pending()), (1000, 0, 0));
    assert!(requests < 40_000, "{requests} requests");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_the_server_does_every_row_arrives_with_all_that_its_shard_takes(
        batch_size in 1usize..60,
        rows in 1u64..300,
        rows_a_shard in 1u64..300,
        words in prop_oneof![4 => Just(Words::Count), 1 => Just(Words::Name)],
        shards in prop::collection::vec(prop::sample::subsequence(OLD.to_vec(), 0..=4), 1..4),
        script in prop::collection::vec(0u8..12, 0..300),
    ) {
        let journal = mixed(rows);
        let mut database = Database::refusing(&[]);
        (database.shards, database.rows_a_shard, database.words) = (shards, rows_a_shard, words);
        let (mut outbox, mut durable, mut now) = (outbox(batch_size), Acknowledged::default(), s(1));
        let (mut counted, mut unanswered) = (Counters::default(), None::<String>);
        let mut script = script.into_iter();
        for steps in 0.. {
            prop_assert!(steps < 50_000, "never done");
            // The end of the writer: what it had counted stays, what it had not acknowledged comes again.
            let act = script.next();
            if act == Some(0) {
                let Counters { delivered, refused_fields, .. } = outbox.counters();
                counted.delivered += delivered;
                counted.refused_fields += refused_fields;
                outbox = Outbox::new(durable.clone(), Limits { batch_size, flush_interval: Duration::ZERO });
                unanswered = None;
            }
            let goes_on = step(&mut outbox, now, &journal, &mut |body: &str| {
                if let Some(before) = unanswered.take() {
                    assert_eq!(before, body, "a retry must be the same bytes");
                }
                match act {
                    Some(1..=3) => {
                        // The answer, or also the request, is lost.
                        if act == Some(1) {
                            database.take(body);
                        }
                        unanswered = Some(body.to_owned());
                        Verdict::Unknown { why: "reset".to_owned() }
                    }
                    Some(4) if body.lines().count() > 1 => Verdict::TooLarge,
                    _ => database.take(body),
                }
            });
            if let Some(acknowledged) = outbox.take_changed() {
                durable = acknowledged.clone();
                for Stored { position, .. } in journal.iter().filter(|row| durable.contains(row.position)) {
                    prop_assert!(database.stored.contains_key(&position.0), "{:?} acknowledged, not stored", position);
                }
            }
            if !goes_on {
                match outbox.next(now, Position(rows)) {
                    Step::Wait(until) => now = until,
                    _ => break,
                }
            }
        }
        let left_out = assert_stored(&journal, &database);
        let Counters { delivered, refused_fields, .. } = outbox.counters();
        prop_assert_eq!((counted.delivered + delivered, counted.refused_fields + refused_fields), (rows, left_out));
        prop_assert_eq!((outbox.pending(), outbox.take_dead().len(), durable.floor()), (0, 0, Position(rows)));
    }
}
