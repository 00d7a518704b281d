//! The one thread that owns the state and the store, and the handle through which everyone else talks to it.

mod handle;

pub use handle::{CloseReason, Fleet, JobWatch, NodeLink, Outgoing, Pending};
