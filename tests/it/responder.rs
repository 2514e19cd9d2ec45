//! The responder: what it answers, whom it does not, and how it gets rid of whoever is slow.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use actix::Actor;
use qosd::clock::Clock;
use qosd::listeners::Listeners;
use qosd::responder::{Responder, ResponderParts, Settings, server};
use qosd::web::line::Patience;
use tokio::sync::watch;

fn settings(toml: &str) -> Settings {
    toml::from_str(toml).unwrap()
}

/// A responder on a free port, for as long as this lives.
struct Serving {
    address: SocketAddr,
    handle: actix_web::dev::ServerHandle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Serving {
    fn start(toml: &str, patience: Patience) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, settings) = (listener.local_addr().unwrap(), settings(toml));
        let (send, handle) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async {
                let server = server::serve_on(listener, settings, patience).unwrap();
                send.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self { address, handle: handle.recv().unwrap(), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Status, head and body of one answer.
    fn ask(&self, request: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, answer[end + 4..].to_vec())
    }

    fn get(&self, path: &str) -> (u16, String, Vec<u8>) {
        self.ask(format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").as_bytes())
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

/// How long it takes until the other side ends the connection.
#[expect(clippy::disallowed_methods, reason = "deadlines are of real time")]
fn until_cut_off(mut act: impl FnMut() -> std::io::Result<usize>) -> Duration {
    let begun = Instant::now();
    loop {
        match act() {
            Ok(0) => return begun.elapsed(),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::TimedOut => panic!("never cut off"),
            Err(_) => return begun.elapsed(),
        }
    }
}

#[test]
fn a_download_has_as_many_bytes_as_were_asked_for() {
    let serving = Serving::start("max_bytes = '3MiB'", Patience::default());
    for (path, length) in [
        ("/testfile.bin", 1 << 20),
        ("/testfile.bin?bytes=0", 0),
        ("/testfile.bin?bytes=1", 1),
        ("/testfile.bin?x=y&bytes=2000001", 2_000_001),
        ("/testfile.bin?bytes=18446744073709551615", 3 << 20),
    ] {
        let (status, head, body) = serving.get(path);
        assert_eq!((status, body.len()), (200, length), "{path}");
        assert!(head.contains(&format!("content-length: {length}")), "{head}");
    }
    assert_eq!(serving.get("/testfile.bin").2, serving.get("/testfile.bin").2, "the same every time");
}

#[test]
fn an_upload_is_counted_up_to_the_cap() {
    let serving = Serving::start("max_bytes = '100KiB'", Patience::default());
    let post = |length: usize| {
        let head = format!("POST /upload HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        serving.ask(&[head.as_bytes(), &vec![b'x'; length]].concat())
    };
    assert_eq!((post(0).2, post(1000).2, post(102_400).2), (b"0\n".to_vec(), b"1000\n".to_vec(), b"102400\n".to_vec()));
    assert_eq!(post(102_401).0, 413);
    let chunked = b"POST /upload HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(serving.ask(chunked).2, b"5\n");
}

#[test]
fn what_it_does_not_know_it_refuses() {
    let serving = Serving::start("", Patience::default());
    for (path, status) in [("/", 200), ("/x", 404), ("/../etc/passwd", 404), ("/testfile.bin/", 404), ("/testfile.bin?bytes=-1", 400)] {
        assert_eq!(serving.get(path).0, status, "{path}");
    }
    let ask = |method: &str, path: &str| serving.ask(format!("{method} {path} HTTP/1.1\r\nhost: h\r\n\r\n").as_bytes());
    for (method, path, allowed) in [("GET", "/upload", "post"), ("DELETE", "/testfile.bin", "get"), ("PUT", "/upload", "post")] {
        let (status, head, _) = ask(method, path);
        assert_eq!(status, 405);
        assert!(head.contains(&format!("allow: {allowed}")), "{head}");
    }
}

#[test]
fn an_address_that_is_not_allowed_gets_nothing() {
    let serving = Serving::start("allow = ['192.0.2.0/24', '::1']", Patience::default());
    for path in ["/", "/testfile.bin", "/x"] {
        let (status, _, body) = serving.get(path);
        assert_eq!((status, body.len()), (403, 0), "{path}");
    }
    let upload = b"POST /upload HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000000\r\n\r\n";
    assert_eq!(serving.ask(upload).0, 403, "before anything is read");
}

#[test]
fn whoever_is_slow_is_cut_off() {
    let (quick, short) = (Duration::from_millis(300), Duration::from_secs(5));
    // The web server counts heads in steps of half a second.
    let patience = Patience { head: Duration::from_millis(1500), stalled: quick, longest: short, idle: short };
    let serving = Serving::start("", patience);
    let limit = Duration::from_secs(4);
    // A head that does not end.
    let mut stream = serving.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nx: ").unwrap();
    assert!(until_cut_off(|| stream.read(&mut [0; 1024])) < limit);
    // An upload that stops.
    let mut stream = serving.connect();
    stream.write_all(b"POST /upload HTTP/1.1\r\nhost: h\r\ncontent-length: 1000\r\n\r\nhello").unwrap();
    assert!(until_cut_off(|| stream.read(&mut [0; 1024])) < limit);
    // A download that nobody reads.
    let mut stream = serving.connect();
    stream.write_all(b"GET /testfile.bin?bytes=60000000 HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let mut read = 0;
    until_cut_off(|| {
        let more = stream.read(&mut vec![0; 1 << 20]);
        read += more.as_ref().copied().unwrap_or_default();
        more
    });
    assert!(read < 60_000_000, "all {read} bytes came");
    // The others are served as ever.
    assert_eq!(serving.get("/").0, 200);
}

#[test]
fn a_request_that_never_ends_is_cut_off_however_busy_it_looks() {
    let (long, short) = (Duration::from_secs(10), Duration::from_millis(600));
    let serving = Serving::start("", Patience { head: long, stalled: long, longest: short, idle: long });
    let mut stream = serving.connect();
    stream.write_all(b"POST /upload HTTP/1.1\r\nhost: h\r\ncontent-length: 100000\r\n\r\n").unwrap();
    let cut_off = until_cut_off(|| {
        std::thread::sleep(Duration::from_millis(20));
        stream.write(b"x")
    });
    assert!(cut_off < Duration::from_secs(5), "{cut_off:?}");
}

/// A free port, and something that holds it.
fn taken() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let patience = tokio::time::timeout(Duration::from_secs(20), async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    patience.await.unwrap_or_else(|_| panic!("never {what}"));
}

async fn is_served(address: SocketAddr) -> bool {
    let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().pool_max_idle_per_host(0).build().unwrap();
    client.get(format!("http://{address}/")).send().await.is_ok_and(|answer| answer.status() == 200)
}

#[test]
fn it_follows_the_config_and_waits_for_a_port_that_is_taken() {
    qosd::tls::install_provider();
    actix_rt::System::new().block_on(async {
        let at = |address: SocketAddr| Some(settings(&format!("listen = '{address}'")));
        let (change, settings) = watch::channel(None);
        let responder = Responder::new(ResponderParts { settings, listeners: Listeners::default(), clock: Clock::system() }).start();
        let (first, second) = (taken(), taken());
        drop(second.0);
        change.send_replace(at(second.1));
        eventually("served", async || is_served(second.1).await).await;
        change.send_replace(at(first.1));
        eventually("gone from where it was", async || !is_served(second.1).await).await;
        assert!(responder.connected(), "it waits");
        drop(first.0);
        eventually("served once the port is free", async || is_served(first.1).await).await;
        change.send_replace(None);
        eventually("off", async || !is_served(first.1).await).await;
        assert!(responder.connected());
    });
}
