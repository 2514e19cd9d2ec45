//! The server of the page: over TCP as `[web]` says, and beside what else the state socket tells.
//!
//! It gives, and takes nothing: GET and HEAD alone. Nothing here blocks but the making of pages, which take turns.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, HOST, HeaderValue};
use actix_web::http::uri::Authority;
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::rt::net::TcpStream;
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use tokio::sync::watch;

use super::host::{self, Hosts};
use super::press::Press;
use super::route::{self, NoRoute, Route};
use super::{Answer, wire};
use crate::web::line::{Line, Patience};

/// Threads that serve each address. While one makes a page the other still answers.
const WORKERS: usize = 2;
/// The most connections of each thread; further ones wait until one is free.
const CONNECTIONS: usize = 32;
/// The longest path with its query.
const LONGEST_PATH: usize = 8192;
/// The nice value of the threads that make pages, whatever that of the others is.
const NICE: i32 = 10;

/// How long whom is waited for: a page may wait for its turn and for the journal, so its request takes longer than most.
pub const PATIENCE: Patience = Patience {
    head: Duration::from_secs(5),
    stalled: Duration::from_secs(20),
    longest: Duration::from_secs(30),
    idle: Duration::from_secs(30),
};

/// By which names the page may be called, as the config says it now.
pub type Names = watch::Receiver<Arc<Hosts>>;

/// What a thread serves.
#[derive(Clone)]
struct Door {
    press: Press,
    /// None = whoever comes in was allowed to open the socket, and may call it what they like.
    names: Option<Names>,
}

/// Serves at an address. The server stops when it is dropped.
pub fn serve(address: SocketAddr, press: Press, names: Names) -> io::Result<Server> {
    serve_on(TcpListener::bind(address)?, press, names, PATIENCE)
}

/// As [`serve`], on a listener that is there already, and with another patience.
pub fn serve_on(listener: TcpListener, press: Press, names: Names, patience: Patience) -> io::Result<Server> {
    let door = Door { press, names: Some(names) };
    let server = HttpServer::new(move || App::new().configure(|app| open(&door, app)));
    let watched = server.on_connect(move |stream, connection| {
        // Without descriptors to spare nobody watches this one, and only its head has a limit.
        if let Some(line) = stream.downcast_ref::<TcpStream>().and_then(|stream| Line::watch(stream, patience).ok()) {
            connection.insert(line);
        }
    });
    let bounded = watched.workers(WORKERS).max_connections(CONNECTIONS).client_request_timeout(patience.head).keep_alive(patience.idle);
    Ok(bounded.disable_signals().shutdown_timeout(0).listen(listener)?.run())
}

/// The same pages for a server that has something else to tell as well: the state socket.
pub fn pages(press: Press) -> Arc<dyn Fn(&mut ServiceConfig) + Send + Sync> {
    let door = Door { press, names: None };
    Arc::new(move |app| open(&door, app))
}

/// Called by each thread that is to serve.
fn open(door: &Door, app: &mut ServiceConfig) {
    step_back();
    app.app_data(web::Data::new(door.clone())).default_service(web::to(answer));
}

/// Lets the threads that measure go first, where processors are few. As shipped, systemd's unit does not allow it: then the
/// pages' turns are what keeps a processor free.
fn step_back() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread that makes pages has the priority of all others");
    }
}

async fn answer(request: HttpRequest, door: web::Data<Door>) -> HttpResponse {
    let line = request.conn_data::<Line>().cloned();
    if let Some(line) = &line {
        line.begin();
    }
    let response = respond(&request, &door).await;
    if let Some(line) = &line {
        line.end();
    }
    wire::protected(response)
}

async fn respond(request: &HttpRequest, door: &Door) -> HttpResponse {
    if let Some(names) = &door.names
        && let Err(stranger) = called_by_name(request, &names.borrow())
    {
        return misdirected(&stranger);
    }
    if request.path().len() + request.query_string().len() > LONGEST_PATH {
        return closing(wire::response(Answer::refused(414, "the address is too long"), false));
    }
    let route = match Route::of(request.path()) {
        Ok(route) => route,
        Err(error) => {
            let status = if error == NoRoute::Unknown { 404 } else { 400 };
            return closing(wire::response(Answer::refused(status, &error.to_string()), false));
        }
    };
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refusal = wire::response(Answer::refused(405, "this page takes GET and HEAD alone"), false);
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return closing(refusal);
    }
    match route {
        Route::Style => wire::asset("text/css; charset=utf-8", include_str!("assets/style.css"), request),
        Route::Script => wire::asset("text/javascript; charset=utf-8", include_str!("assets/page.js"), request),
        Route::Icon => HttpResponse::build(StatusCode::NO_CONTENT).insert_header((CACHE_CONTROL, "no-cache")).finish(),
        Route::Healthy => wire::response(Answer::text("ok\n".to_owned()), false),
        Route::Ready => wire::response(door.press.ready(), false),
        route => page(request, &door.press, &route).await,
    }
}

/// An answer after which the connection is closed: whatever else the other side sends is not read.
fn closing(mut refusal: HttpResponse) -> HttpResponse {
    refusal.head_mut().set_connection_type(ConnectionType::Close);
    refusal
}

/// The answer to whoever calls us what we are not known to be.
fn misdirected(stranger: &str) -> HttpResponse {
    let name: String = host::host(stranger).unwrap_or(stranger).chars().take(100).collect();
    let why = match name.as_str() {
        "" => {
            "the request calls this page by no name that could be its own; its names stand in hosts in the section [web] of qosd's config"
                .to_owned()
        }
        name => {
            format!("this page does not know the name {name:?}; if it is its own, add it to hosts in the section [web] of qosd's config")
        }
    };
    closing(wire::response(Answer::refused(StatusCode::MISDIRECTED_REQUEST.as_u16(), &why), false))
}

/// Whether the request names us wherever it names anybody, and does so once at least.
fn called_by_name(request: &HttpRequest, hosts: &Hosts) -> Result<(), String> {
    let headers = request.headers().get_all(HOST).map(|host| host.to_str().unwrap_or_default());
    let mut names = headers.chain(request.uri().authority().map(Authority::as_str)).peekable();
    if names.peek().is_none() {
        return Err(String::new());
    }
    names.find(|name| !hosts.know(name)).map_or(Ok(()), |stranger| Err(stranger.to_owned()))
}

/// Waits for a turn, and keeps it until the page is made and compressed.
async fn page(request: &HttpRequest, press: &Press, route: &Route) -> HttpResponse {
    let Some(_turn) = press.turn(route).await else {
        return wire::response(Answer::refused(503, "too many pages are asked for"), false);
    };
    let asked = route::asked(request.query_string());
    let answer = press.print(route, &asked, wire::wants_openmetrics(request)).await;
    wire::held(wire::response(answer, wire::takes_gzip(request)), |bytes| press.room(bytes))
}
