//! What each finding of this host comes to.

use super::super::check::State;
use super::*;

const UNTUNED: usize = 212_992;

fn buffers(rmem_max: Option<usize>, rate: f64) -> Buffers {
    Buffers { rmem_max, granted: None, rate, payload: 56 }
}

#[test]
fn a_buffer_is_judged_by_what_the_config_sends() {
    assert_eq!(rmem_max(&buffers(Some(UNTUNED), 0.0)).state(), State::Ok);
    assert_eq!(rmem_max(&buffers(Some(UNTUNED), 2_000.0)).state(), State::Ok);
    let small = rmem_max(&buffers(Some(UNTUNED), 10_000.0));
    assert!(small.state() == State::Warn && small.fix().starts_with("sysctl -w net.core.rmem_max=4194304"), "{small:?}");
    assert_eq!(rmem_max(&buffers(Some(4 << 20), 10_000.0)).state(), State::Ok);
    assert_eq!(rmem_max(&buffers(Some(4 << 20), 1e9)).state(), State::Ok, "qosd asks for no more");
}

#[test]
fn where_the_limit_is_not_to_be_seen_a_socket_tells() {
    assert_eq!(rmem_max(&Buffers { granted: Some(425_984), ..buffers(None, 10_000.0) }).state(), State::Warn);
    assert_eq!(rmem_max(&Buffers { granted: Some(8 << 20), ..buffers(None, 10_000.0) }).state(), State::Ok);
    assert_eq!(rmem_max(&buffers(None, 10_000.0)).state(), State::Note);
}

#[test]
fn an_iperf3_is_new_enough_or_its_version_is_said() {
    let says = |text: &str| iperf3(&Iperf3::Says(text.to_owned()), &["iperf3.x".to_owned()]);
    for good in ["iperf 3.12 (cJSON 1.7.15)\nLinux", "iperf 3.2", "iperf 3.10.1 x", "iperf 3.17+", "iperf 4.0"] {
        assert_eq!(says(good).state(), State::Ok, "{good}");
    }
    for (old, word) in [
        ("iperf 3.1.7 (cJSON", "version 3.1 is too old"),
        ("iperf 3.0.11", "3.0"),
        ("iperf version 2.1.8", "no version"),
        ("", "no version"),
    ] {
        let check = says(old);
        assert!(check.state() == State::Fail && check.found().contains(word) && check.fix().contains("install"), "{check:?}");
    }
}

#[test]
fn an_iperf3_that_nobody_needs_may_be_missing() {
    let missing = Iperf3::Missing("iperf3 cannot be run: not found in PATH".to_owned());
    assert_eq!(iperf3(&missing, &[]).state(), State::Note);
    let needed = iperf3(&missing, &["iperf3.backbone".to_owned(), "iperf3_server".to_owned()]);
    assert!(needed.found().ends_with("not found in PATH; needed by iperf3.backbone, iperf3_server"), "{needed:?}");
    assert_eq!(needed.fix(), "install iperf3, e.g. apt-get install iperf3");
    assert_eq!(iperf3(&Iperf3::Silent("no end within 3s".to_owned()), &[]).state(), State::Note);
}

fn names(answers: &[(&str, Result<&str, ResolveError>)], servers: &[&str]) -> Names {
    let answer =
        |(name, answer): &(&str, Result<&str, ResolveError>)| ((*name).to_owned(), answer.clone().map(|address| address.parse().unwrap()));
    let servers = Ok(servers.iter().map(|server| (*server).to_owned()).collect());
    Names { answers: answers.iter().map(answer).collect(), left_out: 0, configured: true, servers }
}

fn timeout() -> ResolveError {
    ResolveError::Timeout("b.example".to_owned())
}

#[test]
fn a_name_that_does_not_resolve_says_whose_fault_it_is() {
    assert_eq!(dns(&names(&[("a.example", Ok("192.0.2.1"))], &["10.0.0.1"])).state(), State::Ok);
    let silent = dns(&names(&[("a.example", Ok("192.0.2.1")), ("b.example", Err(timeout()))], &["10.0.0.1"]));
    assert!(silent.state() == State::Fail && silent.fix().contains("10.0.0.1 answers"), "{silent:?}");
    assert!(silent.found().starts_with("1 of 2 names do not resolve: b.example: no answer"), "{silent:?}");
    let nobody = dns(&names(&[("b.example", Err(timeout()))], &[]));
    assert!(nobody.found().contains("no name server in /etc/resolv.conf") && nobody.fix().contains("nameserver 192.0.2.53"), "{nobody:?}");
    let wrong = ResolveError::NoAddress("c.example".to_owned(), "there is no such name".to_owned());
    let wrong = dns(&names(&[("c.example", Err(wrong))], &["10.0.0.1"]));
    assert!(wrong.fix().starts_with("correct c.example in the config"), "{wrong:?}");
}

#[test]
fn without_a_name_in_the_config_dns_is_not_vital() {
    let stand_in = |answer| Names { configured: false, ..names(&[("localhost", answer)], &[]) };
    assert_eq!(dns(&stand_in(Ok("127.0.0.1"))).state(), State::Ok);
    assert_eq!(dns(&stand_in(Err(timeout()))).state(), State::Warn);
}

#[test]
fn the_servers_of_a_resolv_conf_are_its_nameserver_lines() {
    let text = "# nameserver 1.1.1.1\nsearch example\n nameserver 192.0.2.1 \nnameserver fe80::1%eth0\nnameserver\noptions ndots:1";
    assert_eq!(name_servers(text), ["192.0.2.1", "fe80::1%eth0"]);
}

#[test]
fn a_clock_that_is_not_synchronised_fails_and_one_of_which_nobody_tells_does_not() {
    let state = |sync| clock(sync, "2026-02-01T00:00:00Z").state();
    assert_eq!(
        [Sync::Synchronised, Sync::Untold, Sync::NotYet, Sync::LongAgo].map(state),
        [State::Ok, State::Note, State::Fail, State::Fail]
    );
}
