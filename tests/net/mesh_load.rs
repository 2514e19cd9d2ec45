//! A collector under the load of a large mesh: every agent posts what it found of all others, once a minute.
//!
//! That nothing is lost is asserted; how fast it goes is told.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::daemon::Home;
use crate::bed::http::free_port;
use crate::bed::{need_root, short_or_long};

const KEY: &str = "the-key-of-this-mesh";

fn peer(number: usize) -> (String, String) {
    (format!("p{number}"), format!("10.{}.{}.1", number / 250, number % 250))
}

/// What an agent posts of all others in a round.
fn post(source: usize, agents: usize, round: usize) -> String {
    let item = |target: usize| {
        let ((name, address), rtt) = (peer(target), (source * 7 + target * 3 + round) as f64 / 100.0 + 0.1);
        json!({
            "name": name, "proto": 4, "address": address, "pinged": true,
            "ping_min": rtt, "ping_max": rtt + 0.5, "ping_avg": rtt + 0.2, "ping_jitter": 0.1, "ping_loss": 0.0,
        })
    };
    let items: Vec<_> = (0..agents).filter(|target| *target != source).map(item).collect();
    json!({ "source": peer(source).0, "probes": items }).to_string()
}

/// CPU seconds and resident MiB of a process.
fn usage(pid: u32) -> (f64, f64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after: Vec<f64> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // Ticks are hundredths of a second: utime and stime are the 14th and 15th figures, counted from 1; 256 pages are a MiB.
    ((after[10] + after[11]) / 100.0, after[20] / 256.0)
}

#[test]
fn a_collector_takes_a_large_mesh_s_results_and_loses_none() {
    need_root();
    let (agents, rounds) = short_or_long((60, 2), (300, 3));
    let pace = short_or_long(Duration::from_secs(4), Duration::from_mins(1));
    let port = free_port();
    let home = Home::new(&format!("[collector]\nlisten = \"127.0.0.1:{port}\"\nprobes = \"probes.json\"\napi_key_file = \"api_key\"\n"));
    let probes: Vec<_> = (0..agents).map(peer).map(|(name, address)| json!({ "name": name, "proto": 4, "address": address })).collect();
    home.file("probes.json", &json!({ "probes": probes }).to_string());
    home.file("api_key", KEY);
    let running = home.start();
    let (cpu_before, rss_before) = usage(running.pid());
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime like any other");
    let mut waits: Vec<Duration> = runtime.block_on(async {
        let posts = (0..agents).map(|agent| post_rounds(agent, agents, rounds, pace, port));
        futures_util::future::join_all(posts).await.concat()
    });
    let took = start.elapsed();
    let (cpu, rss) = usage(running.pid());
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    let stored = home.rows().into_iter().filter(|row| row.measurement == "Ping").count();
    running.stop();
    #[expect(clippy::print_stderr, reason = "the figures are what this test is for")]
    {
        eprintln!(
            "{} posts of {} results in {took:.1?}: p50 {:.1?}, p99 {:.1?}, longest {:.1?}; {:.2} CPU s, RSS {rss_before:.1} to {rss:.1} MiB",
            waits.len(),
            agents - 1,
            at(0.5),
            at(0.99),
            at(1.0),
            cpu - cpu_before,
        );
    }
    assert_eq!(waits.len(), agents * rounds);
    assert_eq!(stored, agents * (agents - 1) * rounds, "every result is a row");
}

/// One agent: a round each `pace`, at a place of its own within it. Gives how long each post took.
async fn post_rounds(agent: usize, agents: usize, rounds: usize, pace: Duration, port: u16) -> Vec<Duration> {
    qosd::tls::install_provider();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client like any other");
    let url = format!("http://127.0.0.1:{port}/api/v1/data/probe-result");
    let mut waits = Vec::new();
    let begin = tokio::time::Instant::now() + pace * agent as u32 / agents as u32;
    for round in 0..rounds {
        tokio::time::sleep_until(begin + pace * round as u32).await;
        let body = post(agent, agents, round);
        let start = Instant::now();
        let answer = client.post(&url).header("X-API-Key", KEY).body(body).send().await.expect("the collector answers");
        let (status, said) = (answer.status().as_u16(), answer.json::<Value>().await.expect("it answers JSON"));
        waits.push(start.elapsed());
        assert_eq!((status, said), (200, json!({ "status": "ok" })));
    }
    waits
}
