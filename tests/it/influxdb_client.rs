//! The client of `InfluxDB` against a server that gives every answer there is, and some that are none.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use qosd::clock::{Clock, Timestamp};
use qosd::influxdb::{Api, Client, Settings, line};
use qosd::journal::{Position, Stored};
use qosd::measurement::{Field, Fields, Row, Series};
use qosd::secret::Secret;
use qosd::writer::{Output, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::scripted_server::{Reply, ScriptedServer};

const TOKEN: &str = "t0ken-s3cret";

fn settings(url: &str) -> Settings {
    let api = Api::V2 { org: "my org".to_owned(), bucket: "qos".to_owned(), token: Secret::new(TOKEN).unwrap() };
    let (second, long) = (Duration::from_secs(1), Duration::from_secs(30));
    Settings {
        url: url.parse().unwrap(),
        api,
        secret_file: None,
        batch_size: 10,
        flush_interval: second,
        timeout: long,
        gzip: true,
        replay: None,
    }
}

fn client(settings: &Settings) -> Client {
    Client::new(settings, Clock::system()).unwrap()
}

fn rows() -> Vec<Row> {
    let row = |n: i64| {
        let mut fields = Fields::new();
        fields.integer(Field::integer("n"), n);
        Row { series: Series::new("m", [("target", "a b")]), time: Timestamp::from_nanos(n), fields }
    };
    (1..=3).map(row).collect()
}

/// The writer's thread takes rows and answers its supervisor also while a large request is made on a starved host.
#[tokio::test]
async fn a_large_request_is_made_in_turns_with_whatever_else_the_thread_has_to_do() {
    let stored = |n: usize| Stored { position: Position(n as u64), row: rows().swap_remove(n % 3) };
    let rows: Vec<_> = (0..5_000).map(stored).collect();
    for gzip in [false, true] {
        let client = client(&Settings { gzip, ..settings("http://127.0.0.1:1") });
        let mut turns = 0;
        let others = async {
            loop {
                turns += 1;
                tokio::task::yield_now().await;
            }
        };
        let made = tokio::select! {
            biased;
            made = client.encode_in_turns(&rows) => made,
            never = others => never,
        };
        assert!(turns > 20, "{turns}");
        let text = line::body(rows.iter().map(|stored| &stored.row), false).unwrap();
        let bytes = made.unwrap();
        let mut read = Vec::new();
        if gzip {
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut read).unwrap();
        } else {
            read.extend_from_slice(&bytes);
        }
        assert_eq!(read, text);
        assert_eq!(client.encode_in_turns(&rows).await, Some(bytes), "each time the same");
        assert_eq!(client.encode_in_turns(&[]).await, None);
    }
}

fn body(settings: &Settings) -> bytes::Bytes {
    line::body(&rows(), settings.gzip).unwrap()
}

/// What one request comes to, and that neither token nor address show in the reason.
async fn verdict(settings: &Settings) -> Verdict {
    let verdict = client(settings).write(body(settings)).await;
    let shown = format!("{verdict:?}");
    assert!(!shown.contains(TOKEN) && !shown.contains("my+org") && !shown.contains("/api/v2"), "{shown}");
    verdict
}

async fn answered(reply: Reply) -> Verdict {
    let server = ScriptedServer::start([], reply);
    verdict(&settings(&server.url())).await
}

/// With a deadline that is short, for servers that make one wait.
async fn awaited(reply: Reply) -> Verdict {
    let server = ScriptedServer::start([], reply);
    let settings = Settings { timeout: Duration::from_millis(300), ..settings(&server.url()) };
    #[expect(clippy::disallowed_methods, reason = "the deadline is of real time")]
    let begun = Instant::now();
    let verdict = verdict(&settings).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    verdict
}

fn is_unknown(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Unknown { .. })
}

#[tokio::test]
async fn version_2_is_asked_with_organisation_bucket_and_token() {
    let server = ScriptedServer::start([], Reply::status(204));
    assert_eq!(verdict(&settings(&format!("{}/base/", server.url()))).await, Verdict::Accepted);
    let [request] = &server.requests()[..] else { panic!("one request") };
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/base/api/v2/write"));
    assert_eq!(request.query, "org=my+org&bucket=qos&precision=ns");
    assert_eq!(request.headers["authorization"], format!("Token {TOKEN}"));
    assert_eq!(request.headers["user-agent"], concat!("qosd/", env!("CARGO_PKG_VERSION")));
    assert_eq!(request.headers["content-encoding"], "gzip");
    assert_eq!(request.body, "m,target=a\\ b n=1i 1\nm,target=a\\ b n=2i 2\nm,target=a\\ b n=3i 3\n");
}

#[tokio::test]
async fn version_1_is_asked_with_database_and_basic_authentication() {
    let server = ScriptedServer::start([], Reply::status(204));
    let credentials = Some(("me".to_owned(), Secret::new("pass:word").unwrap()));
    let api = Api::V1 { database: "qos".to_owned(), retention_policy: Some("week".to_owned()), credentials };
    let settings = Settings { api, gzip: false, ..settings(&server.url()) };
    assert_eq!(verdict(&settings).await, Verdict::Accepted);
    let [request] = &server.requests()[..] else { panic!("one request") };
    assert_eq!((request.path.as_str(), request.query.as_str()), ("/write", "db=qos&rp=week&precision=ns"));
    assert_eq!(request.headers["authorization"], "Basic bWU6cGFzczp3b3Jk");
    assert!(!request.headers.contains_key("content-encoding"));
    assert_eq!(request.raw_body, body(&settings));
}

#[tokio::test]
async fn every_status_has_its_verdict() {
    assert_eq!(answered(Reply::status(204)).await, Verdict::Accepted);
    assert_eq!(answered(Reply::status(413)).await, Verdict::TooLarge);
    for status in [200, 202, 302, 401, 403, 404] {
        assert!(matches!(answered(Reply::said(status, "<html>")).await, Verdict::Hold { .. }), "{status}");
    }
    for status in [500, 502, 503, 504] {
        assert!(is_unknown(&answered(Reply::said(status, "timeout")).await), "{status}");
    }
    for status in [400, 422] {
        let Verdict::Refused { why, .. } = answered(Reply::said(status, r#"{"error":"unable to parse 'x'"}"#)).await else {
            panic!("{status}")
        };
        assert!(why.ends_with("unable to parse 'x'"), "{why}");
    }
    for status in [429, 503] {
        let Verdict::After { wait, .. } = answered(Reply::with(status, "retry-after", "7")).await else { panic!("{status}") };
        assert_eq!(wait, Duration::from_secs(7));
    }
}

/// (I13)
#[tokio::test]
async fn half_an_answer_leaves_the_outcome_unknown() {
    let replies = [
        Reply::Close,
        Reply::Reset(Vec::new()),
        Reply::Reset(b"HTTP/1.1 400 Bad".to_vec()),
        Reply::Reset(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 100\r\n\r\nhalf".to_vec()),
        Reply::Raw(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 100\r\n\r\nhalf".to_vec()),
        Reply::Raw(b"HTTP/1.1 2".to_vec()),
        Reply::Raw(b"\0\xff rubbish\r\n\r\n".to_vec()),
        Reply::Raw([b"HTTP/1.1 204 No Content\r\nx: ".as_slice(), &vec![b'x'; 1 << 20], b"\r\n\r\n"].concat()),
    ];
    for reply in replies {
        let named = format!("{reply:.60?}");
        let verdict = answered(reply).await;
        assert!(is_unknown(&verdict), "{named:.60}: {verdict:?}");
    }
}

/// (I12)
#[tokio::test]
async fn an_answer_that_takes_too_long_is_not_waited_for() {
    let slow = Duration::from_millis(50);
    let no_end = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 100\r\n\r\nsome".to_vec();
    for reply in
        [Reply::Stall, Reply::Drip(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), slow), Reply::Drip(no_end, Duration::from_millis(1))]
    {
        let verdict = awaited(reply).await;
        assert_eq!(verdict, Verdict::Unknown { why: "no whole answer within 300ms".to_owned() });
    }
}

/// (I12)
#[tokio::test]
async fn an_endless_answer_is_read_to_a_cap() {
    let Verdict::Hold { why } = answered(Reply::Endless(b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec(), vec![b'x'; 4096])).await else {
        panic!()
    };
    assert!(why.starts_with("404 Not Found: xxx") && why.len() < 400, "{why}");
}

#[tokio::test]
async fn nobody_there_leaves_the_outcome_unknown_and_says_why() {
    let gone = ScriptedServer::start([], Reply::Close).url();
    let Verdict::Unknown { why } = verdict(&settings(&gone)).await else { panic!() };
    assert!(why.contains("Connection refused"), "{why}");
}

/// (I15)
#[tokio::test]
async fn plain_http_where_tls_is_expected_is_a_distinct_error_and_no_way_around() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = settings(&format!("https://{}", listener.local_addr().unwrap()));
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let mut sent = Vec::new();
        // The other side may reset; what it had sent before is what counts.
        let _ = stream.read_to_end(&mut sent).await;
        sent
    };
    let (verdict, sent) = tokio::join!(verdict(&settings), server);
    let Verdict::Unknown { why } = verdict else { panic!("{verdict:?}") };
    assert!(why.contains("InvalidContentType"), "{why}");
    assert!(!String::from_utf8_lossy(&sent).contains("Token"));
}

/// (I15)
#[tokio::test]
async fn a_handshake_that_takes_too_long_is_not_waited_for() {
    let server = ScriptedServer::start([], Reply::status(204));
    let timeout = Duration::from_millis(300);
    let verdict = verdict(&Settings { timeout, ..settings(&server.url().replace("http", "https")) }).await;
    assert_eq!(verdict, Verdict::Unknown { why: "no whole answer within 300ms".to_owned() });
    assert!(server.requests().is_empty());
}

/// (I11)
#[tokio::test]
async fn a_redirect_is_not_followed_and_the_token_goes_nowhere_else() {
    let elsewhere = ScriptedServer::start([], Reply::status(204));
    for status in [301, 302, 303, 307, 308] {
        assert!(matches!(answered(Reply::with(status, "location", elsewhere.url())).await, Verdict::Hold { .. }), "{status}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = ScriptedServer::start([], Reply::status(204));
    let settings = settings(&server.url());
    let client = client(&settings);
    for _ in 0..3 {
        assert_eq!(client.write(body(&settings)).await, Verdict::Accepted);
    }
    assert!(server.requests().iter().all(|request| request.connection == 0));
}

/// (I14)
#[tokio::test]
async fn i14_a_connection_closed_while_idle_costs_one_immediate_retry_of_the_same_bytes() {
    for stale in [Reply::Close, Reply::Reset(Vec::new())] {
        let server = ScriptedServer::start([Reply::status(204), stale], Reply::status(204));
        let settings = settings(&server.url());
        let client = client(&settings);
        assert_eq!(client.write(body(&settings)).await, Verdict::Accepted);
        assert_eq!(client.write(body(&settings)).await, Verdict::Accepted);
        let requests = server.requests();
        assert_eq!(requests.iter().map(|request| request.connection).collect::<Vec<_>>(), [0, 0, 1]);
        assert_eq!(requests[1].raw_body, requests[2].raw_body);
    }
}

/// (I14)
#[tokio::test]
async fn a_fresh_connection_that_is_closed_costs_no_immediate_retry() {
    let server = ScriptedServer::start([Reply::status(204), Reply::Close, Reply::Close], Reply::Close);
    let settings = settings(&server.url());
    let client = client(&settings);
    assert_eq!(client.write(body(&settings)).await, Verdict::Accepted);
    assert!(is_unknown(&client.write(body(&settings)).await));
    assert_eq!(server.requests().len(), 3);
    assert!(is_unknown(&client.write(body(&settings)).await));
    assert_eq!(server.requests().len(), 4);
}

/// (X3)
#[tokio::test]
async fn a_server_that_repeats_the_token_does_not_get_it_into_the_reason() {
    let Verdict::Hold { why } = answered(Reply::Echo(403)).await else { panic!() };
    assert!(why.contains("authorization: Token <redacted>"), "{why}");
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// (X3)
#[test]
fn no_secret_is_logged_even_when_everything_is() {
    let log = Log::default();
    let writer = log.clone();
    let everything = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(everything, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for reply in [Reply::status(204), Reply::Echo(401), Reply::Reset(Vec::new())] {
                answered(reply).await;
            }
        });
        tracing::info!("the log is being collected");
    });
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("the log is being collected"));
    assert!(!logged.contains(TOKEN), "{logged}");
}
