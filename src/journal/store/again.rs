//! Opening the file again, after a commit failed or it was taken away.

use std::path::Path;

use rusqlite::Connection;

use super::Store;
use super::counters::{Counters, keep_counters, meta};
use super::outputs::read_outputs;
use crate::journal::{JournalError, Position, failed, schema};

/// The file as it was when all was well, for who opens it again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::journal) struct Before {
    /// Which file, drawn when it was made.
    pub(in crate::journal) id: i64,
    /// The last durable row.
    pub(in crate::journal) tip: Position,
    /// What it counted.
    pub(in crate::journal) counters: Counters,
    /// Dead letters in it.
    pub(in crate::journal) letters: u64,
}

impl Store {
    /// Opens the file after a commit failed.
    ///
    /// The kernel reports a failed sync once and may then call lost pages clean, so no later sync of the write-ahead file
    /// means anything. What it holds is written into the main file anew, synced there, and the write-ahead file is emptied:
    /// only then is the file trusted again. Rows above the last that was known to be durable were in the commit that failed
    /// and still wait in memory: they are taken out, so that the next commit writes them for good.
    ///
    /// If it is another file, see [`Store::follow`].
    pub(in crate::journal) fn reopen(path: &Path, max_size: u64, before: &Before) -> Result<Self, JournalError> {
        let mut store = Self::open(path, max_size)?;
        if store.id != before.id {
            if store.is_salvaged_from(before).map_err(failed("reading the file"))? {
                return Ok(store);
            }
            store.follow(before).map_err(failed("following another file"))?;
            return Ok(store);
        }
        let emptied = schema::checkpoint(&store.conn).map_err(failed("emptying the write-ahead file"));
        if !matches!(emptied, Ok(true)) {
            // Closing would try the same again, on the handle that failed.
            store.close_untrusted();
            return Err(emptied.err().unwrap_or(JournalError::Held));
        }
        let lost = before.tip.0.saturating_sub(store.tip.0);
        if lost > 0 {
            let counters = Counters { dropped_gone: store.counters.dropped_gone + lost, ..store.counters };
            // Durable at once: a kill before the next row must not give a position twice.
            let mut write = || {
                let tx = store.conn.transaction()?;
                go_on_behind(&tx, before.tip, counters)?;
                tx.commit()
            };
            write().map_err(failed("going on behind lost rows"))?;
            store.counters = counters;
            tracing::error!(rows = lost, "journal lost rows that were durable");
        }
        // The commit that failed may have got this far: what it counted is counted again with what it gave back.
        store.counters.dropped_memory = before.counters.dropped_memory;
        store.tip = before.tip;
        store.leftovers = true;
        Ok(store)
    }

    /// Whether this is what read right in that file, and could not be opened when it was made. It has nothing of a failed commit.
    fn is_salvaged_from(&self, before: &Before) -> rusqlite::Result<bool> {
        Ok(self.tip >= before.tip && meta(&self.conn, schema::SALVAGED_FROM)? == Some(before.id))
    }

    /// Takes the place of a file that was taken away: the rows of that are lost and counted, its losses are remembered here if
    /// this one is new, and positions go on above those of both, so that no output mistakes a row of this for one that it has.
    ///
    /// It may be an older journal, with rows that an output lacks: they go above, too, as the outputs know positions of the other file.
    fn follow(&mut self, before: &Before) -> rusqlite::Result<()> {
        let is_new = self.counters.rows == 0 && self.tip <= before.tip;
        let known = if is_new { Counters { rows: 0, receipts: 0, ..before.counters } } else { self.counters };
        let (dropped_gone, dropped_dead) = (known.dropped_gone + before.counters.rows, known.dropped_dead + before.letters);
        let counters = Counters { dropped_gone, dropped_dead, ..known };
        let tx = self.conn.transaction()?;
        let both = self.tip.max(before.tip);
        let pending = raise_pending(&tx, both)?;
        let tip = if pending > 0 { Position(both.0 + self.tip.0) } else { both };
        go_on_behind(&tx, tip, counters)?;
        tx.commit()?;
        (self.tip, self.counters, self.follows) = (tip, counters, true);
        let (rows, letters) = (before.counters.rows, before.letters);
        tracing::error!(rows, letters, pending, "journal was taken away, another takes its place");
        Ok(())
    }

    /// The file as it is, all being well.
    pub(in crate::journal) fn now(&self) -> Before {
        let letters = self.dead.values().map(|count| count.letters).sum();
        Before { id: self.id, tip: self.tip, counters: self.counters, letters }
    }
}

/// Adds to the positions of the rows that some output may lack, by what the file knows of its outputs. Says how many they are.
fn raise_pending(tx: &Connection, by: Position) -> rusqlite::Result<u64> {
    let outputs = read_outputs(tx)?;
    let floors = outputs.values().filter(|output| output.removed.is_none()).map(|output| output.acknowledged.floor());
    let Some(floor) = floors.min() else { return Ok(0) };
    let raised = tx.execute("UPDATE row SET position = position + ?1 WHERE position > ?2", [by.0 as i64, floor.0 as i64])?;
    Ok(raised as u64)
}

/// The next row comes behind this position, and this is what is counted.
fn go_on_behind(tx: &Connection, tip: Position, counters: Counters) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM sqlite_sequence WHERE name = 'row'", [])?;
    tx.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('row', ?1)", [tip.0 as i64])?;
    keep_counters(tx, counters)
}
