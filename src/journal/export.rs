//! Rows out of the journal for people and programs, oldest first, also while a qosd writes it.
//!
//! The journal is read through a connection that can only read, in short transactions. First the places of all rows that
//! are asked for are collected and sorted by time, then the rows are fetched a chunk at a time: memory for the places alone.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::reader::Reader;
use super::{JournalError, folder};
use crate::clock::Timestamp;
use crate::measurement::{Row, Series};
pub use letters::export_letters;

mod letters;

/// Rows fetched in one go.
const CHUNK: usize = 1_000;

/// Which rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Of this time or later.
    pub since: Timestamp,
    /// Of before this time; none = all.
    pub until: Option<Timestamp>,
    /// Whose tag `kind` is this.
    pub kind: Option<String>,
    /// Whose tag `probe` is this.
    pub probe: Option<String>,
    /// Whose tag `target` is this.
    pub target: Option<String>,
}

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A header with the union of all columns: time, measurement, tags, fields; then a line a row.
    Csv,
    /// One JSON object a line.
    Json,
    /// Line protocol.
    Line,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is none.
    #[error("there is no journal at {0}")]
    Missing(PathBuf),
    /// It can not be read.
    #[error("the journal can not be read")]
    Journal(#[from] JournalError),
    /// The rows can not be written out.
    #[error("the rows can not be written")]
    Write(#[from] std::io::Error),
    /// The rows can not be written out as csv.
    #[error("the csv can not be written")]
    Csv(#[from] csv::Error),
    /// A row can not be written out as JSON.
    #[error("the JSON can not be written")]
    Json(#[from] serde_json::Error),
}

/// Writes the rows of the journal in `dir` that the filter lets through; `line` makes line protocol of a row, or nothing if
/// it has no field to be told. Says how many rows.
pub fn export(
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
        Format::Json => each(&mut reader, &selection, |row| {
            serde_json::to_writer(&mut out, row)?;
            out.write_all(b"\n")?;
            Ok(true)
        })?,
        Format::Line => each(&mut reader, &selection, |row| {
            let line = line(row);
            line.iter().try_for_each(|line| writeln!(out, "{line}"))?;
            Ok(line.is_some())
        })?,
    };
    out.flush()?;
    Ok(count)
}

fn open(dir: &Path) -> Result<Reader, ExportError> {
    let path = dir.join(folder::FILE);
    if !path.try_exists()? {
        return Err(ExportError::Missing(path));
    }
    Ok(Reader::open(&path.canonicalize()?)?)
}

/// The rows that are asked for, oldest first, and all their columns.
#[derive(Default)]
struct Selection {
    places: Vec<(Timestamp, i64)>,
    tags: BTreeSet<String>,
    fields: Vec<String>,
}

fn select(reader: &mut Reader, filter: &Filter) -> Result<Selection, JournalError> {
    let mut selection = Selection::default();
    let mut wanted = HashMap::new();
    let mut layouts = BTreeSet::new();
    let mut found = Vec::new();
    reader.places(|place| {
        if filter.covers(place.time) {
            found.push(place);
        }
        ControlFlow::Continue(())
    })?;
    for place in found {
        let wanted = if let Some(wanted) = wanted.get(&place.series) {
            *wanted
        } else {
            let series = reader.series(place.series)?.filter(|known| filter.wants(&known.series));
            selection.tags.extend(series.iter().flat_map(|known| known.series.tags().map(|(key, _)| key.to_owned())));
            *wanted.entry(place.series).or_insert(series.is_some())
        };
        if wanted {
            selection.places.push((place.time, place.position));
            layouts.insert(place.layout);
        }
    }
    for id in layouts {
        for name in reader.layout(id)?.iter().flat_map(|known| known.layout.names()) {
            if !selection.fields.iter().any(|known| known == name) {
                selection.fields.push(name.to_string());
            }
        }
    }
    selection.places.sort_unstable();
    Ok(selection)
}

impl Filter {
    fn covers(&self, time: Timestamp) -> bool {
        time >= self.since && self.until.is_none_or(|until| time < until)
    }

    fn wants(&self, series: &Series) -> bool {
        let is = |key, wanted: &Option<String>| wanted.is_none() || series.tag(key) == wanted.as_deref();
        is("kind", &self.kind) && is("probe", &self.probe) && is("target", &self.target)
    }
}

/// Hands over each row. Rows that retention took meanwhile are left out, and damaged ones, which are told.
fn each(reader: &mut Reader, selection: &Selection, mut write: impl FnMut(&Row) -> Result<bool, ExportError>) -> Result<u64, ExportError> {
    let (mut count, mut damaged) = (0, 0);
    for places in selection.places.chunks(CHUNK) {
        let positions: Vec<i64> = places.iter().map(|(_, position)| *position).collect();
        let found = reader.at(&positions)?;
        damaged += found.damaged.len();
        for stored in &found.rows {
            count += u64::from(write(&stored.row)?);
        }
    }
    if damaged > 0 {
        tracing::warn!(rows = damaged, "left out damaged rows");
    }
    Ok(count)
}

fn as_csv(reader: &mut Reader, selection: &Selection, out: impl Write) -> Result<u64, ExportError> {
    let mut csv = csv::Writer::from_writer(out);
    let own = ["time", "measurement"].into_iter();
    csv.write_record(own.chain(selection.tags.iter().map(String::as_str)).chain(selection.fields.iter().map(String::as_str)))?;
    let count = each(reader, selection, |row| {
        csv.write_record(record(selection, row))?;
        Ok(true)
    })?;
    csv.flush()?;
    Ok(count)
}

/// The cells of a row, empty where it has no such tag or field.
fn record(selection: &Selection, row: &Row) -> Vec<String> {
    let tags = selection.tags.iter().map(|key| row.series.tag(key).unwrap_or_default().to_owned());
    let fields = selection.fields.iter().map(|name| row.fields.get(name).map(ToString::to_string).unwrap_or_default());
    [row.time.to_string(), row.series.measurement().to_owned()].into_iter().chain(tags).chain(fields).collect()
}
