//! The output to InfluxDB and to what speaks its protocol.

pub mod settings;

pub use settings::Settings;
