//! Which CPUs each worker gets.
//!
//! **Problem.** Workers that asked for whole CPUs must have them alone; all others share what is left.
//! **Approach.** One [`Allocation`] a node: exclusive sets, picked as close together as possible, and one
//! shared pool, which is everything lendable that nobody has alone.
//! **Terms.** *Lendable*: not reserved. *Pool*: lendable minus all exclusive sets.
//! **Properties.** No CPU is in two exclusive sets; exclusive sets and pool together are the lendable set; the
//! pool is never empty while a worker shares it. [`plan_transition`] keeps the first one true at every moment
//! between two allocations.

mod pick;
mod transition;

use alloc::collections::BTreeMap;
use alloc::string::String;

use loadline_model::{AttemptId, Bytes, CpuRequest, CpuSet, MilliCpu, Tier, Topology, WorkerRequest};

use crate::line::Line;
use crate::settings::Pinning;

pub use transition::{CpuLayout, Step, TransitionProblem, WorkerCpus, plan_transition};

/// How a worker has its CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// These threads, alone.
    Exclusive(CpuSet),
    /// The pool, with others.
    Shared,
}

/// What one worker holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Its CPUs.
    pub grant: Grant,
    /// The CPU that is accounted for it.
    pub amount: MilliCpu,
    /// The memory that is accounted for it.
    pub memory: Bytes,
    /// The NUMA nodes it may take memory from.
    pub memory_nodes: CpuSet,
}

/// Who holds what on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    lendable: CpuSet,
    // The union of all exclusive sets, kept: a pass over 500 workers asks for it 500 times.
    owned: CpuSet,
    holdings: BTreeMap<AttemptId, Holding>,
}

/// The machine as allocation sees it.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// Its threads and memory.
    pub topology: &'a Topology,
    /// How much may be lent.
    pub line: &'a Line,
    /// Whether CPUs are pinned.
    pub pinning: &'a Pinning,
}

/// Why CPUs cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuRefusal {
    /// This node never gives so many.
    #[error("it asks for {asked} CPUs of its own and this node lends at most {whole_cpus}")]
    MoreThanLine {
        /// Asked for.
        asked: u32,
        /// The most that is ever given.
        whole_cpus: u32,
    },
    /// This node does not pin CPUs.
    #[error("this node gives no CPUs of one's own: {why}")]
    NoCpuset {
        /// Why not.
        why: String,
    },
    /// This node lends no CPU at all.
    #[error("all CPUs of this node are reserved for production")]
    NothingLendable,
    /// Others have them.
    #[error("it asks for {asked} CPUs of its own and {free} of {lendable} are free{}", kept(*.kept_for_shared))]
    Busy {
        /// Asked for.
        asked: u32,
        /// Free for exclusive use.
        free: u32,
        /// All that may be lent.
        lendable: u32,
        /// Free, but the last of the pool that others share.
        kept_for_shared: u32,
    },
    /// Every lendable CPU is someone's own.
    #[error("all {lendable} CPUs that this node lends are in exclusive use")]
    NoneShared {
        /// All that may be lent.
        lendable: u32,
    },
}

fn kept(kept_for_shared: u32) -> &'static str {
    if kept_for_shared == 0 {
        ""
    } else {
        "; the last one is shared by other workers"
    }
}

impl CpuRefusal {
    /// True if the same request will never succeed on this node as it is.
    pub const fn for_good(&self) -> bool {
        match self {
            Self::MoreThanLine { .. } | Self::NoCpuset { .. } | Self::NothingLendable => true,
            Self::Busy { .. } | Self::NoneShared { .. } => false,
        }
    }
}

/// Whole CPUs of the standard tier are exclusive; burst always shares, whatever it asks for (design §4).
pub const fn wants_exclusive(tier: Tier, request: CpuRequest) -> Option<u32> {
    match (tier, request) {
        (Tier::Standard, CpuRequest::Exclusive(cpus)) => Some(cpus),
        (Tier::Burst, _) | (_, CpuRequest::Shared(_)) => None,
    }
}

impl Allocation {
    /// Nobody holds anything.
    pub const fn new(lendable: CpuSet) -> Self {
        Self {
            lendable,
            owned: CpuSet::new(),
            holdings: BTreeMap::new(),
        }
    }

    /// What may be given.
    pub const fn lendable(&self) -> &CpuSet {
        &self.lendable
    }

    /// Who holds what.
    pub const fn holdings(&self) -> &BTreeMap<AttemptId, Holding> {
        &self.holdings
    }

    /// All CPUs in exclusive use.
    pub const fn exclusive(&self) -> &CpuSet {
        &self.owned
    }

    /// What is left for everyone else.
    pub fn pool(&self) -> CpuSet {
        self.lendable.difference(&self.owned)
    }

    /// How many more threads could be given for exclusive use now.
    pub fn free_whole_cpus(&self) -> u32 {
        self.pool().len().saturating_sub(u32::from(self.anyone_shares()))
    }

    /// CPU and memory accounted for all holders.
    pub fn accounted(&self) -> (MilliCpu, Bytes) {
        let all = self.holdings.values();
        all.fold((MilliCpu::ZERO, Bytes::ZERO), |(cpu, memory), holding| {
            (cpu.plus(holding.amount), memory.plus(holding.memory))
        })
    }

    /// The CPUs a holder runs on.
    pub fn cpus_of(&self, attempt: AttemptId) -> Option<CpuSet> {
        match &self.holdings.get(&attempt)?.grant {
            Grant::Exclusive(cpus) => Some(cpus.clone()),
            Grant::Shared => Some(self.pool()),
        }
    }

    /// Gives a worker its CPUs and memory nodes; a second time for the same attempt changes nothing.
    ///
    /// # Errors
    /// When it can never have them here, or not now.
    pub fn grant(
        &mut self,
        machine: Machine<'_>,
        attempt: AttemptId,
        tier: Tier,
        request: &WorkerRequest,
    ) -> Result<&Holding, CpuRefusal> {
        if !self.holdings.contains_key(&attempt) {
            let grant = match wants_exclusive(tier, request.cpus) {
                Some(count) => Grant::Exclusive(self.pick(machine, count)?),
                None => self.share()?,
            };
            let memory_nodes = self.memory_nodes(machine, &grant, request.memory);
            let amount = request.cpus.amount();
            let holding = Holding {
                grant,
                amount,
                memory: request.memory,
                memory_nodes,
            };
            self.hold(attempt, holding);
        }
        Ok(&self.holdings[&attempt])
    }

    /// Records what a running worker is known to hold: from the ledger after a restart, or of an orphan. It runs
    /// already, so it is not refused; of an exclusive set only what is lendable and free stays its own, and
    /// one of which nothing stays becomes a share.
    pub fn restore(&mut self, attempt: AttemptId, holding: Holding) {
        self.release(attempt);
        let free = self.lendable.difference(&self.owned);
        let grant = match &holding.grant {
            Grant::Exclusive(cpus) if !cpus.is_disjoint(&free) => Grant::Exclusive(cpus.intersection(&free)),
            _ => Grant::Shared,
        };
        self.hold(attempt, Holding { grant, ..holding });
    }

    fn hold(&mut self, attempt: AttemptId, holding: Holding) {
        if let Grant::Exclusive(cpus) = &holding.grant {
            self.owned = self.owned.union(cpus);
        }
        self.holdings.insert(attempt, holding);
    }

    /// Its CPUs go back.
    pub fn release(&mut self, attempt: AttemptId) -> Option<Holding> {
        let holding = self.holdings.remove(&attempt)?;
        if let Grant::Exclusive(cpus) = &holding.grant {
            self.owned = self.owned.difference(cpus);
        }
        Some(holding)
    }

    /// Where every worker runs, for [`plan_transition`].
    pub fn layout(&self) -> CpuLayout {
        let pool = self.pool();
        let workers = self.holdings.iter().map(|(attempt, holding)| {
            let cpus = match &holding.grant {
                Grant::Exclusive(cpus) => WorkerCpus {
                    exclusive: true,
                    cpus: cpus.clone(),
                },
                Grant::Shared => WorkerCpus {
                    exclusive: false,
                    cpus: pool.clone(),
                },
            };
            (*attempt, cpus)
        });
        CpuLayout {
            slices: self.lendable.clone(),
            workers: workers.collect(),
        }
    }

    fn anyone_shares(&self) -> bool {
        self.holdings
            .values()
            .any(|holding| holding.grant == Grant::Shared)
    }

    fn share(&self) -> Result<Grant, CpuRefusal> {
        if self.lendable.is_empty() {
            return Err(CpuRefusal::NothingLendable);
        }
        if self.pool().is_empty() {
            return Err(CpuRefusal::NoneShared {
                lendable: self.lendable.len(),
            });
        }
        Ok(Grant::Shared)
    }

    fn pick(&self, machine: Machine<'_>, count: u32) -> Result<CpuSet, CpuRefusal> {
        if let Pinning::WeightsOnly { why } = machine.pinning {
            return Err(CpuRefusal::NoCpuset { why: why.clone() });
        }
        // Never more than that; what production's week leaves of it, admission has looked at.
        let whole_cpus = machine.line.most_whole_cpus();
        if count > whole_cpus {
            return Err(CpuRefusal::MoreThanLine {
                asked: count,
                whole_cpus,
            });
        }
        let pool = self.pool();
        let kept_for_shared = u32::from(self.anyone_shares()).min(pool.len());
        let busy = || CpuRefusal::Busy {
            asked: count,
            free: pool.len() - kept_for_shared,
            lendable: self.lendable.len(),
            kept_for_shared,
        };
        if count > pool.len() - kept_for_shared {
            return Err(busy());
        }
        pick::pick(machine.topology, &pool, count).ok_or_else(busy)
    }

    /// The nodes of its own CPUs, if its memory fits there beside what is bound there already; else all nodes:
    /// a hard binding to a full node would kill it while memory is free elsewhere.
    fn memory_nodes(&self, machine: Machine<'_>, grant: &Grant, memory: Bytes) -> CpuSet {
        let topology = machine.topology;
        let all: CpuSet = topology.numa_nodes().iter().map(|node| node.id).collect();
        let Grant::Exclusive(cpus) = grant else { return all };
        let near = topology.numa_of(cpus);
        let bound = self
            .holdings
            .values()
            .filter(|holding| !holding.memory_nodes.is_disjoint(&near));
        let bound = bound.fold(Bytes::ZERO, |sum, holding| sum.plus(holding.memory));
        let there = topology.numa_nodes().iter().filter(|node| near.contains(node.id));
        let there = there.fold(Bytes::ZERO, |sum, node| sum.plus(node.memory));
        // Production's part of the node counts like its part of the machine.
        let kept = machine.line.memory.capacity.minus(machine.line.most().memory);
        let kept_per_mille = kept
            .0
            .saturating_mul(1000)
            .checked_div(machine.line.memory.capacity.0);
        let kept_per_mille = u16::try_from(kept_per_mille.unwrap_or(1000)).unwrap_or(1000);
        let lendable_there = there.minus(there.share(loadline_model::PerMille(kept_per_mille)));
        if bound.plus(memory) <= lendable_there {
            near
        } else {
            all
        }
    }
}

#[cfg(test)]
mod tests;
