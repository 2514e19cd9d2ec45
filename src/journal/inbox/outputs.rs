//! What is to be kept of outputs. A value each, so it needs no bound: the newest replaces the one before.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Inbox;
use crate::clock::Timestamp;
use crate::journal::Position;
use crate::journal::acknowledged::Acknowledged;

/// How long the position of a removed output is kept.
pub(in crate::journal) const KEEP_REMOVED: Duration = Duration::from_hours(7 * 24);

/// An output as the journal knows it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::journal) struct Output {
    /// What it has acknowledged.
    pub(in crate::journal) acknowledged: Acknowledged,
    /// When it was removed from the config.
    pub(in crate::journal) removed: Option<Timestamp>,
}

/// From where an output that the journal does not know is to have the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum Start {
    /// Nobody knows: the file could not be read yet.
    Unread,
    /// From now on.
    Now,
    /// From here: it asked before the file could be read.
    After(Position),
}

impl Inbox {
    /// What an output that is there has acknowledged; none if it is not known.
    pub(in crate::journal) fn output(&mut self, name: &str, now: Duration) -> Option<Acknowledged> {
        let output = self.outputs.get_mut(name)?;
        let acknowledged = output.acknowledged.clone();
        if output.removed.take().is_some() {
            self.change(name, now);
        }
        Some(acknowledged)
    }

    /// From where an output that is not known is to have the rows.
    pub(in crate::journal) fn start(&mut self, name: &str) -> Start {
        if !self.read {
            self.asked.insert(name.to_owned(), None);
            return Start::Unread;
        }
        self.asked.get(name).copied().flatten().map_or(Start::Now, Start::After)
    }

    /// What an output has acknowledged; the output is known from here on. A late answer does not bring back a removed one.
    pub(in crate::journal) fn acknowledge(&mut self, name: &str, acknowledged: Acknowledged, now: Duration) {
        let removed = self.outputs.get(name).and_then(|known| known.removed);
        let output = Output { acknowledged, removed };
        if self.outputs.get(name) != Some(&output) {
            self.outputs.insert(name.to_owned(), output);
            self.asked.remove(name);
            self.change(name, now);
        }
    }

    /// The outputs that there are. Others are kept for 7 days after `today`, then forgotten.
    pub(in crate::journal) fn name_outputs(&mut self, names: &BTreeSet<String>, today: Timestamp, now: Duration) {
        self.named = Some(names.clone());
        let mut changed = Vec::new();
        for (name, output) in &mut self.outputs {
            let removed = if names.contains(name) { None } else { output.removed.or(Some(today)) };
            if removed != output.removed {
                output.removed = removed;
                changed.push(name.clone());
            }
        }
        for name in changed {
            self.change(&name, now);
        }
    }

    /// Forgets outputs that were removed too long ago.
    pub(in crate::journal) fn forget_outputs(&mut self, today: Timestamp, now: Duration) {
        let over = |output: &Output| output.removed.is_some_and(|removed| today.since(removed) >= KEEP_REMOVED);
        let names: Vec<String> = self.outputs.iter().filter(|(_, output)| over(output)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.outputs.remove(&name);
            self.change(&name, now);
        }
    }
}
