//! What the node tells the fleet, in our own words.

use loadline_model::{AttemptId, AttemptPhase, CpuSet, Ended, JobId, Receipt, WallTime};
use serde::{Deserialize, Serialize};

/// Where an attempt runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The CPUs, as the kernel has them.
    pub cpus: CpuSet,
    /// The NUMA nodes it takes memory from.
    pub numa_nodes: CpuSet,
    /// True if the CPUs are its own.
    pub exclusive: bool,
    /// Its main process.
    pub main_pid: u32,
    /// The run of its unit.
    pub invocation: String,
    /// Its unit.
    pub unit: String,
    /// The account; empty for an orphan of which it is not known.
    pub user: String,
}

/// Where an attempt stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptReport {
    /// Which.
    pub attempt: AttemptId,
    /// Of which job; none for an orphan.
    pub job: Option<JobId>,
    /// The phase.
    pub phase: AttemptPhase,
    /// Where it runs, once it does.
    pub placement: Option<Placement>,
    /// How it ended, if it did.
    pub ended: Option<Ended>,
    /// True if it was found without a record of it.
    pub orphan: bool,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// An attempt moved on.
    Attempt(AttemptReport),
    /// Something was done to someone.
    Receipt(Receipt),
}

/// One event, before the ledger gives it its sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEvent {
    /// The uptime it happened in.
    pub boot_id: String,
    /// When.
    pub at: WallTime,
    /// What.
    pub what: Happened,
}
