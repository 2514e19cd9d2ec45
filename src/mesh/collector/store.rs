//! What becomes of results.

use std::sync::{Arc, Mutex, PoisonError};

use super::settings::Settings;
use crate::clock::{Clock, Timestamp};
use crate::journal::{Journal, JournalError};
use crate::measurement::{Fields, Row, Series, Value};
use crate::mesh::list::{List, Name};
use crate::mesh::wire::{Item, Received, Said};

/// Keeps results.
pub struct Store {
    journal: Journal,
    clock: Clock,
    observe: Arc<dyn Fn(&Row) + Send + Sync>,
    list: Mutex<List>,
}

/// What was done with a post.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Results that are stored.
    pub stored: usize,
    /// Items whose target is not in the list.
    pub rejected: Vec<Rejected>,
}

/// An item that is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its place in the post.
    pub index: usize,
    /// Why.
    pub error: String,
}

/// Why nothing of a post is stored.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Its source is not in the list.
    #[error("{0} is not in the list of probes")]
    UnknownSource(Name),
    /// The journal does not take it.
    #[error("the results are not durable")]
    NotDurable(#[source] JournalError),
}

impl Store {
    /// Nothing is taken before [`Store::configure`].
    pub fn new(journal: Journal, clock: Clock, observe: Arc<dyn Fn(&Row) + Send + Sync>) -> Self {
        Self { journal, clock, observe, list: Mutex::default() }
    }

    /// Takes settings, at the start and from a reload.
    pub fn configure(&self, settings: Option<&Settings>) {
        let list = settings.map(|settings| settings.probes.clone()).unwrap_or_default();
        *self.list.lock().unwrap_or_else(PoisonError::into_inner) = list;
    }

    /// Takes a post; returns when it is durable.
    pub async fn receive(&self, received: Received, _slot: Option<Timestamp>) -> Result<Receipt, ReceiveError> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !list.has(&received.source) {
            return Err(ReceiveError::UnknownSource(received.source));
        }
        let (mut receipt, mut rows) = (Receipt::default(), Vec::new());
        let time = self.clock.now().unix;
        for (index, (item, said)) in received.items.into_iter().enumerate().filter_map(|(index, item)| Some((index, item.ok()?))) {
            if !list.has(&item.name) {
                receipt.rejected.push(Rejected { index, error: format!("probes[{index}].name: {} is not in the list", item.name) });
                continue;
            }
            receipt.stored += 1;
            rows.extend(row(&received.source, &item, said, time));
        }
        for row in &rows {
            (self.observe)(row);
        }
        self.journal.append(rows);
        self.journal.flush().await.map_err(ReceiveError::NotDurable)?;
        Ok(receipt)
    }

    /// The last result of a probe.
    pub fn last(&self, _name: &Name) -> Option<serde_json::Value> {
        None
    }

    /// To be called about every second.
    pub fn absent(&self) {}
}

fn row(source: &Name, item: &Item, said: Said, time: Timestamp) -> Option<Row> {
    let Said::Measured { loss, rtt } = said else { return None };
    let mut fields = Fields::new();
    fields.put("loss".into(), Value::Float(loss));
    if let Some(rtt) = rtt {
        fields.put("avg".into(), Value::Float(rtt.avg));
    }
    let series = Series::new("Ping", [("source", source.as_str()), ("target", item.name.as_str()), ("status", "ok")]);
    Some(Row { series, time, fields })
}
