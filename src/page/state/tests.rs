//! The page of the status as it is rendered.

use std::sync::Arc;

use super::page;
use crate::page::Sight;
use crate::page::testing::{HOSTILE, asked, report, sight, sound};
use crate::status::Board;

fn with(change: impl FnOnce(&mut serde_json::Value)) -> Sight {
    let mut told = report("rome-1");
    change(&mut told);
    Sight { report: Arc::new(move || told.clone()), ..sight(&Board::default(), "") }
}

#[tokio::test(start_paused = true)]
async fn the_status_has_a_section_for_each_part() {
    let answer = page(&with(|_| {}), &asked(&[]));
    let body = sound(&answer);
    for part in [
        "Status of rome-1",
        r#"<section id="actors""#,
        r#"<section id="outputs""#,
        r#"<section id="journal""#,
        "<dd>1.2.3</dd>",
        "<dd>1h 1m 1s</dd>",
        "<dd>2026-01-31T12:00:00Z</dd>",
        "<dt>came due since the start</dt><dd>1\u{202f}234</dd>",
        "<dd>4.0 KiB</dd>",
        "<dt>buckets of 5 minutes</dt><dd>1\u{202f}234</dd>",
        "<dt>rows behind the journal</dt><dd>5: added together, within 15 minutes of the last time; charts take them from",
        "<dt>last added to</dt><dd>2026-01-31T12:00:00Z</dd>",
        r#"<th scope="row">mesh<td class="state idle">idle"#,
        r#"<th scope="row">writer<td class="state ok">running"#,
        r#"<th scope="row">main<td class="state ok">ok"#,
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    for absent in [r#"id="mesh""#, r#"id="collector""#, "last reload refused"] {
        assert!(!body.contains(absent), "{absent}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_there_is_shown() {
    let sight = with(|told| {
        told["history"]["failing"] = "no room left".into();
        told["history"]["short"] = "an eighth is too little".into();
        told["outputs"] = serde_json::json!([]);
        told["journal"]["dropped_size"] = 12.into();
        told["collector"] = serde_json::json!({
            "probes": 2, "interval_s": 60.0, "expected": 2, "absent_now": 1,
            "counts": crate::mesh::collector::status::Counts::default(),
            "sources": [{ "name": "p1", "age_s": null, "results": 0, "absent": 1 }],
        });
    });
    let answer = page(&sight, &asked(&[]));
    let body = sound(&answer);
    for part in [
        "<dt>failing</dt><dd>no room left</dd>",
        "<dt>the newest alone is kept</dt><dd>an eighth is too little</dd>",
        "rows stay in the journal",
        "rows lost undelivered at max_size",
        "no post yet",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert!(!body.contains("null"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn hostile_texts_are_text_in_every_place() {
    let sight = with(|told| {
        told["agent"] = HOSTILE.into();
        told["config"] = serde_json::json!({ "file": HOSTILE, "loaded": HOSTILE, "problem": HOSTILE });
        told["actors"] = serde_json::json!([{ "name": HOSTILE, "state": HOSTILE, "restarts": 1, "last_exit": HOSTILE }]);
        told["journal"]["failing"] = HOSTILE.into();
        told["outputs"][0]["last_error"] = HOSTILE.repeat(5_000).into();
        told["outputs"][0]["refused_fields"] = 1.into();
        told["outputs"][0]["refused_field_names"] = serde_json::json!([HOSTILE]);
        told["history"]["failing"] = HOSTILE.into();
        told["history"]["short"] = HOSTILE.into();
    });
    let answer = page(&sight, &asked(&[]));
    assert!(sound(&answer).len() < 30_000, "{}", answer.body.len());
}
