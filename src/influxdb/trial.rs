//! What an answer to a write without a row says about the right to write. Pure.
//!
//! A comment of line protocol is sent to the very address that rows go to. `InfluxDB` 1.6 answers 401, 403 and 404 (user,
//! permission, database) before it looks at the body, says that a retention policy is missing, and else 204; nothing is
//! stored. By its source, version 2 does the same; version 3 finds such a body empty (400) once it has let the request in,
//! and may make the database, as it does for the first row. `VictoriaMetrics` takes whatever comes.

use reqwest::StatusCode;

use crate::outgoing::reason;

/// The body: no row.
pub(super) const COMMENT: &str = "# no row: whether writing is permitted";

/// What a write without a row was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// 204: rows may be written here.
    Taken,
    /// It was let in, and the server has words for a body without a row.
    Empty(String),
    /// 401: nobody that the server knows.
    Unauthorized(String),
    /// 403: somebody who may not write here.
    Forbidden(String),
    /// 404: no such database, bucket, organisation or address.
    NotFound(String),
    /// The database has no such retention policy.
    NoPolicy(String),
    /// Another success, or a redirect: this is not a write API.
    NoWriteApi(String),
    /// Anything else; of the right to write it says nothing.
    Other(String),
}

/// Judges an answer. `secrets` are taken out of its words.
pub fn judge(status: StatusCode, body: &[u8], secrets: &[String]) -> Trial {
    let said = reason(status, body, secrets);
    let has = |words: &str| said.contains(words);
    match status.as_u16() {
        204 => Trial::Taken,
        200..=399 => Trial::NoWriteApi(said),
        400 if has("write was empty") || has("writing requires points") => Trial::Empty(said),
        401 => Trial::Unauthorized(said),
        403 => Trial::Forbidden(said),
        404 => Trial::NotFound(said),
        500 if has("retention policy not found") => Trial::NoPolicy(said),
        _ => Trial::Other(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Trial {
        judge(StatusCode::from_u16(status).unwrap(), body.as_bytes(), &["s3cret".to_owned()])
    }

    #[test]
    fn each_answer_of_a_real_server_names_what_is_missing() {
        assert_eq!(of(204, ""), Trial::Taken);
        assert!(matches!(of(400, "incoming write was empty"), Trial::Empty(_)));
        assert!(matches!(of(400, r#"{"code":"invalid","message":"writing requires points"}"#), Trial::Empty(_)));
        assert!(matches!(of(401, r#"{"error":"authorization failed"}"#), Trial::Unauthorized(_)));
        assert!(matches!(of(403, r#"{"error":"\"r\" user is not authorized to write to database \"qos\""}"#), Trial::Forbidden(_)));
        assert!(matches!(of(404, r#"{"error":"database not found: \"qos\""}"#), Trial::NotFound(_)));
        assert!(matches!(of(500, r#"{"error":"retention policy not found: week"}"#), Trial::NoPolicy(_)));
    }

    #[test]
    fn what_is_no_write_api_and_what_is_in_trouble_prove_nothing() {
        for status in [200, 201, 302, 307] {
            assert!(matches!(of(status, "<html>"), Trial::NoWriteApi(_)), "{status}");
        }
        for status in [400, 405, 413, 422, 429, 500, 503] {
            assert!(matches!(of(status, "{}"), Trial::Other(_)), "{status}");
        }
        assert_eq!(of(401, "no s3cret"), Trial::Unauthorized("401 Unauthorized: no <redacted>".to_owned()));
    }
}
