//! An IPv4 packet, as a raw socket reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qosd_fuzz::packet::{self, Family};
use qosd_fuzz::{check, naive};

fuzz_target!(|bytes: &[u8]| {
    let inside = packet::ipv4_payload(bytes).ok();
    assert_eq!(inside, naive::inside_ipv4(bytes));
    if let Some((message, _)) = inside {
        check::message(Family::V4, message);
        check::message(Family::V4, &naive::repaired(message));
    }
});
