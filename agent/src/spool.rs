//! Events that the warden handed over and the fleet has not acknowledged, durable across crashes and power cuts.
//!
//! **Policy.** An event is acknowledged to the warden only after the commit that stores it returned. When the
//! spool is full, or the disk is, nothing more is taken: the warden's ledger keeps what is not acknowledged, so
//! nothing is lost. A record whose checksum does not match is kept in the table `aside`, and its place in the
//! sequence is taken by a receipt that says so, because the fleet counts on sequences. A file that SQLite cannot
//! read is renamed `spool.db.broken-<µs>` and a new one begun: the warden then tells again what it still has,
//! and the fleet counts nothing twice.
//!
//! Touches one SQLite database (WAL, synchronous FULL), held exclusively. `store` is the only place with SQL.

mod fault;
mod record;
mod shared;
mod store;

pub use fault::{SpoolError, SpoolFault};
pub use record::{Appended, Batch, Broken, NewRecord, Opening, Record, RowId, SpoolLimits, SpoolView};
pub(crate) use shared::SharedSpool;
pub use store::Spool;

#[cfg(test)]
mod tests;
