//! HTTP requests of qosd's own, to its outputs and to the collector of its mesh: what holds for all of them.
//!
//! A client goes where it is told: no proxy from the environment, no redirect, no retry of its own. Answers are read to a
//! cap, and what they say is made safe before it is shown.

use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Response, StatusCode};

use crate::clock::Timestamp;
use crate::secret::redact;

/// The shortest wait that a server may ask for.
pub const RETRY_AFTER_LEAST: Duration = Duration::from_secs(1);
/// The longest wait that a server may ask for.
pub const RETRY_AFTER_MOST: Duration = Duration::from_mins(5);
/// The most characters of an answer that are kept as the reason.
const LONGEST_REASON: usize = 300;

/// Whose certificates are believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those that this system trusts.
    System,
    /// These authorities and no others.
    Only(Vec<Certificate>),
    /// Nobody's: the client speaks plain HTTP. No root certificates are loaded, as small systems have none.
    NoTls,
}

/// What a client is built of. With TLS it speaks nothing else.
pub fn builder(trust: Trust) -> reqwest::ClientBuilder {
    crate::tls::install_provider();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("qosd/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false);
    match trust {
        Trust::System => builder.https_only(true),
        Trust::Only(certificates) => builder.https_only(true).tls_certs_only(certificates),
        Trust::NoTls => builder.tls_certs_only([]),
    }
}

/// The body, up to `cap` bytes.
pub async fn capped(mut response: Response, cap: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < cap
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk[..chunk.len().min(cap - body.len())]);
    }
    Ok(body)
}

/// The wait asked for, clamped: seconds or a date, also in the past. None if it is neither.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        text.parse::<f64>().ok().filter(|seconds| seconds.is_finite())?
    } else {
        let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        date.as_secs_f64() - Duration::from_nanos(u64::try_from(now.nanos()).unwrap_or(0)).as_secs_f64()
    };
    let (least, most) = (RETRY_AFTER_LEAST.as_secs_f64(), RETRY_AFTER_MOST.as_secs_f64());
    Some(Duration::from_secs_f64(seconds.clamp(least, most)))
}

/// What the server said, for people: one short line without control characters and without secrets.
pub fn reason(status: StatusCode, body: &[u8], secrets: &[String]) -> String {
    told(status, &message(body), secrets)
}

/// As [`reason`], of a body whose words are found already.
pub fn told(status: StatusCode, said: &str, secrets: &[String]) -> String {
    let line = one_line(said, secrets);
    let status = match status.canonical_reason() {
        Some(name) => format!("{} {name}", status.as_u16()),
        None => status.as_u16().to_string(),
    };
    if line.is_empty() { status } else { format!("{status}: {line}") }
}

/// What others wrote, made safe: one short line without control characters and without secrets.
pub fn one_line(text: &str, secrets: &[String]) -> String {
    let mut line: String = redact(text, secrets).split_whitespace().collect::<Vec<_>>().join(" ");
    line.retain(|c| !c.is_control());
    // Without what stood between its parts, a secret may be whole again.
    let mut line = redact(&line, secrets);
    if let Some((end, _)) = line.char_indices().nth(LONGEST_REASON) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// A server says `{"error"}` or `{"message"}`; a proxy says what it likes.
fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Said {
        error: Option<String>,
        message: Option<String>,
    }
    match serde_json::from_slice::<Said>(body) {
        Ok(Said { message: Some(said), .. } | Said { error: Some(said), .. }) => said,
        _ => String::from_utf8_lossy(body).into_owned(),
    }
}
