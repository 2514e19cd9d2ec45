//! The series and layouts of the file, each with its number and its text. Many rows share one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, Transaction, params};

use super::encoding::Layout;
use super::reader::unaltered;
use crate::measurement::Series;

/// Number and text.
type Known = (i64, String);

/// What the file knows. After a transaction that failed it is not to be used again.
#[derive(Default)]
pub(super) struct Dictionary {
    series: HashMap<Series, Known>,
    layouts: HashMap<Layout, Known>,
}

impl Dictionary {
    /// Reads it.
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut dictionary = Self::default();
        for (id, key) in texts(conn, "SELECT id, key, crc FROM series")? {
            if let Ok(series) = Series::from_key(&key) {
                dictionary.series.insert(series, (id, key));
            }
        }
        for (id, text) in texts(conn, "SELECT id, text, crc FROM layout")? {
            if let Some(layout) = Layout::from_text(&text) {
                dictionary.layouts.insert(layout, (id, text));
            }
        }
        Ok(dictionary)
    }

    /// A series and a layout, which are written if they are new.
    pub(super) fn entries(&mut self, tx: &Transaction<'_>, series: &Series, layout: Layout) -> rusqlite::Result<(&Known, &Known)> {
        let layout = match self.layouts.entry(layout) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let text = new.key().text();
                let id = add(tx, "INSERT INTO layout (text, crc) VALUES (?1, ?2)", &text)?;
                new.insert((id, text))
            }
        };
        Ok((entry(&mut self.series, tx, series)?, layout))
    }

    /// A series, which is written if it is new.
    pub(super) fn series(&mut self, tx: &Transaction<'_>, series: &Series) -> rusqlite::Result<&Known> {
        entry(&mut self.series, tx, series)
    }
}

/// The texts that were not altered. One that was gets a new entry when it is needed again.
fn texts(conn: &Connection, sql: &str) -> rusqlite::Result<Vec<Known>> {
    let mut statement = conn.prepare(sql)?;
    let texts = statement.query_map([], |row| {
        let id = row.get(0)?;
        Ok(unaltered(row.get_ref(1)?, row.get_ref(2)?).map(|text| (id, text.to_owned())))
    })?;
    texts.filter_map(Result::transpose).collect()
}

fn entry<'a>(all: &'a mut HashMap<Series, Known>, tx: &Transaction<'_>, series: &Series) -> rusqlite::Result<&'a Known> {
    if !all.contains_key(series) {
        let key = series.key();
        let id = add(tx, "INSERT INTO series (key, crc) VALUES (?1, ?2)", &key)?;
        all.insert(series.clone(), (id, key));
    }
    Ok(&all[series])
}

fn add(tx: &Transaction<'_>, sql: &str, text: &str) -> rusqlite::Result<i64> {
    tx.execute(sql, params![text, crc32c::crc32c(text.as_bytes())])?;
    Ok(tx.last_insert_rowid())
}
