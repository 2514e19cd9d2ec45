//! Sends a batch over HTTP and reads the answer, within one deadline. Decides nothing: [`answer`](super::answer) does.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};

use super::answer;
use super::line::compress;
use super::settings::{Api, Settings};
use super::trial::{self, Trial};
use crate::clock::Clock;
use crate::outgoing::{self, Trust, capped};
use crate::secret::redact;
use crate::settings::explain;
use crate::writer::Verdict;

/// The most of an answer's body that is read.
const ANSWER_CAP: usize = 64 * 1024;
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not one.
    #[error("the url cannot be used: {0}")]
    Url(&'static str),
    /// The token has characters that no header can carry.
    #[error("the token or password cannot be sent in a header")]
    Credentials,
    /// TLS cannot be set up, for example without any root certificate.
    #[error("cannot set up http: {0}")]
    Setup(String),
}

/// A connection to one `InfluxDB`. Belongs to the thread that made it.
pub struct Client {
    http: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    gzip: bool,
    timeout: Duration,
    clock: Clock,
    /// What must not show in any text: token, password, and the header made of them.
    secrets: Vec<String>,
    /// Whether the last request was answered, so that the next may find its connection closed meanwhile.
    may_be_stale: Cell<bool>,
}

/// An answer as far as it was read.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Client {
    /// A client for these settings. Connects to nothing yet.
    pub fn new(settings: &Settings, clock: Clock) -> Result<Self, ClientError> {
        let url = write_url(settings)?;
        let tls = if url.scheme() == "https" { Trust::System } else { Trust::NoTls };
        let builder = outgoing::builder(tls).pool_max_idle_per_host(1).pool_idle_timeout(KEEP_ALIVE);
        let http = builder.build().map_err(|error| ClientError::Setup(explain(&error)))?;
        let (headers, secrets) = credentials(&http, &url, settings)?;
        let (gzip, timeout) = (settings.gzip, settings.timeout);
        Ok(Self { http, url, headers, gzip, timeout, clock, secrets, may_be_stale: Cell::new(false) })
    }

    /// Whether bodies are to be compressed.
    pub fn gzip(&self) -> bool {
        self.gzip
    }

    /// Sends a body and judges the answer.
    pub async fn write(&self, body: Bytes) -> Verdict {
        match tokio::time::timeout(self.timeout, self.exchange(body)).await {
            Ok(Ok(Answer { status, headers, body })) => answer::judge(status, &headers, &body, self.clock.now().unix, &self.secrets),
            Ok(Err(error)) => Verdict::Unknown { why: redact(&explain(&error.without_url()), &self.secrets) },
            Err(_) => {
                self.may_be_stale.set(false);
                Verdict::Unknown { why: format!("no whole answer within {}", humantime::format_duration(self.timeout)) }
            }
        }
    }

    /// Asks whether rows may be written, and writes none. An error says why there was no answer.
    pub async fn try_out(&self, limit: Duration) -> Result<Trial, String> {
        let comment = trial::COMMENT.as_bytes();
        let body = if self.gzip { compress(comment) } else { Bytes::from_static(comment) };
        match tokio::time::timeout(limit, self.attempt(body)).await {
            Ok(Ok(Answer { status, body, .. })) => Ok(trial::judge(status, &body, &self.secrets)),
            Ok(Err(error)) => Err(redact(&explain(&error.without_url()), &self.secrets)),
            Err(_) => Err(format!("no whole answer within {}", humantime::format_duration(limit))),
        }
    }

    /// One request, or two if the first met a connection that the server had closed while it was idle.
    async fn exchange(&self, body: Bytes) -> Result<Answer, reqwest::Error> {
        let stale = self.may_be_stale.replace(false);
        let answer = match self.attempt(body.clone()).await {
            Err(error) if stale && error.is_request() && !error.is_connect() => self.attempt(body).await,
            answer => answer,
        }?;
        self.may_be_stale.set(true);
        Ok(answer)
    }

    async fn attempt(&self, body: Bytes) -> Result<Answer, reqwest::Error> {
        let response = self.http.post(self.url.clone()).headers(self.headers.clone()).body(body).send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, body: capped(response, ANSWER_CAP).await? })
    }
}

fn write_url(settings: &Settings) -> Result<Url, ClientError> {
    let mut url = settings.url.clone();
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ClientError::Url("it must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ClientError::Url("user and password belong into keys of their own"));
    }
    let path: &[&str] = match settings.api {
        Api::V2 { .. } => &["api", "v2", "write"],
        Api::V1 { .. } => &["write"],
    };
    url.path_segments_mut().map_err(|()| ClientError::Url("it has no host"))?.pop_if_empty().extend(path);
    url.set_fragment(None);
    let mut query = url.query_pairs_mut();
    query.clear();
    match &settings.api {
        Api::V2 { org, bucket, .. } => {
            query.append_pair("org", org).append_pair("bucket", bucket);
        }
        Api::V1 { database, retention_policy, .. } => {
            query.append_pair("db", database);
            if let Some(policy) = retention_policy {
                query.append_pair("rp", policy);
            }
        }
    }
    query.append_pair("precision", "ns");
    drop(query);
    Ok(url)
}

/// The headers of every request, and the texts that must never be shown.
fn credentials(http: &reqwest::Client, url: &Url, settings: &Settings) -> Result<(HeaderMap, Vec<String>), ClientError> {
    let request = http.post(url.clone()).header(CONTENT_TYPE, "text/plain; charset=utf-8");
    let (request, secret) = match &settings.api {
        Api::V2 { token, .. } => {
            let mut value = HeaderValue::from_str(&format!("Token {}", token.expose())).map_err(|_| ClientError::Credentials)?;
            value.set_sensitive(true);
            (request.header(AUTHORIZATION, value), Some(token))
        }
        Api::V1 { credentials: Some((user, password)), .. } => (request.basic_auth(user, Some(password.expose())), Some(password)),
        Api::V1 { credentials: None, .. } => (request, None),
    };
    let request = if settings.gzip { request.header(CONTENT_ENCODING, "gzip") } else { request };
    let headers = request.build().map_err(|_| ClientError::Credentials)?.headers().clone();
    let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '));
    let secrets = secret.map(|secret| secret.expose().to_owned()).into_iter().chain(sent.map(|(_, coded)| coded.to_owned()));
    Ok((headers, secrets.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn settings(url: &str, api: Api) -> Settings {
        let (second, ten) = (Duration::from_secs(1), Duration::from_secs(10));
        let url = url.parse().unwrap();
        Settings { url, api, secret_file: None, batch_size: 10, flush_interval: second, timeout: ten, gzip: false, replay: None }
    }

    fn v1(policy: Option<&str>) -> Api {
        let credentials = Some(("me".to_owned(), Secret::new("p&=:ss").unwrap()));
        Api::V1 { database: "a b&c".to_owned(), retention_policy: policy.map(str::to_owned), credentials }
    }

    fn v2(token: &str) -> Api {
        Api::V2 { org: "my org".to_owned(), bucket: "b&u".to_owned(), token: Secret::new(token).unwrap() }
    }

    #[test]
    fn the_address_is_made_of_its_parts_and_never_of_secrets() {
        let address = |url, api| write_url(&settings(url, api)).unwrap().to_string();
        assert_eq!(address("http://h:8086", v2("t")), "http://h:8086/api/v2/write?org=my+org&bucket=b%26u&precision=ns");
        assert_eq!(address("https://h/influx/?x=1#y", v2("t")), "https://h/influx/api/v2/write?org=my+org&bucket=b%26u&precision=ns");
        assert_eq!(address("http://[::1]:1/", v1(None)), "http://[::1]:1/write?db=a+b%26c&precision=ns");
        assert_eq!(address("http://h", v1(Some("week"))), "http://h/write?db=a+b%26c&rp=week&precision=ns");
    }

    #[test]
    fn an_address_that_cannot_be_used_is_refused_without_repeating_it() {
        for url in ["ftp://h", "http://me:hunter2@h", "mailto:hunter2@h"] {
            let error = write_url(&settings(url, v2("t"))).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn credentials_are_marked_sensitive_and_known_as_secrets() {
        for (api, shown) in [(v2("s3cret"), "s3cret"), (v1(None), "bWU6cCY9OnNz")] {
            let client = Client::new(&settings("http://h", api), Clock::system()).unwrap();
            assert!(client.headers[AUTHORIZATION].is_sensitive());
            assert!(client.headers[AUTHORIZATION].to_str().unwrap().ends_with(shown));
            assert!(client.secrets.iter().any(|secret| secret == shown));
        }
    }
}
