//! What must hold for any bytes whatever; a target is one call of these.

use std::net::{IpAddr, Ipv4Addr};

use crate::naive::{self, Meaning};
use crate::packet::{self, Family, Incoming, PayloadCheck};

/// A message is understood as the naive parser does: as what it is, with the same numbers, or not at all.
pub fn message(family: Family, bytes: &[u8]) {
    let meaning = match packet::parse(family, bytes) {
        Ok(Incoming::Reply { ident, sequence, payload }) => {
            belief(payload);
            Meaning::Reply(ident, sequence, payload)
        }
        Ok(Incoming::Error { error, quoted }) => {
            assert_eq!(error.family, family);
            assert_ne!(error.describe(), "", "whoever reads a row wants words");
            Meaning::Error(error.icmp_type, error.code, (quoted.peer, quoted.ident, quoted.sequence))
        }
        Ok(Incoming::Other) | Err(_) => Meaning::Nothing,
    };
    assert_eq!(meaning, naive::read(family, bytes));
}

/// What an error queue gives back is our request or nothing.
pub fn returned(family: Family, bytes: &[u8]) {
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let key = packet::returned_request(family, peer, bytes).map(|key| (key.peer, key.ident, key.sequence));
    assert_eq!(key, naive::request(family, bytes).map(|(ident, sequence)| (peer, ident, sequence)));
}

/// A payload is believed if it is ours to the last byte, and only then: neither shorter nor longer, nor with one bit changed.
fn belief(payload: &[u8]) {
    let Some(token) = payload.first_chunk().map(|token| u64::from_be_bytes(*token)) else {
        return assert_eq!(packet::check_payload(0, payload.len(), payload), PayloadCheck::Foreign);
    };
    let size = payload.len();
    let ours = naive::payload(token, size);
    let verdict = if payload == ours { PayloadCheck::Genuine } else { PayloadCheck::Corrupt };
    assert_eq!(packet::check_payload(token, size, payload), verdict);
    assert_eq!(packet::check_payload(!token, size, payload), PayloadCheck::Foreign);

    assert_eq!(packet::check_payload(token, size, &ours), PayloadCheck::Genuine);
    assert_eq!(packet::check_payload(token, size + 1, &ours), PayloadCheck::Corrupt);
    let longer = [&ours[..], &[0]].concat();
    assert_eq!(packet::check_payload(token, size, &longer), PayloadCheck::Corrupt);
    // Which bit is changed is up to the fuzzer, as it chooses the token.
    let (at, bit) = (token as usize % size, 1 << (token % 8));
    let mut changed = ours;
    changed[at] ^= bit;
    let expected = if at < packet::MIN_PAYLOAD { PayloadCheck::Foreign } else { PayloadCheck::Corrupt };
    assert_eq!(packet::check_payload(token, size, &changed), expected);
}
