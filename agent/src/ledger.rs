//! The warden's memory: which attempts there are, what happened to them, and which orders it has taken.
//!
//! **Problem.** The warden may be killed at any instruction and the node's power may go at any moment; afterwards
//! no worker may be forgotten, started twice or reported twice. **Approach.** One SQLite file (WAL, `FULL`), one
//! transaction for each thing that must be known together ([`Batch`]); an answer is given and a unit is started
//! only after it. **Properties.** Event sequences ascend without gaps within one [`LedgerId`], also when events
//! were let go of. A row that cannot be read is moved to the table `set_aside` and named; a file that cannot be
//! read is renamed and a new ledger with a new id is begun, and what runs is adopted as orphans. A disk that is
//! full fails the batch as a whole: nothing of it is known then, and nothing may be acknowledged.
//!
//! Touches only its own file. Synchronous: every call may wait for the disk.

mod error;
mod record;
mod row;
mod store;
mod wire;

pub use error::{LedgerError, LedgerFault};
pub use record::{Batch, NewEvent, OpenedLedger, SavedAttempt, SetAside, StoredEvent};
pub use store::Ledger;
pub use wire::{OrderProblem, work_order};

#[cfg(test)]
mod tests;
