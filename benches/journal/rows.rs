//! Rows as the probes make them: random results of runs go through the probes' own code, so that fields, texts and their
//! lengths are those of a service that measures.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use qosd::clock::Timestamp;
use qosd::measurement::{Field, Fields, Row, Series, Value};
use qosd::probe::http::report::{Answer, Visit, Visits};
use qosd::probe::http::timing::Phases;
use qosd::probe::iperf3::process::{End, Output};
use qosd::probe::iperf3::test::{Direction, Protocol, Test};
use qosd::probe::ping::flight::Stamps;
use qosd::probe::ping::run::Tally;
use qosd::probe::{ADDRESS, Finding, Naming, http, iperf3, ping};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What iperf3 really wrote; the figures are varied.
const TCP: &[u8] = include_bytes!("../../tests/data/iperf3/tcp_upload.json");
const UDP: &[u8] = include_bytes!("../../tests/data/iperf3/udp_upload.json");
/// Echoes of a run of ping.
const ECHOES: usize = 5;
/// From slot to slot of a series.
pub(crate) const INTERVAL: Duration = Duration::from_mins(1);

/// Whose rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Full ping rows: every echo answered, every figure there.
    Ping,
    /// With download and upload.
    Http,
    /// TCP and UDP.
    Iperf3,
    /// Eighty of ping, some with a loss, fifteen of HTTP and five of iperf3 in a hundred.
    Mixed,
}

/// Makes rows of many series with a row a minute each.
pub(crate) struct Maker {
    random: StdRng,
    series: Vec<(Kind, IpAddr, Series)>,
    lossy: bool,
    /// What iperf3's figures are made of, as reading its JSON each time would take longer than everything else.
    iperf3: Fields,
    begin: Timestamp,
    made: u64,
}

impl Maker {
    /// Of so many series, from `begin` on. The same arguments give the same rows.
    pub(crate) fn new(kind: Kind, series: usize, begin: Timestamp) -> Self {
        let named = (0..series).map(|index| {
            let kind = match (kind, index % 20) {
                (Kind::Mixed, 0) => Kind::Iperf3,
                (Kind::Mixed, 1..=3) => Kind::Http,
                (Kind::Mixed, _) => Kind::Ping,
                (kind, _) => kind,
            };
            let address = IpAddr::V4(Ipv4Addr::new(203, 0, (index >> 8) as u8, index as u8));
            (kind, address, series_of(kind, address))
        });
        let (series, lossy) = (named.collect(), kind == Kind::Mixed);
        Self { random: StdRng::seed_from_u64(1), series, lossy, iperf3: tested(), begin, made: 0 }
    }

    /// The next so many, in the order of their slots.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Row> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> Row {
        let (round, index) = (self.made / self.series.len() as u64, self.made as usize % self.series.len());
        self.made += 1;
        let (kind, address, series) = self.series[index].clone();
        // The slots of series are spread over the interval, and no slot is at a whole second.
        let phase = INTERVAL * index as u32 / self.series.len() as u32 + Duration::from_nanos(123_457);
        let time = self.begin.plus(INTERVAL * round as u32 + phase);
        let fields = match kind {
            Kind::Ping | Kind::Mixed => self.ping(address).into_fields(None),
            Kind::Http => self.http(address).into_fields(None),
            Kind::Iperf3 => self.iperf3().into_fields(None),
        };
        Row { series, time, fields }
    }

    fn ping(&mut self, address: IpAddr) -> Finding {
        let lost = if self.lossy && self.random.random_bool(0.01) { self.random.random_range(1..ECHOES) } else { 0 };
        let base = 20_000 + 37_000 * u64::from(self.random.random::<u8>() % 4);
        let rtts = (lost..ECHOES).map(|_| Duration::from_nanos(base * 1000 + self.random.random_range(0..2_000_000))).collect();
        let tally =
            Tally { sent: ECHOES as u64, rtts, silent: lost as u64, ttl: Some(57), stamps: Some(Stamps::Kernel), ..Tally::default() };
        ping::report::finding(address, &tally)
    }

    fn http(&mut self, address: IpAddr) -> Finding {
        let mut visit = |bytes| {
            let mut millis = |from: u64, to: u64| Duration::from_nanos(self.random.random_range(from * 1_000_000..to * 1_000_000));
            let (dns, connect) = (Some(millis(1, 5)), Some(millis(10, 30)));
            let phases = Phases { dns, connect, tls: None, first_byte: millis(10, 30), transfer: millis(1, 90) };
            Visit { status: Some(200), answer: Some(Answer { phases, bytes }), address: Some(address), ..Visit::default() }
        };
        let visits = Visits { get: visit(612), download: Some(visit(102_400)), upload: Some((visit(0), 102_400)) };
        http::report::finding(&visits, self.begin)
    }

    fn iperf3(&mut self) -> Finding {
        let mut fields = Fields::new();
        for (name, value) in self.iperf3.iter() {
            let varied = match value {
                Value::Float(float) => Value::Float(float * self.random.random_range(0.9..1.1)),
                value => value.clone(),
            };
            fields.put(name, varied);
        }
        Finding { outcome: qosd::probe::Outcome::Ok, error: None, fields }
    }
}

fn series_of(kind: Kind, address: IpAddr) -> Series {
    let (kind, family) = match kind {
        Kind::Ping | Kind::Mixed => ("ping", "ipv4"),
        Kind::Http => ("http", "auto"),
        Kind::Iperf3 => ("iperf3", "ipv4"),
    };
    let naming = Naming { agent: "rome-1".to_owned(), kind, probe: "core".to_owned() };
    naming.series(&address.to_string(), family, &BTreeMap::new())
}

/// What a run with both protocols measured.
fn tested() -> Fields {
    let ten = Duration::from_secs(10);
    let test = |protocol| Test { protocol, direction: Direction::Upload, duration: ten, omit: Duration::ZERO, streams: 1 };
    let wrote = |json: &[u8]| Output { stdout: json.to_vec(), stderr: Vec::new(), end: End::Exited(ExitStatus::from_raw(0)) };
    let (tcp, udp) = (test(Protocol::Tcp), test(Protocol::Udp(10_000_000)));
    let tested = vec![(tcp, iperf3::report::judge(&tcp, &wrote(TCP))), (udp, iperf3::report::judge(&udp, &wrote(UDP)))];
    let mut fields = iperf3::report::finding(tested).fields;
    let address: Field<String> = ADDRESS;
    fields.text(address, "203.0.113.7");
    fields
}
