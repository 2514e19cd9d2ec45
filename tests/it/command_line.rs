//! The command line as scripts use it: exit statuses and shapes.

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::daemon::{Home, qosd, run};

/// The exit status of a command, what it printed, and what it complained.
fn outcome(command: &mut Command) -> (i32, String, String) {
    let output = run(command);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, complaint) = (text(output.stdout), text(output.stderr));
    assert!(!complaint.contains("panicked"), "{complaint}");
    (output.status.code().unwrap(), out, complaint)
}

const PROBE: &str = "[ping.loopback]\ntargets = [\"127.0.0.1\", \"127.0.0.2\"]\ninterval = \"1s\"\ncount = 1\ntimeout = \"200ms\"\n";

#[test]
fn a_bad_config_is_78_and_every_problem_is_said() {
    let home = Home::new("[ping.a]\ntargets = [\"-x\"]\ncolour = \"red\"\n[nonsense]\n");
    for command in ["run", "check"] {
        let (status, out, complaint) = outcome(&mut home.command(&[command]));
        assert_eq!(status, 78, "{command}");
        let said = out + &complaint;
        for place in ["colour", "nonsense"] {
            assert!(said.contains(place) && said.contains("qosd.toml:"), "{command}: {said}");
        }
    }
    for command in [&[][..], &["run"], &["check"]] {
        assert_eq!(outcome(qosd(command).args(["--config", "/nowhere/qosd.toml"])).0, 78, "{command:?}");
    }
}

#[test]
fn a_service_is_found_while_its_config_is_wrong() {
    let home = Home::new(PROBE);
    let daemon = home.start();
    let folder = home.config().with_file_name("data");
    let commands: [&[&str]; 2] = [&["status"], &["export", "--since", "1h", "--format", "csv"]];
    let good = std::fs::read_to_string(home.config()).unwrap();
    // What stands beside [agent] does not matter.
    std::fs::write(home.config(), format!("{good}colour = \"red\"\n[nonsense]\n")).unwrap();
    for command in commands {
        assert_eq!(outcome(&mut home.command(command)).0, 0, "{command:?}");
    }
    // Of a file that is no TOML nothing is known; then the places can be said.
    std::fs::write(home.config(), format!("{good}[")).unwrap();
    let (socket, folder) = (folder.join("qosd.sock").display().to_string(), folder.display().to_string());
    for (command, place) in commands.into_iter().zip([["--socket", &socket], ["--data-dir", &folder]]) {
        let (status, _, complaint) = outcome(&mut home.command(command));
        assert!(status == 1 && complaint.contains("qosd.toml:"), "{command:?}: {complaint}");
        assert_eq!(outcome(&mut home.command(&[command, &place].concat())).0, 0, "{command:?}");
    }
    daemon.stop();
}

#[test]
fn a_good_config_is_0_and_what_it_costs_is_said() {
    let (status, out, complaint) = outcome(&mut Home::new(PROBE).command(&["check"]));
    assert_eq!((status, complaint.as_str()), (0, ""));
    assert!(out.contains("2 series") && out.contains("172800 rows/day"), "{out}");
    let (status, shown, _) = outcome(&mut Home::new(PROBE).command(&["check", "--show"]));
    assert_eq!(status, 0);
    assert!(shown.contains("[ping.loopback]"), "{shown}");
}

#[test]
fn a_wrong_use_is_2_and_help_is_0() {
    let wrong: [&[&str]; 8] = [
        &["dance"],
        &["--colour"],
        &["ping"],
        &["ping", "127.0.0.1", "--count", "many"],
        &["ping", "127.0.0.1", "-4", "-6"],
        &["ping", "127.0.0.1", "--output", "pictures"],
        &["ping", "127.0.0.1", "--count", "0"],
        &["export"],
    ];
    for arguments in wrong {
        let (status, out, complaint) = outcome(&mut qosd(arguments));
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}");
        assert!(!complaint.is_empty(), "{arguments:?}");
    }
    for arguments in [["--help"], ["--version"]] {
        let (status, out, complaint) = outcome(&mut qosd(&arguments));
        assert_eq!((status, complaint.as_str()), (0, ""));
        assert!(out.contains("qosd"), "{out}");
    }
}

#[test]
fn a_service_or_journal_that_is_not_there_is_1() {
    let home = Home::new(PROBE);
    for command in [&["status"][..], &["status", "--json"], &["export", "--since", "1h", "--format", "csv"]] {
        let (status, out, complaint) = outcome(&mut home.command(command));
        assert_eq!((status, out.as_str()), (1, ""), "{command:?}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
}

/// Whether this process may ping: else the rows say `permission`, and the exit status is 2.
fn may_ping() -> bool {
    let (status, out, _) = outcome(&mut qosd(&["ping", "127.0.0.1", "-c", "1", "--output", "json"]));
    assert_eq!(status == 2, out.contains("permission"), "{out}");
    status == 0
}

#[test]
fn a_ping_has_a_row_for_each_host_in_each_shape() {
    let expected = if may_ping() { 0 } else { 2 };
    let ping = |output: &str| outcome(&mut qosd(&["ping", "127.0.0.1", "127.0.0.2", "-c", "2", "-i", "10ms", "--output", output]));

    let (status, json, complaint) = ping("json");
    assert_eq!((status, complaint.as_str()), (expected, ""), "nothing but rows unless on a terminal");
    let rows: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.iter().map(|row| row["tags"]["target"].as_str().unwrap()).collect::<Vec<_>>(), ["127.0.0.1", "127.0.0.2"]);
    for row in &rows {
        let keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["fields", "measurement", "tags", "time"]);
        assert_eq!((row["measurement"].as_str(), row["tags"]["kind"].as_str()), (Some("qos_metrics"), Some("ping")));
        let time = row["time"].as_str().unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok() && time.len() == "2026-01-01T00:00:00.000000000Z".len(), "{time}");
        assert!(row["fields"]["result"].is_string() && row["fields"]["result_code"].is_i64());
    }

    let (status, lines, _) = ping("line");
    assert_eq!((status, lines.lines().count()), (expected, 2));
    assert!(lines.lines().all(|line| line.starts_with("qos_metrics,") && line.contains(",target=127.0.0.") && line.contains("result=\"")));

    let (status, table, _) = ping("table");
    assert_eq!((status, table.lines().count()), (expected, 3), "{table}");
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head[..3], ["target", "address", "result"]);
    assert!(table.lines().nth(1).unwrap().contains("127.0.0.1") && !table.contains('\u{1b}'), "{table}");
}

#[test]
fn a_ping_without_an_answer_is_1() {
    let expected = if may_ping() { 1 } else { 2 };
    // A name that never resolves, whatever the resolver (RFC 6761).
    let (status, out, _) = outcome(&mut qosd(&["ping", "nowhere.invalid", "-c", "1", "-W", "100ms", "--output", "json"]));
    assert!(status == expected || out.contains("dns_error"), "{status}: {out}");
    assert_ne!(status, 0);
}

#[test]
fn status_and_export_show_what_the_service_measured() {
    let home = Home::new(PROBE);
    let daemon = home.start();
    // Durable rows of the probe: the journal may have rows of qosd itself as well.
    let rows_of = |target: &str| home.rows().iter().filter(|row| row.0 == target).count();
    daemon.until(|| rows_of("127.0.0.1") >= 2 && rows_of("127.0.0.2") >= 2);

    let (status, json, _) = outcome(&mut home.command(&["status", "--json"]));
    assert_eq!(status, 0);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((report["agent"].as_str(), report["series"].as_array().map(Vec::len)), (Some("rome-1"), Some(2)));
    let (status, text, _) = outcome(&mut home.command(&["status"]));
    assert_eq!(status, 0);
    for part in ["agent rome-1", "actor writer: running, 0 restarts", "actor ping: running", "slots:", "journal:", "127.0.0.2"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }

    let export = |more: &[&str]| {
        let (status, out, complaint) = outcome(home.command(&["export", "--since", "1h"]).args(more));
        assert_eq!((status, complaint.as_str()), (0, ""), "{more:?}");
        out
    };
    let csv = export(&["--format", "csv"]);
    let head: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    for column in ["measurement", "time", "target", "source", "probe", "kind", "family", "result", "result_code"] {
        assert!(head.contains(&column), "no column {column}: {head:?}");
    }
    assert!(csv.lines().count() > 4);
    let times = |out: &str| out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["time"].to_string()).collect::<Vec<_>>();
    assert!(times(&export(&["--format", "json"])).is_sorted(), "oldest first");
    assert!(export(&["--format", "line"]).lines().all(|line| line.starts_with("qos")));
    let one = export(&["--format", "json", "--kind", "ping", "--probe", "loopback", "--target", "127.0.0.2"]);
    assert!(one.lines().count() >= 2 && one.lines().all(|line| line.contains(r#""target":"127.0.0.2""#)), "{one}");
    assert_eq!(export(&["--format", "json", "--target", "127.0.0.3"]), "");
    assert_eq!(export(&["--format", "json", "--until", "30m"]), "");
    daemon.stop();

    assert_eq!(outcome(&mut home.command(&["status"])).0, 1);
    assert!(export(&["--format", "csv"]).lines().count() > 4, "the journal can be read without the service");
}

#[test]
fn a_reader_that_went_away_is_no_reason_to_panic() {
    let home = Home::new(PROBE);
    let daemon = home.start();
    daemon.until(|| daemon.status()["journal"]["rows"].as_u64().unwrap() >= 2);
    let show = ["check", "--show"];
    let commands: [&[&str]; 8] = [
        &["status"],
        &["status", "--json"],
        &["check"],
        &show,
        &["export", "--since", "1h", "--format", "csv"],
        &["export", "--since", "1h", "--format", "json"],
        &["export", "--since", "1h", "--format", "line"],
        &["ping", "127.0.0.1", "-c", "1"],
    ];
    for arguments in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = home.command(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        let status = child.wait().unwrap();
        assert!(!complaint.contains("panicked"), "{arguments:?}: {complaint}");
        assert!(matches!(status.code(), Some(0..=2)), "{arguments:?}: {status}: {complaint}");
    }
    for (arguments, expected) in [(&["status"][..], 1), (&["ping", "127.0.0.1", "-c", "0"], 2), (&["run"], 78)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let bad = Home::new("nonsense = 1");
        let status = bad.command(arguments).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(expected), "{arguments:?} with nobody to complain to");
    }
    daemon.stop();
}
