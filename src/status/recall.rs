//! After a start the board remembers, and in a mesh the pairs: the journal's last rows are read in the background, the newest first.

use super::Board;
use super::pairs::Pairs;
use crate::clock::Timestamp;
use crate::journal::{Journal, JournalError, Position};
use crate::measurement::Row;

/// Rows read in one go, so that those who deliver have their turn in between.
const CHUNK: u64 = 1_000;
/// Positions that are looked at in all.
const MOST: u64 = 100_000;

/// Puts rows of before `started` on the board, until it holds all that it keeps; to the pairs of a mesh, as many as are looked
/// at. Those that came since are there already.
pub async fn recall(board: &Board, pairs: Option<&Pairs>, journal: &Journal, started: Timestamp) -> Result<(), JournalError> {
    journal.readable().await;
    let tip = *journal.tip().borrow();
    let (first, mut upto) = (journal.first(), tip);
    while upto >= first && upto.0 > 0 && tip.0 - upto.0 < MOST && (pairs.is_some() || board.has_room()) {
        let after = Position(upto.0.saturating_sub(CHUNK));
        let stored = journal.read(after, upto, CHUNK as usize).await?;
        let rows: Vec<Row> = stored.into_iter().map(|stored| stored.row).filter(|row| row.time < started).collect();
        board.recall(&rows);
        // Also within a chunk the newest first: of rows with the same time it is the better one.
        if let Some(pairs) = pairs {
            rows.iter().rev().for_each(|row| pairs.observe(row, None));
        }
        upto = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{at, ok, series};
    use super::*;
    use crate::clock::Clock;
    use crate::journal::{Mode, Settings};

    #[tokio::test(start_paused = true)]
    async fn after_a_restart_the_last_rows_are_there_again_and_those_of_now_win() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { flush: Duration::ZERO, max_size: 1 << 26, max_age: Duration::from_hours(1) };
        let journal = Journal::open(dir.path(), settings, Clock::virtual_from(at(5_000)), Mode::Inline).unwrap();
        // Two chunks and a bit of a busy series, and one row of a quiet one at the very beginning.
        journal.append(vec![ok("quiet", 1, 7.0)]);
        journal.append((0..2_500).map(|n| ok("busy", n, n as f64)).collect());
        journal.append(vec![ok("busy", 4_000, 1.0)]);

        let board = Board::default();
        board.schedule(&[series("quiet"), series("busy")]);
        board.observe(&ok("busy", 4_000, 1.0));
        recall(&board, None, &journal, at(4_000)).await.unwrap();

        let busy = board.of(&series("busy")).unwrap();
        let values = busy.recent().values();
        assert_eq!((values.len(), values[57], values[58], values[59]), (60, Some(2_498.0), Some(2_499.0), Some(1.0)));
        assert_eq!(board.of(&series("quiet")).unwrap().last().unwrap().time, at(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_journal_has_nothing_to_remember() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { flush: Duration::ZERO, max_size: 1 << 26, max_age: Duration::from_hours(1) };
        let journal = Journal::open(dir.path(), settings, Clock::virtual_from(at(5_000)), Mode::Inline).unwrap();
        let board = Board::default();
        board.schedule(&[series("a")]);
        recall(&board, None, &journal, at(4_000)).await.unwrap();
        assert!(board.of(&series("a")).unwrap().last().is_none());
    }
}
