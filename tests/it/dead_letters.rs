//! Rows that a database refuses even alone: the others arrive, they lie in the journal, and go out again when asked.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt;
use qosd::clock::{Clock, Timestamp};
use qosd::journal::{Journal, Mode, Settings};
use qosd::measurement::{Field, Fields, Row, Series};
use serde_json::Value;

use crate::daemon::{Daemon, Home, run};
use crate::scripted_server::{Reply, ScriptedServer};

const REFUSAL: &str = r#"{"error":"partial write: unable to parse 'x': no dropped=0"}"#;

/// No probe: what is in the journal is delivered, and nothing else but qosd's own rows of each full minute.
fn config(server: &ScriptedServer) -> String {
    let url = server.url();
    format!("[influxdb.main]\nurl = \"{url}\"\ndatabase = \"qos\"\nflush_interval = \"100ms\"\n")
}

/// A journal as a qosd left it that could not deliver: so many rows, of which each `poison`th is one that the server refuses.
pub(crate) fn fill(home: &Home, rows: i64, poison: i64) {
    let clock = Clock::system();
    let settings = Settings { flush: Duration::from_millis(250), max_size: 1 << 30, max_age: Duration::from_hours(720) };
    let journal = Journal::open(&home.data_dir(), settings, clock.clone(), Mode::Inline).unwrap();
    journal.output("main", None).now_or_never().unwrap().unwrap();
    let now = clock.now().unix.nanos();
    let row = |n: i64| {
        let mut fields = Fields::new();
        fields.integer(Field::integer("n"), n);
        let kind = if n % poison == 0 { "poison" } else { "good" };
        Row { series: Series::new("m", [("kind", kind)]), time: Timestamp::from_nanos(now + n), fields }
    };
    journal.append((1..=rows).map(row).collect());
}

/// Refuses requests with poison in them, and stores none of their lines.
fn picky(body: &str) -> Reply {
    if body.contains("poison") { Reply::said(400, REFUSAL) } else { Reply::status(204) }
}

fn output(daemon: &Daemon) -> Value {
    daemon.status()["outputs"][0].clone()
}

fn is(daemon: &Daemon, dead: u64, pending: u64) -> bool {
    let output = output(daemon);
    (&output["dead"], &output["requeued"], &output["pending"]) == (&dead.into(), &0.into(), &pending.into())
}

fn letters(home: &Home) -> Vec<Value> {
    let output = run(&mut home.command(&["export", "--since", "1h", "--dead-letters", "--format", "json"]));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn requeue(home: &Home, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(&mut home.command(&[&["requeue"], arguments].concat()));
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn ours(body: &str) -> usize {
    body.lines().filter(|line| line.starts_with("m,")).count()
}

/// (I4)
#[test]
fn one_poison_line_in_5000_is_the_only_dead_letter_and_costs_a_bounded_number_of_requests() {
    let server = ScriptedServer::start([], Reply::Judge(picky));
    let home = Home::new(&config(&server));
    fill(&home, 5000, 3777);
    let daemon = home.start();
    daemon.until(|| is(&daemon, 1, 0));
    let about_them = server.requests().iter().filter(|request| ours(&request.body) > 0).count();
    assert!(about_them <= 2 * 13 + 2, "{about_them} requests");
    let stored: usize =
        server.requests().iter().filter(|request| !request.body.contains("poison")).map(|request| ours(&request.body)).sum();
    assert_eq!(stored, 4999);
    let letters = letters(&home);
    assert_eq!((letters.len(), &letters[0]["tags"]["kind"], &letters[0]["fields"]["n"]), (1, &"poison".into(), &3777.into()));
    assert_eq!(letters[0]["refused_by"], "main");
    assert!(letters[0]["refused_reason"].as_str().unwrap().starts_with("400 "), "{}", letters[0]);
    assert!(letters[0]["refused_time"].is_string());
    let shown = String::from_utf8(run(&mut home.command(&["status"])).stdout).unwrap();
    assert!(shown.contains("0 pending, 1 dead, last refused: 400 "), "{shown}");
    daemon.stop();
}

#[test]
fn many_poison_lines_do_not_stop_an_output_and_a_kill_amid_them_makes_none_twice() {
    let server = ScriptedServer::start([], Reply::Judge(picky));
    let home = Home::new(&config(&server));
    fill(&home, 3000, 10);
    let daemon = home.start();
    daemon.until(|| output(&daemon)["dead"].as_u64() >= Some(20));
    daemon.kill();
    let daemon = home.start();
    daemon.until(|| is(&daemon, 300, 0));
    let numbers: BTreeSet<i64> = letters(&home).iter().map(|letter| letter["fields"]["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=300).map(|n| 10 * n).collect());
    assert_eq!(letters(&home).len(), 300);
    assert_eq!(daemon.log().matches("output refused rows, they are dead letters").count(), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn dead_letters_are_requeued_by_the_running_service_and_those_refused_again_are_dead_again() {
    let server = ScriptedServer::start([], Reply::Judge(picky));
    let home = Home::new(&config(&server));
    fill(&home, 30, 10);
    let daemon = home.start();
    daemon.until(|| is(&daemon, 3, 0));
    let refused = output(&daemon)["refused"].as_u64().unwrap();
    assert_eq!(requeue(&home, &["--output", "main"]), (Some(0), "3 dead letters of main requeued\n".to_owned()));
    daemon.until(|| output(&daemon)["refused"] == refused + 3 && is(&daemon, 3, 0));
    let (status, said) = requeue(&home, &["--output", "typo"]);
    assert_eq!((status, said.contains("no output is called typo")), (Some(1), true), "{said}");
    server.afterwards(Reply::status(204));
    let before = server.requests().len();
    assert_eq!(requeue(&home, &[]), (Some(0), "3 dead letters requeued\n".to_owned()));
    daemon.until(|| is(&daemon, 0, 0));
    let again: usize = server.requests()[before..].iter().map(|request| ours(&request.body)).sum();
    assert_eq!((again, letters(&home).len()), (3, 0));
    assert_eq!(requeue(&home, &[]), (Some(0), "0 dead letters requeued\n".to_owned()));
    daemon.stop();
}

#[test]
fn dead_letters_are_requeued_in_the_journal_while_no_qosd_runs_and_are_sent_once_it_does() {
    let server = ScriptedServer::start([], Reply::Judge(picky));
    let home = Home::new(&config(&server));
    assert_eq!(requeue(&home, &[]).0, Some(1), "there is no journal yet");
    fill(&home, 30, 10);
    let daemon = home.start();
    daemon.until(|| is(&daemon, 3, 0));
    daemon.kill();
    assert_eq!(requeue(&home, &[]), (Some(0), "3 dead letters requeued\n".to_owned()));
    server.afterwards(Reply::status(204));
    let before = server.requests().len();
    let daemon = home.start();
    daemon.until(|| is(&daemon, 0, 0));
    let again: usize = server.requests()[before..].iter().map(|request| request.body.matches("kind=poison").count()).sum();
    assert_eq!(again, 3);
    assert_eq!(daemon.ask("GET", "/api/v1/requeue").0, 404, "nothing is changed by looking");
    daemon.stop();
}
