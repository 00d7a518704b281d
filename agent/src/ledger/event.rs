//! What the node tells the fleet, in our own words.

use loadline_model::{AttemptId, AttemptPhase, CpuSet, Ended, JobId, ProveId, Receipt, WallTime};
use loadline_policy::prove::ordered::Stage;
use serde::{Deserialize, Serialize};

use crate::prove::handover::Texts;

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

/// Where a test stands that the fleet has ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProveNews {
    /// Which.
    pub run: ProveId,
    /// Where it stands.
    pub stage: Stage,
    /// What it does just now, or why it came to nothing.
    pub sentence: String,
    /// What it came to.
    pub report: Option<Texts>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// An attempt moved on.
    Attempt(AttemptReport),
    /// Something was done to someone.
    Receipt(Receipt),
    /// A test moved on.
    Prove(ProveNews),
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
