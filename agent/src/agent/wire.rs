//! Where generated types end: towards the fleet, the fleet's join port, and the warden.
//!
//! The agent carries most of what passes through it unread: orders are signed for the warden, events are the
//! warden's words. Those stay opaque here, and only what the agent acts on is taken out, with typed errors.

mod access;
mod fleet;
mod refusal;
mod slo;
mod status;
mod warden;

pub(crate) use access::{Joined, join};
pub(crate) use fleet::{
    Calls, Down, EventBatch, Hello, Inbox, Keepalive, Lanes, LogChunk, LogLine, LogRequest, Reporter, Up,
    Welcome, lanes, open, stand_in,
};
pub use refusal::{Refusal, RefusalKind};
pub(crate) use slo::{Protected, SloFound, SloTarget};
pub(crate) use status::{Counters, Headroom, Limit, Slice, WardenStatus, Week};
pub(crate) use warden::{NodeEvent, Orders, WardenClient, WardenError};

use loadline_model::ParseIdError;

/// A message that a correct peer of this version does not send.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// A field that must be there is not.
    #[error("a message without its {0}")]
    Missing(&'static str),
    /// An id is none.
    #[error("a message with a wrong id")]
    Id(#[from] ParseIdError),
}
