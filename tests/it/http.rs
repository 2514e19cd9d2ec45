//! The HTTP kind against servers that do what no honest server does. H numbers are those of the list of faults.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use qosd::clock::{Clock, millis};
use qosd::measurement::Value;
use qosd::probe::http::Http;
use qosd::probe::http::engine::HttpEngine;
use qosd::probe::http::settings::Job;
use qosd::probe::load::Load;
use qosd::probe::{AnyKind, Assignment, Finding, Member, Outcome, Shared};
use qosd::resolve::Resolver;

use crate::scripted_server::{Reply, ScriptedServer};

/// What a table of the config asks for.
pub(crate) fn assignments(toml: &str) -> Vec<Arc<Assignment>> {
    let file = config::File::from_str(toml, config::FileFormat::Toml);
    let table = config::Source::collect(&file).unwrap().into();
    Member::<Http>::NEW.read("rome-1", "under-test", table).unwrap_or_else(|problems| panic!("{problems:?}")).assignments
}

/// Does something with an engine, on an event loop as the service has it.
pub(crate) fn with_engine<T>(act: impl AsyncFnOnce(HttpEngine) -> T) -> T {
    actix_rt::System::new().block_on(async {
        let clock = Clock::system();
        let shared = Shared { clock: clock.clone(), resolver: Resolver::start(clock.clone()), load: Load::new(clock) };
        act(HttpEngine::new(shared)).await
    })
}

/// One run of the only target of a table.
pub(crate) fn measure(toml: &str) -> Finding {
    let job = assignments(toml)[0].job::<Job>().unwrap();
    with_engine(async |engine| engine.measure(&job).await)
}

/// One GET.
fn get(server: &ScriptedServer, more: &str) -> Finding {
    measure(&format!("targets = ['{}/']\n{more}", server.url()))
}

fn answered(reply: Reply, more: &str) -> Finding {
    get(&ScriptedServer::start([], reply), more)
}

pub(crate) fn float(finding: &Finding, name: &str) -> Option<f64> {
    match finding.fields.get(name)? {
        Value::Float(value) => Some(*value),
        other => panic!("{name} is no float: {other:?}"),
    }
}

pub(crate) fn integer(finding: &Finding, name: &str) -> Option<i64> {
    match finding.fields.get(name)? {
        Value::Integer(value) => Some(*value),
        other => panic!("{name} is no integer: {other:?}"),
    }
}

pub(crate) fn result(finding: &Finding) -> (Outcome, &str) {
    (finding.outcome, finding.error.as_deref().unwrap_or_default())
}

/// Each of these phases was as long as the server took for it, within 2 ms or 5 %, in the best of several runs: other tests
/// keep the machine busy, but that does not make a wrong figure right. What the middle one says is `tests/net`'s business.
pub(crate) fn assert_took(runs: &[(Finding, Vec<Duration>)], phases: &[&str]) {
    for (n, name) in phases.iter().enumerate() {
        let off = runs.iter().map(|(finding, pauses)| {
            let took = float(finding, name).unwrap_or_else(|| panic!("no {name}: {finding:?}"));
            let expected = millis(pauses[n]);
            (took - expected).abs() / f64::max(2.0, expected * 0.05)
        });
        let best = off.fold(f64::MAX, f64::min);
        assert!(best <= 1.0, "{name} is off by {best} times what it may: {runs:?}");
    }
}

/// The phases add up to the whole within a microsecond.
pub(crate) fn assert_adds_up(finding: &Finding) {
    let names = ["http_dns_ms", "http_connect_ms", "http_tls_ms", "http_first_byte_ms", "http_transfer_ms"];
    let sum: f64 = names.iter().filter_map(|name| float(finding, name)).sum();
    assert!((sum - float(finding, "http_ping_ms").unwrap()).abs() < 0.001, "{finding:?}");
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An answer whose head comes after `head` and whose body takes `body`.
pub(crate) fn timed(head: u64, body: u64) -> Reply {
    let start = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello".to_vec();
    Reply::Pieces(vec![(ms(head), start), (ms(body), b"world".to_vec())])
}

#[expect(clippy::disallowed_methods, reason = "deadlines are of real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The most memory that a run of the program has taken, in bytes. Nothing but its end is waited for.
pub(crate) fn peak(arguments: &[&str]) -> u64 {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_qosd"));
    let mut child = command.arg("http").args(arguments).stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        // Of one that has just ended there is no line any more.
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        most = line.map_or(most, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024);
        std::thread::sleep(ms(2));
    }
    most
}

/// The most that a hostile answer may cost.
pub(crate) const LITTLE: u64 = 4 << 20;

/// A download that is answered so costs hardly more memory than an empty one.
fn assert_little_memory(download: &Reply, more: &[&str]) {
    let peak = |download: Reply| {
        // The process waits for a while at its end, so that it can be looked at.
        let last = Reply::Pieces(vec![(ms(100), b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())]);
        let server = ScriptedServer::start([Reply::status(200), download], last);
        peak(&[&[&server.url(), "--download", "/d", "--upload", "/u"], more].concat())
    };
    let (grown, least) = (peak(download.clone()), peak(Reply::status(200)));
    assert!(grown <= least + LITTLE, "{grown} bytes, {least} for an empty answer");
}

#[test]
fn each_phase_is_as_long_as_the_server_took() {
    let run = || {
        let server = ScriptedServer::start([], timed(100, 100));
        (get(&server, ""), server.pauses())
    };
    let runs: Vec<_> = std::iter::repeat_with(run).take(10).collect();
    assert_took(&runs, &["http_first_byte_ms", "http_transfer_ms"]);
    for (run, _) in &runs {
        assert_eq!(result(run), (Outcome::Ok, ""));
        assert_eq!(integer(run, "http_status_code"), Some(200));
        assert_eq!((float(run, "http_dns_ms"), float(run, "http_tls_ms")), (None, None), "there was neither");
        assert_adds_up(run);
    }
}

#[test]
fn requests_at_the_same_time_do_not_mix() {
    let servers: Vec<_> = (0..10).map(|n| ScriptedServer::start([], timed(20 + 150 * n, 0))).collect();
    let targets: Vec<_> = servers.iter().enumerate().map(|(n, server)| format!("{{ host = '{}', name = '{n}' }}", server.url())).collect();
    let jobs: Vec<_> = assignments(&format!("targets = [{}]", targets.join(","))).iter().map(|one| one.job::<Job>().unwrap()).collect();
    let findings = with_engine(async |engine| join_all(jobs.iter().map(|job| engine.measure(job))).await);
    for (n, finding) in findings.iter().enumerate() {
        let (took, expected) = (float(finding, "http_first_byte_ms").unwrap(), millis(servers[n].pauses()[0]));
        assert!((took - expected).abs() < 75.0, "{n}: {took} for {expected}");
        assert_adds_up(finding);
    }
}

#[test]
fn a_run_gets_then_downloads_then_uploads_each_over_its_own_connection() {
    let server = ScriptedServer::start([Reply::status(200), Reply::said(200, &"x".repeat(1000)), Reply::status(201)], Reply::Close);
    let finding = get(&server, "download = '/file?x=1'\nupload = '/upload'\nupload_size = '70000B'");
    assert_eq!(result(&finding), (Outcome::Ok, ""));
    let all = server.requests();
    let asked: Vec<_> = all.iter().map(|one| (one.method.as_str(), one.path.as_str(), one.query.as_str(), one.connection)).collect();
    assert_eq!(asked, [("GET", "/", "", 0), ("GET", "/file", "x=1", 1), ("POST", "/upload", "", 2)]);
    assert_eq!((all[2].raw_body.len(), all[2].headers["content-length"].as_str()), (70_000, "70000"), "of known length");
    assert_eq!(all[0].headers["user-agent"], concat!("qosd/", env!("CARGO_PKG_VERSION")));
    assert!(!all[0].headers.contains_key("accept-encoding"), "nothing is compressed");
    assert_eq!(integer(&finding, "http_download_bytes"), Some(1000));
    assert_eq!((integer(&finding, "http_download_status"), integer(&finding, "http_upload_status")), (Some(200), Some(201)));
    let mbps = 1000.0 * 8.0 / 1000.0 / float(&finding, "http_download_ms").unwrap();
    assert!((float(&finding, "http_download_mbps").unwrap() - mbps).abs() < 1e-6);
    assert!(float(&finding, "http_upload_mbps").is_some() && float(&finding, "http_upload_ms").is_some());
}

#[test]
fn a_kept_connection_is_used_again_and_not_measured_again() {
    let server = ScriptedServer::start([], Reply::status(200));
    let job = assignments(&format!("targets = ['{}']\nreuse = true", server.url()))[0].job::<Job>().unwrap();
    let (first, second) = with_engine(async |engine| (engine.measure(&job).await, engine.measure(&job).await));
    assert!(float(&first, "http_connect_ms").is_some());
    assert_eq!(float(&second, "http_connect_ms"), None);
    assert_eq!(server.requests().iter().map(|one| one.connection).collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn one_step_that_fails_makes_the_run_partial() {
    let server = ScriptedServer::start([Reply::status(200), Reply::said(404, "no"), Reply::Close], Reply::Close);
    let finding = get(&server, "download = '/file'\nupload = '/upload'");
    let (outcome, error) = result(&finding);
    assert_eq!(outcome, Outcome::Partial);
    assert!(error.starts_with("download: status 404; upload: connection closed before message completed"), "{error}");
    assert_eq!((integer(&finding, "http_download_status"), integer(&finding, "http_upload_status")), (Some(404), Some(-1)));
    assert_eq!(float(&finding, "http_upload_ms"), None);
}

#[test]
fn which_status_is_right_is_as_configured() {
    assert_eq!(result(&answered(Reply::status(204), "")).0, Outcome::Ok);
    let wrong = answered(Reply::status(500), "");
    assert_eq!(result(&wrong), (Outcome::BadStatus, "get: status 500"));
    assert!(float(&wrong, "http_ping_ms").is_some(), "the answer came");
    assert_eq!(result(&answered(Reply::status(204), "expect_status = [200]")).0, Outcome::BadStatus);
    assert_eq!(result(&answered(Reply::status(500), "expect_status = [200, 500]")).0, Outcome::Ok);
    let moved = || Reply::with(302, "location", "http://192.0.2.1/");
    assert_eq!(result(&answered(moved(), "")), (Outcome::BadStatus, "get: status 302"), "not followed");
    assert_eq!(result(&answered(moved(), "expect_status = [302]")).0, Outcome::Ok);
}

#[test]
fn nobody_listening_is_refused() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let finding = measure(&format!("targets = ['http://{address}/']\ndownload = '/x'"));
    let why = "Connection refused (os error 111) while connecting";
    assert_eq!(result(&finding), (Outcome::Refused, format!("get: {why}; download: {why}").as_str()));
    assert_eq!((integer(&finding, "http_status_code"), integer(&finding, "http_download_status")), (Some(-1), Some(-1)));
    assert!(finding.fields.get("address").is_some());
}

#[test]
fn a_connection_that_breaks_off_is_a_tool_error_and_says_when() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello".to_vec();
    let table = [
        (Reply::Reset(vec![]), "while waiting for the answer"),
        (Reply::Reset(b"HTTP/1.1 200".to_vec()), "while waiting for the answer"),
        (Reply::Close, "connection closed before message completed while waiting for the answer"),
        (Reply::Raw(head.clone()), "while reading the answer"),
        (Reply::Reset(head), "while reading the answer"),
    ];
    for (reply, words) in table {
        let shown = format!("{reply:?}");
        let finding = answered(reply, "");
        assert_eq!(finding.outcome, Outcome::ToolError, "{shown}: {finding:?}");
        assert!(result(&finding).1.ends_with(words), "{shown}: {finding:?}");
        assert_eq!(float(&finding, "http_ping_ms"), None);
    }
}

/// (H1)
#[test]
fn h1_an_endless_body_is_read_to_the_cap_and_no_further() {
    let server = ScriptedServer::start([], Reply::endless());
    let finding = get(&server, "max_body = '8MiB'\ntimeout = '1m'");
    assert_eq!(result(&finding), (Outcome::BodyTooLarge, "get: more than 8MiB while reading the answer"));
    assert_eq!((integer(&finding, "http_status_code"), float(&finding, "http_ping_ms")), (Some(200), None));
    assert_little_memory(&Reply::endless(), &["--max-body", "64MiB", "--download-timeout", "1m"]);
}

/// (H1)
#[test]
fn h1_a_body_that_says_that_it_is_too_large_is_not_read_at_all() {
    let finding = answered(Reply::Drip(b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n".to_vec(), Duration::ZERO), "max_body = '1999B'");
    assert_eq!(result(&finding).0, Outcome::BodyTooLarge);
}

/// (H2)
#[test]
fn h2_a_compressed_body_stays_compressed() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 200 << 20), &mut packed).unwrap();
    let packed = packed.finish().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", packed.len());
    let server = ScriptedServer::start([Reply::status(200)], Reply::Raw([head.as_bytes(), &packed].concat()));
    let finding = get(&server, "download = '/bomb'");
    assert_eq!(result(&finding).0, Outcome::Ok);
    assert_eq!(integer(&finding, "http_download_bytes"), Some(packed.len() as i64));
    assert_little_memory(&Reply::Raw([head.as_bytes(), &packed].concat()), &[]);
}

/// (H3)
#[test]
fn h3_a_slow_answer_ends_with_the_deadline_of_the_whole() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_vec();
    let slow_body = Reply::Pieces(std::iter::once((Duration::ZERO, head.clone())).chain((0..1000).map(|_| (ms(20), vec![b'x']))).collect());
    let table = [
        (Reply::Stall, "while waiting for the answer", -1),
        (Reply::Drip(head, ms(20)), "while waiting for the answer", -1),
        (slow_body, "while reading the answer", 200),
    ];
    for (reply, stage, status) in table {
        let server = ScriptedServer::start([], reply);
        let begun = now();
        let finding = get(&server, "timeout = '300ms'");
        let took = begun.elapsed();
        assert_eq!(result(&finding), (Outcome::Timeout, format!("get: not done within 300ms {stage}").as_str()));
        assert_eq!((integer(&finding, "http_status_code"), float(&finding, "http_ping_ms")), (Some(status), None));
        assert!((ms(300)..ms(1000)).contains(&took), "{took:?}");
    }
    let slow = Reply::Drip(vec![b'x'; 1000], ms(10));
    assert_little_memory(&slow, &["--download-timeout", "500ms"]);
}

#[test]
fn each_step_has_its_own_deadline() {
    let server = ScriptedServer::start([], Reply::Stall);
    let begun = now();
    let finding = get(&server, "timeout = '100ms'\ndownload = '/d'\ndownload_timeout = '200ms'\nupload = '/u'\nupload_timeout = '300ms'");
    let took = begun.elapsed();
    let words = "while waiting for the answer";
    let error =
        format!("get: not done within 100ms {words}; download: not done within 200ms {words}; upload: not done within 300ms {words}");
    assert_eq!(result(&finding), (Outcome::Timeout, error.as_str()));
    assert!((ms(600)..ms(1200)).contains(&took), "{took:?}");
}

/// (H4)
#[test]
fn h4_a_head_without_measure_is_an_error_and_little_memory() {
    let many = "x: y\r\n".repeat(10_000);
    let table = [
        format!("HTTP/1.1 200 OK\r\n{many}\r\n").into_bytes(),
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)).into_bytes(),
        b"HTTP/1.1 200 OK\r\nx\0y: z\r\n\r\n".to_vec(),
        b"\xff\xfe\xfd\r\n\r\n".to_vec(),
    ];
    for bytes in &table {
        let finding = answered(Reply::Raw(bytes.clone()), "");
        assert_eq!(finding.outcome, Outcome::ToolError, "{finding:?}");
        assert_eq!(integer(&finding, "http_status_code"), Some(-1));
    }
    // One that never ends is read to the limit of the HTTP library, which is 408 KiB.
    let endless = Reply::Endless(b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'y'; 4096]);
    assert_eq!(answered(endless.clone(), "").outcome, Outcome::ToolError);
    for reply in table.into_iter().map(Reply::Raw).chain([endless]) {
        assert_little_memory(&reply, &[]);
    }
}

/// (H5)
#[test]
fn h5_a_redirect_loop_ends_at_the_limit() {
    let server = ScriptedServer::start([], Reply::with(302, "location", "/again"));
    let finding = get(&server, "redirects = 5");
    assert_eq!(result(&finding), (Outcome::BadStatus, "get: status 302: redirected more than 5 times"));
    assert_eq!((server.requests().len(), integer(&finding, "http_status_code")), (6, Some(302)));
}

/// (H5)
#[test]
fn h5_what_redirects_take_is_part_of_the_phases() {
    let moved = Reply::Pieces(vec![(ms(40), b"HTTP/1.1 302 Found\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n".to_vec())]);
    let server = ScriptedServer::start([moved], timed(30, 20));
    let finding = get(&server, "redirects = 1");
    assert_eq!(result(&finding), (Outcome::Ok, ""));
    assert_eq!(server.requests().iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["/", "/b"]);
    assert!(float(&finding, "http_first_byte_ms").unwrap() >= 70.0, "{finding:?}");
    assert_adds_up(&finding);
}

/// (H5)
#[test]
fn h5_the_deadline_is_of_all_redirects_together() {
    let moved = Reply::Pieces(vec![(ms(100), b"HTTP/1.1 302 Found\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n".to_vec())]);
    let server = ScriptedServer::start([], moved);
    let finding = get(&server, "redirects = 10\ntimeout = '350ms'");
    assert_eq!(result(&finding).0, Outcome::Timeout, "{finding:?}");
    // On a busy host fewer fit.
    assert!((2..=4).contains(&server.requests().len()), "{}", server.requests().len());
}

/// (H6)
#[test]
fn h6_a_server_cannot_send_us_into_the_network_of_this_host() {
    let inside = ScriptedServer::start([], Reply::status(200));
    let port = inside.address().port();
    for host in ["127.0.0.1", "localhost", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "[::]", "0.0.0.0"] {
        let server = ScriptedServer::start([], Reply::with(302, "location", format!("http://{host}:{port}/")));
        let finding = get(&server, "redirects = 3");
        assert_eq!(finding.outcome, Outcome::BadStatus, "{host}: {finding:?}");
        assert!(result(&finding).1.contains("redirected to "), "{host}: {finding:?}");
    }
    assert!(inside.requests().is_empty());
}

/// (H7)
#[test]
fn h7_a_redirect_to_a_file_is_refused() {
    for location in ["file:///etc/passwd", "ftp://192.0.2.1/", "javascript:alert(1)"] {
        let finding = answered(Reply::with(302, "location", location), "redirects = 3");
        let expected = "get: status 302: redirected to another scheme than http and https";
        assert_eq!(result(&finding), (Outcome::BadStatus, expected));
    }
}

const CANARY: &str = "c4n4ry-h3ader";

/// A file with a header, readable by its owner.
fn headers_file(dir: &tempfile::TempDir) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.path().join("headers");
    std::fs::write(&path, format!("Authorization: Bearer {CANARY}\nCookie: session={CANARY}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// (H8)
#[test]
fn h8_headers_go_to_the_target_and_cookies_are_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = ScriptedServer::start([Reply::with(302, "location", "/b")], Reply::with(200, "set-cookie", "a=b"));
    let finding = get(&server, &format!("redirects = 1\ndownload = '/d'\nheaders_file = '{}'", headers_file(&dir)));
    assert_eq!(result(&finding), (Outcome::Ok, ""));
    let all = server.requests();
    assert_eq!(all.len(), 3);
    for request in all {
        assert_eq!(request.headers["authorization"], format!("Bearer {CANARY}"), "{}", request.path);
        assert_eq!(request.headers["cookie"], format!("session={CANARY}"));
    }
}

#[test]
fn a_server_that_says_a_secret_back_does_not_get_it_into_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let table = [
        Reply::with(302, "location", format!("http://{CANARY}.invalid/")),
        Reply::with(302, "location", format!("http://127.0.0.1:1/{CANARY}")),
        Reply::with(302, "location", format!("{CANARY}:x")),
        Reply::Raw(format!("HTTP/1.1 200 {CANARY}\r\n\r\n").into_bytes()),
        Reply::Raw(format!("{CANARY}\r\n\r\n").into_bytes()),
        Reply::Echo(500),
    ];
    for reply in table {
        let finding = answered(reply.clone(), &format!("redirects = 1\nheaders_file = '{}'", headers_file(&dir)));
        assert!(!format!("{finding:?}").contains(CANARY), "{reply:?}: {finding:?}");
    }
}

/// (H9)
#[test]
fn h9_what_is_no_http_is_an_error_and_never_the_next_answer() {
    let table: [(&[u8], Option<Outcome>); 8] = [
        (b"hello", Some(Outcome::ToolError)),
        (b"HTTP/0.9 200 OK\r\n\r\n", Some(Outcome::ToolError)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", Some(Outcome::ToolError)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nhello", Some(Outcome::ToolError)),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello", Some(Outcome::ToolError)),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n2\r\nhi\r\n0\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\nx: y\n\nbare", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno", Some(Outcome::Ok)),
    ];
    for (bytes, expected) in table {
        let server = ScriptedServer::start([Reply::Raw(bytes.to_vec())], Reply::status(204));
        let job = assignments(&format!("targets = ['{}']\nreuse = true\ntimeout = '1s'", server.url()))[0].job::<Job>().unwrap();
        let (first, second) = with_engine(async |engine| (engine.measure(&job).await, engine.measure(&job).await));
        let shown = String::from_utf8_lossy(bytes);
        assert!(expected.is_none_or(|expected| first.outcome == expected), "{shown}: {first:?}");
        assert_eq!(integer(&second, "http_status_code"), Some(204), "{shown}: {second:?}");
    }
}

/// (H9)
#[test]
fn h9_a_storm_of_interim_answers_ends_with_the_deadline() {
    let many = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    // As fast as a good path would bring them; beyond what the HTTP library can read it comes round to the deadline late.
    let storm = Reply::Pieces(vec![(ms(5), many); 1000]);
    let begun = now();
    let finding = answered(storm.clone(), "timeout = '500ms'");
    let took = begun.elapsed();
    assert_eq!(result(&finding), (Outcome::Timeout, "get: not done within 500ms while waiting for the answer"));
    assert!(took < ms(1500), "{took:?}");
    assert_little_memory(&storm, &["--download-timeout", "500ms"]);
}

#[test]
fn a_name_that_does_not_exist_is_a_dns_error() {
    let finding = measure("targets = ['http://no-such-name.invalid/']\ntimeout = '6s'");
    assert_eq!(finding.outcome, Outcome::DnsError, "{finding:?}");
    assert_eq!((integer(&finding, "http_status_code"), finding.fields.get("address")), (Some(-1), None));
}

/// (H13)
#[test]
fn h13_runs_beyond_what_may_be_on_its_way_are_skipped_and_the_others_have_their_own_deadlines() {
    // Nobody ever accepts: the kernel holds the connections, so that each costs this process one descriptor only.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1024).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let job = assignments(&format!("targets = ['http://{address}/']\ntimeout = '2s'"))[0].job::<Job>().unwrap();
    let begun = now();
    let findings = with_engine(async |engine| join_all((0..600).map(|_| engine.measure(&job))).await);
    let took = begun.elapsed();
    let count = |outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    assert_eq!((count(Outcome::Timeout), count(Outcome::Skipped)), (512, 88), "{:?}", findings[0]);
    assert_eq!(findings.last().and_then(|finding| finding.error.as_deref()), Some("budget"));
    assert!(took < ms(6000), "{took:?}");
}
