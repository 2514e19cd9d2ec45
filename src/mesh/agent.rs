//! The agent: fetches the list, has all others pinged, posts what was found.

pub mod settings;

pub use settings::Settings;
