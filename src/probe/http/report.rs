//! From what came of a run's requests to the fields of its row. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::failure::Failure;
use super::timing::Phases;
use crate::clock::{Timestamp, millis};
use crate::measurement::{Field, FieldInfo, Fields};
use crate::probe::{ADDRESS, DNS_STALE, Finding, Outcome};

const PING: Field<f64> = Field::float("http_ping_ms");
const STATUS: Field<i64> = Field::integer("http_status_code");
const DOWNLOAD: Field<f64> = Field::float("http_download_ms");
const DOWNLOAD_BYTES: Field<i64> = Field::integer("http_download_bytes");
const DOWNLOAD_STATUS: Field<i64> = Field::integer("http_download_status");
const UPLOAD: Field<f64> = Field::float("http_upload_ms");
const UPLOAD_STATUS: Field<i64> = Field::integer("http_upload_status");
const DNS: Field<f64> = Field::float("http_dns_ms");
const CONNECT: Field<f64> = Field::float("http_connect_ms");
const TLS: Field<f64> = Field::float("http_tls_ms");
const FIRST_BYTE: Field<f64> = Field::float("http_first_byte_ms");
const TRANSFER: Field<f64> = Field::float("http_transfer_ms");
const DOWNLOAD_MBPS: Field<f64> = Field::float("http_download_mbps");
const UPLOAD_MBPS: Field<f64> = Field::float("http_upload_mbps");
const TLS_DAYS_LEFT: Field<f64> = Field::float("http_tls_days_left");

/// Every field of an HTTP row beyond those of all kinds.
pub const FIELDS: &[FieldInfo] = &[
    PING.info(),
    STATUS.info(),
    DOWNLOAD.info(),
    DOWNLOAD_BYTES.info(),
    DOWNLOAD_STATUS.info(),
    UPLOAD.info(),
    UPLOAD_STATUS.info(),
    DNS.info(),
    CONNECT.info(),
    TLS.info(),
    FIRST_BYTE.info(),
    TRANSFER.info(),
    DOWNLOAD_MBPS.info(),
    UPLOAD_MBPS.info(),
    TLS_DAYS_LEFT.info(),
];

/// The status of a request that was not answered.
const NO_ANSWER: i64 = -1;

/// What came of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Visit {
    /// The status of the last answer that came, if one came.
    pub status: Option<u16>,
    /// The answer, if it came whole.
    pub answer: Option<Answer>,
    /// What went wrong, if something did; an answer may be whole and still have the wrong status.
    pub failure: Option<Failure>,
    /// Where it went first.
    pub address: Option<IpAddr>,
    /// Whether that was a last good address.
    pub stale: bool,
    /// Until when the certificate of the first server is valid.
    pub expires: Option<Timestamp>,
}

/// A whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where the time went.
    pub phases: Phases,
    /// How long its body was.
    pub bytes: u64,
}

/// What came of all requests of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Visits {
    /// The "HTTP ping".
    pub get: Visit,
    /// The download, if there is one.
    pub download: Option<Visit>,
    /// The upload, if there is one, and how many bytes it has.
    pub upload: Option<(Visit, u64)>,
}

/// What a run found that ended at `now`.
pub fn finding(visits: &Visits, now: Timestamp) -> Finding {
    let (outcome, error) = judge(visits);
    let mut fields = Fields::new();
    get(&visits.get, &mut fields);
    if let Some(visit) = &visits.download {
        status(DOWNLOAD_STATUS, visit, &mut fields);
        if let Some(answer) = visit.answer {
            fields.float(DOWNLOAD, millis(answer.phases.total())).integer(DOWNLOAD_BYTES, answer.bytes);
            rate(DOWNLOAD_MBPS, visit, answer.bytes, &mut fields);
        }
    }
    if let Some((visit, bytes)) = &visits.upload {
        status(UPLOAD_STATUS, visit, &mut fields);
        if let Some(answer) = visit.answer {
            fields.float(UPLOAD, millis(answer.phases.total()));
            rate(UPLOAD_MBPS, visit, *bytes, &mut fields);
        }
    }
    if let Some(expires) = all(visits).find_map(|(_, visit)| visit.expires) {
        fields.float(TLS_DAYS_LEFT, days(now, expires));
    }
    if let Some(address) = all(visits).find_map(|(_, visit)| visit.address) {
        fields.text(ADDRESS, address.to_string());
    }
    if all(visits).any(|(_, visit)| visit.stale) {
        fields.integer(DNS_STALE, 1);
    }
    Finding { outcome, error, fields }
}

fn get(visit: &Visit, fields: &mut Fields) {
    if let Some(Answer { phases, .. }) = visit.answer {
        fields.float(PING, millis(phases.total()));
        for (field, phase) in [(DNS, phases.dns), (CONNECT, phases.connect), (TLS, phases.tls)] {
            if let Some(phase) = phase {
                fields.float(field, millis(phase));
            }
        }
        fields.float(FIRST_BYTE, millis(phases.first_byte)).float(TRANSFER, millis(phases.transfer));
    }
    status(STATUS, visit, fields);
}

fn status(field: Field<i64>, visit: &Visit, fields: &mut Fields) {
    fields.integer(field, visit.status.map_or(NO_ANSWER, i64::from));
}

/// Megabits a second, of what went right: an error page says nothing of the path.
fn rate(field: Field<f64>, visit: &Visit, bytes: u64, fields: &mut Fields) {
    let took = visit.answer.map_or(Duration::ZERO, |answer| answer.phases.total()).as_secs_f64();
    if visit.failure.is_none() && took > 0.0 {
        fields.float(field, bytes as f64 * 8.0 / 1e6 / took);
    }
}

/// Days until then; negative if it is over.
fn days(now: Timestamp, then: Timestamp) -> f64 {
    const DAY: f64 = 86_400.0;
    then.since(now).as_secs_f64() / DAY - now.since(then).as_secs_f64() / DAY
}

/// The requests with their names, in order.
fn all(visits: &Visits) -> impl Iterator<Item = (&'static str, &Visit)> {
    let download = visits.download.as_ref().map(|visit| ("download", visit));
    let upload = visits.upload.as_ref().map(|(visit, _)| ("upload", visit));
    std::iter::once(("get", &visits.get)).chain(download).chain(upload)
}

/// All right: ok. Some: partial. None: as the first of them.
fn judge(visits: &Visits) -> (Outcome, Option<String>) {
    let failed: Vec<_> = all(visits).filter_map(|(name, visit)| Some((name, visit.failure.as_ref()?))).collect();
    let outcome = match failed.first() {
        None => return (Outcome::Ok, None),
        Some((_, first)) if failed.len() == all(visits).count() => first.outcome,
        Some(_) => Outcome::Partial,
    };
    let words: Vec<String> = failed.iter().map(|(name, failure)| format!("{name}: {}", failure.why)).collect();
    (outcome, Some(words.join("; ")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::measurement::Value;

    const NOW: Timestamp = Timestamp::from_nanos(1_767_225_600_000_000_000);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn good(bytes: u64) -> Visit {
        let phases = Phases { dns: Some(ms(1)), connect: Some(ms(2)), tls: Some(ms(3)), first_byte: ms(4), transfer: ms(90) };
        Visit {
            status: Some(200),
            answer: Some(Answer { phases, bytes }),
            failure: None,
            address: Some("192.0.2.1".parse().unwrap()),
            stale: true,
            expires: Some(NOW.plus(Duration::from_hours(36))),
        }
    }

    fn bad(outcome: Outcome) -> Visit {
        Visit { failure: Some(Failure::new(outcome, "why")), ..Visit::default() }
    }

    fn value(finding: &Finding, name: &str) -> Option<f64> {
        match finding.fields.get(name)? {
            Value::Float(value) => Some(*value),
            Value::Integer(value) => Some(*value as f64),
            Value::Text(_) => None,
        }
    }

    #[test]
    fn a_full_row_has_every_field_with_its_type() {
        let visits = Visits { get: good(0), download: Some(good(1_000_000)), upload: Some((good(0), 50_000)) };
        let finding = finding(&visits, NOW);
        assert_eq!((finding.outcome, &finding.error), (Outcome::Ok, &None));
        for field in FIELDS {
            assert_eq!(finding.fields.get(field.name).map(Value::kind), Some(field.kind), "{}", field.name);
        }
        let figures = ["http_ping_ms", "http_download_mbps", "http_upload_mbps", "http_tls_days_left", "dns_stale"];
        assert_eq!(figures.map(|name| value(&finding, name)), [Some(100.0), Some(80.0), Some(4.0), Some(1.5), Some(1.0)]);
    }

    #[test]
    fn what_was_not_answered_has_status_minus_one_and_no_time() {
        let visits = Visits { get: bad(Outcome::Timeout), download: Some(bad(Outcome::Refused)), upload: Some((bad(Outcome::Refused), 1)) };
        let finding = finding(&visits, NOW);
        assert_eq!(finding.outcome, Outcome::Timeout, "as the first");
        assert_eq!(finding.error.as_deref(), Some("get: why; download: why; upload: why"));
        let fields: Vec<_> = finding.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(fields, ["http_status_code=-1", "http_download_status=-1", "http_upload_status=-1"]);
    }

    #[test]
    fn what_was_not_asked_for_has_no_field() {
        let finding = finding(&Visits { get: good(0), ..Visits::default() }, NOW);
        assert!(finding.fields.iter().all(|(name, _)| !name.contains("load")), "{:?}", finding.fields);
    }

    #[test]
    fn one_of_several_that_failed_makes_it_partial() {
        let wrong = Visit { status: Some(500), failure: Some(Failure::new(Outcome::BadStatus, "status 500")), ..good(7) };
        let finding = finding(&Visits { get: good(0), download: Some(wrong), upload: None }, NOW);
        assert_eq!((finding.outcome, finding.error.as_deref()), (Outcome::Partial, Some("download: status 500")));
        assert_eq!(value(&finding, "http_download_status"), Some(500.0));
        assert_eq!(value(&finding, "http_download_bytes"), Some(7.0), "it came whole");
        assert_eq!(value(&finding, "http_download_mbps"), None, "but says nothing of the path");
    }

    #[test]
    fn a_certificate_that_is_over_has_negative_days() {
        let visit = Visit { expires: Some(NOW.minus(Duration::from_hours(12))), ..bad(Outcome::TlsError) };
        let finding = finding(&Visits { get: visit, ..Visits::default() }, NOW);
        assert_eq!(value(&finding, "http_tls_days_left"), Some(-0.5));
    }

    fn phase() -> impl Strategy<Value = Duration> {
        (0..400_000_000_000_u64).prop_map(Duration::from_nanos)
    }

    proptest! {
        #[test]
        fn phases_add_up_to_the_ping_within_a_microsecond(
            dns in proptest::option::of(phase()),
            connect in proptest::option::of(phase()),
            tls in proptest::option::of(phase()),
            first_byte in phase(),
            transfer in phase(),
        ) {
            let answer = Answer { phases: Phases { dns, connect, tls, first_byte, transfer }, bytes: 0 };
            let visits = Visits { get: Visit { answer: Some(answer), ..Visit::default() }, ..Visits::default() };
            let finding = finding(&visits, NOW);
            let names = ["http_dns_ms", "http_connect_ms", "http_tls_ms", "http_first_byte_ms", "http_transfer_ms"];
            let sum: f64 = names.iter().filter_map(|name| value(&finding, name)).sum();
            prop_assert!((sum - value(&finding, "http_ping_ms").unwrap()).abs() < 0.001);
        }
    }
}
