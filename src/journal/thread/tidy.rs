//! One step of retention between two commits: what is decided in [`retention`] is deleted, and losses are told once an episode.

use std::time::Duration;

use super::Engine;
use crate::clock::Timestamp;
use crate::journal::retention::{self, Facts, Step};
use crate::journal::shared::held;
use crate::journal::{JournalError, Position};

/// After this long without a loss for size, the next is told again.
const EPISODE: Duration = Duration::from_hours(1);

impl Engine {
    /// One step of retention. Says whether there is more to do.
    pub(super) fn tidy(&mut self, now: Option<Timestamp>) -> Result<bool, JournalError> {
        let (settings, delivered) = {
            let inbox = held(&self.shared.inbox);
            if !inbox.letters.refused.is_empty() {
                // Their rows are acknowledged, but not yet copied: the next commit comes first.
                return Ok(true);
            }
            let needed = inbox.outputs.values().filter(|output| output.removed.is_none());
            (inbox.settings.clone(), retention::delivered(needed.map(|output| &output.acknowledged)))
        };
        let Some(store) = &mut self.store else { return Ok(false) };
        if store.bytes()? > settings.max_size && !store.shrink()? {
            // A reader of another process is in the way. Deleting would only make the write-ahead file longer.
            return Ok(false);
        }
        let forget = retention::forget(store.counters().receipts, store.oldest_receipt()?, settings.max_size, now);
        let forgotten = forget.map_or(Ok(0), |forget| store.forget_receipts(forget.count, forget.before))?;
        let dropped = self.drop_letters(settings.max_size)?;
        let Some(store) = &mut self.store else { return Ok(false) };
        let first = store.first(&delivered)?;
        let facts = Facts {
            bytes: store.bytes()?,
            max_size: settings.max_size,
            now,
            max_age: settings.max_age,
            oldest_delivered: first.map(|first| first.time),
            rows: store.counters().rows,
        };
        let range = first.map_or((Position(1), Position(i64::MAX as u64)), |first| first.range);
        let any_time = Timestamp::from_nanos(i64::MAX);
        let deleted = match retention::decide(&facts) {
            Step::Nothing => 0,
            Step::TooOld(limit) => store.delete(range, retention::STEP, limit.minus(Duration::from_nanos(1)), false)?,
            Step::Delivered(count) => store.delete(range, count, any_time, false)?,
            Step::Undelivered(count) => {
                let lost = store.delete(range, count, any_time, true)?;
                self.tell_loss(lost);
                lost
            }
        };
        Ok(deleted + forgotten + dropped > 0)
    }

    fn tell_loss(&mut self, rows: u64) {
        if begins(&mut self.lost, self.shared.clock.now().mono) {
            tracing::error!(rows, "journal is full, dropping the oldest undelivered rows");
        }
    }

    /// Drops the dead letters that are too many, a step of them.
    fn drop_letters(&mut self, max_size: u64) -> Result<u64, JournalError> {
        let Some(store) = &mut self.store else { return Ok(0) };
        let letters = store.dead().values().map(|count| count.letters).sum();
        let over = retention::too_many_letters(letters, max_size);
        if over == 0 {
            return Ok(0);
        }
        let dropped = store.drop_letters(over)?;
        if begins(&mut self.dropped_letters, self.shared.clock.now().mono) {
            tracing::error!(letters, dropped, "too many dead letters, dropping the oldest");
        }
        Ok(dropped)
    }
}

/// Whether a loss at `now` is the first of an episode.
fn begins(last: &mut Option<Duration>, now: Duration) -> bool {
    last.replace(now).is_none_or(|before| now.saturating_sub(before) > EPISODE)
}
