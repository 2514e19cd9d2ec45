//! The parts of the report that people look at: for `qosd status`, and for the page.

use serde::Deserialize;

use super::{ConfigStatus, SeriesStatus};
use crate::history::HistoryStatus;
use crate::listeners::Listener;
use crate::mesh::agent::standing::AgentStatus;
use crate::mesh::collector::status::CollectorStatus;

/// What a running service says of itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Of qosd.
    pub version: String,
    /// `agent.name`.
    pub agent: String,
    /// Of the process.
    pub pid: u32,
    /// When it was started.
    #[serde(default)]
    pub started: Option<String>,
    /// How long ago.
    pub uptime_s: u64,
    /// The config.
    pub config: ConfigStatus,
    /// The actors.
    pub actors: Vec<Actor>,
    /// Where actors are to listen.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// Blocked threads that were left behind.
    #[serde(default)]
    pub abandoned_threads: u64,
    /// The slots since the start.
    pub slots: Slots,
    /// Rows lost because no writer took them.
    #[serde(default)]
    pub queue_dropped: u64,
    /// The journal.
    pub journal: Journal,
    /// The outputs.
    pub outputs: Vec<Output>,
    /// The history.
    #[serde(default)]
    pub history: HistoryStatus,
    /// The collector of a mesh, if it is one.
    pub collector: Option<CollectorStatus>,
    /// The agent of a mesh, if it is one.
    pub mesh: Option<AgentStatus>,
    /// Every series; none for whoever is in the same process, and has them from the board.
    #[serde(default)]
    pub series: Vec<SeriesStatus>,
}

/// An actor.
#[derive(Clone, Debug, Deserialize)]
pub struct Actor {
    /// Its name.
    pub name: String,
    /// In a word.
    pub state: String,
    /// How often it was started again.
    pub restarts: u64,
    /// Why it last ended.
    pub last_exit: Option<String>,
}

/// The slots since the start.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Slots {
    /// That came due.
    pub scheduled: u64,
    /// That have their row.
    pub rows: u64,
    /// That were not run.
    pub skipped: u64,
}

/// The journal.
#[derive(Clone, Debug, Deserialize)]
pub struct Journal {
    /// Rows in the file.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The time of the oldest row.
    #[serde(default)]
    pub oldest: Option<String>,
    /// Rows that are not durable yet.
    pub waiting: u64,
    /// Rows lost from memory.
    pub dropped_memory: u64,
    /// Undelivered rows lost for size.
    pub dropped_size: u64,
    /// Rows lost with their file.
    pub dropped_gone: u64,
    /// Dead letters lost.
    pub dropped_dead: u64,
    /// Rows set aside as damaged.
    #[serde(default)]
    pub damaged: u64,
    /// Why it takes nothing, while it does not.
    pub failing: Option<String>,
}

impl Journal {
    /// The rows that were ever lost, by reason; reasons without a row are left out.
    pub fn lost(&self) -> Vec<(u64, &'static str)> {
        let reasons = [
            (self.dropped_memory, "from memory"),
            (self.dropped_size, "undelivered at max_size"),
            (self.dropped_gone, "with their file"),
            (self.dropped_dead, "as dead letters"),
        ];
        reasons.into_iter().filter(|(rows, _)| *rows > 0).collect()
    }
}

/// An output.
#[derive(Clone, Debug, Deserialize)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Rows that it took since the start.
    pub delivered: u64,
    /// Rows that wait for it.
    pub pending: u64,
    /// Rows that it refused.
    pub dead: u64,
    /// Of these, those that are on their way again.
    pub requeued: u64,
    /// Requests that were sent again.
    #[serde(default)]
    pub retries: u64,
    /// Fields that it refused.
    pub refused_fields: u64,
    /// Which.
    pub refused_field_names: Vec<String>,
    /// Why it takes nothing, while it does not.
    pub last_error: Option<String>,
    /// Since when.
    #[serde(default)]
    pub since: Option<String>,
    /// Until when nothing is sent.
    #[serde(default)]
    pub backing_off_until: Option<String>,
    /// Why it last refused a row.
    pub last_refusal: Option<String>,
}
