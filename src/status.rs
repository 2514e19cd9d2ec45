//! What the running service knows of itself, as one value: for `qosd status`, and for the page.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use board::{Board, SeriesStatus};

pub mod board;
pub mod health;
pub mod known;
pub mod pairs;
pub mod recall;
pub mod recent;
pub mod report;
pub mod server;
#[cfg(test)]
pub(crate) mod testing;

/// The config that is in force.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Its file.
    pub file: String,
    /// When it was read.
    pub loaded: String,
    /// Why the last reload was refused, if it was.
    pub problem: Option<String>,
}

/// The time since a start, as people say it.
pub fn age(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
