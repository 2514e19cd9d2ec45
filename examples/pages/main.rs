//! Writes the man pages and the completions of shells: `cargo run --example pages -- FOLDER` (`make man`).
//!
//! They are made of what defines them, the command line and `config/qosd.toml`, so that they cannot say anything else. An
//! example, and no command of qosd: what describes the program adds nothing to it, and its crates are none of the service's.

mod completions;
mod manual;
mod reference;

use std::io;
use std::path::Path;
use std::process::ExitCode;

const CONFIG: &str = include_str!("../../config/qosd.toml");

fn main() -> ExitCode {
    let written = match std::env::args_os().nth(1) {
        Some(folder) => write(Path::new(&folder)),
        None => Err(io::Error::other("the folder to write to is missing")),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever runs it without a terminal sees the exit status.
            let _ = io::Write::write_all(&mut io::stderr(), format!("pages: {error}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    std::fs::write(man.join("qosd.8"), manual::page(qosd::cli::command())?)?;
    std::fs::write(man.join("qosd.toml.5"), reference::page(CONFIG))?;
    for (name, script) in completions::scripts(&qosd::cli::command()) {
        std::fs::write(completions.join(name), script)?;
    }
    Ok(())
}
