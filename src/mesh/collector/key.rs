//! The shared key: kept as its hash, compared in a time that says nothing of it. Pure.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// A key, as its SHA-256.
#[derive(Clone)]
pub struct Key([u8; 32]);

/// What a caller showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The key.
    Right,
    /// Something else.
    Wrong,
    /// Nothing.
    Missing,
}

impl Key {
    /// That of a secret.
    pub fn new(secret: &Secret) -> Self {
        Self(hash(secret.expose().as_bytes()))
    }

    /// What was shown. All three answers take the same: a hash of what came, and a comparison of two hashes.
    pub fn check(&self, shown: Option<&[u8]>) -> Shown {
        let equal = bool::from(hash(shown.unwrap_or_default()).ct_eq(&self.0));
        match (shown, equal) {
            (Some(_), true) => Shown::Right,
            (Some(_), false) => Shown::Wrong,
            (None, _) => Shown::Missing,
        }
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_is_right() {
        let key = Key::new(&Secret::new("s3cret-of-all").unwrap());
        assert_eq!(key.check(Some(b"s3cret-of-all")), Shown::Right);
        for wrong in [&b""[..], b"s3cret-of-al", b"s3cret-of-all ", b"S3cret-of-all", b"\xff"] {
            assert_eq!(key.check(Some(wrong)), Shown::Wrong);
        }
        assert_eq!(key.check(None), Shown::Missing);
        assert_eq!(format!("{key:?}"), "Key");
    }
}
