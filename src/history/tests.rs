//! The file, and what is asked of it, together with a journal: in one thread, turn by turn.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::file::{self, FILE, FileError};
use super::look::Look;
use super::range::{Range, Span, What};
use super::roller::Roller;
use super::{History, HistoryStatus, Shared, held};
use crate::clock::{Clock, Timestamp};
use crate::journal::{Journal, Mode, Settings};
use crate::measurement::{Fields, Row, Series, Value, field_name};
use crate::probe::{Finding, Naming, Outcome};

mod faults;
mod rest;

/// A time at which a piece begins.
const START: i64 = 1_700_006_400;

/// So many seconds after [`START`].
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_nanos((START + seconds) * 1_000_000_000)
}

fn span(from: i64, to: i64) -> Span {
    Span { from: at(from), to: at(to) }
}

fn settings() -> Settings {
    Settings { flush: Duration::from_millis(250), max_size: 1 << 30, max_age: Duration::from_hours(30 * 24) }
}

fn series(target: usize) -> Series {
    let naming = Naming { agent: "rome-1".into(), kind: "ping", probe: "core".into() };
    naming.series(&format!("192.0.2.{target}"), "ipv4", &std::collections::BTreeMap::new())
}

/// A row of ping; of every tenth slot nothing came back.
fn row(target: usize, seconds: i64) -> Row {
    let mut fields = Fields::new();
    let lost = seconds / 60 % 10 == 9;
    let value = (seconds * 7 % 1000) as f64 / 8.0 + 1.0;
    for (name, add) in [("avg", 0.5), ("min", -0.5), ("max", 2.0), ("p50", 0.0), ("p95", 1.5), ("jitter", 0.25)] {
        if !lost {
            fields.put(field_name(&format!("ping_{name}_ms")), Value::Float(value + add));
        }
    }
    fields.put("ping_packet_loss_pct", Value::Float(if lost { 100.0 } else { 0.0 }));
    let outcome = if lost { Outcome::Timeout } else { Outcome::Ok };
    Row { series: series(target), time: at(seconds), fields: Finding { outcome, error: None, fields }.into_fields(None) }
}

/// A journal with its history, turned by hand.
struct Bench {
    journal: Journal,
    shared: Arc<Shared>,
    roller: Roller,
    look: Look,
    clock: Clock,
}

impl Bench {
    fn open(dir: &Path) -> Self {
        Self::with(dir, settings())
    }

    fn with(dir: &Path, settings: Settings) -> Self {
        let clock = Clock::virtual_from(at(0));
        let journal = Journal::open(dir, settings, clock.clone(), Mode::Inline).unwrap();
        let shared = Arc::new(Shared::default());
        let roller = Roller::new(Arc::clone(&shared), journal.beside(), clock.clone());
        let look = Look::new(journal.beside());
        Self { journal, shared, roller, look, clock }
    }

    /// Turns until there is nothing to add, however little it is.
    fn roll(&mut self) {
        loop {
            self.roller = Roller::new(Arc::clone(&self.shared), self.journal.beside(), self.clock.clone());
            self.roller.turn();
            let status = self.status();
            if status.behind == 0 || status.failing.is_some() {
                return;
            }
        }
    }

    fn status(&self) -> HistoryStatus {
        held(&self.shared.status).clone()
    }

    fn range(&mut self, target: usize, span: Span, columns: usize) -> Range {
        self.look.range(&series(target), span, columns, None).unwrap()
    }

    /// The rows of all columns of a day.
    fn rows(&mut self, target: usize) -> u32 {
        self.range(target, span(0, 86_400), 100).columns.iter().map(super::range::Column::rows).sum()
    }

    fn append(&self, minutes: std::ops::Range<i64>) {
        self.journal.append(minutes.flat_map(|minute| (0..3).map(move |target| row(target, minute * 60 + target as i64))).collect());
    }
}

/// Spans, and in how many columns.
const ASKED: [(Span, usize); 6] = [
    (Span { from: Timestamp::from_nanos(START * 1_000_000_000), to: Timestamp::from_nanos((START + 3600) * 1_000_000_000) }, 300),
    (
        Span { from: Timestamp::from_nanos((START + 3000) * 1_000_000_000), to: Timestamp::from_nanos((START + 86_400) * 1_000_000_000) },
        300,
    ),
    (Span { from: Timestamp::from_nanos((START + 3010) * 1_000_000_000), to: Timestamp::from_nanos((START + 86_410) * 1_000_000_000) }, 30),
    (Span { from: Timestamp::from_nanos((START - 86_400) * 1_000_000_000), to: Timestamp::from_nanos((START + 1) * 1_000_000_000) }, 30),
    (Span { from: Timestamp::from_nanos((START + 9000) * 1_000_000_000), to: Timestamp::from_nanos((START + 9001) * 1_000_000_000) }, 30),
    (Span { from: Timestamp::from_nanos(0), to: Timestamp::from_nanos(i64::MAX) }, 300),
];

#[tokio::test(start_paused = true)]
async fn an_answer_does_not_depend_on_how_far_the_file_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.append(0..700);
    let answers = |bench: &mut Bench| ASKED.map(|(span, columns)| bench.range(1, span, columns));
    let before = answers(&mut bench);
    bench.roll();
    assert_eq!(bench.status().behind, 0);
    assert_eq!(answers(&mut bench), before);
    bench.append(700..1300);
    let between = answers(&mut bench);
    bench.roll();
    assert_eq!(answers(&mut bench), between);
    assert_eq!(before[0].columns.len(), 60);
    assert!(before[0].single && !between[1].single);
    assert_eq!(between[1].step, Duration::from_mins(5));
    assert_eq!(bench.status().rows, 3900);
    assert_eq!(bench.look.series(|_| true).unwrap(), [series(0), series(1), series(2)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_never_measured_is_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.append(0..100);
    bench.append(400..800);
    bench.roll();
    let range = bench.range(0, span(0, 48_000), 200);
    let gaps: Vec<_> = range.columns.windows(2).map(|pair| pair[1].start.since(pair[0].start)).filter(|gap| *gap > range.step).collect();
    assert_eq!((range.step, gaps), (Duration::from_mins(5), vec![Duration::from_mins(305)]));
    assert_eq!(bench.range(9, span(0, 48_000), 200).columns, []);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_comes_late_is_where_it_belongs() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [mut late, mut timely] = [Bench::open(dirs[0].path()), Bench::open(dirs[1].path())];
    late.append(0..100);
    late.append(160..600);
    late.roll();
    late.append(100..160);
    timely.append(0..600);
    for rolled in [false, true] {
        if rolled {
            late.roll();
            timely.roll();
        }
        for (span, columns) in ASKED {
            assert_eq!(late.range(1, span, columns).columns, timely.range(1, span, columns).columns);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_come_once_a_second_are_columns_of_seconds_in_a_short_span() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.journal.append((0..10_800).map(|second| row(0, second)).collect());
    bench.roll();
    let range = bench.range(0, span(3600, 7200), 300);
    assert_eq!((range.step, range.single, range.columns.len()), (Duration::from_secs(15), false, 240));
    assert!(range.columns.iter().all(|column| column.rows() == 15 && column.width == range.step));
    let wide = bench.range(0, span(0, 10_800), 30);
    assert_eq!((wide.columns.len(), wide.columns[7].rows()), (18, 600));
}

#[tokio::test(start_paused = true)]
async fn what_happened_is_told_from_the_file_as_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    let mut rows: Vec<_> = (0..60).map(|minute| row(0, minute * 120)).collect();
    rows.iter_mut().enumerate().for_each(|(index, row)| {
        row.fields.put("address", Value::Text(if index < 30 { "a" } else { "b" }.into()));
        if (10..13).contains(&index) {
            row.fields = Finding::failed(Outcome::DnsError, "no such name").into_fields(None);
        }
        if (40..50).contains(&index) {
            row.fields = Finding::skipped(crate::probe::Skip::Suspended).into_fields(None);
        }
    });
    bench.journal.append(rows);
    let told = |bench: &mut Bench| -> Vec<_> {
        let events = bench.range(0, span(600, 7200), 300).events.into_iter();
        events.map(|event| (event.time.nanos() / 1_000_000_000 - START, event.what)).collect()
    };
    let expected = [
        (1200, What::Lost(Outcome::DnsError)),
        (1560, What::Back),
        (3600, What::AddressChanged { from: "a".into(), to: "b".into() }),
        (4800, What::Skipped("suspended".into())),
    ];
    assert_eq!(told(&mut bench), expected);
    bench.roll();
    assert_eq!(told(&mut bench), expected);
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_mesh_are_series_of_ping_in_the_file_and_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    let ping = |minute: i64| {
        let mut fields = Fields::new();
        fields.put("avg", Value::Float(2.0));
        fields.put("loss", Value::Float(0.0));
        let series = Series::new("Ping", [("source", "a"), ("target", "b"), ("status", "ok")]);
        Row { series, time: at(minute * 60), fields }
    };
    bench.journal.append((0..10).map(ping).collect());
    for rolled in [false, true] {
        if rolled {
            bench.roll();
        }
        let all = bench.look.series(|_| true).unwrap();
        assert_eq!(all[0].to_string(), "qos_metrics,family=auto,kind=ping,probe=mesh,source=a,target=b");
        assert_eq!(bench.look.range(&all[0], span(0, 3600), 100, None).unwrap().columns.len(), 10, "{rolled}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_families_of_a_pair_are_columns_of_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    let ping = |minute: i64, nanos: u64| {
        let mut fields = Fields::new();
        fields.put("avg", Value::Float(2.0));
        fields.put("loss", Value::Float(0.0));
        let series = Series::new("Ping", [("source", "a"), ("target", "b"), ("status", "ok")]);
        Row { series, time: at(minute * 60).plus(Duration::from_nanos(nanos)), fields }
    };
    bench.journal.append((0..30).flat_map(|minute| [ping(minute, 0), ping(minute, 1)]).collect());
    let shown = bench.look.series(|_| true).unwrap();
    let range = bench.look.range(&shown[0], span(0, 3600), 100, None).unwrap();
    assert_eq!((range.single, range.step, range.columns.len()), (true, Duration::from_mins(1), 60));
}

#[tokio::test(start_paused = true)]
async fn ping_is_left_out_while_whole_rows_come_in_the_file_and_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    let naming = Naming { agent: "a".into(), kind: "ping", probe: "mesh".into() };
    let own = naming.series("b", "ipv4", &std::collections::BTreeMap::new());
    let ping = |minute: i64| {
        let mut fields = Fields::new();
        fields.put("avg", Value::Float(2.0));
        Row { series: Series::new("Ping", [("source", "a"), ("target", "b"), ("status", "ok")]), time: at(minute * 60 + 5), fields }
    };
    // The agent of this host goes away after half an hour; then another one posts for it.
    bench.journal.append((0..30).flat_map(|minute| [Row { series: own.clone(), ..row(0, minute * 60) }, ping(minute)]).collect());
    bench.journal.append((30..60).map(ping).collect());
    for rolled in [false, true] {
        if rolled {
            bench.roll();
        }
        let columns = bench.look.range(&own, span(0, 3600), 100, None).unwrap().columns;
        assert_eq!((columns.len(), columns[30].start), (30 + 16, at(44 * 60 + 5)), "{rolled}");
    }
    bench.journal.append((60..62).map(ping).collect());
    assert_eq!(bench.look.range(&own, span(0, 7200), 100, None).unwrap().columns.len(), 48);
    assert_eq!(bench.look.series(|series| series.tag("target") == Some("b")).unwrap(), [own]);
    assert_eq!(bench.look.series(|series| series.tag("target") == Some("c")).unwrap(), []);
}

#[tokio::test]
async fn a_handle_answers_at_once_and_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let journal = Journal::open(dir.path(), settings(), clock.clone(), Mode::Threaded).unwrap();
    let history = History::open(&journal, clock.clone());
    journal.append((0..60).map(|minute| row(0, minute * 60)).collect());
    journal.flush().await.unwrap();
    assert_eq!(history.range(&series(0), span(0, 3600), 100).await.unwrap().columns.len(), 60);
    assert_eq!(history.series().await.unwrap(), [series(0)]);
    let before = clock.mono();
    drop(history);
    drop(journal);
    assert!(clock.mono().saturating_sub(before) < Duration::from_secs(1));
    // A thread that has little of a busy processor may be in the middle of a look.
    let again = || Journal::open(dir.path(), settings(), clock.clone(), Mode::Threaded).map(drop);
    while again().is_err() {
        assert!(clock.mono().saturating_sub(before) < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_default_knows_nothing() {
    let history = History::default();
    assert_eq!(history.range(&series(0), span(0, 1), 9).await.unwrap(), Range::empty(span(0, 1)));
    assert_eq!((history.series().await.unwrap(), history.status()), (Vec::new(), HistoryStatus::default()));
}
