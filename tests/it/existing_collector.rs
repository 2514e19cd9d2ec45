//! A collector as the existing server is: it indexes every key of what is posted, so that one that is missing is a 500, and
//! knows no schedule unless it is given one. It remembers what it was asked, and fails as it is told to.
//!
//! It runs on threads of its own, in the network namespace of the thread that starts it. It ends when it is dropped.

#![allow(dead_code, reason = "shared by two test binaries, neither of which uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, as it should")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// The key that it takes.
pub(crate) const KEY: &str = "k3y-of-the-mesh";

/// What it does with a request instead of its duty.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// Answers this: status, further headers, body.
    Says(u16, &'static str, String),
    /// Resets the connection after the whole request was read.
    Resets,
    /// Stores what is posted, and resets before it has said so.
    StoresAndResets,
}

/// A request for a result to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Posted {
    /// The header with the slot.
    pub(crate) slot: Option<i64>,
    /// As it came.
    pub(crate) body: String,
    /// Whether it was stored.
    pub(crate) stored: bool,
}

impl Posted {
    /// The body.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The items.
    pub(crate) fn items(&self) -> Vec<Value> {
        self.json()["probes"].as_array().unwrap().clone()
    }
}

/// What it has and what it saw.
#[derive(Default)]
pub(crate) struct State {
    /// The content of the list, whatever it is.
    pub(crate) list: String,
    /// The content of the schedule; none = 404.
    pub(crate) schedule: Option<String>,
    /// The key that is right.
    pub(crate) key: String,
    /// What happens to the next requests for the list.
    pub(crate) lists: VecDeque<Trouble>,
    /// What happens to the next posts.
    pub(crate) posts: VecDeque<Trouble>,
    /// Every post.
    pub(crate) posted: Vec<Posted>,
    /// How often the list was asked for, and with which keys.
    pub(crate) asked: Vec<Option<String>>,
}

/// The server.
pub(crate) struct Collector {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// On a free port of the loopback, with this list.
    pub(crate) fn start(list: impl Into<String>) -> Self {
        let state = State { list: list.into(), key: KEY.to_owned(), ..State::default() };
        Self::start_on("127.0.0.1:0".parse().unwrap(), Arc::new(Mutex::new(state)))
    }

    fn start_on(address: SocketAddr, state: Arc<Mutex<State>>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (shared, listening) = (Arc::clone(&state), listener.try_clone().unwrap());
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listening.accept() {
                serve(stream, &shared);
            }
        });
        Self { address, state, listener, thread: Some(thread) }
    }

    /// Goes away: its port refuses connections. What it has and saw is kept.
    pub(crate) fn stop(mut self) -> Stopped {
        self.end();
        Stopped { address: self.address, state: Arc::clone(&self.state) }
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // Whoever waits for a connection is woken, in whatever namespace it is.
        socket2::SockRef::from(&self.listener).shutdown(std::net::Shutdown::Both).unwrap();
        let _ = thread.join();
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// For `mesh.collector`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/backend", self.address)
    }

    /// What it has and saw.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What it stored, each slot's bodies in order.
    pub(crate) fn stored(&self) -> Vec<Posted> {
        self.lock().posted.iter().filter(|posted| posted.stored).cloned().collect()
    }
}

/// One that is away, and can come back where it was.
pub(crate) struct Stopped {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Stopped {
    /// Comes back.
    pub(crate) fn start(self) -> Collector {
        Collector::start_on(self.address, self.state)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end();
    }
}

/// One request a connection; what goes wrong on it is the client's to notice.
fn serve(stream: TcpStream, state: &Mutex<State>) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut reader = BufReader::new(stream);
    let Some((first, headers)) = head(&mut reader) else { return };
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let mut stream = reader.into_inner();
    match answer(&first, &headers, String::from_utf8(body).unwrap(), &mut state.lock().unwrap()) {
        Some((status, more, body)) => {
            let text = format!("HTTP/1.1 {status} X\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            // The client may have gone.
            let _ = stream.write_all(text.as_bytes());
        }
        None => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
    }
}

fn head(reader: &mut impl BufRead) -> Option<(String, BTreeMap<String, String>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
    Some((lines.first()?.clone(), headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect()))
}

type Answer = Option<(u16, &'static str, String)>;

fn answer(first: &str, headers: &BTreeMap<String, String>, body: String, state: &mut State) -> Answer {
    let key = headers.get("x-api-key");
    let said = |status, text: &str| Some((status, "", text.to_owned()));
    match first.strip_suffix(" HTTP/1.1").unwrap() {
        "GET /backend/api/v1/conf/probes" => {
            state.asked.push(key.cloned());
            if let Some(trouble) = state.lists.pop_front() {
                return trouble.answer();
            }
            match key {
                None => said(400, r#"{"error":"no key"}"#),
                Some(key) if *key != state.key => said(403, r#"{"error":"wrong key"}"#),
                Some(_) => said(200, &state.list),
            }
        }
        "GET /backend/api/v1/conf/schedule" => state.schedule.as_ref().map_or_else(|| said(404, "no such page"), |text| said(200, text)),
        "POST /backend/api/v1/data/probe-result" => {
            let slot = headers.get("qosd-slot").map(|slot| slot.parse().unwrap());
            let trouble = state.posts.pop_front();
            let stored = key == Some(&state.key) && matches!(trouble, None | Some(Trouble::StoresAndResets));
            let indexed = index(&body).is_some();
            state.posted.push(Posted { slot, body, stored: stored && indexed });
            match trouble {
                Some(trouble) => trouble.answer(),
                None if !stored => said(403, r#"{"error":"wrong key"}"#),
                None if !indexed => said(500, r#"{"error":"KeyError"}"#),
                None => said(200, r#"{"status":"ok"}"#),
            }
        }
        other => panic!("{other} is no request of the protocol"),
    }
}

/// As the existing server does with every item; none if a key is missing.
fn index(body: &str) -> Option<()> {
    let post: Value = serde_json::from_str(body).ok()?;
    post.get("source")?.as_str()?;
    let keys = ["name", "proto", "address", "pinged", "ping_min", "ping_max", "ping_avg", "ping_jitter", "ping_loss"];
    post.get("probes")?.as_array()?.iter().try_for_each(|item| keys.iter().try_for_each(|key| item.get(key).map(drop)))
}

impl Trouble {
    fn answer(self) -> Answer {
        match self {
            Self::Says(status, headers, body) => Some((status, headers, body)),
            Self::Resets | Self::StoresAndResets => None,
        }
    }
}
