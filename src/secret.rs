//! A value that is never shown.

use std::fmt;

/// A token or password. Printing it shows `<redacted>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a value is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {}

impl Secret {
    /// Guards a value.
    pub fn new(text: impl Into<String>) -> Result<Self, SecretError> {
        Ok(Self(text.into()))
    }

    /// The value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}
