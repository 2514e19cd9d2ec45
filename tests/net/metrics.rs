//! `/metrics` as Prometheus's own tool reads it, of a service with every kind of probe, an output that is away, and names with
//! all that may be in them.

use std::io::Write;
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
