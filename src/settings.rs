//! How a piece of config becomes a typed value: units, and every problem of it at once.
//!
//! Each module owns its settings as a plain serde struct; this module reads one and says what is wrong, with the key.

use serde::de::DeserializeOwned;

/// Something wrong with a key. The path is relative to the table that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProblem {
    /// Where: `interval`, `targets[1].host`, or nothing for the table itself.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl KeyProblem {
    /// A problem with a key.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// Reads a typed value, or finds all problems at once.
pub fn typed<T: DeserializeOwned>(value: config::Value) -> Result<T, Vec<KeyProblem>> {
    serde_path_to_error::deserialize(value).map_err(|error| vec![KeyProblem::new(error.path().to_string(), error.inner().to_string())])
}
