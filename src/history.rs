//! The history: what was measured in weeks, at hand for a chart in a moment.
//!
//! It holds nothing of its own. All of it is made of the journal's rows, and can be made again.

use crate::measurement::Series;

pub mod range;

use range::{Range, Span};

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The disk does not have it now.
    #[error("the history cannot be read: {0}")]
    Failing(String),
}

/// A handle; clones share it.
#[derive(Clone, Default)]
pub struct History {}

impl History {
    /// What is known of a series in a span of time, in about so many columns.
    pub async fn range(&self, _series: &Series, span: Span, _columns: usize) -> Result<Range, HistoryError> {
        Ok(Range::empty(span))
    }

    /// Every series that it knows, of ourselves and of others in a mesh.
    pub async fn series(&self) -> Result<Vec<Series>, HistoryError> {
        Ok(Vec::new())
    }
}
