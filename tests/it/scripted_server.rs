//! An HTTP server that does what a script says, also what no honest server does, and remembers what it was asked.
//!
//! It runs on a thread of its own, in the network namespace of the thread that starts it, and needs nothing of its
//! caller's runtime. It ends when it is dropped.

#![allow(dead_code, reason = "shared by two test binaries, neither of which uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, as it should")]

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};

/// What the server does with a request that it has read.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A whole answer; the connection stays open.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// These bytes, whatever they are, then the connection is closed.
    Raw(Vec<u8>),
    /// These pieces, each after a pause, then the connection is closed.
    Pieces(Vec<(Duration, Vec<u8>)>),
    /// These bytes, one at a time with a pause before each, then nothing more.
    Drip(Vec<u8>, Duration),
    /// This once, then that again and again without end.
    Endless(Vec<u8>, Vec<u8>),
    /// Never answers.
    Stall,
    /// Closes without an answer.
    Close,
    /// Resets after these bytes.
    Reset(Vec<u8>),
    /// What this says to the body.
    Judge(fn(&str) -> Reply),
    /// Answers with this status, and says back the headers of the request.
    Echo(u16),
}

impl Reply {
    /// An answer whose body never ends.
    pub(crate) fn endless() -> Self {
        Self::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 4096])
    }

    /// An answer without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self::said(status, "")
    }

    /// An answer with a body.
    pub(crate) fn said(status: u16, body: &str) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.to_owned() }
    }

    /// An answer with a header.
    pub(crate) fn with(status: u16, name: &'static str, value: impl Into<String>) -> Self {
        Self::Answer { status, headers: vec![(name, value.into())], body: String::new() }
    }
}

/// What the server was asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Raw, as sent.
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// As sent.
    pub(crate) raw_body: Vec<u8>,
    /// Decompressed, if it was compressed.
    pub(crate) body: String,
    /// The connection that it came on: 0 for the first.
    pub(crate) connection: usize,
}

struct Shared {
    script: Mutex<VecDeque<Reply>>,
    afterwards: Mutex<Reply>,
    requests: Mutex<Vec<Request>>,
    pauses: Mutex<Vec<Duration>>,
    count: watch::Sender<usize>,
}

/// The server.
pub(crate) struct ScriptedServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedServer {
    /// Starts on a free port of the loopback: one reply of the script for each request, then always `afterwards`.
    pub(crate) fn start(script: impl IntoIterator<Item = Reply>, afterwards: Reply) -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), script, afterwards)
    }

    /// As [`ScriptedServer::start`], at an address: to come back where it was.
    pub(crate) fn start_on(address: SocketAddr, script: impl IntoIterator<Item = Reply>, afterwards: Reply) -> Self {
        Self::launch(address, None, script, afterwards)
    }

    /// As [`ScriptedServer::start_on`], over TLS, whose handshake begins so much after the connection.
    pub(crate) fn start_tls(
        address: SocketAddr,
        config: Arc<rustls::ServerConfig>,
        handshake_after: Duration,
        script: impl IntoIterator<Item = Reply>,
        afterwards: Reply,
    ) -> Self {
        Self::launch(address, Some((config.into(), handshake_after)), script, afterwards)
    }

    fn launch(
        address: SocketAddr,
        tls: Option<(TlsAcceptor, Duration)>,
        script: impl IntoIterator<Item = Reply>,
        afterwards: Reply,
    ) -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(script.into_iter().collect()),
            afterwards: Mutex::new(afterwards),
            requests: Mutex::default(),
            pauses: Mutex::default(),
            count: watch::channel(0).0,
        });
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(TcpListener::from_std(listener).unwrap(), tls, served) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a URL without a path.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked so far, in the order in which the requests were whole.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How long its handshakes and the pauses before its pieces really were, in order.
    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.shared.pauses.lock().unwrap().clone()
    }

    /// Waits until it was asked so often.
    pub(crate) async fn received(&self, count: usize) {
        self.shared.count.subscribe().wait_for(|seen| *seen >= count).await.unwrap();
    }

    /// Appends to the script.
    pub(crate) fn push(&self, reply: Reply) {
        self.shared.script.lock().unwrap().push_back(reply);
    }

    /// What it does from now on, when the script is at its end.
    pub(crate) fn afterwards(&self, reply: Reply) {
        *self.shared.afterwards.lock().unwrap() = reply;
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            // An error means that the thread is gone already.
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<(TlsAcceptor, Duration)>, shared: Arc<Shared>) {
    for connection in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        // Nagle's algorithm would hold back the second of two small pieces.
        stream.set_nodelay(true).unwrap();
        match tls.clone() {
            None => drop(tokio::spawn(serve(stream, connection, Arc::clone(&shared)))),
            Some((acceptor, after)) => drop(tokio::spawn(serve_tls(stream, acceptor, after, connection, Arc::clone(&shared)))),
        }
    }
}

async fn serve_tls(stream: TcpStream, acceptor: TlsAcceptor, after: Duration, connection: usize, shared: Arc<Shared>) {
    let begun = tokio::time::Instant::now();
    tokio::time::sleep(after).await;
    // The client may dislike our certificate; that is its test's business.
    if let Ok(stream) = acceptor.accept(stream).await {
        shared.pauses.lock().unwrap().push(begun.elapsed());
        serve(stream, connection, shared).await;
    }
}

/// A connection, with or without TLS.
trait Line: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Line for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Line for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Serves a connection until either side ends it; what goes wrong on it is the other side's to notice.
async fn serve(mut stream: impl Line, connection: usize, shared: Arc<Shared>) {
    let mut unread = Vec::new();
    while let Some(request) = request(&mut stream, &mut unread, connection).await {
        let reply = shared.script.lock().unwrap().pop_front().unwrap_or_else(|| shared.afterwards.lock().unwrap().clone());
        let reply = if let Reply::Judge(judge) = reply { judge(&request.body) } else { reply };
        let told: Vec<String> = request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        shared.requests.lock().unwrap().push(request);
        shared.count.send_modify(|count| *count += 1);
        if act(&mut stream, reply, &told.join("\n"), &shared.pauses).await.is_err() {
            return;
        }
    }
}

/// Does what the reply says. An error ends the connection.
async fn act(stream: &mut impl Line, reply: Reply, told: &str, pauses: &Mutex<Vec<Duration>>) -> std::io::Result<()> {
    let closed = || std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
    match reply {
        Reply::Answer { status, headers, body } => stream.write_all(&answer(status, &headers, &body)).await,
        Reply::Echo(status) => stream.write_all(&answer(status, &[], told)).await,
        Reply::Raw(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            Err(closed())
        }
        Reply::Pieces(pieces) => {
            for (pause, bytes) in pieces {
                let begun = tokio::time::Instant::now();
                tokio::time::sleep(pause).await;
                pauses.lock().unwrap().push(begun.elapsed());
                stream.write_all(&bytes).await?;
            }
            stream.shutdown().await?;
            Err(closed())
        }
        Reply::Drip(bytes, pause) => {
            for byte in bytes {
                tokio::time::sleep(pause).await;
                stream.write_all(&[byte]).await?;
            }
            std::future::pending().await
        }
        Reply::Endless(once, again) => {
            stream.write_all(&once).await?;
            loop {
                stream.write_all(&again).await?;
            }
        }
        Reply::Stall => std::future::pending().await,
        // One that leads to another leads nowhere.
        Reply::Close | Reply::Judge(_) => Err(closed()),
        Reply::Reset(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            socket2::SockRef::from(stream.tcp()).set_linger(Some(Duration::ZERO))?;
            Err(closed())
        }
    }
}

fn answer(status: u16, headers: &[(&str, String)], body: &str) -> Vec<u8> {
    let mut lines = vec![format!("HTTP/1.1 {status} Scripted")];
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    if !matches!(status, 204 | 304) {
        lines.push(format!("content-length: {}", body.len()));
    }
    format!("{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes()
}

/// The next request of a connection; none when the other side has closed it.
async fn request(stream: &mut impl Line, unread: &mut Vec<u8>, connection: usize) -> Option<Request> {
    let head_end = loop {
        if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        more(stream, unread).await?;
    };
    let head = String::from_utf8(unread[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let (path, query) = target.split_once('?').map_or((target.clone(), String::new()), |(path, query)| (path.to_owned(), query.to_owned()));
    let headers: BTreeMap<String, String> =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while unread.len() < head_end + 4 + length {
        more(stream, unread).await?;
    }
    let raw_body = unread[head_end + 4..head_end + 4 + length].to_vec();
    unread.drain(..head_end + 4 + length);
    let mut body = String::new();
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        flate2::read::GzDecoder::new(&raw_body[..]).read_to_string(&mut body).unwrap();
    } else {
        body = String::from_utf8_lossy(&raw_body).into_owned();
    }
    Some(Request { method, path, query, headers, raw_body, body, connection })
}

async fn more(stream: &mut impl Line, unread: &mut Vec<u8>) -> Option<()> {
    match stream.read_buf(unread).await {
        Ok(1..) => Some(()),
        Ok(0) | Err(_) => None,
    }
}
