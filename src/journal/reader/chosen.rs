//! Looks for rows of some series among all, for who has others to ask if a row is not found.

use rusqlite::OptionalExtension;

use super::{Found, Place, Reader};
use crate::clock::Timestamp;
use crate::journal::{JournalError, Position, Stored, failed};
use crate::measurement::Series;

impl Reader {
    /// Which file this is.
    pub(in crate::journal) fn id(&self) -> Result<Option<i64>, JournalError> {
        let find = || self.conn.query_row("SELECT value FROM meta WHERE name = 'id'", [], |row| row.get(0)).optional();
        find().map_err(failed("reading which file it is"))
    }

    /// Looks at the next `most` rows up to and with `upto`: those of the series that are wanted, and how far it looked. What is
    /// not wanted is not decoded; what is not what was written is left out.
    pub(in crate::journal) fn chosen(
        &mut self,
        (after, upto): (Position, Position),
        most: usize,
        wanted: &mut dyn FnMut(&Series) -> bool,
    ) -> Result<(Vec<Stored>, Position), JournalError> {
        let chunk = self.chunk(after.0 as i64, upto.0 as i64, most).map_err(failed("reading rows"))?;
        let end = if chunk.len() < most { upto } else { chunk.last().map_or(upto, |raw| Position(raw.position as u64)) };
        let mut found = Vec::new();
        for raw in chunk {
            let Some(series) = raw.parts.as_ref().map(|parts| parts.0) else { continue };
            if self.is_wanted(series, wanted)? {
                let row = self.check(&raw)?;
                found.extend(row.map(|row| Stored { position: Position(raw.position as u64), row }));
            }
        }
        Ok((found, end))
    }

    /// Looks at the newest places before one: the positions of the series that are wanted from a time on, the last first, and
    /// where to go on; nowhere if there are no more, or all that it looked at was older and some of it of a series that is
    /// timely: whose rows come soon after their time.
    pub(in crate::journal) fn chosen_before(
        &mut self,
        before: Position,
        since: Timestamp,
        wanted: &mut dyn FnMut(&Series) -> bool,
        timely: &mut dyn FnMut(&Series) -> bool,
    ) -> Result<(Vec<i64>, Option<Position>), JournalError> {
        let sql = "SELECT position, series, layout, time FROM row WHERE position < ?1 ORDER BY position DESC LIMIT ?2";
        let places = self.scan(sql, before.0.min(i64::MAX as u64) as i64).map_err(failed("looking through the rows"))?;
        let mut is_over = false;
        if places.iter().all(|place| place.time < since) {
            for place in &places {
                is_over = is_over || self.is_wanted(place.series, timely)?;
            }
        }
        let next = places.last().filter(|_| !is_over).map(|last| Position(last.position as u64));
        let mut found = Vec::new();
        for Place { position, series, time, .. } in places {
            if time >= since && self.is_wanted(series, wanted)? {
                found.push(position);
            }
        }
        Ok((found, next))
    }

    /// Where the first row after a position stands, and when it was, by what stands beside it: none if there is no such row.
    pub(in crate::journal) fn first_after(&self, position: Position) -> Result<Option<(Position, Timestamp)>, JournalError> {
        let sql = "SELECT position, time FROM row WHERE position > ?1 ORDER BY position LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| Ok((Position(row.get::<_, i64>(0)? as u64), Timestamp::from_nanos(row.get(1)?)));
        let find = || self.conn.query_row(sql, [position.0.min(i64::MAX as u64) as i64], read).optional();
        find().map_err(failed("looking for a row"))
    }

    /// The rows at these positions, and whether all of them are there still.
    pub(in crate::journal) fn all_at(&mut self, positions: &[i64]) -> Result<(Vec<Stored>, bool), JournalError> {
        let Found { rows, damaged } = self.at(positions)?;
        let is_whole = rows.len() + damaged.len() == positions.len();
        Ok((rows, is_whole))
    }

    fn is_wanted(&mut self, series: i64, wanted: &mut dyn FnMut(&Series) -> bool) -> Result<bool, JournalError> {
        Ok(self.series(series)?.is_some_and(|known| wanted(&known.series)))
    }
}
