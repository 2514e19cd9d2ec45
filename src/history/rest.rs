//! Looks into a history that no qosd has open, and leaves no trace.

use std::path::Path;

use super::file::{self, FILE};
use crate::journal::{self, JOURNAL};
use crate::settings::explain;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtRest {
    /// It is whole, and so many rows behind the journal.
    Behind(u64),
    /// It is to be made anew, for this reason.
    Anew(String),
    /// It cannot be looked at, for this reason.
    Unknown(String),
}

/// Looks at the file in the journal's folder.
pub fn at_rest(folder: &Path) -> AtRest {
    let is_open = |name: &str| folder.join(format!("{name}-wal")).metadata().is_ok_and(|wal| wal.len() > 0);
    if is_open(FILE) || is_open(JOURNAL) {
        return AtRest::Unknown("it was not closed, the next start looks at it".to_owned());
    }
    match (file::at_rest(&folder.join(FILE)), journal::rest(&folder.join(JOURNAL))) {
        (Ok(rolled), Ok(journal)) if rolled.journal == journal.file && rolled.position <= journal.tip => {
            AtRest::Behind(journal.tip.0.saturating_sub(rolled.position.0.max(journal.first.0.saturating_sub(1))))
        }
        (Ok(_), Ok(_)) => AtRest::Anew("it is of another journal".to_owned()),
        (Err(error), _) if error.is_damage() => AtRest::Anew(explain(&error)),
        (Err(error), _) => AtRest::Unknown(explain(&error)),
        (Ok(_), Err(error)) => AtRest::Unknown(explain(&error)),
    }
}
