//! What the store does with dead letters outside of what a batch brings: rounds begin, and the oldest are dropped.

use rusqlite::Transaction;

use super::{Counters, Store, keep_counters};
use crate::journal::letter::Requeue;
use crate::journal::{JournalError, failed, letters};

impl Store {
    /// Makes the dead letters of an output, or of all, a round, when no qosd runs. Says how many they are.
    pub(in crate::journal) fn requeue(&mut self, output: Option<&str>) -> Result<u64, JournalError> {
        let mut round = || {
            let tx = self.conn.transaction()?;
            let mut counters = self.counters;
            counters.requeues += 1;
            let count = letters::requeue(&tx, output, counters.requeues as i64)?;
            keep_counters(&tx, counters)?;
            tx.commit()?;
            self.counters = counters;
            Ok(count)
        };
        round().map_err(failed("requeuing dead letters"))
    }

    /// Drops the oldest dead letters.
    pub(in crate::journal) fn drop_letters(&mut self, count: u64) -> Result<u64, JournalError> {
        let mut drop_oldest = || {
            let tx = self.conn.transaction()?;
            let dropped = letters::drop_oldest(&tx, count)?;
            let dead = letters::count(&tx)?;
            let counters = Counters { dropped_dead: self.counters.dropped_dead + dropped, ..self.counters };
            keep_counters(&tx, counters)?;
            tx.commit()?;
            self.counters = counters;
            self.dead = dead;
            Ok(dropped)
        };
        drop_oldest().map_err(failed("dropping dead letters"))
    }
}

/// Each wish is a round of its own. Says how many letters each is.
pub(super) fn requeue(tx: &Transaction<'_>, wishes: &[Requeue], counters: &mut Counters) -> rusqlite::Result<Vec<u64>> {
    let round = |wish: &Requeue| {
        counters.requeues += 1;
        letters::requeue(tx, wish.output.as_deref(), counters.requeues as i64)
    };
    wishes.iter().map(round).collect()
}
