//! What goes into the spool and comes out of it.

use std::path::PathBuf;

use loadline_model::{LedgerId, Sequence};

/// How much is held before the warden's ledger has to hold it. A node writes a handful of events an attempt, of
/// about 300 bytes each: 100,000 are days of a busy node without its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// At most so many events.
    pub events: u64,
    /// At most so many bytes of events.
    pub bytes: u64,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self {
            events: 100_000,
            bytes: 64 << 20,
        }
    }
}

/// The place of a record in the spool; ascending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowId(pub(super) i64);

/// An event to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Whose sequence it is.
    pub ledger: LedgerId,
    /// Its place there.
    pub sequence: Sequence,
    /// The event as it travels.
    pub body: Vec<u8>,
}

/// An event as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the spool.
    pub row: RowId,
    /// Whose sequence it is.
    pub ledger: LedgerId,
    /// Its place there.
    pub sequence: Sequence,
    /// The event as it travels.
    pub body: Vec<u8>,
}

/// A record that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Whose sequence it was, if that could still be read.
    pub ledger: Option<LedgerId>,
    /// Its place there.
    pub sequence: Sequence,
    /// One phrase.
    pub why: String,
}

/// What is next to send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Ascending.
    pub records: Vec<Record>,
    /// Found broken on the way.
    pub broken: Vec<Broken>,
}

/// What became of events that were to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// They are durable (those that were there already are not stored twice).
    Stored,
    /// There is no room within the limits; nothing was stored.
    Full,
}

/// How the spool's file was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// As it was left, or new.
    Sound,
    /// Unreadable: renamed, and a new one begun.
    SetAside {
        /// Where the old one is now.
        to: PathBuf,
        /// What SQLite said.
        why: String,
    },
}

/// How much is in the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpoolView {
    /// Events that wait.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records set aside so far.
    pub set_aside: u64,
}
