//! Nodes: what they are, what they lend, what runs there.

use loadline_model::Labels;
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
    /// Kept idle on top of what production uses.
    pub headroom: u64,
}

/// The most an operator lets a node do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CeilingView {
    /// `fleet`, or `node` for one that root set there.
    pub set: &'static str,
    /// `off`, `shadow` or `enforce`.
    pub mode: String,
    /// At most this part of its line, in thousandths.
    pub line_per_mille: u32,
    /// Who set it.
    pub by: String,
    /// When.
    pub at: Moment,
    /// False: the node has not got it yet.
    pub applied: bool,
}

/// What lending has cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CostView {
    /// Production waited, and lent work may have been why.
    pub stalled_us: u64,
    /// Lent work was held at its floor.
    pub squeezed_us: u64,
    /// Workers that had to go.
    pub evictions: u64,
    /// CPU time given to those who were being ended.
    pub reaping_us: u64,
    /// CPU time that lent work used.
    pub lent_cpu_us: u64,
    /// How much of the seven days is known.
    pub observed_us: u64,
}

/// What a node keeps for production, lends of the rest, and what that has cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeadroomView {
    /// As in lists.
    #[serde(flatten)]
    pub row: NodeRow,
    /// CPU in thousandths, as last measured.
    pub cpu_millicpu: Option<ResourceView>,
    /// Memory in bytes, as last measured.
    pub memory_bytes: Option<ResourceView>,
    /// Over the last seven days.
    pub week: CostView,
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
    /// `off`, `shadow` or `enforce`: what is in force.
    pub mode: Option<String>,
    /// The same as its owner wants it.
    pub owner_mode: Option<String>,
    /// What operators have set.
    pub ceilings: Vec<CeilingView>,
    /// How far the headroom loop has gone: `open`, `hold`, `shrink`, `squeeze` or `evict`.
    pub level: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The version of its programs.
    pub version: String,
    /// Its labels, those that the fleet fills in itself among them.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Its taints.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub taints: Labels,
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
    /// Production's units that its owner names: what each keeps and promises, one sentence each.
    pub protected: Vec<String>,
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
