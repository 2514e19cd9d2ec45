//! What the tests of pages look at: a board, a report and a clock, and what holds for every page.

use std::sync::Arc;

use super::{Answer, Asked, Sight};
use crate::clock::Clock;
use crate::history::History;
use crate::status::Board;
use crate::status::testing::at;

/// Text that must be text wherever it is.
pub(super) const HOSTILE: &str = "<script>alert(1)</script>\"'&\u{202e}\u{1b}[31m\n";

/// At second 1000, of an agent of that name.
pub(super) fn sight(board: &Board, agent: &str) -> Sight {
    let report = report(agent);
    Sight {
        clock: Clock::virtual_from(at(1_000)),
        report: Arc::new(move || report.clone()),
        board: board.clone(),
        pairs: crate::status::pairs::Pairs::default(),
        history: History::default(),
    }
}

/// A report with something of everything.
pub(super) fn report(agent: &str) -> serde_json::Value {
    serde_json::json!({
        "version": "1.2.3", "agent": agent, "pid": 7, "started": "2026-01-31T12:00:00.000000001Z", "uptime_s": 3_661,
        "config": { "file": "/etc/qosd/qosd.toml", "loaded": "2026-01-31T12:00:00.000000001Z", "problem": null },
        "history": crate::history::HistoryStatus { buckets: 1_234, behind: 5, added: Some("2026-01-31T12:00:00.5Z".to_owned()), ..Default::default() },
        "actors": [
            { "name": "writer", "state": "running", "restarts": 0, "last_exit": null },
            { "name": "mesh", "state": "idle", "restarts": 0, "last_exit": null },
        ],
        "abandoned_threads": 0, "queue_dropped": 0,
        "slots": { "scheduled": 1_234, "rows": 1_233, "skipped": 2 },
        "journal": {
            "rows": 10, "bytes": 4_096, "oldest": "2026-01-31T12:00:00.5Z", "waiting": 0, "dropped_memory": 0, "dropped_size": 0,
            "dropped_gone": 0, "damaged": 0, "receipts": 0, "dead": {}, "dropped_dead": 0, "failing": null,
        },
        "outputs": [{
            "name": "main", "delivered": 9, "pending": 1, "dead": 0, "requeued": 0, "retries": 3, "refused": 0, "last_refusal": null,
            "refused_fields": 0, "refused_field_names": [], "last_error": null, "since": null, "backing_off_until": null,
        }],
        "collector": null, "mesh": null, "series": [{ "tags": {}, "time": null, "age_s": null, "result": null, "error": null, "figures": [] }],
    })
}

/// What was asked for.
pub(super) fn asked(query: &[(&str, &str)]) -> Asked {
    Asked { query: query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect() }
}

/// The body of a page that holds what every page has to: nothing inline that the policy for content forbids, no text of
/// others as HTML, no id twice, headers of tables that say of what.
pub(super) fn sound(answer: &Answer) -> &str {
    let body = &answer.body;
    assert_eq!(answer.content_type, "text/html; charset=utf-8", "{body}");
    assert!(body.starts_with("<!doctype html>") && body.trim_end().ends_with("</html>"));
    for forbidden in [" style=", "<style", " onclick", " onload", "javascript:", "<script>", "\u{202e}", "\u{1b}"] {
        assert!(!body.contains(forbidden), "{forbidden} in {body}");
    }
    assert_eq!(body.matches("<script").count(), 1, "{body}");
    let mut ids: Vec<&str> = body.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id is there twice: {ids:?}");
    assert_eq!(body.matches("<th ").count(), body.matches("<th scope=").count());
    assert_eq!((body.matches("<main").count(), body.matches("<h1").count()), (1, 1));
    for element in ["table", "section", "form", "nav", "p", "dl", "div", "figure", "details", "select", "label", "a", "span"] {
        let opened = body.matches(&format!("<{element} ")).count() + body.matches(&format!("<{element}>")).count();
        assert_eq!(opened, body.matches(&format!("</{element}>")).count(), "{element} in {body}");
    }
    assert!(!body.contains("NaN"), "{body}");
    body
}
