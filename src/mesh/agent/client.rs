//! Talks to the collector: one request, one deadline, a cap on the answer. Decides nothing of what follows.
//!
//! The key goes to the configured collector and nowhere else: no redirect is followed, and with https nothing else is
//! spoken. No error shows it.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, RequestBuilder, StatusCode, Url};

use super::answer::{self, Answered};
use super::settings::Settings;
use crate::clock::{Clock, Timestamp};
use crate::mesh::list::{self, BadList, List, Taken};
use crate::mesh::schedule::{self, BadSchedule, Schedule};
use crate::mesh::wire::{KEY_HEADER, SLOT_HEADER};
use crate::outgoing::{self, Trust, capped, one_line, reason};
use crate::secret::redact;
use crate::settings::explain;
use crate::writer::Verdict;

/// How long an exchange may take.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// The most of an answer to a post that is read.
const ANSWER_CAP: usize = 64 * 1024;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The key cannot stand in a header.
    #[error("the key cannot be sent in a header")]
    Key,
    /// TLS cannot be set up, for example without any root certificate.
    #[error("cannot set up http: {0}")]
    Http(String),
}

/// Why nothing was fetched. No variant shows the key.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No whole answer in time.
    #[error("{0}: no whole answer in time")]
    Late(&'static str),
    /// No answer.
    #[error("{0}: {1}")]
    Failed(&'static str, String),
    /// Another answer than 200.
    #[error("{0}: {1}")]
    Refused(&'static str, String),
    /// More than allowed.
    #[error("{0}: the answer is larger than {1} bytes")]
    TooLarge(&'static str, u64),
    /// Not a list.
    #[error("the list is none: {0}")]
    List(String),
    /// Not a schedule.
    #[error("the schedule is none: {0}")]
    Schedule(String),
}

/// What the collector says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The list, and what of it is out of order.
    pub taken: Taken,
    /// The schedule; none = the collector has none.
    pub schedule: Option<Schedule>,
}

/// A way to one collector.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: HeaderValue,
    clock: Clock,
    /// What must not show in any text.
    secrets: Vec<String>,
}

/// An answer as far as it was read.
struct Answer {
    status: StatusCode,
    headers: reqwest::header::HeaderMap,
    body: Vec<u8>,
}

impl Client {
    /// A client for these settings. Connects to nothing yet.
    pub fn new(settings: &Settings, clock: Clock) -> Result<Self, SetupError> {
        let mut key = HeaderValue::from_str(settings.key.expose()).map_err(|_| SetupError::Key)?;
        key.set_sensitive(true);
        let setup = |error: reqwest::Error| SetupError::Http(explain(&error));
        let trust = match (&settings.ca, settings.collector.scheme()) {
            (_, "http") => Trust::NoTls,
            (Some(ca), _) => Trust::Only(Certificate::from_pem_bundle(ca).map_err(setup)?),
            (None, _) => Trust::System,
        };
        // Rounds are far apart: a connection that is kept is one that the collector has closed meanwhile.
        let http = outgoing::builder(trust).pool_max_idle_per_host(0).build().map_err(setup)?;
        Ok(Self { http, base: settings.collector.clone(), key, clock, secrets: vec![settings.key.expose().to_owned()] })
    }

    /// Fetches list and schedule: both, or neither.
    pub async fn fetch(&self) -> Result<Fetched, FetchError> {
        let list = self.get("list", "conf/probes", list::LARGEST).await?;
        let body = self.ok("list", &list)?;
        let mut taken = List::take(body).map_err(|error: BadList| FetchError::List(self.safe(&error.to_string())))?;
        taken.refused = taken.refused.iter().map(|problem| self.safe(problem)).collect();
        let schedule = self.get("schedule", "conf/schedule", schedule::LARGEST).await?;
        if schedule.status == StatusCode::NOT_FOUND {
            return Ok(Fetched { taken, schedule: None });
        }
        let read = Schedule::take(self.ok("schedule", &schedule)?);
        let schedule = read.map_err(|error: BadSchedule| FetchError::Schedule(self.safe(&error.to_string())))?;
        Ok(Fetched { taken, schedule: Some(schedule) })
    }

    /// Posts the results of a slot.
    pub async fn post(&self, slot: Timestamp, body: Bytes) -> Answered {
        let request = self.http.post(self.url("data/probe-result")).header(CONTENT_TYPE, "application/json");
        let exchange = self.exchange(request.header(SLOT_HEADER, slot.nanos()).body(body), ANSWER_CAP);
        let unknown = |why: String| Answered { verdict: Verdict::Unknown { why }, lost: None };
        match tokio::time::timeout(DEADLINE, exchange).await {
            Ok(Ok(Answer { status, headers, body })) => answer::judge(status, &headers, &body, self.clock.now().unix, &self.secrets),
            Ok(Err(error)) => unknown(self.explain(error)),
            Err(_) => unknown(format!("no whole answer within {}", humantime::format_duration(DEADLINE))),
        }
    }

    async fn get(&self, what: &'static str, path: &str, largest: u64) -> Result<Answer, FetchError> {
        let cap = usize::try_from(largest).unwrap_or(usize::MAX);
        let exchange = self.exchange(self.http.get(self.url(path)), cap + 1);
        let answer = tokio::time::timeout(DEADLINE, exchange).await.map_err(|_| FetchError::Late(what))?;
        let answer = answer.map_err(|error| FetchError::Failed(what, self.explain(error)))?;
        if answer.body.len() > cap { Err(FetchError::TooLarge(what, largest)) } else { Ok(answer) }
    }

    async fn exchange(&self, request: RequestBuilder, cap: usize) -> Result<Answer, reqwest::Error> {
        let response = request.header(KEY_HEADER, self.key.clone()).send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, body: capped(response, cap).await? })
    }

    fn ok<'a>(&self, what: &'static str, answer: &'a Answer) -> Result<&'a [u8], FetchError> {
        if answer.status == StatusCode::OK {
            return Ok(&answer.body);
        }
        let advice = if answer.status.is_redirection() { ": redirected, which is not followed; correct mesh.collector" } else { "" };
        Err(FetchError::Refused(what, format!("{}{advice}", reason(answer.status, &answer.body, &self.secrets))))
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/api/v1/{path}", self.base.path().trim_end_matches('/')));
        url
    }

    fn explain(&self, error: reqwest::Error) -> String {
        redact(&explain(&error.without_url()), &self.secrets)
    }

    fn safe(&self, text: &str) -> String {
        one_line(text, &self.secrets)
    }
}
