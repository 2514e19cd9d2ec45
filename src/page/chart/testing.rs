//! Ranges for tests.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::history::range::{Column, Range, Span, Spread};
use crate::probe::Outcome;

/// 2026-01-31T12:00:00Z.
pub(crate) const NOON: Timestamp = Timestamp::from_nanos(1_769_860_800_000_000_000);

pub(crate) fn at(second: u64) -> Timestamp {
    NOON.plus(Duration::from_secs(second))
}

/// Of the same value everywhere.
pub(crate) fn spread(value: f64) -> Spread {
    Spread { min: value, low: value, median: value, high: value, max: value, mean: value, rows: 1 }
}

/// A row of ping at a second after noon: with this round-trip time, or without a reply.
pub(crate) fn column(second: u64, rtt: &[f64]) -> Column {
    let figures = rtt.iter().map(|rtt| ("ping_avg_ms", spread(*rtt))).collect();
    let outcome = if rtt.is_empty() { Outcome::Timeout } else { Outcome::Ok };
    Column { start: at(second), width: Duration::from_mins(1), outcomes: vec![(outcome, 1)], loaded: 0, figures }
}

/// So many seconds from noon on, with a slot every so many seconds.
pub(crate) fn range(length: u64, step: u64, columns: Vec<Column>) -> Range {
    Range {
        span: Span { from: NOON, to: at(length) },
        step: Duration::from_secs(step),
        single: true,
        columns,
        events: Vec::new(),
        lacking: None,
    }
}

/// Numbers from 0 to 1 that look as if they came by chance, and are always the same.
pub(crate) fn noise(n: u64) -> f64 {
    let mut x = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// How the values around one may lie.
fn around(value: f64, n: u64) -> Spread {
    let (down, up) = (value * 0.1 * noise(n), value * 0.5 * noise(n + 7));
    Spread {
        min: value - down,
        low: value - down / 2.0,
        median: value,
        high: value + up / 3.0,
        max: value + up,
        mean: value * 1.01,
        rows: 12,
    }
}

/// A column with everything that rows of any kind have, all of it restless.
pub(crate) fn busy(n: u64, width: u64) -> Column {
    let wave = 12.0 + 6.0 * (n as f64 / 60.0).sin() + 8.0 * noise(n);
    let loss = if noise(n + 100_000) > 0.7 { 40.0 * noise(n + 200_000) } else { 0.0 };
    let mut figures =
        vec![("ping_avg_ms", around(wave, n)), ("ping_packet_loss_pct", spread(loss)), ("ping_jitter_ms", around(wave / 9.0, n + 3))];
    for (field, share) in crate::page::chart::shapes::PHASES.into_iter().zip([0.05, 0.2, 0.25, 0.4, 0.1]) {
        figures.push((field, around(wave * share, n + 11)));
    }
    figures.push(("http_ping_ms", around(wave, n + 11)));
    for (field, size) in [
        ("http_download_mbps", 90.0),
        ("http_upload_mbps", 40.0),
        ("iperf_bandwidth_mbps", 900.0),
        ("iperf_download_mbps", 870.0),
        ("iperf_udp_mbps", 100.0),
        ("iperf_jitter_ms", 0.05),
        ("iperf_retransmits", 30.0),
    ] {
        figures.push((field, around(size * (0.9 + 0.1 * noise(n + size as u64)), n + 5)));
    }
    figures.push(("iperf_lost_pct", spread(loss / 10.0)));
    let outcomes = vec![(Outcome::Ok, 10), (Outcome::Partial, u32::from(loss > 0.0)), (Outcome::Skipped, u32::from(noise(n + 9) > 0.98))];
    Column { start: at(n * width), width: Duration::from_secs(width), outcomes, loaded: u32::from(n % 97 < 4), figures }
}
