//! Runs HTTP probes: the GET, then the download, then the upload, each within its own time-out.
//!
//! A run holds nothing but its own requests, so a server that hangs costs its own run the time-out and nobody else
//! anything. How many runs are on their way at once is bounded; one beyond that is skipped and says so.

use std::rc::Rc;
use std::sync::Arc;

use reqwest::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Body, Method, RequestBuilder, Response, Url};
use tokio::sync::Semaphore;

use super::client::Clients;
use super::destination::{Redirects, Way, literal};
use super::failure::Failure;
use super::hooks::{Seen, Trace};
use super::report::{self, Answer, Visit, Visits};
use super::settings::{Ask, Job};
use super::timing::{Phases, Stage};
use crate::clock::Clock;
use crate::payload::Payload;
use crate::probe::{Engine, Finding, Outcome, Shared, Skip, Slot};
use crate::resolve::Resolved;
use crate::secret::redact;
use crate::settings::explain;
use crate::settings::units::show_bytes;

/// The most runs at once: each has a connection, and descriptors are needed elsewhere too.
const AT_ONCE: usize = 512;

/// Runs HTTP probes. Clones share everything.
#[derive(Clone)]
pub struct HttpEngine(Rc<Inner>);

struct Inner {
    clock: Clock,
    clients: Clients,
    runs: Semaphore,
}

/// A request on its way: what outlives its deadline.
#[derive(Default)]
struct Course {
    exchanges: Vec<Rc<Trace>>,
    status: Option<u16>,
}

/// One of the three requests.
struct Request<'a> {
    ask: &'a Ask,
    method: Method,
    payload: Option<u64>,
}

impl HttpEngine {
    /// An engine on the event loop of this thread.
    pub fn new(shared: Shared) -> Self {
        let Shared { clock, resolver, .. } = shared;
        let clients = Clients::new(resolver, clock.clone());
        Self(Rc::new(Inner { clock, clients, runs: Semaphore::new(AT_ONCE) }))
    }

    /// One run.
    pub async fn measure(&self, job: &Arc<Job>) -> Finding {
        let Ok(_place) = self.0.runs.try_acquire() else { return Finding::skipped(Skip::Budget) };
        let plain = |ask| Request { ask, method: Method::GET, payload: None };
        let mut visits = Visits { get: self.0.visit(job, plain(&job.get)).await, ..Visits::default() };
        if let Some(ask) = &job.download {
            visits.download = Some(self.0.visit(job, plain(ask)).await);
        }
        if let Some(ask) = &job.upload {
            let size = job.upload_size;
            visits.upload = Some((self.0.visit(job, Request { ask, method: Method::POST, payload: Some(size) }).await, size));
        }
        let mut finding = report::finding(&visits, self.0.clock.now().unix);
        // A server may say back what it was told, and an error repeat that.
        finding.error = finding.error.map(|error| redact(&error, &job.headers.secrets()));
        finding
    }
}

impl Inner {
    /// One request, whatever comes of it.
    async fn visit(&self, job: &Arc<Job>, request: Request<'_>) -> Visit {
        let mut course = Course::default();
        let limit = request.ask.timeout;
        let came = match tokio::time::timeout(limit, self.travel(job, &request, &mut course)).await {
            Ok(came) => came,
            Err(_) => Err(Failure::late(course.stage(), limit)),
        };
        let ended = self.clock.now().mono;
        let marks: Vec<_> = course.exchanges.iter().map(|trace| trace.seen().marks).collect();
        let (answer, failure) = match came {
            Ok(bytes) => (Some(Answer { phases: Phases::of(&marks, ended), bytes }), wrong_status(job, course.status)),
            Err(failure) => (None, Some(failure)),
        };
        let first = course.exchanges.first().map(|trace| trace.seen()).unwrap_or_default();
        let (address, stale) = first.resolved.map_or((None, false), |resolved| (Some(resolved.address), resolved.stale));
        Visit { status: course.status, answer, failure, address, stale, expires: first.expires }
    }

    /// To the answer, redirects included; gives how many bytes its body had.
    async fn travel(&self, job: &Arc<Job>, request: &Request<'_>, course: &mut Course) -> Result<u64, Failure> {
        let redirects = Redirects { home: &request.ask.url, most: job.redirects };
        let mut url = request.ask.url.clone();
        loop {
            let mut response = self.exchange(job, request, &url, redirects.is_home(&url), course).await?;
            let status = response.status();
            let location = response.headers().get(LOCATION).map(HeaderValue::as_bytes);
            let followed = course.exchanges.len() as u32 - 1;
            match redirects.way(&request.method, &url, status, location, followed) {
                Way::Here => return read(&mut response, job.max_body).await,
                Way::On(next) => {
                    let to = redact(&origin(&next), &job.headers.secrets());
                    tracing::trace!(from = origin(&url), to, status = status.as_u16(), "redirect followed");
                    url = next;
                }
                Way::Refused(why) => return Err(Failure::new(Outcome::BadStatus, format!("status {}: {why}", status.as_u16()))),
            }
        }
    }

    /// To the head of an answer.
    async fn exchange(
        &self,
        job: &Arc<Job>,
        request: &Request<'_>,
        url: &Url,
        home: bool,
        course: &mut Course,
    ) -> Result<Response, Failure> {
        // Before its time begins: the first of all reads the system's certificates.
        let prepared = self.prepare(job, request, url, home)?;
        let trace = course.begin(Trace::begin(&self.clock, job.wanted, !home), url);
        let (trace, came) = match trace.follow(prepared.send()).await {
            // The server had closed the kept connection meanwhile: that says nothing of either.
            Err(_) if request.payload.is_none() && trace.seen().marks.dialled.is_none() => {
                course.exchanges.pop();
                let trace = course.begin(trace.again(), url);
                let came = trace.follow(self.prepare(job, request, url, home)?.send()).await;
                (trace, came)
            }
            came => (trace, came),
        };
        let response = came.map_err(|error| no_answer(error, &trace.seen()))?;
        trace.answered();
        course.status = Some(response.status().as_u16());
        Ok(response)
    }

    fn prepare(&self, job: &Arc<Job>, request: &Request<'_>, url: &Url, home: bool) -> Result<RequestBuilder, Failure> {
        let client = self.clients.of(job, url.scheme()).map_err(|error| Failure::new(Outcome::LocalError, explain(&error)))?;
        let mut prepared = client.request(request.method.clone(), url.clone());
        if let Some(bytes) = request.payload {
            prepared = prepared.header(CONTENT_TYPE, "application/octet-stream").body(Body::wrap(Payload::new(bytes)));
        }
        // Last, so that the operator's word counts; to nobody but the operator's own server.
        Ok(if home { prepared.headers(job.headers.expose().clone()) } else { prepared })
    }
}

/// Scheme, host and port: what may be shown of a URL that a server gave.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Why a request got no answer. What the hooks saw says more than the client's error.
fn no_answer(error: reqwest::Error, seen: &Seen) -> Failure {
    if let Some(error) = &seen.lookup_failed {
        return Failure::new(Outcome::DnsError, error.to_string());
    }
    match &seen.forbidden {
        Some(whereto) => Failure::new(Outcome::BadStatus, format!("redirected to {whereto}")),
        None => Failure::of(&error.without_url(), seen.marks.stage()),
    }
}

/// Reads a body to its end and throws it away.
async fn read(response: &mut Response, most: u64) -> Result<u64, Failure> {
    let too_large = || Failure::new(Outcome::BodyTooLarge, format!("more than {} while reading the answer", show_bytes(&most)));
    if response.content_length().is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::of(&error.without_url(), Stage::Body))? {
        bytes += chunk.len() as u64;
        if bytes > most {
            return Err(too_large());
        }
    }
    Ok(bytes)
}

fn wrong_status(job: &Job, status: Option<u16>) -> Option<Failure> {
    let status = status?;
    let right = if job.expect_status.is_empty() { (200..300).contains(&status) } else { job.expect_status.contains(&status) };
    (!right).then(|| Failure::new(Outcome::BadStatus, format!("status {status}")))
}

impl Course {
    /// The next exchange, whose address is known already if it stands in the URL.
    fn begin(&mut self, trace: Rc<Trace>, url: &Url) -> Rc<Trace> {
        if let Some(address) = literal(url) {
            trace.aim(Resolved { address, stale: false });
        }
        self.exchanges.push(Rc::clone(&trace));
        trace
    }

    /// What the request is doing now.
    fn stage(&self) -> Stage {
        self.exchanges.last().map_or(Stage::Connect, |trace| trace.seen().marks.stage())
    }
}

impl Engine for HttpEngine {
    type Job = Job;

    fn run(&self, job: Arc<Job>, _slot: Slot) -> impl Future<Output = Finding> + 'static {
        let engine = self.clone();
        async move { engine.measure(&job).await }
    }
}
