//! What a socket has read, understood as far as the kernel's words go.

use std::net::IpAddr;

use super::control::{self, Beside, Extended};
use super::packet::{self, Family, IcmpError, Key, Malformed};
use super::socket::{IcmpSocket, Identity};
use crate::clock::Timestamp;
use crate::sys::Incoming;

/// Something that a socket read.
#[derive(Debug)]
pub enum Heard<'a> {
    /// An ICMP message, not parsed yet.
    Message {
        /// Who sent it.
        from: IpAddr,
        /// From the ICMP header on, or why it is none.
        message: Result<&'a [u8], Malformed>,
        /// TTL or hop limit.
        ttl: Option<u8>,
        /// The kernel's receive stamp.
        stamp: Option<Timestamp>,
    },
    /// A datagram socket's packet could not be delivered.
    Undelivered {
        /// Who says so.
        from: IpAddr,
        /// What they say.
        error: IcmpError,
        /// Which packet; `None` if it cannot be told.
        quoted: Option<Key>,
    },
    /// The kernel's transmit stamp of the packet with this number.
    Transmitted {
        /// See [`IcmpSocket::stamp_from_zero`].
        number: u32,
        /// When it left.
        at: Timestamp,
    },
    /// Something of no interest.
    Noise,
}

/// A message that came in.
pub fn message<'a>(socket: &IcmpSocket, incoming: &Incoming<'a>) -> Heard<'a> {
    let Some(from) = control::address(incoming.from) else { return Heard::Noise };
    let Beside { stamp, ttl, .. } = Beside::read(incoming.control);
    let (message, ttl) = match (socket.family(), socket.identity()) {
        (Family::V4, Identity::Raw(_)) => match packet::ipv4_payload(incoming.message) {
            Ok((message, ttl)) => (Ok(message), Some(ttl)),
            Err(malformed) => (Err(malformed), None),
        },
        _ => (Ok(incoming.message), ttl),
    };
    Heard::Message { from, message, ttl, stamp }
}

/// An entry of the error queue: a transmit stamp, or what could not be delivered.
pub fn error(socket: &IcmpSocket, incoming: &Incoming<'_>) -> Heard<'static> {
    let Beside { stamp, error: Some(Extended { origin, icmp_type, code, data, offender }), .. } = Beside::read(incoming.control) else {
        return Heard::Noise;
    };
    match (origin, stamp, control::address(incoming.from)) {
        (libc::SO_EE_ORIGIN_TIMESTAMPING, Some(at), _) => Heard::Transmitted { number: data, at },
        (libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6, _, Some(peer)) => {
            let family = socket.family();
            let quoted = packet::returned_request(family, peer, incoming.message);
            let error = IcmpError { family, icmp_type, code };
            Heard::Undelivered { from: offender.unwrap_or(peer), error, quoted: quoted.map(|key| on_socket(socket, key)) }
        }
        _ => Heard::Noise,
    }
}

/// A datagram socket's identifier is the kernel's business: what it returns may not show it.
fn on_socket(socket: &IcmpSocket, key: Key) -> Key {
    match socket.identity() {
        Identity::Datagram(ident) => Key { ident, ..key },
        Identity::Raw(_) => key,
    }
}
