//! What the page is given to see, and the actor that serves it.

use std::sync::Arc;

use super::{Lateness, Parts, lock};
use crate::clock::Timestamp;
use crate::measurement::Row;
use crate::mesh;
use crate::page::{Press, Sight, Web, WebParts};
use crate::status::server::Report;
use crate::supervisor::child::{Child, Placement};
use crate::supervisor::policy::Policy;
use crate::supervisor::roster::Roster;
use crate::vitals::{self, Vitals};

impl Parts {
    /// Makes the status, for whoever asks.
    pub(super) fn reporter(self: &Arc<Self>) -> Report {
        let parts = Arc::clone(self);
        Arc::new(move || parts.report())
    }

    /// What there is to be seen.
    pub(super) fn sight(self: &Arc<Self>) -> Sight {
        let parts = Arc::clone(self);
        Sight {
            clock: self.clock.clone(),
            report: Arc::new(move || parts.state()),
            board: self.board.clone(),
            pairs: self.pairs.clone(),
            history: self.history.clone(),
        }
    }

    /// Makes the pages: one for all who serve them.
    pub(super) fn press(self: &Arc<Self>) -> Press {
        let parts = Arc::clone(self);
        Press::new(self.sight(), Arc::new(move || parts.vitals_now()), self.view.clone(), self.listeners.clone())
    }

    /// The actors, as people see them: one for which nothing is configured is idle.
    pub(super) fn actors(&self) -> Roster {
        let plan = self.planner.now();
        self.view.roster().with_idle(|name| match name {
            "iperf3_server" => self.iperf3_server.borrow().is_none(),
            "responder" => self.responder.borrow().is_none(),
            "collector" => self.collector.borrow().is_none(),
            "mesh" => self.mesh.borrow().is_none(),
            "web" => self.web.borrow().is_none(),
            mesh::agent::plan::KIND if self.mesh.borrow().is_some() => false,
            kind => self.engines.iter().any(|(name, _)| *name == kind) && !plan.iter().any(|assignment| assignment.kind == kind),
        })
    }

    /// The actor that serves the pages as `[web]` says.
    pub(super) fn web(&self, policy: Policy, press: &Press) -> Child {
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let (listeners, clock) = (self.listeners.clone(), self.clock.clone());
        let parts = WebParts { settings: self.web.subscribe(), press: press.clone(), host, listeners, clock };
        Child::new("web", policy, Placement::OwnThread, move || Ok(Web::new(parts.clone())))
    }

    /// qosd's own rows of a full minute. How late slots were taken in it is forgotten by the ledgers, and kept for
    /// [`Parts::vitals_now`] until the next.
    pub(super) fn vitals_of_a_minute(&self, time: Timestamp) -> Vec<Row> {
        let late: Lateness = self.ledgers.iter().filter_map(|(kind, ledger)| Some((*kind, lock(ledger).take_lateness_p99_ms()?))).collect();
        lock(&self.lateness).clone_from(&late);
        self.vitals(time, &late)
    }

    /// The same as they would be now, for whoever only looks.
    fn vitals_now(&self) -> Vec<Row> {
        let late = lock(&self.lateness).clone();
        self.vitals(self.clock.now().unix, &late)
    }

    /// qosd's own rows.
    fn vitals(&self, time: Timestamp, lateness: &Lateness) -> Vec<Row> {
        let config = lock(&self.config);
        let (journal, roster, outputs) = (self.journal.stats(), self.view.roster(), self.outputs_now());
        let mesh = self.desk.status().map(|status| ("mesh", status.counters()));
        let kinds = self.engines.iter().map(|(kind, engines)| (*kind, engines.counters()));
        let collector = self.surface.front().map(|_| ("collector", self.surface.counters()));
        let vitals = Vitals {
            skipped: &self.board.skipped(),
            lateness_p99_ms: lateness,
            agent: &config.agent.name,
            slots: self.slots(),
            roster: &roster,
            listeners: &self.listeners.all(),
            counters: &kinds.chain(mesh).chain(collector).collect::<Vec<_>>(),
            abandoned: self.view.abandoned(),
            queue_dropped: self.outlet.dropped(),
            journal: &journal,
            outputs: &outputs,
            usage: vitals::usage(),
        };
        vitals.rows(time)
    }
}
