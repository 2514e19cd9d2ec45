//! The writer: takes every row from the probes, puts it into the journal, and delivers it to the outputs.
//!
//! What is promised: rows wait in the [`mod@queue`] and in the journal, nowhere else, so a crash of the writer loses none; an
//! output that is slow, away or wrong holds up neither the journal nor the other outputs; a row is acknowledged only when
//! its output has said so.
//!
//! The writer knows the port [`Output`], not `InfluxDB`: a new output implements [`Destination`] and [`Output`], and `app`
//! puts its [`OutputSpec`] into the list.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use crate::clock::Clock;
use crate::journal::Stored;
pub use actor::{Writer, WriterParts};
use part::Conflict;
pub use queue::{Intake, Outlet, queue};
pub use status::{OutputStatus, Statuses};

mod actor;
mod delivery;
mod episode;
mod lanes;
pub mod outbox;
pub mod part;
pub mod queue;
mod status;

/// What an output's answer means for the rows that were sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Stored.
    Accepted,
    /// Not stored, and not the rows' fault: wrong key, no such database, not a write API. A person is needed.
    Hold {
        /// What the output said.
        why: String,
    },
    /// At least one row is not acceptable; others may have been stored.
    Refused {
        /// What the output said.
        why: String,
        /// How many rows of the request it says that it did not store.
        refused: Option<usize>,
    },
    /// As [`Verdict::Refused`], and the output named the field that it does not take.
    Conflict(Conflict),
    /// More than the output takes at once; nothing was stored.
    TooLarge,
    /// Not now; the output said when.
    After {
        /// How long to wait.
        wait: Duration,
        /// What the output said.
        why: String,
    },
    /// Stored or not: nobody knows.
    Unknown {
        /// What happened.
        why: String,
    },
}

/// Somewhere rows go. Lives on the writer's thread.
pub trait Output {
    /// The rows as one request; the same rows give the same bytes. None if there is nothing to send in them.
    fn encode(&self, rows: &[Stored]) -> Option<Bytes>;

    /// As [`Output::encode`], with a turn for the rest of the thread now and then: a large request holds up nothing else.
    fn encode_in_turns<'a>(&'a self, rows: &'a [Stored]) -> LocalBoxFuture<'a, Option<Bytes>> {
        Box::pin(std::future::ready(self.encode(rows)))
    }

    /// Sends a request and judges the answer. Ends within the output's time-out, whatever the other side does.
    fn send(&self, body: Bytes) -> LocalBoxFuture<'_, Verdict>;
}

/// What the config says of an output: makes the [`Output`], on the writer's thread, at every start.
pub trait Destination: Send + Sync + 'static {
    /// Makes the output. Connects to nothing yet.
    fn connect(&self, clock: &Clock) -> Result<Box<dyn Output>, String>;

    /// Whether another one says the same, so that a reload may leave the output alone.
    fn same(&self, other: &dyn Destination) -> bool;

    /// For [`Destination::same`].
    fn as_any(&self) -> &dyn Any;
}

/// One output.
#[derive(Clone)]
pub struct OutputSpec {
    /// Its name in the config, in the journal and in logs.
    pub name: String,
    /// The most rows a request carries.
    pub batch_size: usize,
    /// The longest a durable row waits for others before it is sent.
    pub flush_interval: Duration,
    /// How far back a new output starts; none = now.
    pub replay: Option<Duration>,
    /// Where the rows go.
    pub destination: Arc<dyn Destination>,
}

/// Equal outputs need no restart.
impl PartialEq for OutputSpec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.batch_size == other.batch_size
            && self.flush_interval == other.flush_interval
            && self.replay == other.replay
            && self.destination.same(&*other.destination)
    }
}

impl fmt::Debug for OutputSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "output {}", self.name)
    }
}
