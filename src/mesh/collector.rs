//! The collector: keeps the list of probes, takes what they find, and tells who is silent.

pub mod settings;

pub use settings::Settings;
