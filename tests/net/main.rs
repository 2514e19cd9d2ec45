//! Tests on real packets.
