//! Reads the journal beside its writer, also from another process. Nothing altered leaves here.
//!
//! Every look is a short transaction of its own, so that the write-ahead file can be emptied in between.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params};

use super::encoding::{self, Layout};
use super::letter::Round;
use super::salvage::sound;
use super::{JournalError, Position, Stored, failed, schema};
use crate::clock::Timestamp;
use crate::measurement::{Row, Series};

mod chosen;

/// Rows read in one transaction.
const CHUNK: usize = 2_000;
/// Rows looked at in one transaction when only their times are of interest.
const SCAN: usize = 10_000;

/// A connection that only reads, with the series and layouts that it has met.
pub(super) struct Reader {
    conn: Connection,
    path: PathBuf,
    series: HashMap<i64, Arc<KnownSeries>>,
    layouts: HashMap<i64, Arc<KnownLayout>>,
    /// Up to here, positions without a row were looked into: there is none.
    whole: Position,
}

/// A series of the file, whose text was not altered.
pub(super) struct KnownSeries {
    /// The series.
    pub(super) series: Series,
    key: String,
}

/// A layout of the file, whose text was not altered.
pub(super) struct KnownLayout {
    /// The layout.
    pub(super) layout: Layout,
    text: String,
}

/// Rows, and the positions of those that are not what was written.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What was written.
    pub(super) rows: Vec<Stored>,
    /// What was not.
    pub(super) damaged: Vec<u64>,
}

/// A dead letter, for people.
#[derive(Debug)]
pub(super) struct Dead {
    /// Its number in the file.
    pub(super) id: i64,
    /// Who refused it.
    pub(super) output: String,
    /// Why.
    pub(super) reason: String,
    /// When, the last time.
    pub(super) refused: Timestamp,
    /// The row; none if it was altered.
    pub(super) row: Option<Row>,
}

/// Where and when a row is, and what it is about, unchecked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its position.
    pub(super) position: i64,
    /// Its series in the file.
    pub(super) series: i64,
    /// Its layout in the file.
    pub(super) layout: i64,
    /// Its time.
    pub(super) time: Timestamp,
}

/// A row as it lies in the file. A part that is not of its type is damage, no error.
#[derive(Debug, PartialEq)]
pub(super) struct Raw {
    /// Its position.
    pub(super) position: i64,
    /// Series, time, layout, checksum and body.
    pub(super) parts: Option<(i64, i64, i64, u32, Vec<u8>)>,
}

impl Reader {
    /// Opens the file, which has to be there.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        Ok(Self::over(schema::reader(path)?, path))
    }

    /// Reads through this connection.
    pub(super) fn over(conn: Connection, path: &Path) -> Self {
        Self { conn, path: path.to_owned(), series: HashMap::new(), layouts: HashMap::new(), whole: Position(0) }
    }

    /// At most `limit` rows after `after`, up to and with `upto`. Fewer only if there are no more.
    pub(super) fn rows(&mut self, after: Position, upto: Position, limit: usize) -> Result<Found, JournalError> {
        let mut found = Found::default();
        let mut after = i64::try_from(after.0).unwrap_or(i64::MAX);
        while found.rows.len() < limit {
            let wanted = CHUNK.min(limit - found.rows.len());
            let (chunk, has_gap) = self.next(after, upto.0 as i64, wanted)?;
            // A page that is damaged may end the search too early, and nothing would ever tell of its rows.
            if has_gap && self.whole < upto {
                sound::check_rows(&self.conn, &self.path)?;
                self.whole = upto;
            }
            let read = chunk.len();
            after = chunk.last().map_or(after, |raw| raw.position);
            for raw in chunk {
                let position = Position(raw.position as u64);
                match self.check(&raw)? {
                    Some(row) => found.rows.push(Stored { position, row }),
                    None => found.damaged.push(position.0),
                }
            }
            if read < wanted {
                break;
            }
        }
        Ok(found)
    }

    /// The rows at these positions; those that are gone are left out.
    pub(super) fn at(&mut self, positions: &[i64]) -> Result<Found, JournalError> {
        let raws = self.pick(positions).map_err(failed("reading rows"))?;
        self.sort_out(raws)
    }

    fn sort_out(&mut self, raws: Vec<Raw>) -> Result<Found, JournalError> {
        let mut found = Found::default();
        for raw in raws {
            let position = Position(raw.position as u64);
            match self.check(&raw)? {
                Some(row) => found.rows.push(Stored { position, row }),
                None => found.damaged.push(position.0),
            }
        }
        Ok(found)
    }

    /// The oldest round of an output that is not over.
    pub(super) fn round(&self, output: &str) -> Result<Option<Round>, JournalError> {
        let sql = "SELECT requeued, max(position) FROM dead WHERE output = ?1 AND requeued =
            (SELECT min(requeued) FROM dead WHERE output = ?1) GROUP BY requeued";
        let round = self.conn.query_row(sql, [output], |row| {
            let last: i64 = row.get(1)?;
            Ok(Round { number: row.get(0)?, last: Position(last as u64) })
        });
        round.optional().map_err(failed("looking for dead letters"))
    }

    /// At most `limit` letters of a round after `after`, up to and with `upto`, in order of position.
    pub(super) fn letters(
        &mut self,
        output: &str,
        round: i64,
        (after, upto): (Position, Position),
        limit: usize,
    ) -> Result<Found, JournalError> {
        let sql = "SELECT position, series, time, layout, crc, body FROM dead
            WHERE output = ?1 AND requeued = ?2 AND position > ?3 AND position <= ?4 ORDER BY position LIMIT ?5";
        let mut found = Found::default();
        let mut after = i64::try_from(after.0).unwrap_or(i64::MAX);
        // Fewer than asked for means that there are no more, so damaged ones are made up for.
        while found.rows.len() < limit {
            let wanted = limit - found.rows.len();
            let read = || {
                let mut statement = self.conn.prepare(sql)?;
                statement.query_map(params![output, round, after, upto.0 as i64, wanted as i64], raw)?.collect()
            };
            let raws: rusqlite::Result<Vec<Raw>> = read();
            let raws = raws.map_err(failed("reading dead letters"))?;
            let is_last = raws.len() < wanted;
            after = raws.last().map_or(after, |raw| raw.position);
            let more = self.sort_out(raws)?;
            found.rows.extend(more.rows);
            found.damaged.extend(more.damaged);
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    /// At most `limit` dead letters of all outputs after `after`, in the order in which they were refused first.
    pub(super) fn dead(&mut self, after: i64, limit: usize) -> Result<Vec<Dead>, JournalError> {
        let read = || {
            if !self.conn.table_exists(None, "dead")? {
                // A file of an earlier version, which no later qosd has written yet.
                return Ok(Vec::new());
            }
            let sql = "SELECT position, series, time, layout, crc, body, id, output, reason, refused FROM dead
                WHERE id > ?1 ORDER BY id LIMIT ?2";
            let mut statement = self.conn.prepare(sql)?;
            let letters = statement.query_map(params![after, limit as i64], |row| {
                let refused = Timestamp::from_nanos(row.get(9)?);
                Ok((raw(row)?, Dead { id: row.get(6)?, output: row.get(7)?, reason: row.get(8)?, refused, row: None }))
            })?;
            letters.collect()
        };
        let found: rusqlite::Result<Vec<(Raw, Dead)>> = read();
        let letters = found.map_err(failed("reading dead letters"))?;
        letters.into_iter().map(|(raw, dead)| Ok(Dead { row: self.check(&raw)?, ..dead })).collect()
    }

    /// Visits the places of all rows, the first first.
    pub(super) fn places(&self, mut visit: impl FnMut(Place) -> ControlFlow<()>) -> Result<(), JournalError> {
        let sql = "SELECT position, series, layout, time FROM row WHERE position > ?1 ORDER BY position LIMIT ?2";
        let mut after = 0;
        loop {
            let chunk = self.scan(sql, after).map_err(failed("looking through the rows"))?;
            let Some(last) = chunk.last() else { return Ok(()) };
            after = last.position;
            if chunk.into_iter().try_for_each(&mut visit).is_break() {
                return Ok(());
            }
        }
    }

    /// The first position with a row of this time or later.
    pub(super) fn first_since(&self, since: Timestamp) -> Result<Option<Position>, JournalError> {
        let mut first = None;
        self.places(|place| {
            if place.time < since {
                return ControlFlow::Continue(());
            }
            first = Some(Position(place.position as u64));
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    /// The places of the newest rows, the last first, for as long as they are asked for.
    pub(super) fn places_back(&self, mut visit: impl FnMut(Place) -> ControlFlow<()>) -> Result<(), JournalError> {
        let sql = "SELECT position, series, layout, time FROM row WHERE position < ?1 ORDER BY position DESC LIMIT ?2";
        let mut before = i64::MAX;
        loop {
            let chunk = self.scan(sql, before).map_err(failed("looking through the rows"))?;
            let Some(last) = chunk.last() else { return Ok(()) };
            before = last.position;
            if chunk.into_iter().try_for_each(&mut visit).is_break() {
                return Ok(());
            }
        }
    }

    /// A series; none if it is not there or was altered.
    pub(super) fn series(&mut self, id: i64) -> Result<Option<Arc<KnownSeries>>, JournalError> {
        if let Some(known) = self.series.get(&id) {
            return Ok(Some(Arc::clone(known)));
        }
        let text = self.text("SELECT key, crc FROM series WHERE id = ?1", id).map_err(failed("reading a series"))?;
        let known = text.and_then(|key| Series::from_key(&key).ok().map(|series| Arc::new(KnownSeries { series, key })));
        Ok(known.inspect(|known| drop(self.series.insert(id, Arc::clone(known)))))
    }

    /// A layout; none if it is not there or was altered.
    pub(super) fn layout(&mut self, id: i64) -> Result<Option<Arc<KnownLayout>>, JournalError> {
        if let Some(known) = self.layouts.get(&id) {
            return Ok(Some(Arc::clone(known)));
        }
        let text = self.text("SELECT text, crc FROM layout WHERE id = ?1", id).map_err(failed("reading a layout"))?;
        let known = text.and_then(|text| Layout::from_text(&text).map(|layout| Arc::new(KnownLayout { layout, text })));
        Ok(known.inspect(|known| drop(self.layouts.insert(id, Arc::clone(known)))))
    }

    /// The row, if it is what was written.
    pub(super) fn check(&mut self, raw: &Raw) -> Result<Option<Row>, JournalError> {
        let Some((series, time, layout, crc, body)) = &raw.parts else { return Ok(None) };
        let (Some(series), Some(layout)) = (self.series(*series)?, self.layout(*layout)?) else { return Ok(None) };
        let time = Timestamp::from_nanos(*time);
        if encoding::checksum(&series.key, &layout.text, time, body) != *crc {
            return Ok(None);
        }
        Ok(encoding::decode(&layout.layout, body).map(|fields| Row { series: series.series.clone(), time, fields }))
    }

    /// The next rows, and whether there are positions without one. Fails if downwards others are found than upwards: then what
    /// leads to them is damaged.
    fn next(&self, after: i64, upto: i64, wanted: usize) -> Result<(Vec<Raw>, bool), JournalError> {
        let reading = failed("reading rows");
        // In one transaction, as retention may delete between two.
        let _look = self.conn.unchecked_transaction().map_err(&reading)?;
        let chunk = self.chunk(after, upto, wanted).map_err(&reading)?;
        let last = if chunk.len() < wanted { upto } else { chunk.last().map_or(after, |raw| raw.position) };
        let has_gap = last > after && last - after != chunk.len() as i64;
        let is_same = || self.downwards(after, last, wanted).map(|positions| chunk.iter().rev().map(|raw| raw.position).eq(positions));
        if !chunk.is_sorted_by(|one, other| one.position < other.position) || (has_gap && !is_same().map_err(reading)?) {
            return Err(sound::damaged(&self.path, format!("its rows behind {after} are out of order")));
        }
        Ok((chunk, has_gap))
    }

    /// One more than wanted shows that there are too many.
    fn downwards(&self, after: i64, upto: i64, wanted: usize) -> rusqlite::Result<Vec<i64>> {
        let sql = "SELECT position FROM row WHERE position > ?1 AND position <= ?2 ORDER BY position DESC LIMIT ?3";
        let mut statement = self.conn.prepare(sql)?;
        statement.query_map(params![after, upto, wanted as i64 + 1], |row| row.get(0))?.collect()
    }

    fn chunk(&self, after: i64, upto: i64, limit: usize) -> rusqlite::Result<Vec<Raw>> {
        let sql =
            "SELECT position, series, time, layout, crc, body FROM row WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3";
        let mut statement = self.conn.prepare(sql)?;
        statement.query_map(params![after, upto, limit as i64], raw)?.collect()
    }

    fn pick(&self, positions: &[i64]) -> rusqlite::Result<Vec<Raw>> {
        let mut statement = self.conn.prepare("SELECT position, series, time, layout, crc, body FROM row WHERE position = ?1")?;
        positions.iter().filter_map(|position| statement.query_row([position], raw).optional().transpose()).collect()
    }

    fn scan(&self, sql: &str, from: i64) -> rusqlite::Result<Vec<Place>> {
        let mut statement = self.conn.prepare(sql)?;
        let places = statement.query_map(params![from, SCAN as i64], |row| {
            let time = Timestamp::from_nanos(row.get(3)?);
            Ok(Place { position: row.get(0)?, series: row.get(1)?, layout: row.get(2)?, time })
        })?;
        places.collect()
    }

    fn text(&self, sql: &str, id: i64) -> rusqlite::Result<Option<String>> {
        let text = self.conn.query_row(sql, [id], |row| Ok(unaltered(row.get_ref(0)?, row.get_ref(1)?).map(str::to_owned)));
        Ok(text.optional()?.flatten())
    }
}

/// A text with its own checksum.
pub(super) fn unaltered<'a>(text: ValueRef<'a>, crc: ValueRef<'_>) -> Option<&'a str> {
    let text = text.as_str().ok()?;
    (crc.as_i64() == Ok(i64::from(crc32c::crc32c(text.as_bytes())))).then_some(text)
}

/// A row as it lies in the file, out of `position, series, time, layout, crc, body`.
pub(super) fn raw(row: &rusqlite::Row<'_>) -> rusqlite::Result<Raw> {
    let integer = |index| row.get_ref(index).ok().and_then(|value| value.as_i64().ok());
    let parts = || {
        let crc = i32::try_from(integer(4)?).ok()?.cast_unsigned();
        let body = row.get_ref(5).ok()?.as_blob().ok()?.to_owned();
        Some((integer(1)?, integer(2)?, integer(3)?, crc, body))
    };
    Ok(Raw { position: row.get(0)?, parts: parts() })
}
