//! What others say reaches the log as text and nothing else, and as often as is good for it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, Home};
use crate::scripted_server::{Reply, ScriptedServer};

/// Breaks a line, moves a terminal's cursor, and would forge an event of its own.
const HOSTILE: &str =
    "a\r\n2026-01-01T00:00:00.000000Z ERROR forged\u{1b}[2J\u{9b}31m\u{2028}{\\\"level\\\":\\\"ERROR\\\"}\u{7}\u{7f}\u{0}z";

/// A database and a target that speak so, in what they answer and in what stands where an answer should.
fn config(server: &ScriptedServer, more: &str) -> String {
    let url = server.url();
    let output = |name: &str| format!("[influxdb.{name}]\nurl = \"{url}\"\ndatabase = \"qos\"\nflush_interval = \"10ms\"\n");
    format!(
        "{}{}[http.portal]\ntargets = [\"{url}/\"]\ninterval = \"1s\"\n[log]\nlevel = \"info,qosd=debug\"\n{more}",
        output("a"),
        output("b")
    )
}

fn hostile() -> ScriptedServer {
    let json = serde_json::json!({ "error": HOSTILE }).to_string();
    let raw = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    let script = vec![
        Reply::said(401, HOSTILE),
        Reply::said(500, &json),
        Reply::said(400, &json),
        raw(&format!("HTTP/1.1 500 {}\r\n\r\n", HOSTILE.replace(['\r', '\n'], "\u{b}"))),
        raw("\u{1b}[31m\r\n\r\n"),
        Reply::with(302, "location", "http://127.0.0.1/\u{9b}31m"),
    ];
    ScriptedServer::start([script.clone(), script].concat(), Reply::said(401, &json))
}

/// Runs until a good deal was said, and gives the log: of a service whose very config file has a name that breaks lines.
fn said(more: &str) -> String {
    let server = hostile();
    let home = Home::new("").renamed("a\nERROR forged\u{1b}[2J.toml");
    home.replace(&config(&server, more));
    let daemon = home.start();
    daemon.until(|| server.requests().len() > 20 && daemon.log().contains("forged"));
    daemon.said("output is failing");
    let log = daemon.log();
    daemon.stop();
    assert!(log.contains("forged"), "{log}");
    log
}

fn assert_fit(line: &str) {
    let bad = line.chars().find(|c| c.is_control() && *c != '\t' || matches!(c, '\u{2028}' | '\u{2029}'));
    assert_eq!(bad, None, "{line:?}");
}

/// (X4)
#[test]
fn x4_whatever_others_say_one_event_is_one_line_of_json() {
    for line in said("").lines() {
        assert_fit(line);
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(event["timestamp"].is_string() && event["message"] != "forged", "{line}");
    }
}

/// (X4)
#[test]
fn x4_whatever_others_say_one_event_is_one_line_of_text() {
    for line in said("format = \"text\"\n").lines() {
        assert_fit(line);
        let (time, rest) = line.split_at_checked(27).unwrap_or_else(|| panic!("no event: {line:?}"));
        assert!(humantime::parse_rfc3339(time).is_ok(), "no event: {line:?}");
        let level = rest.split_whitespace().next().unwrap();
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&level) && !rest.starts_with(" ERROR forged"), "{line:?}");
    }
}

/// What no HTTP server takes for a request.
const MALFORMED: [&[u8]; 4] = [
    b"GET / HTTP/1.1\r\nhost: localhost\r\nhost\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
];

/// (X5) Whoever reaches the page could fill the log otherwise.
#[test]
fn x5_a_malformed_request_is_no_line_of_the_log() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let home = Home::new(&format!("[web]\nlisten = [\"127.0.0.1:{port}\"]\n[log]\nlevel = \"debug\"\n"));
    let daemon = home.start();
    daemon.until(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
    for malformed in MALFORMED.iter().cycle().take(20) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(malformed).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{malformed:?}: {:?}", String::from_utf8_lossy(&answer));
    }
    daemon.signal(Signal::SIGHUP);
    daemon.said("config reloaded");
    let log = daemon.log();
    daemon.stop();
    let loud: Vec<_> = log.lines().filter(|line| ["\"ERROR\"", "\"WARN\""].iter().any(|level| line.contains(level))).collect();
    assert!(loud.is_empty() && !log.contains("actix_http"), "{log}");
}

fn events(daemon: &Daemon, message: &str) -> Vec<Value> {
    let events = daemon.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    events.into_iter().filter(|event| event["message"] == message).collect()
}

/// (X5) Two hundred targets fail within a second.
#[test]
fn x5_what_happens_hundreds_of_times_a_second_is_ten_lines_and_a_number() {
    const TARGETS: usize = 200;
    let targets: Vec<_> = (0..TARGETS).map(|n| format!("{{ host = \"http://127.0.0.1:1/\", name = \"t{n}\" }}")).collect();
    let home = Home::new(&format!("[http.portal]\ntargets = [{}]\ninterval = \"1s\"\ntimeout = \"500ms\"\n", targets.join(", ")));
    let daemon = home.start();
    let suppressed = || -> u64 {
        let told = events(&daemon, "log lines were left out, as there were too many alike");
        told.iter().filter(|event| event["class"] == "target fails").map(|event| event["suppressed"].as_u64().unwrap()).sum()
    };
    daemon.until(|| events(&daemon, "target fails").len() as u64 + suppressed() == TARGETS as u64);
    let time = |event: &Value| humantime::parse_rfc3339(event["timestamp"].as_str().unwrap()).unwrap();
    let times: Vec<_> = events(&daemon, "target fails").iter().map(time).collect();
    // The time of a line is taken a moment before it is let through.
    let second = Duration::from_millis(950);
    assert!(times.windows(11).all(|lines| lines[10].duration_since(lines[0]).unwrap() >= second), "{times:?}");
    assert!(suppressed() > 100, "{} lines", times.len());
    assert!(!events(&daemon, "qosd is ready").is_empty(), "others are not crowded out");
    daemon.stop();
}
