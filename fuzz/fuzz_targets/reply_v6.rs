//! An ICMPv6 message, as a raw socket reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qosd_fuzz::check;
use qosd_fuzz::packet::Family;

fuzz_target!(|bytes: &[u8]| check::message(Family::V6, bytes));
