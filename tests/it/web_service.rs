//! The page of the running program: over TCP as `[web]` says and as a reload changes it, and on the state socket in any case.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::daemon::{Daemon, Home};

const PROBE: &str = "[ping.loopback]\ntargets = [\"127.0.0.1\", { host = \"127.0.0.2\", name = \"edge\", tags = { site = \"milan\" } }]\n\
                     interval = \"1s\"\ncount = 2\nspacing = \"50ms\"\ntimeout = \"300ms\"\n";

/// A free port, and something that holds it.
fn taken() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn free() -> SocketAddr {
    taken().1
}

fn config(listen: &[SocketAddr]) -> String {
    let listen: Vec<_> = listen.iter().map(|address| format!("\"{address}\"")).collect();
    let web = if listen.is_empty() { String::new() } else { format!("[web]\nlisten = [{}]\n", listen.join(", ")) };
    web + PROBE
}

/// One request on a connection that is kept.
fn asked(mut stream: &TcpStream) -> bool {
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut answer = [0; 1024];
    stream.write_all(request).is_ok() && stream.read(&mut answer).is_ok_and(|read| answer[..read].starts_with(b"HTTP/1.1 200"))
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    Some(stream)
}

fn is_served(address: SocketAddr) -> bool {
    connect(address).is_some_and(|stream| asked(&stream))
}

fn reload(daemon: &Daemon, home: &Home, listen: &[SocketAddr]) {
    home.replace(&config(listen));
    daemon.signal(Signal::SIGHUP);
}

#[test]
fn a_reload_touches_those_addresses_alone_that_come_or_go() {
    let (first, second) = (free(), free());
    let home = Home::new(&config(&[first]));
    let daemon = home.start();
    daemon.until(|| is_served(first));
    let kept = connect(first).unwrap();
    assert!(asked(&kept));
    reload(&daemon, &home, &[second, first]);
    daemon.until(|| is_served(second));
    assert!(asked(&kept), "this connection is none of its business");
    reload(&daemon, &home, &[second]);
    // The address is free before its connections are cut.
    daemon.until(|| !is_served(first) && !asked(&kept));
    assert!(is_served(second));
    reload(&daemon, &home, &[]);
    daemon.until(|| !is_served(second));
    assert_eq!((daemon.actor("web"), daemon.ask("GET", "/healthz").0), ((0, true), 200));
    daemon.stop();
}

#[test]
fn an_address_that_is_taken_is_told_once_and_served_as_soon_as_it_is_free() {
    let ((holder, held), open) = (taken(), free());
    let home = Home::new(&config(&[held, open]));
    let daemon = home.start();
    daemon.until(|| is_served(open));
    daemon.said("web cannot listen");
    let why = |place: SocketAddr| {
        let all = daemon.status()["listeners"].clone();
        all.as_array()?.iter().find(|one| one["actor"] == "web" && one["listen"] == place.to_string()).map(|one| one["error"].clone())
    };
    assert_eq!(why(open), Some(serde_json::Value::Null));
    assert!(why(held).is_some_and(|why| why.as_str().is_some_and(|why| why.contains("in use"))), "{:?}", why(held));
    let (status, not_ready) = daemon.ask("GET", "/readyz");
    assert!(status == 503 && not_ready.contains(&format!("web at {held}: ")), "{not_ready}");
    assert!(daemon.ask("GET", "/metrics").1.contains("qosd_not_listening{actor=\"web\"} 1"));
    assert!(daemon.ask("GET", "/status").1.contains(&format!("web cannot listen at {held}")));
    // A reload that changes nothing about it tells nothing again.
    reload(&daemon, &home, &[open, held]);
    daemon.said("config reloaded");
    drop(holder);
    daemon.until(|| is_served(held));
    assert_eq!((why(held), daemon.ask("GET", "/readyz").0), (Some(serde_json::Value::Null), 200));
    assert_eq!(daemon.log().matches("web cannot listen").count(), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_page_goes_on_after_its_actor_failed() {
    let address = free();
    let home = Home::new(&config(&[address]));
    let daemon = home.start_with_hooks(Duration::from_millis(50));
    daemon.until(|| is_served(address));
    daemon.panic("web");
    daemon.until(|| is_served(address));
    assert_eq!(daemon.actor("ping"), (0, true), "nobody else noticed");
    daemon.stop();
}

#[test]
fn the_state_socket_has_the_pages_whatever_they_are_called_and_takes_nothing_more_than_before() {
    let home = Home::new(&config(&[]));
    let daemon = home.start();
    daemon.until(|| daemon.status()["slots"]["rows"].as_u64() >= Some(2));
    daemon.until(|| daemon.ask("GET", "/readyz") == (200, "ok\n".to_owned()));
    for path in ["/healthz", "/api/v1/series", "/api/v1/status", "/style.css", "/metrics", "/api/v1/range/ping/loopback/edge?range=1h"] {
        assert_eq!(daemon.ask("GET", path).0, 200, "{path}");
    }
    for path in ["/", "/metrics", "/api/v1/series"] {
        assert_eq!(daemon.ask("POST", path).0, 405, "{path}");
    }
    assert_eq!(daemon.ask("POST", "/api/v1/requeue").0, 200, "the one wish");
    daemon.stop();
}

#[test]
fn the_metrics_have_the_state_of_qosd_and_the_last_values_of_each_series() {
    let home = Home::new(&config(&[]));
    let daemon = home.start();
    let metrics = || daemon.ask("GET", "/metrics").1;
    // Without the right to ping there are results, and no values.
    daemon.until(|| metrics().matches("\nqosd_result_code{").count() == 2);
    let text = metrics();
    for line in [
        "\nqosd_build_info{version=\"",
        "\nqosd_restarts_total{actor=\"ping\"} 0",
        "\nqosd_skipped_total{reason=\"overrun\"} 0",
        "\nqosd_dropped_rows_total{reason=\"memory\"} 0",
        "\nqosd_resident_memory_bytes",
        "\nqosd_row_age_seconds{family=\"ipv4\",kind=\"ping\",probe=\"loopback\",tag_site=\"milan\",source=\"rome-1\",target=\"edge\"} ",
    ] {
        assert!(format!("\n{text}").contains(line), "{line} is missing:\n{text}");
    }
    assert!(!text.contains("EOF") && text.lines().all(|line| !line.ends_with(" NaN")), "{text}");
    daemon.stop();
}
