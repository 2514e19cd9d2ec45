//! A target: its charts over a range of time, its last values, and what happened.

use super::{Answer, Asked, Sight, Subject};

/// The page.
pub async fn page(_sight: &Sight, _subject: &Subject, _asked: &Asked) -> Answer {
    Answer::html(String::new())
}
