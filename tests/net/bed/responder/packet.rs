//! ICMP packets as bytes, for those who answer them. Pure, and with no code of qosd, whose judge it is.

use std::net::IpAddr;

/// Where the ICMP message begins in a packet without options.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Bytes of an echo before its payload.
pub(super) const ECHO_HEADER: usize = 8;
/// Hops that are left of a reply.
pub(super) const HOPS: u8 = 61;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;

/// An echo request, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Echo {
    /// Who asks.
    pub(crate) source: IpAddr,
    /// Who is asked.
    pub(crate) target: IpAddr,
    /// The identifier.
    pub(crate) ident: u16,
    /// The sequence number.
    pub(crate) sequence: u16,
    /// The whole packet.
    packet: Vec<u8>,
    /// Bytes of the IP header.
    header: usize,
}

impl Echo {
    /// Reads a packet; `None` if it is anything else.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        let (header, source, target, request): (usize, IpAddr, IpAddr, u8) = match packet.first()? >> 4 {
            4 if *packet.get(9)? == ICMP => {
                let address = |at: usize| Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into());
                (usize::from(packet[0] & 0xf) * 4, address(12)?, address(16)?, 8)
            }
            6 if *packet.get(6)? == ICMPV6 => {
                let address = |at: usize| Some(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?.into());
                (IPV6_HEADER, address(8)?, address(24)?, 128)
            }
            _ => return None,
        };
        let message = packet.get(header..).filter(|message| message.len() >= ECHO_HEADER && message[0] == request)?;
        let number = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        Some(Self { source, target, ident: number(4), sequence: number(6), packet: packet.to_vec(), header })
    }

    /// What is to come back unchanged.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.packet[self.header + ECHO_HEADER..]
    }

    /// The packet down to so many bytes behind its IP header: what an error quotes.
    pub(super) fn quote(&self, bytes: usize) -> &[u8] {
        &self.packet[..(self.header + bytes).min(self.packet.len())]
    }

    /// The right reply, with another identifier, sequence number and payload where wanted.
    pub(super) fn reply(&self, ident: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
        let [a, b] = ident.to_be_bytes();
        let [c, d] = sequence.to_be_bytes();
        message(if self.target.is_ipv4() { 0 } else { 129 }, 0, [a, b, c, d], payload)
    }
}

/// An ICMP message whose checksum is still to be set.
pub(crate) fn message(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0], &rest[..], body].concat()
}

/// A packet around a message, with the right checksums in both.
pub(crate) fn sealed(source: IpAddr, target: IpAddr, mut message: Vec<u8>) -> Vec<u8> {
    let pseudo = match (source, target) {
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let length = (message.len() as u32).to_be_bytes();
            [&source.octets()[..], &target.octets(), &length, &[0, 0, 0, ICMPV6]].concat()
        }
        _ => Vec::new(),
    };
    if message.len() >= 4 {
        message[2..4].fill(0);
        let sum = checksum(&[pseudo, message.clone()].concat());
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    around(source, target, &message)
}

/// A packet around a message as it is.
fn around(source: IpAddr, target: IpAddr, message: &[u8]) -> Vec<u8> {
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let [high, low] = ((IPV4_HEADER + message.len()) as u16).to_be_bytes();
            let fixed = [0x45, 0, high, low, 0, 0, 0x40, 0, HOPS, ICMP, 0, 0];
            with_header_sum([&fixed, &source.octets()[..], &target.octets(), message].concat())
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let [high, low] = (message.len() as u16).to_be_bytes();
            let fixed = [0x60, 0, 0, 0, high, low, ICMPV6, HOPS];
            [&fixed, &source.octets()[..], &target.octets(), message].concat()
        }
        _ => panic!("{source} and {target} are not of one family"),
    }
}

/// The packet with four bytes of options in its header that mean nothing; in IPv6 with a header of its own for them.
pub(super) fn with_options(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet.splice(IPV4_HEADER..IPV4_HEADER, [1, 1, 1, 0]);
        packet[0] = 0x46;
        with_total_length(packet, 4)
    } else {
        packet.splice(IPV6_HEADER..IPV6_HEADER, [ICMPV6, 0, 1, 4, 0, 0, 0, 0]);
        packet[6] = DESTINATION_OPTIONS;
        with_total_length(packet, 8)
    }
}

/// The packet with a length in its IP header that is more by this, or less.
pub(super) fn with_total_length(mut packet: Vec<u8>, more: i16) -> Vec<u8> {
    let at = if packet[0] >> 4 == 4 { 2 } else { 4 };
    let length = u16::from_be_bytes([packet[at], packet[at + 1]]).wrapping_add_signed(more);
    packet[at..at + 2].copy_from_slice(&length.to_be_bytes());
    with_header_sum(packet)
}

/// The packet with an IPv4 header that says to be of so many words. There is nothing like it in IPv6.
pub(super) fn with_header_length(mut packet: Vec<u8>, words: u8) -> Vec<u8> {
    packet[0] = 0x40 | words;
    with_header_sum(packet)
}

/// With the right header checksum, where there is one, over as many bytes as the header says to have.
fn with_header_sum(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        let header = (usize::from(packet[0] & 0xf) * 4).clamp(IPV4_HEADER, packet.len());
        let sum = checksum(&packet[..header]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// RFC 1071.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum = words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A request of 16 bytes of payload, as a prober would send it.
    pub(in super::super) fn request(target: &str) -> Echo {
        let target: IpAddr = target.parse().unwrap();
        let source = if target.is_ipv4() { "10.77.0.1" } else { "fd77::1" }.parse().unwrap();
        let kind = if target.is_ipv4() { 8 } else { 128 };
        let packet = sealed(source, target, message(kind, 0, [0x12, 0x34, 0, 7], b"token is behind."));
        Echo::parse(&packet).unwrap()
    }

    #[test]
    fn a_request_is_read_back_as_it_was_built_and_its_sums_are_right() {
        for target in ["10.78.0.1", "fd78::1"] {
            let echo = request(target);
            assert_eq!((echo.ident, echo.sequence, echo.payload()), (0x1234, 7, &b"token is behind."[..]));
            assert_eq!(echo.target.to_string(), target);
            assert_eq!(Echo::parse(&sealed(echo.target, echo.source, echo.reply(1, 2, b""))), None, "a reply is no request");
        }
        let packet = request("10.78.0.1").packet;
        assert_eq!((checksum(&packet[..20]), checksum(&packet[20..])), (0, 0));
    }

    #[test]
    fn no_prefix_of_a_request_makes_the_reader_panic() {
        for target in ["10.78.0.1", "fd78::1"] {
            let packet = request(target).packet;
            assert!((0..packet.len()).all(|end| Echo::parse(&packet[..end]).is_none_or(|echo| echo.payload().len() < 16)));
        }
    }

    #[test]
    fn options_make_a_packet_longer_and_leave_its_message_whole() {
        let (v4, v6) = (request("10.78.0.1").packet, request("fd78::1").packet);
        let longer = with_options(v4.clone());
        assert_eq!((longer[0], longer[3], &longer[24..]), (0x46, v4[3] + 4, &v4[20..]));
        let longer = with_options(v6.clone());
        assert_eq!((longer[6], longer[5], &longer[48..]), (60, v6[5] + 8, &v6[40..]));
    }
}
