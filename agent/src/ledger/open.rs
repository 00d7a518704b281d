//! Opening the ledger, whatever state its file is in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use loadline_model::{Generation, LedgerId, Sequence, WallTime};
use rusqlite::{Connection, ErrorCode, OptionalExtension};
use uuid::Uuid;

use super::{Ledger, LedgerError, SetAside, ledger_id, schema};

/// A warden that restarts may overlap with its predecessor's last moments.
const BUSY_WAIT: Duration = Duration::from_secs(3);

/// Why a file was not taken as it is.
enum Trouble {
    /// It is no ledger any more.
    Broken(String),
    /// It is fine, but not for us, or not now.
    Refused(LedgerError),
}

impl Ledger {
    /// Opens the ledger, or begins one. A file that cannot be read is kept aside under a new name.
    ///
    /// # Errors
    /// When the file is in use, newer than this version, or the disk does not let it be opened.
    pub fn open(path: &Path, now: WallTime) -> Result<(Self, SetAside), LedgerError> {
        match attempt(path) {
            Ok(ledger) => Ok((ledger, SetAside::default())),
            Err(Trouble::Refused(error)) => Err(error),
            Err(Trouble::Broken(why)) => {
                let kept = keep_aside(path, now).map_err(|source| LedgerError::Open {
                    path: path.to_owned(),
                    source: source.into(),
                })?;
                let sentence = format!(
                    "the ledger could not be read ({why}); it is kept as {}, a new one has begun, and running workers were adopted",
                    kept.display()
                );
                match attempt(path) {
                    Ok(ledger) => Ok((
                        ledger,
                        SetAside {
                            sentences: vec![sentence],
                        },
                    )),
                    Err(Trouble::Refused(error)) => Err(error),
                    Err(Trouble::Broken(why)) => Err(LedgerError::Open {
                        path: path.to_owned(),
                        source: why.into(),
                    }),
                }
            }
        }
    }
}

fn attempt(path: &Path) -> Result<Ledger, Trouble> {
    let trouble = |error: rusqlite::Error| judge(path, error);
    let mut connection = Connection::open(path).map_err(trouble)?;
    prepare(&connection).map_err(trouble)?;
    let found = schema::found(&connection).map_err(trouble)?;
    if found > schema::NEWEST {
        return Err(Trouble::Refused(LedgerError::NewerSchema {
            path: path.to_owned(),
            found,
            known: schema::NEWEST,
        }));
    }
    let check: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(trouble)?;
    if check != "ok" {
        return Err(Trouble::Broken(check));
    }
    schema::migrate(&mut connection).map_err(trouble)?;
    let id = identity(&connection).map_err(trouble)?;
    let counter = |key: &str| -> Result<u64, Trouble> {
        let sql = "SELECT value FROM counter WHERE key = ?1";
        let value: Option<i64> = connection
            .query_row(sql, [key], |row| row.get(0))
            .optional()
            .map_err(trouble)?;
        Ok(value.unwrap_or(0).unsigned_abs())
    };
    let (generation, last) = (
        Generation(counter("generation")?),
        Sequence(counter("last_sequence")?),
    );
    Ok(Ledger {
        connection,
        id,
        generation,
        last,
        acknowledged: Sequence(0),
    })
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_WAIT)?;
    // Exclusive: the ledger has one owner, and a second warden must notice at once.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")
}

fn judge(path: &Path, error: rusqlite::Error) -> Trouble {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Trouble::Broken(error.to_string()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Refused(LedgerError::InUse {
            path: path.to_owned(),
        }),
        _ => Trouble::Refused(LedgerError::Open {
            path: path.to_owned(),
            source: error.into(),
        }),
    }
}

/// The ledger's id; chosen when it begins.
fn identity(connection: &Connection) -> rusqlite::Result<LedgerId> {
    let sql = "SELECT ledger_id FROM identity";
    let known: Option<Vec<u8>> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    if let Some(id) = known.and_then(|bytes| ledger_id(&bytes).ok()) {
        return Ok(id);
    }
    let id = LedgerId::from_uuid(Uuid::new_v4());
    let sql = "INSERT OR REPLACE INTO identity (one, ledger_id) VALUES (1, ?1)";
    connection.execute(sql, [id.as_bytes()])?;
    Ok(id)
}

/// Renames the file and what belongs to it.
fn keep_aside(path: &Path, now: WallTime) -> io::Result<PathBuf> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let kept = with(&format!(".broken-{}", now.0));
    fs::rename(path, &kept)?;
    for suffix in ["-wal", "-shm"] {
        let mut name = kept.as_os_str().to_owned();
        name.push(suffix);
        match fs::rename(with(suffix), PathBuf::from(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(kept)
}
