//! The status: actors, queues, outputs, journal, versions.

use super::{Answer, Asked, Sight};

/// The page.
pub fn page(_sight: &Sight, _asked: &Asked) -> Answer {
    Answer::html(String::new())
}
