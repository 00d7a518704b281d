//! What keeps one worker from one node: every filter, asked in one place.
//!
//! A node that the job did not choose, or that is banned, has this one block: whether it would also be full is
//! nobody's concern. Of all other nodes every block is told, so that repairing them all makes the worker fit.

use loadline_model::{Amounts, Bytes, CpuRequest, MilliCpu, Numa, Tier, WallTime};

use crate::engine::NumaRoom;

use crate::queue::QueueEntry;
use crate::report::ReasonCode;
use crate::snapshot::{HeldByTier, Node, NodeState};

/// A set of reason codes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Blocks(u64);

impl Blocks {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn contains(self, code: ReasonCode) -> bool {
        self.0 & (1 << code as u32) != 0
    }

    pub(crate) const fn with(self, code: ReasonCode) -> Self {
        Self(self.0 | (1 << code as u32))
    }

    pub(crate) const fn without(self, code: ReasonCode) -> Self {
        Self(self.0 & !(1 << code as u32))
    }

    const fn when(self, holds: bool, code: ReasonCode) -> Self {
        if holds { self.with(code) } else { self }
    }

    /// How far the node is from taking the worker: first those where all passes by itself, then fewer blocks.
    pub(crate) fn distance(self) -> (bool, bool, u32) {
        let not_asked = self.contains(ReasonCode::NodeNotSelected) || self.contains(ReasonCode::NodeBanned);
        (not_asked, !self.all_pass(), self.0.count_ones())
    }

    /// True if every block passes by itself.
    pub(crate) fn all_pass(self) -> bool {
        ReasonCode::ALL
            .iter()
            .all(|code| !self.contains(*code) || code.passes())
    }
}

/// Everything that keeps one worker of `entry` from `node`.
pub(crate) fn blocks(node: &Node, held: &HeldByTier, entry: &QueueEntry, now: WallTime) -> Blocks {
    if !entry.nodes.is_empty() && !entry.nodes.contains(&node.name) {
        return Blocks::NONE.with(ReasonCode::NodeNotSelected);
    }
    if node.state == NodeState::Banned {
        return Blocks::NONE.with(ReasonCode::NodeBanned);
    }
    let refused = |for_good: bool| {
        entry.refusals.iter().any(|refusal| {
            refusal.node == node.id && refusal.until.is_none() == for_good && refusal.holds(now)
        })
    };
    let stranger = !node.allow_teams.is_empty() && !node.allow_teams.contains(&entry.team);
    by_state(node.state)
        .when(!node.lending, ReasonCode::NodeLendsNothing)
        .when(refused(true), ReasonCode::NodeRefused)
        .when(refused(false), ReasonCode::NodeRefusedForNow)
        .when(stranger, ReasonCode::TeamNotAllowed)
        .when(
            wants_exclusive(entry) && !node.exclusive_cpus,
            ReasonCode::ExclusiveCpusUnsupported,
        )
        .union(by_traits(node, entry))
        .union(by_others(node, entry))
        .union(by_amount(node, held, entry))
}

/// By what the node is.
fn by_traits(node: &Node, entry: &QueueEntry) -> Blocks {
    let (traits, needs) = (&node.traits, &entry.needs);
    let labelled = needs.require.iter().all(|it| it.holds(&traits.labels));
    let kept_out = traits
        .taints
        .iter()
        .any(|taint| !needs.tolerate.iter().any(|it| it.tolerates(taint)));
    Blocks::NONE
        .when(!labelled, ReasonCode::LabelsUnmet)
        .when(kept_out, ReasonCode::TaintNotTolerated)
        .when(
            entry.request.gpus > 0 && traits.gpu_memory < needs.gpu_memory,
            ReasonCode::GpuTooSmall,
        )
        .when(!fits_numa(node, entry), ReasonCode::NumaTooSmall)
}

/// True unless the worker has to fit one NUMA node and none is large enough.
fn fits_numa(node: &Node, entry: &QueueEntry) -> bool {
    let wanted = NumaRoom {
        cpu: entry.request.cpus.amount(),
        memory: entry.request.memory,
    };
    entry.needs.numa == Numa::Any || node.traits.numa.iter().any(|room| wanted.fits_in(room))
}

/// By where other workers are.
fn by_others(node: &Node, entry: &QueueEntry) -> Blocks {
    let Some(ties) = &entry.ties else {
        return Blocks::NONE;
    };
    let near = ties.near.as_ref();
    Blocks::NONE
        .when(ties.crowded.contains(&node.id), ReasonCode::SpreadFull)
        .when(
            near.is_some_and(|near| !near.contains(&node.id)),
            ReasonCode::NotNear,
        )
        .when(ties.away.contains(&node.id), ReasonCode::TooNear)
}

/// Space on disks that the node lends to one worker if nothing is held, and now.
pub(crate) const fn scratch(node: &Node, held: &HeldByTier) -> (Bytes, Bytes) {
    (node.line.scratch, node.line.free_scratch(held))
}

impl Blocks {
    const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

const fn by_state(state: NodeState) -> Blocks {
    let code = match state {
        NodeState::Ready => return Blocks::NONE,
        NodeState::Suspect => ReasonCode::NodeSilent,
        NodeState::Lost => ReasonCode::NodeLost,
        NodeState::Unattended => ReasonCode::NodeUnattended,
        NodeState::Draining => ReasonCode::NodeDraining,
        NodeState::NeverSeen => ReasonCode::NodeNeverSeen,
        NodeState::Banned => ReasonCode::NodeBanned,
    };
    Blocks::NONE.with(code)
}

/// What the node could give to one worker if nothing were held.
///
/// For burst the higher line: what production uses at this moment passes, like other people's work.
pub(crate) fn room_empty(node: &Node, entry: &QueueEntry) -> Amounts {
    let amounts = match entry.tier {
        Tier::Standard => node.line.firm,
        Tier::Burst => node.line.higher(),
    };
    usable(node, &HeldByTier::default(), entry, amounts)
}

/// What the node can give to one worker now.
pub(crate) fn room(node: &Node, held: &HeldByTier, entry: &QueueEntry) -> Amounts {
    usable(node, held, entry, node.line.free(entry.tier, held))
}

/// Of the CPU only what the request can use: whole CPUs for an exclusive request.
fn usable(node: &Node, held: &HeldByTier, entry: &QueueEntry, mut amounts: Amounts) -> Amounts {
    if wants_exclusive(entry) && node.exclusive_cpus {
        amounts.cpu = MilliCpu::from_cpus(node.line.free_whole_cpus(amounts.cpu, held));
    }
    amounts
}

/// True if the job wants CPUs of its own; burst never gets any.
pub(crate) fn wants_exclusive(entry: &QueueEntry) -> bool {
    matches!(
        (entry.tier, entry.request.cpus),
        (Tier::Standard, CpuRequest::Exclusive(_))
    )
}

/// How many equal workers the node would take, one after the other.
pub(crate) fn times(node: &Node, entry: &QueueEntry, now: WallTime) -> u64 {
    if !blocks(node, &node.held, entry, now).is_empty() {
        return 0;
    }
    times_with(node, &node.held, entry)
}

/// How many equal workers have room on the node beside what is said to be held, whatever else keeps them away.
pub(crate) fn times_with(node: &Node, held: &HeldByTier, entry: &QueueEntry) -> u64 {
    let (wants, room) = (Amounts::from(entry.request), room(node, held, entry));
    let by = |room: u64, each: u64| room.checked_div(each).unwrap_or(u64::MAX);
    by(room.cpu.0, wants.cpu.0)
        .min(by(room.memory.0, wants.memory.0))
        .min(by(scratch(node, held).1.0, entry.needs.scratch.0))
        .min(match entry.needs.gpu_share {
            Some(share) if wants.gpus > 0 => shares(node, held, entry.tier, share.0.into()),
            _ => by(room.gpus.into(), wants.gpus.into()),
        })
}

/// How many shares of one size fit on the GPUs that are left.
fn shares(node: &Node, held: &HeldByTier, tier: Tier, share: u32) -> u64 {
    let free = node.line.free_gpu_parts(tier, held);
    let in_parts = |parts: u32| parts.checked_div(share).unwrap_or(0);
    let (whole, rest) = (free / 1000, free % 1000);
    u64::from(
        whole
            .saturating_mul(in_parts(1000))
            .saturating_add(in_parts(rest)),
    )
}

fn by_amount(node: &Node, held: &HeldByTier, entry: &QueueEntry) -> Blocks {
    let wants = Amounts::from(entry.request);
    let (empty, now) = (room_empty(node, entry), room(node, held, entry));
    let judge = |found: Blocks, fits_empty: bool, fits_now: bool, beyond, busy| {
        found
            .when(!fits_empty, beyond)
            .when(fits_empty && !fits_now, busy)
    };
    let (beyond, busy) = (ReasonCode::CpusBeyondLine, ReasonCode::CpusBusy);
    let found = judge(
        Blocks::NONE,
        wants.cpu <= empty.cpu,
        wants.cpu <= now.cpu,
        beyond,
        busy,
    );
    let (beyond, busy) = (ReasonCode::MemoryBeyondLine, ReasonCode::MemoryBusy);
    let found = judge(
        found,
        wants.memory <= empty.memory,
        wants.memory <= now.memory,
        beyond,
        busy,
    );
    let (beyond, busy) = (ReasonCode::GpusBeyondLine, ReasonCode::GpusBusy);
    let fits_now = match entry.needs.gpu_share {
        Some(share) if wants.gpus > 0 => node.line.free_gpu_parts(entry.tier, held) >= u32::from(share.0),
        _ => wants.gpus <= now.gpus,
    };
    let found = judge(found, wants.gpus <= empty.gpus, fits_now, beyond, busy);
    let (beyond, busy) = (ReasonCode::ScratchBeyondLine, ReasonCode::ScratchBusy);
    let (wants, (empty, now)) = (entry.needs.scratch, scratch(node, held));
    judge(found, wants <= empty, wants <= now, beyond, busy)
}
