//! The output to databases that take line protocol over HTTP.

pub mod settings;

pub use settings::Settings;
