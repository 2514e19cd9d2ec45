//! What an outbox is told and asked, and what it says. Pure values.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::journal::Position;
use crate::writer::part::{FieldName, Part};

/// How rows are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most rows a request carries.
    pub batch_size: usize,
    /// The longest a durable row waits for others before it is sent.
    pub flush_interval: Duration,
}

/// What to read from the journal: at most `limit` rows after `after`, up to and with `upto`; and which of them are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in Journal::read")]
pub struct Reading {
    pub after: Position,
    pub upto: Position,
    pub limit: usize,
    pub part: Arc<Part>,
}

/// What the shell is to do. Times are on the monotonic clock.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Read rows, encode those of the part, and report.
    Read(Reading),
    /// Send this and report the verdict.
    Post {
        /// The request.
        body: Bytes,
        /// Rows in it.
        rows: usize,
    },
    /// Ask again at that time, or when the tip moves.
    Wait(Duration),
    /// Ask again when the tip moves.
    Idle,
}

/// What people are told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Nothing gets through since now, or for another reason than before.
    Failing {
        /// The reason.
        why: String,
    },
    /// A batch got through again.
    Works {
        /// How long it had been failing.
        after: Duration,
    },
    /// Rows became dead letters since this was last told. Told at most once a minute.
    Dead {
        /// How many.
        rows: u64,
        /// What the output said last.
        why: String,
    },
    /// Rows with this field are refused, and were accepted without. Told once a field.
    FieldRefused {
        /// Which.
        name: FieldName,
        /// What the output said.
        why: String,
    },
}

/// What an output did since its outbox was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rows that the output accepted.
    pub delivered: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Rows refused, which became dead letters.
    pub refused: u64,
    /// Fields left out of accepted rows because the output refused them.
    pub refused_fields: u64,
}
