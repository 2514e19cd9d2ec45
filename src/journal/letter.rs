//! Dead letters: rows that an output refused alone. What is said about them, and what waits for the next commit. Pure.
//!
//! A letter and the acknowledgement of its row are in one commit, so a crash leaves both or neither. A letter that is requeued
//! gets the number of that round; once the round is over it is either delivered and gone, or refused again and dead again.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::acknowledged::Acknowledged;
use super::{JournalError, Position};
use crate::clock::Timestamp;

/// A row that an output does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Which.
    pub position: Position,
    /// What the output said, in one short line.
    pub reason: String,
}

/// The dead letters of an output that were requeued together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Its number: no two have the same.
    pub number: i64,
    /// The last position in it.
    pub last: Position,
}

/// How many dead letters an output has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeadCount {
    /// All of them.
    pub letters: u64,
    /// Those that were requeued and are on their way.
    pub requeued: u64,
}

/// Why a row is a dead letter, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// What the output said.
    pub(super) reason: String,
    /// When.
    pub(super) at: Timestamp,
}

/// What became of the letters of a round so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Those that were refused again.
    pub(super) refused: BTreeMap<Position, Refused>,
    /// Those, and the ones that were delivered.
    pub(super) acknowledged: Acknowledged,
}

/// A wish to requeue, and who waits for its answer.
#[derive(Debug)]
pub(super) struct Requeue {
    /// The letters of this output; none = of all.
    pub(super) output: Option<String>,
    /// Told how many they were.
    pub(super) tell: oneshot::Sender<Result<u64, JournalError>>,
}

/// What waits for the next commit.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// New ones.
    pub(super) refused: BTreeMap<(String, Position), Refused>,
    /// What became of rounds, by output and number.
    pub(super) settled: BTreeMap<(String, i64), Settled>,
    /// Wishes to requeue.
    pub(super) requeues: Vec<Requeue>,
}

impl Letters {
    /// Whether there is nothing to make durable.
    pub(super) fn is_empty(&self) -> bool {
        self.refused.is_empty() && self.settled.is_empty() && self.requeues.is_empty()
    }

    /// New letters that wait.
    pub(super) fn len(&self) -> usize {
        self.refused.len() + self.settled.values().map(|settled| settled.refused.len()).sum::<usize>()
    }

    /// New ones of an output.
    pub(super) fn bury(&mut self, output: &str, letters: Vec<DeadLetter>, at: Timestamp) {
        let new = |DeadLetter { position, reason }| ((output.to_owned(), position), Refused { reason, at });
        self.refused.extend(letters.into_iter().map(new));
    }

    /// What became of a round: `acknowledged` replaces what was said before, `letters` are refused again.
    pub(super) fn settle(&mut self, output: &str, round: i64, acknowledged: Acknowledged, letters: Vec<DeadLetter>, at: Timestamp) {
        let settled = self.settled.entry((output.to_owned(), round)).or_default();
        settled.acknowledged = acknowledged;
        settled.refused.extend(letters.into_iter().map(|DeadLetter { position, reason }| (position, Refused { reason, at })));
    }

    /// Whether the outcome of a round of this output waits.
    pub(super) fn is_settling(&self, output: &str) -> bool {
        self.settled.keys().any(|(name, _)| name == output)
    }

    /// Those of a commit that failed wait again; what was said since is newer.
    pub(super) fn give_back(&mut self, failed: Self) {
        for (key, refused) in failed.refused {
            self.refused.entry(key).or_insert(refused);
        }
        for (key, before) in failed.settled {
            let settled = self.settled.entry(key).or_insert_with(|| Settled { acknowledged: before.acknowledged, ..Settled::default() });
            for (position, refused) in before.refused {
                settled.refused.entry(position).or_insert(refused);
            }
        }
        self.requeues.extend(failed.requeues);
    }

    /// Their rows are gone: wishes alone stay.
    pub(super) fn forget_positions(&mut self) {
        self.refused.clear();
        self.settled.clear();
    }

    /// Tells whoever wished to requeue that it can not be done.
    pub(super) fn refuse_requeues(&mut self, reason: &str) {
        for Requeue { tell, .. } in self.requeues.drain(..) {
            // Whoever gave up waiting needs no answer.
            let _ = tell.send(Err(JournalError::Failing(reason.to_owned())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(position: u64, reason: &str) -> DeadLetter {
        DeadLetter { position: Position(position), reason: reason.to_owned() }
    }

    #[test]
    fn what_a_failed_commit_gives_back_waits_again_and_what_is_newer_stays() {
        let at = Timestamp::from_nanos;
        let (tell, mut told) = oneshot::channel();
        let mut failed = Letters::default();
        failed.bury("main", vec![letter(1, "old"), letter(2, "old")], at(1));
        failed.settle("main", 1, Acknowledged::starting_at(Position(5)), vec![letter(5, "old")], at(1));
        failed.settle("main", 2, Acknowledged::starting_at(Position(5)), vec![], at(1));
        failed.requeues.push(Requeue { output: None, tell });
        let mut letters = Letters::default();
        letters.bury("main", vec![letter(2, "new")], at(2));
        letters.settle("main", 1, Acknowledged::starting_at(Position(9)), vec![letter(9, "new")], at(2));
        assert!(letters.is_settling("main") && !letters.is_settling("other"));
        letters.give_back(failed);
        let reasons: Vec<_> = letters.refused.values().map(|refused| refused.reason.as_str()).collect();
        assert_eq!(reasons, ["old", "new"]);
        let settled: Vec<_> = letters.settled.values().map(|settled| (settled.acknowledged.floor().0, settled.refused.len())).collect();
        assert_eq!((settled, letters.len()), (vec![(9, 2), (5, 0)], 4));
        letters.refuse_requeues("disk full");
        assert!(letters.requeues.is_empty());
        assert_eq!(told.try_recv().unwrap().unwrap_err().to_string(), "the journal takes no rows: disk full");
    }
}
