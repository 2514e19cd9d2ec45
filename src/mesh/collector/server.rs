//! The collector's server: where it listens, how it looks after its connections.

use std::any::Any;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::{Extensions, Server};
use actix_web::rt::net::{TcpStream, UnixStream};
use actix_web::{App, HttpServer, web};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use super::call::answer;
use super::settings::{Listen, Tls};
use super::surface::{Place, Surface};
use crate::web::line::{Line, Patience};
use crate::web::socket::{self, SocketError, SocketFile};

/// Threads that serve.
const WORKERS: usize = 2;
/// The most connections, if there are descriptors for them.
const CONNECTIONS: u64 = 2048;
/// Descriptors that a connection may need: one of its own, one to cut it off by, one while it is being accepted.
const DESCRIPTORS: u64 = 3;
/// Descriptors for all else that qosd does.
const OTHERS: u64 = 256;
/// As many descriptors as are asked for, if the system allows them.
const WANTED: u64 = 65_536;
/// Connections that may wait until they are accepted.
const BACKLOG: i32 = 1024;

/// How long whom is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For the head of a request.
    pub head: Duration,
    /// For its whole body, whatever trickles.
    pub body: Duration,
    /// For the journal.
    pub stored: Duration,
    /// For the next request.
    pub idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { head: seconds(5), body: seconds(10), stored: seconds(20), idle: seconds(30) }
    }
}

impl Deadlines {
    /// The last resort, behind all others: for whoever does not read the answer.
    fn patience(self) -> Patience {
        let longest = self.body + self.stored + Duration::from_secs(5);
        Patience { head: self.head, stalled: longest, longest, idle: self.idle }
    }
}

/// Why it does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("cannot listen on {0}")]
    Address(SocketAddr, #[source] io::Error),
    /// The socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The certificate cannot be used.
    #[error("cannot use the certificate: {0}")]
    Tls(String),
    /// The system refused something.
    #[error("cannot serve")]
    Serve(#[from] io::Error),
}

/// What it listens on.
pub enum Bound {
    /// An address.
    Tcp(TcpListener),
    /// A socket in the file system, which goes with it.
    Unix(UnixListener, SocketFile),
}

impl Bound {
    /// Takes the place that the settings name.
    pub fn new(listen: &Listen) -> Result<Self, ListenError> {
        match listen {
            Listen::Tcp(address) => tcp(*address).map(Self::Tcp).map_err(|error| ListenError::Address(*address, error)),
            Listen::Unix(path) => Ok(Self::Unix(socket::listen(path)?, SocketFile::of(path)?)),
        }
    }
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A server that runs, and the file of its socket.
pub struct Serving {
    /// To be polled; it stops when it is dropped.
    pub server: Server,
    /// To be kept as long.
    pub file: Option<SocketFile>,
}

/// Serves.
pub fn serve(bound: Bound, tls: Option<&Tls>, surface: &Arc<Surface>, deadlines: Deadlines) -> Result<Serving, ListenError> {
    let connections = connections();
    surface.resize(connections);
    let (shared, deadlines_data) = (web::Data::from(Arc::clone(surface)), web::Data::new(deadlines));
    let server =
        HttpServer::new(move || App::new().app_data(shared.clone()).app_data(deadlines_data.clone()).default_service(web::to(answer)));
    let (surface, patience) = (Arc::clone(surface), deadlines.patience());
    let server = server.on_connect(move |stream, connection| seat(&surface, stream, connection, patience));
    // Whom there is no room for is to be told at once: so the workers take more than there is room for.
    let server = server.workers(WORKERS).backlog(BACKLOG as u32).max_connections(connections).max_connection_rate(connections);
    let server = server.client_request_timeout(deadlines.head).keep_alive(deadlines.idle);
    let server = server.disable_signals().shutdown_timeout(0);
    let (server, file) = match (bound, tls) {
        (Bound::Tcp(listener), None) => (server.listen(listener)?, None),
        (Bound::Tcp(listener), Some(tls)) => (server.listen_rustls_0_23(listener, tls.server_config().map_err(ListenError::Tls)?)?, None),
        // Whoever can open the socket is on this host.
        (Bound::Unix(listener, file), _) => (server.listen_uds(listener)?, Some(file)),
    };
    Ok(Serving { server: server.run(), file })
}

/// As many connections as there are descriptors for, after asking for more.
fn connections() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let wanted = WANTED.min(hard);
    let soft = if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    (soft.saturating_sub(OTHERS) / DESCRIPTORS).clamp(64, CONNECTIONS) as usize
}

/// A connection that is served.
pub(super) struct Seat {
    /// Watches it.
    pub(super) line: Line,
    /// The address at its other end; none for a unix socket.
    pub(super) peer: Option<IpAddr>,
    _place: Place,
}

/// Gives a connection its seat, or cuts it off.
fn seat(surface: &Arc<Surface>, stream: &dyn Any, connection: &mut Extensions, patience: Patience) {
    let mut over_tcp = |stream: &TcpStream| match stream.peer_addr() {
        Ok(peer) => take(surface, stream, Some(peer.ip()), connection, patience),
        Err(_) => Line::cut(stream),
    };
    if let Some(stream) = stream.downcast_ref::<TcpStream>() {
        over_tcp(stream);
    } else if let Some(stream) = stream.downcast_ref::<TlsStream<TcpStream>>() {
        over_tcp(stream.get_ref().0);
    } else if let Some(stream) = stream.downcast_ref::<UnixStream>() {
        take(surface, stream, None, connection, patience);
    }
}

fn take(surface: &Arc<Surface>, stream: &impl AsFd, peer: Option<IpAddr>, connection: &mut Extensions, patience: Patience) {
    let seat = surface.enter(peer).and_then(|place| Some(Seat { line: Line::watch(stream, patience).ok()?, peer, _place: place }));
    match seat {
        Some(seat) => drop(connection.insert(seat)),
        None => Line::cut(stream),
    }
}
