//! The page: what people and their tools look at. Reads, and steers nothing.
//!
//! Each page is a function from what is known ([`Sight`]) and what was asked ([`Asked`]) to an [`Answer`]. [`route`] says which
//! page a path leads to, [`press`] makes it, [`server`] takes requests and sends answers, with what protects a
//! browser; [`host`] says by which names it may be called, and [`actor`] keeps it running as `[web]` ([`settings`]) says.

use std::collections::BTreeMap;

use crate::clock::Clock;
use crate::history::range::{Range, Span};
use crate::history::{History, HistoryError};
use crate::measurement::Series;
use crate::status::Board;
use crate::status::pairs::Pairs;
use crate::status::server::Report;
pub use actor::{Web, WebParts};
pub use press::Press;
pub use settings::Settings;
pub use subject::Subject;

pub mod actor;
pub mod api;
pub mod chart;
pub mod host;
pub mod link;
pub mod matrix;
pub mod metrics;
mod notices;
pub mod overview;
pub mod press;
pub mod refusal;
pub mod route;
pub mod server;
pub mod settings;
pub mod shown;
pub mod state;
pub mod subject;
pub mod target;
#[cfg(test)]
mod testing;
pub mod time;
mod wire;
pub mod words;

/// What there is to be seen.
#[derive(Clone)]
pub struct Sight {
    /// The clocks.
    pub clock: Clock,
    /// Everything that qosd knows of itself but the series, which are on the board.
    pub report: Report,
    /// The last row of every series.
    pub board: Board,
    /// The last result of every pair of a mesh.
    pub pairs: Pairs,
    /// What was measured before.
    pub history: History,
}

impl Sight {
    /// What is known of a series in a span; where the config has it, with the interval that it has now.
    pub async fn range(&self, series: &Series, span: Span, columns: usize) -> Result<Range, HistoryError> {
        let interval = self.board.of(series).and_then(|known| Some(known.pace()?.interval));
        self.history.range_every(series, span, columns, interval).await
    }
}

/// What a request asks for, beside its path.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The query, decoded; of a key that comes again, the first.
    pub query: BTreeMap<String, String>,
}

impl Asked {
    /// The value of a key that is not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// What is sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A page.
    pub fn html(body: String) -> Self {
        Self { status: 200, content_type: "text/html; charset=utf-8", body }
    }

    /// A chart.
    pub fn svg(body: String) -> Self {
        Self { status: 200, content_type: "image/svg+xml; charset=utf-8", body }
    }

    /// A table for programs.
    pub fn csv(body: String) -> Self {
        Self { status: 200, content_type: "text/csv; charset=utf-8", body }
    }

    /// A document for programs.
    pub fn json(body: String) -> Self {
        Self { status: 200, content_type: "application/json", body }
    }

    /// A line of text.
    pub fn text(body: String) -> Self {
        Self { status: 200, content_type: "text/plain; charset=utf-8", body }
    }

    /// What cannot be answered, in a sentence.
    pub fn refused(status: u16, why: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{why}\n") }
    }
}
