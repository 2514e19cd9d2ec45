//! The page of the matrix: what it says of whom, and that names of others are text.

use std::time::Duration;

use serde_json::json;

use super::cell::Cell;
use super::listed::Listed;
use super::*;
use crate::mesh::collector::status::{CollectorStatus, Counts, SourceStatus};
use crate::probe::Outcome;
use crate::status::pairs::Pair;

const NOW: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

fn named(source: &str, target: &str, outcome: Outcome, loss: Option<f32>, rtt: Option<f32>) -> Named {
    let pair = Pair { time: NOW.minus(Duration::from_secs(5)), outcome, loss_pct: loss, rtt_ms: rtt, heard: None };
    Named { source: source.into(), target: target.into(), proto: Proto::V4, pair }
}

fn mesh(names: &[&str]) -> Listed {
    let source = |name: &&str| SourceStatus { name: (*name).to_owned(), protos: vec![Proto::V4], age_s: None, results: 0, absent: 0 };
    let status = CollectorStatus {
        probes: names.len(),
        interval_s: 60.0,
        expected: 0,
        absent_now: 0,
        counts: Counts::default(),
        sources: names.iter().map(source).collect(),
    };
    listed(&json!({ "agent": "here", "collector": status, "mesh": null }), &[]).unwrap()
}

fn shown(listed: &Listed, pairs: &[Named], view: View) -> String {
    Page::inside(table(listed, pairs, view, NOW), view, listed.whole, NOW).render().unwrap()
}

const LOSS: View = View { show: Show::Loss, sort: Sort::Name, proto: Proto::V4 };

fn example() -> Vec<Named> {
    vec![
        named("a", "b", Outcome::Ok, Some(0.0), Some(1.5)),
        named("b", "a", Outcome::Partial, Some(10.0), Some(2.5)),
        named("a", "c", Outcome::Timeout, Some(100.0), None),
        named("c", "a", Outcome::PeerAbsent, None, None),
    ]
}

#[test]
fn each_pair_is_a_cell_with_the_way_back_beside_it() {
    let html = shown(&mesh(&["a", "b", "c"]), &example(), LOSS);
    for cell in [
        r#"<th scope="row">a</th><td class="self">–</td>"#,
        r#"<td class="ok"><a href="/probe/ping/mesh/b?source=a&#38;family=ipv4">0 %</a> <small>10.0 %</small></td>"#,
        r#"<td class="high"><a href="/probe/ping/mesh/c?source=a&#38;family=ipv4">100 %</a> <small>absent</small></td>"#,
        r#"<td class="absent"><a href="/probe/ping/mesh/a?source=c&#38;family=ipv4">absent</a> <small>100 %</small></td>"#,
        r#"<td class="never">never</td>"#,
    ] {
        assert!(html.contains(cell), "{cell}\n{html}");
    }
    assert!(html.contains(r#"<th scope="col">c</th>"#));
}

#[test]
fn the_worst_row_and_column_are_named_above() {
    let listed = mesh(&["a", "b", "c"]);
    let told = |view| sentences(&table(&listed, &example(), view, NOW), view);
    assert_eq!(
        told(LOSS),
        "6 pairs over IPv4: 1 without loss, 2 with loss, 1 of which no result came (absent), 2 never heard of. \
         Worst row: a (50.0 % loss on average to 2). Worst column: c (100.0 % loss on average from 1)."
    );
    let latency = told(View { show: Show::Latency, ..LOSS });
    assert!(latency.ends_with("Worst row: a (1.5 ms on average to 1, no figure to 1). Worst column: c (no figure from 1)."), "{latency}");
    let fine = [named("a", "b", Outcome::Ok, Some(0.0), Some(1.0))];
    assert_eq!(sentences(&table(&mesh(&["a"]), &fine, LOSS, NOW), LOSS), "1 pairs over IPv4: 1 without loss, 0 with loss.");
}

#[test]
fn what_was_not_measured_is_not_worse_than_what_was_lost() {
    let pairs = [
        named("a", "b", Outcome::Partial, Some(50.0), Some(1.0)),
        named("b", "a", Outcome::LocalError, None, None),
        named("b", "c", Outcome::Ok, Some(0.0), Some(1.0)),
    ];
    let told = sentences(&table(&mesh(&["a", "b", "c"]), &pairs, LOSS, NOW), LOSS);
    assert!(told.ends_with("Worst row: a (50.0 % loss on average to 1). Worst column: b (50.0 % loss on average from 1)."), "{told}");
    let alone = sentences(&table(&mesh(&["a", "b"]), &pairs[1..2], LOSS, NOW), LOSS);
    assert!(alone.ends_with("Worst row: b (1 not measured). Worst column: a (1 not measured)."), "{alone}");
}

#[test]
fn the_worst_come_first_if_that_is_asked() {
    let table = table(
        &mesh(&["a", "b", "c", "d"]),
        &[example(), vec![named("d", "a", Outcome::Partial, Some(60.0), Some(1.0))]].concat(),
        View { sort: Sort::Worst, ..LOSS },
        NOW,
    );
    let rows: Vec<_> = table.rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(rows, ["d", "a", "b", "c"]);
    assert_eq!(table.targets, ["c", "a", "b", "d"]);
}

#[test]
fn whoever_is_not_listed_any_more_is_shown_while_it_is_heard() {
    let pairs = [named("gone", "a", Outcome::Ok, Some(0.0), Some(1.0))];
    let found = table(&mesh(&["a", "b"]), &pairs, LOSS, NOW);
    let rows: Vec<_> =
        found.rows.iter().map(|(name, cells)| (name.as_str(), cells.iter().map(|(there, _)| there.class()).collect::<Vec<_>>())).collect();
    assert_eq!(rows, [("a", vec!["self", "never"]), ("b", vec!["never", "self"]), ("gone", vec!["ok", "unlisted"])]);
    let later = table(&mesh(&["a", "b"]), &pairs, LOSS, NOW.plus(Duration::from_hours(1)));
    assert_eq!(later.rows.len(), 2);
    let silent = [named("gone", "a", Outcome::PeerAbsent, None, None), named("a", "gone", Outcome::PeerAbsent, None, None)];
    assert_eq!(table(&mesh(&["a", "b"]), &silent, LOSS, NOW).rows.len(), 2, "nobody expects anything of it");
    assert_eq!(table(&mesh(&["a"]), &[], View { proto: Proto::V6, ..LOSS }, NOW).targets, Vec::<String>::new());
}

#[test]
fn an_agent_shows_its_own_row_and_says_where_the_rest_is() {
    let status = json!({
        "collector": "https://c.example/", "name": "here", "peers": 1, "listed": true, "fetched": null, "age_s": null, "stale": false,
        "refused": 0, "refusals": [], "interval": "1m", "count": 10, "spacing": "1s", "asked": null, "error": null, "since": null,
        "lost": 0, "lost_why": null
    });
    let tags = [("source", "here"), ("target", "b"), ("probe", "mesh"), ("kind", "ping"), ("family", "ipv4")];
    let scheduled = [crate::measurement::Series::new("qos_metrics", tags)];
    let listed = listed(&json!({ "agent": "here", "collector": null, "mesh": status }), &scheduled).unwrap();
    assert_eq!((listed.whole, listed.interval), (false, Some(Duration::from_mins(1))));
    let html = shown(&listed, &[named("here", "b", Outcome::Ok, Some(0.0), Some(1.0))], LOSS);
    assert!(html.contains("Their collector shows the whole mesh") && html.matches("<th scope=\"row\">").count() == 1, "{html}");
}

#[test]
fn who_is_in_no_mesh_is_told_how_to_make_one() {
    assert_eq!(listed(&json!({ "agent": "here", "collector": null, "mesh": null }), &[]), None);
    assert_eq!(listed(&json!({}), &[]), None);
    let html = Page::outside(NOW).render().unwrap();
    let heads = [r#"<a href="/mesh" aria-current="page">"#, r#"As of <time datetime="2023-11-14T22:13:20Z">"#];
    assert!(heads.iter().all(|head| html.contains(head)), "{html}");
    assert!(html.contains("[collector]") && html.contains("[mesh]") && !html.contains("<table"));
}

#[test]
fn names_of_others_are_text() {
    let name = "<script>\"'&/ü";
    let html = shown(&mesh(&["a", name]), &[named("a", name, Outcome::Ok, Some(0.0), Some(1.0))], LOSS);
    assert!(!html.contains("<script>\""), "{html}");
    assert!(html.contains("/probe/ping/mesh/%3Cscript%3E%22%27%26%2F%C3%BC?source=a"), "{html}");
}

#[test]
fn what_cannot_be_asked_is_refused_with_what_can() {
    let asked = |key: &str, value: &str| Asked { query: [(key.to_owned(), value.to_owned())].into() };
    assert_eq!(view(&Asked::default(), Proto::V6), Ok(View { proto: Proto::V6, ..LOSS }));
    assert_eq!(view(&asked("show", "latency"), Proto::V4), Ok(View { show: Show::Latency, ..LOSS }));
    assert_eq!(view(&asked("family", "x"), Proto::V4), Err("family is \"x\", expected one of ipv4, ipv6".to_owned()));
}

#[test]
fn a_mesh_of_a_hundred_has_a_cell_for_each_pair() {
    let names: Vec<String> = (0..100).map(|n| format!("p{n}-ixpqos")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let one = |source: &&str| names.iter().map(|target| named(source, target, Outcome::Ok, Some(0.0), Some(1.5))).collect::<Vec<_>>();
    let pairs: Vec<_> = names.iter().flat_map(one).collect();
    let html = shown(&mesh(&names), &pairs, View { sort: Sort::Worst, ..LOSS });
    assert_eq!(html.matches("<td class=\"ok\">").count(), 9900);
    assert_eq!(html.matches(Cell::Itself.class()).count(), 100);
}
