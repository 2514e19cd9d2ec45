//! From the fates of a run's packets to the fields of its row. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::packet::{Family, IcmpError};
use super::run::Tally;
use crate::measurement::{Field, FieldInfo, Fields};
use crate::probe::summary::{Rtts, loss_pct};
use crate::probe::{ADDRESS, Finding, Outcome};

const AVG: Field<f64> = Field::float("ping_avg_ms");
const MIN: Field<f64> = Field::float("ping_min_ms");
const MAX: Field<f64> = Field::float("ping_max_ms");
const JITTER: Field<f64> = Field::float("ping_jitter_ms");
const LOSS: Field<f64> = Field::float("ping_packet_loss_pct");
const SENT: Field<i64> = Field::integer("ping_sent");
const RECEIVED: Field<i64> = Field::integer("ping_received");
const DUPLICATES: Field<i64> = Field::integer("ping_duplicates");
const REORDERED: Field<i64> = Field::integer("ping_reordered");
const LATE: Field<i64> = Field::integer("ping_late");
const CORRUPT: Field<i64> = Field::integer("ping_corrupt");
const ICMP_ERRORS: Field<i64> = Field::integer("ping_icmp_errors");
const LOCAL_ERRORS: Field<i64> = Field::integer("ping_local_errors");
const LOCAL_DROPS: Field<i64> = Field::integer("ping_local_drops");
const P50: Field<f64> = Field::float("ping_p50_ms");
const P95: Field<f64> = Field::float("ping_p95_ms");
const P99: Field<f64> = Field::float("ping_p99_ms");
const STDDEV: Field<f64> = Field::float("ping_stddev_ms");
const JITTER_RFC3550: Field<f64> = Field::float("ping_jitter_rfc3550_ms");
const PDV_P99: Field<f64> = Field::float("ping_pdv_p99_ms");
const TTL: Field<i64> = Field::integer("ping_ttl");
/// Which clocks made the round-trip times: `kernel`, `kernel_rx` or `user`.
pub const TIMESTAMPS: Field<String> = Field::text("ping_timestamps");

/// Every field of a ping row beyond those of all kinds.
pub const FIELDS: &[FieldInfo] = &[
    AVG.info(),
    MIN.info(),
    MAX.info(),
    JITTER.info(),
    LOSS.info(),
    SENT.info(),
    RECEIVED.info(),
    DUPLICATES.info(),
    REORDERED.info(),
    LATE.info(),
    CORRUPT.info(),
    ICMP_ERRORS.info(),
    LOCAL_ERRORS.info(),
    LOCAL_DROPS.info(),
    P50.info(),
    P95.info(),
    P99.info(),
    STDDEV.info(),
    JITTER_RFC3550.info(),
    PDV_P99.info(),
    TTL.info(),
    TIMESTAMPS.info(),
];

/// What a run to `address` found.
pub fn finding(address: IpAddr, tally: &Tally) -> Finding {
    let (outcome, error) = judge(tally);
    let mut fields = Fields::new();
    figures(tally, &mut fields);
    fields.text(ADDRESS, address.to_string());
    Finding { outcome, error, fields }
}

fn figures(tally: &Tally, fields: &mut Fields) {
    let (received, not_sent) = (tally.rtts.len() as u64, tally.local_errors.len() as u64);
    let rtts = Rtts::of(&tally.rtts);
    let jitters = rtts.as_ref().and_then(|rtts| rtts.jitter_ms.zip(rtts.jitter_rfc3550_ms));
    if let Some(rtts) = &rtts {
        fields.float(AVG, rtts.avg_ms).float(MIN, rtts.min_ms).float(MAX, rtts.max_ms);
    }
    if let Some((jitter, _)) = jitters {
        fields.float(JITTER, jitter);
    }
    if let Some(loss) = loss_pct(tally.sent, received, not_sent + tally.local_drops) {
        fields.float(LOSS, loss);
    }
    fields.integer(SENT, tally.sent).integer(RECEIVED, received);
    fields.integer(DUPLICATES, tally.duplicates).integer(REORDERED, tally.reordered);
    fields.integer(LATE, tally.late).integer(CORRUPT, tally.corrupt);
    fields.integer(ICMP_ERRORS, tally.icmp_errors.len() as u64);
    fields.integer(LOCAL_ERRORS, not_sent).integer(LOCAL_DROPS, tally.local_drops);
    if let Some(rtts) = &rtts {
        fields.float(P50, rtts.p50_ms).float(P95, rtts.p95_ms).float(P99, rtts.p99_ms);
        fields.float(STDDEV, rtts.stddev_ms).float(PDV_P99, rtts.pdv_p99_ms);
    }
    if let Some((_, smoothed)) = jitters {
        fields.float(JITTER_RFC3550, smoothed);
    }
    if let Some(ttl) = tally.ttl {
        fields.integer(TTL, ttl);
    }
    if let Some(stamps) = tally.stamps {
        fields.text(TIMESTAMPS, stamps.name());
    }
}

/// All answered: ok. Some: partial. None: the most frequent cause, a tie goes to the lowest code.
fn judge(tally: &Tally) -> (Outcome, Option<String>) {
    let received = tally.rtts.len() as u64;
    let missing = tally.sent - received;
    if missing == 0 {
        return (Outcome::Ok, None);
    }
    let causes = causes(tally);
    let words: Vec<String> =
        causes.values().flatten().map(|(why, count)| if *count == missing { why.clone() } else { format!("{count} {why}") }).collect();
    let words = words.join(", ");
    if received > 0 {
        return (Outcome::Partial, Some(format!("{missing} of {} unanswered: {words}", tally.sent)));
    }
    let most = causes.iter().max_by_key(|(outcome, why)| (why.values().sum::<u64>(), std::cmp::Reverse(**outcome)));
    (most.map_or(Outcome::Timeout, |(outcome, _)| *outcome), Some(words))
}

/// How many packets have which outcome, and in which words.
fn causes(tally: &Tally) -> BTreeMap<Outcome, BTreeMap<String, u64>> {
    let mut causes: BTreeMap<Outcome, BTreeMap<String, u64>> = BTreeMap::new();
    let mut count = |outcome, why: String, by| *causes.entry(outcome).or_default().entry(why).or_default() += by;
    if tally.silent > 0 {
        count(Outcome::Timeout, "no reply in time".to_owned(), tally.silent);
    }
    if tally.late > 0 {
        count(Outcome::Timeout, "reply after the time-out".to_owned(), tally.late);
    }
    if tally.corrupt > 0 {
        count(Outcome::Timeout, "damaged reply".to_owned(), tally.corrupt);
    }
    for (error, from) in &tally.icmp_errors {
        count(meaning(*error), format!("{} from {from}", error.describe()), 1);
    }
    if tally.local_drops > 0 {
        count(Outcome::LocalError, "receive buffer of this host overflowed".to_owned(), tally.local_drops);
    }
    for why in &tally.local_errors {
        count(Outcome::LocalError, format!("not sent: {why}"), 1);
    }
    causes
}

/// What an ICMP error means for the run. RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7; RFC 4443 section 3.
fn meaning(error: IcmpError) -> Outcome {
    match (error.family, error.icmp_type, error.code) {
        (Family::V4, 3, 9 | 10 | 13..=15) | (Family::V6, 1, 1 | 5 | 6) => Outcome::Prohibited,
        (Family::V4, 11, _) | (Family::V6, 3, _) => Outcome::TtlExceeded,
        _ => Outcome::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::Value;
    use crate::probe::ping::flight::Stamps;
    use std::time::Duration;

    const ADDRESS: &str = "192.0.2.1";

    fn found(tally: &Tally) -> Finding {
        finding(ADDRESS.parse().unwrap(), tally)
    }

    fn error(code: u8) -> (IcmpError, IpAddr) {
        (IcmpError { family: Family::V4, icmp_type: 3, code }, "10.0.0.1".parse().unwrap())
    }

    #[test]
    fn a_full_row_has_every_field_that_applies() {
        let rtts = vec![Duration::from_millis(1), Duration::from_millis(3)];
        let tally = Tally { sent: 2, rtts, ttl: Some(64), stamps: Some(Stamps::KernelRx), ..Tally::default() };
        let finding = found(&tally);
        assert_eq!((finding.outcome, &finding.error), (Outcome::Ok, &None));
        for field in FIELDS {
            assert_eq!(finding.fields.get(field.name).map(Value::kind), Some(field.kind), "{}", field.name);
        }
    }

    #[test]
    fn total_loss_is_loss_100_and_no_round_trip_time() {
        let finding = found(&Tally { sent: 5, silent: 5, ..Tally::default() });
        assert_eq!(finding.outcome, Outcome::Timeout);
        assert_eq!(finding.error.as_deref(), Some("no reply in time"));
        assert_eq!(finding.fields.get("ping_packet_loss_pct"), Some(&Value::Float(100.0)));
        assert!(finding.fields.iter().all(|(name, _)| !name.ends_with("_ms")));
    }

    #[test]
    fn what_was_never_sent_is_no_loss() {
        let finding = found(&Tally { sent: 2, local_errors: vec!["EPERM".into(), "EPERM".into()], ..Tally::default() });
        assert_eq!((finding.outcome, finding.error.as_deref()), (Outcome::LocalError, Some("not sent: EPERM")));
        assert_eq!(finding.fields.get("ping_packet_loss_pct"), None);
        assert_eq!(finding.fields.get("ping_local_errors"), Some(&Value::Integer(2)));
    }

    #[test]
    fn some_replies_make_a_partial_run() {
        let tally =
            Tally { sent: 4, rtts: vec![Duration::from_millis(1)], silent: 1, late: 1, icmp_errors: vec![error(1)], ..Tally::default() };
        let finding = found(&tally);
        assert_eq!(finding.outcome, Outcome::Partial);
        let words = "3 of 4 unanswered: 1 no reply in time, 1 reply after the time-out, 1 host unreachable from 10.0.0.1";
        assert_eq!(finding.error.as_deref(), Some(words));
        assert_eq!(finding.fields.get("ping_packet_loss_pct"), Some(&Value::Float(75.0)));
    }

    #[test]
    fn the_most_frequent_cause_wins_and_a_tie_goes_to_the_lowest_code() {
        let table = [
            (Tally { sent: 3, silent: 2, icmp_errors: vec![error(1)], ..Tally::default() }, Outcome::Timeout),
            (Tally { sent: 3, silent: 1, icmp_errors: vec![error(1), error(13)], ..Tally::default() }, Outcome::Timeout),
            (Tally { sent: 2, icmp_errors: vec![error(1), error(13)], ..Tally::default() }, Outcome::Unreachable),
            (Tally { sent: 3, icmp_errors: vec![error(13), error(1), error(10)], ..Tally::default() }, Outcome::Prohibited),
            (Tally { sent: 2, silent: 1, local_errors: vec!["ENOBUFS".into()], ..Tally::default() }, Outcome::Timeout),
        ];
        for (tally, outcome) in table {
            assert_eq!(found(&tally).outcome, outcome, "{tally:?}");
        }
    }

    #[test]
    fn codes_mean_what_the_rfcs_say() {
        let table = [
            (Family::V4, 3, 0, Outcome::Unreachable),
            (Family::V4, 3, 1, Outcome::Unreachable),
            (Family::V4, 3, 9, Outcome::Prohibited),
            (Family::V4, 3, 10, Outcome::Prohibited),
            (Family::V4, 3, 13, Outcome::Prohibited),
            (Family::V4, 11, 0, Outcome::TtlExceeded),
            (Family::V4, 12, 0, Outcome::Unreachable),
            (Family::V6, 1, 0, Outcome::Unreachable),
            (Family::V6, 1, 1, Outcome::Prohibited),
            (Family::V6, 1, 3, Outcome::Unreachable),
            (Family::V6, 1, 6, Outcome::Prohibited),
            (Family::V6, 2, 0, Outcome::Unreachable),
            (Family::V6, 3, 0, Outcome::TtlExceeded),
        ];
        for (family, icmp_type, code, outcome) in table {
            assert_eq!(meaning(IcmpError { family, icmp_type, code }), outcome, "{family:?} {icmp_type} {code}");
        }
    }
}
