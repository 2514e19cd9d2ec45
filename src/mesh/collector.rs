//! The collector: keeps the list of probes, takes what they find, and tells who is silent.

pub mod presence;
pub mod rows;
pub mod settings;
pub mod status;
pub mod store;

pub use settings::Settings;
