//! Socket filters: the kernel hands a raw socket only the ICMP messages that may be answers to it. Pure.
//!
//! The upper four bits of the ICMP identifier are drawn once per socket; the filter looks at them, in echo replies and in
//! the requests that errors quote. Anything else on the host, be it a flood, costs this process nothing.

use socket2::SockFilter;

/// The bits of an identifier that belong to the socket.
pub const SOCKET_BITS: u16 = 0xf000;

const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE_X: u16 = 0x50;
const LOAD_HALF_X: u16 = 0x48;
const LOAD_X_IP_HEADER: u16 = 0xb1;
const TO_X: u16 = 0x07;
const AND: u16 = 0x54;
const SHIFT_LEFT: u16 = 0x64;
const ADD_X: u16 = 0x0c;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

const ACCEPT: u32 = u32::MAX;
const REJECT: u32 = 0;

fn op(code: u16, k: u32) -> SockFilter {
    SockFilter::new(code, 0, 0, k)
}

fn jump_if_equal(k: u32, then: u8, otherwise: u8) -> SockFilter {
    SockFilter::new(JUMP_IF_EQUAL, then, otherwise, k)
}

/// For a raw IPv4 socket, whose packets begin with the IP header.
pub fn ipv4(bits: u16) -> Vec<SockFilter> {
    vec![
        op(LOAD_X_IP_HEADER, 0),
        op(LOAD_BYTE_X, 0),
        jump_if_equal(0, 10, 0),
        jump_if_equal(3, 2, 0),
        jump_if_equal(11, 1, 0),
        jump_if_equal(12, 0, 10),
        // An error: find the quoted ICMP header behind the quoted IP header.
        op(LOAD_BYTE_X, 8),
        op(AND, 0x0f),
        op(SHIFT_LEFT, 2),
        op(ADD_X, 0),
        op(TO_X, 0),
        op(LOAD_HALF_X, 8 + 4),
        // Falls through to the comparison, past the load for replies.
        SockFilter::new(0x05, 0, 0, 1),
        op(LOAD_HALF_X, 4),
        op(AND, u32::from(SOCKET_BITS)),
        jump_if_equal(u32::from(bits & SOCKET_BITS), 1, 0),
        op(RETURN, REJECT),
        op(RETURN, ACCEPT),
    ]
}

/// For a raw IPv6 socket, whose packets begin with the ICMPv6 header.
pub fn ipv6(bits: u16) -> Vec<SockFilter> {
    vec![
        op(LOAD_BYTE, 0),
        jump_if_equal(129, 6, 0),
        jump_if_equal(1, 3, 0),
        jump_if_equal(2, 2, 0),
        jump_if_equal(3, 1, 0),
        jump_if_equal(4, 0, 5),
        // An error: the quoted IPv6 header has 40 bytes.
        op(LOAD_HALF, 8 + 40 + 4),
        SockFilter::new(0x05, 0, 0, 1),
        op(LOAD_HALF, 4),
        op(AND, u32::from(SOCKET_BITS)),
        jump_if_equal(u32::from(bits & SOCKET_BITS), 1, 0),
        op(RETURN, REJECT),
        op(RETURN, ACCEPT),
    ]
}
