//! The state socket: HTTP on a unix socket in the runtime folder, for whoever may open it.

use std::path::Path;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, web};

use crate::web::socket::{SocketError, listen};

/// Where the status is served.
pub const STATUS_PATH: &str = "/api/v1/status";
/// Where faults are injected, if the test hooks are on.
pub const FAULT_PATH: &str = "/test/fault/{actor}/{fault}";

/// Makes the status as a JSON document.
pub type Report = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// Injects a fault into an actor: `false` if there is no such actor or fault.
pub type Hook = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// Serves on a socket at this path. The server stops when it is dropped.
pub fn serve(path: &Path, report: Report, hook: Option<Hook>) -> Result<Server, SocketError> {
    let listener = listen(path)?;
    let system = |error| SocketError::System(path.to_owned(), error);
    let server = HttpServer::new(move || {
        let report = Arc::clone(&report);
        let status = move || {
            let document = report();
            async move { HttpResponse::Ok().json(document) }
        };
        let app = App::new().route(STATUS_PATH, web::get().to(status));
        match hook.clone() {
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
