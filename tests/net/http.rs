//! The HTTP kind in the running service: names that do not behave, servers that hang, secrets that must not show. D and H
//! numbers are those of the list of faults.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

pub(crate) use self::phases::self_signed;
use crate::bed::daemon::{Home, Running};
use crate::bed::dns::{Dns, Says};
use crate::bed::eventually;
use crate::bed::net::Namespace;
use crate::bed::rows::Exported;
use crate::scripted_server::{Reply, ScriptedServer};

mod hostile;
mod phases;

const RESOLV_CONF: &str = "nameserver 127.0.0.1\n";
const LIMIT: Duration = Duration::from_secs(20);

/// A server on all addresses of a namespace's loopback, and its port.
fn server(namespace: &Namespace, script: Vec<Reply>, afterwards: Reply) -> (ScriptedServer, u16) {
    let server = namespace.enter(|| ScriptedServer::start_on("0.0.0.0:0".parse().expect("an address"), script, afterwards));
    let port = server.address().port();
    (server, port)
}

/// A probe of this name, once a second.
fn probe(name: &str, url: &str, more: &str) -> String {
    format!("[http.{name}]\ntargets = [\"{url}\"]\ninterval = \"1s\"\ntimeout = \"900ms\"\n{more}\n")
}

/// The rows of a probe, oldest first.
fn rows(home: &Home, probe: &str) -> Vec<Exported> {
    home.probe_rows().into_iter().filter(|row| row.tag("probe") == probe).collect()
}

/// Waits for a row of a probe that is as wanted, later than a time.
fn row(home: &Home, probe: &str, after: i64, wanted: impl Fn(&Exported) -> bool) -> Exported {
    eventually(LIMIT, || {
        let rows: Vec<_> = rows(home, probe).into_iter().filter(|row| row.time() > after).collect();
        rows.iter().find(|row| wanted(row)).cloned().ok_or_else(|| format!("{probe}: {:?}", rows.last()))
    })
}

fn any(home: &Home, probe: &str) -> Exported {
    row(home, probe, 0, |_| true)
}

fn has(result: &str) -> impl Fn(&Exported) -> bool {
    move |row| row.text("result") == result
}

/// From slot to slot nothing is missing, and nothing was skipped.
fn assert_cadence(rows: &[Exported], interval: Duration) {
    let interval = i64::try_from(interval.as_nanos()).expect("an interval is short");
    for pair in rows.windows(2) {
        assert_eq!(pair[1].time() - pair[0].time(), interval, "a slot is missing");
    }
    assert!(rows.iter().all(|row| row.text("result") == "ok"), "{rows:?}");
}

/// (D1)
#[test]
fn d1_a_name_that_cannot_be_resolved_is_a_dns_error_of_its_own_probe() {
    let namespace = Namespace::new();
    let dns = Dns::start(&namespace);
    let (_server, port) = server(&namespace, vec![], Reply::status(200));
    dns.say("good.test", Says::address("127.0.0.1"));
    dns.say("failing.test", Says::Failure);
    dns.say("silent.test", Says::Silence);
    dns.say("mistaken.test", Says::Mistaken);
    let names = ["good", "missing", "failing", "silent", "mistaken"];
    let config: String = names.iter().map(|name| probe(name, &format!("http://{name}.test:{port}/"), "")).collect();
    let home = Home::new(&config).resolving_by(RESOLV_CONF);
    let running = home.start_in(&namespace);
    for name in &names[1..] {
        let row = any(&home, name);
        assert_eq!((row.text("result"), row.integer("http_status_code")), ("dns_error", Some(-1)), "{row:?}");
        assert_eq!(row.text("address"), "");
    }
    let late = "not done within 900ms while looking up the name";
    let words = ["there is no such name", "", late, late];
    for (name, words) in names[1..].iter().zip(words) {
        assert!(any(&home, name).text("error").contains(words), "{:?}", any(&home, name));
    }
    eventually(LIMIT, || if rows(&home, "good").len() > 4 { Ok(()) } else { Err("few rows".to_owned()) });
    assert_cadence(&rows(&home, "good"), Duration::from_secs(1));
    // (X5) What a name server does wrong is in the rows, and not in the log each time.
    assert_eq!(running.times_said("WARN"), running.times_said("journal was open to others"), "{}", running.log());
    running.stop();
}

/// (D2, D3)
#[test]
fn d2_d3_a_name_server_that_fails_is_bridged_and_a_new_address_is_followed() {
    let namespace = Namespace::new();
    let dns = Dns::start(&namespace);
    let (_server, port) = server(&namespace, vec![], Reply::status(200));
    dns.say("a.test", Says::address("127.0.0.1"));
    let home = Home::new(&probe("a", &format!("http://a.test:{port}/"), "")).resolving_by(RESOLV_CONF);
    let running = home.start_in(&namespace);
    let first = row(&home, "a", 0, has("ok"));
    assert_eq!((first.text("address"), first.integer("dns_stale")), ("127.0.0.1", None));
    dns.say("a.test", Says::Failure);
    let stale = row(&home, "a", first.time(), |row| row.integer("dns_stale") == Some(1));
    assert_eq!((stale.text("result"), stale.text("address")), ("ok", "127.0.0.1"));
    dns.say("a.test", Says::address("127.0.0.2"));
    let moved = row(&home, "a", stale.time(), |row| row.text("address") == "127.0.0.2");
    assert_eq!((moved.text("result"), moved.integer("dns_stale"), moved.tag("target")), ("ok", None, "a.test"));
    running.stop();
}

/// (D4, H6)
#[test]
fn d4_h6_a_redirect_to_a_name_that_leads_inside_is_refused_and_the_operators_own_is_not() {
    let namespace = Namespace::new();
    let dns = Dns::start(&namespace);
    let mut config = String::new();
    let inside = ["127.0.0.1", "169.254.169.254", "10.0.0.1", "0.0.0.0"];
    let mut servers = Vec::new();
    dns.say("mine.test", Says::address("127.0.0.1"));
    for (n, address) in inside.iter().enumerate() {
        dns.say(&format!("evil{n}.test"), Says::address(address));
        let (other, port) = server(&namespace, vec![], Reply::status(200));
        let sends = Reply::with(302, "location", format!("http://evil{n}.test:{port}/stolen"));
        let (first, at) = server(&namespace, vec![], sends);
        config += &probe(&format!("p{n}"), &format!("http://mine.test:{at}/"), "redirects = 3");
        servers.push((first, other));
    }
    let home = Home::new(&config).resolving_by(RESOLV_CONF);
    let running = home.start_in(&namespace);
    for (n, address) in inside.iter().enumerate() {
        let row = any(&home, &format!("p{n}"));
        assert_eq!((row.text("result"), row.integer("http_status_code")), ("bad_status", Some(302)), "{row:?}");
        assert!(row.text("error").contains(&format!("redirected to {address}, ")), "{row:?}");
        assert_eq!(row.text("address"), "127.0.0.1", "where the target is");
    }
    running.stop();
    for (first, other) in servers {
        assert!(!first.requests().is_empty() && other.requests().is_empty());
    }
}

/// (H8)
#[test]
fn h8_headers_are_not_sent_to_another_server() {
    let namespace = Namespace::new();
    // An address that is public, as far as anybody can tell.
    namespace.ip("address add 192.0.2.1/32 dev lo");
    let (other, port) = server(&namespace, vec![], Reply::status(200));
    let (first, at) = server(&namespace, vec![], Reply::with(302, "location", format!("http://192.0.2.1:{port}/x")));
    let config = probe("p", &format!("http://127.0.0.1:{at}/"), "redirects = 3\nheaders_file = \"headers\"");
    let home = Home::new(&config);
    home.file("headers", "Authorization: Bearer c4n4ry\nCookie: a=c4n4ry\nX-Own: c4n4ry\n");
    let running = home.start_in(&namespace);
    let row = row(&home, "p", 0, has("ok"));
    running.stop();
    assert_eq!(row.integer("http_status_code"), Some(200));
    assert!(first.requests().iter().all(|request| request.headers["x-own"] == "c4n4ry"));
    let sent = other.requests();
    assert!(!sent.is_empty() && sent.iter().all(|request| !format!("{:?}", request.headers).contains("c4n4ry")), "{sent:?}");
}

/// (H5) Also over TLS and back; each hop is told to whoever wants to know.
#[test]
fn h5_redirects_from_http_to_https_and_back_are_followed_and_told() {
    let namespace = Namespace::new();
    namespace.ip("address add 192.0.2.1/32 dev lo");
    let (last, port) = server(&namespace, vec![], Reply::status(200));
    let on = Reply::with(302, "location", format!("http://192.0.2.1:{port}/last"));
    let listen = "192.0.2.1:0".parse().expect("an address");
    let middle = namespace.enter(|| ScriptedServer::start_tls(listen, self_signed("192.0.2.1"), Duration::ZERO, [], on));
    let (first, at) = server(&namespace, vec![], Reply::with(302, "location", format!("https://{}/middle", middle.address())));
    let url = format!("http://127.0.0.1:{at}/");
    let more = |redirects| format!("insecure = true\nredirects = {redirects}\n");
    let config = probe("two", &url, &more(2)) + &probe("one", &url, &more(1)) + "[log]\nlevel = \"trace\"\n";
    let home = Home::new(&config);
    let running = home.start_in(&namespace);
    let two = any(&home, "two");
    let one = any(&home, "one");
    assert_eq!((two.text("result"), two.integer("http_status_code")), ("ok", Some(200)), "{two:?}");
    assert!(two.float("http_tls_ms").is_some() && two.float("http_tls_days_left").is_none(), "of the first server: {two:?}");
    assert_eq!(two.text("address"), "127.0.0.1");
    assert_eq!((one.text("result"), one.text("error")), ("bad_status", "get: status 302: redirected more than once"), "{one:?}");
    for hop in [format!("https://{}", middle.address()), format!("http://192.0.2.1:{port}")] {
        assert!(running.log().lines().any(|line| line.contains("redirect followed") && line.contains(&hop)), "{hop}");
    }
    running.stop();
    assert!(!first.requests().is_empty() && !last.requests().is_empty());
}

/// (D5)
#[test]
fn d5_answers_without_measure_end_in_time() {
    let namespace = Namespace::new();
    let dns = Dns::start(&namespace);
    let (_server, port) = server(&namespace, vec![], Reply::status(200));
    let many = (0..1000_u32).map(|n| Ipv4Addr::from(0x7f00_0001 + n)).collect();
    dns.say("many.test", Says::Addresses(many, 1, Duration::ZERO));
    dns.say("loop.test", Says::Alias("pool.test"));
    dns.say("pool.test", Says::Alias("loop.test"));
    dns.say("cut.test", Says::Truncated);
    let names = ["many", "loop", "cut"];
    let config: String = names.iter().map(|name| probe(name, &format!("http://{name}.test:{port}/"), "")).collect();
    let home = Home::new(&config).resolving_by(RESOLV_CONF);
    let running = home.start_in(&namespace);
    let results = names.map(|name| any(&home, name).text("result").to_owned());
    assert_eq!(results, ["ok", "dns_error", "dns_error"]);
    running.stop();
}

/// (D6)
#[test]
fn d6_a_resolver_configuration_that_comes_and_goes_needs_no_restart() {
    let namespace = Namespace::new();
    let dns = Dns::start(&namespace);
    let (_server, port) = server(&namespace, vec![], Reply::status(200));
    for name in ["a.test", "b.test", "c.test"] {
        dns.say(name, Says::address("127.0.0.1"));
    }
    let of = |name: &str| probe(name, &format!("http://{name}.test:{port}/"), "");
    let home = Home::new(&of("a")).with_own_etc();
    let write = |text: &str| {
        let path = home.etc().join("resolv.conf");
        std::fs::write(path.with_extension("new"), text).expect("the folder is ours");
        std::fs::rename(path.with_extension("new"), &path).expect("the folder is ours");
    };
    let mut running = home.start_in(&namespace);
    let missing = row(&home, "a", 0, has("dns_error"));
    assert!(missing.text("error").contains("/etc/resolv.conf"), "{missing:?}");
    write(RESOLV_CONF);
    row(&home, "a", missing.time(), has("ok"));
    write("");
    home.configure(&of("b"));
    running.reload();
    let empty = row(&home, "b", 0, has("dns_error"));
    write(RESOLV_CONF);
    row(&home, "b", empty.time(), has("ok"));
    std::fs::remove_file(home.etc().join("resolv.conf")).expect("it was there");
    home.configure(&of("c"));
    running.reload();
    let gone = row(&home, "c", 0, has("dns_error"));
    write(RESOLV_CONF);
    row(&home, "c", gone.time(), has("ok"));
    running.stop();
}

const CANARY: &str = "c4n4ry-h3ader-s3cret";

/// Everything that the service says and keeps.
fn all_texts(home: &Home, running: &Running) -> String {
    let commands = [&["check", "--show"][..], &["status", "--json"], &["export", "--since", "1h", "--format", "json"]];
    let said = commands.map(|arguments| home.command(arguments));
    format!("{}\n{}", said.join("\n"), running.log())
}

#[test]
fn a_secret_in_a_headers_file_shows_nowhere() {
    let namespace = Namespace::new();
    let replies = vec![
        Reply::Echo(500),
        Reply::with(302, "location", format!("http://{CANARY}.invalid/{CANARY}")),
        Reply::Raw(format!("HTTP/1.1 200 {CANARY}\r\n{CANARY}\r\n\r\n").into_bytes()),
        Reply::Close,
    ];
    let count = replies.len();
    let (server, port) = server(&namespace, replies, Reply::Echo(200));
    let more = "redirects = 2\nheaders_file = \"headers\"\n[log]\nlevel = \"trace\"\n";
    let home = Home::new(&probe("p", &format!("http://127.0.0.1:{port}/"), more));
    home.file("headers", &format!("Authorization: Bearer {CANARY}\nX-Key: {CANARY}\n"));
    let mut running = home.start_in(&namespace);
    eventually(LIMIT, || if rows(&home, "p").len() > count { Ok(()) } else { Err("few rows".to_owned()) });
    assert!(server.requests().iter().all(|request| request.headers["x-key"] == CANARY));
    let before = all_texts(&home, &running);
    for there in ["headers_file = ", "\"http_status_code\":500", "\"kind\":\"http\"", "redirect followed"] {
        assert!(before.contains(there), "{there} in {before}");
    }
    // A file with a mistake in it refuses the reload, and is not repeated.
    home.file("headers", &format!("X-Key: {CANARY}\n{CANARY}\n"));
    running.reload();
    let refused = running.said("reload refused");
    assert!(refused.contains("headers file, line 2"), "{refused}");
    let all = before + &all_texts(&home, &running);
    let shown = all.lines().find(|line| line.contains(CANARY));
    assert_eq!(shown, None);
    running.stop();
}

#[test]
fn a_headers_file_is_read_again_on_reload() {
    let namespace = Namespace::new();
    let (server, port) = server(&namespace, vec![], Reply::status(200));
    let home = Home::new(&probe("p", &format!("http://127.0.0.1:{port}/"), "headers_file = \"headers\""));
    home.file("headers", "X-Key: one\n");
    let mut running = home.start_in(&namespace);
    any(&home, "p");
    home.file("headers", "X-Key: two\n");
    running.reload();
    let sent = || server.requests().iter().map(|request| request.headers["x-key"].clone()).collect::<BTreeSet<_>>();
    eventually(LIMIT, || if sent().len() == 2 { Ok(()) } else { Err(format!("{:?}", sent())) });
    running.stop();
}
