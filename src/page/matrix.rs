//! The matrix of a mesh: loss or latency from everyone to everyone.

use super::{Answer, Asked, Sight};

/// The page.
pub fn page(_sight: &Sight, _asked: &Asked) -> Answer {
    Answer::html(String::new())
}
