//! From what iperf3 wrote to the fields of a row. Pure.
//!
//! Everything in that output may have been made up by the server, or by whatever stands in for iperf3: it is read leniently,
//! believed only where it is plausible, and never makes qosd fail. What is not there was not measured.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use serde::Deserialize;

use super::process::{End, Output};
use super::test::{Direction, Protocol, Test};
use crate::measurement::{Field, FieldInfo, Fields};
use crate::probe::{Finding, Outcome};
use crate::settings::units::show_duration;

const BANDWIDTH: Field<f64> = Field::float("iperf_bandwidth_mbps");
const JITTER: Field<f64> = Field::float("iperf_jitter_ms");
const SENT: Field<f64> = Field::float("iperf_sent_mbps");
const RETRANSMITS: Field<i64> = Field::integer("iperf_retransmits");
const RTT: Field<f64> = Field::float("iperf_rtt_ms");
const LOST_PCT: Field<f64> = Field::float("iperf_lost_pct");
const LOST_PACKETS: Field<i64> = Field::integer("iperf_lost_packets");
const UDP: Field<f64> = Field::float("iperf_udp_mbps");
const DOWNLOAD: Field<f64> = Field::float("iperf_download_mbps");
const CPU_LOCAL: Field<f64> = Field::float("iperf_cpu_local_pct");
const CPU_REMOTE: Field<f64> = Field::float("iperf_cpu_remote_pct");

/// Every field of an iperf3 row beyond those of all kinds.
pub const FIELDS: &[FieldInfo] = &[
    BANDWIDTH.info(),
    JITTER.info(),
    SENT.info(),
    RETRANSMITS.info(),
    RTT.info(),
    LOST_PCT.info(),
    LOST_PACKETS.info(),
    UDP.info(),
    DOWNLOAD.info(),
    CPU_LOCAL.info(),
    CPU_REMOTE.info(),
];

/// No figure of a real test is larger, whatever its unit: a petabit per second, eleven days in milliseconds.
const PLAUSIBLE: f64 = 1e15;
/// The longest text of a program or a server in a row, in characters.
const LONGEST_TEXT: usize = 200;

/// Why a test has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// As what it counts.
    pub outcome: Outcome,
    /// What happened.
    pub why: String,
}

impl Failure {
    /// A failure and its reason.
    pub fn new(outcome: Outcome, why: impl Into<String>) -> Self {
        Self { outcome, why: why.into() }
    }
}

/// What came of one test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tested {
    /// What it measured.
    fields: Fields,
    /// Load of the processor on both sides, in percent of one.
    cpu: [Option<f64>; 2],
    /// Why that is not all, if it is not.
    failure: Option<Failure>,
}

impl From<Failure> for Tested {
    fn from(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }
}

impl Tested {
    /// As what it counts if it failed.
    pub fn failed_as(&self) -> Option<Outcome> {
        self.failure.as_ref().map(|failure| failure.outcome)
    }
}

/// What a run that made these tests found. All passed: ok. Some: partial. None: the most frequent cause, a tie goes to the
/// lowest code.
pub fn finding(tests: Vec<(Test, Tested)>) -> Finding {
    let mut fields = Fields::new();
    let mut causes: BTreeMap<Outcome, usize> = BTreeMap::new();
    let (mut words, all) = (Vec::new(), tests.len());
    let mut cpu = [None, None];
    for (test, tested) in tests {
        // Of an upload and a download, the upload says how it was sent.
        let first = fields.clone();
        fields.extend(tested.fields);
        fields.extend(first);
        for (most, this) in cpu.iter_mut().zip(tested.cpu) {
            *most = this.into_iter().chain(*most).reduce(f64::max);
        }
        if let Some(Failure { outcome, why }) = tested.failure {
            *causes.entry(outcome).or_default() += 1;
            words.push(format!("{test}: {why}"));
        }
    }
    for (field, figure) in [CPU_LOCAL, CPU_REMOTE].into_iter().zip(cpu) {
        set(&mut fields, field, figure);
    }
    let most = causes.iter().max_by_key(|(outcome, count)| (**count, std::cmp::Reverse(**outcome)));
    let outcome = match most {
        None => Outcome::Ok,
        Some((outcome, _)) if words.len() == all => *outcome,
        Some(_) => Outcome::Partial,
    };
    Finding { outcome, error: (!words.is_empty()).then(|| words.join("; ")), fields }
}

/// What came of a test that wrote this.
pub fn judge(test: &Test, output: &Output) -> Tested {
    let figures = match &output.end {
        End::Deadline(limit) => {
            let (limit, time) = (show_duration(limit), show_duration(&test.time()));
            Err(Failure::new(Outcome::Killed, format!("iperf3 had not ended after {limit}, the test takes {time}")))
        }
        End::TooMuch => Err(Failure::new(Outcome::ToolError, "iperf3 wrote more than is allowed")),
        End::Exited(status) => figures(output, *status),
    };
    match (figures, test.protocol) {
        (Err(failure), _) => failure.into(),
        (Ok(figures), Protocol::Tcp) => tcp(test, &figures),
        (Ok(figures), Protocol::Udp(_)) => udp(&figures),
    }
}

/// What iperf3 complains about, which it does with any exit status. Everything else is skipped.
#[derive(Deserialize)]
struct Complaint {
    #[serde(default)]
    error: Option<String>,
}

/// The part that has figures.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Report {
    end: Figures,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Figures {
    sum: Option<Sum>,
    sum_sent: Option<Sum>,
    sum_received: Option<Sum>,
    streams: Vec<Stream>,
    cpu_utilization_percent: Cpu,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Sum {
    bytes: Option<f64>,
    bits_per_second: Option<f64>,
    retransmits: Option<f64>,
    jitter_ms: Option<f64>,
    lost_packets: Option<f64>,
    packets: Option<f64>,
    lost_percent: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stream {
    sender: Option<Sender>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Sender {
    mean_rtt: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cpu {
    host_total: Option<f64>,
    remote_total: Option<f64>,
}

/// The complaint first, then the exit status, then the figures.
fn figures(output: &Output, status: ExitStatus) -> Result<Figures, Failure> {
    let complaint = serde_json::from_slice::<Complaint>(&output.stdout);
    if let Ok(Complaint { error: Some(error) }) = &complaint {
        return Err(understand(error));
    }
    if !status.success() {
        return Err(Failure::new(Outcome::ToolError, ended(status, &output.stderr)));
    }
    let report = complaint.and_then(|_| serde_json::from_slice::<Report>(&output.stdout));
    report
        .map(|report| report.end)
        .map_err(|error| Failure::new(Outcome::ToolError, format!("what iperf3 wrote cannot be read: {}", plain(&error.to_string()))))
}

/// What iperf3's own words mean.
fn understand(error: &str) -> Failure {
    const MEANINGS: [(&str, Outcome); 6] = [
        ("server is busy", Outcome::Busy),
        ("Connection refused", Outcome::Refused),
        ("No route to host", Outcome::Unreachable),
        ("Network is unreachable", Outcome::Unreachable),
        ("timed out", Outcome::Timeout),
        ("Operation not permitted", Outcome::LocalError),
    ];
    let known = MEANINGS.iter().find(|(words, _)| error.contains(words));
    Failure::new(known.map_or(Outcome::ToolError, |(_, outcome)| *outcome), plain(error))
}

fn ended(status: ExitStatus, stderr: &[u8]) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("iperf3 ended with status {code}"),
        (None, Some(signal)) => format!("iperf3 was killed by signal {signal}"),
        (None, None) => "iperf3 ended".to_owned(),
    };
    let words = String::from_utf8_lossy(stderr);
    match words.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{how}: {}", plain(line)),
        None => how,
    }
}

/// Short, and on one line.
fn plain(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text: String = text.trim().chars().take(LONGEST_TEXT).collect();
    if text.is_empty() { "no reason given".to_owned() } else { text }
}

fn tcp(test: &Test, figures: &Figures) -> Tested {
    let Some(received) = figures.sum_received.as_ref().and_then(|sum| mbps(sum.bits_per_second)) else {
        return missing("the bandwidth at the receiver");
    };
    let mut fields = Fields::new();
    fields.float(if test.direction == Direction::Upload { BANDWIDTH } else { DOWNLOAD }, received);
    let sent = figures.sum_sent.as_ref();
    let retransmits = sent.and_then(|sum| count(sum.retransmits));
    if let Some(sent) = sent.and_then(|sum| mbps(sum.bits_per_second)) {
        fields.float(SENT, sent);
    }
    if let Some(retransmits) = retransmits {
        fields.integer(RETRANSMITS, retransmits);
    }
    set(&mut fields, RTT, rtt_ms(&figures.streams));
    Tested { fields, cpu: cpu(figures), failure: None }
}

/// The mean over the streams that were sent from here; the others show zero.
fn rtt_ms(streams: &[Stream]) -> Option<f64> {
    let rtts = streams.iter().filter_map(|stream| plausible(stream.sender.as_ref()?.mean_rtt).filter(|rtt| *rtt > 0.0));
    let (sum, n) = rtts.fold((0.0, 0.0), |(sum, n), rtt| (sum + rtt, n + 1.0));
    (n > 0.0).then(|| sum / n / 1e3)
}

fn udp(figures: &Figures) -> Tested {
    let Some(sum) = &figures.sum else { return missing("the sum of the datagrams") };
    let mut fields = Fields::new();
    let received = figures.sum_received.as_ref();
    set(&mut fields, UDP, received.and_then(|sum| mbps(sum.bits_per_second)));
    let sent = count(sum.packets).unwrap_or_default();
    let cpu = cpu(figures);
    if sent > 0 && received.is_some_and(|sum| sum.bytes == Some(0.0)) {
        // iperf3 sees gaps between datagrams that arrive: where none does it tells of no loss, and of a jitter of 0.
        fields.float(LOST_PCT, 100.0).integer(LOST_PACKETS, sent);
        return Tested { fields, cpu, failure: Some(Failure::new(Outcome::Timeout, "no datagram arrived")) };
    }
    let Some(jitter) = plausible(sum.jitter_ms).filter(|_| sent > 0) else { return missing("the jitter") };
    fields.float(JITTER, jitter);
    // Duplicates make iperf3 count negative losses, which say nothing.
    if let (Some(percent), Some(packets)) = (plausible(sum.lost_percent).filter(|percent| *percent <= 100.0), count(sum.lost_packets)) {
        fields.float(LOST_PCT, percent).integer(LOST_PACKETS, packets);
    }
    Tested { fields, cpu, failure: None }
}

fn missing(what: &str) -> Tested {
    Failure::new(Outcome::ToolError, format!("what iperf3 wrote has not {what}")).into()
}

fn cpu(figures: &Figures) -> [Option<f64>; 2] {
    let Cpu { host_total, remote_total } = figures.cpu_utilization_percent;
    [plausible(host_total), plausible(remote_total)]
}

fn mbps(bits_per_second: Option<f64>) -> Option<f64> {
    plausible(bits_per_second).map(|bits| bits / 1e6)
}

fn count(figure: Option<f64>) -> Option<u64> {
    plausible(figure).filter(|figure| figure.fract() == 0.0).map(|figure| figure as u64)
}

fn plausible(figure: Option<f64>) -> Option<f64> {
    figure.filter(|figure| (0.0..=PLAUSIBLE).contains(figure))
}

fn set(fields: &mut Fields, field: Field<f64>, figure: Option<f64>) {
    if let Some(figure) = figure {
        fields.float(field, figure);
    }
}

#[cfg(test)]
mod tests;
