//! The collector behind Debian's nginx, with the config that is shipped: only names, certificate and socket are put in. M
//! numbers are those of the list of faults.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bed::daemon::{Home, Running};
use crate::bed::net::Namespace;
use crate::bed::process::Process;
use crate::bed::{eventually, tool};
use crate::smuggling::smuggling;

const SHIPPED: &str = include_str!("../../config/nginx-collector.conf");
/// The name that is shipped.
const HOST: &str = "collector.example";
const KEY: &str = "s3cret-of-all";
const RESULTS: &str = "/backend/api/v1/data/probe-result";
const LIMIT: Duration = Duration::from_secs(20);

/// nginx and the collector in a namespace of their own, so that nginx has its ports.
struct Site {
    namespace: Namespace,
    home: Home,
    _qosd: Running,
    _nginx: Process,
    roots: Arc<RootCertStore>,
    _dir: TempDir,
}

impl Site {
    fn start() -> Self {
        qosd::tls::install_provider();
        let (namespace, dir) = (Namespace::new(), tempfile::tempdir().expect("there is a place for temporary files"));
        let signed = rcgen::generate_simple_self_signed([HOST.to_owned()]).expect("a certificate for a name can be made");
        let socket = dir.path().join("collector.sock");
        let files = [
            ("cert.pem", signed.cert.pem()),
            ("key.pem", signed.signing_key.serialize_pem()),
            ("site.conf", site(&dir)),
            ("nginx.conf", around(&dir)),
        ];
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("the folder is ours");
        }
        let home =
            Home::new(&format!("[collector]\nlisten = 'unix:{}'\nprobes = 'probes.json'\napi_key_file = 'api_key'\n", socket.display()));
        let probe = |name: &str, address: &str| json!({ "name": name, "proto": 4, "address": address });
        home.file("probes.json", &json!({ "probes": [probe("a", "10.0.0.1"), probe("b", "10.0.0.2")] }).to_string());
        home.file("api_key", KEY);
        let qosd = home.start_in(&namespace);
        let mut nginx = Command::new(tool("nginx"));
        nginx.arg("-p").arg(dir.path()).arg("-c").arg(dir.path().join("nginx.conf")).args(["-e", "stderr"]);
        let nginx = namespace.enter(|| Process::start(&mut nginx));
        let mut roots = RootCertStore::empty();
        roots.add(signed.cert.der().clone()).expect("it was just made");
        let site = Self { namespace, home, _qosd: qosd, _nginx: nginx, roots: Arc::new(roots), _dir: dir };
        eventually(LIMIT, || match site.try_ask(443, &get("/backend/api/v1/conf/probes", KEY)) {
            Some(answer) if answer.starts_with("HTTP/1.1 200 ") => Ok(()),
            other => Err(format!("{other:?}")),
        });
        site
    }

    fn connect(&self, port: u16) -> Option<TcpStream> {
        let stream = self.namespace.enter(|| TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))).ok()?;
        stream.set_read_timeout(Some(LIMIT)).expect("a socket takes a timeout");
        Some(stream)
    }

    fn tls(&self, protocol: &[u8]) -> Option<StreamOwned<ClientConnection, TcpStream>> {
        let mut config = ClientConfig::builder().with_root_certificates(Arc::clone(&self.roots)).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from(HOST).expect("it is a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("the name is right");
        Some(StreamOwned::new(connection, self.connect(443)?))
    }

    /// All that comes back for these bytes until the other side closes; none if nobody is there.
    fn try_ask(&self, port: u16, bytes: &[u8]) -> Option<String> {
        if port == 443 { Some(exchange(&mut self.tls(b"http/1.1")?, bytes)) } else { Some(exchange(&mut self.connect(port)?, bytes)) }
    }

    fn ask(&self, port: u16, bytes: &[u8]) -> String {
        self.try_ask(port, bytes).expect("nginx listens")
    }

    /// What the collector counted.
    fn count(&self, place: &str, what: &str) -> u64 {
        let status = self.home.command(&["status", "--json"]);
        let status: Value = serde_json::from_str(&status).unwrap_or_else(|error| panic!("{error}: {status}"));
        status["collector"][place][what].as_u64().unwrap_or_else(|| panic!("{status}"))
    }
}

/// The shipped config, with the names of this test.
fn site(dir: &TempDir) -> String {
    let path = |name: &str| dir.path().join(name).display().to_string();
    let names = [
        ("/run/qosd/collector.sock", path("collector.sock")),
        ("/etc/ssl/certs/collector.pem", path("cert.pem")),
        ("/etc/ssl/private/collector.key", path("key.pem")),
    ];
    names.iter().fold(SHIPPED.to_owned(), |text, (shipped, own)| {
        assert_eq!(text.matches(shipped).count(), 1, "{shipped}");
        text.replace(shipped, own)
    })
}

/// What stands around it on a host.
fn around(dir: &TempDir) -> String {
    let dir = dir.path().display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {dir}/{kind};\n")).concat();
    format!(
        "daemon off;\nuser root;\npid {dir}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log {dir}/access.log;\n{kinds}include {dir}/site.conf;\n}}\n"
    )
}

fn exchange(stream: &mut (impl Read + Write), bytes: &[u8]) -> String {
    // It may be refused before all of it is written.
    let _ = stream.write_all(bytes);
    let _ = stream.flush();
    String::from_utf8_lossy(&read(stream)).into_owned()
}

/// Until the other side closes, or resets.
fn read(stream: &mut impl Read) -> Vec<u8> {
    let (mut all, mut part) = (Vec::new(), [0; 16 << 10]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => return all,
            Ok(length) => all.extend_from_slice(&part[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("no end after {}", String::from_utf8_lossy(&all))
            }
            Err(_) => return all,
        }
    }
}

fn get(path: &str, key: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n").into_bytes()
}

fn post(headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {RESULTS} HTTP/1.1\r\nHost: {HOST}\r\n{headers}Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

/// As an existing client posts it.
fn results() -> String {
    let all_lost = json!({ "name": "b", "proto": 4, "address": "10.0.0.2", "pinged": false, "ping_min": null, "ping_max": null, "ping_avg": null, "ping_jitter": null, "ping_loss": 1 });
    json!({ "source": "a", "probes": [all_lost] }).to_string()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer:?}"))
}

#[test]
fn the_paths_of_existing_clients_work_behind_nginx_as_shipped() {
    let site = Site::start();
    let list = site.ask(443, &get("/backend/api/v1/conf/probes", KEY));
    assert!(list.contains(r#"{"name":"b","proto":4,"address":"10.0.0.2"}"#), "{list}");
    let key = format!("X-API-Key: {KEY}\r\n");
    let posted = site.ask(443, &post(&key, &results()));
    assert!(status(&posted) == "200" && posted.ends_with(r#"{"status":"ok"}"#), "{posted}");
    eventually(LIMIT, || match site.home.rows().iter().filter(|row| row.measurement == "Ping").count() {
        1 => Ok(()),
        rows => Err(format!("{rows} rows")),
    });
    let wrong = site.ask(443, &post("X-API-Key: wrong\r\n", &results()));
    assert!(status(&wrong) == "403" && wrong.contains("{\"error\":"), "{wrong}");
    let missing = site.ask(443, &post("", &results()));
    assert!(status(&missing) == "400" && missing.contains("{\"error\":"), "{missing}");
    assert_eq!(status(&site.ask(443, &get("/backend/api/v1/conf/schedule", KEY))), "404");
    assert_eq!(status(&site.ask(443, &get("/api/v1/conf/probes", KEY))), "404", "nothing but /backend is there");
    assert_eq!(status(&site.ask(443, &post(&key, &" ".repeat(2 << 20)))), "413");
    let plain = site.ask(80, &get("/backend/api/v1/conf/probes", KEY));
    assert!(status(&plain) == "301" && plain.contains("Location: https://collector.example/backend/api/v1/conf/probes"), "{plain}");
    assert_eq!((site.count("calls", "attempts"), site.count("counts", "stored")), (1, 1));
}

/// M2, M14.
#[test]
fn m14_behind_nginx_each_client_has_its_own_limit_and_none_can_speak_for_another() {
    let site = Site::start();
    let guess = |forwarded: &str| {
        let guess = format!(
            "GET /backend/api/v1/conf/probes HTTP/1.1\r\nHost: {HOST}\r\nX-API-Key: guess\r\nX-Forwarded-For: {forwarded}\r\nConnection: close\r\n\r\n"
        );
        status(&site.ask(443, guess.as_bytes())).to_owned()
    };
    let refused: Vec<String> = (0..80).map(|n| guess(&format!("198.51.100.{n}"))).collect();
    assert!(refused[0] == "403" && refused.contains(&"429".to_owned()), "{refused:?}");
    // Another client of the same nginx.
    let other = site.namespace.enter(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("sockets can be made");
        socket.bind(&SocketAddr::from(([127, 0, 0, 9], 0)).into()).expect("all of 127.0.0.0/8 is local");
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], 443)).into()).expect("nginx listens");
        TcpStream::from(socket)
    });
    other.set_read_timeout(Some(LIMIT)).expect("a socket takes a timeout");
    let config = ClientConfig::builder().with_root_certificates(Arc::clone(&site.roots)).with_no_client_auth();
    let name = ServerName::try_from(HOST).expect("it is a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("the name is right");
    let answer = exchange(&mut StreamOwned::new(connection, other), &get("/backend/api/v1/conf/probes", KEY));
    assert_eq!(status(&answer), "200", "{answer}");
}

/// M12.
#[test]
fn m12_no_path_leads_anywhere_else_behind_nginx() {
    let site = Site::start();
    for path in [
        "/backend/../etc/passwd",
        "/backend/%2e%2e/etc/passwd",
        "/backend/api/v1/conf/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/backend/api/v1/data/probe/..%2f..%2fetc/last",
        "/backend/api/v1/conf/probes%00",
        "/backend",
        "/",
    ] {
        let answer = site.ask(443, &get(path, KEY));
        assert!(["400", "404", "301"].contains(&status(&answer)), "{path}: {answer}");
    }
}

/// M13.
#[test]
fn m13_nothing_can_be_hidden_in_a_request_behind_nginx() {
    let site = Site::start();
    for (name, bytes) in smuggling(RESULTS, KEY, &results()) {
        let answer = site.ask(443, &bytes);
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{name}: {answer}");
        assert!(answer.is_empty() || status(&answer) == "400", "{name}: {answer}");
    }
    assert_eq!((site.count("calls", "attempts"), site.count("counts", "stored")), (0, 0), "the collector saw none of them");
}

/// M13. Requests in HTTP/2 that would be others in HTTP/1.1.
#[test]
fn m13_nothing_can_be_hidden_in_a_request_over_http_2() {
    let site = Site::start();
    let results = results();
    let hidden = format!("POST {RESULTS} HTTP/1.1\r\nHost: h\r\nX-API-Key: {KEY}\r\nContent-Length: {}\r\n\r\n{results}", results.len());
    let hidden_path = format!("/backend/api/v1/conf/probes HTTP/1.1\r\nHost: h\r\n\r\n{hidden}");
    let lines = format!("a\r\n\r\n{hidden}");
    let te = "transfer-encoding";
    let cases = [
        ("TE", RESULTS, vec![(te, "chunked")]),
        ("TE and CL 0", RESULTS, vec![(te, "chunked"), ("content-length", "0")]),
        ("CL shorter than the body", RESULTS, vec![("content-length", "5")]),
        ("CL longer than the body", RESULTS, vec![("content-length", "50000")]),
        ("line ends in a value", RESULTS, vec![("x-more", &lines)]),
        ("line ends in a name", RESULTS, vec![("x\r\ntransfer-encoding", "chunked")]),
        ("upper case", RESULTS, vec![("Transfer-Encoding", "chunked")]),
        ("line ends in the path", &hidden_path, vec![]),
    ];
    for (name, path, headers) in &cases {
        let mut stream = site.tls(b"h2").expect("nginx listens");
        let body = format!("0\r\n\r\n{hidden}");
        // It may be refused before all of it is written.
        let _ = stream.write_all(&http2(path, headers, body.as_bytes()));
        let _ = stream.flush();
        until_answered(&mut stream);
        assert_eq!(site.count("counts", "stored"), 0, "{name}");
    }
    assert!(site.count("calls", "attempts") <= cases.len() as u64, "no more than were sent");
    let answer = site.ask(443, &post(&format!("X-API-Key: {KEY}\r\n"), &results));
    assert_eq!((status(&answer), site.count("counts", "stored")), ("200", 1), "it serves on");
}

/// A whole connection of HTTP/2 with one POST: frames as they stand in RFC 9113, headers never indexed (RFC 7541, 6.2.3).
fn http2(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let own = [(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", path), ("x-api-key", KEY)];
    let block: Vec<u8> = own.iter().chain(headers).flat_map(|(name, value)| [vec![0x10], text(name), text(value)].concat()).collect();
    let (headers_end, stream_end) = (0x4, 0x1);
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), frame(1, headers_end, 1, &block), frame(0, stream_end, 1, body)]
        .concat()
}

/// Until the answer has ended, or the stream, or the connection.
fn until_answered(stream: &mut impl Read) {
    let mut head = [0; 9];
    loop {
        match stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("no answer"),
            Err(_) => return,
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if stream.read_exact(&mut vec![0; length]).is_err() {
            return;
        }
        // DATA or HEADERS with END_STREAM; RST_STREAM; GOAWAY.
        if (head[3] <= 1 && head[4] & 1 == 1) || head[3] == 3 || head[3] == 7 {
            return;
        }
    }
}

/// A text of HPACK, not compressed: a length with a prefix of 7 bits, then the bytes.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if text.len() < 127 {
        bytes.push(text.len() as u8);
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        bytes.push(rest as u8);
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
