//! What will be asked for next while a batch is on its way, so that the shell can read and encode it meanwhile. Pure.
//!
//! Only a forecast: whatever [`Outbox::next`] asks for in the end, a forecast that is not asked for is thrown away.

use std::sync::Arc;

use super::{Outbox, Reading};
use crate::journal::Position;

impl Outbox {
    /// The next batch of the backlog, as it will be asked for if what is on its way is accepted. None without a backlog below
    /// rows that are acknowledged, and while other rows are suspected: then it is not the backlog's turn.
    pub fn ahead(&self) -> Option<Reading> {
        let batch = self.flight.as_ref()?;
        if !self.suspects.is_empty() || !batch.part.is_whole() {
            return None;
        }
        let mut acknowledged = self.acknowledged.clone();
        acknowledged.add(batch.span.first, batch.span.last);
        let (above, _) = acknowledged.ranges().first()?;
        Some(Reading { after: acknowledged.floor(), upto: Position(above.0 - 1), limit: self.limit, part: Arc::default() })
    }
}
