//! What the collector's answer to a post means. Pure.
//!
//! | answer | means |
//! |---|---|
//! | 200 `{"status":"ok"}`, perhaps with `rejected` | stored, but for what is rejected |
//! | 422 `{"error","rejected"}` | the items at fault will never be stored, the others are |
//! | 413 | too large |
//! | 429, 503 with Retry-After | later |
//! | 408, 425, 5xx | nobody knows: the same again |
//! | whatever else | a person is needed: the key, the name, the address |

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::outgoing::{one_line, reason, retry_after};
use crate::writer::Verdict;

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// What becomes of the rows.
    pub verdict: Verdict,
    /// What was not stored and never will be, although the verdict is [`Verdict::Accepted`].
    pub lost: Option<Lost>,
}

/// Items that the collector does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How many, as far as it said.
    pub items: u64,
    /// The first reason.
    pub why: String,
}

#[derive(Deserialize)]
struct Said {
    status: Option<String>,
    error: Option<String>,
    #[serde(default)]
    rejected: Vec<Rejected>,
    /// How many there are, if not all are told.
    rejected_count: Option<u64>,
}

#[derive(Deserialize)]
struct Rejected {
    error: String,
}

/// Judges a whole answer. `body` may be cut off.
pub fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp, secrets: &[String]) -> Answered {
    let why = || reason(status, body, secrets);
    let said = serde_json::from_slice::<Said>(body).ok();
    let hold = |what: &str| Verdict::Hold { why: format!("{}: {what}", why()) };
    let verdict = match (status.as_u16(), &said) {
        (200, Some(Said { status: Some(word), .. })) if word == "ok" => Verdict::Accepted,
        (422, Some(Said { error: Some(_), rejected, .. })) if !rejected.is_empty() => Verdict::Accepted,
        (200..=299, _) => hold("not the answer of a collector, which is {\"status\":\"ok\"}"),
        (300..=399, _) => hold("redirected, which is not followed; correct mesh.collector"),
        (413, _) => Verdict::TooLarge,
        (429 | 503, _) => match retry_after(headers, now) {
            Some(wait) => Verdict::After { wait, why: why() },
            None => Verdict::Unknown { why: why() },
        },
        (408 | 425 | 500.., _) => Verdict::Unknown { why: why() },
        _ => Verdict::Hold { why: why() },
    };
    let lost = said.filter(|_| verdict == Verdict::Accepted).and_then(|said| said.lost(secrets));
    Answered { verdict, lost }
}

impl Said {
    fn lost(self, secrets: &[String]) -> Option<Lost> {
        let items = self.rejected_count.unwrap_or(self.rejected.len() as u64);
        let why = self.error.or_else(|| self.rejected.into_iter().next().map(|first| first.error))?;
        Some(Lost { items, why: one_line(&why, secrets) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::RETRY_AFTER;

    use super::*;

    fn answer(status: u16, retry: Option<&str>, body: &str) -> Answered {
        let mut headers = HeaderMap::new();
        if let Some(retry) = retry {
            headers.insert(RETRY_AFTER, retry.parse().unwrap());
        }
        let now = Timestamp::from_nanos(1_767_225_600_000_000_000);
        judge(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), now, &["s3cret-key".to_owned()])
    }

    const OK: &str = r#"{"status":"ok"}"#;

    #[test]
    fn only_a_collector_s_own_word_proves_that_a_post_is_stored() {
        assert_eq!(answer(200, None, OK), Answered { verdict: Verdict::Accepted, lost: None });
        for (status, body) in [(200, ""), (200, "<html>log in</html>"), (200, r#"{"status":"no"}"#), (201, OK), (204, ""), (302, OK)] {
            assert!(matches!(answer(status, None, body).verdict, Verdict::Hold { .. }), "{status} {body}");
        }
        for status in (300..600).filter(|status| *status != 422) {
            assert_ne!(answer(status, None, OK).verdict, Verdict::Accepted, "{status}");
        }
    }

    #[test]
    fn m4_what_is_rejected_in_an_accepted_post_is_told() {
        let body = r#"{"status":"ok","rejected":[{"index":3,"error":"probes[3].name: x is not in the list"},{"index":4,"error":"…"}]}"#;
        let Answered { verdict, lost } = answer(200, None, body);
        assert_eq!(verdict, Verdict::Accepted);
        assert_eq!(lost, Some(Lost { items: 2, why: "probes[3].name: x is not in the list".to_owned() }));
    }

    #[test]
    fn m8_what_cannot_be_is_not_sent_again() {
        let said = "probes[2].ping_loss: 7.0 is out of range";
        let body = serde_json::json!({ "error": said, "rejected": [{ "index": 2, "error": said }], "rejected_count": 2 }).to_string();
        let Answered { verdict, lost } = answer(422, None, &body);
        assert_eq!((verdict, lost.as_ref().unwrap().items), (Verdict::Accepted, 2));
        assert_eq!(lost.unwrap().why, said);
        for not_ours in ["<html>", r#"{"error":"the whole body is wrong"}"#] {
            assert!(matches!(answer(422, None, not_ours).verdict, Verdict::Hold { .. }), "not this collector's word: {not_ours}");
        }
    }

    #[test]
    fn a_wrong_key_name_or_path_keeps_everything_and_says_why_without_the_key() {
        for status in [400, 401, 403, 404, 405, 421] {
            let Verdict::Hold { why } = answer(status, Some("5"), r#"{"error":"no s3cret-key\n here"}"#).verdict else {
                panic!("{status}")
            };
            assert!(why.ends_with(": no <redacted> here"), "{why}");
        }
    }

    #[test]
    fn a_collector_in_trouble_is_asked_again() {
        assert_eq!(answer(413, None, "").verdict, Verdict::TooLarge);
        for status in [429, 503] {
            assert!(matches!(answer(status, Some("7"), "").verdict, Verdict::After { wait, .. } if wait == Duration::from_secs(7)));
            assert!(matches!(answer(status, None, "").verdict, Verdict::Unknown { .. }));
        }
        for status in [408, 425, 500, 502, 504] {
            assert!(matches!(answer(status, Some("7"), OK).verdict, Verdict::Unknown { .. }), "{status}");
        }
    }
}
