//! The ICMP sockets: opened once by the service, whatever the config says, and lent to each engine.
//!
//! Raw where that is allowed, else ICMP datagram sockets (`net.ipv4.ping_group_range`), else not at all, which the rows
//! then say. Nothing of a probe is set on a socket: see [`super::wire`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::socket::{TimestampingFlag, setsockopt, sockopt};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover};
use socket2::{Domain, Protocol, Socket, Type};

use super::filter;
use super::packet::Family;
use crate::sys::{self, Icmp};

/// The receive buffer that is asked for; the kernel grants up to `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How an operator gives qosd the right to send ICMP.
pub const PERMISSION_FIX: &str = "grant CAP_NET_RAW (as its unit may, or `setcap cap_net_raw+ep` on the binary), or open datagram ICMP: sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"";

/// Which socket a packet goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Whether packets must not be fragmented.
    pub whole: bool,
}

impl Channel {
    /// Every channel there is.
    pub const ALL: [Self; 4] = [
        Self { family: Family::V4, whole: false },
        Self { family: Family::V4, whole: true },
        Self { family: Family::V6, whole: false },
        Self { family: Family::V6, whole: true },
    ];

    fn index(self) -> usize {
        usize::from(self.family == Family::V6) * 2 + usize::from(self.whole)
    }
}

/// What tells the packets of one socket from those of all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A raw socket: identifiers with these upper bits, see [`filter`].
    Raw(u16),
    /// A datagram socket: the kernel gave it this identifier, and takes no other.
    Datagram(u16),
}

/// An open ICMP socket.
#[derive(Debug)]
pub struct IcmpSocket {
    socket: Socket,
    family: Family,
    identity: Identity,
}

impl AsRawFd for IcmpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for IcmpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl IcmpSocket {
    /// Its protocol.
    pub fn family(&self) -> Family {
        self.family
    }

    /// What its packets are known by.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// How much the receive buffer holds, with the kernel's own data beside each message.
    pub fn receive_buffer(&self) -> io::Result<usize> {
        self.socket.recv_buffer_size()
    }

    /// Has the kernel hand over replies and errors, or nothing: a raw socket that is not in use would get a copy of each
    /// message all the same.
    pub fn hear(&self, on: bool) -> io::Result<()> {
        let (icmp, types): (_, &[u8]) = match (self.identity, self.family) {
            (Identity::Datagram(_), _) => return Ok(()),
            (Identity::Raw(_), Family::V4) => (Icmp::V4, &[0, 3, 11, 12]),
            (Identity::Raw(_), Family::V6) => (Icmp::V6, &[1, 2, 3, 4, 129]),
        };
        sys::hear_icmp(self, icmp, if on { types } else { &[] })
    }

    /// Asks for the kernel's time stamps at both ends. It numbers the packets that it sends from here on, from 0, and each
    /// transmit stamp has the number of its packet.
    pub fn stamp_from_zero(&self) -> io::Result<()> {
        let receive = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE | TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE;
        let transmit = TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_OPT_ID
            | TimestampingFlag::SOF_TIMESTAMPING_OPT_TSONLY;
        setsockopt(self, sockopt::Timestamping, &receive)?;
        setsockopt(self, sockopt::Timestamping, &(receive | transmit))?;
        Ok(())
    }

    /// Opens a raw socket. `bits` tells its packets from those of others.
    pub fn raw(channel: Channel, bits: u16) -> io::Result<Self> {
        let (domain, protocol) = domain(channel.family);
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.attach_filter(&match channel.family {
            Family::V4 => filter::ipv4(bits),
            Family::V6 => filter::ipv6(bits),
        })?;
        let raw = Self::ready(socket, channel, Identity::Raw(bits & filter::SOCKET_BITS))?;
        raw.hear(false)?;
        Ok(raw)
    }

    /// Opens a datagram socket.
    pub fn datagram(channel: Channel) -> io::Result<Self> {
        let (domain, protocol) = domain(channel.family);
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
        let any = match channel.family {
            Family::V4 => std::net::SocketAddr::from(([0, 0, 0, 0], 0)),
            Family::V6 => std::net::SocketAddr::from(([0_u16; 8], 0)),
        };
        socket.bind(&any.into())?;
        match channel.family {
            Family::V4 => {
                setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
                setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            }
            Family::V6 => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
        }
        let ident = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
        Self::ready(socket, channel, Identity::Datagram(ident))
    }

    fn ready(socket: Socket, channel: Channel, identity: Identity) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        match channel.family {
            Family::V4 if channel.whole => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?,
            Family::V4 => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?,
            Family::V6 => {
                setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
                let discovery = if channel.whole { Ipv6PathMtuDiscovery::PROBE } else { Ipv6PathMtuDiscovery::DONT };
                set_ipv6_mtu_discover(&socket, discovery)?;
            }
        }
        Ok(Self { socket, family: channel.family, identity })
    }
}

fn domain(family: Family) -> (Domain, Protocol) {
    match family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
    }
}

/// Why there is no socket for a channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Neither a raw nor a datagram socket is allowed.
    #[error("no permission for icmp: {PERMISSION_FIX}")]
    Permission,
    /// The host cannot: for example, IPv6 is switched off.
    #[error("no icmp socket: {0}")]
    Unavailable(String),
}

/// The sockets of all channels, open or not.
#[derive(Debug)]
pub struct Sockets([Result<IcmpSocket, Denied>; 4]);

impl Sockets {
    /// Opens what this process may. `bits` draws random numbers for the identifiers.
    pub fn open(bits: u16) -> Self {
        // Two raw sockets of a family both see every message; other bits keep their answers apart.
        Self(Channel::ALL.map(|channel| {
            let own_bits = bits.wrapping_add(if channel.whole { 0x1000 } else { 0 });
            IcmpSocket::raw(channel, own_bits).or_else(|raw| match raw.kind() {
                io::ErrorKind::PermissionDenied => IcmpSocket::datagram(channel).map_err(|error| match error.kind() {
                    io::ErrorKind::PermissionDenied => Denied::Permission,
                    _ => Denied::Unavailable(error.to_string()),
                }),
                _ => Err(Denied::Unavailable(raw.to_string())),
            })
        }))
    }

    /// The socket of a channel, or why there is none.
    pub fn get(&self, channel: Channel) -> Result<&IcmpSocket, &Denied> {
        self.0[channel.index()].as_ref()
    }
}
