//! The ledger's tables and statements.

use std::path::{Path, PathBuf};

use loadline_model::{AttemptId, Generation, LedgerId, Sequence, WallTime};
use loadline_policy::attempt::{BootId, Life};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::error::{LedgerError, LedgerFault};
use super::record::{Batch, OpenedLedger, SavedAttempt, SetAside, StoredEvent};
use super::row::AttemptRow;
use super::wire::work_order;

/// Schema of this program; a newer one is refused, an older one does not exist yet.
const SCHEMA: i64 = 1;
const TABLES: &str = "
    CREATE TABLE ledger (
        one INTEGER PRIMARY KEY CHECK (one = 1), id BLOB NOT NULL,
        applied_generation INTEGER NOT NULL, last_sequence INTEGER NOT NULL) STRICT;
    CREATE TABLE attempt (
        id BLOB PRIMARY KEY, ended_at_us INTEGER, signed_order BLOB, record TEXT NOT NULL) STRICT;
    CREATE TABLE event (
        sequence INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, boot TEXT NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE set_aside (
        row INTEGER PRIMARY KEY, what TEXT NOT NULL, why TEXT NOT NULL, at_us INTEGER NOT NULL,
        signed_order BLOB, record TEXT) STRICT;
    PRAGMA user_version = 1;";

/// The open ledger. See the module.
#[derive(Debug)]
pub struct Ledger {
    db: Connection,
    path: PathBuf,
    id: LedgerId,
    applied_generation: Generation,
    last_sequence: Sequence,
}

fn statement(what: &'static str) -> impl Fn(rusqlite::Error) -> LedgerError {
    move |source| LedgerError::Statement { what, source }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl Ledger {
    /// Opens or begins the ledger. A broken file is renamed, and a new ledger begun; broken rows are moved aside.
    ///
    /// # Errors
    /// When the disk refuses, another warden holds it, or a newer one wrote it.
    pub fn open(path: &Path, now: WallTime) -> Result<(Self, OpenedLedger), LedgerError> {
        let mut aside = Vec::new();
        let mut ledger = match Self::open_sound(path) {
            Err(error) if error.fault() == LedgerFault::Corrupt => {
                aside.push(set_file_aside(path, now, &error)?);
                Self::open_sound(path)?
            }
            other => other?,
        };
        let mut opened = ledger.load(now)?;
        aside.append(&mut opened.set_aside);
        opened.set_aside = aside;
        Ok((ledger, opened))
    }

    fn open_sound(path: &Path) -> Result<Self, LedgerError> {
        let failed = |source| LedgerError::Open {
            path: path.to_owned(),
            source,
        };
        let db = Connection::open(path).map_err(failed)?;
        // Exclusive: two wardens on one ledger would both start what one of them accepted.
        db.execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA journal_size_limit = 4194304; PRAGMA cache_size = -1024; PRAGMA busy_timeout = 2000;",
        )
        .map_err(failed)?;
        let found: String = db
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(failed)?;
        if found != "ok" {
            return Err(LedgerError::Damaged {
                path: path.to_owned(),
                found,
            });
        }
        match db
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(failed)?
        {
            0 => begin(&db).map_err(failed)?,
            SCHEMA => {}
            found => {
                return Err(LedgerError::Newer {
                    path: path.to_owned(),
                    found,
                    known: SCHEMA,
                });
            }
        }
        let (id, generation, sequence): (Vec<u8>, i64, i64) = db
            .query_row(
                "SELECT id, applied_generation, last_sequence FROM ledger",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .map_err(failed)?;
        let id = LedgerId::from_slice(&id).map_err(|error| LedgerError::Damaged {
            path: path.to_owned(),
            found: error.to_string(),
        })?;
        Ok(Self {
            db,
            path: path.to_owned(),
            id,
            applied_generation: Generation(unsigned(generation)),
            last_sequence: Sequence(unsigned(sequence)),
        })
    }

    /// Which incarnation this is: event sequences count within it.
    pub const fn id(&self) -> LedgerId {
        self.id
    }

    /// All orders up to here are in it.
    pub const fn applied_generation(&self) -> Generation {
        self.applied_generation
    }

    /// The newest event's place.
    pub const fn last_sequence(&self) -> Sequence {
        self.last_sequence
    }

    /// Makes a batch durable, all or nothing, and gives its events their places.
    ///
    /// # Errors
    /// When it could not be made durable: then nothing of it is known.
    pub fn commit(&mut self, batch: &Batch) -> Result<Vec<StoredEvent>, LedgerError> {
        let failed = statement("write to");
        let write = self.db.transaction().map_err(&failed)?;
        for saved in &batch.attempts {
            save(&write, saved)?;
        }
        let mut stored = Vec::with_capacity(batch.events.len());
        let mut sequence = self.last_sequence;
        for event in &batch.events {
            sequence = sequence.next();
            write
                .prepare_cached("INSERT INTO event VALUES (?1, ?2, ?3, ?4)")
                .and_then(|mut insert| {
                    insert.execute(params![signed(sequence.0), event.at.0, event.boot.0, event.body])
                })
                .map_err(&failed)?;
            let (at, boot, body) = (event.at, event.boot.clone(), event.body.clone());
            stored.push(StoredEvent {
                sequence,
                at,
                boot,
                body,
            });
        }
        // A resent order may carry an older generation than one already applied: it never goes back.
        let generation = batch
            .applied_generation
            .unwrap_or_default()
            .max(self.applied_generation);
        write
            .prepare_cached("UPDATE ledger SET applied_generation = ?1, last_sequence = ?2")
            .and_then(|mut update| update.execute([signed(generation.0), signed(sequence.0)]))
            .map_err(&failed)?;
        write.commit().map_err(&failed)?;
        (self.applied_generation, self.last_sequence) = (generation, sequence);
        Ok(stored)
    }

    /// At most `limit` events after a place, in order.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn events_after(&self, after: Sequence, limit: u32) -> Result<Vec<StoredEvent>, LedgerError> {
        let failed = statement("read");
        let mut select = self
            .db
            .prepare_cached(
                "SELECT sequence, at_us, boot, body FROM event WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
            )
            .map_err(&failed)?;
        let rows = select
            .query_map([signed(after.0), i64::from(limit)], |row| {
                Ok(StoredEvent {
                    sequence: Sequence(unsigned(row.get(0)?)),
                    at: WallTime(row.get(1)?),
                    boot: BootId(row.get(2)?),
                    body: row.get(3)?,
                })
            })
            .map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    /// Lets go of events that someone else has durable. Those of another ledger's counting are none of ours.
    ///
    /// # Errors
    /// When the disk refuses; asking again is harmless.
    pub fn acknowledge(&mut self, ledger: LedgerId, through: Sequence) -> Result<(), LedgerError> {
        if ledger != self.id {
            return Ok(());
        }
        self.db
            .execute("DELETE FROM event WHERE sequence <= ?1", [signed(through.0)])
            .map(drop)
            .map_err(statement("drop acknowledged events from"))
    }

    /// The encoded order of an attempt, also of an ended one; none if it is unknown or an orphan.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn order_of(&self, attempt: AttemptId) -> Result<Option<Vec<u8>>, LedgerError> {
        self.db
            .query_row(
                "SELECT signed_order FROM attempt WHERE id = ?1",
                [attempt.as_bytes()],
                |row| row.get(0),
            )
            .optional()
            .map(Option::flatten)
            .map_err(statement("read"))
    }

    /// Forgets attempts that ended before a moment: no one will ask about them again. Gives which.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget_ended(&mut self, before: WallTime) -> Result<Vec<AttemptId>, LedgerError> {
        let failed = statement("drop ended attempts from");
        let mut delete = self
            .db
            .prepare_cached("DELETE FROM attempt WHERE ended_at_us < ?1 RETURNING id")
            .map_err(&failed)?;
        let rows = delete
            .query_map([before.0], |row| row.get::<_, Vec<u8>>(0))
            .map_err(&failed)?;
        let ids = rows.collect::<Result<Vec<_>, _>>().map_err(&failed)?;
        Ok(ids
            .iter()
            .filter_map(|id| AttemptId::from_slice(id).ok())
            .collect())
    }

    fn load(&mut self, now: WallTime) -> Result<OpenedLedger, LedgerError> {
        let mut opened = OpenedLedger::default();
        for raw in self.rows()? {
            match raw.read() {
                Ok((attempt, entry)) if matches!(entry.life, Life::Ended { .. }) => {
                    opened.ended.insert(attempt);
                }
                Ok((attempt, entry)) => {
                    opened.attempts.insert(attempt, entry);
                }
                Err(why) => opened.set_aside.push(self.set_row_aside(&raw, why, now)?),
            }
        }
        Ok(opened)
    }

    fn rows(&self) -> Result<Vec<RawAttempt>, LedgerError> {
        let failed = statement("read");
        let mut select = self
            .db
            .prepare("SELECT id, signed_order, record FROM attempt")
            .map_err(&failed)?;
        let rows = select
            .query_map([], |row| {
                Ok(RawAttempt {
                    id: row.get(0)?,
                    order: row.get(1)?,
                    record: row.get(2)?,
                })
            })
            .map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    fn set_row_aside(
        &mut self,
        raw: &RawAttempt,
        why: String,
        now: WallTime,
    ) -> Result<SetAside, LedgerError> {
        let what = match AttemptId::from_slice(&raw.id) {
            Ok(attempt) => format!("attempt {attempt}"),
            Err(_) => "an attempt without a readable id".into(),
        };
        let failed = statement("set a record aside in");
        let write = self.db.transaction().map_err(&failed)?;
        write
            .execute(
                "INSERT INTO set_aside (what, why, at_us, signed_order, record) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![what, why, now.0, raw.order, raw.record],
            )
            .map_err(&failed)?;
        write
            .execute("DELETE FROM attempt WHERE id = ?1", [&raw.id])
            .map_err(&failed)?;
        write.commit().map_err(&failed)?;
        Ok(SetAside {
            what,
            why,
            to: self.path.join("set_aside"),
        })
    }
}

struct RawAttempt {
    id: Vec<u8>,
    order: Option<Vec<u8>>,
    record: String,
}

impl RawAttempt {
    fn read(&self) -> Result<(AttemptId, loadline_policy::reconcile::LedgerAttempt), String> {
        let attempt = AttemptId::from_slice(&self.id).map_err(|error| error.to_string())?;
        let row: AttemptRow = serde_json::from_str(&self.record).map_err(|error| error.to_string())?;
        let order = self
            .order
            .as_deref()
            .map(work_order)
            .transpose()
            .map_err(|error| chain(&error))?;
        if order.as_ref().is_some_and(|order| order.attempt != attempt) {
            return Err("its order names another attempt".into());
        }
        Ok((attempt, row.into_entry(order)))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn begin(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(&format!("BEGIN IMMEDIATE;{TABLES}"))?;
    db.execute(
        "INSERT INTO ledger VALUES (1, ?1, 0, 0)",
        [Uuid::new_v4().as_bytes().as_slice()],
    )?;
    db.execute_batch("COMMIT;")
}

fn save(write: &Transaction<'_>, saved: &SavedAttempt) -> Result<(), LedgerError> {
    let record = serde_json::to_string(&AttemptRow::from(&saved.entry)).map_err(LedgerError::Encode)?;
    let ended_at = match &saved.entry.life {
        Life::Ended { ended } => Some(ended.at.0),
        _ => None,
    };
    write
        .prepare_cached(
            "INSERT INTO attempt (id, ended_at_us, signed_order, record) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET ended_at_us = excluded.ended_at_us, record = excluded.record",
        )
        .and_then(|mut upsert| {
            upsert.execute(params![saved.attempt.as_bytes(), ended_at, saved.order, record])
        })
        .map(drop)
        .map_err(statement("write to"))
}

/// Renames the file and what SQLite keeps beside it.
fn set_file_aside(path: &Path, now: WallTime, error: &LedgerError) -> Result<SetAside, LedgerError> {
    let beside = |path: &Path, end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let to = beside(path, &format!(".set-aside-{}", now.0));
    for end in ["", "-wal", "-shm"] {
        let from = beside(path, end);
        if from.exists() {
            std::fs::rename(&from, beside(&to, end))
                .map_err(|source| LedgerError::SetAside { path: from, source })?;
        }
    }
    Ok(SetAside {
        what: path.display().to_string(),
        why: chain(error),
        to,
    })
}

#[cfg(test)]
impl Ledger {
    /// How many pages the file has.
    pub(super) fn pages(&self) -> i64 {
        self.db
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .unwrap()
    }

    /// SQLite answers like a full disk beyond so many pages.
    pub(super) fn limit_pages(&self, pages: i64) {
        self.db
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
            .unwrap();
    }
}
