//! Nodes: what they are, what they lend, what runs there.

use serde::Serialize;

use super::{Moment, ReceiptView};

/// One resource of a node: a sample of what is where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ResourceView {
    /// All there is.
    pub capacity: u64,
    /// Never lent.
    pub reserve: u64,
    /// What production uses.
    pub production: u64,
    /// What workers use.
    pub lent: u64,
    /// What may be lent at this moment.
    pub line_now: u64,
    /// What may be lent to the standard tier.
    pub line_firm: u64,
}

/// A node in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRow {
    /// Its name.
    pub node: String,
    /// Its id.
    pub node_id: String,
    /// Its pool.
    pub pool: String,
    /// `ready`, `suspect`, `lost`, `draining`, `banned`, `never_seen` or `forgotten`.
    pub state: &'static str,
    /// When it was last heard of.
    pub last_seen_at: Option<Moment>,
    /// Workers there.
    pub workers: u32,
    /// Units that run there and are in no record.
    pub orphans: u32,
    /// CPU promised to workers, in thousandths.
    pub assigned_millicpu: u64,
    /// CPU it lends, in thousandths.
    pub line_millicpu: Option<u64>,
    /// Memory promised to workers.
    pub assigned_memory_bytes: u64,
    /// Memory it lends.
    pub line_memory_bytes: Option<u64>,
    /// `off`, `shadow` or `enforce`.
    pub mode: Option<String>,
    /// The version of its programs.
    pub version: String,
}

/// How the hardware hangs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TopologyView {
    /// Sockets.
    pub sockets: u32,
    /// NUMA nodes.
    pub numa_nodes: u32,
    /// Groups of CPUs that share an L3 cache.
    pub l3_domains: u32,
    /// Physical cores.
    pub cores: u32,
    /// Hardware threads.
    pub threads: u32,
}

/// A worker on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeWorkerView {
    /// Like 412.3, or the unit's name for an orphan.
    pub label: String,
    /// Whose.
    pub user: String,
    /// Its phase.
    pub state: &'static str,
    /// The CPUs it may use.
    pub cpus: Option<String>,
    /// True if nothing but a unit is known of it.
    pub orphan: bool,
    /// The unit.
    pub unit: Option<String>,
}

/// A receipt in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReceiptRow {
    /// The node that wrote it.
    pub node: String,
    /// The worker it is about, like 412.3; none for the node itself.
    pub worker: Option<String>,
    /// What was done, and why.
    #[serde(flatten)]
    pub receipt: ReceiptView,
}

/// Everything about a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// As in lists.
    #[serde(flatten)]
    pub row: NodeRow,
    /// The operating system.
    pub os: Option<String>,
    /// The kernel.
    pub kernel: Option<String>,
    /// The version of systemd.
    pub systemd: Option<String>,
    /// The hardware.
    pub topology: Option<TopologyView>,
    /// True if it can give CPUs for exclusive use.
    pub exclusive_cpus: Option<bool>,
    /// How many.
    pub line_whole_cpus: Option<u64>,
    /// GPUs it lends.
    pub line_gpus: Option<u32>,
    /// The teams it lends to; empty: all.
    pub allow_teams: Vec<String>,
    /// What it lacks, one sentence each.
    pub missed: Vec<String>,
    /// CPU in thousandths, as last measured.
    pub cpu_millicpu: Option<ResourceView>,
    /// Memory in bytes, as last measured.
    pub memory_bytes: Option<ResourceView>,
    /// When that was.
    pub measured_at: Option<Moment>,
    /// Workers there.
    pub running: Vec<NodeWorkerView>,
    /// What was done there.
    pub receipts: Vec<ReceiptView>,
}
