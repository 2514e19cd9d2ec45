//! The command line: what each command takes and does.
//!
//! Exit status: 0 as asked, 1 not, 2 usage or permission, 78 a bad config; contract 1 says which command gives which.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::app::{self, Ended, Options, StartError};
use crate::config::{self, Env};
use crate::probe::KINDS;
use crate::settings::explain;
use credentials::as_the_unit;

pub mod check;
mod credentials;
mod doctor;
mod export;
mod http;
mod iperf3;
mod mesh;
mod oneshot;
mod ping;
mod requeue;
mod status;

/// As asked.
const OK: u8 = 0;
/// Not as asked.
const FAILED: u8 = 1;

/// Tells the truth about the quality of the network: latency, jitter, loss.
#[derive(Debug, Parser)]
#[command(name = "qosd", version, max_term_width = 100)]
struct Cli {
    /// The config file [default: $QOSD_CONFIG, then /etc/qosd/qosd.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service (the default)
    Run,
    /// Validate the config: all problems at once, or what it will cost
    Check {
        /// Print the effective config, secrets redacted
        #[arg(long)]
        show: bool,
    },
    /// One run of the ping probe
    Ping(ping::Arguments),
    /// One run of the iperf3 probe
    Iperf3(iperf3::Arguments),
    /// One run of the HTTP probe, with its phases
    Http(http::Arguments),
    /// What the running service knows
    Status(status::Arguments),
    /// Rows out of the journal, oldest first
    Export(export::Arguments),
    /// Dead letters back into delivery: rows that an output refused
    Requeue(requeue::Arguments),
    /// Tests every permission and dependency, and prints the fix for each that is missing
    Doctor,
    /// What this node does in its mesh
    Mesh(mesh::Arguments),
}

/// The command line as it is defined, for what describes it: man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs a command line; the result is the exit status of the process.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // It is refused only to who wants more than he has, and nothing is less than none.
    let _ = crate::sys::leave_no_core();
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed terminal is no reason to fail differently.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { oneshot::USAGE } else { OK });
        }
    };
    let env: Env = std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))).collect();
    ExitCode::from(dispatch(cli, env))
}

fn dispatch(cli: Cli, env: Env) -> u8 {
    let config = cli.config.unwrap_or_else(|| config::default_path(&env));
    let outcome = match cli.command.unwrap_or(Command::Run) {
        Command::Run => Ok(run(Options { config, env, kinds: KINDS })),
        Command::Check { show } => Ok(check::check(&config, KINDS, &as_the_unit(&config, env), show, &mut std::io::stdout().lock())),
        Command::Ping(arguments) => Ok(ping::run(&arguments)),
        Command::Iperf3(arguments) => Ok(iperf3::run(&arguments)),
        Command::Http(arguments) => Ok(http::run(&arguments)),
        Command::Status(arguments) => status::run(&config, &env, &arguments),
        Command::Export(arguments) => export::run(&config, &env, &arguments),
        Command::Requeue(arguments) => requeue::run(&config, &env, &arguments),
        Command::Doctor => doctor::run(&config, &as_the_unit(&config, env)),
        Command::Mesh(arguments) => mesh::run(&config, &as_the_unit(&config, env), &arguments),
    };
    outcome.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        FAILED
    })
}

fn run(options: Options) -> u8 {
    match app::run(options) {
        Ok(Ended::Asked) => OK,
        Ok(Ended::Failed) => FAILED,
        Err(StartError::Config(problems)) => {
            complain(&problems.to_string());
            check::BAD_CONFIG
        }
        Err(error) => {
            complain(&explain(&error));
            FAILED
        }
    }
}

/// To whoever sits at the terminal, if anybody does.
fn complain(message: &str) {
    // If not, the exit status has to do.
    let _ = writeln!(std::io::stderr(), "{message}");
}
