//! Writes the dashboards for Grafana: `cargo run --example dashboards -- FOLDER` (`make dashboards`).
//!
//! A panel stands in [`network`], [`mesh`] or [`itself`] once, and is written in both languages of `InfluxDB`, so that the two
//! cannot show different things. An example, and no command of qosd: what Grafana reads is none of the service's.

mod ask;
mod flux;
mod grafana;
mod influxql;
mod itself;
mod mesh;
mod network;
mod panel;

use std::io;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let written = match std::env::args_os().nth(1) {
        Some(folder) => write(Path::new(&folder)),
        None => Err(io::Error::other("the folder to write to is missing")),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever runs it without a terminal sees the exit status.
            let _ = io::Write::write_all(&mut io::stderr(), format!("dashboards: {error}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> io::Result<()> {
    for (file, dashboard) in grafana::files([network::board(), mesh::board(), itself::board()]) {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        std::fs::write(path, dashboard + "\n")?;
    }
    Ok(())
}
