//! What is known of one pair, and how that is told: in a word or a figure, never by colour alone. Pure.

use std::time::Duration;

use super::Show;
use crate::clock::Timestamp;
use crate::probe::Outcome;
use crate::status::pairs::Pair;

/// A pair, from its source's side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell {
    /// Nobody measures itself.
    Itself,
    /// There is no such pair in the list.
    Unlisted,
    /// Nothing came of it yet.
    Never,
    /// What came last.
    Seen {
        /// The result.
        pair: Pair,
        /// Whether it is too old to say how it is now.
        stale: bool,
    },
}

impl Cell {
    /// A pair of which there is a result.
    pub(super) fn seen(pair: Pair, interval: Option<Duration>, now: Timestamp) -> Self {
        Self::Seen { pair, stale: pair.is_old(interval, now) }
    }

    /// The figure that is shown, if there is one that holds now.
    pub(super) fn figure(self, show: Show) -> Option<f32> {
        match self {
            Self::Seen { pair, stale: false } => figure(pair, show),
            Self::Itself | Self::Unlisted | Self::Never | Self::Seen { .. } => None,
        }
    }

    /// What stands in the cell.
    pub(super) fn text(self, show: Show) -> String {
        match self {
            Self::Itself => "–".to_owned(),
            Self::Unlisted => "not listed".to_owned(),
            Self::Never => "never".to_owned(),
            Self::Seen { pair, stale } => {
                let text = match figure(pair, show) {
                    Some(figure) if show == Show::Loss => format!("{} %", short(figure)),
                    Some(figure) => short(figure),
                    None => word(pair.outcome),
                };
                if stale { format!("{text}, old") } else { text }
            }
        }
    }

    /// What the style sheet calls it.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Itself => "self",
            Self::Unlisted => "unlisted",
            Self::Never => "never",
            Self::Seen { stale: true, .. } => "stale",
            Self::Seen { pair, .. } => match (pair.outcome, pair.loss_pct) {
                (Outcome::PeerAbsent, _) => "absent",
                (_, Some(loss)) if loss <= 0.0 => "ok",
                (_, Some(loss)) if loss <= 5.0 => "low",
                (_, Some(loss)) if loss <= 25.0 => "mid",
                (_, Some(_)) => "high",
                (Outcome::Ok, None) => "ok",
                (_, None) => "failed",
            },
        }
    }
}

fn figure(pair: Pair, show: Show) -> Option<f32> {
    match show {
        Show::Loss => pair.loss_pct,
        Show::Latency => pair.rtt_ms,
    }
}

fn word(outcome: Outcome) -> String {
    match outcome {
        Outcome::PeerAbsent => "absent".to_owned(),
        Outcome::Ok | Outcome::Partial | Outcome::Timeout => "lost".to_owned(),
        other => other.name().replace('_', " "),
    }
}

/// With about three digits.
fn short(value: f32) -> String {
    match value {
        _ if value == 0.0 || value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

    fn seen(outcome: Outcome, loss_pct: Option<f32>, rtt_ms: Option<f32>, age: u64) -> Cell {
        let pair = Pair { time: NOW.minus(Duration::from_secs(age)), outcome, loss_pct, rtt_ms, heard: None };
        Cell::seen(pair, Some(Duration::from_mins(1)), NOW)
    }

    #[test]
    fn a_result_of_a_time_that_has_not_come_is_old() {
        let ahead = |seconds| {
            let pair =
                Pair { time: NOW.plus(Duration::from_secs(seconds)), outcome: Outcome::Ok, loss_pct: Some(0.0), rtt_ms: None, heard: None };
            Cell::seen(pair, Some(Duration::from_mins(1)), NOW).class()
        };
        assert_eq!((ahead(60), ahead(61)), ("ok", "stale"));
    }

    #[test]
    fn what_was_lost_what_is_absent_and_what_was_never_heard_of_are_told_apart() {
        for (cell, class, loss, latency) in [
            (seen(Outcome::Ok, Some(0.0), Some(1.234), 5), "ok", "0 %", "1.23"),
            (seen(Outcome::Partial, Some(4.0), Some(12.34), 5), "low", "4.00 %", "12.3"),
            (seen(Outcome::Partial, Some(20.0), Some(123.4), 5), "mid", "20.0 %", "123"),
            (seen(Outcome::Timeout, Some(100.0), None, 5), "high", "100 %", "lost"),
            (seen(Outcome::PeerAbsent, None, None, 5), "absent", "absent", "absent"),
            (seen(Outcome::ToolError, None, None, 5), "failed", "tool error", "tool error"),
            (seen(Outcome::Ok, Some(0.0), Some(1.0), 181), "stale", "0 %, old", "1.00, old"),
            (Cell::Never, "never", "never", "never"),
            (Cell::Unlisted, "unlisted", "not listed", "not listed"),
            (Cell::Itself, "self", "–", "–"),
        ] {
            assert_eq!((cell.class(), cell.text(Show::Loss).as_str(), cell.text(Show::Latency).as_str()), (class, loss, latency));
        }
    }
}
