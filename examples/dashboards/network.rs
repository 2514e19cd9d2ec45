//! The dashboard of the network: what ping, HTTP and iperf3 found, and how their runs ended.

use super::ask::Aggregate::{Last, Max, Min, Sum};
use super::ask::SERIES;
use super::panel::Shape::{Bars, Lines, Results, Smoke, Stacked, Table};
use super::panel::{Board, Origin, Panel, Section, Variable};

const CHOSEN: &[(&str, &str)] = &[("source", "source"), ("probe", "probe"), ("target", "target"), ("family", "family")];
/// Of a panel that is repeated.
const CHOSEN_OF_PING: &[(&str, &str)] = &[("source", "source"), ("probe", "probe"), ("target", "ping_target"), ("family", "family")];
/// Of one kind of probe: its name says which.
const LINE: &[&str] = &["target", "source", "probe", "family"];
const ROWS: Origin = Origin { measurement: "qos_metrics", by: LINE, chosen: CHOSEN };

pub(crate) fn board() -> Board {
    Board {
        name: "network",
        title: "qosd: the network",
        description: "What qosd measured: ping, HTTP and iperf3. Every figure is explained in docs/measurements.md.",
        variables: vec![
            variable("source", &[]),
            variable("probe", &CHOSEN[..1]),
            variable("target", &CHOSEN[..2]),
            variable("family", &CHOSEN[..3]),
            Variable { name: "ping_target", tag: "target", only: Some(("kind", "ping")), hidden: true, ..variable("target", CHOSEN) },
        ],
        sections: vec![
            Section { title: "Results", closed: false, panels: results() },
            Section { title: "Ping", closed: false, panels: ping() },
            Section { title: "HTTP", closed: false, panels: http() },
            Section { title: "iperf3", closed: false, panels: iperf3() },
            Section { title: "Smoke charts of ping, one for each target", closed: true, panels: vec![smoke()] },
        ],
    }
}

fn variable(tag: &'static str, chosen: &'static [(&'static str, &'static str)]) -> Variable {
    Variable { name: tag, measurements: &["qos_metrics"], tag, only: None, chosen, hidden: false }
}

fn results() -> Vec<Panel> {
    let rows = ROWS.by(SERIES);
    vec![
        Panel::new(Results, "Results over time", "short", "How runs ended; of several in one step the highest code. Nothing at all: qosd, its host or the way to the database was away.", vec![
            rows.steps(Max, "result_code", "result"),
        ])
        .sized(24, 9),
        Panel::new(Table, "Last result", "short", "The last one of each series in the time that is looked at.", vec![rows.whole(Last, "result_code", "result")])
            .sized(16, 9),
        Panel::new(Bars, "Runs during a throughput test", "short", "Runs that a throughput test of this agent, or on its server, overlapped: their figures are not the network's alone. Leave them out with \"loaded\" = 0.", vec![
            ROWS.steps(Sum, "loaded", "loaded"),
        ])
        .sized(8, 9),
    ]
}

fn ping() -> Vec<Panel> {
    vec![
        Panel::new(
            Lines,
            "Loss",
            "percent",
            "Mean loss of the runs in a step. What this host did not send, or dropped itself, is not in it.",
            vec![ROWS.mean("ping_packet_loss_pct", "loss")],
        )
        .sized(24, 7)
        .warns(0.1, 1.0),
        Panel::new(
            Lines,
            "ping_avg_ms",
            "ms",
            "Mean round-trip time. One slow reply moves it; the median is among the quantiles.",
            vec![ROWS.mean("ping_avg_ms", "avg")],
        ),
        Panel::new(
            Lines,
            "ping_min_ms",
            "ms",
            "Shortest round trip of a run: it moves when the path does.",
            vec![ROWS.mean("ping_min_ms", "min")],
        ),
        Panel::new(Lines, "ping_max_ms", "ms", "Longest round trip of a run.", vec![ROWS.mean("ping_max_ms", "max")]),
        Panel::new(
            Lines,
            "ping_jitter_ms",
            "ms",
            "Mean absolute difference of consecutive round trips.",
            vec![ROWS.mean("ping_jitter_ms", "jitter")],
        ),
        Panel::new(
            Lines,
            "Quantiles",
            "ms",
            "Of the packets of a run; mean of the runs in a step. Runs of few packets have the same p95, p99 and maximum.",
            vec![ROWS.mean("ping_p50_ms", "p50"), ROWS.mean("ping_p95_ms", "p95"), ROWS.mean("ping_p99_ms", "p99")],
        ),
        Panel::new(
            Lines,
            "Jitter by other definitions",
            "ms",
            "RFC 3550's smoothed jitter, the standard deviation, and the p99 above the minimum (RFC 5481).",
            vec![
                ROWS.mean("ping_jitter_rfc3550_ms", "RFC 3550"),
                ROWS.mean("ping_stddev_ms", "deviation"),
                ROWS.mean("ping_pdv_p99_ms", "PDV p99"),
            ],
        ),
        Panel::new(
            Bars,
            "Packets",
            "short",
            "Sent and received, of all that is chosen.",
            vec![ROWS.by(&[]).steps(Sum, "ping_sent", "sent"), ROWS.by(&[]).steps(Sum, "ping_received", "received")],
        ),
        Panel::new(
            Bars,
            "Packets that went wrong",
            "short",
            "Of all that is chosen. Local errors and local drops are this host's, not the network's.",
            vec![
                ROWS.by(&[]).steps(Sum, "ping_duplicates", "duplicates"),
                ROWS.by(&[]).steps(Sum, "ping_reordered", "reordered"),
                ROWS.by(&[]).steps(Sum, "ping_late", "late"),
                ROWS.by(&[]).steps(Sum, "ping_corrupt", "corrupt"),
                ROWS.by(&[]).steps(Sum, "ping_icmp_errors", "ICMP errors"),
                ROWS.by(&[]).steps(Sum, "ping_local_errors", "local errors"),
                ROWS.by(&[]).steps(Sum, "ping_local_drops", "local drops"),
            ],
        ),
        Panel::new(Lines, "TTL of replies", "short", "It changes when the way back does.", vec![ROWS.steps(Last, "ping_ttl", "TTL")]),
    ]
}

fn http() -> Vec<Panel> {
    vec![
        Panel::new(
            Lines,
            "http_ping_ms",
            "ms",
            "A GET, from its start to the last byte of the answer.",
            vec![ROWS.mean("http_ping_ms", "GET")],
        ),
        Panel::new(
            Lines,
            "http_download_ms",
            "ms",
            "A download, from its start to the last byte.",
            vec![ROWS.mean("http_download_ms", "download")],
        ),
        Panel::new(
            Lines,
            "http_upload_ms",
            "ms",
            "An upload, from its start to the last byte of the answer.",
            vec![ROWS.mean("http_upload_ms", "upload")],
        ),
        Panel::new(
            Stacked,
            "Where the time of a GET goes",
            "ms",
            "Mean of all that is chosen; the phases add up to http_ping_ms. Choose one target for its own.",
            vec![
                ROWS.by(&[]).mean("http_dns_ms", "name"),
                ROWS.by(&[]).mean("http_connect_ms", "connection"),
                ROWS.by(&[]).mean("http_tls_ms", "TLS"),
                ROWS.by(&[]).mean("http_first_byte_ms", "first byte"),
                ROWS.by(&[]).mean("http_transfer_ms", "transfer"),
            ],
        )
        .sized(16, 8),
        Panel::new(
            Lines,
            "http_download_bytes",
            "bytes",
            "Length of what was downloaded.",
            vec![ROWS.mean("http_download_bytes", "bytes")],
        ),
        Panel::new(
            Lines,
            "Throughput of HTTP",
            "Mbits",
            "The set-up of the connection is part of the time, so small bodies look slow.",
            vec![ROWS.mean("http_download_mbps", "download"), ROWS.mean("http_upload_mbps", "upload")],
        ),
        Panel::new(
            Lines,
            "Status",
            "none",
            "The last in a step; -1 when no answer came.",
            vec![
                ROWS.steps(Last, "http_status_code", "GET"),
                ROWS.steps(Last, "http_download_status", "download"),
                ROWS.steps(Last, "http_upload_status", "upload"),
            ],
        ),
        Panel::new(
            Lines,
            "Days that the certificate has left",
            "d",
            "Of the first server; negative when it has ended.",
            vec![ROWS.steps(Min, "http_tls_days_left", "days")],
        )
        .warns(21.0, 7.0),
    ]
}

fn iperf3() -> Vec<Panel> {
    vec![
        Panel::new(
            Lines,
            "iperf_bandwidth_mbps",
            "Mbits",
            "Payload of the TCP upload, as the receiver counted it.",
            vec![ROWS.mean("iperf_bandwidth_mbps", "received")],
        )
        .hourly(),
        Panel::new(
            Lines,
            "Throughput as sent, downloaded, and by UDP",
            "Mbits",
            "What is still in buffers counts as sent.",
            vec![ROWS.mean("iperf_sent_mbps", "sent"), ROWS.mean("iperf_download_mbps", "download"), ROWS.mean("iperf_udp_mbps", "UDP")],
        )
        .hourly(),
        Panel::new(
            Bars,
            "Retransmits",
            "short",
            "TCP segments that were sent again.",
            vec![ROWS.steps(Sum, "iperf_retransmits", "retransmits")],
        ),
        Panel::new(
            Lines,
            "Jitter of UDP",
            "ms",
            "Smoothed differences of the datagrams' transit times (RFC 3550).",
            vec![ROWS.mean("iperf_jitter_ms", "jitter")],
        )
        .hourly(),
        Panel::new(
            Lines,
            "Loss of UDP",
            "percent",
            "At the bit rate that the probe was told; mean of the runs in a step.",
            vec![ROWS.mean("iperf_lost_pct", "loss")],
        )
        .hourly()
        .warns(0.1, 1.0),
        Panel::new(Bars, "Datagrams lost", "short", "How many those were.", vec![ROWS.steps(Sum, "iperf_lost_packets", "lost")]),
        Panel::new(
            Lines,
            "Round-trip time under load",
            "ms",
            "TCP's own, with the queue that the test itself makes.",
            vec![ROWS.mean("iperf_rtt_ms", "RTT")],
        )
        .hourly(),
        Panel::new(
            Lines,
            "Processor of both sides",
            "percent",
            "Near 100: the host was measured, not the path.",
            vec![ROWS.mean("iperf_cpu_local_pct", "here"), ROWS.mean("iperf_cpu_remote_pct", "there")],
        )
        .hourly()
        .warns(80.0, 95.0),
    ]
}

fn smoke() -> Panel {
    let rows = Origin { by: &[], chosen: CHOSEN_OF_PING, ..ROWS };
    Panel::new(Smoke, "$ping_target", "ms", "The band from the shortest to the longest round trip of all runs in a step, with their mean p50, p95 and p99. Choose one source if several measure this target.", vec![
        rows.steps(Min, "ping_min_ms", "min"),
        rows.steps(Max, "ping_max_ms", "max"),
        rows.mean("ping_p99_ms", "p99"),
        rows.mean("ping_p95_ms", "p95"),
        rows.mean("ping_p50_ms", "p50"),
    ])
    .sized(12, 8)
    .repeated("ping_target")
}
