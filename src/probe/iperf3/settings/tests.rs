//! What a table of an iperf3 probe means, and what is refused.

use std::sync::Arc;

use super::*;
use crate::probe::iperf3::Iperf3;
use crate::probe::{AnyKind, Assignment, Member, Reading};

fn read(toml: &str) -> Result<Reading, Vec<KeyProblem>> {
    let file = config::File::from_str(toml, config::FileFormat::Toml);
    Member::<Iperf3>::NEW.read("rome-1", "core", config::Source::collect(&file).unwrap().into())
}

fn assignments(toml: &str) -> Vec<Arc<Assignment>> {
    read(toml).unwrap_or_else(|problems| panic!("{problems:?}")).assignments
}

fn job(toml: &str) -> Arc<Job> {
    assignments(toml)[0].job().unwrap()
}

fn problems(toml: &str) -> Vec<String> {
    let problems = read(toml).err().unwrap_or_default();
    problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
}

fn tests_of(toml: &str) -> Vec<String> {
    job(&format!("targets = ['192.0.2.1']\ninterval = '1h'\n{toml}")).tests.iter().map(Test::to_string).collect()
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let all = assignments("targets = ['192.0.2.1']\ninterval = '1h'");
    let job = all[0].job::<Job>().unwrap();
    let test =
        |protocol| Test { protocol, direction: Direction::Upload, duration: Duration::from_secs(10), omit: Duration::ZERO, streams: 1 };
    assert_eq!(job.tests, [test(Protocol::Tcp), test(Protocol::Udp(10_000_000))]);
    assert_eq!((job.port, job.time()), (5201, Duration::from_secs(20)));
    assert_eq!(all[0].schedule.interval(), Duration::from_hours(1));
    let tags: Vec<_> = all[0].series.tags().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(tags, ["family=ipv4", "kind=iperf3", "probe=core", "source=rome-1", "target=192.0.2.1"]);
    assert_eq!(job.load, "iperf3/core/192.0.2.1");
}

#[test]
fn a_server_is_an_address_or_a_name_with_or_without_a_port() {
    let address = |text: &str| Host::Address(text.parse().unwrap());
    let cases = [
        ("'192.0.2.1'", "192.0.2.1", "ipv4", address("192.0.2.1"), 5201),
        ("'192.0.2.1:5202'", "192.0.2.1", "ipv4", address("192.0.2.1"), 5202),
        ("'2001:db8::1'", "2001:db8::1", "ipv6", address("2001:db8::1"), 5201),
        ("'[2001:db8::1]'", "2001:db8::1", "ipv6", address("2001:db8::1"), 5201),
        ("'[2001:db8::1]:80'", "2001:db8::1", "ipv6", address("2001:db8::1"), 80),
        ("'host.example:65535'", "host.example", "auto", Host::Name("host.example".to_owned()), 65535),
        (
            "{ host = 'host.example', name = 'edge', tags = { site = 'milan' } }",
            "edge",
            "auto",
            Host::Name("host.example".to_owned()),
            5201,
        ),
    ];
    for (target, label, family, host, port) in cases {
        let all = assignments(&format!("targets = [{target}]\ninterval = '1h'"));
        let job = all[0].job::<Job>().unwrap();
        assert_eq!((all[0].series.tag("target"), all[0].series.tag("family")), (Some(label), Some(family)), "{target}");
        assert_eq!((&job.host, job.port), (&host, port), "{target}");
    }
}

/// (F1)
#[test]
fn what_is_no_server_is_refused_and_none_can_be_an_option() {
    let no_server = |text: &str| format!("{text:?} is no server, expected HOST, HOST:PORT or [IPv6]:PORT with a port from 1 to 65535");
    let cases = [
        ("--logfile=/etc/passwd", "host begins with \"-\"".to_owned()),
        ("-c", "host begins with \"-\"".to_owned()),
        ("a b", "host contains white space".to_owned()),
        ("", "host is empty".to_owned()),
        ("host:", no_server("host:")),
        ("host:0", no_server("host:0")),
        ("host:65536", no_server("host:65536")),
        ("host:+1", no_server("host:+1")),
        ("a:1:2", no_server("a:1:2")),
        ("[2001:db8::1]x", no_server("[2001:db8::1]x")),
        ("[192.0.2.1]:1", "\"[192.0.2.1]:1\" has something else than an IPv6 address in brackets".to_owned()),
        ("[--logfile=x]:1", "\"[--logfile=x]:1\" has something else than an IPv6 address in brackets".to_owned()),
        ("192.0.2.256", "\"192.0.2.256\" is neither a host name nor an address".to_owned()),
        ("fe80::1%eth0", no_server("fe80::1%eth0")),
        ("http//host", "\"http//host\" is neither a host name nor an address".to_owned()),
        ("host$(reboot)", "\"host$(reboot)\" is neither a host name nor an address".to_owned()),
        ("224.0.0.1", "224.0.0.1 is no unicast address".to_owned()),
        ("[::]:5201", ":: is no unicast address".to_owned()),
    ];
    for (host, expected) in cases {
        assert_eq!(problems(&format!("targets = ['{host}']\ninterval = '1h'")), [format!("targets[0]: {expected}")], "{host}");
    }
}

#[test]
fn protocols_and_direction_make_the_tests() {
    assert_eq!(tests_of("direction = 'download'"), ["tcp download", "udp download"]);
    assert_eq!(tests_of("direction = 'both'"), ["tcp upload", "tcp download", "udp upload"]);
    assert_eq!(tests_of("protocols = ['udp', 'tcp']"), ["udp upload", "tcp upload"], "in the order in which they stand");
    assert_eq!(tests_of("protocols = ['udp']\ndirection = 'both'"), ["udp upload"]);
}

#[test]
fn values_out_of_range_are_told_all_at_once() {
    let text = "targets = []\nduration = '1500ms'\nprotocols = ['tcp', 'tcp']\nudp_bitrate = '1'\nstreams = 129\nomit = '2m'";
    assert_eq!(
        problems(text),
        [
            "udp_bitrate: 1 is out of range, allowed is 1K to 100G",
            "streams: 129 is out of range, allowed is 1 to 128",
            "omit: 2m is out of range, allowed is 0s to 1m",
            "duration: 1s500ms is out of step, allowed are whole seconds",
            "protocols: expected \"tcp\", \"udp\" or both, each once",
            "targets: is missing or empty, expected at least one server",
            "interval: is missing; a test fills the path, so how often has to be said",
        ]
    );
}

#[test]
fn the_tests_of_all_targets_fit_into_four_fifths_of_the_interval() {
    let of = |interval: &str| problems(&format!("targets = ['a', 'b']\ninterval = '{interval}'\ndirection = 'both'\nomit = '2s'"));
    // Two targets, three tests of 12 s each.
    assert_eq!(of("90s"), Vec::<String>::new());
    assert_eq!(of("89s"), ["interval: all tests take 1m12s, allowed are 80 % of the interval of 1m29s, which is 1m11s200ms"]);
}

#[test]
fn the_longest_run_covers_the_wait_for_its_turn_and_every_test_twice() {
    let longest = |target: &str| assignments(&format!("targets = ['{target}']\ninterval = '1m'"))[0].longest;
    // 60 s + twice two tests of 10 s + 5 s + 1.5 s, and the margin.
    assert_eq!(longest("192.0.2.1"), Duration::from_secs(60 + 4 * 15 + 6 + 2));
    assert_eq!(longest("host.example"), Duration::from_secs(60 + 4 * 15 + 6 + 2) + resolve::DEADLINE);
}

#[test]
fn the_cost_is_that_of_the_rate_and_of_a_gigabit_for_tcp() {
    let cost = |toml: &str| assignments(&format!("targets = ['192.0.2.1']\ninterval = '100s'\n{toml}"))[0].cost;
    let udp = cost("protocols = ['udp']\nudp_bitrate = '9600K'\nstreams = 2");
    assert!((udp.packets_per_second - 200.0).abs() < 1e-9, "{udp:?}");
    assert!((udp.bytes_per_day - 200.0 * 1228.0 * 86_400.0).abs() < 1.0, "{udp:?}");
    let tcp = cost("protocols = ['tcp']");
    assert!((tcp.bytes_per_day - 1e9 / 8.0 / 10.0 * 86_400.0).abs() < 1.0, "{tcp:?}");
}

#[test]
fn what_show_prints_means_the_same() {
    let first = read("targets = ['a:1', { host = 'b', name = 'c' }]\ninterval = '1h'\nomit = '1s'").unwrap();
    let again = read(&first.effective.to_string()).unwrap();
    assert_eq!((&again.effective, again.assignments), (&first.effective, first.assignments));
}
