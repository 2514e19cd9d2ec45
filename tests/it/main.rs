//! Tests without privileges.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, as it should")]

mod config;
mod docs;
mod influxdb_client;
mod iperf3;
mod scripted_server;
mod writer;
