//! What can go wrong with the spool, and what the caller can do about it.

use std::path::PathBuf;

use rusqlite::ErrorCode;

/// What the caller can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolFault {
    /// The file is broken: set it aside.
    Corrupt,
    /// No space: try again later.
    NoSpace,
    /// Anything else: try again later.
    Other,
}

/// A failed operation of the spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It cannot be opened.
    #[error("cannot open the event spool {path}")]
    Open {
        /// The file.
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    /// A newer agent wrote it.
    #[error(
        "the event spool {path} is of schema {found}, newer than this agent knows: install the newer loadline-node again"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// An unreadable file cannot be renamed.
    #[error("cannot set the unreadable event spool {path} aside")]
    Rename {
        /// The file.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A statement failed.
    #[error("cannot {what} the event spool")]
    Statement {
        /// What was tried.
        what: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    /// SQLite's own check found damage.
    #[error("the event spool is damaged: {0}")]
    Damaged(String),
}

impl SpoolError {
    /// What can be done about it.
    pub fn fault(&self) -> SpoolFault {
        let source = match self {
            Self::Damaged(_) => return SpoolFault::Corrupt,
            Self::Open { source, .. } | Self::Statement { source, .. } => source,
            Self::Newer { .. } | Self::Rename { .. } => return SpoolFault::Other,
        };
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => SpoolFault::Corrupt,
            Some(ErrorCode::DiskFull) => SpoolFault::NoSpace,
            _ => SpoolFault::Other,
        }
    }
}
