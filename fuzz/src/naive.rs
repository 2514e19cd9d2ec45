//! ICMP as the RFCs draw it, read by index alone: slow, plain, and without a line or a crate of the parser it is compared with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::packet::Family;

/// What a message is to a prober.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// A reply: identifier, sequence number, payload.
    Reply(u16, u16, &'a [u8]),
    /// An error: type, code, and of the quoted request destination, identifier and sequence number.
    Error(u8, u8, Quoted),
    /// Nothing of ours, or no packet at all.
    Nothing,
}

/// Destination, identifier and sequence number of an echo request.
pub type Quoted = (IpAddr, u16, u16);

/// The ICMP message and the TTL of an IPv4 packet (RFC 791 section 3.1).
pub fn inside_ipv4(packet: &[u8]) -> Option<(&[u8], u8)> {
    let header = ipv4_header(packet)?;
    let total = usize::from(number(packet, 2)?);
    (packet[9] == 1 && total >= header && total <= packet.len()).then(|| (&packet[header..total], packet[8]))
}

/// Reads a message: RFC 792 for ICMP, RFC 4443 for ICMPv6, whose checksum the kernel has seen to.
pub fn read(family: Family, message: &[u8]) -> Meaning<'_> {
    let (reply, errors, intact) = match family {
        Family::V4 => (0, &[3, 11, 12][..], message.len() >= 4 && sum(message) == 0xffff),
        Family::V6 => (129, &[1, 2, 3, 4][..], true),
    };
    if !intact || message.len() < 8 {
        return Meaning::Nothing;
    }
    if message[0] == reply {
        return Meaning::Reply(number(message, 4).unwrap(), number(message, 6).unwrap(), &message[8..]);
    }
    if errors.contains(&message[0])
        && let Some(quoted) = quoted(family, &message[8..])
    {
        return Meaning::Error(message[0], message[1], quoted);
    }
    Meaning::Nothing
}

/// Identifier and sequence number of an echo request that begins with its ICMP header.
pub fn request(family: Family, message: &[u8]) -> Option<(u16, u16)> {
    let request = if family == Family::V4 { 8 } else { 128 };
    let numbers = (number(message, 4)?, number(message, 6)?);
    (message[0] == request).then_some(numbers)
}

fn quoted(family: Family, quote: &[u8]) -> Option<Quoted> {
    let (message, destination) = match family {
        Family::V4 => {
            let header = ipv4_header(quote)?;
            let first_fragment = number(quote, 6)? & 0x1fff == 0;
            let destination = Ipv4Addr::new(quote[16], quote[17], quote[18], quote[19]);
            ((quote[9] == 1 && first_fragment).then_some(quote.get(header..)?)?, destination.into())
        }
        Family::V6 => {
            let message = quote.get(40..)?;
            let destination = Ipv6Addr::from(<[u8; 16]>::try_from(&quote[24..40]).ok()?);
            ((quote[0] >> 4 == 6 && quote[6] == 58).then_some(message)?, destination.into())
        }
    };
    let (ident, sequence) = request(family, message)?;
    Some((destination, ident, sequence))
}

/// How long the header of an IPv4 packet says it is, if it is one.
fn ipv4_header(packet: &[u8]) -> Option<usize> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    (packet.len() >= 20 && packet[0] >> 4 == 4 && header >= 20).then_some(header)
}

/// Two bytes, the first one the greater (network byte order).
fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from(*bytes.get(at)?) * 256 + u16::from(*bytes.get(at + 1)?))
}

/// The one's complement sum of RFC 1071: 0xffff over an intact message.
pub fn sum(message: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for (at, byte) in message.iter().enumerate() {
        sum += u32::from(*byte) << if at % 2 == 0 { 8 } else { 0 };
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The message with the checksum that makes it intact, which a fuzzer would not guess.
pub fn repaired(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    if message.len() >= 4 {
        message[2..4].fill(0);
        let checksum = !sum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

/// The payload of a request: its token, and behind it what SplitMix64 yields, begun with the token and fed with itself.
pub fn payload(token: u64, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut word = token;
    while bytes.len() < size.max(8) {
        bytes.extend(word.to_be_bytes());
        let mut mixed = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9_u64), (27, 0x94d0_49bb_1331_11eb), (31, 1)] {
            mixed = (mixed ^ (mixed >> shift)).wrapping_mul(factor);
        }
        word = mixed;
    }
    bytes.truncate(size.max(8));
    bytes
}
