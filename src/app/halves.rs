//! The two halves of a mesh, as far as they outlive their actors: the agent's desk and the collector's surface.

use std::sync::Arc;

use super::Options;
use crate::clock::Clock;
use crate::config::Config;
use crate::journal::Journal;
use crate::measurement::Row;
use crate::mesh::agent::actor::Desk;
use crate::mesh::agent::{here, output, plan};
use crate::mesh::collector::{Store, Surface};
use crate::status::Board;
use crate::status::pairs::Pairs;

/// The collector, as its callers see it. What it stores goes to the board like all rows, and to the pairs.
pub(super) fn surface(journal: &Journal, (board, pairs): (&Board, &Pairs), clock: &Clock) -> Arc<Surface> {
    let (board, pairs) = (board.clone(), pairs.clone());
    let observe = Arc::new(move |row: &Row, proto| {
        board.observe(row);
        pairs.observe(row, Some(proto));
    });
    let store = Store::new(journal.clone(), clock.clone(), observe);
    Arc::new(Surface::new(Arc::new(store), clock.clone()))
}

/// What the agent has of its own, whether there is a `[mesh]` or not.
pub(super) fn desk(options: &Options, config: &Config, clock: Clock) -> Desk {
    Desk {
        agent: config.agent.name.clone(),
        folder: config.agent.data_dir.clone(),
        kind: options.kinds.iter().find(|kind| kind.name() == plan::KIND).copied(),
        here: here::here,
        clock,
        losses: output::Losses::default(),
        standing: Arc::default(),
    }
}
