//! What requests cost that fail, that are many, and that are slow: themselves, and nobody else.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use qosd::page::server;
use qosd::status::server::Report;
use qosd::web::line::Patience;

use super::{Serving, assert_protected};
use crate::service::silence_provoked_panics;

#[test]
fn a_page_that_panics_costs_its_own_request() {
    silence_provoked_panics();
    let serving = Serving::telling(Arc::new(|| panic!("provoked in a page")), server::PATIENCE);
    for _ in 0..5 {
        let failed = serving.get("/api/v1/status");
        assert_eq!(failed.status, 500);
        assert_protected(&failed, "a panic");
        assert_eq!((serving.get("/healthz").status, serving.get("/api/v1/series").status), (200, 200));
    }
}

#[test]
fn pages_are_made_one_at_a_time_however_many_ask() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, outside) = (Arc::clone(&now), Arc::clone(&most));
    let report: Report = Arc::new(move || {
        outside.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(3));
        inside.fetch_sub(1, Ordering::SeqCst);
        serde_json::Value::Null
    });
    let serving = Serving::telling(report, server::PATIENCE);
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| (0..5).for_each(|_| assert_eq!(serving.get("/api/v1/status").status, 200)));
        }
    });
    assert_eq!((now.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 1));
}

/// How long until the other side cuts a connection off.
#[expect(clippy::disallowed_methods, reason = "this test runs in real time")]
fn until_cut_off(mut touch: impl FnMut() -> std::io::Result<usize>) -> Duration {
    let since = Instant::now();
    while matches!(touch(), Ok(1..)) {}
    since.elapsed()
}

#[test]
fn whoever_is_slow_is_cut_off() {
    let (quick, short) = (Duration::from_millis(300), Duration::from_secs(5));
    // The web server counts heads in steps of half a second.
    let patience = Patience { head: Duration::from_millis(1500), stalled: quick, longest: short, idle: quick };
    let serving = Serving::telling(Arc::new(|| serde_json::json!("x".repeat(20_000_000))), patience);
    let limit = Duration::from_secs(4);
    // A head that does not end.
    let mut stream = serving.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nx: ").unwrap();
    assert!(until_cut_off(|| stream.read(&mut [0; 1024])) < limit);
    // A page that nobody reads: once it is made, its connection has little time.
    let mut stream = serving.connect();
    stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut peeked = [0];
    while stream.peek(&mut peeked).unwrap() == 0 {}
    std::thread::sleep(Duration::from_secs(2));
    let mut read = 0;
    until_cut_off(|| {
        let more = stream.read(&mut vec![0; 1 << 20]);
        read += more.as_ref().copied().unwrap_or_default();
        more
    });
    assert!(read < 20_000_000, "all {read} bytes came");
    assert_eq!(serving.get("/healthz").status, 200, "the others are served as ever");
}
