//! Tests without privileges.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, as it should")]
#![allow(clippy::print_stdout, reason = "figures that `--nocapture` shows")]

mod answers;
mod backlog;
mod canaries;
mod collector;
mod collector_abuse;
mod collector_socket;
mod command_line;
mod config;
mod daemon;
mod dashboard_files;
mod dashboards;
mod database;
mod dead_letters;
mod delivery_tls;
mod docs;
mod existing_collector;
mod history_kills;
mod http;
mod http_tls;
mod idle_actors;
mod influxdb_client;
mod iperf3;
mod log_lines;
mod mesh_agent;
mod mesh_store;
mod migrating;
mod outages;
mod pages;
mod pipeline;
mod refused_field;
mod responder;
mod running;
mod scripted_server;
mod secrets;
mod service;
mod smuggling;
mod supervision;
mod toy;
mod web;
mod web_service;
mod writer;
