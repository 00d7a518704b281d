//! The embedded store: one SQLite file in WAL mode, every commit synced (`synchronous=FULL`).
//!
//! Touches: the file, its `-wal` beside it, and a `.lock` file that names the process which has it. The lock is
//! held as long as the process lives and vanishes with it, also by `kill -9`. Checkpoints run when nothing
//! waits, so that they are not part of a commit's time, and are forced when the log grows long.

mod prove;
mod read;
mod row;
mod schema;
mod team;
mod write;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::raw::c_int;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::hooks::Wal;
use rusqlite::{Connection, ErrorCode, ffi};

use super::{CommitError, Store, StoreError};
use crate::state::{Change, Loaded};

/// 1,000 pages of 4 KiB are SQLite's own choice for the length of the log before it is copied back.
const CHECKPOINT_PAGES: u64 = 1_000;
/// When work never pauses the log is copied back at this length all the same: 64 MiB.
const CHECKPOINT_PAGES_BUSY: u64 = 16_000;
/// More than there are statements, so that each is prepared once.
const STATEMENTS: usize = 64;

/// The embedded store.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
    /// How long the log is, in pages, as SQLite said after the last commit.
    log_pages: Arc<AtomicU64>,
    // Held until the connection is closed: fields are dropped in order.
    _lock: Lock,
}

/// The claim on a store.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Explicitly, since a process that is just being forked has the file open too.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the store's lock could not be released; it ends with this process");
        }
    }
}

impl Sqlite {
    /// Opens or makes the store, takes it for this process, and brings its schema up to date.
    ///
    /// # Errors
    /// When another process has it, a newer version wrote it, or the file cannot be used.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        let failed = |what| {
            move |source: rusqlite::Error| StoreError::Database {
                what,
                path: path.to_owned(),
                source: source.into(),
            }
        };
        let mut connection = Connection::open(path).map_err(failed("open the file"))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // One process only, so the index of the log can stay in memory and locks need no system calls.
        let pragmas = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
             PRAGMA foreign_keys=OFF; PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY;";
        connection.execute_batch(pragmas).map_err(failed("set it up"))?;
        schema::migrate(&mut connection, path)?;
        let log_pages = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&log_pages);
        let hook = move |_: &mut Wal, pages: c_int| {
            told.store(u64::try_from(pages).unwrap_or_default(), Ordering::Relaxed);
            Ok(())
        };
        connection.wal_hook(Some(hook)).map_err(failed("watch its log"))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            log_pages,
            _lock: lock,
        })
    }

    fn failed(&self, what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let path = self.path.clone();
        move |source| StoreError::Database {
            what,
            path: path.clone(),
            source: source.into(),
        }
    }

    fn commit_rows(&mut self, changes: &[Change]) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        for change in changes {
            write::put(&transaction, change)?;
        }
        transaction.commit()
    }

    /// True errors of this connection's state are told apart from refusals to write.
    fn judge(&self, error: rusqlite::Error) -> CommitError {
        let message = error.to_string();
        let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
        let unsynced = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC].contains(&extended);
        let refusal = matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::OutOfMemory
                    | ErrorCode::CannotOpen
            )
        );
        let source = error.into();
        // After a failed sync the kernel may report the next one as done although pages were lost.
        if refusal && !unsynced && self.connection.is_autocommit() {
            CommitError::Full { message, source }
        } else {
            CommitError::Broken { message, source }
        }
    }
}

impl Store for Sqlite {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let failed = self.failed("read the rows");
        let note = format!("SQLite, schema {}", schema::NEWEST);
        read::load(&mut self.connection, note).map_err(failed)
    }

    fn set_aside(&mut self, rows: &[(Change, String)]) -> Result<(), CommitError> {
        let result = (|| {
            let transaction = self.connection.transaction()?;
            for (change, why) in rows {
                row::set_aside_change(&transaction, change, why)?;
            }
            transaction.commit()
        })();
        result.map_err(|error| self.judge(error))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), CommitError> {
        self.commit_rows(changes).map_err(|error| self.judge(error))
    }

    fn tend(&mut self, idle: bool) {
        let limit = if idle {
            CHECKPOINT_PAGES
        } else {
            CHECKPOINT_PAGES_BUSY
        };
        if self.log_pages.load(Ordering::Relaxed) < limit {
            return;
        }
        self.log_pages.store(0, Ordering::Relaxed);
        // A checkpoint that fails (full disk) changes nothing that is durable; the log grows until the next.
        let outcome = self
            .connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = outcome {
            tracing::warn!(%error, "the store's log could not be copied back; it grows until that works");
        }
    }
}

fn lock(store: &Path) -> Result<Lock, StoreError> {
    let mut path = store.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let failed = |source| StoreError::Lock {
        path: path.clone(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(source)) => return Err(failed(source)),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(failed)?;
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            return Err(StoreError::InUse {
                path: store.to_owned(),
                holder,
            });
        }
    }
    // The name is for people; a full disk must not keep the store from opening.
    let name = format!("{}\n", std::process::id());
    let written = file.set_len(0).and_then(|()| file.write_all(name.as_bytes()));
    if let Err(error) = written {
        tracing::warn!(%error, path = %path.display(), "the lock file could not be written");
    }
    Ok(Lock(file))
}
