//! This machine and what its owner and the operators say of it: what every decision is made under.

use loadline_model::Topology;
use loadline_policy::ceiling::Ceilings;
use loadline_policy::line::Line;
use loadline_policy::node_policy::{Mode, NodePolicy};
use loadline_policy::settings::Pinning;
use loadline_policy::week::Known;

/// This machine and its owner's policy.
#[derive(Debug, Clone)]
pub struct Node {
    /// The policy.
    pub policy: NodePolicy,
    /// Threads and memory.
    pub topology: Topology,
    /// Whole GPUs.
    pub gpus: u32,
    /// Whether CPUs are pinned.
    pub pinning: Pinning,
    /// How much may be lent, by the reserve and by production's week, under what operators say.
    pub line: Line,
    /// What is known of production's week.
    pub week: Known,
    /// What operators say.
    pub ceilings: Ceilings,
    /// The mode that the owner wants.
    pub owner_mode: Mode,
}

impl Node {
    /// A machine under a policy.
    pub fn new(policy: NodePolicy, topology: Topology, gpus: u32, pinning: Pinning) -> Self {
        let line = Line::fixed(&topology, gpus, &policy);
        Self {
            owner_mode: policy.lend.mode,
            ceilings: Ceilings::default(),
            policy,
            topology,
            gpus,
            pinning,
            line,
            week: Known::default(),
        }
    }

    /// Another week of production's, from now on. It moves the firm line and nothing else.
    pub fn set_week(&mut self, week: Known) {
        let line = Line::by_week(&self.topology, self.gpus, &self.policy, &week);
        self.line = self.ceilings.line(line);
        self.week = week;
    }

    /// The node as its owner has it, under what operators say.
    #[must_use]
    pub fn under(&self, ceilings: &Ceilings) -> Self {
        let policy = ceilings.policy(&self.policy);
        Self {
            line: ceilings.line(Line::by_week(&self.topology, self.gpus, &policy, &self.week)),
            week: self.week,
            owner_mode: self.policy.lend.mode,
            ceilings: ceilings.clone(),
            topology: self.topology.clone(),
            pinning: self.pinning.clone(),
            gpus: self.gpus,
            policy,
        }
    }
}
