//! ICMP and ICMPv6 echo packets as bytes: built, and parsed without trusting a byte. Pure.
//!
//! A request carries a 64-bit token that nobody can guess and a pattern grown from it, so a reply is believed only if its
//! whole payload is ours, and no part of a packet ever has to be remembered to check it.
//!
//! Needs nothing of this crate, so that `fuzz/` can build it alone.

use std::net::{IpAddr, Ipv4Addr};

use pnet::packet::icmp::{self, IcmpPacket, IcmpTypes, echo_reply, echo_request};
use pnet::packet::icmpv6::{self, Icmpv6Packet, Icmpv6Types};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv4::Ipv4Packet;
use pnet::packet::ipv6::Ipv6Packet;
use pnet::packet::util;

/// Bytes of the ICMP header of an echo.
pub const ICMP_HEADER: usize = 8;
/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header.
pub const IPV6_HEADER: usize = 40;
/// The least payload: the token.
pub const MIN_PAYLOAD: usize = 8;

/// Which protocol an address speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and ICMP.
    V4,
    /// IPv6 and ICMPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What tells a packet from all others in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Where it was sent.
    pub peer: IpAddr,
    /// ICMP identifier.
    pub ident: u16,
    /// ICMP sequence number.
    pub sequence: u16,
}

/// What came in, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A reply to an echo.
    Reply {
        /// ICMP identifier.
        ident: u16,
        /// ICMP sequence number.
        sequence: u16,
        /// Everything behind the ICMP header.
        payload: &'a [u8],
    },
    /// Somebody says that an echo could not be delivered.
    Error {
        /// What they say.
        error: IcmpError,
        /// The echo that they quote.
        quoted: Key,
    },
    /// Anything else, for example our own request on the loopback.
    Other,
}

/// Type and code of an ICMP error message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IcmpError {
    /// The protocol, as the numbers mean something else in each.
    pub family: Family,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub code: u8,
}

impl IcmpError {
    /// For people.
    pub fn describe(self) -> &'static str {
        match (self.family, self.icmp_type, self.code) {
            (Family::V4, 3, 0 | 6 | 11) | (Family::V6, 1, 0) => "network unreachable",
            (Family::V4, 3, 1 | 7 | 12) | (Family::V6, 1, 3) => "host unreachable",
            (Family::V4, 3, 2) => "protocol unreachable",
            (Family::V4, 3, 3) | (Family::V6, 1, 4) => "port unreachable",
            (Family::V4, 3, 4) | (Family::V6, 2, _) => "packet too big",
            (Family::V4, 3, 9 | 10 | 13..=15) | (Family::V6, 1, 1) => "administratively prohibited",
            (Family::V6, 1, 5) => "source address failed policy",
            (Family::V6, 1, 6) => "route rejected",
            (Family::V4, 11, 1) | (Family::V6, 3, 1) => "fragment reassembly time exceeded",
            (Family::V4, 11, _) | (Family::V6, 3, _) => "time to live exceeded",
            (Family::V4, 12, _) | (Family::V6, 4, _) => "parameter problem",
            _ => "destination unreachable",
        }
    }

    fn is_error(self) -> bool {
        match self.family {
            Family::V4 => matches!(self.icmp_type, 3 | 11 | 12),
            Family::V6 => matches!(self.icmp_type, 1..=4),
        }
    }
}

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than its headers say.
    #[error("truncated packet")]
    Truncated,
    /// An IP header that contradicts itself.
    #[error("bad ip header")]
    Header,
    /// The ICMP checksum does not match.
    #[error("bad icmp checksum")]
    Checksum,
}

/// An echo request from the ICMP header on. The kernel fills in the checksum of ICMPv6.
pub fn echo_request(family: Family, ident: u16, sequence: u16, token: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; ICMP_HEADER + size.max(MIN_PAYLOAD)];
    fill_payload(token, &mut bytes[ICMP_HEADER..]);
    match family {
        Family::V4 => {
            if let Some(mut packet) = echo_request::MutableEchoRequestPacket::new(&mut bytes) {
                packet.set_icmp_type(IcmpTypes::EchoRequest);
                packet.set_identifier(ident);
                packet.set_sequence_number(sequence);
            }
            if let Some(checksum) = IcmpPacket::new(&bytes).map(|packet| icmp::checksum(&packet))
                && let Some(mut packet) = icmp::MutableIcmpPacket::new(&mut bytes)
            {
                packet.set_checksum(checksum);
            }
        }
        Family::V6 => {
            if let Some(mut packet) = icmpv6::echo_request::MutableEchoRequestPacket::new(&mut bytes) {
                packet.set_icmpv6_type(Icmpv6Types::EchoRequest);
                packet.set_identifier(ident);
                packet.set_sequence_number(sequence);
            }
        }
    }
    bytes
}

/// The token in front, behind it what a generator seeded with it yields (SplitMix64).
fn fill_payload(token: u64, payload: &mut [u8]) {
    for (chunk, word) in payload.chunks_mut(8).zip(words(token)) {
        chunk.copy_from_slice(&word.to_be_bytes()[..chunk.len()]);
    }
}

/// The payload, eight bytes at a time.
fn words(token: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(token), |word| Some(next_word(*word)))
}

fn next_word(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How a payload compares to the one that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadCheck {
    /// Ours, to the last byte.
    Genuine,
    /// Our token, but other bytes or another length behind it: damaged on the way.
    Corrupt,
    /// Another token: not an answer to our packet.
    Foreign,
}

/// Compares the payload of a reply with the one that was sent.
pub fn check_payload(token: u64, size: usize, payload: &[u8]) -> PayloadCheck {
    if payload.get(..MIN_PAYLOAD) != Some(&token.to_be_bytes()[..]) {
        return PayloadCheck::Foreign;
    }
    let genuine = payload.len() == size.max(MIN_PAYLOAD)
        && payload.chunks(8).zip(words(token)).all(|(chunk, word)| *chunk == word.to_be_bytes()[..chunk.len()]);
    if genuine { PayloadCheck::Genuine } else { PayloadCheck::Corrupt }
}

/// Takes an IPv4 packet apart down to its ICMP message: what a raw socket reads. Also gives the TTL.
pub fn ipv4_payload(bytes: &[u8]) -> Result<(&[u8], u8), Malformed> {
    let packet = Ipv4Packet::new(bytes).ok_or(Malformed::Truncated)?;
    let header = usize::from(packet.get_header_length()) * 4;
    let total = usize::from(packet.get_total_length());
    if packet.get_version() != 4
        || header < IPV4_HEADER
        || total < header
        || packet.get_next_level_protocol() != IpNextHeaderProtocols::Icmp
    {
        return Err(Malformed::Header);
    }
    Ok((bytes.get(header..total).ok_or(Malformed::Truncated)?, packet.get_ttl()))
}

/// Parses an ICMP message. The kernel has checked the checksum of ICMPv6, and of nothing else.
pub fn parse(family: Family, message: &[u8]) -> Result<Incoming<'_>, Malformed> {
    let (reply_type, header) = match family {
        Family::V4 => {
            let packet = IcmpPacket::new(message).ok_or(Malformed::Truncated)?;
            if !is_intact(message) {
                return Err(Malformed::Checksum);
            }
            (IcmpTypes::EchoReply.0, (packet.get_icmp_type().0, packet.get_icmp_code().0))
        }
        Family::V6 => {
            let packet = Icmpv6Packet::new(message).ok_or(Malformed::Truncated)?;
            (Icmpv6Types::EchoReply.0, (packet.get_icmpv6_type().0, packet.get_icmpv6_code().0))
        }
    };
    let (icmp_type, code) = header;
    let error = IcmpError { family, icmp_type, code };
    if icmp_type == reply_type {
        let (ident, sequence) = echo_numbers(message).ok_or(Malformed::Truncated)?;
        return Ok(Incoming::Reply { ident, sequence, payload: &message[ICMP_HEADER..] });
    }
    if error.is_error() {
        let quoted = quoted_echo(family, message.get(ICMP_HEADER..).ok_or(Malformed::Truncated)?)?;
        return Ok(quoted.map_or(Incoming::Other, |quoted| Incoming::Error { error, quoted }));
    }
    Ok(Incoming::Other)
}

/// RFC 1071: the sum over everything, the checksum included, has all bits set. A comparison with the checksum that we would
/// write is not the same: 0 may also be written as 0xffff, and translators that change an identifier do (RFC 1624 section 3).
fn is_intact(message: &[u8]) -> bool {
    const SKIP_NOTHING: usize = usize::MAX;
    util::checksum(message, SKIP_NOTHING) == 0
}

/// Identifier and sequence number stand in the same place in both protocols, in requests and replies.
fn echo_numbers(message: &[u8]) -> Option<(u16, u16)> {
    let packet = echo_reply::EchoReplyPacket::new(message)?;
    Some((packet.get_identifier(), packet.get_sequence_number()))
}

/// The echo request that an error quotes; `None` if it quotes something else.
fn quoted_echo(family: Family, quote: &[u8]) -> Result<Option<Key>, Malformed> {
    match family {
        Family::V4 => {
            let packet = Ipv4Packet::new(quote).ok_or(Malformed::Truncated)?;
            let header = usize::from(packet.get_header_length()) * 4;
            if packet.get_version() != 4 || header < IPV4_HEADER {
                return Err(Malformed::Header);
            }
            let ours = packet.get_next_level_protocol() == IpNextHeaderProtocols::Icmp && packet.get_fragment_offset() == 0;
            let message = quote.get(header..).ok_or(Malformed::Truncated)?;
            quoted_request(ours, IcmpTypes::EchoRequest.0, IpAddr::V4(packet.get_destination()), message)
        }
        Family::V6 => {
            let packet = Ipv6Packet::new(quote).ok_or(Malformed::Truncated)?;
            if packet.get_version() != 6 {
                return Err(Malformed::Header);
            }
            let ours = packet.get_next_header() == IpNextHeaderProtocols::Icmpv6;
            let message = quote.get(IPV6_HEADER..).ok_or(Malformed::Truncated)?;
            quoted_request(ours, Icmpv6Types::EchoRequest.0, IpAddr::V6(packet.get_destination()), message)
        }
    }
}

fn quoted_request(ours: bool, request_type: u8, peer: IpAddr, message: &[u8]) -> Result<Option<Key>, Malformed> {
    let (ident, sequence) = echo_numbers(message).ok_or(Malformed::Truncated)?;
    Ok((ours && message[0] == request_type).then_some(Key { peer, ident, sequence }))
}

/// The echo request that a datagram socket's error queue gives back: it starts at the ICMP header.
pub fn returned_request(family: Family, peer: IpAddr, message: &[u8]) -> Option<Key> {
    let request_type = match family {
        Family::V4 => IcmpTypes::EchoRequest.0,
        Family::V6 => Icmpv6Types::EchoRequest.0,
    };
    quoted_request(true, request_type, peer, message).ok().flatten()
}

/// An address without a disguise: an IPv4 address mapped into IPv6 is that IPv4 address.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// An address that no echo may be sent to, and why.
pub fn refused_destination(address: IpAddr) -> Option<&'static str> {
    match canonical(address) {
        a if a.is_unspecified() => Some("the unspecified address"),
        a if a.is_multicast() => Some("a multicast address"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("the broadcast address"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use proptest::prelude::*;

    const TOKEN: u64 = 0x0123_4567_89ab_cdef;

    /// Wraps an ICMP message into an IPv4 header without options.
    fn in_ipv4(message: &[u8], destination: Ipv4Addr) -> Vec<u8> {
        let total = (IPV4_HEADER + message.len()) as u16;
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 127, 0, 0, 1];
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        bytes.extend(destination.octets());
        bytes.extend(message);
        bytes
    }

    fn in_ipv6(message: &[u8], destination: Ipv6Addr) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, 58, 64];
        bytes[4..6].copy_from_slice(&(message.len() as u16).to_be_bytes());
        bytes.extend(Ipv6Addr::LOCALHOST.octets());
        bytes.extend(destination.octets());
        bytes.extend(message);
        bytes
    }

    fn with_checksum(mut message: Vec<u8>) -> Vec<u8> {
        message[2..4].fill(0);
        let sum = icmp::checksum(&IcmpPacket::new(&message).unwrap());
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    fn reply_to(request: &[u8], family: Family) -> Vec<u8> {
        let mut reply = request.to_vec();
        reply[0] = if family == Family::V4 { 0 } else { 129 };
        with_checksum(reply)
    }

    fn error(icmp_type: u8, code: u8, quote: &[u8]) -> Vec<u8> {
        with_checksum([&[icmp_type, code, 0, 0, 0, 0, 0, 0], quote].concat())
    }

    #[test]
    fn a_request_has_exactly_these_bytes() {
        let bytes = echo_request(Family::V4, 0x1234, 0x0007, TOKEN, 8);
        assert_eq!(bytes, [8, 0, 0x47, 0x9f, 0x12, 0x34, 0, 7, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        assert_eq!(echo_request(Family::V6, 0x1234, 7, TOKEN, 8)[..8], [128, 0, 0, 0, 0x12, 0x34, 0, 7]);
        assert_eq!(echo_request(Family::V4, 1, 1, TOKEN, 0).len(), 16, "the token is always there");
    }

    #[test]
    fn a_reply_is_read_back() {
        for family in [Family::V4, Family::V6] {
            let reply = reply_to(&echo_request(family, 9, 10, TOKEN, 56), family);
            let Ok(Incoming::Reply { ident: 9, sequence: 10, payload }) = parse(family, &reply) else { panic!("{family:?}") };
            assert_eq!(check_payload(TOKEN, 56, payload), PayloadCheck::Genuine);
            assert_eq!(check_payload(TOKEN, 57, payload), PayloadCheck::Corrupt);
            assert_eq!(check_payload(TOKEN + 1, 56, payload), PayloadCheck::Foreign);
        }
    }

    #[test]
    fn any_flipped_byte_behind_the_token_is_found() {
        let request = echo_request(Family::V4, 9, 10, TOKEN, 56);
        for at in ICMP_HEADER..request.len() {
            let mut payload = request[ICMP_HEADER..].to_vec();
            payload[at - ICMP_HEADER] ^= 1;
            assert_ne!(check_payload(TOKEN, 56, &payload), PayloadCheck::Genuine);
        }
    }

    #[test]
    fn a_bad_checksum_is_malformed() {
        let mut reply = reply_to(&echo_request(Family::V4, 9, 10, TOKEN, 56), Family::V4);
        reply[20] ^= 0x10;
        assert_eq!(parse(Family::V4, &reply), Err(Malformed::Checksum));
    }

    #[test]
    fn a_checksum_of_zero_may_be_written_in_both_ways() {
        // 0x1234 + 0xedcb = 0xffff, whose complement is 0.
        let reply = [0, 0, 0, 0, 0x12, 0x34, 0xed, 0xcb];
        for written in [[0, 0], [0xff, 0xff]] {
            let reply = [&reply[..2], &written[..], &reply[4..]].concat();
            assert_eq!(parse(Family::V4, &reply), Ok(Incoming::Reply { ident: 0x1234, sequence: 0xedcb, payload: &[] }), "{written:?}");
        }
        assert_eq!(parse(Family::V4, &[0; 8]), Err(Malformed::Checksum), "no sum of anything but zeros is zero");
    }

    #[test]
    fn our_own_request_on_the_loopback_is_nothing() {
        assert_eq!(parse(Family::V4, &echo_request(Family::V4, 1, 1, TOKEN, 56)), Ok(Incoming::Other));
        assert_eq!(parse(Family::V6, &echo_request(Family::V6, 1, 1, TOKEN, 56)), Ok(Incoming::Other));
    }

    #[test]
    fn errors_name_the_quoted_echo() {
        let v4 = Ipv4Addr::new(192, 0, 2, 1);
        let quote = in_ipv4(&echo_request(Family::V4, 5, 6, TOKEN, 8)[..8], v4);
        let quoted = Key { peer: v4.into(), ident: 5, sequence: 6 };
        let said = IcmpError { family: Family::V4, icmp_type: 3, code: 13 };
        assert_eq!(parse(Family::V4, &error(3, 13, &quote)), Ok(Incoming::Error { error: said, quoted }));

        let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let quote = in_ipv6(&echo_request(Family::V6, 5, 6, TOKEN, 8), v6);
        let quoted = Key { peer: v6.into(), ident: 5, sequence: 6 };
        let said = IcmpError { family: Family::V6, icmp_type: 3, code: 0 };
        assert_eq!(parse(Family::V6, &error(3, 0, &quote)), Ok(Incoming::Error { error: said, quoted }));
    }

    #[test]
    fn errors_that_quote_something_else_are_nothing() {
        let v4 = Ipv4Addr::new(192, 0, 2, 1);
        let mut udp = in_ipv4(&echo_request(Family::V4, 5, 6, TOKEN, 8), v4);
        udp[9] = 17;
        assert_eq!(parse(Family::V4, &error(3, 3, &udp)), Ok(Incoming::Other));
        let reply = in_ipv4(&reply_to(&echo_request(Family::V4, 5, 6, TOKEN, 8), Family::V4), v4);
        assert_eq!(parse(Family::V4, &error(3, 1, &reply)), Ok(Incoming::Other));
        assert_eq!(parse(Family::V4, &error(3, 1, &in_ipv4(&[8, 0, 0], v4))), Err(Malformed::Truncated));
        for ignored in [4, 5, 9, 10, 13, 14] {
            assert_eq!(parse(Family::V4, &error(ignored, 0, &udp)), Ok(Incoming::Other));
        }
    }

    #[test]
    fn lying_ip_headers_are_malformed() {
        let good = in_ipv4(&echo_request(Family::V4, 5, 6, TOKEN, 8), Ipv4Addr::LOCALHOST);
        assert!(ipv4_payload(&good).is_ok());
        for (at, value) in [(0, 0x44), (0, 0x4f), (0, 0x65), (2, 0xff), (3, 3), (9, 17)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(ipv4_payload(&bad).is_err(), "byte {at} = {value:#x}");
        }
        let mut with_options = good.clone();
        with_options[0] = 0x46;
        assert_eq!(ipv4_payload(&with_options).unwrap().0.len(), good.len() - 24);
    }

    #[test]
    fn nobody_is_pinged_by_the_thousand() {
        for address in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1", "::ffff:224.0.0.1"] {
            assert!(refused_destination(address.parse().unwrap()).is_some(), "{address}");
        }
        for address in ["127.0.0.1", "192.0.2.1", "::1", "fe80::1"] {
            assert!(refused_destination(address.parse().unwrap()).is_none(), "{address}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), icmp_type in 0u8..20) {
            let _ = ipv4_payload(&bytes);
            let _ = parse(Family::V6, &bytes);
            let _ = returned_request(Family::V4, IpAddr::V4(Ipv4Addr::LOCALHOST), &bytes);
            if bytes.len() >= 4 {
                let mut message = bytes;
                message[0] = icmp_type;
                let _ = parse(Family::V4, &with_checksum(message));
            }
        }
    }
}
