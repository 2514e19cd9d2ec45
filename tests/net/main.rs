//! Tests on real packets: the program that users run, in network namespaces, with real databases.
//!
//! They need root and the programs that `tests/tools.sh` fetches, and fail loudly without. `QOSD_PROVE=1` runs their long
//! versions. [`bed`] is what they stand on.

#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

mod backlog;
mod bed;
mod bed_itself;
mod clock;
#[path = "../it/dashboard_files.rs"]
mod dashboard_files;
mod dashboards;
mod delivery;
mod disk;
mod doctor;
#[path = "../it/existing_collector.rs"]
mod existing_collector;
mod hostile_names;
mod http;
mod iperf3;
mod kill;
mod limits;
mod mesh;
mod mesh_agent;
mod mesh_load;
mod metrics;
mod nginx;
mod oracle;
mod panels;
mod ping;
mod ping_floods;
mod ping_hosts;
mod ping_matrix;
mod ping_scenarios;
mod power;
mod refused_field;
mod reload;
#[path = "../it/scripted_server.rs"]
mod scripted_server;
#[path = "../it/smuggling.rs"]
mod smuggling;
mod soak;
mod systemd;
