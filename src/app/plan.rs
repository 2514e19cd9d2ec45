//! What is to be measured: what the config says and what the mesh says, as one plan.
//!
//! Either side changes on its own, and what the other wants goes on undisturbed. Whoever changes the plan notes it at
//! once: on the board, for the probe actors, and in the journal, so that a slot missed from here on is told.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::lock;
use crate::clock::Timestamp;
use crate::journal::Journal;
use crate::measurement::Series;
use crate::probe::Assignment;
use crate::probe::actor::Plan;
use crate::probe::schedule::Schedule;
use crate::status::Board;

/// The plan. Clones share it.
#[derive(Clone)]
pub(super) struct Planner {
    inputs: Arc<Mutex<Inputs>>,
    plan: watch::Sender<Arc<Vec<Arc<Assignment>>>>,
    board: Board,
    journal: Journal,
}

#[derive(Default)]
struct Inputs {
    config: Vec<Arc<Assignment>>,
    mesh: Vec<Arc<Assignment>>,
}

impl Planner {
    /// Both inputs, as they are at the start. Nothing is noted in the journal yet: it first has to tell what was missed.
    pub(super) fn new(config: Vec<Arc<Assignment>>, mesh: Vec<Arc<Assignment>>, board: Board, journal: Journal) -> Self {
        let inputs = Inputs { config, mesh };
        let merged = inputs.merged();
        board.assign(merged.iter().map(Arc::as_ref));
        Self { plan: watch::Sender::new(Arc::new(merged)), inputs: Arc::new(Mutex::new(inputs)), board, journal }
    }

    /// What the config wants.
    pub(super) fn config(&self, assignments: Vec<Arc<Assignment>>) {
        self.change(|inputs| inputs.config = assignments);
    }

    /// What the mesh wants.
    pub(super) fn mesh(&self, assignments: Vec<Arc<Assignment>>) {
        self.change(|inputs| inputs.mesh = assignments);
    }

    /// Under one lock, so that the last plan that is sent is the last that is noted.
    fn change(&self, change: impl FnOnce(&mut Inputs)) {
        let mut inputs = lock(&self.inputs);
        change(&mut inputs);
        let merged = inputs.merged();
        self.board.assign(merged.iter().map(Arc::as_ref));
        let changed = self.plan.send_if_modified(|plan| {
            **plan != merged && {
                *plan = Arc::new(merged);
                true
            }
        });
        if changed {
            self.note();
        }
    }

    /// Notes in the journal what is scheduled from now on.
    fn note(&self) {
        self.journal.scheduled(self.slots());
    }

    /// Notes in the journal what is scheduled since a time: that up to which the slots missed before are accounted for.
    pub(super) fn note_since(&self, since: Timestamp) {
        // As in a change of the plan: the last that is sent is the last that is noted.
        let _inputs = lock(&self.inputs);
        self.journal.scheduled_since(since, self.slots());
    }

    fn slots(&self) -> Vec<(Series, Schedule)> {
        self.now().iter().map(|assignment| (assignment.series.clone(), assignment.schedule)).collect()
    }

    /// The plan as it is.
    pub(super) fn now(&self) -> Arc<Vec<Arc<Assignment>>> {
        self.plan.borrow().clone()
    }

    /// The plan as it changes.
    pub(super) fn subscribe(&self) -> Plan {
        self.plan.subscribe()
    }
}

impl Inputs {
    /// No two of the same series: while one side gives it up and the other takes it, it is the config's.
    fn merged(&self) -> Vec<Arc<Assignment>> {
        let own: HashSet<_> = self.config.iter().map(|assignment| &assignment.series).collect();
        self.config.iter().chain(self.mesh.iter().filter(|assignment| !own.contains(&assignment.series))).cloned().collect()
    }
}
