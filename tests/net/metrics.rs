//! `/metrics` as Prometheus's own tool reads it, of a service with every kind of probe, an output that is away, and names with
//! all that may be in them; and what is shipped for Prometheus, as that tool checks it and runs its tests.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bed::daemon::Home;
use crate::bed::http::{free_port, request};
use crate::bed::{eventually, need_root, tool};

const LIMIT: Duration = Duration::from_mins(1);

/// What promtool says of an exposition; nothing if it is as it should be.
fn checked(exposition: &str) -> String {
    let mut command = Command::new(tool("promtool"));
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = command.spawn().expect("tests/tools.sh tried it");
    promtool.stdin.take().expect("it was asked for").write_all(exposition.as_bytes()).expect("it reads all");
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() || !said.is_empty());
    said
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    need_root();
    let [web, responder, iperf3, nobody] = [free_port(), free_port(), free_port(), free_port()];
    let home = Home::new(&format!(
        "[web]\nlisten = [\"127.0.0.1:{web}\"]\n\
         [responder]\nlisten = \"127.0.0.1:{responder}\"\n\
         [iperf3_server]\nport = {iperf3}\n\
         [influxdb.away]\nurl = \"http://127.0.0.1:{nobody}\"\ndatabase = \"d\"\n\
         [ping.loop-back]\ntargets = [\"127.0.0.1\", {{ host = \"127.0.0.2\", name = \"<b>é {{x}}=,#\", tags = {{ site = \"a b\", job = \"j\" }} }}]\n\
         interval = \"1s\"\ncount = 3\nspacing = \"20ms\"\n\
         [http.own]\ntargets = [\"http://127.0.0.1:{responder}/\"]\ndownload = \"/testfile.bin\"\nupload = \"/upload\"\ninterval = \"1s\"\n\
         [iperf3.own]\ntargets = [\"127.0.0.1:{iperf3}\"]\ninterval = \"10s\"\nduration = \"1s\"\nphase = \"aligned\"\n"
    ));
    let running = home.start();
    let metrics = || request("GET", web, "/metrics", &[], "").expect("the page is served").1;
    let text = eventually(LIMIT, || {
        let text = metrics();
        let wanted = [
            "qosd_ping_avg_seconds{",
            "qosd_http_upload_bytes_per_second{",
            "qosd_iperf_udp_bytes_per_second{",
            "qosd_output_pending_rows{",
        ];
        let missing: Vec<_> = wanted.iter().filter(|name| !text.contains(**name)).collect();
        if missing.is_empty() { Ok(text) } else { Err(format!("no {missing:?}")) }
    });
    assert_eq!(checked(&text), "", "{text}");
    assert!(text.contains("qosd_ping_packet_loss_ratio{") && text.contains("tag_job=\"j\""), "{text}");
    // Promtool does find what is wrong.
    assert!(!checked(&text.replace("qosd_rows_total", "qosd_rows")).is_empty());
    running.stop();
}

/// What promtool says of a file, and whether it is content.
fn judged(arguments: [&str; 2], file: &Path) -> (bool, String) {
    let output = Command::new(tool("promtool")).args(arguments).arg(file).output().expect("tests/tools.sh tried it");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

const RULES: &str = "dashboards/prometheus/rules.yml";
const TESTS: &str = "tests/data/prometheus/rules_test.yml";

#[test]
fn promtool_finds_nothing_wrong_with_the_rules_and_the_example_that_are_shipped() {
    for (what, file) in [("rules", RULES), ("config", "dashboards/prometheus/scrape.yml")] {
        let (sound, said) = judged(["check", what], &shipped(file));
        assert!(sound && said.contains("rule"), "{said}");
    }
    // Promtool does find what is wrong.
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = folder.path().join("rules.yml");
    let text = std::fs::read_to_string(shipped(RULES)).expect("it is shipped");
    std::fs::write(&wrong, text.replace("offset 1d", "offset 1")).expect("the folder is ours");
    assert!(!judged(["check", "rules"], &wrong).0);
}

/// Runs the tests of the rules against rules with another text in them.
fn tested(change: impl Fn(String) -> String) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let read = |path| std::fs::read_to_string(shipped(path)).expect("it is shipped");
    let (rules, tests) = (folder.path().join("rules.yml"), folder.path().join("rules_test.yml"));
    std::fs::write(&rules, change(read(RULES))).expect("the folder is ours");
    std::fs::write(&tests, read(TESTS).replace("../../../dashboards/prometheus/rules.yml", "rules.yml")).expect("the folder is ours");
    judged(["test", "rules"], &tests)
}

#[test]
fn each_alert_comes_when_it_has_to_and_not_when_it_has_not() {
    let (sound, said) = judged(["test", "rules"], &shipped(TESTS));
    assert!(sound, "{said}");
    let (rules, tests) = (shipped(RULES), shipped(TESTS));
    let [rules, tests] = [rules, tests].map(|path| std::fs::read_to_string(path).expect("it is shipped"));
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n")), "nothing tests that {alert} comes");
    }
    // The tests of the rules do find what is wrong with them: an alert on skipped slots, or on nothing, or one that never comes.
    assert!(tested(|rules| rules).0);
    for (right, wrong) in [
        ("<= 12 != 11)[15m:15s]", "<= 17)[15m:15s]"),
        ("<= 12 != 11)[3h:1m]", "<= 12)[3h:1m]"),
        ("[15m:15s]", "[1m:15s]"),
        ("[3h:1m]", "[15m:1m]"),
        ("and qosd_result_code\n", "\n"),
        ("> 0.05 or", "> 0.5 or"),
        ("[1h] offset 1d", "[1h]"),
    ] {
        assert!(rules.contains(right) && !tested(|rules| rules.replacen(right, wrong, 1)).0, "{right}");
    }
}
