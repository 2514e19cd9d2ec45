//! The inside of the collector, from a post to the rows in the journal: contract 7 as clients see it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use qosd::clock::{Clock, Timestamp};
use qosd::config::{self, Config, Env};
use qosd::influxdb::line::line;
use qosd::journal::{self, Journal, Mode, Position};
use qosd::mesh::collector::store::{Receipt, ReceiveError, Store};
use qosd::mesh::list::{Name, Proto};
use qosd::mesh::wire::Received;
use qosd::probe::{KINDS, Outcome};
use qosd::status::pairs::Pairs;
use rusqlite::Connection;
use serde_json::{Value, json};

const START: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

struct Collector {
    store: Store,
    journal: Journal,
    pairs: Pairs,
}

/// A config with these probes and this interval.
fn config(dir: &Path, names: &[String], interval: &str) -> Config {
    let probes: Vec<_> = names.iter().map(|name| json!({ "name": name, "proto": 4, "address": "10.0.0.1" })).collect();
    let files = [
        ("probes.json", json!({ "probes": probes }).to_string()),
        ("schedule.json", json!({ "ping": { "interval": interval, "count": 1, "spacing": "100ms" } }).to_string()),
        ("api_key", "secret".to_owned()),
        (
            "qosd.toml",
            "[collector]\nprobes = 'probes.json'\nschedule = 'schedule.json'\napi_key_file = 'api_key'\n[agent]\nname = 'c'\n".to_owned(),
        ),
    ];
    for (name, text) in files {
        std::fs::write(dir.join(name), text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(dir.join(name), mode).unwrap();
    }
    config::load(&dir.join("qosd.toml"), KINDS, &Env::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn open(dir: &Path, listed: &[String], clock: &Clock, mode: Mode) -> Collector {
    let settings = journal::Settings { flush: Duration::from_millis(250), max_size: 1 << 30, max_age: Duration::from_hours(720) };
    let journal = Journal::open(&dir.join("journal"), settings, clock.clone(), mode).unwrap();
    let pairs = Pairs::default();
    let observed = pairs.clone();
    let store = Store::new(journal.clone(), clock.clone(), Arc::new(move |row, proto| observed.observe(row, Some(proto))));
    store.configure(config(dir, listed, "10s").collector.as_ref());
    Collector { store, journal, pairs }
}

impl Collector {
    async fn post(&self, post: &Value, slot: Option<i64>) -> Result<Receipt, ReceiveError> {
        let received = Received::read(post.to_string().as_bytes()).unwrap();
        self.store.receive(received, slot.map(Timestamp::from_nanos)).await
    }

    async fn lines(&self) -> Vec<String> {
        let tip = *self.journal.tip().borrow();
        self.journal.read(Position(0), tip, 10_000).await.unwrap().iter().map(|stored| line(&stored.row).unwrap()).collect()
    }

    fn status(&self) -> Value {
        serde_json::to_value(self.store.status().unwrap()).unwrap()
    }
}

fn item(name: &str) -> Value {
    json!({
        "name": name, "proto": 4, "address": "10.0.0.1", "pinged": true,
        "ping_min": 1.0, "ping_max": 3.0, "ping_avg": 2.0, "ping_jitter": 0.5, "ping_loss": 0.0,
    })
}

fn good(source: &str, targets: &[&str]) -> Value {
    json!({ "source": source, "probes": targets.iter().map(|name| item(name)).collect::<Vec<_>>() })
}

fn stored(stored: usize) -> Receipt {
    Receipt { stored, rejected: Vec::new() }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_existing_client_is_stored_as_it_posts() {
    let dir = tempfile::tempdir().unwrap();
    let collector = open(dir.path(), &names(&["a", "b", "c", "d"]), &Clock::virtual_from(START), Mode::Inline);
    let lost = json!({
        "name": "c", "proto": 4, "address": "10.0.0.3", "pinged": false,
        "ping_min": null, "ping_max": null, "ping_avg": null, "ping_jitter": null, "ping_loss": null,
    });
    let absent = json!({ "name": "d", "proto": 4, "address": "10.0.0.4", "pinged": false });
    let post = json!({ "source": "a", "probes": [item("b"), lost, absent] });
    assert_eq!(collector.post(&post, None).await.unwrap(), stored(3));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(collector.post(&good("a", &["b"]), None).await.unwrap(), stored(1), "without a slot every post is new");
    let untold = "result=\"tool_error\",result_code=14i,loaded=0i,error=\"the client told no loss\"";
    assert_eq!(
        collector.lines().await,
        [
            "Ping,source=a,status=ok,target=b min=1,max=3,avg=2,jitter=0.5,loss=0 1700000000000000000".to_owned(),
            format!("qos_metrics,family=ipv4,kind=ping,probe=mesh,source=a,target=c {untold} 1700000000000000000"),
            format!("qos_metrics,family=ipv4,kind=ping,probe=mesh,source=a,target=d {untold} 1700000000000000000"),
            "Ping,source=a,status=ok,target=b min=1,max=3,avg=2,jitter=0.5,loss=0 1700000001000000000".to_owned(),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn posts_at_the_same_time_have_times_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let collector = open(dir.path(), &names(&["a", "b"]), &Clock::virtual_from(START), Mode::Inline);
    for targets in [&["b"][..], &["b", "b"], &["b"]] {
        collector.post(&good("a", targets), None).await.unwrap();
    }
    let lines = collector.lines().await;
    let times: std::collections::BTreeSet<_> = lines.iter().map(|line| line.rsplit_once(' ').unwrap().1).collect();
    assert_eq!((lines.len(), times.len()), (4, 4), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn m4_a_target_that_is_not_listed_costs_that_item_alone_and_an_unlisted_source_all() {
    let dir = tempfile::tempdir().unwrap();
    let collector = open(dir.path(), &names(&["a", "b", "c"]), &Clock::virtual_from(START), Mode::Inline);
    let receipt = collector.post(&good("a", &["b", "x", "c"]), Some(1)).await.unwrap();
    assert_eq!((receipt.stored, receipt.rejected.len()), (2, 1));
    assert_eq!((receipt.rejected[0].index, receipt.rejected[0].error.as_str()), (1, "x is not in the list of probes"));
    let refused = collector.post(&good("x", &["a"]), Some(1)).await.unwrap_err();
    assert!(matches!(&refused, ReceiveError::UnknownSource(name) if name.as_str() == "x"), "{refused}");
    assert_eq!(collector.post(&good("a", &["x"]), Some(2)).await.unwrap().stored, 0);
    let mut moved = good("a", &["b"]);
    moved["probes"][0]["address"] = json!("192.0.2.7");
    assert_eq!(collector.post(&moved, Some(2)).await.unwrap(), stored(1), "the name is the identity, not the address");
    assert_eq!(collector.lines().await.len(), 3);
    assert_eq!((collector.status()["counts"]["rejected"].clone(), collector.status()["counts"]["posts"].clone()), (json!(2), json!(3)));
}

#[tokio::test(start_paused = true)]
async fn m5_m6_a_post_that_comes_again_with_its_slot_is_stored_once_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::virtual_from(START);
    let listed = names(&["a", "b", "c"]);
    let collector = open(dir.path(), &listed, &clock, Mode::Inline);
    let post = good("a", &["b", "c"]);
    assert_eq!(collector.post(&post, Some(7)).await.unwrap(), stored(2));
    assert_eq!(collector.post(&post, Some(7)).await.unwrap(), stored(0));
    assert_eq!(collector.post(&post, Some(8)).await.unwrap(), stored(2));
    assert_eq!(collector.post(&good("b", &["c"]), Some(7)).await.unwrap(), stored(1));
    assert_eq!(collector.status()["counts"]["duplicates"], 2);
    let before = collector.lines().await;
    assert_eq!(collector.store.last(&name("a")).unwrap()["probes"], post["probes"]);
    drop(collector);
    let collector = open(dir.path(), &listed, &clock, Mode::Inline);
    assert_eq!(collector.store.last(&name("a")), None, "known from the next post on");
    assert_eq!(collector.post(&post, Some(8)).await.unwrap(), stored(0));
    assert_eq!(collector.lines().await, before);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(collector.post(&post, Some(9)).await.unwrap(), stored(2));
    let last = collector.store.last(&name("a")).unwrap();
    assert_eq!((last["source"].as_str(), last["time"].as_str()), (Some("a"), Some("2023-11-14T22:13:21.000000000Z")));
}

#[tokio::test(start_paused = true)]
async fn both_protocols_of_a_pair_are_known_although_their_rows_do_not_tell() {
    let dir = tempfile::tempdir().unwrap();
    let collector = open(dir.path(), &names(&["a", "b"]), &Clock::virtual_from(START), Mode::Inline);
    let mut six = item("b");
    (six["proto"], six["address"], six["ping_loss"]) = (json!(6), json!("2001:db8::2"), json!(0.5));
    collector.post(&json!({ "source": "a", "probes": [item("b"), six] }), None).await.unwrap();
    let mut known: Vec<_> = collector.pairs.all().into_iter().map(|named| (named.proto, named.pair.outcome, named.pair.loss_pct)).collect();
    known.sort_by_key(|(proto, ..)| *proto);
    assert_eq!(known, [(Proto::V4, Outcome::Ok, Some(0.0)), (Proto::V6, Outcome::Partial, Some(50.0))]);
}

#[tokio::test(start_paused = true)]
async fn each_result_that_does_not_come_is_one_row() {
    let dir = tempfile::tempdir().unwrap();
    let collector = open(dir.path(), &names(&["a", "b"]), &Clock::virtual_from(START), Mode::Inline);
    for second in 0..160 {
        if second % 10 == 0 && second != 30 {
            collector.post(&good("a", &["b"]), Some(second)).await.unwrap();
        }
        collector.store.absent();
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let absent: Vec<_> = collector.lines().await.into_iter().filter(|line| line.contains("peer_absent")).collect();
    let row = |source, target, second: i64| {
        let time = START.plus(Duration::from_secs(second as u64)).nanos();
        format!(
            "qos_metrics,family=ipv4,kind=ping,probe=mesh,source={source},target={target} result=\"peer_absent\",result_code=18i {time}"
        )
    };
    // From whom nothing was ever heard may not know the list before 90 s and an interval are over.
    let never_heard = [110, 120, 130, 140, 150].map(|second| row("b", "a", second));
    let expected = [vec![row("a", "b", 30)], never_heard.to_vec()].concat();
    assert_eq!(absent, expected);
    let status = collector.status();
    assert_eq!((status["absent_now"].clone(), status["counts"]["absent"].clone()), (json!(1), json!(6)));
    assert_eq!(status["sources"][0], json!({ "name": "b", "protos": [4], "age_s": null, "results": 0, "absent": 1 }));
}

#[tokio::test(start_paused = true)]
async fn a_reload_brings_the_new_list_and_without_a_collector_nothing_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let collector = open(dir.path(), &names(&["a", "b"]), &Clock::virtual_from(START), Mode::Inline);
    collector.post(&good("a", &["b"]), Some(1)).await.unwrap();
    collector.store.configure(config(dir.path(), &names(&["b", "c"]), "10s").collector.as_ref());
    collector.post(&good("a", &["b"]), Some(2)).await.unwrap_err();
    assert_eq!(collector.post(&good("c", &["b"]), Some(2)).await.unwrap(), stored(1));
    assert!(collector.store.last(&name("a")).is_none() && collector.store.last(&name("c")).is_some());
    collector.store.configure(None);
    collector.post(&good("c", &["b"]), Some(3)).await.unwrap_err();
    assert_eq!((collector.store.status(), collector.store.counts()), (None, None));
    tokio::time::advance(Duration::from_secs(3)).await;
    collector.store.absent();
    assert_eq!(collector.lines().await.len(), 2);
}

#[tokio::test]
async fn while_the_disk_takes_nothing_a_post_is_refused_in_time_and_stored_once_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let collector = open(dir.path(), &names(&["a", "b"]), &clock, Mode::Threaded);
    collector.post(&good("a", &["b"]), Some(1)).await.unwrap();
    let other = Connection::open(dir.path().join("journal/journal.sqlite3")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = clock.now().mono;
    for _ in 0..3 {
        let refused = collector.post(&good("a", &["b"]), Some(2)).await.unwrap_err();
        assert!(matches!(refused, ReceiveError::NotDurable(_)), "{refused}");
    }
    assert!(clock.now().mono.saturating_sub(begun) < Duration::from_secs(8));
    assert_eq!(collector.status()["counts"]["not_durable"], 3);
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    collector.journal.tip().wait_for(|tip| tip.0 == 2).await.unwrap();
    collector.journal.flush().await.unwrap();
    assert_eq!(collector.post(&good("a", &["b"]), Some(2)).await.unwrap(), stored(0));
    assert_eq!(collector.lines().await.len(), 2);
    let counts = collector.status()["counts"].clone();
    assert_eq!((counts["stored"].clone(), counts["duplicates"].clone()), (json!(2), json!(1)), "what became durable late counts, too");
}

/// The paused clock jumps to the deadline as soon as everybody waits: the disk is slow, and does not say that it fails.
#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_too_long_is_not_waited_for_and_what_it_takes_in_the_end_counts() {
    let dir = tempfile::tempdir().unwrap();
    let collector = open(dir.path(), &names(&["a", "b"]), &Clock::system(), Mode::Threaded);
    let other = Connection::open(dir.path().join("journal/journal.sqlite3")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = collector.post(&good("a", &["b"]), Some(1)).await.unwrap_err();
    assert!(matches!(refused, ReceiveError::NotDurable(_)), "{refused:?}");
    assert_eq!((collector.store.last(&name("a")), collector.status()["counts"]["stored"].clone()), (None, json!(0)));
    tokio::time::resume();
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    collector.journal.tip().wait_for(|tip| tip.0 == 1).await.unwrap();
    collector.journal.flush().await.unwrap();
    collector.store.absent();
    assert_eq!(collector.status()["counts"]["stored"], 1);
    assert!(collector.store.last(&name("a")).is_some());
    assert_eq!(collector.post(&good("a", &["b"]), Some(1)).await.unwrap(), stored(0));
    assert_eq!(collector.lines().await.len(), 1);
}

/// The minute's results of a mesh of 300, each source with a slot and 300 targets.
#[tokio::test]
async fn the_results_of_300_agents_become_durable_in_time() {
    let (rounds, pace) = if std::env::var_os("QOSD_PROVE").is_some() { (5, Duration::from_mins(1)) } else { (1, Duration::ZERO) };
    let dir = tempfile::tempdir().unwrap();
    let listed: Vec<String> = (0..301).map(|n| format!("probe-{n}")).collect();
    let clock = Clock::system();
    let collector = open(dir.path(), &listed, &clock, Mode::Threaded);
    let mut took = Vec::new();
    let (begun, usage) = (clock.now().mono, qosd::vitals::usage().unwrap());
    for round in 0..rounds {
        let posts = listed.iter().take(300).enumerate().map(|(n, source)| {
            let targets: Vec<&str> = listed.iter().filter(|name| *name != source).map(String::as_str).collect();
            let (collector, clock, at) = (&collector, &clock, pace * round + pace * n as u32 / 300);
            async move {
                tokio::time::sleep_until(clock.instant(begun + at)).await;
                let posted = good(source, &targets).to_string();
                let sent = clock.now().mono;
                let slot = Some(Timestamp::from_nanos(i64::from(round)));
                let receipt = loop {
                    match collector.store.receive(Received::read(posted.as_bytes()).unwrap(), slot).await {
                        // All at once may be more than a disk takes in time that others use, too; an agent comes again.
                        Err(ReceiveError::NotDurable(_)) if pace.is_zero() => {}
                        receipt => break receipt.unwrap(),
                    }
                };
                assert_eq!(receipt, stored(300));
                clock.now().mono.saturating_sub(sent)
            }
        });
        took.extend(join_all(posts).await);
    }
    took.sort();
    let (after, wall) = (qosd::vitals::usage().unwrap(), clock.now().mono.saturating_sub(begun));
    println!(
        "{} results in {wall:?}: receive p50 {:?}, p99 {:?}, most {:?}; CPU {:?}, RSS +{} MB, {}",
        took.len() * 300,
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1],
        after.cpu.saturating_sub(usage.cpu),
        after.rss_bytes.saturating_sub(usage.rss_bytes) / 1_000_000,
        serde_json::to_string(&collector.journal.stats()).unwrap()
    );
    assert_eq!(collector.journal.stats().rows, u64::from(rounds) * 90_000);
    if !pace.is_zero() {
        assert!(took[took.len() * 99 / 100] <= Duration::from_secs(1), "{:?}", took[took.len() * 99 / 100]);
    }
}
