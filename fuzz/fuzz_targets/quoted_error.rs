//! An ICMP error of either family, and the request that a datagram socket's error queue gives back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qosd_fuzz::packet::Family;
use qosd_fuzz::{check, naive};

fuzz_target!(|bytes: &[u8]| {
    check::message(Family::V4, &naive::repaired(bytes));
    check::message(Family::V6, bytes);
    for family in [Family::V4, Family::V6] {
        check::returned(family, bytes);
    }
});
