//! What iperf3 really wrote (`tests/data/iperf3`, recorded from version 3.12), and what it never should.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::measurement::Value;

const TCP: Test =
    Test { protocol: Protocol::Tcp, direction: Direction::Upload, duration: Duration::from_secs(1), omit: Duration::ZERO, streams: 1 };
const TCP_DOWNLOAD: Test = Test { direction: Direction::Download, ..TCP };
const UDP: Test = Test { protocol: Protocol::Udp(10_000_000), ..TCP };

fn recorded(name: &str) -> Vec<u8> {
    let path = Path::new("tests/data/iperf3").join(name).with_extension("json");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a program wrote that ended with this wait status.
fn wrote(stdout: impl Into<Vec<u8>>, stderr: &str, status: i32) -> Output {
    Output { stdout: stdout.into(), stderr: stderr.into(), end: End::Exited(ExitStatus::from_raw(status)) }
}

fn of(test: Test, name: &str) -> Finding {
    found(test, &wrote(recorded(name), "", 0))
}

fn found(test: Test, output: &Output) -> Finding {
    finding(vec![(test, judge(&test, output))])
}

fn float(finding: &Finding, field: Field<f64>) -> Option<f64> {
    match finding.fields.get(field.info().name) {
        Some(Value::Float(figure)) => Some(*figure),
        Some(other) => panic!("{other:?}"),
        None => None,
    }
}

fn integer(finding: &Finding, field: Field<i64>) -> Option<i64> {
    match finding.fields.get(field.info().name) {
        Some(Value::Integer(figure)) => Some(*figure),
        Some(other) => panic!("{other:?}"),
        None => None,
    }
}

/// A figure as the JSON has it.
fn json(name: &str, pointer: &str) -> f64 {
    let value: Json = serde_json::from_slice(&recorded(name)).unwrap();
    value.pointer(pointer).and_then(Json::as_f64).unwrap()
}

#[test]
fn a_tcp_upload_is_the_bandwidth_at_the_receiver() {
    for name in ["tcp_upload", "tcp_omit", "tcp_streams"] {
        let found = of(TCP, name);
        assert_eq!((found.outcome, &found.error), (Outcome::Ok, &None), "{name}");
        assert_eq!(float(&found, BANDWIDTH), Some(json(name, "/end/sum_received/bits_per_second") / 1e6), "{name}");
        assert_eq!(float(&found, SENT), Some(json(name, "/end/sum_sent/bits_per_second") / 1e6), "{name}");
        assert_eq!(integer(&found, RETRANSMITS), Some(json(name, "/end/sum_sent/retransmits") as i64), "{name}");
        assert_eq!(float(&found, CPU_LOCAL), Some(json(name, "/end/cpu_utilization_percent/host_total")), "{name}");
        assert_eq!(float(&found, CPU_REMOTE), Some(json(name, "/end/cpu_utilization_percent/remote_total")), "{name}");
        assert_eq!([float(&found, JITTER), float(&found, LOST_PCT), float(&found, DOWNLOAD)], [None; 3], "{name}: TCP has none");
    }
    assert_eq!(float(&of(TCP, "tcp_upload"), RTT), Some(json("tcp_upload", "/end/streams/0/sender/mean_rtt") / 1e3));
}

#[test]
fn the_round_trip_time_is_the_mean_over_the_streams() {
    let rtts = [0, 1, 2].map(|stream| json("tcp_streams", &format!("/end/streams/{stream}/sender/mean_rtt")));
    let expected = rtts.iter().sum::<f64>() / 3.0 / 1e3;
    assert!((float(&of(TCP, "tcp_streams"), RTT).unwrap() - expected).abs() < 1e-12);
}

#[test]
fn a_tcp_download_has_a_field_of_its_own_and_no_round_trip_time() {
    let found = of(TCP_DOWNLOAD, "tcp_download");
    assert_eq!(found.outcome, Outcome::Ok);
    assert_eq!(float(&found, DOWNLOAD), Some(json("tcp_download", "/end/sum_received/bits_per_second") / 1e6));
    assert_eq!([float(&found, BANDWIDTH), float(&found, RTT)], [None; 2]);
}

#[test]
fn jitter_and_loss_of_udp_are_exactly_those_of_iperf3() {
    for name in ["udp_upload", "udp_download", "udp_streams", "udp_loss"] {
        let found = of(UDP, name);
        assert_eq!((found.outcome, &found.error), (Outcome::Ok, &None), "{name}");
        assert_eq!(float(&found, JITTER), Some(json(name, "/end/sum/jitter_ms")), "{name}");
        assert_eq!(float(&found, LOST_PCT), Some(json(name, "/end/sum/lost_percent")), "{name}");
        assert_eq!(integer(&found, LOST_PACKETS), Some(json(name, "/end/sum/lost_packets") as i64), "{name}");
        assert_eq!(float(&found, super::UDP), Some(json(name, "/end/sum_received/bits_per_second") / 1e6), "{name}");
        assert_eq!(float(&found, BANDWIDTH), None, "{name}");
    }
}

#[test]
fn nothing_that_arrives_is_total_loss_although_iperf3_says_there_was_none() {
    for name in ["udp_all_lost", "udp_download_all_lost"] {
        assert!(json(name, "/end/sum/lost_percent") < 1e-9, "{name}: what iperf3 says");
        let found = of(UDP, name);
        assert_eq!((found.outcome, found.error.as_deref()), (Outcome::Timeout, Some("udp upload: no datagram arrived")), "{name}");
        assert_eq!(float(&found, LOST_PCT), Some(100.0), "{name}");
        assert_eq!(integer(&found, LOST_PACKETS), Some(json(name, "/end/sum/packets") as i64), "{name}");
        assert_eq!(float(&found, JITTER), None, "{name}");
    }
}

/// (F3)
#[test]
fn the_error_in_the_json_counts_and_not_the_exit_status() {
    let table = [
        ("busy", Outcome::Busy, "the server is busy running a test. try again later"),
        ("refused", Outcome::Refused, "unable to connect to server: Connection refused"),
        ("unreachable", Outcome::Unreachable, "unable to connect to server: No route to host"),
        ("no_route", Outcome::Unreachable, "unable to connect to server: Network is unreachable"),
        ("black_hole", Outcome::Timeout, "unable to connect to server: Connection timed out"),
        ("server_killed", Outcome::ToolError, "unable to write to stream socket: Connection reset by peer"),
        ("server_terminated", Outcome::ToolError, "the server has terminated"),
        ("client_terminated", Outcome::ToolError, "interrupt - the client has terminated"),
    ];
    for (name, outcome, why) in table {
        for status in [0, 1 << 8, 15] {
            let found = found(TCP, &wrote(recorded(name), "other words", status));
            assert_eq!((found.outcome, found.error), (outcome, Some(format!("tcp upload: {why}"))), "{name}");
            assert!(found.fields.is_empty(), "{name}: {:?}", found.fields);
        }
    }
}

#[test]
fn our_deadline_is_killed_whatever_was_written_before() {
    let output = Output { stdout: recorded("client_terminated"), stderr: Vec::new(), end: End::Deadline(Duration::from_secs(6)) };
    let found = found(TCP, &output);
    let why = "tcp upload: iperf3 had not ended after 6s, the test takes 1s";
    assert_eq!((found.outcome, found.error.as_deref()), (Outcome::Killed, Some(why)));
    assert!(found.fields.is_empty());
}

#[test]
fn a_program_that_ends_without_json_says_why() {
    let table = [
        (
            wrote("", "iperf3: unrecognized option '--json'\nUsage: …", 1 << 8),
            "iperf3 ended with status 1: iperf3: unrecognized option '--json'",
        ),
        (wrote("", "", 11), "iperf3 was killed by signal 11"),
        (wrote("", "", 0), "what iperf3 wrote cannot be read: EOF while parsing a value at line 1 column 0"),
        (wrote("", "\n \n\u{1b}[31mred\n", 3 << 8), "iperf3 ended with status 3: [31mred"),
        (wrote("{}", "", 0), "what iperf3 wrote has not the bandwidth at the receiver"),
        (wrote(r#"{"error":""}"#, "", 0), "no reason given"),
        (wrote(r#"{"error":"a\nb"}"#, "", 0), "a b"),
        (wrote(r#"{"end":{"sum_received":{"bits_per_second":null}}}"#, "", 0), "what iperf3 wrote has not the bandwidth at the receiver"),
        (wrote(r#"{"end":{"sum_received":{"bits_per_second":-1}}}"#, "", 0), "what iperf3 wrote has not the bandwidth at the receiver"),
        (wrote(r#"{"end":{"sum_received":{"bits_per_second":1e300}}}"#, "", 0), "what iperf3 wrote has not the bandwidth at the receiver"),
        (Output { stdout: Vec::new(), stderr: Vec::new(), end: End::TooMuch }, "iperf3 wrote more than is allowed"),
    ];
    for (output, why) in table {
        let found = found(TCP, &output);
        assert_eq!((found.outcome, found.error), (Outcome::ToolError, Some(format!("tcp upload: {why}"))));
    }
}

/// (F5, F6)
#[test]
fn what_is_no_number_or_nested_for_ever_is_a_tool_error() {
    let deep = format!("{{\"end\":{}", "[".repeat(1 << 20));
    let ignored = format!("{{\"intervals\":{}", "{\"a\":".repeat(1 << 18));
    for text in [deep.as_str(), ignored.as_str(), r#"{"end":{"sum":{"jitter_ms":nan}}}"#, "[]", "\u{0}", r#"{"error":7}"#, r#"{"end":7}"#] {
        let found = found(UDP, &wrote(text, "", 0));
        assert_eq!(found.outcome, Outcome::ToolError, "{:?}", &text[..text.len().min(40)]);
        assert!(found.error.unwrap().len() < 400);
    }
}

#[test]
fn losses_that_duplicates_made_negative_are_left_out() {
    let text = r#"{"end":{"sum":{"packets":10,"jitter_ms":0.5,"lost_packets":-3,"lost_percent":-30},"sum_received":{"bytes":1200}}}"#;
    let found = found(UDP, &wrote(text, "", 0));
    assert_eq!((found.outcome, float(&found, JITTER)), (Outcome::Ok, Some(0.5)));
    assert_eq!((float(&found, LOST_PCT), integer(&found, LOST_PACKETS)), (None, None));
}

#[test]
fn a_row_has_the_figures_of_all_its_tests() {
    let judged = |test, name: &str| (test, judge(&test, &wrote(recorded(name), "", 0)));
    let found = finding(vec![judged(TCP, "tcp_upload"), judged(TCP_DOWNLOAD, "tcp_download"), judged(UDP, "udp_upload")]);
    assert_eq!((found.outcome, &found.error), (Outcome::Ok, &None));
    for field in FIELDS {
        assert_eq!(found.fields.get(field.name).map(Value::kind), Some(field.kind), "{}", field.name);
    }
    assert_eq!(float(&found, SENT), Some(json("tcp_upload", "/end/sum_sent/bits_per_second") / 1e6), "of the upload");
    let cpu = ["tcp_upload", "tcp_download", "udp_upload"].map(|name| json(name, "/end/cpu_utilization_percent/host_total"));
    assert_eq!(float(&found, CPU_LOCAL), cpu.into_iter().reduce(f64::max));
}

#[test]
fn a_failed_test_beside_a_good_one_makes_the_row_partial_and_names_itself() {
    let judged = |test, name: &str| (test, judge(&test, &wrote(recorded(name), "", 0)));
    let found = finding(vec![judged(TCP, "tcp_upload"), judged(UDP, "refused")]);
    assert_eq!(found.outcome, Outcome::Partial);
    assert_eq!(found.error.as_deref(), Some("udp upload: unable to connect to server: Connection refused"));
    assert!(float(&found, BANDWIDTH).is_some());
}

#[test]
fn when_all_tests_fail_the_most_frequent_cause_wins_and_a_tie_goes_to_the_lowest_code() {
    let failed = |outcome| (TCP, Tested::from(Failure::new(outcome, "x")));
    let of = |outcomes: &[Outcome]| finding(outcomes.iter().copied().map(failed).collect()).outcome;
    assert_eq!(of(&[Outcome::Killed, Outcome::Refused]), Outcome::Refused);
    assert_eq!(of(&[Outcome::Killed, Outcome::Refused, Outcome::Killed]), Outcome::Killed);
    assert_eq!(of(&[Outcome::Busy]), Outcome::Busy);
}

/// Names of the recordings that end well.
const GOOD: [&str; 8] = ["tcp_upload", "tcp_omit", "tcp_streams", "tcp_download", "udp_upload", "udp_download", "udp_streams", "udp_loss"];

/// (F6)
#[test]
fn a_recording_cut_anywhere_is_a_tool_error() {
    for name in GOOD {
        let whole = recorded(name);
        let end = whole.iter().rposition(|byte| *byte == b'}').unwrap();
        for length in (0..=end).step_by(7) {
            let found = found(TCP, &wrote(&whole[..length], "", 0));
            assert_eq!(found.outcome, Outcome::ToolError, "{name} cut at {length}");
        }
    }
}

proptest! {
    /// (F6)
    #[test]
    fn no_output_makes_the_report_panic_or_lie(bytes: Vec<u8>, status: i32, udp: bool) {
        let found = found(if udp { UDP } else { TCP }, &wrote(bytes, "", status));
        prop_assert_eq!(found.outcome, Outcome::ToolError);
    }

    #[test]
    fn a_recording_with_changed_bytes_gives_plausible_figures_or_none(
        name in prop::sample::select(&GOOD[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = recorded(name);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        for test in [TCP, TCP_DOWNLOAD, UDP] {
            let found = found(test, &wrote(bytes.clone(), "", 0));
            for (name, value) in found.fields.iter() {
                let plausible = match value {
                    Value::Float(figure) => (0.0..=PLAUSIBLE).contains(figure),
                    Value::Integer(figure) => *figure >= 0,
                    Value::Text(_) => false,
                };
                prop_assert!(plausible, "{} {:?}", name, value);
            }
        }
    }
}
