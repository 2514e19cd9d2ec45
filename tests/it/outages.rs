//! Databases that are away, come and go, are slow, or ask for time, over days in virtual time: how often they are asked, and that
//! nothing is lost which is not counted. The numbers are those of the table of faults.

use std::sync::Arc;
use std::time::Duration;

use qosd::journal::Position;
use qosd::writer::OutputSpec;
use tokio::time::{Instant, sleep};

use crate::writer::{Bench, Fake, Mood, all, seconds};

const MINUTE: Duration = Duration::from_mins(1);

fn is_to_be_proven() -> bool {
    std::env::var_os("QOSD_PROVE").is_some()
}

fn started(fakes: &[(&str, &Fake)]) -> Bench {
    let bench = Bench::new(fakes.iter().map(|(name, fake)| fake.spec(name)).collect());
    bench.start();
    bench
}

/// How long after a moment it was asked each time.
fn asked(fake: &Fake, since: Instant) -> Vec<Duration> {
    fake.asked.lock().unwrap().iter().filter_map(|at| at.checked_duration_since(since)).collect()
}

/// (I9)
#[actix::test]
async fn i9_a_server_that_says_when_is_asked_again_then_and_one_that_talks_nonsense_after_our_own_back_off() {
    // The clock of the verdict stands at the first of January 2026.
    let table = [
        ("5", 5.0),
        ("-1", 1.0),
        ("0", 1.0),
        ("1e9", 300.0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 1.0),
        ("Thu, 01 Jan 2026 09:00:00 GMT", 300.0),
        // Half of half a second.
        ("soon", 0.25),
        ("5 minutes", 0.25),
        ("", 0.25),
    ];
    let fake = Fake::new();
    let bench = started(&[("main", &fake)]);
    for ((when, after), n) in table.into_iter().zip(1..) {
        let since = Instant::now();
        fake.is(Mood::Asks(when));
        bench.send([n]);
        while asked(&fake, since).is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        fake.is(Mood::Well);
        sleep(6 * MINUTE).await;
        let asked = asked(&fake, since);
        assert_eq!(asked.len(), 2, "{when:?}: {asked:?}");
        let waited = asked[1].saturating_sub(asked[0]);
        assert!((waited.as_secs_f64() - after).abs() < 0.01, "{when:?}: asked again after {waited:?}, not {after} s");
        assert_eq!(fake.times(), all(n));
    }
}

/// (I10)
#[actix::test]
async fn i10_a_server_in_trouble_is_asked_less_and_less_often_and_once_a_minute_in_the_end() {
    let fake = Fake::new();
    let mut bench = Bench::new(vec![fake.spec("main")]);
    // The longest waits that jitter can draw.
    bench.parts.random = Arc::new(|| 0.999_999);
    bench.start();
    for (status, n) in [408, 425, 500, 502, 503, 504, 599].into_iter().zip(1..) {
        fake.is(Mood::Answers(status));
        let since = Instant::now();
        bench.send([n]);
        sleep(30 * MINUTE).await;
        let asked = asked(&fake, since);
        let tenths = |pair: &[Duration]| (pair[1].saturating_sub(pair[0]).as_millis() + 50) / 100;
        let waits: Vec<_> = asked.windows(2).map(tenths).collect();
        assert_eq!(waits[..8], [5, 10, 20, 40, 80, 160, 320, 600], "{status}");
        assert!(waits[8..].iter().all(|wait| *wait == 600) && waits.len() >= 34, "{status}: {waits:?}");
        fake.is(Mood::Well);
        sleep(2 * MINUTE).await;
        assert_eq!(fake.times(), all(n));
    }
}

/// (I16) As many rows come in a quarter of an hour, unless it is to be proven.
#[actix::test]
async fn i16_a_week_of_absence_drains_with_nothing_lost_and_the_newest_within_ten_seconds() {
    const ROWS: i64 = 7 * 24 * 60 * 3;
    const BATCH: usize = 5_000;
    let (every, each) = if is_to_be_proven() { (MINUTE, 3) } else { (seconds(1), 36) };
    let fake = Fake::new();
    let bench = Bench::new(vec![OutputSpec { batch_size: BATCH, ..fake.spec("main") }]);
    bench.start();
    fake.is(Mood::Away);
    let since = Instant::now();
    for n in 0..ROWS / each {
        bench.send(n * each + 1..=n * each + each);
        sleep(every).await;
    }
    let status = bench.parts.statuses.get("main").unwrap();
    // What came last may be not durable yet.
    assert!(status.delivered == 0 && status.pending + each as u64 >= ROWS as u64, "{} pending", status.pending);
    // Every half a minute, once it backs off as long as it may.
    assert!(status.retries <= 10 + since.elapsed().as_secs() / 30, "{} retries", status.retries);

    fake.is(Mood::Well);
    let requests = fake.asked.lock().unwrap().len();
    while fake.times().is_empty() {
        sleep(Duration::from_millis(100)).await;
    }
    let (since, newest) = (Instant::now(), ROWS + 1);
    bench.send([newest]);
    while !fake.stored.lock().unwrap().contains_key(&newest) {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(since.elapsed() <= seconds(10), "the newest row came after {:?}", since.elapsed());
    sleep(MINUTE).await;
    assert_eq!((fake.times(), bench.parts.statuses.get("main").unwrap().pending), (all(newest), 0));
    let requests = fake.asked.lock().unwrap().len() - requests;
    assert!(requests <= newest as usize / BATCH + 5, "{requests} requests");
}

/// (I17)
#[actix::test]
async fn i17_a_database_that_is_up_and_down_by_the_second_gets_every_row_and_few_requests_in_vain() {
    const POINTS: i64 = 1_200;
    let fake = Fake::new();
    let bench = started(&[("main", &fake)]);
    for n in 0..POINTS {
        if n % 10 == 0 {
            fake.is(if n / 10 % 2 == 0 { Mood::Well } else { Mood::Away });
        }
        bench.send([n + 1]);
        sleep(Duration::from_millis(100)).await;
    }
    fake.is(Mood::Well);
    sleep(2 * MINUTE).await;
    assert_eq!(fake.times(), all(POINTS));
    let status = bench.parts.statuses.get("main").unwrap();
    assert_eq!((status.pending, status.delivered), (0, POINTS as u64));
    assert!(status.retries > 0 && status.retries <= 2 * POINTS as u64, "{} retries", status.retries);
    assert!(fake.asked.lock().unwrap().len() <= 2 * POINTS as usize);
}

/// (I18)
#[actix::test]
async fn i18_a_database_ten_times_slower_than_the_load_fills_the_journal_to_its_cap_and_every_loss_is_counted() {
    const CAP: u64 = 1 << 19;
    const ROWS: i64 = 30_000;
    let fake = Fake::new();
    let bench = Bench::with_journal_of(CAP, vec![fake.spec("main")]);
    bench.start();
    // A hundred rows a second come, and ten go.
    fake.is(Mood::Slow(seconds(10)));
    let mut largest = 0;
    for n in 0..ROWS / 100 {
        bench.send(n * 100 + 1..=n * 100 + 100);
        sleep(seconds(1)).await;
        let stats = bench.parts.journal.stats();
        largest = largest.max(stats.bytes);
        assert!(stats.waiting <= 100, "{} rows in memory", stats.waiting);
    }
    assert!((CAP / 2..=CAP + CAP / 4).contains(&largest), "a journal of {largest} bytes with a cap of {CAP}");
    fake.is(Mood::Well);
    sleep(10 * MINUTE).await;
    let (stats, status) = (bench.parts.journal.stats(), bench.parts.statuses.get("main").unwrap());
    assert_eq!((bench.tip(), bench.outlet().dropped(), status.pending), (Position(ROWS as u64), 0, 0));
    let (stored, dropped) = (fake.times().len() as u64, stats.dropped_size);
    assert!(dropped > 0 && stats.dropped_memory == 0);
    // What is on its way when it is dropped, and arrives all the same, is counted, too.
    let (lost, said) = (ROWS as u64 - stored, format!("{stored} stored, {dropped} counted as dropped"));
    assert!(dropped >= lost && dropped - lost <= dropped / 10, "{said}");
    assert!(fake.largest() <= 100);
}

/// Removes an output for so many days, in which rows come, and gives which of all rows it has in the end.
async fn removed_for(days: i64) -> Vec<i64> {
    let (fake, other) = (Fake::new(), Fake::new());
    let bench = started(&[("main", &fake), ("other", &other)]);
    let now = bench.parts.clock.now().unix.nanos();
    let these = |rows: std::ops::RangeInclusive<i64>| rows.map(move |n| now + n);
    bench.send(these(1..=10));
    sleep(MINUTE).await;
    bench.outputs.send(Arc::new(vec![other.spec("other")])).unwrap();
    sleep(MINUTE).await;
    bench.send(these(11..=20));
    for hour in 0..days * 24 {
        // As qosd's own rows do every minute: otherwise nobody looks for what is to be forgotten.
        bench.send([now + 1_000 + hour]);
        sleep(60 * MINUTE).await;
    }
    bench.outputs.send(Arc::new(vec![fake.spec("main"), other.spec("other")])).unwrap();
    sleep(MINUTE).await;
    bench.send(these(21..=30));
    sleep(MINUTE).await;
    assert!(fake.stored.lock().unwrap().values().all(|count| *count == 1), "nothing is sent twice");
    let of = |fake: &Fake| fake.times().into_iter().map(|time| time - now).filter(|n| *n <= 30).collect::<Vec<_>>();
    assert_eq!(of(&other), all(30));
    of(&fake)
}

#[actix::test]
async fn an_output_removed_by_a_reload_goes_on_where_it_was_when_it_is_back_within_seven_days() {
    assert_eq!(removed_for(6).await, all(30));
}

#[actix::test]
async fn an_output_that_is_back_after_more_than_seven_days_is_a_new_one() {
    assert_eq!(removed_for(8).await, [(1..=10).collect::<Vec<_>>(), (21..=30).collect()].concat());
}

#[actix::test]
async fn an_output_added_by_a_reload_starts_now_or_as_far_back_as_its_replay_says() {
    let old = Fake::new();
    let bench = started(&[("old", &old)]);
    let now = bench.parts.clock.now().unix.nanos();
    let hours = |n: i64| n * 3_600_000_000_000;
    // A row an hour of the last ten hours.
    bench.send((0..10).map(|n| now - hours(9 - n)));
    sleep(MINUTE).await;
    let (fresh, replayed) = (Fake::new(), Fake::new());
    let back = |name: &str, fake: &Fake, replay: u64| {
        let mut spec = fake.spec(name);
        spec.replay = Some(Duration::from_mins(replay));
        spec
    };
    bench.outputs.send(Arc::new(vec![old.spec("old"), fresh.spec("fresh"), back("replayed", &replayed, 5 * 60 + 30)])).unwrap();
    sleep(MINUTE).await;
    let expected: Vec<_> = (4..10).map(|n| now - hours(9 - n)).collect();
    assert_eq!((fresh.times(), replayed.times()), (vec![], expected.clone()));
    bench.send([now + 1]);
    sleep(MINUTE).await;
    // How far back counts for a new output alone, and not for one that is known.
    bench.outputs.send(Arc::new(vec![old.spec("old"), fresh.spec("fresh"), back("replayed", &replayed, 20 * 60)])).unwrap();
    sleep(MINUTE).await;
    assert_eq!((fresh.times(), replayed.times()), (vec![now + 1], [expected, vec![now + 1]].concat()));
    assert_eq!(old.times().len(), 11);
}
