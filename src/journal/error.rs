//! Why the journal did not do what was asked.

use std::path::PathBuf;

/// Why the journal did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it open.
    #[error("{0} is in use by another qosd")]
    InUse(PathBuf),
    /// The folder or a file in it can not be used.
    #[error("{path} can not be used")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file system that the folder was on is no longer mounted.
    #[error("the file system of {0} is not mounted")]
    Unmounted(PathBuf),
    /// The file that was open is no longer where it was.
    #[error("the journal's file was taken away")]
    Gone,
    /// A later qosd wrote it.
    #[error("{path} was written by a later qosd: its tables have version {version}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version of its tables.
        version: i64,
    },
    /// Its file is no journal, or not whole any more.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// `SQLite` could not do something.
    #[error("{doing} failed")]
    Sqlite {
        /// What.
        doing: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// After a failure, a reader of another process keeps the write-ahead file from being emptied.
    #[error("a reader holds the write-ahead file")]
    Held,
    /// The rows are still in memory because the disk does not take them.
    #[error("the journal takes no rows: {0}")]
    Failing(String),
    /// There is no output of this name, and no dead letter of one.
    #[error("no output is called {0}")]
    NoOutput(String),
    /// There is no journal.
    #[error("there is no journal at {0}")]
    Missing(PathBuf),
    /// A thread could not be started.
    #[error("no thread for the journal")]
    Thread(#[source] std::io::Error),
    /// The thread panicked at this; the panic itself is in the log.
    #[error("the journal's thread panicked")]
    Panicked,
    /// The thread has ended.
    #[error("the journal's thread has ended")]
    Stopped,
}

impl JournalError {
    /// Whether a person has to decide before qosd may start: the folder is another's, or of a later version. Anything else may
    /// pass, and rows wait in memory until then.
    pub(super) fn forbids_start(&self) -> bool {
        matches!(self, Self::InUse(_) | Self::Newer { .. })
    }
}

/// Says what `SQLite` could not do.
pub(super) fn failed(doing: &'static str) -> impl Fn(rusqlite::Error) -> JournalError {
    move |source| JournalError::Sqlite { doing, source }
}
