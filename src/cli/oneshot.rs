//! What all one-shots share: how their rows are shown, and what their exit status says.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};

use super::{FAILED, complain};
use crate::clock::Clock;
use crate::influxdb::line;
use crate::measurement::{Row, Value};
use crate::probe::load::Load;
use crate::probe::{AnyKind, Assignment, Outcome, RESULT_CODE, Shared};
use crate::resolve::Resolver;
use crate::settings::KeyProblem;

/// A usage error, or no permission.
pub(super) const USAGE: u8 = 2;

/// How rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Table,
    /// One JSON object a line
    Json,
    /// Line protocol
    Line,
}

/// The series of a probe's table as a config would have it: one set of rules for both.
pub(super) fn assignments(kind: &dyn AnyKind, table: &toml::Table) -> Result<Vec<Arc<Assignment>>, String> {
    let source = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let file = config::File::from_str(&table.to_string(), config::FileFormat::Toml);
    let values = config::Source::collect(&file).map_err(|error| error.to_string())?;
    let line = |problem: KeyProblem| format!("{}: {}", problem.key, problem.message);
    match kind.read(&source, "oneshot", config::Value::from(values)) {
        Ok(reading) => Ok(reading.assignments),
        Err(problems) => Err(problems.into_iter().map(line).collect::<Vec<_>>().join("\n")),
    }
}

/// What the service lends to its engines.
pub(super) fn shared() -> Shared {
    let clock = Clock::system();
    Shared { clock: clock.clone(), resolver: Resolver::start(clock.clone()), load: Load::new(clock) }
}

/// Shows what was measured, or says why nothing was; the result is the exit status.
pub(super) fn finish(rows: Result<Vec<Row>, String>, output: Output, columns: &[(&str, &str)]) -> u8 {
    match rows.map(|rows| (show(&rows, output, columns), rows)) {
        Ok((Ok(()), rows)) => status(&rows),
        Ok((Err(error), _)) if error.kind() == io::ErrorKind::BrokenPipe => FAILED,
        Ok((Err(error), _)) => {
            complain(&error.to_string());
            FAILED
        }
        Err(why) => {
            complain(&why);
            USAGE
        }
    }
}

/// Shows rows, `columns` of them in a table: title and field.
pub(super) fn show(rows: &[Row], output: Output, columns: &[(&str, &str)]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match output {
        Output::Table => writeln!(out, "{}", table(rows, columns))?,
        Output::Json => rows.iter().try_for_each(|row| writeln!(out, "{}", serde_json::to_string(row)?))?,
        Output::Line => rows.iter().filter_map(line::line).try_for_each(|line| writeln!(out, "{line}"))?,
    }
    out.flush()
}

fn table(rows: &[Row], columns: &[(&str, &str)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(std::iter::once("target").chain(columns.iter().map(|(title, _)| *title)));
    for row in rows {
        let target = row.series.tag("target").unwrap_or_default().to_owned();
        table.add_row(std::iter::once(target).chain(columns.iter().map(|(_, field)| cell(row, field))));
    }
    table.to_string()
}

fn cell(row: &Row, field: &str) -> String {
    match row.fields.get(field) {
        Some(Value::Float(figure)) => format!("{figure:.3}"),
        Some(value) => value.to_string(),
        None => "–".to_owned(),
    }
}

/// 0 if everything was ok, 2 if a permission is missing, else 1.
fn status(rows: &[Row]) -> u8 {
    let has = |outcome: Outcome| move |row: &Row| row.fields.get(RESULT_CODE.info().name) == Some(&Value::Integer(outcome.code()));
    if rows.iter().any(has(Outcome::Permission)) { USAGE } else { u8::from(!rows.iter().all(has(Outcome::Ok))) }
}

/// Whether somebody watches stderr.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Writes on stderr, over the line before. A terminal that went away is not worth a word.
pub(super) fn overwrite(text: &str) {
    let _ = write!(io::stderr(), "\r\x1b[K{text}").and_then(|()| io::stderr().flush());
}

/// Writes a line on stderr, in one piece. A reader that went away is not worth a word.
pub(super) fn tell(text: &str) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
