//! How an answer goes over the wire: what protects a browser, what may be kept, what is compressed.

use std::convert::Infallible;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    self, Accept, AcceptEncoding, CACHE_CONTROL, CONTENT_ENCODING, ETAG, Encoding, Header, HeaderName, HeaderValue, IF_NONE_MATCH, Quality,
    RETRY_AFTER, VARY,
};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::OwnedSemaphorePermit;

use super::Answer;

/// On every answer. Nothing is loaded from elsewhere, nothing is run that is not our own script, nobody frames the page,
/// reads it from another site, or learns from it where somebody came from.
const PROTECTION: [(HeaderName, HeaderValue); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
             base-uri 'none'; frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];
/// A body below this is sent as it is.
const SHORT: usize = 1024;

/// Puts on what protects a browser.
pub(super) fn protected(mut response: HttpResponse) -> HttpResponse {
    for (name, value) in PROTECTION {
        response.headers_mut().insert(name, value);
    }
    response
}

/// An answer, to be kept by nobody: each is of its moment.
pub(super) fn response(answer: Answer, gzip: bool) -> HttpResponse {
    let mut response = HttpResponse::build(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    response.content_type(answer.content_type).insert_header((CACHE_CONTROL, "no-store"));
    response.insert_header((VARY, "accept, accept-encoding"));
    if answer.status == 503 {
        response.insert_header((RETRY_AFTER, "5"));
    }
    match gzip.then_some(answer.body.as_bytes()).filter(|body| body.len() >= SHORT).map(compressed) {
        Some(Ok(compressed)) => response.insert_header((CONTENT_ENCODING, "gzip")).body(compressed),
        None | Some(Err(_)) => response.body(answer.body),
    }
}

/// A body with the room that it takes, which is free again when the body was read or its connection is gone.
pub(super) struct Held {
    body: Bytes,
    _room: OwnedSemaphorePermit,
}

impl MessageBody for Held {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

/// Has a response hold its room; if there is none, it is given up for one that says so.
pub(super) fn held(response: HttpResponse, room: impl FnOnce(usize) -> Option<OwnedSemaphorePermit>) -> HttpResponse {
    let (head, body) = response.into_parts();
    let Ok(body) = body.try_into_bytes() else { return self::response(Answer::refused(500, "this page failed"), false) };
    match room(body.len()) {
        Some(room) => head.set_body(BoxBody::new(Held { body, _room: room })),
        None => self::response(Answer::refused(503, "too many answers are on their way to those who asked"), false),
    }
}

/// As quick as it goes: most of a page repeats itself, and every client waits for its turn.
fn compressed(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// A file that is part of the program. It may be kept, and is asked for again each time: an upgrade shows at once.
pub(super) fn asset(content_type: &'static str, body: &'static str, request: &HttpRequest) -> HttpResponse {
    let tag = format!("\"{:08x}-{:x}\"", crc32c::crc32c(body.as_bytes()), body.len());
    let known = request.headers().get_all(IF_NONE_MATCH).any(|value| value.to_str().is_ok_and(|tags| tags.contains(&tag)));
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((CACHE_CONTROL, "no-cache")).insert_header((ETAG, tag));
    if known { response.finish() } else { response.content_type(content_type).body(body) }
}

/// Whether the other side takes gzip, and nothing else rather.
pub(super) fn takes_gzip(request: &HttpRequest) -> bool {
    let supported = [Encoding::gzip(), Encoding::identity()];
    AcceptEncoding::parse(request).is_ok_and(|accept| accept.negotiate(supported.iter()) == Some(Encoding::gzip()))
}

/// Whether the other side wants `OpenMetrics` rather than the text format, or as much.
pub(super) fn wants_openmetrics(request: &HttpRequest) -> bool {
    let Ok(accept) = Accept::parse(request) else { return false };
    let quality = |wanted: &str| {
        let of = accept.iter().filter(|offer| offer.item.essence_str() == wanted).map(|offer| offer.quality);
        of.max().unwrap_or(Quality::ZERO)
    };
    let openmetrics = quality("application/openmetrics-text");
    openmetrics > Quality::ZERO && openmetrics >= quality("text/plain")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actix_web::body::to_bytes;
    use actix_web::test::TestRequest;
    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn openmetrics_is_for_who_asks_for_it() {
        let table = [
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                true,
            ),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", false),
            ("text/plain, application/openmetrics-text;q=0.4", false),
            ("application/openmetrics-text;q=0", false),
            ("text/html,*/*", false),
            ("\"", false),
        ];
        for (accept, openmetrics) in table {
            let request = TestRequest::default().insert_header(("accept", accept)).to_http_request();
            assert_eq!(wants_openmetrics(&request), openmetrics, "{accept}");
        }
        assert!(!wants_openmetrics(&TestRequest::default().to_http_request()));
    }

    #[test]
    fn gzip_is_for_who_takes_it() {
        let table =
            [("gzip, deflate, br", true), ("br;q=1, gzip;q=0.5", true), ("identity", false), ("gzip;q=0", false), ("deflate", false)];
        for (accept, gzip) in table {
            let request = TestRequest::default().insert_header(("accept-encoding", accept)).to_http_request();
            assert_eq!(takes_gzip(&request), gzip, "{accept}");
        }
        assert!(!takes_gzip(&TestRequest::default().to_http_request()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_holds_its_room_until_it_is_gone_and_without_room_there_is_none() {
        let room = Arc::new(Semaphore::new(1));
        let give = || Arc::clone(&room).try_acquire_owned().ok();
        let page = || response(Answer::html("a page".to_owned()), false);
        let first = held(page(), |_| give());
        let second = held(page(), |_| give());
        assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 503));
        let body = to_bytes(first.into_body()).await.expect("it is there");
        assert_eq!((&*body, room.available_permits()), (&b"a page"[..], 1));
    }
}
