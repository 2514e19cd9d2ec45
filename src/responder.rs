//! The responder: a small HTTP server for the HTTP probes of others.
//!
//! `GET /` answers at once, `GET /testfile.bin?bytes=N` gives N bytes that nothing can compress, `POST /upload` reads and
//! throws away. The promise: it serves only the addresses that it is told to, holds no file and no more memory than a
//! block a connection, and lets go of whoever is slow. [`settings`] says whom and how much, [`server`] serves,
//! [`crate::web::line`] cuts off, and [`actor`] keeps it running.

pub mod actor;
pub mod server;
pub mod settings;

pub use actor::{Responder, ResponderParts};
pub use settings::Settings;
