//! The agent of a mesh against a collector as the existing server is. M numbers are those of the list of faults.
//!
//! Nothing is pinged here: what is to be measured is looked at, and rows are made up. Real packets are in `tests/net`.

#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::Actor;
use qosd::clock::{Clock, Timestamp};
use qosd::config::{self, Env};
use qosd::journal::{Journal, Mode, Position, Stored};
use qosd::measurement::Row;
use qosd::mesh::agent::actor::{Agent, AgentParts, Desk};
use qosd::mesh::agent::client::{Client, Fetched};
use qosd::mesh::agent::output::{Losses, output};
use qosd::mesh::agent::plan::Here;
use qosd::mesh::agent::{Settings, cache};
use qosd::mesh::schedule::Schedule;
use qosd::probe::ping::report::finding;
use qosd::probe::ping::run::Tally;
use qosd::probe::{AnyKind, Finding, KINDS, Naming, Skip};
use qosd::writer::{Statuses, Verdict, Writer, WriterParts, queue};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::daemon::{Home, qosd, run};
use crate::existing_collector::{Collector, KEY, Trouble};
use crate::http_tls::{authority, certificate};
use crate::scripted_server::{Reply, ScriptedServer};

/// A list of these names, each at an address for documents.
fn list(names: &[&str]) -> String {
    let probes: Vec<_> =
        names.iter().zip(1..).map(|(name, n)| json!({ "name": name, "proto": 4, "address": format!("192.0.2.{n}") })).collect();
    json!({ "probes": probes }).to_string()
}

/// `[mesh]` with this collector and key, read as the service reads it.
fn settings(dir: &Path, collector: &str, key: &str, more: &str) -> Settings {
    let (config, key_file) = (dir.join("qosd.toml"), dir.join("mesh_key"));
    fs::write(&key_file, key).unwrap();
    fs::set_permissions(key_file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&config, mesh(collector, more)).unwrap();
    config::load(&config, KINDS, &Env::new()).unwrap_or_else(|problems| panic!("{problems}")).mesh.unwrap()
}

fn mesh(collector: &str, more: &str) -> String {
    format!("[mesh]\ncollector = '{collector}'\nkey_file = 'mesh_key'\nprotocol = 'v1'\nname = 'me'\n{more}\n")
}

fn fetch(settings: &Settings) -> Result<Fetched, String> {
    let client = Client::new(settings, Clock::system()).unwrap();
    actix_rt::System::new().block_on(client.fetch()).map_err(|error| error.to_string())
}

/// What fetching from a server says that answers so, whatever it is asked.
fn refusal(reply: Reply) -> String {
    let dir = tempfile::tempdir().unwrap();
    let server = ScriptedServer::start([], reply);
    let error = fetch(&settings(dir.path(), &server.url(), KEY, "")).unwrap_err();
    assert!(!error.contains(KEY) && !error.contains('\n'), "{error}");
    error
}

#[test]
fn list_and_schedule_are_fetched_with_the_key_and_404_means_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(list(&["me", "a", "b"]));
    let settings = settings(dir.path(), &collector.url(), KEY, "");
    let Fetched { taken, schedule } = fetch(&settings).unwrap();
    assert_eq!((taken.list.probes.len(), taken.refused_count, schedule), (3, 0, None));
    collector.lock().schedule = Some(r#"{"ping":{"interval":"5s","count":3}}"#.to_owned());
    let expected = Schedule::read(br#"{"ping":{"interval":"5s","count":3}}"#).unwrap();
    assert_eq!(fetch(&settings).unwrap().schedule, Some(expected));
    assert!(collector.lock().asked.iter().all(|key| key.as_deref() == Some(KEY)));
    // Both or neither: a schedule that is none leaves everything as it was.
    collector.lock().schedule = Some(r#"{"ping":{"interval":"0s"}}"#.to_owned());
    assert!(fetch(&settings).unwrap_err().contains("the schedule is none: ping.interval: 0s"));
}

#[test]
fn m16_what_is_no_list_is_refused_within_limits() {
    let many = |n: usize| {
        let entries: Vec<_> = (0..n).map(|n| format!("{{\"name\":\"p{n}\",\"proto\":4,\"address\":\"10.0.0.1\"}}")).collect();
        format!("{{\"probes\":[{}]}}", entries.join(","))
    };
    for (reply, said) in [
        (Reply::said(200, "<html>log in</html>"), "the list is none: expected value"),
        (Reply::said(200, &many(1001)), "the list is none: has 1001 probes, allowed are 1000"),
        (Reply::said(200, &many(1_000_000)), "list: the answer is larger than 1048576 bytes"),
        (Reply::endless(), "list: the answer is larger than"),
        (Reply::said(200, &"[".repeat(100_000)), "the list is none: "),
        (Reply::said(403, &format!("{{\"error\":\"{KEY} is wrong\"}}")), "list: 403 Forbidden: <redacted> is wrong"),
        (Reply::said(500, "oops"), "list: 500 Internal Server Error: oops"),
        (Reply::Close, "list: error sending request"),
        (Reply::Reset(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"probes\"".to_vec()), "list: "),
    ] {
        let error = refusal(reply);
        assert!(error.starts_with(said), "{error}");
    }
    let hostile = json!({ "probes": [{ "name": "a", "proto": 4, "address": "192.0.2.1" }, { "\u{1b}[31m\nforged": "x".repeat(5000) }] });
    let dir = tempfile::tempdir().unwrap();
    let taken = fetch(&settings(dir.path(), &Collector::start(hostile.to_string()).url(), KEY, "")).unwrap().taken;
    assert_eq!((taken.list.probes.len(), taken.refused_count), (1, 1));
    assert!(!taken.refused[0].contains(char::is_control) && taken.refused[0].len() < 400, "{:?}", taken.refused);
}

#[test]
fn m18_no_redirect_is_followed_and_the_key_goes_nowhere_else() {
    let elsewhere = ScriptedServer::start([], Reply::said(200, &list(&["a"])));
    for status in [301, 302, 307, 308] {
        let error = refusal(Reply::with(status, "location", format!("{}/api/v1/conf/probes", elsewhere.url())));
        assert!(error.contains("redirected, which is not followed; correct mesh.collector"), "{error}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn m18_another_certificate_or_none_is_refused_before_the_key_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (authority(), authority());
    fs::write(dir.path().join("ca.pem"), ours.pem()).unwrap();
    let ask =
        |address: std::net::SocketAddr| fetch(&settings(dir.path(), &format!("https://{address}/backend"), KEY, "ca_file = 'ca.pem'"));
    let tls = |authority| {
        ScriptedServer::start_tls(
            std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
            certificate(authority, "127.0.0.1", 2060, &[]),
            Duration::ZERO,
            [Reply::said(200, &list(&["a"]))],
            Reply::status(404),
        )
    };
    let good = tls(&ours);
    assert_eq!(ask(good.address()).unwrap().taken.list.probes.len(), 1);
    let changed = tls(&other);
    assert!(ask(changed.address()).unwrap_err().contains("certificate"));
    assert!(changed.requests().is_empty());
    // Somebody in between takes the TLS away: nothing readable is ever sent.
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    let heard = std::thread::spawn(move || {
        let mut first = [0; 1];
        std::io::Read::read_exact(&mut plain.accept().unwrap().0, &mut first).unwrap();
        first[0]
    });
    assert!(ask(address).is_err());
    assert_eq!(heard.join().unwrap(), 22, "a TLS handshake, not a request");
}

/// The row of a slot.
fn row(target: &str, slot: i64, rtts: &[u64]) -> Row {
    let rtts: Vec<_> = rtts.iter().map(|ms| Duration::from_millis(*ms)).collect();
    let tally = Tally { sent: 10, silent: 10 - rtts.len() as u64, rtts, ..Tally::default() };
    made(target, slot, finding("192.0.2.2".parse().unwrap(), &tally))
}

fn made(target: &str, slot: i64, finding: Finding) -> Row {
    let naming = Naming { agent: "rome-1".to_owned(), kind: "ping", probe: "mesh".to_owned() };
    let series = naming.series(target, "ipv4", &std::collections::BTreeMap::new());
    Row { series, time: Timestamp::from_nanos(slot), fields: finding.into_fields(None) }
}

#[test]
fn every_post_has_every_key_its_slot_and_the_results_of_that_slot_alone() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(list(&["me"]));
    let spec = output(settings(dir.path(), &collector.url(), KEY, ""), Losses::default());
    let output = spec.destination.connect(&Clock::system()).unwrap();
    let rows = [row("a", 1, &[1; 10]), row("b", 1, &[]), row("a", 2, &[1; 5]), made("b", 2, Finding::skipped(Skip::Restart))];
    let stored: Vec<_> = rows.into_iter().zip(1..).map(|(row, at)| Stored { position: Position(at), row }).collect();
    let body = output.encode(&stored).unwrap();
    assert_eq!(actix_rt::System::new().block_on(output.send(body)), Verdict::Accepted);
    let posted = collector.stored();
    assert_eq!(posted.iter().map(|posted| posted.slot).collect::<Vec<_>>(), [Some(1), Some(2)]);
    let items: Vec<_> = posted.iter().flat_map(crate::existing_collector::Posted::items).collect();
    let figures = |n: usize| ["name", "pinged", "ping_loss", "ping_avg", "ping_jitter"].map(|key| items[n][key].clone());
    assert_eq!(figures(0), [json!("a"), json!(true), json!(0.0), json!(1.0), json!(0.0)]);
    assert_eq!(figures(1), [json!("b"), json!(false), json!(1.0), json!(null), json!(null)]);
    assert_eq!(figures(2), [json!("a"), json!(true), json!(0.5), json!(1.0), json!(0.0)]);
    assert_eq!(figures(3), [json!("b"), json!(false), json!(null), json!(null), json!(null)]);
    assert!(posted.iter().all(|posted| posted.json()["source"] == "me"));
}

/// The writer with the output of a mesh, as the service has them.
struct Bench {
    outlet: qosd::writer::Outlet,
    parts: WriterParts,
    outputs: watch::Sender<Arc<Vec<qosd::writer::OutputSpec>>>,
    dir: TempDir,
}

impl Bench {
    async fn new(collector: &Collector, key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let kept = qosd::journal::Settings { flush: Duration::from_millis(10), max_size: 1 << 30, max_age: Duration::from_hours(1) };
        let journal = Journal::open(dir.path(), kept, clock.clone(), Mode::Threaded).unwrap();
        let mut spec = output(settings(dir.path(), &collector.url(), key, ""), Losses::default());
        spec.flush_interval = Duration::from_millis(20);
        journal.output(&spec.name, None).await.unwrap();
        let (outlet, intake) = queue(1000);
        let (outputs, watched) = watch::channel(Arc::new(vec![spec]));
        let (statuses, observe, random) = (Statuses::default(), Arc::new(|_: &Row| {}), Arc::new(|| 0.0));
        let parts = WriterParts { intake, journal, outputs: watched, statuses, observe, clock, random };
        Self { outlet, parts, outputs, dir }
    }
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(20), "never {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_post_whose_outcome_is_unknown_is_sent_again_byte_for_byte_with_the_same_slot() {
    actix_rt::System::new().block_on(async {
        let collector = Collector::start(list(&["me"]));
        let says = |status, headers, body: &str| Trouble::Says(status, headers, body.to_owned());
        collector.lock().posts.extend([
            says(500, "", r#"{"error":"no database"}"#),
            Trouble::Resets,
            says(503, "retry-after: 1\r\n", ""),
            says(404, "", "no such page"),
            says(200, "", "<html>log in</html>"),
            Trouble::StoresAndResets,
        ]);
        let bench = Bench::new(&collector, KEY).await;
        Writer::new(bench.parts.clone()).start();
        bench.outlet.send(row("a", 7, &[1, 2]));
        eventually("posted", || collector.stored().len() == 2).await;
        let posted = collector.lock().posted.clone();
        assert_eq!(posted.len(), 7);
        assert!(posted.iter().all(|again| (&again.slot, &again.body) == (&posted[0].slot, &posted[0].body)), "{posted:?}");
        eventually("acknowledged", || bench.parts.statuses.get("mesh").is_some_and(|status| status.pending == 0)).await;
        assert_eq!(bench.parts.statuses.get("mesh").unwrap().delivered, 1);
    });
}

#[test]
fn results_wait_while_the_key_is_wrong_and_go_out_at_once_with_a_new_one() {
    actix_rt::System::new().block_on(async {
        let collector = Collector::start(list(&["me"]));
        let bench = Bench::new(&collector, "the-wrong-key").await;
        Writer::new(bench.parts.clone()).start();
        (1..=3).for_each(|slot| bench.outlet.send(row("a", slot, &[1])));
        let failing = || bench.parts.statuses.get("mesh").and_then(|status| status.last_error);
        eventually("refused", || failing().as_deref() == Some("403 Forbidden: wrong key")).await;
        assert!(collector.stored().is_empty());
        let spec = output(settings(bench.dir.path(), &collector.url(), KEY, ""), Losses::default());
        bench.outputs.send_replace(Arc::new(vec![spec]));
        eventually("posted", || collector.stored().len() == 3).await;
        assert_eq!(collector.stored().iter().map(|posted| posted.slot.unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    });
}

#[test]
fn posts_that_were_accepted_are_not_repeated_when_a_later_one_of_the_same_batch_fails() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(list(&["me"]));
    let losses = Losses::default();
    let spec = output(settings(dir.path(), &collector.url(), KEY, ""), losses.clone());
    let output = spec.destination.connect(&Clock::system()).unwrap();
    let rejected = r#"{"status":"ok","rejected":[{"index":0,"error":"probes[0].name: a is not in the list"}]}"#;
    collector.lock().posts.extend([Trouble::StoresAndResets, Trouble::Says(200, "", rejected.to_owned()), Trouble::Resets]);
    let stored: Vec<_> = (1..=3).map(|slot| Stored { position: Position(slot as u64), row: row("a", slot, &[1]) }).collect();
    let body = output.encode(&stored).unwrap();
    actix_rt::System::new().block_on(async {
        for expected in [false, false, true] {
            assert_eq!(output.send(body.clone()).await == Verdict::Accepted, expected);
        }
    });
    assert_eq!(collector.lock().posted.iter().map(|posted| posted.slot.unwrap()).collect::<Vec<_>>(), [1, 1, 2, 2, 3]);
    assert_eq!(losses.told(), (1, Some("probes[0].name: a is not in the list".to_owned())), "M4");
}

/// The agent's actor, and what it says is to be measured.
struct Acting {
    change: watch::Sender<Option<Settings>>,
    desk: Desk,
    measured: Arc<Mutex<Vec<Vec<String>>>>,
    dir: TempDir,
}

impl Acting {
    fn start(dir: TempDir, settings: Option<Settings>) -> Self {
        let (change, watched) = watch::channel(settings);
        let desk = Desk {
            agent: "rome-1".to_owned(),
            folder: dir.path().to_owned(),
            kind: KINDS.iter().find(|kind| AnyKind::name(**kind) == "ping").copied(),
            here: Here::default,
            clock: Clock::system(),
            losses: Losses::default(),
            standing: Arc::default(),
        };
        let measured: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
        let seen = Arc::clone(&measured);
        let measure = Arc::new(move |assignments: Vec<Arc<qosd::probe::Assignment>>| {
            let targets = assignments.iter().map(|assignment| assignment.series.tag("target").unwrap().to_owned());
            seen.lock().unwrap().push(targets.collect());
        });
        Agent::new(AgentParts { settings: watched, desk: desk.clone(), measure, random: Arc::new(|| 0.0) }).start();
        Self { change, desk, measured, dir }
    }

    fn measured(&self) -> Vec<Vec<String>> {
        self.measured.lock().unwrap().clone()
    }

    async fn measures(&self, targets: &[&str]) {
        eventually("measured", || self.measured().last().is_some_and(|last| last == targets)).await;
    }

    fn error(&self) -> Option<String> {
        self.desk.status().and_then(|status| status.error)
    }
}

#[test]
fn m16_nonsense_changes_nothing_and_a_reload_asks_again_at_once() {
    actix_rt::System::new().block_on(async {
        let collector = Collector::start(list(&["me", "a", "b"]));
        let dir = tempfile::tempdir().unwrap();
        let first = settings(dir.path(), &collector.url(), KEY, "");
        let acting = Acting::start(dir, Some(first.clone()));
        acting.measures(&["a", "b"]).await;
        let status = acting.desk.status().unwrap();
        assert_eq!((status.peers, status.listed, status.stale, status.error), (2, Some(true), false, None));
        // Each change of the settings asks at once: another rate, then another key.
        let faster = settings(acting.dir.path(), &collector.url(), KEY, "max_rate = '500/s'");
        collector.lock().list = "nonsense".to_owned();
        acting.change.send_replace(Some(faster));
        eventually("asked again", || acting.error().is_some_and(|error| error.starts_with("the list is none"))).await;
        assert_eq!(acting.measured().last().unwrap(), &["a", "b"], "only by another rate");
        assert!(acting.desk.status().unwrap().stale);
        let before = acting.measured().len();
        collector.lock().key = "another-key".to_owned();
        collector.lock().list = list(&["me", "a", "b", "c"]);
        acting.change.send_replace(Some(settings(acting.dir.path(), &collector.url(), "another-key", "max_rate = '500/s'")));
        acting.measures(&["a", "b", "c"]).await;
        assert_eq!((acting.measured().len(), acting.error()), (before + 1, None));
        assert_eq!(collector.lock().asked.last().unwrap().as_deref(), Some("another-key"));
        acting.change.send_replace(None);
        acting.measures(&[]).await;
        assert_eq!(acting.desk.status(), None);
    });
}

#[test]
fn m17_while_the_collector_is_away_the_list_on_disk_is_used_and_marked_stale() {
    actix_rt::System::new().block_on(async {
        let collector = Collector::start(list(&["me", "a", "b"]));
        let dir = tempfile::tempdir().unwrap();
        let mesh = settings(dir.path(), &collector.url(), KEY, "");
        let acting = Acting::start(dir, Some(mesh.clone()));
        acting.measures(&["a", "b"]).await;
        eventually("kept", || cache::read(acting.dir.path(), mesh.collector.as_str()).is_ok()).await;
        let away = collector.stop();
        let Acting { dir, change, .. } = acting;
        drop(change);
        let acting = Acting::start(dir, Some(mesh.clone()));
        acting.measures(&["a", "b"]).await;
        eventually("failing", || acting.error().is_some()).await;
        let status = acting.desk.status().unwrap();
        assert!(status.stale && status.age_s.is_some() && status.error.unwrap().starts_with("list: error sending request"), "stale");
        let collector = away.start();
        acting.change.send_modify(|_| ());
        eventually("confirmed", || acting.desk.status().is_some_and(|status| !status.stale)).await;
        assert_eq!(acting.measured().len(), 1, "the same list disturbs nothing");
        // A damaged file is none, and said; the service goes on without.
        drop((acting.change, collector.stop()));
        fs::write(acting.dir.path().join(cache::FILE), "{\"crc32c\":1,\"content\":{}}").unwrap();
        let blind = Acting::start(acting.dir, Some(mesh));
        eventually("failing", || blind.error().is_some()).await;
        assert!(blind.measured().is_empty() && blind.desk.status().unwrap().fetched.is_none());
    });
}

fn with_key(config: &str) -> Home {
    let home = Home::new(config);
    let key = home.config().with_file_name("mesh_key");
    fs::write(&key, KEY).unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    home
}

#[test]
fn names_that_belong_to_the_mesh_are_refused_and_its_cost_is_said() {
    let table = mesh("https://collector.example", "");
    let ok = run(&mut with_key(&table).command(&["check"]));
    let said = String::from_utf8(ok.stdout).unwrap();
    assert!(ok.status.success() && said.contains("the mesh comes on top") && said.contains("never more than 1000 packets/s"), "{said}");
    let own = "[ping.mesh]\ntargets = ['192.0.2.1']\n[influxdb.mesh]\nurl = 'http://localhost:8086'\ndatabase = 'q'\n";
    let refused = run(&mut with_key(&format!("{table}{own}")).command(&["check"]));
    let said = String::from_utf8(refused.stdout).unwrap();
    for key in ["ping.mesh", "influxdb.mesh"] {
        assert!(said.contains(&format!("{key}: this name belongs to the agent of [mesh], choose another")), "{said}");
    }
    assert_eq!(run(&mut with_key(own).command(&["check"])).status.code(), Some(0), "without [mesh] they are names like others");
}

#[test]
fn mesh_once_without_a_mesh_or_a_list_says_so_and_with_nobody_else_is_done() {
    let status = |home: &Home| {
        let output = run(&mut home.command(&["mesh", "once"]));
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(status(&Home::new("")), (2, "the config has no [mesh]\n".to_owned()));
    assert_eq!(run(&mut qosd(&["mesh", "twice"])).status.code(), Some(2));
    let collector = Collector::start(list(&["me"]));
    let home = with_key(&mesh(&collector.url(), ""));
    fs::create_dir(home.config().with_file_name("data")).unwrap();
    assert_eq!(status(&home), (0, String::new()));
    drop(collector);
    let (code, said) = status(&home);
    assert!(code == 0 && said.contains("the list on disk is used, of 20"), "{said}");
    fs::remove_file(home.config().with_file_name("data").join(cache::FILE)).unwrap();
    let (code, said) = status(&home);
    assert!(code == 1 && said.contains("the list on disk cannot be read"), "{said}");
}

#[test]
fn the_running_service_tells_of_its_mesh() {
    let collector = Collector::start(list(&["me"]));
    let home = with_key(&mesh(&collector.url(), ""));
    let daemon = home.start();
    daemon.until(|| daemon.status()["mesh"]["listed"] == true);
    let status = daemon.status();
    assert_eq!((&status["mesh"]["peers"], &status["mesh"]["stale"]), (&json!(0), &json!(false)), "{status}");
    assert!(status["outputs"].as_array().unwrap().iter().any(|output| output["name"] == "mesh"), "{status}");
    let shown = String::from_utf8(run(&mut home.command(&["status"])).stdout).unwrap();
    assert!(shown.contains("mesh: me at http://127.0.0.1") && shown.contains("0 peers; 10 packets every 5m, 1s apart"), "{shown}");
    assert!(!daemon.log().contains(KEY) && !status.to_string().contains(KEY));
    // Without [mesh] the output goes with it.
    home.replace("");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.until(|| daemon.status()["mesh"].is_null() && daemon.status()["outputs"] == json!([]));
    daemon.stop();
}
