//! The line: how much of a machine may be lent (design §1), per resource, now and firm.
//!
//! *now* = capacity − max(reserve, production's use) − headroom; *firm* takes production's week instead of its
//! moment, once that is known. The *static* line, [`Line::most`], takes neither: it is what limits lent work as a whole
//! and what workers that run may keep. The firm line only says what else may start. No line exceeds what the lendable
//! CPUs can do, because a reserve in CPUs is counted in the CPUs that are really set apart for it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{Bytes, CpuSet, LineAmounts, MilliCpu, PerMille, Topology};

use crate::node_policy::{NodePolicy, ReserveCpus, ReserveMemory};
use crate::week::Known;

/// What production uses, measured; zero where it is not known yet, which leaves the reserve to speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProductionUse {
    /// CPU at this moment.
    pub cpu: MilliCpu,
    /// Memory at this moment.
    pub memory: Bytes,
    /// The 99th percentile of its CPU over the last 7 days, once known.
    pub cpu_week: Option<MilliCpu>,
    /// The 99th percentile of its memory over the last 7 days, once known.
    pub memory_week: Option<Bytes>,
}

/// One resource: all there is, what is kept, and both lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResourceLine<Q> {
    /// All there is.
    pub capacity: Q,
    /// Never lent.
    pub reserve: Q,
    /// What production uses now.
    pub production: Q,
    /// Kept idle on top.
    pub headroom: Q,
    /// May be lent at this moment.
    pub now: Q,
    /// May be lent to the standard tier.
    pub firm: Q,
    /// The 99th percentile of production's week, once known.
    pub week: Option<Q>,
}

/// How much of a machine may be lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// CPU.
    pub cpu: ResourceLine<MilliCpu>,
    /// Memory.
    pub memory: ResourceLine<Bytes>,
    /// Whole GPUs, the same now and firm.
    pub gpus: u32,
    /// CPUs that no worker ever gets.
    pub reserved: CpuSet,
    /// The others.
    pub lendable: CpuSet,
    /// What holds all of this below what the owner lends; none: nothing does.
    pub ceiling: Option<LineCeiling>,
}

/// An operator's word that lent work gets only a part of the owner's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineCeiling {
    /// This part of the static line.
    pub share: PerMille,
    /// Who said so.
    pub by: String,
    /// The line without it.
    owners: Box<Line>,
}

/// 15 % on top of the week's 99th percentile: the next week is not the last one (design §1).
const WEEK_MARGIN: PerMille = PerMille(150);

impl Line {
    /// The line of a machine under a policy.
    pub fn new(topology: &Topology, gpus: u32, policy: &NodePolicy, production: &ProductionUse) -> Self {
        let all = topology.cpus();
        let reserved = reserved_cpus(topology, &policy.reserve.cpus);
        let capacity = MilliCpu::from_cpus(all.len());
        let cpu = Lines {
            capacity: capacity.0,
            reserve: MilliCpu::from_cpus(reserved.len()).0,
            headroom: capacity.share(policy.headroom.cpu).0,
            production: production.cpu.0,
            week: production.cpu_week.map(|week| week.0),
        };
        let capacity = topology.memory();
        let reserve = match policy.reserve.memory {
            ReserveMemory::Amount(amount) => Bytes(amount.0.min(capacity.0)),
            ReserveMemory::Share(share) => capacity.share(share),
        };
        let memory = Lines {
            capacity: capacity.0,
            reserve: reserve.0,
            headroom: capacity.share(policy.headroom.memory).0,
            production: production.memory.0,
            week: production.memory_week.map(|week| week.0),
        };
        Self {
            cpu: cpu.line(MilliCpu),
            memory: memory.line(Bytes),
            gpus: gpus.saturating_sub(policy.reserve.gpus),
            lendable: all.difference(&reserved),
            reserved,
            ceiling: None,
        }
    }

    /// The same, but no more than a part of the static line: amounts of now and firm ones stay where they are lower
    /// than that anyway.
    #[must_use]
    pub fn under(self, share: PerMille, by: &str) -> Self {
        if share >= PerMille::ONE {
            return self;
        }
        let most = self.most();
        let (cpu, memory) = (most.cpu.share(share), most.memory.share(share));
        let gpus = u64::from(self.gpus) * u64::from(share.0) / 1000;
        let mut lower = self.clone();
        lower.cpu.now = self.cpu.now.min(cpu);
        lower.cpu.firm = self.cpu.firm.min(cpu);
        lower.memory.now = self.memory.now.min(memory);
        lower.memory.firm = self.memory.firm.min(memory);
        lower.gpus = u32::try_from(gpus).unwrap_or(self.gpus);
        lower.ceiling = Some(LineCeiling {
            share,
            by: by.into(),
            owners: Box::new(self),
        });
        lower
    }

    /// What the owner lends, whatever an operator says now.
    pub fn owners(&self) -> &Self {
        self.ceiling.as_ref().map_or(self, |ceiling| &ceiling.owners)
    }

    /// True if an operator wants everything off this node.
    pub fn is_closed(&self) -> bool {
        self.ceiling
            .as_ref()
            .is_some_and(|ceiling| ceiling.share == PerMille(0))
    }

    /// The line by what production's week leaves; the line of now counts nothing as used. With nothing known it is what
    /// the reserve and the headroom alone leave.
    pub fn by_week(topology: &Topology, gpus: u32, policy: &NodePolicy, week: &Known) -> Self {
        let production = ProductionUse {
            cpu_week: week.cpu,
            memory_week: week.memory,
            ..ProductionUse::default()
        };
        Self::new(topology, gpus, policy, &production)
    }

    /// The part that holds with nothing measured: what the reserve and the headroom alone leave.
    pub fn fixed(topology: &Topology, gpus: u32, policy: &NodePolicy) -> Self {
        Self::new(topology, gpus, policy, &ProductionUse::default())
    }

    /// The line of now, as amounts.
    pub const fn now(&self) -> LineAmounts {
        LineAmounts {
            cpu: self.cpu.now,
            memory: self.memory.now,
            gpus: self.gpus,
        }
    }

    /// The firm line, as amounts.
    pub const fn firm(&self) -> LineAmounts {
        LineAmounts {
            cpu: self.cpu.firm,
            memory: self.memory.firm,
            gpus: self.gpus,
        }
    }

    /// What could ever be lent: with production using no more than its reserve.
    pub const fn most(&self) -> LineAmounts {
        let share = match &self.ceiling {
            Some(ceiling) => ceiling.share,
            None => PerMille::ONE,
        };
        let cpu = self.cpu.capacity.minus(self.cpu.reserve).minus(self.cpu.headroom);
        let memory = self
            .memory
            .capacity
            .minus(self.memory.reserve)
            .minus(self.memory.headroom);
        LineAmounts {
            cpu: cpu.share(share),
            memory: memory.share(share),
            gpus: self.gpus,
        }
    }

    /// What production's week takes from the firm line, as a clause; none: the reserve alone speaks.
    pub fn held_by_week(&self) -> Option<String> {
        let (firm, most) = (self.firm(), self.most());
        let cpu = self.cpu.week.filter(|_| firm.cpu < most.cpu);
        let memory = self.memory.week.filter(|_| firm.memory < most.memory);
        let parts = [
            cpu.map(|week| format!("{week} CPUs")),
            memory.map(|week| format!("{week} of memory")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let used = parts.join(" and ");
        (!parts.is_empty()).then(|| format!("99 % of the time production used up to {used} in its last week"))
    }

    /// How many threads can be given for exclusive use at most.
    pub fn whole_cpus(&self) -> u32 {
        self.whole_of(self.cpu.firm)
    }

    /// How many could ever be given: whatever production's week was.
    pub fn most_whole_cpus(&self) -> u32 {
        self.whole_of(self.most().cpu)
    }

    fn whole_of(&self, cpu: MilliCpu) -> u32 {
        let by_amount = u32::try_from(cpu.whole_cpus()).unwrap_or(u32::MAX);
        by_amount.min(self.lendable.len())
    }
}

const fn with_margin(week: u64) -> u64 {
    week.saturating_add(MilliCpu(week).share(WEEK_MARGIN).0)
}

struct Lines {
    capacity: u64,
    reserve: u64,
    headroom: u64,
    production: u64,
    week: Option<u64>,
}

impl Lines {
    fn line<Q>(&self, unit: fn(u64) -> Q) -> ResourceLine<Q> {
        let left = |used: u64| {
            let kept = self.reserve.max(used).saturating_add(self.headroom);
            unit(self.capacity.saturating_sub(kept))
        };
        ResourceLine {
            capacity: unit(self.capacity),
            reserve: unit(self.reserve),
            production: unit(self.production),
            headroom: unit(self.headroom),
            now: left(self.production),
            firm: left(self.week.map_or(0, with_margin)),
            week: self.week.map(unit),
        }
    }
}

/// The CPUs set apart. A number is rounded up to whole physical cores, since two threads of a core slow each
/// other down: lowest socket, then lowest NUMA node, then lowest CPU number first, so CPU 0 comes first.
fn reserved_cpus(topology: &Topology, reserve: &ReserveCpus) -> CpuSet {
    let count = match reserve {
        ReserveCpus::List(list) => return list.intersection(&topology.cpus()),
        ReserveCpus::Count(count) => *count,
    };
    let mut cores: BTreeMap<(u32, u32, u32), CpuSet> = BTreeMap::new();
    for thread in topology.threads() {
        let key = (thread.socket, thread.numa, thread.core);
        cores.entry(key).or_default().insert(thread.cpu);
    }
    let mut reserved = CpuSet::new();
    for core in cores.values() {
        if reserved.len() >= count {
            break;
        }
        reserved = reserved.union(core);
    }
    reserved
}

#[cfg(test)]
mod tests;
