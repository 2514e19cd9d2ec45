//! The history turned by hand, for whoever measures what a turn costs: no thread, and time is whose clock it is.

use std::sync::Arc;
use std::time::Duration;

use super::roller::Roller;
use super::{HistoryStatus, Shared, held};
use crate::clock::Clock;
use crate::journal::Journal;

/// Puts a journal's rows into the history, as the thread of [`super::History`] does.
pub struct ByHand {
    shared: Arc<Shared>,
    roller: Roller,
}

impl ByHand {
    /// Of a journal, in its folder. Nothing is looked at yet.
    pub fn of(journal: &Journal, clock: Clock) -> Self {
        let shared = Arc::new(Shared::default());
        Self { roller: Roller::new(Arc::clone(&shared), journal.beside(), clock), shared }
    }

    /// Adds a batch, if it is time. Says how long the thread would wait.
    pub fn turn(&mut self) -> Duration {
        self.roller.turn()
    }

    /// How it is.
    pub fn status(&self) -> HistoryStatus {
        held(&self.shared.status).clone()
    }
}
