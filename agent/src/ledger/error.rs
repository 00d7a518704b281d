//! What can go wrong with the ledger, split by what the caller must do.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerFault {
    /// The file is broken: set it aside and begin anew.
    Corrupt,
    /// There is no room: refuse what needs the ledger, go on protecting, try again later.
    Full,
    /// Another warden holds it, or a newer one wrote it: give up and say so.
    NotOurs,
    /// Anything else the disk said.
    Disk,
}

/// A ledger operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Opening it.
    #[error("open the ledger {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The file's own check failed.
    #[error("the ledger {} is damaged: {found}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the check found.
        found: String,
    },
    /// A newer program wrote it.
    #[error(
        "the ledger {} has schema {found}, this program knows {known}: install the newer loadline-node again",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A broken file could not be renamed.
    #[error("set the broken ledger {} aside", path.display())]
    SetAside {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record could not be put into words.
    #[error("encode an attempt for the ledger")]
    Encode(#[source] serde_json::Error),
    /// A statement failed; nothing of its transaction is known.
    #[error("{what} the ledger")]
    Statement {
        /// The verb: `write to`, `read` …
        what: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
}

impl LedgerError {
    /// What to do about it.
    pub fn fault(&self) -> LedgerFault {
        match self {
            Self::Damaged { .. } => LedgerFault::Corrupt,
            Self::Newer { .. } => LedgerFault::NotOurs,
            Self::SetAside { .. } | Self::Encode(_) => LedgerFault::Disk,
            Self::Open { source, .. } | Self::Statement { source, .. } => match source.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => LedgerFault::Corrupt,
                Some(ErrorCode::DiskFull) => LedgerFault::Full,
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LedgerFault::NotOurs,
                _ => LedgerFault::Disk,
            },
        }
    }
}
