//! Keeps the state socket there: made anew when its folder is back, or was taken away with it.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::settings::explain;
use crate::status::server::{Told, serve};
use crate::web::socket::SocketFile;

/// How often it is looked whether the socket is still there, or can be made.
const LOOK: Duration = Duration::from_secs(2);

/// Serves for as long as it is polled. When it is dropped, the socket's file goes, unless it is another's.
pub(super) async fn keep(path: PathBuf, what: Told) {
    let mut told = false;
    loop {
        match serve(&path, what.clone()) {
            Ok(server) => {
                told = false;
                let stop = server.handle();
                actix_rt::spawn(server);
                if let Ok(file) = SocketFile::of(&path) {
                    let file = Arc::new(file);
                    // Without a thread to look, it is served for as long as this lives.
                    match watch(&file) {
                        Ok(gone) => _ = gone.await,
                        Err(_) => std::future::pending().await,
                    }
                }
                tracing::warn!(path = %path.display(), "the state socket was taken away, it is made anew");
                stop.stop(false).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(error = explain(&error), "no state socket, `qosd status` will not work");
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Ends when the file is no longer in its place. A disk that hangs while it is looked at holds up a thread that does nothing else.
fn watch(file: &Arc<SocketFile>) -> std::io::Result<oneshot::Receiver<()>> {
    let (gone, told) = oneshot::channel();
    let file: Weak<SocketFile> = Arc::downgrade(file);
    thread::Builder::new().name("state-socket".into()).spawn(move || {
        while file.upgrade().is_some_and(|file| file.is_in_place()) {
            thread::sleep(LOOK);
        }
        // Nobody may wait for it any more.
        let _ = gone.send(());
    })?;
    Ok(told)
}
