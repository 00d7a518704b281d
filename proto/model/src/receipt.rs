//! One record, one sentence: what was done to whom, why, and what to do about it (design §1).

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::{AttemptId, WallTime};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptAction {
    /// The kernel killed it at its own limit.
    OutOfMemory,
    /// It was ended for production.
    Evicted,
    /// A tier was held at its floor for production.
    Squeezed,
    /// A tier that was held at its floor was let go.
    Released,
    /// Memory was taken back from a tier, as production was short of it.
    MemoryTaken,
    /// Lent work may have no more processes and threads than so many.
    TasksHeld,
    /// That is over.
    TasksReleased,
    /// It would have been held at its floor, on a node that only watches.
    WouldSqueeze,
    /// It would have been let go again.
    WouldRelease,
    /// It would have been ended for production, on a node that only watches.
    WouldEvict,
    /// The node's mode is another one now.
    ModeChanged,
    /// An operator lets the node lend another part of its line.
    LineChanged,
    /// Its time was over.
    TimeLimit,
    /// A limit that something had changed was put back.
    LimitRepaired,
    /// A running unit without a ledger record was adopted.
    OrphanAdopted,
    /// An order was refused.
    Refused,
    /// A record that could not be read was kept aside.
    RecordSetAside,
}

impl ReceiptAction {
    /// The word used in tables, JSON and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OutOfMemory => "out_of_memory",
            Self::Evicted => "evicted",
            Self::Squeezed => "squeezed",
            Self::Released => "released",
            Self::MemoryTaken => "memory_taken",
            Self::TasksHeld => "tasks_held",
            Self::TasksReleased => "tasks_released",
            Self::WouldSqueeze => "would_squeeze",
            Self::WouldRelease => "would_release",
            Self::WouldEvict => "would_evict",
            Self::ModeChanged => "mode_changed",
            Self::LineChanged => "line_changed",
            Self::TimeLimit => "time_limit",
            Self::LimitRepaired => "limit_repaired",
            Self::OrphanAdopted => "orphan_adopted",
            Self::Refused => "refused",
            Self::RecordSetAside => "record_set_aside",
        }
    }
}

/// Whom it happened to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptSubject {
    /// One attempt.
    Attempt(AttemptId),
    /// The node as a whole, or a slice or file of it, by name.
    Node(String),
}

/// What was done to whom, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// When, by the node's wall clock.
    pub at: WallTime,
    /// What was done.
    pub action: ReceiptAction,
    /// To whom.
    pub subject: ReceiptSubject,
    /// One sentence with the measured values and the next step.
    pub sentence: String,
}
