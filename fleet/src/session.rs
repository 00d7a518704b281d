//! The sessions of nodes: one bidirectional stream each.
//!
//! Orders go down as soon as they are durable, signed here; events come up and are acknowledged once they are
//! durable. Readers of logs share the stream: [`Sessions`] finds the open session of a node and multiplexes their
//! requests onto it. A reader that is too slow is cut off at the node and resumes at its cursor, so that nobody's
//! terminal holds up a node's events.

mod logs;
mod registry;
mod stream;
mod wire;

pub(crate) use logs::{LogChunk, LogReader};
pub(crate) use registry::LogStart;
pub use registry::Sessions;
pub(crate) use wire::{LogLines, NodeSessionServer, NodeSessionService};
