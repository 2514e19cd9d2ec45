//! The overview as it is rendered.

use super::page;
use crate::measurement::{Row, Series};
use crate::page::testing::{HOSTILE, asked, report, sight, sound};
use crate::probe::{Finding, Naming, Outcome};
use crate::status::Board;
use crate::status::testing::{at, failed, ok, series};

fn board() -> Board {
    let board = Board::default();
    board.schedule(&["fast", "lost", "new"].map(series));
    board.observe(&ok("fast", 990, 12.345));
    board.observe(&failed("lost", 995, Outcome::Timeout));
    board
}

#[tokio::test(start_paused = true)]
async fn every_series_is_a_row_with_its_state_value_loss_and_age() {
    let answer = page(&sight(&board(), "rome-1"), &asked(&[]));
    let body = sound(&answer);
    assert_eq!(answer.status, 200);
    for part in [
        "<h1>Overview of rome-1</h1>",
        r#"<table id="series">"#,
        r#"<form id="filter" method="get""#,
        r#"name="q""#,
        r#"placeholder="word or tag=value""#,
        r#"name="kind""#,
        r#"name="state""#,
        r#"name="sort""#,
        r#"<a href="/probe/ping/core/fast">fast</a>"#,
        "12.35 <small>ms</small>",
        r#"<td class="state failing">failing"#,
        r#"<td class="why">timeout: no reply"#,
        r#"<time datetime="1970-01-01T00:16:30Z" title="1970-01-01T00:16:30Z">10s</time>"#,
        r#"The newest row is of <time datetime="1970-01-01T00:16:35Z">"#,
        r#"<a class="state failing" href="/?state=failing">1 failing</a>"#,
        "site=milan",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert_eq!(body.matches("<tr><td").count(), 3);
    assert!(body.find(">lost<").unwrap() < body.find(">fast<").unwrap(), "the worst comes first");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_measured_is_no_zero() {
    let board = Board::default();
    board.schedule(&[series("new")]);
    let answer = page(&sight(&board, "rome-1"), &asked(&[]));
    let row = sound(&answer).split("<tbody>").nth(1).unwrap().split("</tr>").next().unwrap().to_owned();
    assert!(row.matches("—").count() == 3 && !row.contains(">0"), "{row}");
    assert!(row.contains("never measured"), "{row}");
}

#[tokio::test(start_paused = true)]
async fn hostile_texts_are_text_in_every_place() {
    let board = Board::default();
    let naming = Naming { agent: HOSTILE.into(), kind: "ping", probe: HOSTILE.into() };
    let hostile = naming.series(HOSTILE, HOSTILE, &[("site".to_owned(), HOSTILE.to_owned())].into());
    board.schedule(std::iter::once(&hostile));
    let error = format!("{HOSTILE}{}", "x".repeat(65_536));
    board.observe(&Row { series: hostile, time: at(999), fields: Finding::failed(Outcome::TlsError, error).into_fields(None) });
    let answer = page(&sight(&board, HOSTILE), &asked(&[("q", "script"), ("kind", "ping")]));
    let body = sound(&answer);
    assert!(body.contains("&#60;script&#62;alert(1)&#60;/script&#62;&#34;&#39;&#38;⟨U+202E⟩␛[31m␊"), "{body}");
    assert!(body.contains(" characters)") && body.len() < 20_000, "{}", body.len());
    // What was asked for, too.
    let answer = page(&sight(&board, "a"), &asked(&[("q", "\"><script>x</script>"), ("kind", "<script>")]));
    sound(&answer);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_query_is_told_in_a_page() {
    let answer = page(&sight(&board(), "rome-1"), &asked(&[("sort", "<script>")]));
    assert_eq!(answer.status, 400);
    assert!(sound(&answer).contains("expected one of state, target, value, loss, age"));
}

#[tokio::test(start_paused = true)]
async fn what_needs_a_person_stands_on_top() {
    let mut wrong = report("rome-1");
    wrong["config"]["problem"] = "qosd.toml:1:1: wrong <b>".into();
    wrong["journal"]["failing"] = "no space left".into();
    wrong["outputs"][0]["last_error"] = "connection refused".into();
    wrong["actors"][0]["state"] = "waiting".into();
    let sight = crate::page::Sight { report: std::sync::Arc::new(move || wrong.clone()), ..sight(&board(), "") };
    let answer = page(&sight, &asked(&[]));
    let body = sound(&answer);
    for part in ["qosd.toml:1:1: wrong &#60;b&#62;", "no space left", "Output main takes nothing, 1 rows wait", "writer is waiting"] {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert_eq!(body.matches(r#"<p class="notice bad">"#).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn many_series_are_on_further_pages() {
    let board = Board::default();
    board.schedule(&(0..1_001).map(|n| series(&format!("t{n}"))).collect::<Vec<Series>>());
    let answer = page(&sight(&board, "a"), &asked(&[]));
    assert!(sound(&answer).contains(r#"<a href="/?page=2">2</a>"#));
    let answer = page(&sight(&board, "a"), &asked(&[("page", "2")]));
    assert_eq!(sound(&answer).matches("<tr><td").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_series_it_says_what_to_do() {
    let answer = page(&sight(&Board::default(), "a"), &asked(&[]));
    assert!(sound(&answer).contains("qosd check"));
}
