//! What goes into the ledger and what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use loadline_model::{AttemptId, Generation, Sequence, WallTime};
use loadline_policy::attempt::BootId;
use loadline_policy::reconcile::LedgerAttempt;

/// An attempt as it is to be kept.
#[derive(Debug, Clone)]
pub struct SavedAttempt {
    /// Which.
    pub attempt: AttemptId,
    /// The encoded order as it was signed; none for an adopted orphan. Written once: none later leaves it as it is.
    pub order: Option<Vec<u8>>,
    /// Where it stands. An ended one is kept for answering replays until [`super::Ledger::forget_ended`].
    pub entry: LedgerAttempt,
}

/// Something that happened, without its sequence yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// When.
    pub at: WallTime,
    /// In which boot.
    pub boot: BootId,
    /// The encoded wire event, without ledger id and sequence; the ledger does not look into it.
    pub body: Vec<u8>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place; ascending without gaps within one ledger.
    pub sequence: Sequence,
    /// When.
    pub at: WallTime,
    /// In which boot.
    pub boot: BootId,
    /// As given.
    pub body: Vec<u8>,
}

/// Things that become known together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Attempts that are new or have changed.
    pub attempts: Vec<SavedAttempt>,
    /// What happened, in order.
    pub events: Vec<NewEvent>,
    /// All orders up to here are in the ledger.
    pub applied_generation: Option<Generation>,
}

/// A record or file that could not be read and was kept aside; each deserves a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// What it was: an attempt's id, an event's sequence, or the file.
    pub what: String,
    /// Why it could not be read.
    pub why: String,
    /// Where it is now.
    pub to: PathBuf,
}

/// What a ledger held when it was opened.
#[derive(Debug, Default)]
pub struct OpenedLedger {
    /// All attempts that are not ended.
    pub attempts: BTreeMap<AttemptId, LedgerAttempt>,
    /// All attempts known as ended.
    pub ended: BTreeSet<AttemptId>,
    /// What could not be read.
    pub set_aside: Vec<SetAside>,
}
