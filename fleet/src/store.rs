//! Where the truth is kept, as a trait: the writer commits changes to it and loads them back.
//!
//! The embedded database is the default; a second one for several fleetd is to come (design §5). SQL stays below
//! this module.

mod sqlite;

use std::path::PathBuf;

use crate::state::{Change, Loaded};

pub use sqlite::Sqlite;

/// Where the truth is kept.
pub trait Store: Send {
    /// Everything it holds, as a new term of leadership. Rows it cannot read are moved aside and named.
    ///
    /// # Errors
    /// When it cannot be read as a whole.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Moves rows aside that contradict the others. They are kept, with the reason.
    ///
    /// # Errors
    /// When that could not be made durable.
    fn set_aside(&mut self, rows: &[(Change, String)]) -> Result<(), CommitError>;

    /// Makes all durable changes durable, or none of them.
    ///
    /// # Errors
    /// When none of them is. After [`CommitError::Broken`] nobody knows what the disk holds: start again.
    fn commit(&mut self, changes: &[Change]) -> Result<(), CommitError>;

    /// Housekeeping, offered after each commit; `idle` when nothing waits.
    fn tend(&mut self, idle: bool);
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a store cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("the store {path} is in use by {holder}: end that one first", path = path.display())]
    InUse {
        /// Which store.
        path: PathBuf,
        /// What the lock file says.
        holder: String,
    },
    /// It was written by a newer version.
    #[error(
        "the store {path} has schema {found}, this fleetd knows up to {known}: install the newer fleetd again",
        path = path.display()
    )]
    Newer {
        /// Which store.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest known.
        known: i64,
    },
    /// Its lock file cannot be used.
    #[error("the lock file {path} cannot be used", path = path.display())]
    Lock {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database refused.
    #[error("cannot {what} in the store {path}; if it is damaged, restore a copy or move it away", path = path.display())]
    Database {
        /// What was tried.
        what: &'static str,
        /// Which store.
        path: PathBuf,
        /// Why.
        #[source]
        source: Source,
    },
}

/// Why changes were not made durable.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The disk is full or refuses writes. Nothing was changed; later commits may succeed.
    #[error("the store cannot write: {message}")]
    Full {
        /// The database's own words.
        message: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// Nobody knows what the disk holds now.
    #[error("the store is broken: {message}")]
    Broken {
        /// The database's own words.
        message: String,
        /// Why.
        #[source]
        source: Source,
    },
}
