//! Dead letters out of the journal: the rows as in an export of rows, and who refused each, why and when.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::{CHUNK, ExportError, Filter, Format, Selection, open, record};
use crate::clock::Timestamp;
use crate::journal::JournalError;
use crate::journal::reader::{Dead, Reader};
use crate::measurement::Row;

/// What a letter says beside its row, in JSON and as columns of csv. No tag or field of ours has such a name.
const COLUMNS: [&str; 3] = ["refused_by", "refused_reason", "refused_time"];

/// A letter as JSON.
#[derive(Serialize)]
struct Letter<'a> {
    #[serde(flatten)]
    row: &'a Row,
    refused_by: &'a str,
    refused_reason: &'a str,
    refused_time: Timestamp,
}

/// As [`super::export`], the dead letters: a line each for every output that refused the row. As line protocol they are the
/// rows alone.
pub fn export_letters(
    dir: &Path,
    filter: &Filter,
    format: Format,
    out: &mut dyn Write,
    line: fn(&Row) -> Option<String>,
) -> Result<u64, ExportError> {
    let mut reader = open(dir)?;
    let selection = select(&mut reader, filter)?;
    let mut out = BufWriter::new(out);
    let count = match format {
        Format::Csv => as_csv(&mut reader, &selection, &mut out)?,
        Format::Json => each(&mut reader, &selection, |row, Dead { output, reason, refused, .. }| {
            serde_json::to_writer(&mut out, &Letter { row, refused_by: output, refused_reason: reason, refused_time: *refused })?;
            out.write_all(b"\n")?;
            Ok(true)
        })?,
        Format::Line => each(&mut reader, &selection, |row, _| {
            let line = line(row);
            line.iter().try_for_each(|line| writeln!(out, "{line}"))?;
            Ok(line.is_some())
        })?,
    };
    out.flush()?;
    Ok(count)
}

/// The letters that are asked for, by time of their rows, and all columns of those.
fn select(reader: &mut Reader, filter: &Filter) -> Result<Selection, JournalError> {
    let (mut selection, mut known, mut damaged) = (Selection::default(), BTreeSet::new(), 0);
    let mut after = 0;
    loop {
        let letters = reader.dead(after, CHUNK)?;
        let Some(last) = letters.last() else { break };
        after = last.id;
        for letter in letters {
            let Some(row) = letter.row else {
                damaged += 1;
                continue;
            };
            if filter.covers(row.time) && filter.wants(&row.series) {
                selection.places.push((row.time, letter.id));
                selection.tags.extend(row.series.tags().map(|(key, _)| key.to_owned()));
                selection.fields.extend(row.fields.iter().map(|(name, _)| name).filter(|name| known.insert(*name)).map(str::to_owned));
            }
        }
    }
    if damaged > 0 {
        tracing::warn!(letters = damaged, "left out damaged dead letters");
    }
    selection.places.sort_unstable();
    Ok(selection)
}

/// Hands over each letter. One that was delivered or dropped meanwhile is left out.
fn each(
    reader: &mut Reader,
    selection: &Selection,
    mut write: impl FnMut(&Row, &Dead) -> Result<bool, ExportError>,
) -> Result<u64, ExportError> {
    let mut count = 0;
    for (_, id) in &selection.places {
        let found = reader.dead(id - 1, 1)?.pop().filter(|letter| letter.id == *id);
        if let Some(letter) = &found
            && let Some(row) = &letter.row
        {
            count += u64::from(write(row, letter)?);
        }
    }
    Ok(count)
}

fn as_csv(reader: &mut Reader, selection: &Selection, out: impl Write) -> Result<u64, ExportError> {
    let mut csv = csv::Writer::from_writer(out);
    let own = ["time", "measurement"].into_iter();
    let columns = own.chain(selection.tags.iter().map(String::as_str)).chain(selection.fields.iter().map(String::as_str));
    csv.write_record(columns.chain(COLUMNS))?;
    let count = each(reader, selection, |row, letter| {
        let mut cells = record(selection, row);
        cells.extend([letter.output.clone(), letter.reason.clone(), letter.refused.to_string()]);
        csv.write_record(cells)?;
        Ok(true)
    })?;
    csv.flush()?;
    Ok(count)
}
