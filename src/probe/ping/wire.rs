//! One packet out, one packet in, with everything that goes beside it as control data.
//!
//! Source, interface, TTL and DSCP travel with each packet, so no probe changes a socket that others use, and a reload
//! needs no privilege.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrLike, SockaddrStorage, recvmsg, sendmsg};

use super::packet::{self, Family, IcmpError, Key, Malformed};
use super::socket::{IcmpSocket, Identity};
use crate::clock::Timestamp;

/// Room for the largest packet.
pub const BUFFER: usize = 65_536;
/// Room for the control data: stamps, TTL, an error with its offender.
const CONTROL: usize = 512;

/// What goes with a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The source address.
    pub source: Option<IpAddr>,
    /// The index of the interface.
    pub interface: Option<u32>,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// The whole TOS byte or traffic class: the DSCP in its upper six bits.
    pub traffic_class: Option<u8>,
}

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
        /// See [`IcmpSocket::number_of_send`].
        number: u32,
        /// When it left.
        at: Timestamp,
    },
    /// Something of no interest.
    Noise,
}

/// Sends one ICMP message.
pub fn send(socket: &IcmpSocket, message: &[u8], to: IpAddr, options: &Options) -> io::Result<()> {
    let address = match to {
        IpAddr::V4(v4) => SocketAddr::from((v4, 0)),
        IpAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(v6, 0, 0, options.interface.unwrap_or(0))),
    };
    let address = SockaddrStorage::from(address);
    let slices = [IoSlice::new(message)];
    let attempt = |control: &[ControlMessage<'_>]| sendmsg(socket.as_raw_fd(), &slices, control, MsgFlags::MSG_DONTWAIT, Some(&address));
    match socket.family() {
        Family::V4 => with_control_v4(options, attempt),
        Family::V6 => with_control_v6(options, attempt),
    }
    .map(drop)
    .map_err(io::Error::from)
}

fn with_control_v4<T>(options: &Options, attempt: impl FnOnce(&[ControlMessage<'_>]) -> T) -> T {
    let source = match options.source {
        Some(IpAddr::V4(v4)) => u32::from_ne_bytes(v4.octets()),
        _ => 0,
    };
    let info = libc::in_pktinfo {
        ipi_ifindex: options.interface.unwrap_or(0) as libc::c_int,
        ipi_spec_dst: libc::in_addr { s_addr: source },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let ttl = libc::c_int::from(options.ttl.unwrap_or(0));
    let class = options.traffic_class.unwrap_or(0);
    let mut control = Vec::with_capacity(3);
    if options.source.is_some() || options.interface.is_some() {
        control.push(ControlMessage::Ipv4PacketInfo(&info));
    }
    if options.ttl.is_some() {
        control.push(ControlMessage::Ipv4Ttl(&ttl));
    }
    if options.traffic_class.is_some() {
        control.push(ControlMessage::Ipv4Tos(&class));
    }
    attempt(&control)
}

fn with_control_v6<T>(options: &Options, attempt: impl FnOnce(&[ControlMessage<'_>]) -> T) -> T {
    let source = match options.source {
        Some(IpAddr::V6(v6)) => v6.octets(),
        _ => [0; 16],
    };
    let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: source }, ipi6_ifindex: options.interface.unwrap_or(0) };
    let limit = libc::c_int::from(options.ttl.unwrap_or(0));
    let class = i32::from(options.traffic_class.unwrap_or(0));
    let mut control = Vec::with_capacity(3);
    if options.source.is_some() || options.interface.is_some() {
        control.push(ControlMessage::Ipv6PacketInfo(&info));
    }
    if options.ttl.is_some() {
        control.push(ControlMessage::Ipv6HopLimit(&limit));
    }
    if options.traffic_class.is_some() {
        control.push(ControlMessage::Ipv6TClass(&class));
    }
    attempt(&control)
}

/// Reads the next message, if there is one.
pub fn read<'a>(socket: &IcmpSocket, buffer: &'a mut [u8]) -> io::Result<Option<Heard<'a>>> {
    let Some(envelope) = receive(socket, buffer, MsgFlags::empty())? else { return Ok(None) };
    let Some(from) = envelope.address else { return Ok(Some(Heard::Noise)) };
    let bytes = &buffer[..envelope.length];
    let (message, ttl) = match (socket.family(), socket.identity()) {
        (Family::V4, Identity::Raw(_)) => match packet::ipv4_payload(bytes) {
            Ok((message, ttl)) => (Ok(message), Some(ttl)),
            Err(malformed) => (Err(malformed), None),
        },
        _ => (Ok(bytes), envelope.ttl),
    };
    Ok(Some(Heard::Message { from, message, ttl, stamp: envelope.stamp }))
}

/// Reads the next entry of the error queue, if there is one: transmit stamps, and what could not be delivered.
pub fn read_error(socket: &IcmpSocket, buffer: &mut [u8]) -> io::Result<Option<Heard<'static>>> {
    let Some(envelope) = receive(socket, buffer, MsgFlags::MSG_ERRQUEUE)? else { return Ok(None) };
    let Some((error, offender)) = envelope.error else { return Ok(Some(Heard::Noise)) };
    Ok(Some(match (error.ee_origin, envelope.stamp, envelope.address) {
        (libc::SO_EE_ORIGIN_TIMESTAMPING, Some(at), _) => Heard::Transmitted { number: error.ee_data, at },
        (libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6, _, Some(peer)) => {
            let family = socket.family();
            let error = IcmpError { family, icmp_type: error.ee_type, code: error.ee_code };
            let quoted = packet::returned_request(family, peer, &buffer[..envelope.length]);
            Heard::Undelivered { from: offender.unwrap_or(peer), error, quoted: quoted.map(|key| on_socket(socket, key)) }
        }
        _ => Heard::Noise,
    }))
}

/// A datagram socket's identifier is the kernel's business: what it returns may not show it.
fn on_socket(socket: &IcmpSocket, key: Key) -> Key {
    match socket.identity() {
        Identity::Datagram(ident) => Key { ident, ..key },
        Identity::Raw(_) => key,
    }
}

struct Envelope {
    address: Option<IpAddr>,
    length: usize,
    stamp: Option<Timestamp>,
    ttl: Option<u8>,
    error: Option<(libc::sock_extended_err, Option<IpAddr>)>,
}

fn receive(socket: &IcmpSocket, buffer: &mut [u8], flags: MsgFlags) -> io::Result<Option<Envelope>> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut control = [0_u8; CONTROL];
    let message = loop {
        match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags | MsgFlags::MSG_DONTWAIT) {
            Ok(message) => break message,
            Err(nix::errno::Errno::EAGAIN) => return Ok(None),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    let address = message.address.as_ref().and_then(ip_of);
    let mut envelope = Envelope { address, length: message.bytes, stamp: None, ttl: None, error: None };
    for part in message.cmsgs()? {
        match part {
            ControlMessageOwned::ScmTimestampsns(stamps) => {
                let nanos = i128::from(stamps.system.tv_sec()) * 1_000_000_000 + i128::from(stamps.system.tv_nsec());
                envelope.stamp = i64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Timestamp::from_nanos);
            }
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => envelope.ttl = u8::try_from(ttl).ok(),
            ControlMessageOwned::Ipv4RecvErr(error, offender) => {
                let offender = offender.map(|address| IpAddr::V4(u32::from_be(address.sin_addr.s_addr).into()));
                envelope.error = Some((error, offender));
            }
            ControlMessageOwned::Ipv6RecvErr(error, offender) => {
                envelope.error = Some((error, offender.map(|address| IpAddr::V6(address.sin6_addr.s6_addr.into()))));
            }
            _ => {}
        }
    }
    Ok(Some(envelope))
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    match address.family()? {
        nix::sys::socket::AddressFamily::Inet => address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip())),
        nix::sys::socket::AddressFamily::Inet6 => address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())),
        _ => None,
    }
}
