//! A node as the engine is told of it, and the columns in which the engine keeps what its nodes have left.
//!
//! One column per resource over all nodes: a decision touches few nodes, and of each only the resources it asks for.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{Bytes, CpuRequest, Demand, Labels, MilliCpu, NODE_GPUS_MAX, NodeId, PerMille, Tier};
use serde::{Deserialize, Serialize};

use crate::engine::class::Facts;

/// Room for the GPUs of one node.
pub(crate) const GPUS: usize = NODE_GPUS_MAX as usize;

/// Which node of the engine: its number in the order in which nodes were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIx(pub u32);

/// How much a node lends of what is shared by amount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// CPU.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: Bytes,
    /// Space on its own disks.
    pub scratch: Bytes,
}

/// All CPU and memory of one NUMA node, whoever uses them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NumaRoom {
    /// CPU.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: Bytes,
}

impl NumaRoom {
    /// True if each of `self` is at most the same of `other`.
    pub fn fits_in(&self, other: &Self) -> bool {
        self.cpu <= other.cpu && self.memory <= other.memory
    }
}

/// The GPUs that a node lends; all of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeGpus {
    /// The model, with the MIG profile where the GPUs are slices of larger ones; empty without GPUs.
    pub model: String,
    /// Memory of each.
    pub memory: Bytes,
    /// How much of each is lent; one entry a GPU, at most [`NODE_GPUS_MAX`] count.
    pub shares: Vec<PerMille>,
    /// Standard gets at most so many of them; none: all.
    pub firm_max: Option<u32>,
    /// Burst gets at most so many of them, together with standard; none: all.
    pub now_max: Option<u32>,
}

/// Where a node stands: nodes of one island are closer to each other than nodes of one rack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Domain {
    /// Nodes that share the fastest link, for instance NVLink.
    pub island: u32,
    /// Nodes behind one switch; islands do not span racks.
    pub rack: u32,
}

/// A node as the engine is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its identity.
    pub id: NodeId,
    /// Lent to the standard tier.
    pub firm: Room,
    /// Lent at this moment; to both tiers together.
    pub now: Room,
    /// Hardware threads that can be given for exclusive use; 0: it shares CPUs by weight only.
    pub whole_cpus: u32,
    /// Its GPUs.
    pub gpus: NodeGpus,
    /// What is said of it.
    pub labels: Arc<Labels>,
    /// Its NUMA nodes; empty: not known.
    pub numa: Arc<[NumaRoom]>,
    /// Demands that do not tolerate each of these stay away: `key` or `key=value`.
    pub taints: BTreeSet<String>,
    /// The teams it lends to; empty: all.
    pub teams: BTreeSet<String>,
    /// Where it stands.
    pub domain: Domain,
}

/// What the workers on a node were promised, whoever booked it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// By standard workers.
    pub standard: Room,
    /// By burst workers.
    pub burst: Room,
    /// Whole CPUs for exclusive use, which are in `standard` too.
    pub whole_cpus: u32,
    /// Whole GPUs of standard workers.
    pub standard_gpus: u32,
    /// Whole GPUs of burst workers.
    pub burst_gpus: u32,
    /// Shares of GPUs of standard workers, in per mille of one, together.
    pub standard_shares: u32,
    /// Shares of burst workers.
    pub burst_shares: u32,
}

/// One resource that is counted by amount, over all nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Column {
    firm: Vec<u64>,
    now: Vec<u64>,
    standard: Vec<u64>,
    burst: Vec<u64>,
}

impl Column {
    fn push(&mut self, firm: u64, now: u64) {
        self.firm.push(firm);
        self.now.push(now);
        self.standard.push(0);
        self.burst.push(0);
    }

    fn set(&mut self, node: usize, (firm, now): (u64, u64), (standard, burst): (u64, u64)) {
        self.firm[node] = firm;
        self.now[node] = now;
        self.standard[node] = standard;
        self.burst[node] = burst;
    }

    /// What one tier may still get: standard within the firm line, both together within the higher of the two (for
    /// standard) or the line of now (for burst).
    #[inline]
    pub(crate) fn free(&self, tier: Tier, node: usize) -> u64 {
        let (firm, now) = (self.firm[node], self.now[node]);
        let held = self.standard[node].saturating_add(self.burst[node]);
        match tier {
            Tier::Burst => now.saturating_sub(held),
            Tier::Standard => firm
                .saturating_sub(self.standard[node])
                .min(firm.max(now).saturating_sub(held)),
        }
    }

    fn held(&mut self, tier: Tier, node: usize) -> &mut u64 {
        match tier {
            Tier::Standard => &mut self.standard[node],
            Tier::Burst => &mut self.burst[node],
        }
    }
}

/// The amounts of a demand, with the GPUs as per mille of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) cpu: u64,
    pub(crate) memory: u64,
    pub(crate) scratch: u64,
    /// Whole CPUs of its own.
    pub(crate) whole: u32,
    pub(crate) gpus: u32,
    /// Of each GPU.
    pub(crate) share: u16,
}

impl Asked {
    pub(crate) fn of(demand: &Demand, tier: Tier) -> Self {
        let whole = match (tier, demand.cpus) {
            (Tier::Standard, CpuRequest::Exclusive(cpus)) => cpus,
            (Tier::Standard | Tier::Burst, _) => 0,
        };
        Self {
            cpu: demand.cpus.amount().0,
            memory: demand.memory.0,
            scratch: demand.scratch.0,
            whole,
            gpus: demand.gpus.count,
            share: demand.gpus.share.0,
        }
    }

    pub(crate) const fn is_share(&self) -> bool {
        self.gpus == 1 && self.share < PerMille::ONE.0
    }

    /// GPUs together, in per mille of one.
    pub(crate) const fn gpu_total(&self) -> u32 {
        self.gpus * self.share as u32
    }
}

/// What one tier may still get of one node, to be compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left {
    open: bool,
    class: u16,
    amounts: [u64; 5],
    each_gpu: [u16; GPUS],
}

/// So many GPUs, in per mille of one.
const fn whole_gpus(count: u32) -> u64 {
    count as u64 * PerMille::ONE.0 as u64
}

/// What all nodes have left.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    pub(crate) ids: Vec<NodeId>,
    pub(crate) class: Vec<u16>,
    pub(crate) facts: Vec<Facts>,
    pub(crate) domain: Vec<Domain>,
    /// False: takes nothing new.
    pub(crate) open: Vec<bool>,
    pub(crate) cpu: Column,
    pub(crate) memory: Column,
    pub(crate) scratch: Column,
    /// In per mille of one, all of a node's together.
    pub(crate) gpus: Column,
    whole: Vec<u32>,
    whole_held: Vec<u32>,
    /// Per GPU what is left of it, in per mille.
    pub(crate) gpu_left: Vec<[u16; GPUS]>,
    pub(crate) gpu_lent: Vec<[u16; GPUS]>,
    /// Goes up whenever something of the node changes.
    pub(crate) generation: Vec<u32>,
}

impl Columns {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn push(&mut self, spec: &NodeSpec, class: u16) -> NodeIx {
        let node = NodeIx(u32::try_from(self.ids.len()).unwrap_or(u32::MAX));
        self.ids.push(spec.id);
        self.class.push(class);
        self.facts.push(Facts::default());
        self.domain.push(spec.domain);
        self.open.push(true);
        for column in [&mut self.cpu, &mut self.memory, &mut self.scratch, &mut self.gpus] {
            column.push(0, 0);
        }
        self.whole.push(0);
        self.whole_held.push(0);
        self.gpu_left.push([0; GPUS]);
        self.gpu_lent.push([0; GPUS]);
        self.generation.push(0);
        self.set(node.0 as usize, spec, class, &Holding::default());
        node
    }

    /// Takes over all that is said of a node, and what it holds, in place of what was known.
    pub(crate) fn set(&mut self, node: usize, spec: &NodeSpec, class: u16, holding: &Holding) {
        let NodeSpec {
            id,
            firm,
            now,
            whole_cpus,
            gpus,
            labels: _,
            numa: _,
            taints: _,
            teams: _,
            domain,
        } = spec;
        let Holding {
            standard,
            burst,
            whole_cpus: whole_held,
            standard_gpus,
            burst_gpus,
            standard_shares,
            burst_shares,
        } = holding;
        self.ids[node] = *id;
        self.class[node] = class;
        self.facts[node] = Facts::of(spec);
        self.domain[node] = *domain;
        self.cpu
            .set(node, (firm.cpu.0, now.cpu.0), (standard.cpu.0, burst.cpu.0));
        let held = (standard.memory.0, burst.memory.0);
        self.memory.set(node, (firm.memory.0, now.memory.0), held);
        let held = (standard.scratch.0, burst.scratch.0);
        self.scratch.set(node, (firm.scratch.0, now.scratch.0), held);
        self.whole[node] = *whole_cpus;
        self.whole_held[node] = *whole_held;
        let mut lent = [0; GPUS];
        for (slot, share) in lent.iter_mut().zip(&gpus.shares) {
            *slot = share.0.min(PerMille::ONE.0);
        }
        let all: u64 = lent.iter().map(|share| u64::from(*share)).sum();
        let line = |most: Option<u32>| most.map_or(all, |most| whole_gpus(most).min(all));
        let together = |gpus: u32, shares: u32| whole_gpus(gpus).saturating_add(shares.into());
        let held = (
            together(*standard_gpus, *standard_shares),
            together(*burst_gpus, *burst_shares),
        );
        self.gpus
            .set(node, (line(gpus.firm_max), line(gpus.now_max)), held);
        self.gpu_lent[node] = lent;
        // Which of its GPUs the node has given away it alone knows; of whole ones it makes no difference, and shares
        // are taken to lie as close together as they can: the node refuses where they do not.
        let mut taken = held.0.saturating_add(held.1);
        for left in &mut lent {
            let part = u16::try_from(taken).map_or(*left, |taken| taken.min(*left));
            *left -= part;
            taken -= u64::from(part);
        }
        self.gpu_left[node] = lent;
    }

    /// Whole CPUs that can still be given for exclusive use.
    pub(crate) fn whole_left(&self, node: usize) -> u32 {
        self.whole[node].saturating_sub(self.whole_held[node])
    }

    /// What one tier may still get of all GPUs together, if that is less than what is left of them.
    pub(crate) fn gpu_line(&self, tier: Tier, node: usize) -> Option<u64> {
        let left: u64 = self.gpu_left[node].iter().map(|left| u64::from(*left)).sum();
        let free = self.gpus.free(tier, node);
        (free < left).then_some(free)
    }

    /// True if a worker of the tier that found no room before may find some now.
    pub(crate) fn is_roomier(&self, before: &Left, node: usize, tier: Tier) -> bool {
        let now = self.left(node, tier);
        let gpus = now.each_gpu.iter().zip(&before.each_gpu);
        let amounts = now.amounts.iter().zip(&before.amounts);
        now.open
            && (!before.open
                || now.class != before.class
                || amounts.into_iter().any(|(now, before)| now > before)
                || gpus.into_iter().any(|(now, before)| now > before))
    }

    /// What the tier may still get of the node.
    pub(crate) fn left(&self, node: usize, tier: Tier) -> Left {
        Left {
            open: self.open[node],
            class: self.class[node],
            amounts: [
                self.cpu.free(tier, node),
                self.memory.free(tier, node),
                self.scratch.free(tier, node),
                self.gpus.free(tier, node),
                self.whole_left(node).into(),
            ],
            each_gpu: self.gpu_left[node],
        }
    }

    /// New lines; what is held stays, also where it is now beyond them.
    pub(crate) fn set_lines(&mut self, node: usize, firm: Room, now: Room) {
        for (column, firm, now) in [
            (&mut self.cpu, firm.cpu.0, now.cpu.0),
            (&mut self.memory, firm.memory.0, now.memory.0),
            (&mut self.scratch, firm.scratch.0, now.scratch.0),
        ] {
            column.firm[node] = firm;
            column.now[node] = now;
        }
        self.generation[node] = self.generation[node].wrapping_add(1);
    }

    /// True if the amounts are there; who may use them is the class's business.
    pub(crate) fn has(&self, node: usize, tier: Tier, asked: &Asked) -> bool {
        // A resource that is not asked for may be over its line.
        let enough = |column: &Column, asked: u64| asked == 0 || asked <= column.free(tier, node);
        asked.whole <= self.whole_left(node)
            && enough(&self.cpu, asked.cpu)
            && enough(&self.memory, asked.memory)
            && enough(&self.scratch, asked.scratch)
            && enough(&self.gpus, asked.gpu_total().into())
            && self.gpus_fit(node, asked)
    }

    pub(crate) fn gpus_fit(&self, node: usize, asked: &Asked) -> bool {
        if asked.gpus == 0 {
            return true;
        }
        let fitting = self.gpu_left[node].iter().filter(|left| **left >= asked.share);
        u32::try_from(fitting.count()).is_ok_and(|count| count >= asked.gpus)
    }

    /// How many workers of one demand find room side by side.
    pub(crate) fn times(&self, node: usize, tier: Tier, asked: &Asked) -> u64 {
        let by = |free: u64, each: u64| free.checked_div(each).unwrap_or(u64::MAX);
        let gpus = if asked.gpus == 0 {
            u64::MAX
        } else {
            let each = |left: &u16| u64::from(left / asked.share.max(1));
            let places: u64 = self.gpu_left[node].iter().map(each).sum();
            places / u64::from(asked.gpus)
        };
        by(self.cpu.free(tier, node), asked.cpu)
            .min(by(self.memory.free(tier, node), asked.memory))
            .min(by(self.scratch.free(tier, node), asked.scratch))
            .min(by(self.whole_left(node).into(), asked.whole.into()))
            .min(by(self.gpus.free(tier, node), asked.gpu_total().into()))
            .min(gpus)
    }

    /// Books the amounts and the GPUs of `mask`. The caller has asked [`Self::has`].
    pub(crate) fn book(&mut self, node: usize, tier: Tier, asked: &Asked, mask: u16) {
        for (column, amount) in [
            (&mut self.cpu, asked.cpu),
            (&mut self.memory, asked.memory),
            (&mut self.scratch, asked.scratch),
            (&mut self.gpus, asked.gpu_total().into()),
        ] {
            let held = column.held(tier, node);
            *held = held.saturating_add(amount);
        }
        self.whole_held[node] = self.whole_held[node].saturating_add(asked.whole);
        for (gpu, left) in (0..).zip(self.gpu_left[node].iter_mut()) {
            if mask & (1 << gpu) != 0 {
                *left = left.saturating_sub(asked.share);
            }
        }
        self.generation[node] = self.generation[node].wrapping_add(1);
    }

    /// Takes a booking back; false, and nothing is done, if so much is not held.
    pub(crate) fn unbook(&mut self, node: usize, tier: Tier, asked: &Asked, mask: u16) -> bool {
        let gpus = (0..).zip(self.gpu_left[node].iter().zip(&self.gpu_lent[node]));
        let given = |(gpu, (left, lent)): (u32, (&u16, &u16))| {
            mask & (1 << gpu) == 0 || left.saturating_add(asked.share) <= *lent
        };
        let held = *self.cpu.held(tier, node) >= asked.cpu
            && *self.memory.held(tier, node) >= asked.memory
            && *self.scratch.held(tier, node) >= asked.scratch
            && *self.gpus.held(tier, node) >= u64::from(asked.gpu_total())
            && self.whole_held[node] >= asked.whole;
        if !held || mask.count_ones() != asked.gpus || !gpus.into_iter().all(given) {
            return false;
        }
        *self.cpu.held(tier, node) -= asked.cpu;
        *self.memory.held(tier, node) -= asked.memory;
        *self.scratch.held(tier, node) -= asked.scratch;
        *self.gpus.held(tier, node) -= u64::from(asked.gpu_total());
        self.whole_held[node] -= asked.whole;
        for (gpu, left) in (0..).zip(self.gpu_left[node].iter_mut()) {
            if mask & (1 << gpu) != 0 {
                *left += asked.share;
            }
        }
        self.generation[node] = self.generation[node].wrapping_add(1);
        true
    }
}
