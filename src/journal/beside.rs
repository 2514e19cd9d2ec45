//! Reads the journal beside delivery, for who reads much of it and makes something else of it.
//!
//! It has a connection of its own, which is closed whenever the writer opens the file anew, and sees only the file that the
//! writer has open: positions in any other may be about to change. Each look is a short transaction.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use super::reader::Reader;
use super::salvage::sound;
use super::shared::{Shared, held};
use super::{JournalError, Position, Settings, Stored};
use crate::clock::Timestamp;
use crate::measurement::Series;

/// Rows looked at in one go.
const CHUNK: usize = 2_000;

/// A handle that keeps no journal open: once that is closed, nothing is found any more.
#[derive(Clone)]
pub(crate) struct Beside(Weak<Shared>);

impl Beside {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    /// The position of the last durable row.
    pub(crate) fn tip(&self) -> Result<Position, JournalError> {
        Ok(*self.shared()?.tip.borrow())
    }

    /// How many rows there are after a position, but for those that are gone from in between: of what the journal dropped at its
    /// beginning none is counted.
    pub(crate) fn behind(&self, position: Position) -> Result<u64, JournalError> {
        let shared = self.shared()?;
        let before = held(&shared.stats).first.0.saturating_sub(1);
        let tip = shared.tip.borrow().0;
        Ok(tip.saturating_sub(position.0.max(before)))
    }

    /// The settings that are in force.
    pub(crate) fn settings(&self) -> Result<Settings, JournalError> {
        Ok(held(&self.shared()?.inbox).settings.clone())
    }

    /// The journal's folder, if it is there and ours.
    pub(crate) fn folder(&self) -> Result<PathBuf, JournalError> {
        let shared = self.shared()?;
        let file = shared.folder.file().filter(|_| shared.folder.is_in_place()).ok_or_else(|| shared.failing())?;
        Ok(file.parent().ok_or(JournalError::Gone)?.to_owned())
    }

    /// Which file it is: a number that is drawn once. Positions of different files have nothing to do with each other.
    pub(crate) fn file(&self) -> Result<i64, JournalError> {
        let shared = self.shared()?;
        let file = *held(&shared.file);
        file.ok_or_else(|| shared.failing())
    }

    /// The next rows of the series that are wanted, and up to where that is all: not far, so that it is to be asked again.
    pub(crate) fn next(
        &self,
        (after, upto): (Position, Position),
        wanted: &mut dyn FnMut(&Series) -> bool,
    ) -> Result<(Vec<Stored>, Position), JournalError> {
        self.ask(|reader| reader.chosen((after, upto), CHUNK, wanted))
    }

    /// The positions of rows of the series that are wanted before one, from a time on, the last first, and where to go on: nowhere
    /// if rows of series that are timely say that there is nothing before.
    pub(crate) fn back(
        &self,
        before: Position,
        since: Timestamp,
        wanted: &mut dyn FnMut(&Series) -> bool,
        timely: &mut dyn FnMut(&Series) -> bool,
    ) -> Result<(Vec<Position>, Option<Position>), JournalError> {
        let (found, next) = self.ask(|reader| reader.chosen_before(before, since, wanted, timely))?;
        Ok((found.into_iter().map(|position| Position(position as u64)).collect(), next))
    }

    /// Where the first row after a position stands, and when it was.
    pub(crate) fn first_after(&self, position: Position) -> Result<Option<(Position, Timestamp)>, JournalError> {
        self.ask(|reader| reader.first_after(position))
    }

    /// The rows at these positions, and whether all of them are there still.
    pub(crate) fn at(&self, positions: &[Position]) -> Result<(Vec<Stored>, bool), JournalError> {
        let (mut rows, mut is_whole) = (Vec::with_capacity(positions.len()), true);
        for chunk in positions.chunks(CHUNK) {
            let chunk: Vec<i64> = chunk.iter().map(|position| position.0 as i64).collect();
            let (found, whole) = self.ask(|reader| reader.all_at(&chunk))?;
            rows.extend(found);
            is_whole &= whole;
        }
        Ok((rows, is_whole))
    }

    fn ask<T>(&self, question: impl FnOnce(&mut Reader) -> Result<T, JournalError>) -> Result<T, JournalError> {
        let shared = self.shared()?;
        let mut slot = held(&shared.beside);
        let mut reader = match slot.take() {
            Some(reader) => reader,
            None => open(&shared)?,
        };
        let answer = question(&mut reader);
        match &answer {
            Ok(_) => *slot = Some(reader),
            // As after any other look that meets it: the writer looks closer, and at once.
            Err(error) if sound::is_damage(error) => {
                held(&shared.inbox).suspect(shared.clock.now().mono);
                shared.wake.notify_all();
            }
            Err(_) => {}
        }
        answer
    }

    fn shared(&self) -> Result<Arc<Shared>, JournalError> {
        self.0.upgrade().ok_or(JournalError::Stopped)
    }
}

fn open(shared: &Shared) -> Result<Reader, JournalError> {
    let file = *held(&shared.file);
    let wanted = file.ok_or_else(|| shared.failing())?;
    let reader = Reader::open(&shared.folder.file().ok_or(JournalError::Gone)?)?;
    if reader.id()? == Some(wanted) { Ok(reader) } else { Err(JournalError::Gone) }
}
