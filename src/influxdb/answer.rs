//! What an answer to a write means. Pure: status, headers, body and the wall clock in, a [`Verdict`] out.
//!
//! The rule behind the table: only 204 proves that rows are stored; only 400 and 422 speak about the rows; everything
//! else is about the server or the config, and keeps them.

use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::conflict::{self, Named, Said};
use crate::clock::Timestamp;
use crate::outgoing::{retry_after, told};
use crate::writer::Verdict;
use crate::writer::part::{Conflict, RefusedField};

/// Judges a whole answer. `body` may be cut off; `secrets` are taken out of it, in case the server repeats them.
pub fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp, secrets: &[String]) -> Verdict {
    let why = || reason(status, body, secrets);
    match status.as_u16() {
        204 => Verdict::Accepted,
        400 | 422 => match conflict::of(body) {
            Some(Named { name, refused }) => Verdict::Conflict(Conflict { field: RefusedField { name, why: why() }, refused }),
            None => Verdict::Refused { why: why(), refused: conflict::dropped(body) },
        },
        413 => Verdict::TooLarge,
        429 | 503 => match retry_after(headers, now) {
            Some(wait) => Verdict::After { wait, why: why() },
            None => Verdict::Unknown { why: why() },
        },
        408 | 425 | 500.. => Verdict::Unknown { why: why() },
        200..=299 => Verdict::Hold { why: format!("{}: not the answer of a write API, which is 204", why()) },
        300..=399 => Verdict::Hold { why: format!("{}: redirected, which is not followed; correct the url", why()) },
        // 401, 403, 404, and whatever else a server objects to in the request rather than in the rows.
        _ => Verdict::Hold { why: why() },
    }
}

/// What the server said, for people.
fn reason(status: StatusCode, body: &[u8], secrets: &[String]) -> String {
    told(status, &message(body), secrets)
}

/// `InfluxDB` 1 says `{"error"}`, 2 and 3 `{"message"}` or `{"error"}` with what is wrong with each line; a proxy says what
/// it likes.
fn message(body: &[u8]) -> String {
    let Some(Said { error, message, data }) = Said::of(body) else { return String::from_utf8_lossy(body).into_owned() };
    let detail = data.lines().first().map(|line| format!(": {}", line.error_message)).unwrap_or_default();
    match message.or(error) {
        Some(said) => said + &detail,
        None => String::from_utf8_lossy(body).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::RETRY_AFTER;

    use super::*;

    /// 2026-01-01T00:00:00Z
    const NOW: Timestamp = Timestamp::from_nanos(1_767_225_600_000_000_000);

    fn answer(status: u16, retry: Option<&str>, body: &str) -> Verdict {
        let mut headers = HeaderMap::new();
        if let Some(retry) = retry {
            headers.insert(RETRY_AFTER, retry.parse().unwrap());
        }
        judge(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), NOW, &["s3cret".to_owned()])
    }

    fn wait(retry: &str) -> Option<u64> {
        match answer(503, Some(retry), "") {
            Verdict::After { wait, .. } => Some(wait.as_secs()),
            Verdict::Unknown { .. } => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_204_proves_that_rows_are_stored() {
        for status in (200..600).filter(|status| *status != 204) {
            assert_ne!(answer(status, None, ""), Verdict::Accepted, "{status}");
        }
        assert_eq!(answer(204, None, ""), Verdict::Accepted);
    }

    #[test]
    fn another_success_or_a_redirect_is_not_a_write_api() {
        for status in [200, 201, 202, 205, 206, 301, 302, 304, 307, 308] {
            assert!(matches!(answer(status, None, "<html>log in</html>"), Verdict::Hold { .. }), "{status}");
        }
        let Verdict::Hold { why } = answer(200, None, "<html>\n log in</html>") else { panic!() };
        assert_eq!(why, "200 OK: <html> log in</html>: not the answer of a write API, which is 204");
    }

    #[test]
    fn a_400_or_a_422_is_about_the_rows() {
        let said = r#"{"error":"partial write: points beyond retention policy dropped=1"}"#;
        let Verdict::Refused { why, refused } = answer(400, None, said) else { panic!() };
        assert_eq!(why, "400 Bad Request: partial write: points beyond retention policy dropped=1");
        assert_eq!(refused, Some(1));
        let Verdict::Refused { why, refused: None } = answer(422, None, r#"{"code":"unprocessable entity","message":"retention policy"}"#)
        else {
            panic!()
        };
        assert_eq!(why, "422 Unprocessable Entity: retention policy");
    }

    #[test]
    fn a_field_that_a_server_names_is_the_one_it_refuses() {
        let words = r#"partial write: field type conflict: input field "a" on measurement "m" is type float, already exists as type integer dropped=7"#;
        for (status, key) in [(400, "error"), (422, "message")] {
            let Verdict::Conflict(Conflict { field, refused }) = answer(status, None, &serde_json::json!({ key: words }).to_string())
            else {
                panic!()
            };
            assert_eq!((field.name.to_string().as_str(), refused), ("m.a", Some(7)));
            assert!(field.why.ends_with(words), "{}", field.why);
        }
        // In trouble, a server does not speak of rows, whatever it says.
        assert!(matches!(answer(500, None, &serde_json::json!({ "error": words }).to_string()), Verdict::Unknown { .. }));
        let third = r#"{"error":"partial write of line protocol occurred","data":[{"original_line":"m f=1","line_number":1,"error_message":"invalid column type for column 'f', expected iox::column_type::field::integer, got iox::column_type::field::float"}]}"#;
        let Verdict::Conflict(Conflict { field, .. }) = answer(400, None, third) else { panic!() };
        assert_eq!(
            field.why,
            "400 Bad Request: partial write of line protocol occurred: invalid column type for column 'f', expected iox::column_type::field::integer, got iox::column_type::field::float"
        );
    }

    #[test]
    fn a_wrong_key_or_a_missing_database_keeps_everything() {
        for status in [401, 402, 403, 404, 405, 409, 411, 415, 418, 451] {
            assert!(matches!(answer(status, Some("5"), ""), Verdict::Hold { .. }), "{status}");
        }
        assert_eq!(
            answer(401, None, r#"{"code":"unauthorized","message":"unauthorized access"}"#),
            Verdict::Hold { why: "401 Unauthorized: unauthorized access".to_owned() }
        );
    }

    #[test]
    fn a_413_is_too_large() {
        assert_eq!(answer(413, None, "Request Entity Too Large"), Verdict::TooLarge);
    }

    #[test]
    fn a_server_that_says_when_is_obeyed_within_limits() {
        assert_eq!(wait("5"), Some(5));
        assert_eq!(wait(" 299 "), Some(299));
        assert_eq!(wait("0"), Some(1));
        assert_eq!(wait("-1"), Some(1));
        assert_eq!(wait("1e9"), Some(300));
        assert_eq!(wait("99999999999999999999999"), Some(300));
        assert_eq!(wait("Thu, 01 Jan 2026 00:01:00 GMT"), Some(60));
        assert_eq!(wait("Thu, 01 Jan 2026 09:00:00 GMT"), Some(300));
        assert_eq!(wait("Wed, 31 Dec 2025 00:00:00 GMT"), Some(1));
        assert!(matches!(answer(429, Some("7"), "slow down"), Verdict::After { .. }));
    }

    #[test]
    fn a_server_that_does_not_say_when_gets_our_own_back_off() {
        for garbage in ["soon", "", "5 minutes", "1e999", "NaN", "inf", "-", "Thu, 99 Jan 2026 00:00:00 GMT", "\u{7f}"] {
            if garbage.parse::<reqwest::header::HeaderValue>().is_ok() {
                assert_eq!(wait(garbage), None, "{garbage}");
            }
        }
        assert!(matches!(answer(429, None, ""), Verdict::Unknown { .. }));
        assert!(matches!(answer(503, None, ""), Verdict::Unknown { .. }));
    }

    #[test]
    fn a_server_in_trouble_leaves_the_outcome_unknown() {
        for status in [408, 500, 501, 502, 504, 507, 599] {
            assert!(matches!(answer(status, Some("5"), ""), Verdict::Unknown { .. }), "{status}");
        }
        assert_eq!(
            answer(500, None, r#"{"error":"retention policy not found: x"}"#),
            Verdict::Unknown { why: "500 Internal Server Error: retention policy not found: x".to_owned() }
        );
    }

    #[test]
    fn a_reason_is_one_short_line_without_secrets() {
        let Verdict::Hold { why } = answer(403, None, &format!("no\r\n\x1b[31m Token s3cret {}", "x".repeat(10_000))) else { panic!() };
        assert!(why.starts_with("403 Forbidden: no [31m Token <redacted> xxx"), "{why}");
        assert!(why.chars().count() < 330);
        let half = [b"{\"message\":\"".as_slice(), &[0xff, 0xfe], b"s3cret"].concat();
        let Verdict::Unknown { why } = judge(StatusCode::BAD_GATEWAY, &HeaderMap::new(), &half, NOW, &["s3cret".to_owned(), String::new()])
        else {
            panic!()
        };
        assert!(!why.contains("s3cret") && why.contains("<redacted>"), "{why}");
    }
}
