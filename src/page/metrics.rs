//! `/metrics`: qosd's own state and the last values of every series, for Prometheus.

use super::{Answer, Sight};

/// The exposition: `OpenMetrics` if that was asked for, else the text format.
pub fn exposition(_sight: &Sight, _openmetrics: bool) -> Answer {
    Answer::refused(501, "")
}
