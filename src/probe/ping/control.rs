//! What goes beside a packet, as bytes: control messages and socket addresses. Pure.
//!
//! The layouts are those of Linux (`cmsg(3)`, `ip(7)`, `ipv6(7)`, `socket(7)`); what is read is not trusted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::Family;
use crate::clock::Timestamp;

/// Bytes of the length in front of a control message, and of its whole header.
const LENGTH: usize = size_of::<usize>();
const HEADER: usize = size_of::<libc::cmsghdr>();
/// Bytes of a `sock_extended_err`, behind which the offender's address stands.
const EXTENDED_ERROR: usize = 16;
/// Bytes of a `sockaddr_in` and a `sockaddr_in6`.
const SOCKADDR_V4: usize = 16;
const SOCKADDR_V6: usize = 28;

/// What goes with a packet that is sent.
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

impl Options {
    /// As control messages.
    pub fn control(&self, family: Family) -> Vec<u8> {
        let mut control = Vec::new();
        let interface = self.interface.unwrap_or(0);
        if self.source.is_some() || self.interface.is_some() {
            match (family, self.source) {
                (Family::V4, source) => {
                    let source = if let Some(IpAddr::V4(v4)) = source { v4 } else { Ipv4Addr::UNSPECIFIED };
                    // in_pktinfo: interface, source, and a destination that only arrivals have.
                    put(
                        &mut control,
                        libc::IPPROTO_IP,
                        libc::IP_PKTINFO,
                        &[&interface.to_ne_bytes()[..], &source.octets(), &[0; 4]].concat(),
                    );
                }
                (Family::V6, source) => {
                    let source = if let Some(IpAddr::V6(v6)) = source { v6 } else { Ipv6Addr::UNSPECIFIED };
                    put(&mut control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[&source.octets()[..], &interface.to_ne_bytes()].concat());
                }
            }
        }
        let (level, ttl, class) = match family {
            Family::V4 => (libc::IPPROTO_IP, libc::IP_TTL, libc::IP_TOS),
            Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, libc::IPV6_TCLASS),
        };
        for (kind, value) in [(ttl, self.ttl), (class, self.traffic_class)] {
            if let Some(value) = value {
                put(&mut control, level, kind, &i32::from(value).to_ne_bytes());
            }
        }
        control
    }
}

fn put(control: &mut Vec<u8>, level: i32, kind: i32, data: &[u8]) {
    let begin = control.len();
    control.extend((HEADER + data.len()).to_ne_bytes());
    control.resize(begin + HEADER - 8, 0);
    control.extend(level.to_ne_bytes());
    control.extend(kind.to_ne_bytes());
    control.extend(data);
    control.resize(begin + align(HEADER + data.len()), 0);
}

fn align(length: usize) -> usize {
    length.next_multiple_of(LENGTH)
}

/// What came beside a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// The kernel's software stamp.
    pub stamp: Option<Timestamp>,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// The entry of an error queue.
    pub error: Option<Extended>,
}

/// An entry of an error queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// Who made it: `SO_EE_ORIGIN_…`.
    pub origin: u8,
    /// Type of the ICMP message.
    pub icmp_type: u8,
    /// Its code.
    pub code: u8,
    /// What the origin says more: for a transmit stamp, the number of the packet.
    pub data: u32,
    /// Who sent the ICMP message.
    pub offender: Option<IpAddr>,
}

impl Beside {
    /// Reads control messages; what is of no interest, or no control message at all, is passed over.
    pub fn read(mut control: &[u8]) -> Self {
        let mut beside = Self::default();
        while let Some((header, _)) = control.split_at_checked(HEADER) {
            let length = header.first_chunk().map_or(0, |bytes| usize::from_ne_bytes(*bytes));
            let Some(data) = control.get(HEADER..length) else { break };
            let (level, kind) = (word(header, HEADER - 8), word(header, HEADER - 4));
            beside.take(level.cast_signed(), kind.cast_signed(), data);
            control = control.get(align(length)..).unwrap_or_default();
        }
        beside
    }

    fn take(&mut self, level: i32, kind: i32, data: &[u8]) {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => self.stamp = stamp(data),
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                self.ttl = data.first_chunk().and_then(|value| u8::try_from(i32::from_ne_bytes(*value)).ok());
            }
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => self.error = extended(data),
            _ => {}
        }
    }
}

/// The first of three `timespec`s; the others are of hardware.
fn stamp(data: &[u8]) -> Option<Timestamp> {
    let seconds = i64::from_ne_bytes(*data.first_chunk()?);
    let nanos = i64::from_ne_bytes(*data.get(8..)?.first_chunk()?);
    let total = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    (total > 0).then(|| Timestamp::from_nanos(total))
}

fn extended(data: &[u8]) -> Option<Extended> {
    let fixed: &[u8; EXTENDED_ERROR] = data.first_chunk()?;
    let offender = address(&data[EXTENDED_ERROR..]);
    Some(Extended { origin: fixed[4], icmp_type: fixed[5], code: fixed[6], data: word(fixed, 12), offender })
}

/// A number in the middle; 0 beyond the end.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// The address in a `sockaddr`.
pub fn address(sockaddr: &[u8]) -> Option<IpAddr> {
    let family = libc::c_int::from(u16::from_ne_bytes(*sockaddr.first_chunk()?));
    match family {
        libc::AF_INET => sockaddr.get(4..)?.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        libc::AF_INET6 => sockaddr.get(8..)?.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        _ => None,
    }
}

/// A `sockaddr` for an address; `interface` is the zone of a link-local one.
pub fn sockaddr(address: IpAddr, interface: Option<u32>) -> Vec<u8> {
    let mut bytes = vec![0; if address.is_ipv4() { SOCKADDR_V4 } else { SOCKADDR_V6 }];
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    match address {
        IpAddr::V4(v4) => bytes[4..8].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => {
            bytes[8..24].copy_from_slice(&v6.octets());
            bytes[24..].copy_from_slice(&interface.unwrap_or(0).to_ne_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn control(parts: &[(i32, i32, &[u8])]) -> Vec<u8> {
        let mut control = Vec::new();
        for (level, kind, data) in parts {
            put(&mut control, *level, *kind, data);
        }
        control
    }

    #[test]
    fn stamps_ttl_and_errors_are_read() {
        let stamp = [5_i64, 7, 0, 0, 0, 0].map(i64::to_ne_bytes).concat();
        let mut error = vec![0, 0, 0, 0, 2, 3, 1, 0, 0, 0, 0, 0];
        error.extend(9_u32.to_ne_bytes());
        error.extend(sockaddr("192.0.2.1".parse().unwrap(), None));
        let bytes = control(&[
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &stamp),
            (libc::IPPROTO_IP, libc::IP_TTL, &57_i32.to_ne_bytes()),
            (libc::IPPROTO_IP, libc::IP_RECVERR, &error),
            (99, 99, b"what is this"),
        ]);
        let offender = Some("192.0.2.1".parse().unwrap());
        let expected = Beside {
            stamp: Some(Timestamp::from_nanos(5_000_000_007)),
            ttl: Some(57),
            error: Some(Extended { origin: 2, icmp_type: 3, code: 1, data: 9, offender }),
        };
        assert_eq!(Beside::read(&bytes), expected);
    }

    #[test]
    fn options_are_control_messages_that_read_back() {
        let options = Options { source: None, interface: Some(3), ttl: Some(9), traffic_class: Some(0xb8) };
        for family in [Family::V4, Family::V6] {
            assert_eq!(Beside::read(&options.control(family)).ttl, Some(9), "{family:?}");
        }
        assert!(Options::default().control(Family::V4).is_empty());
    }

    #[test]
    fn addresses_read_back() {
        for text in ["192.0.2.7", "2001:db8::7"] {
            let ip = text.parse().unwrap();
            assert_eq!(address(&sockaddr(ip, Some(2))), Some(ip));
        }
        assert_eq!(address(&[]), None);
        assert_eq!(address(&[1, 0, 2]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            Beside::read(&bytes);
            address(&bytes);
        }

        #[test]
        fn no_damaged_message_makes_it_panic(length: usize, at in 0_usize..40, with: u8) {
            let mut bytes = control(&[(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &[1; 48]), (0, 2, &[1; 4])]);
            bytes[..LENGTH].copy_from_slice(&length.to_ne_bytes());
            Beside::read(&bytes);
            bytes[at] = with;
            Beside::read(&bytes);
        }
    }
}
