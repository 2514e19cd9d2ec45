//! The collector under attack: guesses, floods, the slow, requests within requests. M numbers are those of the list of faults.

#![expect(clippy::disallowed_methods, reason = "what is slow is slow in real time")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use qosd::mesh::collector::counts::Count;
use qosd::mesh::collector::server::Deadlines;
use serde_json::json;

use crate::collector::{Answer, KEY, RESULTS, Serving, item, read_all, request, results};
use crate::smuggling::smuggling;

/// From where the attacks come.
const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// What a call of a legitimate agent may take, 99 times of 100.
const P99: Duration = Duration::from_millis(50);

fn short_or_long<T>(short: T, long: T) -> T {
    if std::env::var_os("QOSD_PROVE").is_some() { long } else { short }
}

/// The 99th percentile of normal calls.
fn p99(serving: &Serving, calls: usize) -> Duration {
    let mut took: Vec<Duration> = (0..calls)
        .map(|n| {
            let begun = Instant::now();
            let answer = if n % 2 == 0 { serving.get("/api/v1/conf/probes") } else { serving.post(&results(&[item(json!({}))])) };
            assert_eq!(answer.status, 200, "{answer:?}");
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[(calls * 99).div_ceil(100) - 1]
}

/// Mean and variance of the mean, of all but the slowest tenth: those met something else.
fn mean(mut nanos: Vec<f64>) -> (f64, f64) {
    nanos.sort_unstable_by(f64::total_cmp);
    nanos.truncate(nanos.len() * 9 / 10);
    let n = nanos.len() as f64;
    let mean = nanos.iter().sum::<f64>() / n;
    (mean, nanos.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n * (n - 1.0)))
}

/// M1. A key that is wrong from its first character on, one that is wrong in its last one, and none at all take the same time.
#[test]
fn m1_the_time_of_a_refusal_says_nothing_of_the_key() {
    let serving = Serving::start("trusted_proxies = ['127.0.0.1']", Deadlines::default());
    // Headers of the same length, so that they are read in the same time.
    let headers = ["x-api-key: X3cret-of-all", "x-api-key: s3cret-of-alX", "x-api-kez: s3cret-of-all"];
    let mut took: [Vec<f64>; 3] = Default::default();
    let tries: u32 = short_or_long(1500, 35_000);
    for n in 0..tries {
        // The order changes, so that none of them always follows the same.
        for class in [0, 1, 2].map(|class| (class + n as usize) % 3) {
            // Each from an address of its own, as one alone would soon be limited.
            let from = Ipv4Addr::from(0x0a00_0000 + n * 3 + class as u32);
            let head = format!("GET /api/v1/conf/probes HTTP/1.1\r\nhost: h\r\n{}\r\nx-forwarded-for: {from}\r\n\r\n", headers[class]);
            let mut stream = serving.connect();
            stream.set_nodelay(true).unwrap();
            let begun = Instant::now();
            stream.write_all(head.as_bytes()).unwrap();
            let mut first = [0; 512];
            let length = stream.read(&mut first).unwrap();
            took[class].push(begun.elapsed().as_nanos() as f64);
            let expected: &[u8] = if class == 2 { b"HTTP/1.1 400 " } else { b"HTTP/1.1 403 " };
            assert!(first[..length].starts_with(expected), "{}", String::from_utf8_lossy(&first[..length]));
        }
    }
    let means = took.map(mean);
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let (difference, noise) = ((means[one].0 - means[other].0).abs(), (means[one].1 + means[other].1).sqrt());
        println!("M1: {difference:.0} ns between {one} and {other}, noise {noise:.0} ns");
        assert!(difference < 5.0 * noise, "{difference:.0} ns with a noise of {noise:.0} ns: {means:?}");
    }
}

/// M2.
#[test]
fn m2_guessing_keys_is_slow_and_slows_nobody_else() {
    let serving = Serving::start("", Deadlines::default());
    let (stop, guesses, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let guess = request("GET", "/api/v1/conf/probes", &[("x-api-key", "guess")], b"");
    let begun = Instant::now();
    let p99 = thread::scope(|scope| {
        // They share the cores with the server: more of them would only slow themselves.
        for _ in 0..short_or_long(1, 2) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(mut stream) = serving.connect_from(ATTACKER) else { continue };
                    let answered = stream.write_all(&guess).is_ok();
                    let answer = read_all(&mut stream);
                    guesses.fetch_add(1, Ordering::Relaxed);
                    if answered && answer.starts_with(b"HTTP/1.1 429 ") {
                        refused.fetch_add(1, Ordering::Relaxed);
                        assert!(Answer::read(&answer).head.contains("retry-after: 1"));
                    }
                }
            });
        }
        let p99 = p99(&serving, short_or_long(500, 2000));
        stop.store(true, Ordering::Relaxed);
        p99
    });
    let seconds = begun.elapsed().as_secs_f64();
    let (guesses, looked_at) = (guesses.into_inner(), serving.count(Count::WrongKey));
    println!("M2: {:.0} guesses/s, {looked_at} looked at in {seconds:.1} s, p99 of others {p99:?}", guesses as f64 / seconds);
    assert!(looked_at as f64 <= 50.0 + 5.0 * seconds + 2.0, "{looked_at} in {seconds} s");
    assert!(refused.into_inner() + looked_at >= guesses * 9 / 10, "the others were told to wait");
    assert!(p99 <= P99, "{p99:?}");
}

/// Clients with the right key that send their body a byte at a time, for as long as this runs.
fn trickle(serving: &Serving, clients: usize, stop: &AtomicBool, cut_off: &AtomicU64) {
    let head = format!("POST {RESULTS} HTTP/1.1\r\nhost: h\r\nx-api-key: {KEY}\r\ncontent-length: 100000\r\n\r\n{{");
    let mut streams: Vec<TcpStream> = Vec::new();
    for _ in 0..clients {
        let stream = serving.connect_from(ATTACKER).unwrap();
        // Who is cut off at once cannot even write.
        let _ = (&stream).write_all(head.as_bytes());
        stream.set_nonblocking(true).unwrap();
        streams.push(stream);
    }
    while !stop.load(Ordering::Relaxed) {
        let before = streams.len();
        streams.retain_mut(|stream| stream.write(b" ").is_ok());
        cut_off.fetch_add((before - streams.len()) as u64, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(200));
    }
}

/// M11.
#[test]
fn m11_slow_bodies_slow_nobody_else_and_end_in_time() {
    let body = short_or_long(Duration::from_secs(2), Duration::from_secs(10));
    let serving = Serving::start("", Deadlines { body, ..Deadlines::default() });
    let clients: usize = short_or_long(200, 2000);
    let (stop, cut_off) = (AtomicBool::new(false), AtomicU64::new(0));
    let (p99, cut_off) = thread::scope(|scope| {
        scope.spawn(|| trickle(&serving, clients, &stop, &cut_off));
        wait(|| connections(&serving) >= clients.min(200) as u64);
        let p99 = p99(&serving, short_or_long(200, 2000));
        wait(|| cut_off.load(Ordering::Relaxed) == clients as u64);
        stop.store(true, Ordering::Relaxed);
        (p99, cut_off.load(Ordering::Relaxed))
    });
    println!("M11: {clients} slow clients, p99 of others {p99:?}");
    assert_eq!(cut_off, clients as u64);
    let (slow, refused) = (serving.count(Count::TooSlow), serving.count(Count::RefusedConnections));
    assert_eq!(slow + refused, clients as u64, "{slow} too slow, {refused} refused");
    assert!(p99 <= P99, "{p99:?}");
    wait(|| connections(&serving) == 0);
}

fn connections(serving: &Serving) -> u64 {
    serving.surface.counters().into_iter().find(|(field, _)| field.info().name == "collector_connections").unwrap().1
}

fn wait(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_mins(1), "it does not come");
        thread::sleep(Duration::from_millis(10));
    }
}

/// M11.
#[test]
fn m11_slow_heads_and_idle_connections_end_in_time() {
    let quick = Duration::from_millis(600);
    let serving = Serving::start("", Deadlines { head: quick, idle: quick, ..Deadlines::default() });
    let silent = serving.connect();
    let mut begun = serving.connect();
    begun.write_all(b"GET / HTTP/1.1\r\nx: ").unwrap();
    let mut idle = serving.connect();
    let call = format!("GET /api/v1/conf/probes HTTP/1.1\r\nhost: h\r\nx-api-key: {KEY}\r\n\r\n");
    idle.write_all(call.as_bytes()).unwrap();
    let mut second = serving.connect();
    second.write_all(format!("{call}GET /api/v1/conf/").as_bytes()).unwrap();
    for mut stream in [silent, begun, idle, second] {
        let since = Instant::now();
        read_all(&mut stream);
        assert!(since.elapsed() < Duration::from_secs(5));
    }
    wait(|| connections(&serving) == 0);
}

/// M11.
#[test]
fn m11_whoever_does_not_read_the_answer_is_let_go() {
    let quick = Duration::from_millis(100);
    let serving = Serving::start("", Deadlines { body: quick, stored: quick, idle: quick, ..Deadlines::default() });
    let mut stream = serving.connect();
    let call = format!("GET /api/v1/conf/probes HTTP/1.1\r\nhost: h\r\nx-api-key: {KEY}\r\n\r\n");
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    // Until nothing goes any more.
    while stream.write_all(call.repeat(100).as_bytes()).is_ok() {}
    wait(|| connections(&serving) == 0);
}

/// M20.
#[test]
fn m20_five_hundred_agents_at_once_are_answered_within_a_second() {
    let serving = Serving::start("", Deadlines::default());
    let round = request("POST", RESULTS, &[("x-api-key", KEY)], &results(&vec![item(json!({})); 20]));
    let (agents, gate) = (500, AtomicBool::new(false));
    let mut took: Vec<Duration> = thread::scope(|scope| {
        let ask = || {
            wait(|| gate.load(Ordering::Relaxed));
            let begun = Instant::now();
            assert_eq!(serving.ask(&round).status, 200);
            begun.elapsed()
        };
        let agents: Vec<_> = (0..agents).map(|_| scope.spawn(ask)).collect();
        gate.store(true, Ordering::Relaxed);
        agents.into_iter().map(|agent| agent.join().unwrap()).collect()
    });
    took.sort_unstable();
    let p99 = took[agents * 99 / 100 - 1];
    println!("M20: {agents} agents at once, p99 {p99:?}");
    assert_eq!(serving.inside().stored, agents as u64 * 20);
    assert!(p99 <= Duration::from_secs(1), "{p99:?}");
}

/// M13. A request that two servers could read as different ones is answered with 400 or not at all; what is hidden in it
/// is never seen.
#[test]
fn m13_nothing_can_be_hidden_in_a_request() {
    let serving = Serving::start("", Deadlines { body: Duration::from_secs(1), head: Duration::from_secs(1), ..Deadlines::default() });
    let hidden = String::from_utf8(results(&[item(json!({}))])).unwrap();
    for (name, bytes) in smuggling(RESULTS, KEY, &hidden) {
        let mut stream = serving.connect();
        let _ = stream.write_all(&bytes);
        // Fails if it is closed already.
        let _ = stream.shutdown(Shutdown::Write);
        let answer = String::from_utf8_lossy(&read_all(&mut stream)).into_owned();
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{name}: {answer}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
    }
    assert_eq!((serving.inside().stored, serving.count(Count::WrongKey)), (0, 0));
    assert_eq!(serving.post(&results(&[item(json!({}))])).status, 200, "it serves on");
}

/// M14.
#[test]
fn m14_a_stranger_cannot_speak_for_others_and_a_proxy_can() {
    let guess = |serving: &Serving, from: &str| {
        serving.ask(&request("GET", "/api/v1/conf/probes", &[("x-api-key", "guess"), ("x-forwarded-for", from)], b"")).status
    };
    let addresses: Vec<String> = (0..60).map(|n| format!("198.51.100.{n}")).collect();
    let alone = Serving::start("", Deadlines::default());
    let statuses: Vec<u16> = addresses.iter().map(|from| guess(&alone, from)).collect();
    assert_eq!((statuses[0], statuses[59]), (403, 429), "they are all counted as the one that they are");
    let proxied = Serving::start("trusted_proxies = ['127.0.0.0/8']", Deadlines::default());
    assert!(addresses.iter().all(|from| guess(&proxied, from) == 403));
    // What a client wrote before the proxy's own word does not count.
    let statuses: Vec<u16> = (0..60).map(|n| guess(&proxied, &format!("203.0.113.{n}, 192.0.2.1"))).collect();
    assert_eq!((statuses[0], statuses[59], guess(&proxied, "192.0.2.2")), (403, 429, 403));
}
