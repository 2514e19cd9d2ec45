//! What is known of each output. Outlives the writer, so that a restart loses no count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::clock::Timestamp;

/// One output, as it was after its last step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OutputStatus {
    /// Its name.
    pub name: String,
    /// Rows that it accepted.
    pub delivered: u64,
    /// Rows that it has not acknowledged. Dead letters are not among them.
    pub pending: u64,
    /// Its dead letters, as the journal counts them: rows that it refused, kept until they are requeued and accepted.
    pub dead: u64,
    /// Those of them that were requeued and are on their way.
    pub requeued: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Rows refused, which became dead letters, once for each time.
    pub refused: u64,
    /// Why a row was last refused.
    pub last_refusal: Option<String>,
    /// Fields left out of rows because the output refused them.
    pub refused_fields: u64,
    /// Which, as measurement.field.
    pub refused_field_names: BTreeSet<String>,
    /// Why nothing gets through, while it does not.
    pub last_error: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Until when nothing is sent.
    pub backing_off_until: Option<Timestamp>,
}

/// The status of every output. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Statuses(Arc<Mutex<BTreeMap<String, OutputStatus>>>);

impl Statuses {
    /// All outputs, by name.
    pub fn all(&self) -> Vec<OutputStatus> {
        self.lock().values().cloned().collect()
    }

    /// One output, if it is known.
    pub fn get(&self, name: &str) -> Option<OutputStatus> {
        self.lock().get(name).cloned()
    }

    /// Replaces what is known of an output.
    pub(super) fn put(&self, status: OutputStatus) {
        self.lock().insert(status.name.clone(), status);
    }

    /// Forgets the outputs that are not named.
    pub(super) fn keep(&self, names: &[String]) {
        self.lock().retain(|name, _| names.contains(name));
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, OutputStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
