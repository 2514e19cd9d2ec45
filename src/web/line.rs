//! A connection with somebody who may be slow on purpose: it is cut off when nothing moves.
//!
//! The web server has no limit of its own for how long a body may take in either direction. So each connection has a
//! due time that moves on with the bytes, and whoever misses it finds the connection reset.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// How long whom is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the head of a request.
    pub head: Duration,
    /// Within a request, while nothing moves.
    pub stalled: Duration,
    /// For a request and its answer in all.
    pub longest: Duration,
    /// For the next request.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { head: seconds(5), stalled: seconds(10), longest: seconds(120), idle: seconds(75) }
    }
}

/// How late a connection may be cut off.
const LATE: Duration = Duration::from_millis(500);

/// A connection. Clones share it; with the last one nobody watches it any more.
#[derive(Clone)]
pub struct Line(Rc<Inner>);

struct Inner {
    patience: Patience,
    due: Rc<Cell<Instant>>,
    request_due: Cell<Instant>,
    watch: JoinHandle<()>,
}

impl Line {
    /// Watches a connection from now on.
    pub fn watch(stream: &impl AsFd, patience: Patience) -> io::Result<Self> {
        let socket = Socket::from(stream.as_fd().try_clone_to_owned()?);
        let now = Instant::now();
        let due = Rc::new(Cell::new(now + patience.stalled));
        let watch = actix_web::rt::spawn(cut_off(socket, Rc::clone(&due)));
        Ok(Self(Rc::new(Inner { patience, due, request_due: Cell::new(now + patience.longest), watch })))
    }

    /// Cuts off a connection that nobody is going to watch.
    pub fn cut(stream: &impl AsFd) {
        // Fails only when it is gone already.
        let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Both);
    }

    /// A request begins.
    pub fn begin(&self) {
        self.0.request_due.set(Instant::now() + self.0.patience.longest);
        self.moved();
    }

    /// Something moved.
    pub fn moved(&self) {
        self.0.due.set(self.0.request_due.get().min(Instant::now() + self.0.patience.stalled));
    }

    /// The answer was given. Its last bytes may still be on their way.
    pub fn end(&self) {
        self.0.due.set(Instant::now() + self.0.patience.idle);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Resets the connection when its due time has passed.
async fn cut_off(socket: Socket, due: Rc<Cell<Instant>>) {
    while due.get() > Instant::now() {
        // The due time may become an earlier one while this sleeps.
        sleep_until(due.get().min(Instant::now() + LATE)).await;
    }
    tracing::debug!("slow connection cut off");
    // Without this the kernel would go on trying to send what is left. Both fail only when the connection is gone.
    let _ = socket.set_linger(Some(Duration::ZERO));
    let _ = socket.shutdown(std::net::Shutdown::Both);
}
