//! The state socket: HTTP on a unix socket in the runtime folder, for whoever may open it.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, web};

/// Where the status is served.
pub const STATUS_PATH: &str = "/api/v1/status";
/// Where faults are injected, if the test hooks are on.
pub const FAULT_PATH: &str = "/test/fault/{actor}/{fault}";

/// Owner and group may connect.
const MODE: u32 = 0o660;

/// Makes the status as a JSON document.
pub type Report = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// Injects a fault into an actor: `false` if there is no such actor or fault.
pub type Hook = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// Why there is no state socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Something else stands at its path.
    #[error("{0} is in the way: it is no socket")]
    InTheWay(PathBuf),
    /// Another process listens there.
    #[error("another process listens on {0}")]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot listen on {0}")]
    System(PathBuf, #[source] io::Error),
}

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

/// Binds beside the path and moves the socket there, so that nobody ever finds it half made or too open. A socket that
/// a dead process left behind is replaced; anything else, a symbolic link above all, is not.
fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let system = |error| SocketError::System(path.to_owned(), error);
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::InTheWay(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::InUse(path.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(system(error)),
    }
    let beside = path.with_extension(format!("sock.{}", std::process::id()));
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(system(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&beside).map_err(system)?;
    std::fs::set_permissions(&beside, PermissionsExt::from_mode(MODE)).map_err(system)?;
    std::fs::rename(&beside, path).map_err(system)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_process_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qosd.sock");
        drop(listen(&path).unwrap());
        let listener = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert!(matches!(listen(&path), Err(SocketError::InUse(_))));
        drop(listener);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_or_a_link_in_the_way_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "precious").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            assert!(matches!(listen(path), Err(SocketError::InTheWay(_))));
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }
}
