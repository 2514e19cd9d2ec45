//! qosd tells a network operator the truth about the quality of the network.
//!
//! The story, in reading order. A [`config`](settings) says what to measure. The supervisor starts one actor per
//! [kind of probe](probe); each runs its probes slot by slot and makes one [`measurement`] a slot. The writer puts every
//! row into the journal and, once it is durable, delivers it to the outputs.

pub mod backoff;
pub mod clock;
pub mod influxdb;
pub mod journal;
pub mod measurement;
pub mod probe;
pub mod secret;
pub mod settings;
pub mod writer;
