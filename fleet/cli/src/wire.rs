//! The only place that knows the protocol: calls to fleetd, and its answers as views.

mod calls;
mod client;
mod failure;
mod job;
mod needs;
mod node;
mod prove;
mod sharing;
mod spec;

pub use calls::{Access, Login};
pub use client::{Client, JobEvents, LogBatches, LogQuery, Stream};
pub use failure::{CallError, Kind};
pub use job::{JobRef, JobUpdate, LogBatch, ParseJobRefError};
pub use sharing::{QuotaChange, TeamChange};
