//! What the fuzz targets share: the parser that qosd runs, and a second one that shares nothing with it.
//!
//! The parser is the very file of the program, built alone: with all that qosd depends on, a build would take longer than
//! the fuzzing.

#[allow(dead_code, reason = "the targets use the parsers alone")]
#[path = "../../src/probe/ping/packet.rs"]
pub mod packet;

pub mod check;
pub mod naive;
