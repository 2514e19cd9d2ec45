//! Tests without privileges.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, as it should")]

mod config;
mod docs;
mod http;
mod http_tls;
mod influxdb_client;
mod responder;
mod scripted_server;
mod writer;
