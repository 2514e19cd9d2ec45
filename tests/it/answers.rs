//! The writer, the journal and the client of `InfluxDB` against a server that gives every answer of the table of faults: what it
//! may have stored and what not, and that each row is stored or a dead letter in the end. The numbers are those of the table.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix::Context;
use qosd::clock::{Clock, Timestamp};
use qosd::influxdb::{self, Api};
use qosd::journal::{Journal, Mode, Settings};
use qosd::measurement::{Field, Fields, Row, Series};
use qosd::secret::Secret;
use qosd::writer::{OutputStatus, Statuses, Writer, WriterParts, queue};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::scripted_server::{Reply, Request, ScriptedServer};

const TOKEN: &str = "t0ken-s3cret";
const ROWS: i64 = 64;
/// What a request may take, so that a server that makes one wait does not make the test long.
const TIMEOUT: Duration = Duration::from_millis(300);
/// The longest that anything may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What became of the rows.
struct Outcome {
    status: OutputStatus,
    letters: u64,
    took: Duration,
}

/// One of them is called poison.
fn rows() -> Vec<Row> {
    let row = |n: i64| {
        let mut fields = Fields::new();
        fields.integer(Field::integer("n"), n);
        let kind = if n % 50 == 0 { "poison" } else { "good" };
        Row { series: Series::new("m", [("kind", kind)]), time: Timestamp::from_nanos(n), fields }
    };
    (1..=ROWS).map(row).collect()
}

/// Delivers the rows to whatever is there, in one batch at first, and waits until none is pending. Backs off as little as it may.
async fn deliver(url: &str) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let settings = Settings { flush: Duration::from_millis(10), max_size: 1 << 30, max_age: Duration::from_hours(720) };
    let journal = Journal::open(folder.path(), settings, clock.clone(), Mode::Inline).unwrap();
    journal.output("main", None).await.unwrap();
    journal.append(rows());
    journal.flush().await.unwrap();
    let api = Api::V2 { org: "my org".to_owned(), bucket: "qos".to_owned(), token: Secret::new(TOKEN).unwrap() };
    let (url, flush_interval) = (url.parse().unwrap(), Duration::from_millis(10));
    let settings =
        influxdb::Settings { url, api, secret_file: None, batch_size: 1000, flush_interval, timeout: TIMEOUT, gzip: true, replay: None };
    let (_outlet, intake) = queue(10);
    let (_outputs, watched) = watch::channel(Arc::new(vec![influxdb::output("main", settings)]));
    let (statuses, observe, random) = (Statuses::default(), Arc::new(|_: &Row| {}), Arc::new(|| 0.0));
    let parts = WriterParts { intake, journal: journal.clone(), outputs: watched, statuses, observe, clock: clock.clone(), random };
    let (statuses, since) = (parts.statuses.clone(), clock.now().mono);
    drop(actix_rt::spawn(Context::new().into_future(Writer::new(parts))));
    loop {
        let (status, took) = (statuses.get("main").unwrap_or_default(), clock.now().mono.saturating_sub(since));
        let shown = format!("{status:?}");
        assert!(!shown.contains(TOKEN), "{shown}");
        if status.pending == 0 && status.delivered + status.refused == ROWS as u64 {
            journal.flush().await.unwrap();
            return Outcome { status, letters: journal.dead("main").letters, took };
        }
        assert!(took < LIMIT, "not delivered: {shown}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Each of these answers in turn leaves everything as it is: the very same bytes are sent again, until the server takes them.
async fn keeps(bad: Vec<Reply>) -> Vec<Request> {
    let count = bad.len();
    let server = ScriptedServer::start(bad, Reply::status(204));
    let Outcome { status, letters, .. } = deliver(&server.url()).await;
    assert_eq!((status.delivered, status.refused, letters, status.retries), (ROWS as u64, 0, 0, count as u64));
    assert_eq!((status.last_error, status.since), (None, None));
    let requests = server.requests();
    assert_eq!(requests.len(), count + 1);
    assert!(requests.iter().all(|request| request.raw_body == requests[0].raw_body), "other bytes were sent");
    assert_eq!(requests[0].body.lines().count(), ROWS as usize);
    requests
}

/// How many different lines the server took.
fn taken(server: &ScriptedServer, judge: fn(&str) -> Reply) -> usize {
    let mut bodies: Vec<_> = server.requests().into_iter().map(|request| request.body).collect();
    bodies.retain(|body| matches!(judge(body), Reply::Answer { status: 204, .. }));
    bodies.iter().flat_map(|body| body.lines()).collect::<BTreeSet<_>>().len()
}

/// (I1)
#[actix::test]
async fn i1_204_and_nothing_else_releases_rows() {
    keeps([200, 201, 202, 203, 205, 206, 207, 226].map(Reply::status).to_vec()).await;
    assert_eq!(keeps(vec![]).await.len(), 1);
}

/// (I2)
#[actix::test]
async fn i2_a_page_in_place_of_a_write_api_releases_nothing() {
    const PAGE: &str = "<!DOCTYPE html><html><h1>Welcome to our network</h1></html>";
    let raw = format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n{PAGE}");
    keeps(vec![Reply::said(200, PAGE), Reply::Raw(raw.into_bytes()), Reply::said(202, PAGE), Reply::said(511, PAGE)]).await;
}

/// What servers say of a line that they do not take, with others beside it that they have stored or not.
const REFUSALS: [(u16, &str); 4] = [
    (400, r#"{"error":"partial write: points beyond retention policy dropped=1"}"#),
    (400, r#"{"error":"unable to parse 'm,kind=poison n=50i 50': invalid number"}"#),
    (400, r#"{"error":"partial write: max-values-per-tag limit exceeded (100000/100000) dropped=0"}"#),
    (422, r#"{"code":"unprocessable entity","message":"failure writing points"}"#),
];

/// Refuses whatever has poison in it.
fn picky<const REFUSAL: usize>(body: &str) -> Reply {
    let (status, said) = REFUSALS[REFUSAL];
    if body.contains("poison") { Reply::said(status, said) } else { Reply::status(204) }
}

/// (I3, I4, I8)
#[actix::test]
async fn i3_i4_i8_a_line_that_is_refused_is_the_only_dead_letter_whatever_the_server_says_of_it() {
    for judge in [picky::<0>, picky::<1>, picky::<2>, picky::<3>] {
        let server = ScriptedServer::start([], Reply::Judge(judge));
        let Outcome { status, letters, .. } = deliver(&server.url()).await;
        assert_eq!((status.delivered, status.refused, letters), (ROWS as u64 - 1, 1, 1), "{status:?}");
        assert_eq!(taken(&server, judge), ROWS as usize - 1);
        let requests = server.requests().len();
        assert!(requests <= 2 * ROWS.ilog2() as usize + 2, "{requests} requests");
    }
}

/// (I3) It stored none, and none alone would fare better.
#[actix::test]
async fn i3_a_batch_that_is_dropped_whole_is_dead_at_once() {
    let said = format!(r#"{{"error":"partial write: points beyond retention policy dropped={ROWS}"}}"#);
    let server = ScriptedServer::start([Reply::said(400, &said)], Reply::status(204));
    let Outcome { status, letters, .. } = deliver(&server.url()).await;
    assert_eq!((status.delivered, status.refused, letters, server.requests().len()), (0, ROWS as u64, ROWS as u64, 1));
}

/// (I5, I6)
#[actix::test]
async fn i5_i6_a_wrong_key_and_a_missing_database_keep_everything() {
    let bad = [
        (401, r#"{"error":"authorization failed"}"#),
        (401, r#"{"code":"unauthorized","message":"unauthorized access"}"#),
        (403, r#"{"error":"\"me\" user is not authorized to write to database \"qos\""}"#),
        (404, r#"{"error":"database not found: \"qos\""}"#),
        (404, r#"{"code":"not found","message":"bucket \"qos\" not found"}"#),
    ];
    keeps(bad.map(|(status, said)| Reply::said(status, said)).to_vec()).await;
}

fn narrow(body: &str) -> Reply {
    let (lines, large) = (body.lines().count(), body.contains("poison"));
    if lines > 5 || large { Reply::said(413, "Request Entity Too Large") } else { Reply::status(204) }
}

/// (I7)
#[actix::test]
async fn i7_a_batch_that_is_too_large_is_halved_and_a_line_that_is_too_large_alone_is_a_dead_letter() {
    let server = ScriptedServer::start([], Reply::Judge(narrow));
    let Outcome { status, letters, .. } = deliver(&server.url()).await;
    assert_eq!((status.delivered, status.refused, letters), (ROWS as u64 - 1, 1, 1), "{status:?}");
    assert_eq!(taken(&server, narrow), ROWS as usize - 1);
}

/// (I10)
#[actix::test]
async fn i10_a_server_in_trouble_gets_the_very_same_bytes_again() {
    let bad = [
        (500, r#"{"error":"retention policy not found: week"}"#),
        (500, r#"{"error":"timeout"}"#),
        (502, "<html>Bad Gateway</html>"),
        (503, ""),
        (504, "<html>Gateway Timeout</html>"),
    ];
    keeps(bad.map(|(status, said)| Reply::said(status, said)).to_vec()).await;
}

/// (I11)
#[actix::test]
async fn i11_a_redirect_to_another_origin_keeps_everything_and_takes_the_token_nowhere() {
    let elsewhere = ScriptedServer::start([], Reply::status(204));
    let to = |status| Reply::with(status, "location", format!("{}/api/v2/write", elsewhere.url()));
    keeps([301, 302, 303, 307, 308].map(to).to_vec()).await;
    assert!(elsewhere.requests().is_empty());
}

/// (I12) Each form in turn, and each within the deadline.
#[actix::test]
async fn i12_a_server_that_never_comes_to_an_end_is_cut_off_and_gets_the_very_same_bytes_again() {
    let slow = Duration::from_millis(20);
    let bytes = |text: &str| text.as_bytes().to_vec();
    let forms = [
        // It accepts and never answers.
        Reply::Stall,
        // A byte now and then: of the head, and of the body.
        Reply::Drip(bytes("HTTP/1.1 204 No Content\r\n\r\n"), slow),
        Reply::Drip(bytes("HTTP/1.1 500 Oh\r\ncontent-length: 9\r\n\r\n"), Duration::from_millis(1)),
        // Bodies without end.
        Reply::Endless(bytes("HTTP/1.1 200 OK\r\n\r\n"), vec![b'x'; 4096]),
        Reply::Endless(bytes("HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n"), bytes("1\r\nx\r\n")),
        // A header of a megabyte, and headers without end.
        Reply::Raw([bytes("HTTP/1.1 204 No Content\r\nx: "), vec![b'x'; 1 << 20], bytes("\r\n\r\n")].concat()),
        Reply::Endless(bytes("HTTP/1.1 204 No Content\r\n"), bytes("x: y\r\n")),
    ];
    for form in forms {
        let shown = format!("{form:.60?}");
        let server = ScriptedServer::start([form], Reply::status(204));
        let Outcome { status, took, .. } = deliver(&server.url()).await;
        assert_eq!((status.delivered, status.refused, status.retries), (ROWS as u64, 0, 1), "{shown:.60}");
        assert!(took < TIMEOUT + Duration::from_secs(2), "{shown:.60}: it took {took:?}");
        let requests = server.requests();
        assert_eq!(requests[0].raw_body, requests[1].raw_body);
    }
}

/// (I13) What comes after the request was read.
#[actix::test]
async fn i13_an_answer_that_breaks_off_gets_the_very_same_bytes_again() {
    let half = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 100\r\n\r\nhalf").into_bytes();
    keeps(vec![
        // No answer.
        Reply::Close,
        Reply::Reset(Vec::new()),
        // In the middle of the head, after it, and in the middle of the body.
        Reply::Raw(b"HTTP/1.1 20".to_vec()),
        Reply::Reset(b"HTTP/1.1 204 No Con".to_vec()),
        Reply::Reset(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 100\r\n\r\n".to_vec()),
        Reply::Raw(half("400 Bad Request")),
        Reply::Reset(half("422 Unprocessable Entity")),
        Reply::Reset(half("413 Content Too Large")),
    ])
    .await;
}

/// What is done with a connection of which nothing, or not all, was read.
fn unread(connection: &mut TcpStream, form: usize) {
    match form {
        // Reset before anything was read.
        0 => socket2::SockRef::from(&*connection).set_linger(Some(Duration::ZERO)).unwrap(),
        // Reset in the middle of the request.
        1 => {
            connection.read_exact(&mut [0; 10]).unwrap();
            socket2::SockRef::from(&*connection).set_linger(Some(Duration::ZERO)).unwrap();
        }
        // Closed for writing alone, while it goes on reading.
        2 => {
            connection.shutdown(Shutdown::Write).unwrap();
            // What the client does with it is what is tested.
            let _ = connection.read_to_end(&mut Vec::new());
        }
        // An answer to a request that was not read.
        3 => connection.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").unwrap(),
        // Closed.
        _ => {}
    }
}

/// (I13) What comes before the request was read.
#[actix::test]
async fn i13_a_server_that_does_not_read_the_request_gets_it_again() {
    const FORMS: usize = 5;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let bad = thread::spawn(move || {
        for form in 0..FORMS {
            unread(&mut listener.accept().unwrap().0, form);
        }
        drop(listener);
        ScriptedServer::start_on(address, [], Reply::status(204))
    });
    let Outcome { status, letters, .. } = deliver(&format!("http://{address}")).await;
    assert_eq!((status.delivered, status.refused, letters), (ROWS as u64, 0, 0));
    // One that is closed before the request is written is tried again at once, which is no retry.
    assert!(status.retries > 0);
    let requests = bad.join().unwrap().requests();
    assert_eq!((requests.len(), requests[0].body.lines().count()), (1, ROWS as usize));
}
