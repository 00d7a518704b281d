//! What the warden must not forget: attempts with their orders, events, the applied generation.
//!
//! SQLite, write-ahead log, synchronous=FULL: what [`Ledger::commit`] has returned for survives a power cut, and
//! nothing else is ever acknowledged. A record that cannot be read is kept aside and named; a file that
//! cannot be read is kept aside as a whole, a new ledger with a new id begins, and what runs is adopted.

mod ceiling;
mod event;
mod open;
mod record;
mod schema;
pub mod wire;

use std::path::PathBuf;

use loadline_model::{AttemptId, Generation, LedgerId, ParseIdError, Receipt, ReceiptAction, ReceiptSubject};
use loadline_model::{Sequence, WallTime};
use loadline_policy::ceiling::Ceilings;
use rusqlite::{Connection, ErrorCode, Transaction, params};

pub use event::{AttemptReport, Happened, NodeEvent, Placement, ProveNews};
pub use record::{StoredAttempt, StoredHolding};

/// One page of events: large enough for a burst, small enough to build at once.
const EVENTS_PAGE: i64 = 256;

/// An operation on the ledger that failed. Nothing of it is durable.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be opened.
    #[error("opening the ledger {} failed", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite or the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has it open.
    #[error("the ledger {} is in use: another loadline-warden is running", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error(
        "the ledger {} has schema {found} and this version knows {known}: install the newer loadline-node again",
        path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest this version knows.
        known: i64,
    },
    /// A change could not be made durable.
    #[error("writing to the ledger failed: {operation}")]
    Write {
        /// Which change.
        operation: &'static str,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// It could not be read.
    #[error("reading the ledger failed: {operation}")]
    Read {
        /// What was wanted.
        operation: &'static str,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
}

impl LedgerError {
    /// True if there is no room on the disk.
    pub fn is_disk_full(&self) -> bool {
        let Self::Write { source, .. } = self else {
            return false;
        };
        matches!(
            source.sqlite_error_code(),
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure)
        )
    }
}

/// Id, signed order, state.
type AttemptRow = (Vec<u8>, Option<Vec<u8>>, Vec<u8>);

fn writing(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> LedgerError {
    move |source| LedgerError::Write { operation, source }
}

fn reading(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> LedgerError {
    move |source| LedgerError::Read { operation, source }
}

/// What becomes durable at once, or not at all.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Attempts as they stand now.
    pub attempts: Vec<StoredAttempt>,
    /// Attempts that ended long ago and need not be known any more.
    pub forgotten: Vec<AttemptId>,
    /// What happened, in order.
    pub events: Vec<NodeEvent>,
    /// Orders up to here are known, whether carried out or refused.
    pub generation: Option<Generation>,
    /// What operators let this node do, if that changed.
    pub ceilings: Option<Ceilings>,
}

impl Change {
    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty()
            && self.forgotten.is_empty()
            && self.events.is_empty()
            && self.generation.is_none()
            && self.ceilings.is_none()
    }
}

/// What opening found wrong, each with a sentence for its receipt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetAside {
    /// One sentence each.
    pub sentences: Vec<String>,
}

/// The node's ledger, open and locked.
#[derive(Debug)]
pub struct Ledger {
    connection: Connection,
    id: LedgerId,
    generation: Generation,
    last: Sequence,
    acknowledged: Sequence,
}

impl Ledger {
    /// Which incarnation of the ledger this is.
    pub const fn id(&self) -> LedgerId {
        self.id
    }

    /// Orders up to here are known.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The sequence of the latest event.
    pub const fn last_sequence(&self) -> Sequence {
        self.last
    }

    /// Makes a change durable and gives its events their sequences.
    ///
    /// # Errors
    /// When it could not be made durable; the ledger is as before.
    pub fn commit(&mut self, change: &Change) -> Result<(), LedgerError> {
        let (id, mut last, acknowledged) = (self.id, self.last, self.acknowledged);
        let generation = change.generation.unwrap_or(self.generation).max(self.generation);
        let mut write = |connection: &mut Connection| -> rusqlite::Result<Sequence> {
            let transaction = connection.transaction()?;
            for attempt in &change.attempts {
                put_attempt(&transaction, attempt)?;
            }
            for attempt in &change.forgotten {
                let sql = "DELETE FROM attempt WHERE id = ?1 AND ended_at_us IS NOT NULL";
                transaction.prepare_cached(sql)?.execute([attempt.as_bytes()])?;
            }
            let acknowledged = i64::try_from(acknowledged.0).unwrap_or(i64::MAX);
            let sql = "DELETE FROM event WHERE sequence <= ?1";
            transaction.prepare_cached(sql)?.execute([acknowledged])?;
            for event in &change.events {
                last = last.next();
                put_event(&transaction, id, last, event)?;
            }
            if let Some(ceilings) = &change.ceilings {
                ceiling::put(&transaction, ceilings)?;
            }
            put_counter(&transaction, "last_sequence", last.0)?;
            put_counter(&transaction, "generation", generation.0)?;
            transaction.commit()?;
            Ok(last)
        };
        self.last = write(&mut self.connection).map_err(writing("a change"))?;
        self.generation = generation;
        Ok(())
    }

    /// All attempts, and what is wrong with those that could not be read; these are set aside by it.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub fn attempts(
        &mut self,
        now: WallTime,
        order_is_readable: impl Fn(&[u8]) -> Result<(), String>,
    ) -> Result<(Vec<StoredAttempt>, SetAside), LedgerError> {
        let (mut attempts, mut aside) = (Vec::new(), SetAside::default());
        for (id, order, state) in self.attempt_rows().map_err(reading("attempts"))? {
            let readable = order.as_deref().map_or(Ok(()), &order_is_readable);
            match readable.and_then(|()| StoredAttempt::decode(&id, order, &state)) {
                Ok(attempt) => attempts.push(attempt),
                Err(why) => {
                    let name = data_encoding::HEXLOWER.encode(&id);
                    self.set_attempt_aside(&id, &state, &why, now)
                        .map_err(writing("set aside"))?;
                    aside.sentences.push(format!(
                        "the ledger's record of attempt {name} cannot be read ({why}); it is kept in the table set_aside, and its worker goes on as an orphan"
                    ));
                }
            }
        }
        Ok((attempts, aside))
    }

    fn attempt_rows(&self) -> rusqlite::Result<Vec<AttemptRow>> {
        let sql = "SELECT id, order_bytes, state FROM attempt ORDER BY id";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| {
            // As raw bytes, whatever type a broken row pretends to have.
            let bytes = |index| {
                row.get_ref(index)?
                    .as_bytes_or_null()
                    .map(|b| b.map(<[u8]>::to_vec))
                    .map_err(Into::into)
            };
            let bytes = |index| -> rusqlite::Result<Option<Vec<u8>>> { bytes(index) };
            Ok((
                bytes(0)?.unwrap_or_default(),
                bytes(1)?,
                bytes(2)?.unwrap_or_default(),
            ))
        })?;
        rows.collect()
    }

    fn set_attempt_aside(
        &mut self,
        id: &[u8],
        state: &[u8],
        why: &str,
        now: WallTime,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        put_aside(&transaction, "attempt", id, state, why, now)?;
        transaction.execute("DELETE FROM attempt WHERE id = ?1", [id])?;
        transaction.commit()
    }

    /// Events after a sequence, at most one page of them, encoded as they travel. One that cannot be read is set
    /// aside, and a receipt takes its sequence, so that there is no gap.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub fn events_after(&mut self, after: Sequence, now: WallTime) -> Result<Vec<Vec<u8>>, LedgerError> {
        let mut page = Vec::new();
        for (sequence, body) in self
            .event_rows(after.max(self.acknowledged))
            .map_err(reading("events"))?
        {
            let sequence = Sequence(sequence.unsigned_abs());
            match wire::check(self.id, sequence, &body) {
                Ok(()) => page.push(body),
                Err(why) => page.push(
                    self.replace_event(sequence, &body, &why, now)
                        .map_err(writing("set aside"))?,
                ),
            }
        }
        Ok(page)
    }

    fn event_rows(&self, after: Sequence) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
        let sql = "SELECT sequence, body FROM event WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let after = i64::try_from(after.0).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![after, EVENTS_PAGE], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    }

    fn replace_event(
        &mut self,
        sequence: Sequence,
        body: &[u8],
        why: &str,
        now: WallTime,
    ) -> rusqlite::Result<Vec<u8>> {
        let sentence = format!(
            "event {sequence} of this node's ledger cannot be read ({why}); it is kept in the table set_aside"
        );
        let receipt = NodeEvent {
            boot_id: String::new(),
            at: now,
            what: Happened::Receipt(Receipt {
                at: now,
                action: ReceiptAction::RecordSetAside,
                subject: ReceiptSubject::Node("ledger.db".into()),
                sentence,
            }),
        };
        let fresh = wire::encode(self.id, sequence, &receipt);
        let transaction = self.connection.transaction()?;
        let key = sequence.0.to_be_bytes();
        put_aside(&transaction, "event", &key, body, why, now)?;
        let update = "UPDATE event SET body = ?2 WHERE sequence = ?1";
        transaction.execute(
            update,
            params![i64::try_from(sequence.0).unwrap_or(i64::MAX), fresh],
        )?;
        transaction.commit()?;
        Ok(fresh)
    }

    /// Events that the agent has made durable elsewhere. They go with the next change: until then they may be
    /// told again, which costs less than a write of its own.
    pub fn acknowledge(&mut self, through: Sequence) {
        self.acknowledged = self.acknowledged.max(through.min(self.last));
    }

    /// Attempts that ended before a moment.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn ended_before(&self, before: WallTime) -> Result<Vec<AttemptId>, LedgerError> {
        let read = || -> rusqlite::Result<Vec<Vec<u8>>> {
            let sql = "SELECT id FROM attempt WHERE ended_at_us < ?1";
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map([before.0], |row| row.get(0))?;
            rows.collect()
        };
        let ids = read().map_err(reading("ended attempts"))?;
        Ok(ids
            .iter()
            .filter_map(|id| AttemptId::from_slice(id).ok())
            .collect())
    }

    /// How many records are kept aside.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn set_aside_count(&self) -> Result<u64, LedgerError> {
        let count: i64 = self
            .connection
            .query_row("SELECT count(*) FROM set_aside", [], |row| row.get(0))
            .map_err(reading("set_aside"))?;
        Ok(count.unsigned_abs())
    }
}

#[cfg(test)]
impl Ledger {
    /// The disk is full from now on.
    pub(crate) fn fill_up(&self) {
        let pages: i64 = self
            .connection
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap();
        self.connection
            .pragma_update(None, "max_page_count", pages)
            .unwrap();
    }

    /// There is room again.
    pub(crate) fn make_room(&self) {
        self.connection
            .pragma_update(None, "max_page_count", 1_000_000)
            .unwrap();
    }
}

fn put_attempt(transaction: &Transaction<'_>, attempt: &StoredAttempt) -> rusqlite::Result<()> {
    let sql = "INSERT INTO attempt (id, ended_at_us, order_bytes, state) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (id) DO UPDATE SET ended_at_us = excluded.ended_at_us, state = excluded.state,
               order_bytes = coalesce(excluded.order_bytes, order_bytes)";
    let ended = attempt.life.ended().map(|ended| ended.at.0);
    transaction
        .prepare_cached(sql)?
        .execute(params![
            attempt.attempt.as_bytes(),
            ended,
            attempt.order,
            attempt.state()
        ])
        .map(drop)
}

fn put_event(
    transaction: &Transaction<'_>,
    id: LedgerId,
    sequence: Sequence,
    event: &NodeEvent,
) -> rusqlite::Result<()> {
    let body = wire::encode(id, sequence, event);
    let sequence = i64::try_from(sequence.0).unwrap_or(i64::MAX);
    let sql = "INSERT INTO event (sequence, body) VALUES (?1, ?2)";
    transaction
        .prepare_cached(sql)?
        .execute(params![sequence, body])
        .map(drop)
}

fn put_counter(transaction: &Transaction<'_>, key: &str, value: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO counter (key, value) VALUES (?1, ?2)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value";
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    transaction
        .prepare_cached(sql)?
        .execute(params![key, value])
        .map(drop)
}

fn put_aside(
    transaction: &Transaction<'_>,
    source: &str,
    key: &[u8],
    body: &[u8],
    why: &str,
    now: WallTime,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO set_aside (source, key, body, why, at_us) VALUES (?1, ?2, ?3, ?4, ?5)";
    transaction
        .execute(sql, params![source, key, body, why, now.0])
        .map(drop)
}

fn ledger_id(bytes: &[u8]) -> Result<LedgerId, ParseIdError> {
    LedgerId::from_slice(bytes)
}

#[cfg(test)]
mod tests;
