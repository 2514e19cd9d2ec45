//! One call, from its head to its answer: who calls, how often, what, with which key, and only then the body.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{declined, json, later, not_allowed, refused, rejected};
use super::counts::Count;
use super::key::Shown;
use super::origin::Origin;
use super::route::Route;
use super::server::{Deadlines, Seat};
use super::store::{Receipt, ReceiveError};
use super::surface::{Front, Surface};
use crate::clock::Timestamp;
use crate::mesh::wire::{BadPost, KEY_HEADER, LARGEST, Received, SLOT_HEADER};

/// Who tells for whom a proxy speaks.
const FORWARDED: &str = "x-forwarded-for";
/// What a body gets memory for before any of it came.
const FIRST: usize = 64 << 10;
/// The most items of a post of which is told why they were not stored.
const MOST_TOLD: usize = 20;
/// After which time to try again when there was no room.
const AGAIN: Duration = Duration::from_secs(2);

/// Answers a call.
pub(super) async fn answer(
    request: HttpRequest,
    payload: web::Payload,
    surface: web::Data<Surface>,
    deadlines: web::Data<Deadlines>,
) -> HttpResponse {
    let (Some(seat), Some(front)) = (request.conn_data::<Seat>(), surface.front()) else {
        // The connection came too many, and is cut off already; or the section has just gone.
        return refused(StatusCode::SERVICE_UNAVAILABLE, "there is no room");
    };
    seat.line.begin();
    let call = Call { origin: origin(&request, seat.peer, &front), surface: &surface, front: &front, deadlines: &deadlines };
    let answer = call.answer(&request, payload).await.unwrap_or_else(|refusal| refusal);
    seat.line.end();
    answer
}

fn origin(request: &HttpRequest, peer: Option<IpAddr>, front: &Front) -> Origin {
    let forwarded: Vec<&str> = request.headers().get_all(FORWARDED).map(|value| value.to_str().unwrap_or_default()).collect();
    Origin::behind(peer, forwarded.into_iter(), |peer| front.settings.trusts(peer))
}

/// The key that is shown. Of two neither is the one.
fn key(request: &HttpRequest) -> Option<&[u8]> {
    let mut keys = request.headers().get_all(KEY_HEADER);
    keys.next().map(|key| if keys.next().is_some() { &[] } else { key.as_bytes() })
}

struct Call<'a> {
    origin: Origin,
    surface: &'a Surface,
    front: &'a Front,
    deadlines: &'a Deadlines,
}

impl Call<'_> {
    async fn answer(&self, request: &HttpRequest, payload: web::Payload) -> Result<HttpResponse, HttpResponse> {
        let limited = |wait| later(StatusCode::TOO_MANY_REQUESTS, "too many calls", wait);
        self.surface.may_call(self.origin).map_err(limited)?;
        let route = Route::of(request.uri(), &self.front.settings.base_path);
        let route = route.ok_or_else(|| refused(StatusCode::NOT_FOUND, "there is nothing here"))?;
        if *request.method() != route.method() {
            return Err(not_allowed(&route.method()));
        }
        // Before anything of the body is looked at.
        match self.surface.check(self.front, self.origin, key(request)) {
            Shown::Right => {}
            Shown::Wrong => return Err(refused(StatusCode::FORBIDDEN, "the key in X-API-Key is not the right one")),
            Shown::Missing => return Err(refused(StatusCode::BAD_REQUEST, "the header X-API-Key is missing")),
        }
        match route {
            Route::Probes => Ok(json(StatusCode::OK, self.front.probes.clone())),
            Route::Schedule => self.front.schedule.clone().map(|schedule| json(StatusCode::OK, schedule)).ok_or_else(none_here),
            Route::Last(name) => match self.surface.store.last(&name) {
                Some(result) => Ok(json(StatusCode::OK, json!({ "result": result }).to_string())),
                None => Err(none_here()),
            },
            Route::Results => self.results(request, payload).await,
        }
    }

    async fn results(&self, request: &HttpRequest, payload: web::Payload) -> Result<HttpResponse, HttpResponse> {
        self.surface.counts.add(Count::Attempts, 1);
        let slot = slot(request).map_err(|error| self.bad(Count::BadPosts, StatusCode::BAD_REQUEST, error))?;
        let body = self.body(request, payload).await?;
        let received = Received::read(&body.bytes).map_err(|error| {
            let (count, status) = match error {
                BadPost::TooMany(_) => (Count::TooLarge, StatusCode::PAYLOAD_TOO_LARGE),
                BadPost::Form(_) => (Count::BadPosts, StatusCode::BAD_REQUEST),
            };
            self.surface.counts.add(count, 1);
            declined(status, &error.to_string(), &[], 0)
        })?;
        let impossible: Vec<(usize, String)> =
            received.items.iter().enumerate().filter_map(|(index, item)| Some((index, item.as_ref().err()?.clone()))).collect();
        let source = received.source.clone();
        // The memory that the body took is counted until its results are stored.
        match timeout(self.deadlines.stored, self.surface.store.receive(received, slot)).await {
            Ok(Ok(receipt)) => Ok(self.stored(&receipt, &impossible)),
            Ok(Err(ReceiveError::UnknownSource(source))) => {
                self.surface.counts.add(Count::UnknownSource, 1);
                if let Some(suppressed) = self.surface.mention(self.origin, "source") {
                    tracing::warn!(origin = %self.origin, %source, suppressed, "collector was sent results of a probe that is not in the list");
                }
                Err(declined(StatusCode::FORBIDDEN, &format!("{source} is not in the list of probes"), &[], 0))
            }
            Ok(Err(ReceiveError::NotDurable(error))) => Err(self.not_stored(&source, &error.to_string())),
            Err(_) => Err(self.not_stored(&source, "the journal takes too long")),
        }
    }

    fn stored(&self, receipt: &Receipt, impossible: &[(usize, String)]) -> HttpResponse {
        let strangers = receipt.rejected.iter().map(|item| (item.index, &item.error));
        let mut all: Vec<_> = impossible.iter().map(|(index, error)| (*index, error)).chain(strangers).collect();
        all.sort_unstable_by_key(|(index, _)| *index);
        // The first of many have to do, or whoever reads no more than some KiB would not understand the answer.
        let list: Vec<Value> = all.iter().take(MOST_TOLD).map(|(index, error)| rejected(*index, error)).collect();
        match impossible.first() {
            Some((_, error)) => {
                if let Some(suppressed) = self.surface.mention(self.origin, "items") {
                    tracing::warn!(origin = %self.origin, items = impossible.len(), suppressed, "collector was sent results that cannot be");
                }
                declined(StatusCode::UNPROCESSABLE_ENTITY, error, &list, all.len())
            }
            None if list.is_empty() => json(StatusCode::OK, r#"{"status":"ok"}"#),
            None => json(StatusCode::OK, json!({ "status": "ok", "rejected": list, "rejected_count": all.len() }).to_string()),
        }
    }

    fn not_stored(&self, source: &impl std::fmt::Display, error: &str) -> HttpResponse {
        if let Some(suppressed) = self.surface.mention(Origin::Local, "journal") {
            tracing::error!(%source, error, suppressed, "collector cannot store results, their agents keep them");
        }
        declined(StatusCode::INTERNAL_SERVER_ERROR, "the results cannot be stored now", &[], 0)
    }

    fn bad(&self, count: Count, status: StatusCode, error: impl std::fmt::Display) -> HttpResponse {
        self.surface.counts.add(count, 1);
        refused(status, error)
    }

    /// The body, if it is no larger and no slower than allowed.
    async fn body(&self, request: &HttpRequest, mut payload: web::Payload) -> Result<Body<'_>, HttpResponse> {
        let too_large = || self.bad(Count::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, format_args!("the body may have {LARGEST} bytes"));
        let said = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
        if said.is_some_and(|said: u64| said > LARGEST as u64) {
            return Err(too_large());
        }
        let due = Instant::now() + self.deadlines.body;
        let first = said.map_or(0, |said| FIRST.min(said as usize));
        let mut body = Body { surface: self.surface, origin: self.origin, held: 0, bytes: Vec::with_capacity(first) };
        loop {
            let chunk = timeout_at(due, payload.next()).await;
            let chunk = chunk.map_err(|_| self.bad(Count::TooSlow, StatusCode::REQUEST_TIMEOUT, "the body came too slowly"))?;
            let Some(chunk) = chunk else { return Ok(body) };
            let chunk = chunk.map_err(|_| self.bad(Count::BadPosts, StatusCode::BAD_REQUEST, "the body is broken"))?;
            if body.bytes.len() + chunk.len() > LARGEST {
                return Err(too_large());
            }
            if timeout_at(due, self.surface.hold(self.origin, chunk.len())).await.is_err() {
                self.surface.counts.add(Count::Busy, 1);
                return Err(later(StatusCode::SERVICE_UNAVAILABLE, "there is no room for the body now", AGAIN));
            }
            body.held += chunk.len();
            body.bytes.extend_from_slice(&chunk);
        }
    }
}

/// A body and the memory that is counted for it.
struct Body<'a> {
    surface: &'a Surface,
    origin: Origin,
    held: usize,
    bytes: Vec<u8>,
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.surface.release(self.origin, self.held);
    }
}

fn none_here() -> HttpResponse {
    declined(StatusCode::NOT_FOUND, "there is none", &[], 0)
}

/// The round that the results are of, if the agent says so.
fn slot(request: &HttpRequest) -> Result<Option<Timestamp>, &'static str> {
    let Some(text) = request.headers().get(SLOT_HEADER) else { return Ok(None) };
    let nanos = text.to_str().ok().and_then(|text| text.parse().ok());
    nanos.map(|nanos| Some(Timestamp::from_nanos(nanos))).ok_or("the header Qosd-Slot is no number of nanoseconds")
}
