//! Where jobs go and why others wait.
//!
//! Problem: many jobs want workers on many nodes; every node lends amounts below two lines, and its owner says to
//! whom. Approach: [`plan`] takes values and returns values, `(snapshot, queue, policy, now) → (plan, report)`; a
//! [`Planner`] does the same and is kept from plan to plan, told of what changes; the caller commits the plan and shows
//! the report. [`explain`] answers for one job without placing anything. Terms: *held* is what workers already assigned to a node were promised, whether or not
//! they use it; *block* is one reason why one worker cannot go to one node.
//!
//! Properties, each stated again independently in [`check`]:
//! - no node gets work beyond its line, or that its state, owner or the job itself keeps away;
//! - no worker is placed twice; the same input gives the same plan;
//! - a reason in the report is true: with all blocks of one node repaired, the worker fits there.
//!
//! [`engine`] answers one question, which node takes a worker, fast and with an eye on what GPUs become useless. What a
//! job says of its nodes' labels is a *condition*: each is judged once per node, and makes classes of nodes, so that a
//! decision costs no more with it. What depends on where other workers are ([`Ties`]: spread, pack, near, away) names a
//! few nodes to leave out or to choose from, job by job.
//!
//! Amounts only: the node picks CPU numbers and may refuse (design §2). Of shares of GPUs it is assumed that they lie as
//! close together as they can, of NUMA nodes that they are empty: what fleetd cannot know the node refuses for now.
#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

extern crate alloc;

mod blocks;
mod change;
pub mod check;
pub mod engine;
mod planner;
pub mod policy;
mod queue;
mod report;
pub mod sim;
mod snapshot;
mod tasks;
mod why;

pub use change::{Change, Less, Restriction};
pub use engine::NumaRoom;
pub use planner::{
    Assignment, Ending, Eviction, Kept, KeptFor, Plan, Planner, Policy, Running, Terms, explain, plan,
};
pub use queue::{QueueEntry, Refusal, Start, Ties, Wanted};
pub use report::{Expected, Reason, ReasonCode, Report, Waiting, Why};
pub use snapshot::{Held, HeldByTier, Line, Node, NodeState, Snapshot, Traits};
pub use tasks::{TaskBook, TaskCounts, TaskStage};
