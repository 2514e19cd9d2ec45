//! The agent: fetches the list, has all others pinged, posts what was found.
//!
//! What is promised: what is sent stays within `max_rate` whatever the list says (`plan`, `rollout`); while the collector
//! is away the last good list goes on, also after a restart (`cache`), and results wait in the journal (`output`).

pub mod actor;
pub mod answer;
pub mod cache;
pub mod client;
pub mod here;
pub mod output;
pub mod pace;
pub mod plan;
pub mod rollout;
pub mod settings;
pub mod standing;

pub use settings::Settings;
