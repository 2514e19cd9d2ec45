//! What was missed while no qosd ran: told before the first slot, or as soon as the journal can be read.

use std::time::Duration;

use super::{Parts, lock};
use crate::clock::{Moment, Timestamp};
use crate::journal::JournalError;
use crate::measurement::{Row, Series};
use crate::probe::{Finding, Skip};
use crate::vitals;

/// How long the first slots wait until the journal has noted what is scheduled.
const FIRST_COMMIT: Duration = Duration::from_millis(500);
/// How long what was missed is looked for before the first slot; later it has all the time.
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// How long to wait before the missed slots are asked for again.
const ACCOUNT_AGAIN: Duration = Duration::from_secs(1);

/// How a service began.
pub(super) enum Begun {
    /// What was missed is told.
    Accounted,
    /// What was missed until then is still to be told.
    Unaccounted(Moment),
}

impl Parts {
    /// Accounts for the time in which no qosd ran, then notes what is scheduled from now on. Without a journal, slots begin all
    /// the same, and the rest is for [`Parts::account_later`].
    pub(super) async fn begin(&self) -> Begun {
        let now = self.clock.now();
        let accounted = self.account_for_absence(now, FIRST_LOOK).await;
        if let Err(error) = &accounted {
            tracing::warn!(%error, "what was missed while no qosd ran is told later");
            self.journal.account_later();
            self.planner.note_since(now.unix);
        }
        // The ledgers go on where the account of the missed slots ends: the actors are not there yet.
        let plan = self.planner.now();
        for (kind, ledger) in &self.ledgers {
            let own: Vec<_> = plan.iter().filter(|assignment| assignment.kind == *kind).cloned().collect();
            lock(ledger).assign(&own, now);
        }
        accounted.map_or(Begun::Unaccounted(now), |()| Begun::Accounted)
    }

    /// Once the journal can be read, what was missed until `started` is told.
    pub(super) async fn account_later(&self, started: Moment) {
        self.journal.readable().await;
        while let Err(error) = self.account_for_absence(started, Duration::MAX).await {
            tracing::debug!(%error, "what was missed while no qosd ran cannot be told yet");
            tokio::time::sleep(ACCOUNT_AGAIN).await;
        }
    }

    async fn account_for_absence(&self, now: Moment, limit: Duration) -> Result<(), JournalError> {
        let look = async {
            for output in self.outputs.borrow().clone().iter() {
                // Before the first row: a new output starts now.
                self.journal.output(&output.name, output.replay).await?;
            }
            self.journal.missed(now.unix).await
        };
        let slow = |_| JournalError::Failing(format!("no answer for {limit:?}"));
        let missed = tokio::time::timeout(limit, look).await.map_err(slow)??;
        if !missed.slots.is_empty() || missed.gap.is_some() {
            tracing::warn!(slots = missed.slots.len(), gap = ?missed.gap, "slots were missed while no qosd ran");
        }
        let skipped = |(series, time): (Series, Timestamp)| Row { series, time, fields: Finding::skipped(Skip::Restart).into_fields(None) };
        let gap = missed.gap.map(|gap| vitals::gap(&lock(&self.config).agent.name, gap));
        self.journal.append(missed.slots.into_iter().map(skipped).chain(gap).collect());
        self.planner.note_since(now.unix);
        self.journal.accounted();
        // Before the first slot: one that a kill leaves open is then known to have been due. A disk that takes nothing, or its
        // time, keeps nobody from measuring.
        let _ = tokio::time::timeout(FIRST_COMMIT, self.journal.flush()).await;
        // Rows of this process may be among them, if this is told late: they are not of a clock that went back.
        let present = self.clock.now().unix;
        if let Some((_, time)) = missed.newest.iter().filter(|(_, time)| *time > present).max_by_key(|(_, time)| *time) {
            self.ledgers.iter().for_each(|(_, ledger)| lock(ledger).used_until(*time, now.unix));
        }
        Ok(())
    }
}
