//! Secrets: a type that does not print, and the files that they come from.
//!
//! A secret reaches the process only through a file that others cannot read, and leaves it only through
//! [`Secret::expose`], which the code that sends it calls.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::settings::file::{self, FileError};

/// What is printed instead.
const REDACTED: &str = "<redacted>";
/// A secret with fewer characters may be part of an innocent word.
pub const SHORT_SECRET: usize = 6;
/// The largest secret file.
const LIMIT: u64 = 64 * 1024;

/// A token or password. No way of printing it shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a secret cannot be used. Says nothing of what it is.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be used.
    #[error("secret file {} cannot be used", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: FileError,
    },
    /// Others have access to the file.
    #[error("secret file {path} can be read by others; run: chmod o-rwx {path}", path = .0.display())]
    OpenToOthers(PathBuf),
    /// The secret is empty.
    #[error("the secret is empty")]
    Empty,
    /// The secret cannot stand in a header.
    #[error("the secret has a character that is not printable ASCII at byte {0}; nothing else can be sent in a header")]
    Unprintable(usize),
}

impl Secret {
    /// Takes a text that can be sent in a header.
    pub fn new(text: impl Into<String>) -> Result<Self, SecretError> {
        let text = text.into();
        match text.bytes().position(|byte| !matches!(byte, b' '..=b'~')) {
            Some(byte) => Err(SecretError::Unprintable(byte + 1)),
            None if text.is_empty() => Err(SecretError::Empty),
            None => Ok(Self(text)),
        }
    }

    /// Reads a file that holds a secret and nothing else; line ends at its end do not count.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let contents = file::read(path, LIMIT).map_err(|source| SecretError::File { path: path.to_owned(), source })?;
        if contents.open_to_others {
            return Err(SecretError::OpenToOthers(path.to_owned()));
        }
        let text = str::from_utf8(&contents.bytes).map_err(|error| SecretError::Unprintable(error.valid_up_to() + 1))?;
        Self::new(text.trim_end_matches(['\n', '\r']))
    }

    /// The secret itself, to be sent and not to be kept.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// A secret standing in the config itself. What is wrong with it is said without it.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Option<Secret>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Secret::new(text).map(Some).map_err(E::custom)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(None)
            }
        }

        deserializer.deserialize_str(Text)?.ok_or_else(|| de::Error::custom("is not a text, expected the secret in quotes"))
    }
}

/// The text without any of the secrets. One so short that it may occur in any word is taken out where it stands alone.
pub fn redact(text: &str, secrets: &[String]) -> String {
    secrets.iter().filter(|secret| !secret.is_empty()).fold(text.to_owned(), |text, secret| {
        let part_of_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let mut clean = String::new();
        let mut rest = text.as_str();
        let mut before = None;
        while let Some((ahead, behind)) = rest.split_once(secret.as_str()) {
            clean.push_str(ahead);
            let within = part_of_word(ahead.chars().next_back().or(before)) || part_of_word(behind.chars().next());
            let harmless = secret.chars().count() < SHORT_SECRET && within;
            clean.push_str(if harmless { secret } else { "<redacted>" });
            before = secret.chars().next_back();
            rest = behind;
        }
        clean + rest
    })
}

/// Where secret files with a relative name are looked for: `$CREDENTIALS_DIRECTORY`, then the config file's folder.
#[derive(Clone, Debug)]
pub struct Folders {
    /// `$CREDENTIALS_DIRECTORY`, if there is one.
    pub credentials: Option<PathBuf>,
    /// The config file's folder.
    pub config: PathBuf,
}

impl Folders {
    /// The path of a secret file. An absolute name stays what it is.
    pub fn find(&self, name: &Path) -> PathBuf {
        let credential = self.credentials.as_ref().map(|folder| folder.join(name));
        credential.filter(|path| path.exists()).unwrap_or_else(|| self.config.join(name))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const CANARY: &str = "c4n4ry";

    fn file(mode: u32, contents: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new(CANARY).unwrap();
        let printed = format!("{secret} {secret:?} {:?} {}", Some(&secret), serde_json::to_string(&secret).unwrap());
        assert!(!printed.contains(CANARY), "{printed}");
        assert_eq!(secret.expose(), CANARY);
    }

    #[test]
    fn a_secret_is_read_without_its_line_end() {
        let (_dir, path) = file(0o640, b"c4n4ry\r\n");
        assert_eq!(Secret::read(&path).unwrap().expose(), CANARY);
    }

    /// (S10)
    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_fix() {
        for mode in [0o644, 0o602, 0o601] {
            let (_dir, path) = file(mode, b"c4n4ry");
            let message = Secret::read(&path).unwrap_err().to_string();
            assert!(message.ends_with(&format!("run: chmod o-rwx {}", path.display())), "{message}");
        }
    }

    #[test]
    fn what_cannot_be_sent_in_a_header_is_refused_without_being_shown() {
        for (contents, expected) in [
            (&b"\n"[..], "the secret is empty"),
            (b"c4n4ry\nx: y", "the secret has a character that is not printable ASCII at byte 7; nothing else can be sent in a header"),
            (b"\xffc4n4ry", "the secret has a character that is not printable ASCII at byte 1; nothing else can be sent in a header"),
        ] {
            let (_dir, path) = file(0o600, contents);
            assert_eq!(Secret::read(&path).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn credentials_come_before_the_folder_of_the_config() {
        let (dir, path) = file(0o600, b"x");
        let folders = Folders { credentials: Some(dir.path().to_owned()), config: PathBuf::from("/etc/qosd") };
        assert_eq!(folders.find(Path::new("token")), path);
        assert_eq!(folders.find(Path::new("other")), Path::new("/etc/qosd/other"));
        assert_eq!(folders.find(Path::new("/run/other")), Path::new("/run/other"));
    }

    #[test]
    fn a_short_secret_does_not_make_the_reason_unreadable() {
        let redacted = |text| redact(text, &["p".to_owned(), "long-enough".to_owned()]);
        assert_eq!(redacted("points dropped; password 'p', p"), "points dropped; password '<redacted>', <redacted>");
        assert_eq!(redacted("xlong-enoughx pp"), "x<redacted>x pp");
    }
}
