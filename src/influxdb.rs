//! `InfluxDB` as an output: versions 1, 2 and 3, and what speaks their write API.
//!
//! What is promised: a batch is the same bytes each time it is sent; a row counts as stored only on the answer 204; the
//! token goes to the configured origin and nowhere else, and never into a log.

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use crate::clock::Clock;
use crate::journal::Stored;
use crate::writer::{Destination, Output, OutputSpec, Verdict};
pub use client::{Client, ClientError};
pub use settings::{Api, Settings};

pub mod answer;
mod client;
mod conflict;
pub mod line;
pub mod settings;
pub mod trial;

/// Rows that are encoded at a time. A batch in one go would take a starved host seconds, in which the writer takes no row.
const TURN: usize = 128;

/// The output that `[influxdb.NAME]` asks for.
pub fn output(name: &str, settings: Settings) -> OutputSpec {
    OutputSpec {
        name: name.to_owned(),
        batch_size: settings.batch_size,
        flush_interval: settings.flush_interval,
        replay: settings.replay,
        destination: std::sync::Arc::new(settings),
    }
}

impl Destination for Settings {
    fn connect(&self, clock: &Clock) -> Result<Box<dyn Output>, String> {
        match Client::new(self, clock.clone()) {
            Ok(client) => Ok(Box::new(client)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn same(&self, other: &dyn Destination) -> bool {
        other.as_any().downcast_ref::<Self>() == Some(self)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Output for Client {
    fn encode(&self, rows: &[Stored]) -> Option<Bytes> {
        line::body(rows.iter().map(|stored| &stored.row), self.gzip())
    }

    fn encode_in_turns<'a>(&'a self, rows: &'a [Stored]) -> LocalBoxFuture<'a, Option<Bytes>> {
        Box::pin(async move {
            let mut body = line::Body::new(self.gzip());
            for turn in rows.chunks(TURN) {
                body.add(turn.iter().map(|stored| &stored.row));
                tokio::task::yield_now().await;
            }
            body.finish()
        })
    }

    fn send(&self, body: Bytes) -> LocalBoxFuture<'_, Verdict> {
        Box::pin(self.write(body))
    }
}
