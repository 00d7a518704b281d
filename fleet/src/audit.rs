//! The audit log: one JSON line for every call that changes something, in a chain of hashes.
//!
//! A line is written before the change is submitted and is durable before the change is acknowledged, so the
//! log's disk write overlaps the store's. A call whose line cannot be written is refused. After a failed sync
//! every further change is refused until fleetd is restarted on a disk that works, since nobody could say any
//! more what the file holds. [`verify`] reads the chain back offline and names the first line that was changed,
//! dropped or moved.

mod chain;
mod log;
mod verify;

pub use chain::{Decision, Entry, Head, Line};
pub use log::{AuditError, AuditLog, Written};
pub use verify::{VerifyProblem, verify, verify_file};
