//! What the responder answers.

use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::Server;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, ContentType};
use actix_web::http::{Method, StatusCode};
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use futures_util::StreamExt;

use super::settings::Settings;
use crate::payload::Payload;
use crate::web::line::{Line, Patience};

/// Threads that serve.
const WORKERS: usize = 2;
/// The most connections of each; further ones wait until one is free.
const CONNECTIONS: usize = 64;
/// What a download gives when it is not told how much.
const DOWNLOAD: u64 = 1 << 20;

/// Serves at the address of the settings. The server stops when it is dropped.
pub fn serve(settings: Settings) -> io::Result<Server> {
    let listener = TcpListener::bind(settings.listen)?;
    serve_on(listener, settings, Patience::default())
}

/// As [`serve`], on a listener that is there already, and with another patience.
pub fn serve_on(listener: TcpListener, settings: Settings, patience: Patience) -> io::Result<Server> {
    let settings = Arc::new(settings);
    let server = HttpServer::new(move || App::new().app_data(web::Data::from(Arc::clone(&settings))).default_service(web::to(answer)));
    let watched = server.on_connect(move |stream, connection| {
        // Without descriptors to spare nobody watches this one, and only its head has a limit.
        if let Some(line) = stream.downcast_ref::<TcpStream>().and_then(|stream| Line::watch(stream, patience).ok()) {
            connection.insert(line);
        }
    });
    let bounded = watched.workers(WORKERS).max_connections(CONNECTIONS).client_request_timeout(patience.head).keep_alive(patience.idle);
    Ok(bounded.disable_signals().shutdown_timeout(0).listen(listener)?.run())
}

async fn answer(request: HttpRequest, payload: web::Payload, settings: web::Data<Settings>) -> HttpResponse {
    let line = request.conn_data::<Line>().cloned();
    if let Some(line) = &line {
        line.begin();
    }
    if !request.peer_addr().is_some_and(|peer| settings.allows(peer.ip())) {
        return refuse(StatusCode::FORBIDDEN);
    }
    match (request.path(), request.method()) {
        ("/", &Method::GET) => {
            finish(line.as_ref());
            HttpResponse::Ok().content_type(ContentType::plaintext()).body("qosd responder\n")
        }
        ("/testfile.bin", &Method::GET) => download(request.query_string(), settings.max_bytes, line),
        ("/upload", &Method::POST) => upload(payload, settings.max_bytes, line).await,
        ("/" | "/testfile.bin", _) => not_allowed("GET"),
        ("/upload", _) => not_allowed("POST"),
        _ => refuse(StatusCode::NOT_FOUND),
    }
}

/// An answer after which the connection is closed: whatever else the other side sends is not read.
fn refuse(status: StatusCode) -> HttpResponse {
    HttpResponse::build(status).force_close().finish()
}

fn not_allowed(method: &'static str) -> HttpResponse {
    HttpResponse::MethodNotAllowed().insert_header((ALLOW, method)).force_close().finish()
}

fn finish(line: Option<&Line>) {
    if let Some(line) = line {
        line.end();
    }
}

fn download(query: &str, most: u64, line: Option<Line>) -> HttpResponse {
    let said = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == "bytes");
    let bytes = match said.map(|(_, bytes)| bytes.parse::<u64>()) {
        None => DOWNLOAD,
        Some(Ok(bytes)) => bytes,
        Some(Err(_)) => return refuse(StatusCode::BAD_REQUEST),
    };
    let body = Download { payload: Payload::new(bytes.min(most)), line };
    HttpResponse::Ok().content_type(ContentType::octet_stream()).insert_header((CACHE_CONTROL, "no-store")).body(body)
}

/// The body of a download.
struct Download {
    payload: Payload,
    line: Option<Line>,
}

impl MessageBody for Download {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.payload.left())
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if let Some(line) = &self.line {
            line.moved();
        }
        Poll::Ready(self.payload.next().map(Ok))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        finish(self.line.as_ref());
    }
}

async fn upload(mut payload: web::Payload, most: u64, line: Option<Line>) -> HttpResponse {
    let mut bytes = 0;
    while let Some(chunk) = payload.next().await {
        let Ok(chunk) = chunk else { return refuse(StatusCode::BAD_REQUEST) };
        bytes += chunk.len() as u64;
        if bytes > most {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE);
        }
        if let Some(line) = &line {
            line.moved();
        }
    }
    finish(line.as_ref());
    HttpResponse::Ok().content_type(ContentType::plaintext()).body(format!("{bytes}\n"))
}
