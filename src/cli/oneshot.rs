//! What all one-shots share: how their rows are shown, and what their exit status says.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};

use crate::influxdb::line;
use crate::measurement::{Row, Value};
use crate::probe::{Outcome, RESULT_CODE};

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
pub(super) fn status(rows: &[Row]) -> u8 {
    let has = |outcome: Outcome| move |row: &Row| row.fields.get(RESULT_CODE.info().name) == Some(&Value::Integer(outcome.code()));
    if rows.iter().any(has(Outcome::Permission)) { USAGE } else { u8::from(!rows.iter().all(has(Outcome::Ok))) }
}

/// Whether somebody watches stderr.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}
