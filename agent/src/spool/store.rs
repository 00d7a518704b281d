//! The spool's tables and statements. Synchronous: every call may wait for the disk.

use std::path::{Path, PathBuf};

use loadline_model::{LedgerId, Sequence, WallTime};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::fault::{SpoolError, SpoolFault};
use super::record::{Appended, Batch, Broken, NewRecord, Opening, Record, RowId, SpoolLimits, SpoolView};

const SCHEMA: i64 = 1;
const TABLES: &str = "
    CREATE TABLE event (
        row INTEGER PRIMARY KEY AUTOINCREMENT, ledger BLOB NOT NULL, sequence INTEGER NOT NULL,
        sum BLOB NOT NULL, body BLOB NOT NULL, UNIQUE (ledger, sequence)) STRICT;
    CREATE TABLE ledger (id BLOB PRIMARY KEY, stored INTEGER NOT NULL) STRICT;
    CREATE TABLE aside (
        row INTEGER PRIMARY KEY, ledger BLOB NOT NULL, sequence INTEGER NOT NULL, body BLOB NOT NULL,
        why TEXT NOT NULL, at_us INTEGER NOT NULL) STRICT;
    PRAGMA user_version = 1;";

/// Events in between: see the module.
#[derive(Debug)]
pub struct Spool {
    db: Connection,
    path: PathBuf,
    limits: SpoolLimits,
    view: SpoolView,
}

fn statement(what: &'static str) -> impl Fn(rusqlite::Error) -> SpoolError {
    move |source| SpoolError::Statement { what, source }
}

fn signed(sequence: Sequence) -> i64 {
    i64::try_from(sequence.0).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn checksum(ledger: &[u8], sequence: i64, body: &[u8]) -> [u8; 8] {
    let mut hash = Sha256::new();
    hash.update(ledger);
    hash.update(sequence.to_be_bytes());
    hash.update(body);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hash.finalize()[..8]);
    sum
}

impl Spool {
    /// Opens or creates it; an unreadable file is set aside first.
    ///
    /// # Errors
    /// When the disk refuses, a newer agent wrote it, or another agent holds it.
    pub fn open(path: &Path, limits: SpoolLimits, now: WallTime) -> Result<(Self, Opening), SpoolError> {
        match Self::open_sound(path, limits) {
            Ok(spool) => Ok((spool, Opening::Sound)),
            Err(error) if error.fault() == SpoolFault::Corrupt => {
                let to = set_aside(path, now)?;
                let why = with_cause(&error);
                Ok((Self::open_sound(path, limits)?, Opening::SetAside { to, why }))
            }
            Err(error) => Err(error),
        }
    }

    fn open_sound(path: &Path, limits: SpoolLimits) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Open {
            path: path.to_owned(),
            source,
        };
        let db = Connection::open(path).map_err(failed)?;
        // Exclusive: two agents on one spool would each think the other's events delivered.
        db.execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA journal_size_limit = 4194304; PRAGMA cache_size = -512; PRAGMA busy_timeout = 2000;",
        )
        .map_err(failed)?;
        let check: String = db
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(failed)?;
        if check != "ok" {
            return Err(SpoolError::Damaged(check));
        }
        match db
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(failed)?
        {
            0 => db
                .execute_batch(&format!("BEGIN IMMEDIATE;{TABLES}COMMIT;"))
                .map_err(failed)?,
            SCHEMA => {}
            found => {
                return Err(SpoolError::Newer {
                    path: path.to_owned(),
                    found,
                });
            }
        }
        let mut spool = Self {
            db,
            path: path.to_owned(),
            limits,
            view: SpoolView::default(),
        };
        spool.view = spool.measure()?;
        Ok(spool)
    }

    /// Sets the file aside and begins anew, after an operation found it broken.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn begin_anew(&mut self, now: WallTime) -> Result<PathBuf, SpoolError> {
        // The broken file is let go of before it is renamed.
        self.db = Connection::open_in_memory().map_err(statement("let go of"))?;
        let to = set_aside(&self.path, now)?;
        *self = Self::open_sound(&self.path, self.limits)?;
        Ok(to)
    }

    fn measure(&self) -> Result<SpoolView, SpoolError> {
        let sql = "SELECT count(*), coalesce(sum(length(body)), 0), (SELECT count(*) FROM aside) FROM event";
        let (events, bytes, aside) = self
            .db
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .map_err(statement("measure"))?;
        Ok(SpoolView {
            events: unsigned(events),
            bytes: unsigned(bytes),
            set_aside: unsigned(aside),
        })
    }

    /// How much is in it.
    pub const fn view(&self) -> SpoolView {
        self.view
    }

    /// The newest event of a ledger that was ever stored here.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn stored_through(&self, ledger: LedgerId) -> Result<Sequence, SpoolError> {
        let found: Option<i64> = self
            .db
            .query_row(
                "SELECT stored FROM ledger WHERE id = ?1",
                [ledger.as_bytes()],
                |row| row.get(0),
            )
            .optional()
            .map_err(statement("read"))?;
        Ok(Sequence(unsigned(found.unwrap_or(0))))
    }

    /// The oldest event of a ledger that the fleet can still be told: one that waits here or, with none waiting,
    /// the one that comes next.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn oldest_to_tell(&self, ledger: LedgerId) -> Result<Sequence, SpoolError> {
        let oldest: Option<i64> = self
            .db
            .query_row(
                "SELECT min(sequence) FROM event WHERE ledger = ?1",
                [ledger.as_bytes()],
                |row| row.get(0),
            )
            .map_err(statement("read"))?;
        match oldest {
            Some(oldest) => Ok(Sequence(unsigned(oldest))),
            None => Ok(self.stored_through(ledger)?.next()),
        }
    }

    /// Stores events, all or none. When it returns `Stored` they survive a power cut.
    ///
    /// # Errors
    /// When they could not be made durable; none of them is stored then.
    pub fn append(&mut self, records: &[NewRecord]) -> Result<Appended, SpoolError> {
        let bytes: u64 = records.iter().map(|record| length(&record.body)).sum();
        let view = self.view;
        let fits = view.events.saturating_add(length(records)) <= self.limits.events
            && view.bytes.saturating_add(bytes) <= self.limits.bytes;
        // An empty spool takes anything, or an event larger than the limit would stop the node's story for ever.
        if !fits && view.events > 0 {
            return Ok(Appended::Full);
        }
        let failed = statement("write to");
        let write = self.db.transaction().map_err(&failed)?;
        let mut added = SpoolView::default();
        for NewRecord {
            ledger,
            sequence,
            body,
        } in records
        {
            let (id, number) = (ledger.as_bytes(), signed(*sequence));
            let new = write
                .execute(
                    "INSERT INTO ledger (id, stored) VALUES (?1, ?2) ON CONFLICT (id)
                     DO UPDATE SET stored = excluded.stored WHERE excluded.stored > stored",
                    params![id, number],
                )
                .map_err(&failed)?;
            // Not newer than what was ever stored: it is here, or it was delivered.
            if new == 0 {
                continue;
            }
            let sum = checksum(id, number, body);
            write
                .execute(
                    "INSERT INTO event (ledger, sequence, sum, body) VALUES (?1, ?2, ?3, ?4)",
                    params![id, number, sum, body],
                )
                .map_err(&failed)?;
            added.events += 1;
            added.bytes += length(body);
        }
        write.commit().map_err(&failed)?;
        self.view.events += added.events;
        self.view.bytes += added.bytes;
        Ok(Appended::Stored)
    }

    /// The records after a row, at most so many events and about so many bytes (one at least), all of one ledger,
    /// since an acknowledgement names one. Broken ones are set aside; `stand_in` writes the event that takes their
    /// place.
    ///
    /// # Errors
    /// When they cannot be read, or a broken one cannot be set aside.
    pub fn next_batch(
        &mut self,
        after: RowId,
        (events, bytes): (usize, u64),
        now: WallTime,
        stand_in: impl Fn(&Broken) -> Option<Vec<u8>>,
    ) -> Result<Batch, SpoolError> {
        let mut batch = Batch::default();
        let mut size = 0;
        for raw in self.rows_after(after, events)? {
            let record = match raw.check() {
                Ok(record) => record,
                Err(broken) => {
                    let replaced = self.replace(&raw, &broken, stand_in(&broken), now)?;
                    batch.broken.push(broken);
                    match replaced {
                        Some(record) => record,
                        None => continue,
                    }
                }
            };
            size += length(&record.body);
            let other = |last: &Record| last.ledger != record.ledger;
            if (size > bytes && !batch.records.is_empty()) || batch.records.last().is_some_and(other) {
                break;
            }
            batch.records.push(record);
        }
        Ok(batch)
    }

    fn rows_after(&self, after: RowId, events: usize) -> Result<Vec<Raw>, SpoolError> {
        let failed = statement("read");
        let mut query = self
            .db
            .prepare_cached(
                "SELECT row, ledger, sequence, sum, body FROM event WHERE row > ?1 ORDER BY row LIMIT ?2",
            )
            .map_err(&failed)?;
        let limit = i64::try_from(events).unwrap_or(i64::MAX);
        query
            .query_map(params![after.0, limit], |row| {
                Ok(Raw {
                    row: RowId(row.get(0)?),
                    ledger: row.get(1)?,
                    sequence: row.get(2)?,
                    sum: row.get(3)?,
                    body: row.get(4)?,
                })
            })
            .and_then(Iterator::collect)
            .map_err(&failed)
    }

    fn replace(
        &mut self,
        raw: &Raw,
        broken: &Broken,
        stand_in: Option<Vec<u8>>,
        now: WallTime,
    ) -> Result<Option<Record>, SpoolError> {
        let failed = statement("set a record aside in");
        let write = self.db.transaction().map_err(&failed)?;
        // A stand-in under a ledger that was never heard of would only puzzle the fleet.
        let known: bool = write
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM ledger WHERE id = ?1)",
                [&raw.ledger],
                |row| row.get(0),
            )
            .map_err(&failed)?;
        write
            .execute(
                "INSERT INTO aside (ledger, sequence, body, why, at_us) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![raw.ledger, raw.sequence, raw.body, broken.why, now.0],
            )
            .map_err(&failed)?;
        let record = broken
            .ledger
            .filter(|_| known)
            .zip(stand_in)
            .map(|(ledger, body)| Record {
                row: raw.row,
                ledger,
                sequence: broken.sequence,
                body,
            });
        if let Some(record) = &record {
            let sum = checksum(&raw.ledger, raw.sequence, &record.body);
            write
                .execute(
                    "UPDATE event SET sum = ?2, body = ?3 WHERE row = ?1",
                    params![raw.row.0, sum, record.body],
                )
                .map_err(&failed)?;
        } else {
            write
                .execute("DELETE FROM event WHERE row = ?1", [raw.row.0])
                .map_err(&failed)?;
        }
        write.commit().map_err(&failed)?;
        self.view = self.measure()?;
        Ok(record)
    }

    /// How many records up to a row still wait for the fleet's acknowledgement.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn waiting_through(&self, row: RowId) -> Result<u64, SpoolError> {
        self.db
            .query_row("SELECT count(*) FROM event WHERE row <= ?1", [row.0], |row| {
                row.get(0)
            })
            .map(unsigned)
            .map_err(statement("read"))
    }

    /// Drops what the fleet has durable: events of a ledger up to a sequence.
    ///
    /// # Errors
    /// When it cannot be written; the events are then sent again, and counted once by the fleet.
    pub fn drop_through(&mut self, ledger: LedgerId, sequence: Sequence) -> Result<u64, SpoolError> {
        let dropped = self
            .db
            .execute(
                "DELETE FROM event WHERE ledger = ?1 AND sequence <= ?2",
                params![ledger.as_bytes(), signed(sequence)],
            )
            .map_err(statement("drop acknowledged events from"))?;
        if dropped > 0 {
            self.view = self.measure()?;
        }
        Ok(u64::try_from(dropped).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
impl Spool {
    /// A disk with so many pages (what is there already stays).
    pub(super) fn limit_pages(&self, pages: Option<i64>) {
        let sql = format!("PRAGMA max_page_count = {}", pages.unwrap_or(1_000_000));
        self.db.query_row(&sql, [], |_| Ok(())).unwrap();
    }
}

fn length<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

/// A row as read, not yet believed.
struct Raw {
    row: RowId,
    ledger: Vec<u8>,
    sequence: i64,
    sum: Vec<u8>,
    body: Vec<u8>,
}

impl Raw {
    fn check(&self) -> Result<Record, Broken> {
        let sequence = Sequence(unsigned(self.sequence));
        let ledger = LedgerId::from_slice(&self.ledger).ok();
        let broken = |why: &str| Broken {
            ledger,
            sequence,
            why: why.to_owned(),
        };
        if self.sum != checksum(&self.ledger, self.sequence, &self.body) {
            return Err(broken("its checksum does not match"));
        }
        let ledger = ledger.ok_or_else(|| broken("its ledger is not an id"))?;
        Ok(Record {
            row: self.row,
            ledger,
            sequence,
            body: self.body.clone(),
        })
    }
}

fn set_aside(path: &Path, now: WallTime) -> Result<PathBuf, SpoolError> {
    let aside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let to = aside(&format!(".broken-{}", now.0));
    let failed = |source| SpoolError::Rename {
        path: path.to_owned(),
        source,
    };
    std::fs::rename(path, &to).map_err(failed)?;
    for part in ["-wal", "-shm"] {
        match std::fs::rename(aside(part), aside(&format!(".broken-{}{part}", now.0))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(to)
}

fn with_cause(error: &SpoolError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
