//! The collector's server over real sockets: what it answers, what it refuses, what it stores. M numbers are those of the
//! list of faults.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qosd::clock::Clock;
use qosd::config::{self, Env};
use qosd::journal::{self, Journal, Mode};
use qosd::mesh::collector::counts::Count;
use qosd::mesh::collector::server::{Bound, Deadlines, serve};
use qosd::mesh::collector::settings::Listen;
use qosd::mesh::collector::status::Counts as InsideCounts;
use qosd::mesh::collector::{Settings, Store, Surface};
use qosd::mesh::wire::LARGEST;
use qosd::probe::KINDS;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::daemon::Home;

/// The key of all.
pub(crate) const KEY: &str = "s3cret-of-all";
/// The longest that any answer may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The results' path.
pub(crate) const RESULTS: &str = "/api/v1/data/probe-result";

/// `[collector]` with this, and its files beside it: the probes a, b and c.
pub(crate) fn settings(dir: &Path, more: &str) -> Settings {
    let probe = |name: &str, address: &str| json!({ "name": name, "proto": 4, "address": address });
    let probes = json!({ "probes": [probe("a", "10.0.0.1"), probe("b", "10.0.0.2"), probe("c", "10.0.0.3")] });
    for (name, text) in [("probes.json", probes.to_string()), ("api_key", KEY.to_owned())] {
        std::fs::write(dir.join(name), text).unwrap();
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let config = dir.join("qosd.toml");
    std::fs::write(&config, format!("[collector]\nprobes = 'probes.json'\napi_key_file = 'api_key'\n{more}\n")).unwrap();
    config::load(&config, KINDS, &Env::new()).unwrap_or_else(|problems| panic!("{problems}")).collector.unwrap()
}

/// A collector with its own journal, not serving yet.
pub(crate) fn surface(dir: &Path) -> Arc<Surface> {
    let keep = journal::Settings { flush: Duration::from_millis(20), max_size: 1 << 30, max_age: Duration::from_hours(720) };
    let clock = Clock::system();
    let journal = Journal::open(&dir.join("data"), keep, clock.clone(), Mode::Threaded).unwrap();
    let store = Store::new(journal, clock.clone(), Arc::new(|_, _| {}));
    Arc::new(Surface::new(Arc::new(store), clock))
}

/// A collector on a free port, for as long as this lives.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    pub(crate) surface: Arc<Surface>,
    _dir: TempDir,
    handle: actix_web::dev::ServerHandle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Serving {
    pub(crate) fn start(more: &str, deadlines: Deadlines) -> Self {
        // These tests look at the server: a disk that others keep busy would tell them nothing of it.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() };
        let (settings, surface) = (settings(dir.path(), more), surface(dir.path()));
        let Ok(Bound::Tcp(listener)) = Bound::new(&Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))) else { panic!("no port is free") };
        let address = listener.local_addr().unwrap();
        surface.configure(Some(&settings));
        let (shared, (send, handle)) = (Arc::clone(&surface), std::sync::mpsc::channel());
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async {
                let serving = serve(Bound::Tcp(listener), settings.tls.as_ref(), &shared, deadlines).unwrap();
                send.send(serving.server.handle()).unwrap();
                serving.server.await.unwrap();
            });
        });
        Self { address, surface, _dir: dir, handle: handle.recv().unwrap(), thread: Some(thread) }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        self.connect_from([127, 0, 0, 1].into()).unwrap()
    }

    /// A connection from another address of this host.
    pub(crate) fn connect_from(&self, from: IpAddr) -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&self.address.into())?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(socket.into())
    }

    /// All that comes back for these bytes, until the other side closes.
    pub(crate) fn send(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // It may be refused before all of it is written.
        let _ = stream.write_all(bytes);
        read_all(&mut stream)
    }

    /// Status, head and body of one answer.
    pub(crate) fn ask(&self, bytes: &[u8]) -> Answer {
        Answer::read(&self.send(bytes))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(&request("GET", path, &[("x-api-key", KEY)], b""))
    }

    pub(crate) fn post(&self, body: &[u8]) -> Answer {
        self.ask(&request("POST", RESULTS, &[("x-api-key", KEY)], body))
    }

    pub(crate) fn inside(&self) -> InsideCounts {
        self.surface.store.counts().expect("it is configured")
    }

    pub(crate) fn count(&self, what: Count) -> u64 {
        self.surface.counts.get(what)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Until the other side closes, or resets.
pub(crate) fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let (mut all, mut part) = (Vec::new(), [0; 16 << 10]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => return all,
            Ok(length) => all.extend_from_slice(&part[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("no end after {all:?}"),
            Err(_) => return all,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

/// A request after which the connection is closed.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let first = format!("{method} {path} HTTP/1.1\r\nhost: collector\r\nconnection: close\r\n");
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    [first.as_bytes(), headers.concat().as_bytes(), length.as_bytes(), b"\r\n", body].concat()
}

/// A good item, with this changed.
pub(crate) fn item(change: Value) -> Value {
    let mut item = json!({
        "name": "b", "proto": 4, "address": "10.0.0.2", "pinged": true,
        "ping_min": 1.0, "ping_max": 3.0, "ping_avg": 2.0, "ping_jitter": 0.5, "ping_loss": 0.0,
    });
    let Value::Object(change) = change else { panic!("{change}") };
    item.as_object_mut().unwrap().extend(change);
    item
}

/// A post of a.
pub(crate) fn results(items: &[Value]) -> Vec<u8> {
    json!({ "source": "a", "probes": items }).to_string().into_bytes()
}

#[test]
fn the_calls_of_the_contract_are_answered() {
    let serving = Serving::start("base_path = '/backend'", Deadlines::default());
    let list = serving.get("/backend/api/v1/conf/probes");
    assert_eq!(list.status, 200);
    assert_eq!(list.json()["probes"][0], json!({ "name": "a", "proto": 4, "address": "10.0.0.1" }));
    for header in ["content-type: application/json", "x-content-type-options: nosniff", "cache-control: no-store"] {
        assert!(list.head.contains(header), "{}", list.head);
    }
    assert!(!list.head.contains("server:"), "{}", list.head);
    assert_eq!(serving.get("/backend/api/v1/conf/schedule").status, 404, "none is configured");
    assert_eq!(serving.get("/backend/api/v1/data/probe/nobody/last").status, 404);
    let post = request("POST", "/backend/api/v1/data/probe-result", &[("X-API-Key", KEY)], &results(&[item(json!({}))]));
    let answer = serving.ask(&post);
    assert_eq!((answer.status, answer.json()), (200, json!({ "status": "ok" })));
    assert_eq!((serving.count(Count::Attempts), serving.inside().stored), (1, 1));
}

#[test]
fn without_the_key_nothing_is_given_and_no_body_is_read() {
    let serving = Serving::start("", Deadlines::default());
    // A body that never comes: whoever waited for it would not answer.
    let with = |key: &str| format!("POST {RESULTS} HTTP/1.1\r\nhost: h\r\n{key}content-length: 1000\r\n\r\n");
    let missing = serving.ask(with("").as_bytes());
    assert_eq!((missing.status, missing.error().as_str()), (400, "the header X-API-Key is missing"));
    for key in ["x-api-key: wrong\r\n", "x-api-key:\r\n", "x-api-key: s3cret-of-all\r\nx-api-key: s3cret-of-all\r\n"] {
        let wrong = serving.ask(with(key).as_bytes());
        assert_eq!((wrong.status, wrong.error().as_str()), (403, "the key in X-API-Key is not the right one"), "{key}");
        assert!(wrong.head.contains("connection: close"), "{}", wrong.head);
    }
    assert_eq!((serving.count(Count::NoKey), serving.count(Count::WrongKey), serving.count(Count::Attempts)), (1, 3, 0));
}

#[test]
fn a_refusal_reaches_whoever_sent_its_body_at_once() {
    let serving = Serving::start("", Deadlines::default());
    for _ in 0..20 {
        let answer = serving.ask(&request("POST", RESULTS, &[("x-api-key", "wrong")], &vec![b' '; 200_000]));
        assert_eq!(answer.status, 403);
    }
}

#[test]
fn a_wrong_method_is_told_the_right_one() {
    let serving = Serving::start("", Deadlines::default());
    for (method, path, allowed) in
        [("GET", RESULTS, "post"), ("POST", "/api/v1/conf/probes", "get"), ("HEAD", "/api/v1/conf/schedule", "get")]
    {
        let answer = serving.ask(&request(method, path, &[("x-api-key", KEY)], b""));
        assert!(answer.status == 405 && answer.head.contains(&format!("allow: {allowed}")), "{answer:?}");
    }
}

/// M7.
#[test]
fn hostile_bodies_are_refused_within_limits() {
    // A process of its own, so that its memory is its own.
    let dir = tempfile::tempdir().unwrap();
    settings(dir.path(), "");
    let (socket, files) = (dir.path().join("collector.sock"), dir.path().display());
    let listen = format!("listen = 'unix:{}'", socket.display());
    let home = Home::new(&format!("[collector]\n{listen}\nprobes = '{files}/probes.json'\napi_key_file = '{files}/api_key'\n"));
    let daemon = home.start();
    daemon.until(|| UnixStream::connect(&socket).is_ok());
    let ask = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // It may be refused before all of it is written.
        let _ = stream.write_all(bytes);
        Answer::read(&read_all(&mut stream)).status
    };
    let post = |head: &str, body: &[u8]| {
        let head = format!("POST {RESULTS} HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx-api-key: {KEY}\r\n{head}\r\n");
        ask(&[head.as_bytes(), body].concat())
    };
    let chunked = |body: &[u8]| [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat();
    let whole = |body: &[u8]| ask(&request("POST", RESULTS, &[("x-api-key", KEY)], body));
    let rss = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.status()["pid"])).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.unwrap() << 10
    };
    assert_eq!(whole(&results(&[item(json!({}))])), 200);
    let before = rss();
    assert_eq!(post("content-length: 10000000\r\n", b""), 413, "before any of it came");
    assert_eq!(post("transfer-encoding: chunked\r\n", &chunked(&vec![b' '; 10_000_000])), 413);
    assert_eq!(post("content-length: 18446744073709551616\r\n", b""), 400);
    let deep = format!("{{\"source\":\"a\",\"probes\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(whole(deep.as_bytes()), 422, "one item, which is none");
    assert_eq!(whole("[".repeat(100_000).as_bytes()), 400);
    let million = format!("{{\"source\":\"a\",\"probes\":[1{}]}}", ",1".repeat(1_000_000));
    assert_eq!(whole(million.as_bytes()), 413, "too many bytes");
    let half = format!("{{\"source\":\"a\",\"probes\":[1{}]}}", ",1".repeat(LARGEST / 2 - 100));
    assert_eq!(whole(half.as_bytes()), 413, "too many items");
    assert_eq!(whole(br#"{"source":"a","source":"b","probes":[]}"#), 400, "a key twice");
    assert_eq!(whole(br#"{"source":"a","probes":[],"more":1}"#), 400, "an unknown key");
    assert_eq!(whole(b"{\"source\":\"\xff\",\"probes\":[]}"), 400, "not UTF-8");
    assert_eq!(whole(b"{\"source\":\"a\nb\",\"probes\":[]}"), 400, "a control character");
    assert_eq!(whole(&results(&vec![item(json!({})); 1000])), 200, "what a mesh may have");
    let more = rss().saturating_sub(before);
    assert!(more <= 8 << 20, "{more} bytes more");
    assert_eq!(daemon.status()["collector"]["counts"]["stored"], 1001);
    daemon.stop();
}

/// M8.
#[test]
fn what_cannot_be_is_refused_by_field_and_the_other_items_are_stored() {
    let serving = Serving::start("", Deadlines::default());
    for (text, field) in [
        (r#""ping_loss":7"#, "probes[1].ping_loss"),
        (r#""ping_min":-1"#, "probes[1].ping_min"),
        (r#""ping_max":1e308"#, "probes[1].ping_max"),
        (r#""ping_max":1e999"#, ""),
        (r#""ping_max":NaN"#, ""),
        (r#""ping_min":4"#, "probes[1].ping_min"),
        (r#""proto":18446744073709551616"#, "probes[1]"),
    ] {
        let before = serving.inside().stored;
        let key = text.split(':').next().unwrap();
        let other = item(json!({})).to_string();
        let bad = item(json!({})).to_string();
        let from = bad.find(key).unwrap();
        let to = from + bad[from..].find([',', '}']).unwrap();
        let bad = format!("{}{text}{}", &bad[..from], &bad[to..]);
        let answer = serving.post(format!("{{\"source\":\"a\",\"probes\":[{other},{bad},{other}]}}").as_bytes());
        if field.is_empty() {
            // That is no JSON.
            assert!([400, 422].contains(&answer.status), "{text}: {answer:?}");
            continue;
        }
        assert_eq!(answer.status, 422, "{text}: {answer:?}");
        assert!(answer.error().starts_with(field), "{text}: {answer:?}");
        assert_eq!(answer.json()["rejected"][0]["index"], 1);
        assert_eq!(serving.inside().stored - before, 2, "{text}");
    }
}

/// M4.
#[test]
fn who_is_not_in_the_list_is_rejected_and_the_rest_is_stored() {
    let serving = Serving::start("", Deadlines::default());
    let answer = serving.post(&results(&[item(json!({})), item(json!({ "name": "stranger" })), item(json!({ "name": "c" }))]));
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("ok")));
    assert_eq!(answer.json()["rejected"][0]["index"], 1);
    assert_eq!((serving.inside().stored, serving.inside().rejected), (2, 1));
    let stranger = json!({ "source": "stranger", "probes": [item(json!({}))] }).to_string();
    let answer = serving.post(stranger.as_bytes());
    assert!(answer.status == 403 && answer.error().contains("stranger"), "{answer:?}");
}

/// M9.
#[test]
fn a_name_that_could_mean_more_than_itself_is_refused() {
    let serving = Serving::start("", Deadlines::default());
    for name in ["x\ny v=1", "a,b=c", "a b", "a\\", "", "../a", "<script>", &"n".repeat(65)] {
        let source = json!({ "source": name, "probes": [] }).to_string();
        assert_eq!(serving.post(source.as_bytes()).status, 400, "{name}");
        let answer = serving.post(&results(&[item(json!({ "name": name }))]));
        assert!(answer.status == 422 && answer.error().starts_with("probes[0]: "), "{name}: {answer:?}");
        let address = serving.post(&results(&[item(json!({ "address": name }))]));
        assert_eq!(address.status, 422, "{name}");
    }
    assert_eq!(serving.inside().stored, 0);
}

/// M12.
#[test]
fn a_path_that_is_none_of_ours_is_unknown_whatever_it_tries() {
    let serving = Serving::start("base_path = '/backend'", Deadlines::default());
    for path in [
        "/",
        "/etc/passwd",
        "/backend",
        "/backend/",
        "/api/v1/conf/probes",
        "/backend//api/v1/conf/probes",
        "//backend/api/v1/conf/probes",
        "/backend/api/v1/conf/probes/",
        "/backend/api/v1/conf/../conf/probes",
        "/backend/api/v1/conf/%2e%2e/conf/probes",
        "/backend/api/v1/conf/%70robes",
        "/backend/api/v1/conf/probes%00",
        "/backend/../../etc/passwd",
        "http://collector/backend/api/v1/conf/probes",
        "/backend/api/v1/data/probe/a%2Fb/last",
        "/backend/api/v2/conf/probes",
    ] {
        let answer = serving.get(path);
        assert!(answer.status == 404 && answer.error() == "there is nothing here", "{path}: {answer:?}");
    }
    for path in ["/backend/api/v1/conf/probes\0", "/backend\0/api/v1/conf/probes", "back end"] {
        assert!([400, 404].contains(&serving.get(path).status), "{path:?}");
    }
    assert_eq!(serving.get("/backend/api/v1/conf/probes").status, 200);
}

#[test]
fn a_slot_that_is_no_number_is_refused() {
    let serving = Serving::start("", Deadlines::default());
    let with = |slot: &str| serving.ask(&request("POST", RESULTS, &[("x-api-key", KEY), ("qosd-slot", slot)], &results(&[])));
    assert_eq!((with("1767225600000000000").status, with("soon").status), (200, 400));
}
