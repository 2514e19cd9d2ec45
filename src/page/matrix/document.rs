//! `/api/v1/mesh`: the matrix for programs, pair by pair, each way on its own.
//!
//! An answer has at most [`PER_PAGE`] pairs, which is less than 1 MiB, and says which page goes on. Pairs come in the order of
//! their names, and a page is a place in that order at this moment: when hosts come or go between two calls, the others move, and
//! who reads page after page may miss a pair or see it twice. But for the look at what is known it is pure.

use std::collections::BTreeSet;

use serde::Serialize;

use super::cell::Cell;
use super::listed::{Listed, listed};
use super::ways::Ways;
use super::{one_of, usual_proto};
use crate::clock::Timestamp;
use crate::mesh::list::Proto;
use crate::page::api::json;
use crate::page::shown::shown;
use crate::page::{Answer, Asked, Sight};
use crate::probe::Outcome;

/// The most pairs of one answer.
const PER_PAGE: usize = 1_000;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted<'a> {
    proto: Proto,
    /// Only pairs of this host.
    host: Option<&'a str>,
    /// From 1 on.
    page: usize,
}

/// The answer.
pub(in crate::page) fn document(sight: &Sight, asked: &Asked) -> Answer {
    let (report, scheduled, now) = ((sight.report)(), sight.board.scheduled(), sight.clock.now().unix);
    let Some(listed) = listed(&report, &scheduled) else { return Answer::refused(404, "this host is in no mesh") };
    let pairs = sight.pairs.all();
    let wanted = match Wanted::of(asked, usual_proto(&listed, &pairs)) {
        Ok(wanted) => wanted,
        Err(why) => return Answer::refused(400, &why),
    };
    let ways = Ways::of(&listed, &pairs, wanted.proto, now);
    match wanted.host.filter(|host| !ways.sources.contains(host) && !ways.targets.contains(host)) {
        Some(host) => Answer::refused(404, &format!("host is {:?}, and nobody in this mesh is called so", shown(host).to_string())),
        None => json(&Mesh::of(&listed, &ways, wanted, sight.pairs.unplaced(), now)),
    }
}

impl<'a> Wanted<'a> {
    fn of(asked: &'a Asked, usual: Proto) -> Result<Self, String> {
        let proto = one_of(asked, "family", &[("ipv4", Proto::V4), ("ipv6", Proto::V6)])?.unwrap_or(usual);
        let page = asked.get("page").map_or(Some(1), |text| text.parse().ok().filter(|page| *page > 0));
        let page = page.ok_or_else(|| format!("page is {:?}, expected a number from 1 on", asked.get("page").unwrap_or_default()))?;
        Ok(Self { proto, host: asked.get("host"), page })
    }
}

/// The whole document. What is not known is `null`.
#[derive(Serialize)]
struct Mesh<'a> {
    time: Timestamp,
    family: &'static str,
    /// Whether this is a collector, and tells of the whole mesh.
    whole: bool,
    interval_s: Option<f64>,
    /// Results of pairs for which there was no place.
    unplaced: u64,
    page: usize,
    /// Where there are more pairs.
    next_page: Option<usize>,
    pairs: Vec<Both<'a>>,
}

/// Two hosts, the first of the two names first.
#[derive(Serialize)]
struct Both<'a> {
    a: &'a str,
    b: &'a str,
    a_to_b: Way,
    b_to_a: Way,
}

/// What the one found of the other.
#[derive(Serialize)]
struct Way {
    state: &'static str,
    result: Option<&'static str>,
    loss_pct: Option<f32>,
    rtt_ms: Option<f32>,
    time: Option<Timestamp>,
    age_s: Option<f64>,
    /// When the last result came that was not absent.
    heard: Option<Timestamp>,
}

impl<'a> Mesh<'a> {
    fn of(listed: &Listed, ways: &'a Ways<'a>, wanted: Wanted<'_>, unplaced: u64, now: Timestamp) -> Self {
        let hosts: BTreeSet<&str> = ways.sources.union(&ways.targets).copied().collect();
        let is_wanted = |a: &str, b: &str| wanted.host.is_none_or(|host| [a, b].contains(&host));
        let both = |a: &'a str, b: &'a str| {
            let (there, back) = (ways.cell(a, b), ways.cell(b, a));
            let is_pair = there != Cell::Unlisted || back != Cell::Unlisted;
            is_pair.then(|| Both { a, b, a_to_b: Way::of(there, now), b_to_a: Way::of(back, now) })
        };
        let of = |a: &'a str| hosts.range(a..).skip(1).copied().filter(move |b| is_wanted(a, b)).filter_map(move |b| both(a, b));
        let mut all = hosts.iter().copied().flat_map(of).skip(PER_PAGE.saturating_mul(wanted.page - 1));
        let pairs = all.by_ref().take(PER_PAGE).collect();
        Self {
            time: now,
            family: wanted.proto.family(),
            whole: listed.whole,
            interval_s: listed.interval.map(|interval| interval.as_secs_f64()),
            unplaced,
            page: wanted.page,
            next_page: all.next().map(|_| wanted.page + 1),
            pairs,
        }
    }
}

impl Way {
    fn of(cell: Cell, now: Timestamp) -> Self {
        let pair = match cell {
            Cell::Seen { pair, .. } => Some(pair),
            Cell::Itself | Cell::Unlisted | Cell::Never => None,
        };
        Self {
            state: state(cell),
            result: pair.map(|pair| pair.outcome.name()),
            loss_pct: pair.and_then(|pair| pair.loss_pct),
            rtt_ms: pair.and_then(|pair| pair.rtt_ms),
            time: pair.map(|pair| pair.time),
            age_s: pair.map(|pair| now.since(pair.time).as_secs_f64()),
            heard: pair.and_then(|pair| pair.heard),
        }
    }
}

/// The words of the matrix, with one for all figures of loss.
fn state(cell: Cell) -> &'static str {
    match cell {
        Cell::Itself => "self",
        Cell::Unlisted => "not_listed",
        Cell::Never => "never",
        Cell::Seen { stale: true, .. } => "old",
        Cell::Seen { pair, .. } => match (pair.outcome, pair.loss_pct) {
            (Outcome::PeerAbsent, _) => "absent",
            (_, Some(loss)) if loss <= 0.0 => "ok",
            (_, Some(_)) => "lossy",
            (Outcome::Ok, None) => "ok",
            (_, None) => "failed",
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::collector::status::Counts;
    use crate::page::testing::{asked, report, sight};
    use crate::status::Board;
    use crate::status::pairs::{Named, Pair};

    const NOW: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);
    const FIRST: Wanted<'_> = Wanted { proto: Proto::V4, host: None, page: 1 };

    fn named(source: &str, target: &str, outcome: Outcome, loss: Option<f32>, age: u64) -> Named {
        let time = NOW.minus(Duration::from_secs(age));
        let pair = Pair { time, outcome, loss_pct: loss, rtt_ms: loss.map(|_| 1.5), heard: loss.map(|_| time) };
        Named { source: source.into(), target: target.into(), proto: Proto::V4, pair }
    }

    fn mesh(names: &[&str]) -> Listed {
        Listed {
            sources: names.iter().map(|name| (*name).to_owned()).collect(),
            targets: names.iter().map(|name| ((*name).to_owned(), [Proto::V4].into())).collect(),
            interval: Some(Duration::from_mins(1)),
            whole: true,
        }
    }

    fn told(listed: &Listed, pairs: &[Named], wanted: Wanted<'_>) -> Value {
        let ways = Ways::of(listed, pairs, wanted.proto, NOW);
        serde_json::to_value(Mesh::of(listed, &ways, wanted, 7, NOW)).unwrap()
    }

    #[test]
    fn a_pair_has_both_ways_as_they_are_documented() {
        let pairs = [named("a", "b", Outcome::Partial, Some(12.5), 5), named("b", "a", Outcome::PeerAbsent, None, 300)];
        let way = json!({
            "state": "lossy", "result": "partial", "loss_pct": 12.5, "rtt_ms": 1.5, "time": "2023-11-14T22:13:15.000000000Z",
            "age_s": 5.0, "heard": "2023-11-14T22:13:15.000000000Z",
        });
        let back = json!({
            "state": "old", "result": "peer_absent", "loss_pct": null, "rtt_ms": null, "time": "2023-11-14T22:08:20.000000000Z",
            "age_s": 300.0, "heard": null,
        });
        let expected = json!({
            "time": "2023-11-14T22:13:20.000000000Z", "family": "ipv4", "whole": true, "interval_s": 60.0, "unplaced": 7,
            "page": 1, "next_page": null, "pairs": [{ "a": "a", "b": "b", "a_to_b": way, "b_to_a": back }],
        });
        assert_eq!(told(&mesh(&["a", "b"]), &pairs, FIRST), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_tells_of_its_mesh_and_others_that_they_are_in_none() {
        let alone = sight(&Board::default(), "rome-1");
        assert_eq!(document(&alone, &asked(&[])).status, 404);
        let source = |name: &str| json!({ "name": name, "protos": [6], "age_s": null, "results": 0, "absent": 0 });
        let mut report = report("rome-1");
        report["collector"] = json!({
            "probes": 2, "interval_s": 60.0, "expected": 2, "absent_now": 0, "counts": Counts::default(), "sources": [source("a"), source("b")],
        });
        let collector = Sight { report: std::sync::Arc::new(move || report.clone()), ..alone };
        let told = document(&collector, &asked(&[]));
        let document_of: Value = serde_json::from_str(&told.body).unwrap();
        assert_eq!((told.status, told.content_type, &document_of["family"]), (200, "application/json", &json!("ipv6")));
        assert_eq!(document_of["pairs"][0]["b_to_a"]["state"], "never");
        let [status, other] = [("family", "x"), ("host", "c\u{202e}")].map(|one| document(&collector, &asked(&[one])));
        assert_eq!((status.status, other.status), (400, 404));
        assert_eq!(other.body, "host is \"c⟨U+202E⟩\", and nobody in this mesh is called so\n");
    }

    #[test]
    fn a_word_for_programs_does_not_depend_on_how_the_cell_looks() {
        let seen = |outcome, loss, age| Cell::seen(named("a", "b", outcome, loss, age).pair, Some(Duration::from_mins(1)), NOW);
        for (cell, word) in [
            (seen(Outcome::Ok, Some(0.0), 180), "ok"),
            (seen(Outcome::Ok, Some(0.0), 181), "old"),
            (seen(Outcome::Ok, None, 5), "ok"),
            (seen(Outcome::Partial, Some(4.0), 5), "lossy"),
            (seen(Outcome::Partial, Some(20.0), 5), "lossy"),
            (seen(Outcome::Timeout, Some(100.0), 5), "lossy"),
            (seen(Outcome::PeerAbsent, None, 5), "absent"),
            (seen(Outcome::ToolError, None, 5), "failed"),
            (Cell::Never, "never"),
            (Cell::Unlisted, "not_listed"),
        ] {
            assert_eq!(state(cell), word, "{cell:?}");
        }
    }

    #[test]
    fn each_state_has_its_word_and_who_is_in_no_pair_is_left_out() {
        let pairs = [
            named("a", "b", Outcome::Ok, Some(0.0), 5),
            named("b", "a", Outcome::Timeout, Some(100.0), 5),
            named("a", "c", Outcome::PeerAbsent, None, 5),
            named("b", "c", Outcome::ToolError, None, 5),
            named("new", "a", Outcome::Ok, Some(0.0), 5),
        ];
        let all = told(&mesh(&["a", "b", "c"]), &pairs, FIRST);
        let states = |pair: &Value| {
            ["a", "b"].map(|host| pair[host].as_str().unwrap().to_owned()).join("-")
                + " "
                + pair["a_to_b"]["state"].as_str().unwrap()
                + " "
                + pair["b_to_a"]["state"].as_str().unwrap()
        };
        let states: Vec<_> = all["pairs"].as_array().unwrap().iter().map(states).collect();
        assert_eq!(states, ["a-b ok lossy", "a-c absent never", "a-new not_listed ok", "b-c failed never"]);
    }

    #[test]
    fn the_pairs_of_one_host_can_be_asked_for() {
        let of = |host| told(&mesh(&["a", "b", "c"]), &[], Wanted { host: Some(host), ..FIRST })["pairs"].as_array().unwrap().len();
        assert_eq!((of("b"), of("a")), (2, 2));
        assert_eq!(told(&mesh(&["a", "b", "c"]), &[], FIRST)["pairs"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_large_mesh_is_told_page_by_page_each_pair_once_and_each_page_below_a_mebibyte() {
        let names: Vec<String> = (0..70).map(|n| format!("p{n:02}-{}", "x".repeat(60))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let one =
            |source: &&str| names.iter().map(|target| named(source, target, Outcome::TtlExceeded, Some(1.0 / 3.0), 59)).collect::<Vec<_>>();
        let pairs: Vec<_> = names.iter().flat_map(one).collect();
        let listed = mesh(&names);
        let pages: Vec<Value> = (1..=4).map(|page| told(&listed, &pairs, Wanted { page, ..FIRST })).collect();
        let counts: Vec<_> = pages.iter().map(|page| (page["pairs"].as_array().unwrap().len(), page["next_page"].as_u64())).collect();
        assert_eq!(counts, [(1_000, Some(2)), (1_000, Some(3)), (415, None), (0, None)]);
        let told: BTreeSet<_> = pages
            .iter()
            .flat_map(|page| page["pairs"].as_array().unwrap())
            .map(|pair| pair["a"].to_string() + &pair["b"].to_string())
            .collect();
        assert_eq!(told.len(), 70 * 69 / 2);
        assert!(pages[0].to_string().len() < 1 << 20, "{}", pages[0].to_string().len());
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_what_can() {
        assert_eq!(Wanted::of(&Asked::default(), Proto::V6), Ok(Wanted { proto: Proto::V6, ..FIRST }));
        let (ipv6, other, zero) = (asked(&[("family", "ipv6"), ("page", "2")]), asked(&[("family", "x")]), asked(&[("page", "0")]));
        assert_eq!(Wanted::of(&ipv6, Proto::V4), Ok(Wanted { proto: Proto::V6, host: None, page: 2 }));
        assert_eq!(Wanted::of(&other, Proto::V4), Err("family is \"x\", expected one of ipv4, ipv6".to_owned()));
        assert_eq!(Wanted::of(&zero, Proto::V4), Err("page is \"0\", expected a number from 1 on".to_owned()));
        assert!(Wanted::of(&asked(&[("page", &usize::MAX.to_string())]), Proto::V4).is_ok());
    }
}
