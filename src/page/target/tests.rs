//! The page of a target as it is rendered.

use std::collections::BTreeMap;

use askama::Template;

use super::{Span, View, page, seen};
use crate::history::range::{Lacking, Range};
use crate::measurement::{Row, Value};
use crate::mesh::collector::status::Counts;
use crate::page::shown::shown;
use crate::page::testing::{HOSTILE, asked, report, sight, sound};
use crate::page::{Subject, chart};
use crate::probe::{Finding, Naming, Outcome};
use crate::status::Board;
use crate::status::testing::{at, failed, ok, series};

fn subject(target: &str) -> Subject {
    Subject { kind: "ping".into(), probe: "core".into(), target: target.into() }
}

fn board() -> Board {
    let board = Board::default();
    board.schedule(&["edge"].map(series));
    let mut row = ok("edge", 990, 12.345);
    row.fields.put("ping_sent", Value::Integer(5));
    row.fields.put("address", Value::Text("192.0.2.1".into()));
    board.observe(&row);
    board
}

#[tokio::test(start_paused = true)]
async fn a_target_has_its_state_ranges_charts_values_and_events() {
    let answer = page(&sight(&board(), "rome-1"), &subject("edge"), &asked(&[])).await;
    let body = sound(&answer);
    assert_eq!(answer.status, 200);
    for part in [
        "<h1>edge</h1>",
        r#"<nav id="ranges""#,
        r#"<a href="?range=1h">1h</a>"#,
        r#"<a href="?range=6h" aria-current="true">6h</a>"#,
        r#"<a href="?range=30d">30d</a>"#,
        r#"<form id="span" method="get">"#,
        r#"name="from" step="1" value="1969-12-31"#,
        r#"name="to" step="1" value="1970-01-01T00:16:40""#,
        r#"<span class="state ok">ok</span>"#,
        "<dd>192.0.2.1</dd>",
        "<code>ping_avg_ms</code><td class=\"figure\">12.35<td>ms",
        "<code>ping_sent</code><td class=\"figure\">5<td>",
        r#"<table id="events">"#,
        "<dt>site</dt><dd>milan</dd>",
    ] {
        // Times before the epoch show as the epoch.
        let part = part.replace("1969-12-31", "1970-01-01T00:00:00");
        assert!(body.contains(&part), "{part} in {body}");
    }
    for chart in chart::charts("ping") {
        let figure = body.split(&format!(r#"<figure class="chart" id="chart-{}">"#, chart.field)).nth(1).unwrap();
        assert!(figure.contains(&format!("/chart/ping/core/edge.svg?field={}&#38;family=ipv4&#38;source=rome-1", chart.field)), "{figure}");
        assert!(figure.split("</figure>").next().unwrap().contains("/chart/ping/core/edge.csv?field="), "{figure}");
    }
}

#[tokio::test(start_paused = true)]
async fn several_series_of_a_target_have_a_group_each() {
    let board = Board::default();
    let naming = Naming { agent: "rome-1".into(), kind: "ping", probe: "core".into() };
    board.schedule(&["ipv4", "ipv6"].map(|family| naming.series("edge", family, &BTreeMap::default())));
    let answer = page(&sight(&board, "rome-1"), &subject("edge"), &asked(&[("range", "1h")])).await;
    let body = sound(&answer);
    assert_eq!(body.matches(r#"<section class="group""#).count(), 2);
    assert!(body.contains(r#"<a href="?range=1h&#38;family=ipv6&#38;source=rome-1">IPv6 from rome-1</a>"#), "{body}");
    let answer = page(&sight(&board, "rome-1"), &subject("edge"), &asked(&[("family", "ipv6")])).await;
    let body = sound(&answer);
    assert_eq!(body.matches(r#"<section class="group""#).count(), 1);
    assert!(body.contains(r#"<input type="hidden" name="family" value="ipv6">"#) && body.contains("All series of this target"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn of_very_many_series_only_some_are_drawn_and_it_says_so() {
    let board = Board::default();
    let of = |n: usize| Naming { agent: format!("p{n}"), kind: "ping", probe: "core".into() }.series("edge", "ipv4", &BTreeMap::default());
    board.schedule(&(0..300).map(of).collect::<Vec<_>>());
    let answer = page(&sight(&board, "a"), &subject("edge"), &asked(&[])).await;
    let body = sound(&answer);
    assert_eq!(body.matches(r#"<section class="group""#).count(), 4);
    assert!(body.contains("Charts of 4 of 300 series") && body.contains("and 100 more"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_since_when_and_a_value_that_is_not_there_is_no_zero() {
    let board = board();
    board.observe(&failed("edge", 995, Outcome::Timeout));
    board.observe(&failed("edge", 999, Outcome::Timeout));
    let answer = page(&sight(&board, "rome-1"), &subject("edge"), &asked(&[])).await;
    let body = sound(&answer);
    assert!(body.contains("<dt>Failing since</dt><dd><time datetime=\"1970-01-01T00:16:35Z\">"), "{body}");
    assert!(body.contains(r#"<span class="state failing">failing</span> <span class="why">timeout: no reply</span>"#), "{body}");
    assert!(!body.contains("ping_avg_ms</code>"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_was_not_run_hides_neither_the_last_values_nor_that_they_are_older() {
    let board = board();
    board.observe(&failed("edge", 995, Outcome::Skipped));
    let answer = page(&sight(&board, "rome-1"), &subject("edge"), &asked(&[])).await;
    let body = sound(&answer);
    for part in [
        r#"<span class="state skipped">skipped</span>"#,
        r#"<dt>Last row</dt><dd><time datetime="1970-01-01T00:16:35Z">"#,
        "<dd>192.0.2.1</dd>",
        "<caption>Every field of the last run, of 1970-01-01T00:16:30Z</caption>",
        "<code>ping_avg_ms</code><td class=\"figure\">12.35",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
}

/// What the page of a collector, called so, shows at second 1000 of the pair p1 to p2, of which it has this result.
async fn pair_on(collector: &str, second: i64, outcome: Outcome) -> String {
    let mut sight = sight(&Board::default(), collector);
    let mut report = report(collector);
    report["collector"] = serde_json::json!({
        "probes": 2, "interval_s": 10.0, "expected": 2, "absent_now": 0, "counts": Counts::default(), "sources": [],
    });
    sight.report = std::sync::Arc::new(move || report.clone());
    let naming = Naming { agent: "p1".into(), kind: "ping", probe: "mesh".into() };
    let pair = naming.series("p2", "ipv4", &BTreeMap::default());
    sight.pairs.observe(&Row { series: pair.clone(), ..failed("p2", second, outcome) }, None);
    let subject = Subject { kind: "ping".into(), probe: "mesh".into(), target: "p2".into() };
    let span = Span { from: at(0), to: at(1_000) };
    let all = [pair];
    let seen = seen(&sight, &all, span, Some(shown("no disk"))).await;
    let view = View { subject: &subject, asked: &asked(&[]), now: at(1_000), span, series: &all, seen: &seen, trouble: None };
    view.page(&sight).render().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_another_host_of_the_mesh_measures_is_as_its_last_result_while_that_is_not_old() {
    let body = pair_on("c", 990, Outcome::Timeout).await;
    assert!(body.contains(r#"<span class="state failing">failing</span> <span class="why">timeout</span>"#), "{body}");
    assert!(body.contains(r#"<dt>Last row</dt><dd><time datetime="1970-01-01T00:16:30Z">"#), "{body}");
    assert!(body.contains("Only those of series are kept that this host measures now"), "{body}");
    assert!(pair_on("c", 970, Outcome::Ok).await.contains(r#"<span class="state ok">ok</span></p>"#));
    let old = r#"<span class="state stale">stale</span> <span class="why">no result came lately; the last was ok</span>"#;
    assert!(pair_on("c", 969, Outcome::Ok).await.contains(old));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_silent_is_told_from_packets_that_were_lost() {
    let absent = r#"<span class="state stale">stale</span> <span class="why">absent: the source sent no result in time</span>"#;
    assert!(pair_on("c", 990, Outcome::PeerAbsent).await.contains(absent));
}

#[tokio::test(start_paused = true)]
async fn what_this_host_itself_measures_no_more_is_not_scheduled_although_its_pair_is_not_forgotten() {
    assert!(pair_on("p1", 990, Outcome::Ok).await.contains(r#"<span class="state disabled">not scheduled</span></p>"#));
}

#[tokio::test(start_paused = true)]
async fn where_the_history_fails_its_sentence_stands_in_the_place_of_the_charts() {
    let (sight, subject, asked) = (sight(&board(), "rome-1"), subject("edge"), asked(&[]));
    let span = Span { from: at(0), to: at(1_000) };
    let all = [series("edge"), series("edge")];
    let seen = seen(&sight, &all, span, Some(shown("the disk <b> takes too long"))).await;
    let view = View { subject: &subject, asked: &asked, now: at(1_000), span, series: &all, seen: &seen, trouble: None };
    let body = view.page(&sight).render().unwrap();
    assert_eq!(body.matches(r#"role="status"><strong>There is no chart now:</strong> the disk &#60;b&#62; takes too long</p>"#).count(), 2);
    assert!(!body.contains("<figure") && !body.contains("no rows"), "{body}");
    assert!(body.contains("<caption>Not known now</caption>"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn of_a_history_that_is_being_made_there_are_charts_and_what_is_not_known_is_not_called_nothing() {
    let (sight, subject, asked) = (sight(&board(), "rome-1"), subject("edge"), asked(&[]));
    let span = Span { from: at(0), to: at(1_000) };
    let lacking = Lacking { rows: 7, from: at(0), to: at(500), why: None };
    let seen = [(series("edge"), Ok(Range { lacking: Some(lacking), ..Range::empty(span) }))];
    let view = View { subject: &subject, asked: &asked, now: at(1_000), span, series: &[series("edge")], seen: &seen, trouble: None };
    let body = view.page(&sight).render().unwrap();
    assert_eq!(body.matches("<figure").count(), 3);
    assert!(body.contains("Not complete: 7 rows of the journal") && body.contains("<caption>Not known now</caption>"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_target_and_a_wrong_time_are_told_in_a_page() {
    let answer = page(&sight(&board(), "a"), &subject(HOSTILE), &asked(&[])).await;
    assert_eq!(answer.status, 404);
    assert!(sound(&answer).contains(r#"<a href="/">overview</a>"#));
    let answer = page(&sight(&board(), "a"), &subject("edge"), &asked(&[("range", "<script>")])).await;
    assert_eq!(answer.status, 400);
    assert!(sound(&answer).contains("expected one of 1h, 6h, 24h, 3d, 7d, 30d"));
    let answer = page(&sight(&board(), "a"), &subject("edge"), &asked(&[("from", "200"), ("to", "100")])).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test(start_paused = true)]
async fn hostile_texts_are_text_in_every_place() {
    let board = Board::default();
    let naming = Naming { agent: HOSTILE.into(), kind: "ping", probe: HOSTILE.into() };
    let hostile = naming.series(HOSTILE, HOSTILE, &[("site".to_owned(), HOSTILE.to_owned())].into());
    board.schedule(std::iter::once(&hostile));
    let mut fields = Finding::failed(Outcome::Refused, HOSTILE.repeat(1_000)).into_fields(None);
    fields.put("address", Value::Text(HOSTILE.into()));
    board.observe(&Row { series: hostile, time: at(999), fields });
    let subject = Subject { kind: "ping".into(), probe: HOSTILE.into(), target: HOSTILE.into() };
    let answer = page(&sight(&board, HOSTILE), &subject, &asked(&[("source", HOSTILE)])).await;
    assert_eq!(answer.status, 200);
    let body = answer.body.replace(&attribute(HOSTILE), "");
    sound(&crate::page::Answer { body, ..answer });
}

/// What a browser sends back has to be what it was, whatever that is.
fn attribute(text: &str) -> String {
    let escaped = text.replace('&', "&#38;").replace('<', "&#60;").replace('>', "&#62;").replace('"', "&#34;").replace('\'', "&#39;");
    format!(r#"value="{escaped}""#)
}
