//! A bucket that the scripts filled which qosd replaces: some of its fields are integers, and refuse qosd's floats.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::bed::daemon::{Home, Running};
use crate::bed::http::{free_port, request};
use crate::bed::influx::{DATABASE, Influx};
use crate::bed::process::Process;
use crate::bed::rows::{Rows, by_key, difference};
use crate::bed::{eventually, need_root, tool};
use crate::scripted_server::{Reply, ScriptedServer};

/// What the scripts wrote when a test failed, or TCP had no jitter: integers, where qosd has floats.
const REFUSED: [&str; 4] = ["iperf_jitter_ms", "http_ping_ms", "http_download_ms", "http_upload_ms"];
const LIMIT: Duration = Duration::from_mins(1);

/// Points as the three scripts wrote them, now and a little later, so that no shard of this test is without.
fn fill(influx: &Influx) -> Rows {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after the epoch").as_nanos();
    let mut lines = String::new();
    for time in [now, now + 600_000_000_000] {
        for fields in [
            "ping_avg_ms=0.5,ping_jitter_ms=0.1,ping_max_ms=0.7,ping_min_ms=0.4,ping_packet_loss_pct=0",
            "iperf_bandwidth_mbps=36780.5,iperf_jitter_ms=0i",
            "http_download_bytes=0i,http_download_ms=0i,http_download_status=-1i,http_ping_ms=0i,http_status_code=-1i,http_upload_ms=0i,http_upload_status=-1i",
        ] {
            writeln!(lines, "qos_metrics,target=127.0.0.1 {fields} {time}").expect("a String takes everything");
        }
    }
    let (status, said) = request("POST", influx.port, "/write", &[("db", DATABASE)], &lines).expect("influxd answers");
    assert_eq!(status, 204, "{said}");
    influx.rows()
}

fn output(home: &Home) -> Value {
    let status: Value = serde_json::from_str(&home.command(&["status", "--json"])).expect("the status is JSON");
    status["outputs"][0].clone()
}

/// The journal's rows without what the database refuses, and how much that is.
fn expected(home: &Home) -> (Rows, u64) {
    let mut rows = by_key(home.rows());
    let mut left_out = 0;
    for (_, fields) in rows.iter_mut().filter(|(key, _)| key.measurement == "qos_metrics") {
        left_out += REFUSED.iter().filter(|name| fields.remove(**name).is_some()).count() as u64;
    }
    (rows, left_out)
}

/// How often each field was refused by now, as the journal has it.
fn measured(home: &Home) -> BTreeMap<&'static str, usize> {
    let rows = home.probe_rows();
    REFUSED.iter().map(|name| (*name, rows.iter().filter(|row| row.fields.contains_key(*name)).count())).collect()
}

/// The database has all rows of the journal as they should be, beside those of the scripts.
fn agrees(home: &Home, influx: &Influx, old: &Rows) -> Result<u64, String> {
    let (expected, left_out) = expected(home);
    let mut stored = influx.rows();
    for (key, fields) in old {
        assert_eq!(stored.remove(key).as_ref(), Some(fields), "what was there stays");
    }
    difference(&expected, &stored).map(|()| left_out)
}

fn assert_said_once(running: &Running) {
    for field in REFUSED {
        let said = running.times_said(&format!("\"field\":\"{field}\""));
        assert_eq!(said, 1, "{field}:\n{}", running.log());
    }
    assert_eq!(running.times_said("output refuses a field, rows go without it"), REFUSED.len());
    assert_eq!(running.times_said("dead letters"), 0, "{}", running.log());
}

#[test]
fn rows_reach_a_bucket_that_the_scripts_filled_without_the_fields_that_it_refuses() {
    need_root();
    let influx = Influx::start();
    let old = fill(&influx);
    let web = ScriptedServer::start([], Reply::said(200, &"x".repeat(1000)));
    let port = free_port().to_string();
    let iperf3 = Process::start(Command::new(tool("iperf3")).args(["-s", "--forceflush", "-B", "127.0.0.1", "-p", &port]));
    iperf3.said("Server listening", LIMIT);
    let database = influx.output("main", Duration::from_millis(200));
    let probes = format!(
        "[ping.core]\ntargets = [\"127.0.0.1\", \"127.0.0.2\"]\ninterval = \"1s\"\ncount = 2\nspacing = \"50ms\"\n\
         [http.portal]\ntargets = [\"{}\"]\ninterval = \"1s\"\ntimeout = \"300ms\"\ndownload = \"/testfile.bin\"\ndownload_timeout = \"300ms\"\n\
         upload = \"/upload\"\nupload_timeout = \"300ms\"\n\
         [iperf3.path]\ntargets = [\"127.0.0.1:{port}\"]\ninterval = \"5s\"\nduration = \"1s\"\n",
        web.url()
    );
    let home = Home::new(&format!("{database}{probes}"));
    let mut running = home.start();
    eventually(LIMIT, || {
        let measured = measured(&home);
        if measured["iperf_jitter_ms"] >= 2 && measured.values().all(|rows| *rows >= 2) { Ok(()) } else { Err(format!("{measured:?}")) }
    });
    // No more probes, so that rows and counts stand still; the output goes on as it was.
    home.configure(&database);
    running.reload();
    eventually(LIMIT, || {
        let left_out = agrees(&home, &influx, &old)?;
        let status = output(&home);
        if status["refused_fields"] == left_out && status["pending"] == 0 { Ok(()) } else { Err(format!("{left_out} left out, {status}")) }
    });
    let status = output(&home);
    assert_eq!((&status["dead"], &status["refused"]), (&0.into(), &0.into()), "{status}");
    let mut names = REFUSED.map(|name| format!("qos_metrics.{name}"));
    names.sort_unstable();
    assert_eq!(status["refused_field_names"], serde_json::json!(names));
    let shown = home.command(&["status"]);
    assert!(shown.contains(&format!(" 0 dead, {} fields left out as refused ({})", status["refused_fields"], names.join(", "))), "{shown}");
    assert_said_once(&running);
    running.stop();
}
