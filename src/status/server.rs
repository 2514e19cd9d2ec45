//! The state socket: HTTP on a unix socket in the runtime folder, for whoever may open it. It tells the status, has the pages,
//! and takes one wish: that dead letters are requeued.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpResponse, HttpServer, web};

use serde::{Deserialize, Serialize};

use crate::web::socket::{SocketError, listen};

/// Where the status is served.
pub const STATUS_PATH: &str = "/api/v1/status";
/// Where dead letters are requeued: a POST, with the name of an output as `output` in the query, or for all.
pub const REQUEUE_PATH: &str = "/api/v1/requeue";
/// Where faults are injected, if the test hooks are on.
pub const FAULT_PATH: &str = "/test/fault/{actor}/{fault}";

/// Makes the status as a JSON document.
pub type Report = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// Requeues the dead letters of an output, or of all: how many, or why not.
pub type Requeue = Arc<dyn Fn(Option<String>) -> Pin<Box<dyn Future<Output = Result<u64, String>>>> + Send + Sync>;

/// What is asked of [`REQUEUE_PATH`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequeueQuery {
    /// Which output; none = all.
    pub output: Option<String>,
}

/// What [`REQUEUE_PATH`] answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequeueAnswer {
    /// So many letters, durably.
    Requeued(u64),
    /// Why not.
    Error(String),
}

/// Injects a fault into an actor: `false` if there is no such actor or fault.
pub type Hook = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// Further routes of the socket, and what it answers to all other paths.
pub type Pages = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// What the socket tells and takes.
#[derive(Clone)]
pub struct Told {
    /// The status.
    pub report: Report,
    /// The one wish.
    pub requeue: Requeue,
    /// Faults, if the test hooks are on.
    pub hook: Option<Hook>,
    /// Everything else.
    pub pages: Pages,
}

/// Serves on a socket at this path. The server stops when it is dropped.
pub fn serve(path: &Path, told: Told) -> Result<Server, SocketError> {
    let listener = listen(path)?;
    let system = |error| SocketError::System(path.to_owned(), error);
    let server = HttpServer::new(move || {
        let report = Arc::clone(&told.report);
        let status = move || {
            let document = report();
            async move { HttpResponse::Ok().json(document) }
        };
        let requeue = Arc::clone(&told.requeue);
        let again = move |query: web::Query<RequeueQuery>| {
            let requeued = requeue(query.into_inner().output);
            async move {
                match requeued.await {
                    Ok(letters) => HttpResponse::Ok().json(RequeueAnswer::Requeued(letters)),
                    Err(why) => HttpResponse::ServiceUnavailable().json(RequeueAnswer::Error(why)),
                }
            }
        };
        let app = App::new().route(STATUS_PATH, web::get().to(status)).route(REQUEUE_PATH, web::post().to(again));
        let app = app.configure(|app| (told.pages)(app));
        match told.hook.clone() {
            None => app,
            Some(hook) => app.route(
                FAULT_PATH,
                web::post().to(move |path: web::Path<(String, String)>| {
                    let done = hook(&path.0, &path.1);
                    async move { HttpResponse::new(if done { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }) }
                }),
            ),
        }
    });
    Ok(server.workers(1).disable_signals().shutdown_timeout(0).listen_uds(listener).map_err(system)?.run())
}
