//! `headers_file`: headers of every request of a probe, as secret as the file they come from.
//!
//! One header a line, `Name: value`; empty lines and lines that begin with `#` do not count. What is wrong with a file is
//! said by line number, without a word of what stands there.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::secret::{SHORT_SECRET, SecretError};
use crate::settings::file;

/// The largest file.
const LIMIT: u64 = 64 * 1024;
/// Headers that frame a request or steer its connection: those are the client's own.
const RESERVED: &[&str] =
    &["connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Headers that do not print. Clones share them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Arc<HeaderMap>);

/// Why a file cannot be used. Says nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// The file is missing, too large, or others can read it.
    #[error(transparent)]
    File(#[from] SecretError),
    /// It is not text.
    #[error("headers file is not UTF-8")]
    NotText,
    /// A line is no header.
    #[error("headers file, line {0}: expected \"Name: value\"")]
    NotAHeader(usize),
    /// A header that may not be set.
    #[error("headers file, line {line}: {name} cannot be set")]
    Reserved {
        /// Where.
        line: usize,
        /// Which.
        name: &'static str,
    },
}

impl Headers {
    /// Reads a file that others cannot read.
    pub fn read(path: &Path) -> Result<Self, HeadersError> {
        let contents = file::read(path, LIMIT).map_err(|source| SecretError::File { path: path.to_owned(), source })?;
        if contents.open_to_others {
            return Err(SecretError::OpenToOthers(path.to_owned()).into());
        }
        Self::parse(str::from_utf8(&contents.bytes).map_err(|_| HeadersError::NotText)?)
    }

    fn parse(text: &str) -> Result<Self, HeadersError> {
        let mut headers = HeaderMap::new();
        let lines = text.lines().map(str::trim_end).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        for (index, line) in lines {
            let header = line
                .split_once(':')
                .and_then(|(name, value)| Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value.trim()).ok()?)));
            let (name, mut value) = header.ok_or(HeadersError::NotAHeader(index + 1))?;
            if let Some(name) = RESERVED.iter().find(|reserved| name == **reserved) {
                return Err(HeadersError::Reserved { line: index + 1, name });
            }
            value.set_sensitive(true);
            headers.append(name, value);
        }
        Ok(Self(Arc::new(headers)))
    }

    /// The headers themselves, to be sent and not to be kept.
    pub fn expose(&self) -> &HeaderMap {
        &self.0
    }

    /// Texts that must not show in anything that is written: the values, and the parts of those that have parts.
    pub fn secrets(&self) -> Vec<String> {
        let values: Vec<&str> = self.0.values().filter_map(|value| value.to_str().ok()).filter(|value| !value.is_empty()).collect();
        let parts = values.iter().flat_map(|value| value.split([' ', ';', ',', '='])).filter(|part| part.len() >= SHORT_SECRET);
        values.iter().copied().chain(parts).map(str::to_owned).collect()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} redacted>", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const CANARY: &str = "c4n4ry";

    #[test]
    fn a_line_is_a_header() {
        let headers = Headers::parse("# who we are\nAuthorization: Bearer c4n4ry\r\n\nX-Two:a: b \nx-two: c\n").unwrap();
        let all: Vec<_> = headers.expose().iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        assert_eq!(all, ["authorization=Bearer c4n4ry", "x-two=a: b", "x-two=c"]);
        assert!(headers.expose().values().all(HeaderValue::is_sensitive));
        assert!(headers.secrets().contains(&CANARY.to_owned()), "also without what goes before it");
    }

    #[test]
    fn headers_do_not_print() {
        let headers = Headers::parse("X-Key: c4n4ry").unwrap();
        let printed = format!("{headers:?} {:?}", headers.expose());
        assert!(!printed.contains(CANARY), "{printed}");
    }

    #[test]
    fn what_is_wrong_is_said_without_what_stands_there() {
        let table = [
            ("X: y\nc4n4ry", "headers file, line 2: expected \"Name: value\""),
            ("c4n4ry x: y", "headers file, line 1: expected \"Name: value\""),
            (": c4n4ry", "headers file, line 1: expected \"Name: value\""),
            ("X: c4n4ry\u{7}", "headers file, line 1: expected \"Name: value\""),
            ("\nContent-Length: 5", "headers file, line 2: content-length cannot be set"),
            ("Transfer-Encoding: c4n4ry", "headers file, line 1: transfer-encoding cannot be set"),
        ];
        for (text, expected) in table {
            assert_eq!(Headers::parse(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_fix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("headers");
        std::fs::write(&path, "X-Key: c4n4ry\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let why = Headers::read(&path).unwrap_err().to_string();
        assert!(why.ends_with(&format!("run: chmod o-rwx {}", path.display())) && !why.contains(CANARY), "{why}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Headers::read(&path).unwrap().expose().len(), 1);
    }
}
