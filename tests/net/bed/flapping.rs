//! A scripted database that flaps: it takes rows, refuses them, takes them without saying so, breaks off, and is away for a while.
//!
//! It remembers what it holds, as a real one does, and every row that it was ever shown: what qosd shows to anybody has to be
//! durable. It lives outside of the process that is killed, in the network namespace of the thread that starts it, where its
//! port has to be reserved: whoever else gets it while it is away keeps it from coming back.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::line;
use super::rows::Rows;

/// How long it stays, or is away, while it flaps.
const STAYS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));
/// The longest that it does not look what it is to be.
const LOOKS_EVERY: Duration = Duration::from_millis(10);

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mood {
    /// It takes everything.
    Takes,
    /// It takes nothing, and says so.
    Fails,
    /// It takes everything, and resets the connection in place of an answer.
    Forgets,
    /// It takes everything, and ends in the middle of its answer.
    Mumbles,
    /// It takes nothing, and resets the connection.
    Resets,
}

/// What it does with a request while it flaps: half of them it takes.
const MOODS: [Mood; 8] = [Mood::Takes, Mood::Takes, Mood::Takes, Mood::Takes, Mood::Fails, Mood::Forgets, Mood::Mumbles, Mood::Resets];

#[derive(Default)]
struct State {
    flapping: bool,
    refusing: bool,
    away: bool,
    holds: Rows,
    shown: Rows,
    wrong: Vec<String>,
    requests: BTreeMap<Mood, usize>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    stopped: AtomicBool,
}

/// The database. It ends when it is dropped.
pub(crate) struct Flapping {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

impl Flapping {
    /// Starts on a free port of the loopback, and takes everything.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let listener = Some(thread::spawn(move || listen(address, listener, &serving)));
        Self { address, shared, listener }
    }

    /// Its `[influxdb.main]` table.
    pub(crate) fn output(&self) -> String {
        let url = format!("http://{}", self.address);
        format!("[influxdb.main]\nurl = \"{url}\"\ndatabase = \"qos\"\nflush_interval = \"10ms\"\ntimeout = \"5s\"\ngzip = false\n")
    }

    /// Where it listens, unless it is away.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on it flaps, or takes everything.
    pub(crate) fn flaps(&self, flapping: bool) {
        let mut state = self.shared.state();
        state.flapping = flapping;
        state.away = false;
    }

    /// From now on it takes nothing, whether it flaps or not, or no longer so.
    pub(crate) fn refuses(&self, refusing: bool) {
        self.shared.state().refusing = refusing;
    }

    /// Every row that it holds.
    pub(crate) fn holds(&self) -> Rows {
        self.shared.state().holds.clone()
    }

    /// Every row that it was ever shown, taken or not.
    pub(crate) fn shown(&self) -> Rows {
        self.shared.state().shown.clone()
    }

    /// Lines that are none, and rows that came again with other fields.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.shared.state().wrong.clone()
    }

    /// How many requests it got in which mood.
    pub(crate) fn requests(&self) -> BTreeMap<Mood, usize> {
        self.shared.state().requests.clone()
    }
}

impl Drop for Flapping {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            // What panicked there has been shown.
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("whoever holds it does not panic")
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl State {
    /// Takes a request in some mood, which it says.
    fn take(&mut self, body: &str) -> Mood {
        let mood = match (self.away, self.flapping) {
            _ if self.refusing => Mood::Fails,
            (true, _) => Mood::Resets,
            (false, true) => MOODS[rand::random_range(0..MOODS.len())],
            (false, false) => Mood::Takes,
        };
        *self.requests.entry(mood).or_default() += 1;
        for line in body.lines() {
            let (key, fields) = match line::parse(line) {
                Ok(row) => row,
                Err(why) => {
                    self.wrong.push(why);
                    continue;
                }
            };
            if let Some(before) = self.shown.insert(key.clone(), fields.clone())
                && before != fields
            {
                self.wrong.push(format!("{key:?}: was {before:?}, came again as {fields:?}"));
            }
            if matches!(mood, Mood::Takes | Mood::Forgets | Mood::Mumbles) {
                self.holds.insert(key, fields);
            }
        }
        mood
    }
}

fn listen(address: SocketAddr, first: TcpListener, shared: &Arc<Shared>) {
    let mut listener = Some(first);
    let mut next = Instant::now();
    while !shared.is_stopped() {
        let away = {
            let mut state = shared.state();
            if state.flapping && Instant::now() >= next {
                state.away = rand::random_bool(0.25);
                next = Instant::now() + rand::random_range(STAYS.0..STAYS.1);
            }
            state.away
        };
        if away {
            listener = None;
            thread::sleep(LOOKS_EVERY);
            continue;
        }
        let Some(open) = listener.take().or_else(|| back(address)) else { continue };
        let open: &TcpListener = listener.insert(open);
        socket2::SockRef::from(open).set_read_timeout(Some(LOOKS_EVERY)).expect("a socket takes a timeout");
        // An error is a time-out, or a client that is gone already.
        if let Ok((connection, _)) = open.accept() {
            let shared = Arc::clone(shared);
            thread::spawn(move || serve(&connection, &shared));
        }
    }
}

/// The listener anew; none if a child that was forked meanwhile still holds the old one for a moment.
fn back(address: SocketAddr) -> Option<TcpListener> {
    match TcpListener::bind(address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            thread::sleep(LOOKS_EVERY);
            None
        }
        bound => Some(bound.expect("the port is reserved for it")),
    }
}

/// Serves a connection until either side ends it.
fn serve(connection: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(connection);
    while let Some(body) = request(&mut reader) {
        let mood = shared.state().take(&body);
        let answer: &[u8] = match mood {
            Mood::Takes => b"HTTP/1.1 204 No Content\r\n\r\n",
            Mood::Fails => b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            Mood::Mumbles => b"HTTP/1.1 20",
            Mood::Forgets | Mood::Resets => b"",
        };
        let mut connection = connection;
        // A client that was killed meanwhile needs no answer.
        let sent = connection.write_all(answer);
        if answer.is_empty() {
            let _ = socket2::SockRef::from(connection).set_linger(Some(Duration::ZERO));
        }
        if sent.is_err() || !matches!(mood, Mood::Takes | Mood::Fails) {
            return;
        }
    }
}

/// The body of the next request; none when there is none any more. Half a body is none.
pub(crate) fn request(reader: &mut impl BufRead) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}
