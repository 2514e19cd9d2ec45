//! `qosd export`: rows out of the journal, also while the service runs.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{FAILED, OK};
use crate::clock::Clock;
use crate::config::{self, Env};
use crate::influxdb::line;
use crate::journal::export::{self, ExportError, Filter, Format};

/// What `qosd export` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Rows of the last so long
    #[arg(long, value_name = "DUR", value_parser = humantime::parse_duration)]
    since: Duration,
    /// But not of the last so long
    #[arg(long, value_name = "DUR", value_parser = humantime::parse_duration)]
    until: Option<Duration>,
    /// Only this kind of probe
    #[arg(long)]
    kind: Option<String>,
    /// Only this probe
    #[arg(long, value_name = "NAME")]
    probe: Option<String>,
    /// Only this target
    #[arg(long)]
    target: Option<String>,
    /// Not the rows, but those that an output refused, with its name, its reason and when
    #[arg(long)]
    dead_letters: bool,
    /// The folder with the journal, instead of the one that the config tells
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// In which form
    #[arg(long, value_enum)]
    format: Form,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// The union of all columns, with a header
    Csv,
    /// One JSON object a line
    Json,
    /// Line protocol
    Line,
}

/// Exports; the result is the exit status.
pub(super) fn run(config: &Path, env: &Env, arguments: &Arguments) -> anyhow::Result<u8> {
    let data_dir = match &arguments.data_dir {
        Some(folder) => folder.clone(),
        None => config::whereabouts(config, env).map_err(|problems| anyhow::anyhow!("{problems}"))?.data_dir,
    };
    let now = Clock::system().now().unix;
    let filter = Filter {
        since: now.minus(arguments.since),
        until: arguments.until.map(|ago| now.minus(ago)),
        kind: arguments.kind.clone(),
        probe: arguments.probe.clone(),
        target: arguments.target.clone(),
    };
    let format = match arguments.format {
        Form::Csv => Format::Csv,
        Form::Json => Format::Json,
        Form::Line => Format::Line,
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let export = if arguments.dead_letters { export::export_letters } else { export::export };
    let outcome = export(&data_dir, &filter, format, &mut out, line::line).and_then(|_| Ok(out.flush()?));
    match outcome {
        Ok(()) => Ok(OK),
        // Whoever closed the pipe wanted no more.
        Err(ExportError::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(FAILED),
        Err(error) => Err(error.into()),
    }
}
