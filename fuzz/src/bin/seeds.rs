//! Writes the packets that fuzzing begins with into the folder `seeds` beside this crate: requests of qosd, and what a
//! network makes of them.

use std::error::Error;
use std::fs;
use std::path::Path;

use qosd_fuzz::naive::repaired;
use qosd_fuzz::packet::{self, Family, ICMP_HEADER};

const TOKEN: u64 = 0x0123_4567_89ab_cdef;

fn request(family: Family, size: usize) -> Vec<u8> {
    let request = packet::echo_request(family, 0x4711, 42, TOKEN, size);
    if family == Family::V6 { repaired(&request) } else { request }
}

fn with_type(mut message: Vec<u8>, icmp_type: u8) -> Vec<u8> {
    message[0] = icmp_type;
    repaired(&message)
}

/// From 192.0.2.1 to 192.0.2.2, with so many bytes of options.
fn in_ipv4(message: &[u8], options: usize) -> Vec<u8> {
    let total = (20 + options + message.len()) as u16;
    let header = [0x45 + (options / 4) as u8, 0, 0, 0, 0, 0, 0x40, 0, 64, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    let mut packet = [&header[..], &vec![1; options], message].concat();
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet
}

/// From 2001:db8::1 to 2001:db8::2.
fn in_ipv6(message: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&(message.len() as u16).to_be_bytes());
    packet[6..8].copy_from_slice(&[58, 64]);
    packet[8..12].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    packet.copy_within(8..12, 24);
    (packet[23], packet[39]) = (1, 2);
    [&packet[..], message].concat()
}

fn error(icmp_type: u8, code: u8, quote: &[u8]) -> Vec<u8> {
    repaired(&[&[icmp_type, code, 0, 0, 0, 0, 0, 0], quote].concat())
}

fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let (v4, v6) = (request(Family::V4, 56), request(Family::V6, 56));
    let (quote4, quote6) = (in_ipv4(&v4, 0), in_ipv6(&v6));
    // RFC 792 asks routers for no more than this of the request.
    let shortest = in_ipv4(&v4[..ICMP_HEADER], 0);
    let udp = [&quote4[..9], &[17], &quote4[10..]].concat();
    let damaged = repaired(&[&v4[..40], &[!v4[40]], &v4[41..]].concat());
    vec![
        ("reply_v4", "request", in_ipv4(&v4, 0)),
        ("reply_v4", "reply", in_ipv4(&with_type(v4.clone(), 0), 0)),
        ("reply_v4", "reply_with_options", in_ipv4(&with_type(v4.clone(), 0), 8)),
        ("reply_v4", "reply_token_alone", in_ipv4(&with_type(request(Family::V4, 8), 0), 0)),
        ("reply_v4", "reply_damaged", in_ipv4(&with_type(damaged, 0), 0)),
        ("reply_v4", "reply_checksum_ffff", in_ipv4(&[0, 0, 0xff, 0xff, 0x12, 0x34, 0xed, 0xcb], 0)),
        ("reply_v4", "error", in_ipv4(&error(3, 1, &quote4), 0)),
        ("reply_v6", "request", v6.clone()),
        ("reply_v6", "reply", with_type(v6.clone(), 129)),
        ("reply_v6", "reply_token_alone", with_type(request(Family::V6, 8), 129)),
        ("reply_v6", "error", error(1, 3, &quote6)),
        ("quoted_error", "v4_unreachable", error(3, 1, &quote4)),
        ("quoted_error", "v4_shortest", error(11, 0, &shortest)),
        ("quoted_error", "v4_options", error(12, 0, &in_ipv4(&v4, 8))),
        ("quoted_error", "v4_udp", error(3, 3, &udp)),
        ("quoted_error", "v6_unreachable", error(1, 0, &quote6)),
        ("quoted_error", "v6_too_big", error(2, 0, &quote6)),
        ("quoted_error", "v6_hop_limit", error(3, 0, &quote6)),
        ("quoted_error", "v4_returned", v4),
        ("quoted_error", "v6_returned", v6),
    ]
}

fn main() -> Result<(), Box<dyn Error>> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (target, name, bytes) in seeds() {
        let folder = all.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
