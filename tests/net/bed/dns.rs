//! A name server that says what a test wants, on port 53 of a namespace's loopback.
//!
//! It answers questions for IPv4 addresses, and for IPv6 addresses of names that have both; for anything else about a name
//! that it knows, the answer is empty.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::net::Namespace;

/// What it says about a name.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These addresses, good for so many seconds, after a pause.
    Addresses(Vec<Ipv4Addr>, u32, Duration),
    /// An address of each family, good for a second.
    Both(Ipv4Addr, Ipv6Addr),
    /// Another name.
    Alias(&'static str),
    /// There is no such name.
    NoSuchName,
    /// It cannot say (SERVFAIL).
    Failure,
    /// Nothing at all.
    Silence,
    /// No such name, as the answer to another question.
    Mistaken,
    /// That its answer does not fit, over TCP as well.
    Truncated,
}

impl Says {
    /// One address, good for a second.
    pub(crate) fn address(address: &str) -> Self {
        Self::Addresses(vec![address.parse().expect("an address")], 1, Duration::ZERO)
    }
}

/// The longest answer over UDP.
const LONGEST_UDP: usize = 512;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

struct Shared {
    names: Mutex<HashMap<String, Says>>,
    /// For every other name.
    otherwise: Mutex<Says>,
    pauses: Mutex<Vec<Duration>>,
    stopped: AtomicBool,
}

/// The name server. Ends when it is dropped.
pub(crate) struct Dns {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Dns {
    /// Starts in a namespace, where no name is known yet.
    pub(crate) fn start(namespace: &Namespace) -> Self {
        let (udp, tcp) = namespace.enter(|| {
            let udp = UdpSocket::bind("127.0.0.1:53").expect("nobody else serves names in this namespace");
            (udp, TcpListener::bind("127.0.0.1:53").expect("as above"))
        });
        let shared = Arc::new(Shared {
            names: Mutex::default(),
            otherwise: Mutex::new(Says::NoSuchName),
            pauses: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let (for_udp, for_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![thread::spawn(move || serve_udp(udp, &for_udp)), thread::spawn(move || serve_tcp(&tcp, &for_tcp))];
        Self { shared, threads }
    }

    /// What it says about a name from now on.
    pub(crate) fn say(&self, name: &str, says: Says) {
        self.shared.names.lock().expect("whoever holds it does not panic").insert(name.to_owned(), says);
    }

    /// What it says about every name that it was told nothing of.
    pub(crate) fn say_otherwise(&self, says: Says) {
        *self.shared.otherwise.lock().expect("whoever holds it does not panic") = says;
    }

    /// How long its pauses really were, in order.
    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.shared.pauses.lock().expect("whoever holds it does not panic").clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What panicked there has been shown.
            let _ = thread.join();
        }
    }
}

fn serve_udp(socket: UdpSocket, shared: &Arc<Shared>) {
    let socket = Arc::new(socket);
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket takes a timeout");
    let mut bytes = [0; 4096];
    while !shared.stopped.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
        let (question, shared, socket) = (bytes[..length].to_vec(), Arc::clone(shared), Arc::clone(&socket));
        // A thread each: pauses must not add up.
        thread::spawn(move || {
            if let Some(answer) = answer(&question, &shared, LONGEST_UDP) {
                // Whoever asked may have gone.
                let _ = socket.send_to(&answer, from);
            }
        });
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Shared) {
    listener.set_nonblocking(true).expect("a socket can be told not to block");
    while !shared.stopped.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let mut exchange = || -> std::io::Result<()> {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut question)?;
            if let Some(answer) = answer(&question, shared, usize::from(u16::MAX)) {
                let length = u16::try_from(answer.len()).expect("bounded above");
                stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
            }
            Ok(())
        };
        // Whoever asked may have gone.
        let _ = exchange();
    }
}

/// The answer to a question, RFC 1035.
fn answer(question: &[u8], shared: &Shared, longest: usize) -> Option<Vec<u8>> {
    let (name, end) = name(question)?;
    let kind = u16::from_be_bytes([*question.get(end)?, *question.get(end + 1)?]);
    let asked = question.get(12..end + 4)?;
    let known = shared.names.lock().expect("whoever holds it does not panic").get(&name).cloned();
    let says = known.unwrap_or_else(|| shared.otherwise.lock().expect("whoever holds it does not panic").clone());
    let mistaken = matches!(says, Says::Mistaken);
    let (mut code, mut truncated, mut records) = (0, false, Vec::new());
    match says {
        Says::Silence => return None,
        Says::NoSuchName | Says::Mistaken => code = 3,
        Says::Failure => code = 2,
        Says::Truncated => truncated = true,
        Says::Both(v4, _) if kind == A => records.push(record(A, 1, &v4.octets())),
        Says::Both(_, v6) if kind == AAAA => records.push(record(AAAA, 1, &v6.octets())),
        Says::Both(..) => {}
        Says::Alias(other) => records.push(record(CNAME, 1, &encoded(other))),
        Says::Addresses(addresses, ttl, pause) => {
            let begun = Instant::now();
            thread::sleep(pause);
            shared.pauses.lock().expect("whoever holds it does not panic").push(begun.elapsed());
            records.extend(addresses.iter().filter(|_| kind == A).map(|address| record(A, ttl, &address.octets())));
        }
    }
    if 12 + asked.len() + records.iter().map(Vec::len).sum::<usize>() > longest {
        truncated = true;
        records.clear();
    }
    let count = u16::try_from(records.len()).expect("a message has fewer");
    let flags = 0x8180 | code | if truncated { 0x0200 } else { 0 };
    let mut message = question[..2].to_vec();
    if mistaken {
        message[0] ^= 0xff;
    }
    for number in [flags, 1, count, 0, 0] {
        message.extend(number.to_be_bytes());
    }
    message.extend(asked);
    message.extend(records.concat());
    Some(message)
}

/// The name that is asked for, and where it ends.
fn name(question: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).to_lowercase());
        at += length;
    }
}

fn encoded(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[u8::try_from(label.len()).expect("a label is short")], label.as_bytes()].concat();
    name.split('.').flat_map(label).chain([0]).collect()
}

/// A record about the name that was asked for.
fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend(1_u16.to_be_bytes());
    record.extend(ttl.to_be_bytes());
    record.extend(u16::try_from(data.len()).expect("data is short").to_be_bytes());
    record.extend(data);
    record
}
