//! The one thread that owns the state and the store, and the handle through which everyone else talks to it.
//!
//! Approach: take whatever gathered in the queue while the last commit ran, at most 256, and let those in whom it
//! answered and who come back at once; decide each in turn; place what waits; commit all changes in one
//! transaction; only then send orders, answer, tell watchers. No timer: someone alone is committed at once. Looks at the state are answered from what is durable.
//! If a commit fails, memory is rolled back to what the store holds, whoever asked for a change is refused, and
//! the next commit may succeed. If nobody knows what the disk holds, the writer ends, and fleetd with it.

mod handle;
mod ids;
mod run;
mod shell;
mod stats;

pub use handle::{CloseReason, Fleet, JobWatch, NodeLink, Outgoing, Pending};
pub use ids::RandomIds;
pub use run::{StartError, WriterThread, start, start_with};
pub use stats::Stats;
