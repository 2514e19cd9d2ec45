//! What is answered: JSON, not to be kept by anybody, and after a refusal nothing more is read.

use std::fmt::Display;
use std::time::Duration;

use actix_web::http::header::{ALLOW, CACHE_CONTROL, ContentType, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use serde_json::{Value, json};

/// The longest text of an error; parts of what was posted may stand in it.
const LONGEST: usize = 300;

/// An answer in JSON.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> HttpResponse {
    builder(status).body(body.into())
}

/// `{"error": …}` and more, when the post was read to its end: the connection goes on.
pub(super) fn declined(status: StatusCode, error: &str, rejected: &[Value], count: usize) -> HttpResponse {
    let mut body = json!({ "error": short(error) });
    if !rejected.is_empty() {
        body["rejected"] = rejected.into();
        body["rejected_count"] = count.into();
    }
    json(status, body.to_string())
}

/// `{"error": …}`, and the connection is closed: whatever else the other side sends is not read.
pub(super) fn refused(status: StatusCode, error: impl Display) -> HttpResponse {
    closing(status).body(json!({ "error": short(&error.to_string()) }).to_string())
}

/// As [`refused`], with the time after which to try again.
pub(super) fn later(status: StatusCode, error: &str, wait: Duration) -> HttpResponse {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    closing(status).insert_header((RETRY_AFTER, seconds.max(1))).body(json!({ "error": error }).to_string())
}

/// The path has another method.
pub(super) fn not_allowed(allowed: &Method) -> HttpResponse {
    let error = json!({ "error": format!("only {allowed} is allowed here") });
    closing(StatusCode::METHOD_NOT_ALLOWED).insert_header((ALLOW, allowed.as_str())).body(error.to_string())
}

/// An item that was not stored.
pub(super) fn rejected(index: usize, error: &str) -> Value {
    json!({ "index": index, "error": short(error) })
}

fn short(text: &str) -> &str {
    text.char_indices().nth(LONGEST).map_or(text, |(end, _)| &text[..end])
}

fn closing(status: StatusCode) -> HttpResponseBuilder {
    let mut builder = builder(status);
    builder.force_close();
    builder
}

fn builder(status: StatusCode) -> HttpResponseBuilder {
    let mut builder = HttpResponse::build(status);
    builder.content_type(ContentType::json());
    builder.insert_header((CACHE_CONTROL, "no-store")).insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    builder
}
