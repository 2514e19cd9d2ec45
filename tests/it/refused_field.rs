//! A database that refuses a field by its name: the line is sent again without it, the very same bytes if need be.

use crate::daemon::{Daemon, Home, run};
use crate::scripted_server::{Reply, ScriptedServer};

/// A row each: with the right to ping or without, each has `result_code`.
fn config(server: &ScriptedServer) -> String {
    let url = server.url();
    format!(
        "[influxdb.main]\nurl = \"{url}\"\ndatabase = \"qos\"\nbatch_size = 1\nflush_interval = \"100ms\"\n\
         [ping.loopback]\ntargets = [\"127.0.0.1\"]\ninterval = \"1s\"\ncount = 1\ntimeout = \"300ms\"\n"
    )
}

fn conflict(field: &str) -> Reply {
    let words = "is type integer, already exists as type float dropped=1";
    let text = format!("partial write: field type conflict: input field \"{field}\" on measurement \"qos_metrics\" {words}");
    Reply::said(400, &serde_json::json!({ "error": text }).to_string())
}

fn output(daemon: &Daemon) -> serde_json::Value {
    daemon.status()["outputs"][0].clone()
}

/// (I3, I21)
#[test]
fn a_line_is_sent_again_without_the_field_that_is_refused_and_the_same_after_an_unknown_outcome() {
    let refused = || conflict("result_code");
    let server = ScriptedServer::start([refused(), Reply::status(500), Reply::Close, Reply::status(204), refused()], Reply::status(204));
    let home = Home::new(&config(&server));
    let daemon = home.start();
    daemon.until(|| server.requests().len() >= 8 && output(&daemon)["refused_fields"] == 2);
    let status = output(&daemon);
    assert_eq!(
        (&status["dead"], &status["refused"], &status["refused_field_names"]),
        (&0.into(), &0.into(), &serde_json::json!(["qos_metrics.result_code"]))
    );
    let shown = String::from_utf8(run(&mut home.command(&["status"])).stdout).unwrap();
    assert!(shown.contains(" 0 dead, 2 fields left out as refused (qos_metrics.result_code)"), "{shown}");
    assert_eq!(daemon.log().matches("output refuses a field, rows go without it").count(), 1, "{}", daemon.log());
    let sent: Vec<String> = server.requests().into_iter().map(|request| request.body).collect();
    let without = |line: &str| {
        line.replacen(",result_code=", "\0", 1)
            .split_once('\0')
            .map(|(before, after)| format!("{before}{}", &after[after.find([',', ' ']).unwrap()..]))
    };
    assert_eq!(sent[1], without(&sent[0]).unwrap());
    assert_eq!((&sent[2], &sent[3]), (&sent[1], &sent[1]));
    assert_eq!(sent[5], without(&sent[4]).unwrap());
    assert!(sent[6].contains(",result_code="), "what was refused before counts for nothing: {}", sent[6]);
    daemon.stop();
}

#[test]
fn a_field_that_is_not_in_the_row_makes_it_a_dead_letter() {
    let server = ScriptedServer::start([conflict("nonsense"), conflict("nonsense")], Reply::status(204));
    let home = Home::new(&config(&server));
    let daemon = home.start();
    daemon.until(|| output(&daemon)["dead"] == 1 && output(&daemon)["delivered"].as_u64() >= Some(1));
    let status = output(&daemon);
    assert_eq!(status["refused_fields"], 0);
    assert!(status["last_refusal"].as_str().unwrap().contains("nonsense"), "{status}");
    daemon.stop();
}
