//! The page's server: what protects a browser, by which names it is called, what it does not take, and that no request,
//! however hostile, costs more than itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use qosd::clock::Clock;
use qosd::history::History;
use qosd::listeners::Listeners;
use qosd::measurement::{QOS_METRICS, Series};
use qosd::page::host::Hosts;
use qosd::page::{Press, Sight, server};
use qosd::responder::{Responder, ResponderParts};
use qosd::status::Board;
use qosd::status::pairs::Pairs;
use qosd::status::server::Report;
use qosd::supervisor::actor::View;
use qosd::supervisor::child::{Child, Placement};
use qosd::supervisor::policy::Policy;
use qosd::web::line::Patience;
use tokio::sync::watch;

use crate::service::supervise;

mod load;

/// A server of pages on a free port, for as long as this lives.
struct Serving {
    address: SocketAddr,
    handle: actix_web::dev::ServerHandle,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What came back.
struct Answer {
    status: u16,
    /// In lower case.
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

fn sight(report: Report) -> Sight {
    let board = Board::default();
    let hostile =
        Series::new(QOS_METRICS, [("target", "<script>alert(1)</script>"), ("kind", "ping"), ("probe", "core"), ("family", "auto")]);
    board.schedule([&hostile]);
    Sight { clock: Clock::system(), report, board, pairs: Pairs::default(), history: History::default() }
}

impl Serving {
    fn start() -> Self {
        Self::telling(Arc::new(|| serde_json::json!({"actors": []})), server::PATIENCE)
    }

    fn telling(report: Report, patience: Patience) -> Self {
        Self::with(report, patience, View::default(), Listeners::default())
    }

    fn with(report: Report, patience: Patience, actors: View, listeners: Listeners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let press = Press::new(sight(report), Arc::new(Vec::new), actors, listeners);
        let (send, handle) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async {
                let (names, known) = watch::channel(Arc::new(Hosts::new(&["qos.example.org".to_owned()], Some("rome-1"))));
                let server = server::serve_on(listener, press, known, patience).unwrap();
                send.send(server.handle()).unwrap();
                server.await.unwrap();
                drop(names);
            });
        });
        Self { address, handle: handle.recv().unwrap(), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends bytes and reads until the other side closes.
    fn say(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        // Whoever refuses may close before it has read all.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            _ => {}
        }
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
        Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: answer[end + 4..].to_vec() }
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        self.say(format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}\r\n", self.address).as_bytes())
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
        // A thread that panicked has failed the test already.
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

const SUBJECT: &str = "ping/core/%3Cscript%3Ealert(1)%3C%2Fscript%3E";

/// Every route, and paths that lead nowhere.
fn routes() -> Vec<String> {
    let fixed = ["/", "/mesh", "/status", "/metrics", "/healthz", "/readyz", "/style.css", "/page.js", "/favicon.ico", "/api/v1/status"];
    let of_subject =
        [format!("/probe/{SUBJECT}"), format!("/chart/{SUBJECT}.svg"), format!("/chart/{SUBJECT}.csv"), format!("/api/v1/range/{SUBJECT}")];
    let wrong = [
        "/api/v1/series",
        "/api/v1/mesh",
        "/nothing",
        "/probe/ping/core",
        "/probe/ping/core/%ff",
        "/../../etc/passwd",
        "/api/v1/range/ping/core/x",
        "//",
        "/%00",
    ];
    fixed.iter().chain(&wrong).map(|path| (*path).to_owned()).chain(of_subject).collect()
}

const PROTECTION: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "deny"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
];

fn assert_protected(answer: &Answer, what: &str) {
    for (name, value) in PROTECTION {
        assert_eq!(answer.header(name), Some(value), "{what}");
    }
    assert!(!answer.head.contains("access-control-"), "{what}: {}", answer.head);
    let kept = answer.header("cache-control").unwrap_or_else(|| panic!("{what}: {}", answer.head));
    assert_eq!(kept, if ["/style.css", "/page.js", "/favicon.ico"].contains(&what) { "no-cache" } else { "no-store" }, "{what}");
}

/// (W1) The text itself is looked at where the pages are made.
#[test]
fn w1_every_answer_has_what_protects_a_browser() {
    let serving = Serving::start();
    for path in routes() {
        let answer = serving.get(&path);
        assert_protected(&answer, &path);
        assert!(answer.body.is_empty() || answer.header("content-type").is_some(), "{path}");
    }
    assert_protected(&serving.ask("POST", "/", ""), "POST /");
    assert_protected(&serving.say(b"GET / HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n"), "another host");
    assert_protected(&serving.get(&format!("/?{}", "x".repeat(10_000))), "too long");
}

/// (W3)
#[test]
fn w3_a_name_that_is_not_ours_gets_an_explanation_and_nothing_else() {
    let serving = Serving::start();
    let host = |host: &str| serving.say(format!("GET /api/v1/series HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes());
    for ours in ["127.0.0.1:9876", "[::1]", "localhost", "rome-1", "QOS.example.org:443"] {
        assert_eq!(host(ours).status, 200, "{ours}");
    }
    for other in
        ["evil.example", "evil.example:9876", "localhost.evil.example", "127.0.0.1.evil.example", "\u{e9}vil", "<script>", "a, localhost"]
    {
        let refusal = host(other);
        assert_eq!(refusal.status, 421, "{other}");
        assert!(refusal.text().contains("hosts in the section [web]") && !refusal.text().contains("alert(1)"), "{other}");
    }
    let long = host(&"a".repeat(60_000));
    assert!(long.status == 421 && long.body.len() < 400, "{}", long.text());
    let raw = |request: &str| serving.say(request.as_bytes()).status;
    assert_eq!(raw("GET http://evil.example/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"), 421, "the address counts, too");
    assert_eq!(raw("GET http://localhost/ HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n"), 421);
    assert_ne!(raw("GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\nconnection: close\r\n\r\n"), 200);
    assert_eq!(raw("GET / HTTP/1.0\r\n\r\n"), 421, "who names nobody");
}

/// (W3)
#[test]
fn w3_nothing_but_get_and_head_is_taken_and_other_sites_are_told_nothing() {
    let serving = Serving::start();
    for path in routes() {
        let nowhere = ["/nothing", "/probe/ping/core", "/../../etc/passwd", "//", "/%00"].contains(&path.as_str());
        let expected = if nowhere {
            404
        } else if path.ends_with("%ff") {
            400
        } else {
            405
        };
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
            let refusal = serving.ask(method, &path, "origin: http://evil.example\r\naccess-control-request-method: GET\r\n");
            assert_eq!((refusal.status, refusal.header("allow")), (expected, (expected == 405).then_some("get, head")), "{method} {path}");
            assert_protected(&refusal, method);
        }
    }
    let requeue = serving.ask("GET", "/api/v1/requeue", "");
    assert_eq!(requeue.status, 404, "there is no wish over TCP");
    let body = serving.say(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\nx");
    assert_eq!(body.status, 405, "before anything is read");
}

#[test]
fn a_head_is_a_get_without_its_body() {
    let serving = Serving::start();
    for path in ["/healthz", "/style.css", "/api/v1/status", "/nothing"] {
        let (get, head) = (serving.get(path), serving.ask("HEAD", path, ""));
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        assert_eq!(
            (head.header("content-length"), head.header("content-type")),
            (get.header("content-length"), get.header("content-type"))
        );
    }
}

#[test]
fn hostile_paths_and_queries_are_answered_like_any_other() {
    let serving = Serving::start();
    let hostile = [
        "%00",
        "%0a%0dset-cookie:x",
        "..%2f..%2fetc%2fpasswd",
        "%F0%9F%92%A9",
        "%1b[31m",
        "%3Csvg/onload=alert(1)%3E",
        "%",
        "%zz",
        "a;b",
        "'\"`",
    ];
    for text in hostile {
        for path in [
            format!("/{text}"),
            format!("/probe/ping/core/{text}"),
            format!("/chart/ping/core/{text}.svg?field={text}"),
            format!("/api/v1/range/ping/core/{text}?range={text}&from={text}&to={text}"),
            format!("/?q={text}&kind={text}&sort={text}&state={text}"),
        ] {
            let answer = serving.get(&path);
            assert!(answer.status < 500 || answer.status == 501, "{path}: {}", answer.status);
            assert_eq!(answer.header("set-cookie"), None, "{path}");
        }
    }
    assert_eq!(serving.get("/probe/ping/core/%ff%fe").status, 400);
    for long in [format!("/{}", "a/".repeat(32_000)), format!("/?q={}", "%41".repeat(20_000))] {
        assert_eq!(serving.get(&long).status, 414);
    }
    for raw in [
        &b"GET /\0 HTTP/1.1\r\nhost: localhost\r\n\r\n"[..],
        b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\r\n\r\n",
    ] {
        let mut stream = serving.connect();
        stream.write_all(raw).unwrap();
        let mut answer = Vec::new();
        // Whether it is answered or cut off, it ends.
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{raw:?}");
    }
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let mut stream = serving.connect();
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.read_to_end(&mut Vec::new());
    assert_eq!(serving.get("/healthz").status, 200);
}

#[test]
fn the_api_has_each_series_and_says_what_is_wrong_with_a_question() {
    let serving = Serving::start();
    let json = |path: &str| -> serde_json::Value { serde_json::from_str(&serving.get(path).text()).unwrap() };
    assert_eq!(json("/api/v1/series")["series"][0]["tags"]["target"], "<script>alert(1)</script>");
    let range = json(&format!("/api/v1/range/{SUBJECT}?range=1h&field=ping_avg_ms"));
    assert_eq!((&range["ranges"][0]["tags"]["probe"], range["ranges"][0]["columns"].as_array().unwrap().len()), (&"core".into(), 0));
    for (query, status, why) in [
        ("?range=2h", 400, "range is \"2h\", expected one of"),
        ("?from=yesterday", 400, "from is \"yesterday\", expected a time"),
        ("?from=200&to=100", 400, "from is not before to"),
        ("?family=ipv6", 404, "family is \"ipv6\", expected one of auto"),
        ("?source=elsewhere", 404, "this target has no source"),
        ("?field=ping_ttl", 400, "field is \"ping_ttl\", expected one of ping_avg_ms, ping_jitter_ms, ping_packet_loss_pct"),
    ] {
        let answer = serving.get(&format!("/api/v1/range/{SUBJECT}{query}"));
        assert!(answer.status == status && answer.text().starts_with(why), "{query}: {} {}", answer.status, answer.text());
    }
}

#[test]
fn who_is_not_ready_says_which_part_does_not_work() {
    let actors = View::default();
    let listeners = Listeners::default();
    let serving = Serving::with(Arc::new(|| serde_json::Value::Null), server::PATIENCE, actors.clone(), listeners.clone());
    let ready = || (serving.get("/readyz").status, serving.get("/readyz").text());
    assert_eq!(ready(), (503, "qosd is starting\n".to_owned()));
    let clock = Clock::system();
    let child = |name: &str, start: fn() -> Result<Responder, String>| Child::new(name, Policy::PROBE, Placement::Here, start);
    let well =
        || Ok(Responder::new(ResponderParts { settings: watch::channel(None).1, listeners: Listeners::default(), clock: Clock::system() }));
    actix_rt::System::new().block_on(async {
        let children = vec![child("sick", || Err("it cannot".to_owned())), child("well", well)];
        let _supervisor = supervise(children, actors.clone(), clock);
        let patience = tokio::time::timeout(Duration::from_secs(20), async {
            while actors.roster().entries().len() < 2 || actors.roster().entries()[0].last_exit.is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        patience.await.unwrap();
    });
    let (status, why) = ready();
    assert!(status == 503 && why.starts_with("not working: sick"), "{status} {why}");
    let place = listeners.place("well", "127.0.0.1:80");
    place.closed("permission denied");
    assert!(ready().1.ends_with(", well at 127.0.0.1:80: permission denied\n"), "{}", ready().1);
    drop(place);
    assert!(!ready().1.contains("127.0.0.1:80"));
    assert_eq!(serving.get("/healthz").status, 200);
}

#[test]
fn what_is_part_of_the_program_is_sent_once() {
    let serving = Serving::start();
    for (path, content_type) in [("/style.css", "text/css; charset=utf-8"), ("/page.js", "text/javascript; charset=utf-8")] {
        let first = serving.get(path);
        assert_eq!((first.status, first.header("content-type")), (200, Some(content_type)));
        let again = serving.ask("GET", path, &format!("if-none-match: W/\"x\", {}\r\n", first.header("etag").unwrap()));
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
}

#[test]
fn a_long_answer_is_compressed_for_who_can_read_it() {
    let serving = Serving::telling(Arc::new(|| serde_json::json!({"long": "x".repeat(100_000)})), server::PATIENCE);
    let (plain, short) = (serving.get("/api/v1/status"), serving.ask("GET", "/api/v1/status", "accept-encoding: gzip, br\r\n"));
    assert_eq!((plain.header("content-encoding"), short.header("content-encoding")), (None, Some("gzip")));
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(short.body.as_slice()).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == plain.body && short.body.len() < 2000, "{}", short.body.len());
}
