//! The bucket index: nodes whose rests are the same, rounded down, share one slot.
//!
//! Problem: what a node has left takes too many forms to look at each node in each decision. Approach: rests are
//! rounded down to a *grain*; nodes of one class with the same rounded rest lie in one slot, and a decision looks at
//! slots. When the rests of a large fleet take more forms than [`SLOTS_MAX`], the grain doubles, so the cost of a
//! decision has a bound that does not depend on the number of nodes.
//!
//! Properties: a slot says *surely* (all its nodes have so much) and *maybe* (one might); only a slot that says
//! neither is passed over, so no node that fits is hidden.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use loadline_model::Tier;

use crate::engine::node::{Asked, Columns, GPUS};

/// Slots before the grain doubles: 2,048 costs of four bytes are read in well under a microsecond.
pub(crate) const SLOTS_MAX: usize = 2048;
/// A fleet in whose slots fewer than this many lie at once is not made coarser; its empty slots are thrown away.
const OCCUPIED_FEW: usize = SLOTS_MAX / 8;
/// One step of a GPU's rest, in per mille.
pub(crate) const GPU_UNIT: u16 = 10;
/// Nodes that came to have more room are listed up to so many a slot; then a slot is looked through again.
const LISTED_MAX: usize = 256;
/// Not in any slot.
const NOWHERE: u32 = u32::MAX;
/// In [`Slots::mask`]: nodes lie in the slot.
const OCCUPIED: i32 = i32::MIN;
/// In [`Slots::mask`]: none does.
const EMPTY: i32 = i32::MAX;

/// How far rests are rounded down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Grain {
    level: u32,
}

impl Grain {
    /// From single CPUs on: shares of CPU are small against a node.
    pub(crate) const fn cpu(self) -> u64 {
        1000 << self.level
    }

    /// From 32 GiB on, a quarter of what a GPU's worker commonly asks for at most.
    const fn memory(self) -> u64 {
        (32 << 30) << self.level
    }

    /// From 256 GiB on.
    const fn scratch(self) -> u64 {
        (256 << 30) << self.level
    }

    /// Of a GPU's rest, in units of [`GPU_UNIT`]; divides a whole GPU, so that a whole one is never rounded.
    const fn gpu(self) -> u8 {
        match self.level {
            0 => 1,
            1 => 5,
            2 => 10,
            3 => 25,
            _ => 50,
        }
    }

    /// A GPU's rest of so many units, rounded down.
    pub(crate) const fn gpu_floor(self, units: u8) -> u8 {
        units / self.gpu() * self.gpu()
    }

    /// By how much a GPU's rest may exceed what it was rounded down to, in per mille.
    pub(crate) const fn gpu_reach(self) -> u16 {
        self.gpu() as u16 * GPU_UNIT - 1
    }

    /// As coarse as it gets: a few rests per resource.
    const fn is_last(self) -> bool {
        self.level >= 8
    }
}

/// A rest, rounded down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rest {
    pub(crate) class: u16,
    /// In steps of [`Grain::cpu`].
    pub(crate) cpu: u16,
    memory: u16,
    scratch: u16,
    whole: u16,
    /// All GPUs together, in units of [`GPU_UNIT`], where a line allows less than what is left of them.
    gpu_line: u16,
    /// In units of [`GPU_UNIT`], the largest first.
    pub(crate) gpus: [u8; GPUS],
}

/// Whether a slot's nodes fit a demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fits {
    Surely,
    Maybe,
    Never,
}

fn steps(amount: u64, step: u64) -> u16 {
    u16::try_from(amount / step).unwrap_or(u16::MAX)
}

/// Does a rest of `steps` steps reach `asked`?
fn reaches(steps: u16, step: u64, asked: u64) -> Fits {
    let floor = u64::from(steps).saturating_mul(step);
    if asked <= floor {
        Fits::Surely
    } else if asked < floor.saturating_add(step) || steps == u16::MAX {
        Fits::Maybe
    } else {
        Fits::Never
    }
}

impl Rest {
    pub(crate) fn of(columns: &Columns, node: usize, tier: Tier, grain: Grain) -> Self {
        let mut gpus = [0; GPUS];
        for (unit, left) in gpus.iter_mut().zip(&columns.gpu_left[node]) {
            let units = u8::try_from(left / GPU_UNIT).unwrap_or(u8::MAX);
            *unit = grain.gpu_floor(units);
        }
        gpus.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            class: columns.class[node],
            cpu: steps(columns.cpu.free(tier, node), grain.cpu()),
            memory: steps(columns.memory.free(tier, node), grain.memory()),
            scratch: steps(columns.scratch.free(tier, node), grain.scratch()),
            whole: steps(
                u64::from(columns.whole_left(node)).saturating_mul(1000),
                grain.cpu(),
            ),
            gpu_line: columns
                .gpu_line(tier, node)
                .map_or(u16::MAX, |free| steps(free, GPU_UNIT.into())),
            gpus,
        }
    }

    /// Whether nodes with this rest have what is asked for.
    pub(crate) fn fits(&self, asked: &Asked, grain: Grain) -> Fits {
        let whole = u64::from(asked.whole).saturating_mul(1000);
        let answers = [
            reaches(self.cpu, grain.cpu(), asked.cpu),
            reaches(self.memory, grain.memory(), asked.memory),
            reaches(self.scratch, grain.scratch(), asked.scratch),
            reaches(self.whole, grain.cpu(), whole),
            reaches(self.gpu_line, GPU_UNIT.into(), asked.gpu_total().into()),
            self.gpus_fit(asked, grain),
        ];
        let mut worst = Fits::Surely;
        for answer in answers {
            match answer {
                Fits::Never => return Fits::Never,
                Fits::Maybe => worst = Fits::Maybe,
                Fits::Surely => {}
            }
        }
        worst
    }

    fn gpus_fit(&self, asked: &Asked, grain: Grain) -> Fits {
        let count = |reach: u16| {
            let fitting = self
                .gpus
                .iter()
                .filter(|left| u16::from(**left) * GPU_UNIT + reach >= asked.share);
            u32::try_from(fitting.count()).unwrap_or(u32::MAX)
        };
        if asked.gpus == 0 || count(0) >= asked.gpus {
            Fits::Surely
        } else if count(grain.gpu_reach()) >= asked.gpus {
            Fits::Maybe
        } else {
            Fits::Never
        }
    }

    /// What would be left of it, each at least zero; shares come from the GPU of `from` units.
    pub(crate) fn after(&self, asked: &Asked, from: u8, grain: Grain) -> Self {
        let minus = |steps: u16, step: u64, asked: u64| {
            let left = u64::from(steps).saturating_mul(step).saturating_sub(asked);
            self::steps(left, step)
        };
        let mut after = *self;
        after.cpu = minus(self.cpu, grain.cpu(), asked.cpu);
        after.memory = minus(self.memory, grain.memory(), asked.memory);
        let share = u8::try_from(asked.share.div_ceil(GPU_UNIT)).unwrap_or(u8::MAX);
        let mut missing = asked.gpus;
        for left in after.gpus.iter_mut().filter(|left| **left == from) {
            if missing > 0 {
                *left = grain.gpu_floor(left.saturating_sub(share));
                missing -= 1;
            }
        }
        after.gpus.sort_unstable_by(|a, b| b.cmp(a));
        after
    }

    /// CPU, in thousandths.
    pub(crate) fn cpu_floor(&self, grain: Grain) -> u64 {
        u64::from(self.cpu).saturating_mul(grain.cpu())
    }

    /// Memory, in GiB.
    pub(crate) fn memory_gib(&self, grain: Grain) -> u64 {
        u64::from(self.memory).saturating_mul(grain.memory()) >> 30
    }
}

/// What a node has left for the tier, exactly; side by side, as it is looked at together.
#[derive(Debug, Clone, Copy, Default)]
struct Free {
    cpu: u64,
    memory: u64,
    scratch: u64,
    gpus: u64,
    whole: u32,
}

/// Which nodes of a slot came to have more room, in order.
#[derive(Debug, Clone, Default)]
struct Roomier {
    /// How many before those that are listed.
    before: u32,
    nodes: Vec<u32>,
}

/// The nodes of one tier's view, by what they have left.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    tier: Tier,
    grain: Grain,
    pub(crate) rests: Vec<Rest>,
    numbers: BTreeMap<Rest, u32>,
    pub(crate) members: Vec<Vec<u32>>,
    /// Per slot [`OCCUPIED`] or [`EMPTY`]: the larger of it and a cost is the cost, if anyone is there.
    pub(crate) mask: Vec<i32>,
    roomier: Vec<Roomier>,
    occupied: usize,
    /// Per node.
    free: Vec<Free>,
    /// Per node its slot and its place among the members.
    at: Vec<(u32, u32)>,
    /// Goes up when slots are numbered anew.
    pub(crate) numbering: u32,
    /// So many slots may be there before that: twice as many as were left, where nodes are of very many classes.
    most: usize,
}

impl Slots {
    pub(crate) fn new(tier: Tier) -> Self {
        Self {
            tier,
            grain: Grain::default(),
            rests: Vec::new(),
            numbers: BTreeMap::new(),
            members: Vec::new(),
            mask: Vec::new(),
            roomier: Vec::new(),
            occupied: 0,
            free: Vec::new(),
            at: Vec::new(),
            numbering: 0,
            most: SLOTS_MAX,
        }
    }

    pub(crate) const fn tier(&self) -> Tier {
        self.tier
    }

    pub(crate) const fn grain(&self) -> Grain {
        self.grain
    }

    /// Puts the node where it belongs now; `freed` says that it has more room than before.
    pub(crate) fn update(&mut self, columns: &Columns, node: usize, freed: bool) {
        self.at.resize(columns.len().max(self.at.len()), (NOWHERE, 0));
        self.free.resize(self.at.len(), Free::default());
        self.free[node] = Free {
            cpu: columns.cpu.free(self.tier, node),
            memory: columns.memory.free(self.tier, node),
            scratch: columns.scratch.free(self.tier, node),
            gpus: columns.gpus.free(self.tier, node),
            whole: columns.whole_left(node),
        };
        let (slot, _) = self.at[node];
        if !columns.open[node] {
            self.take_out(node);
            return;
        }
        let rest = Rest::of(columns, node, self.tier, self.grain);
        if slot != NOWHERE && self.rests[slot as usize] == rest {
            if freed {
                self.note_roomier(slot as usize, node);
            }
            return;
        }
        self.take_out(node);
        self.put(node, rest);
        if self.rests.len() > self.most {
            self.renumber(columns);
        }
    }

    fn put(&mut self, node: usize, rest: Rest) {
        let next = self.rests.len();
        let slot = *self
            .numbers
            .entry(rest)
            .or_insert(u32::try_from(next).unwrap_or(NOWHERE));
        let index = slot as usize;
        if index == next {
            self.rests.push(rest);
            self.members.push(Vec::new());
            self.mask.push(EMPTY);
            self.roomier.push(Roomier::default());
        }
        self.note_roomier(index, node);
        let members = &mut self.members[index];
        if members.is_empty() {
            self.mask[index] = OCCUPIED;
            self.occupied += 1;
        }
        self.at[node] = (slot, u32::try_from(members.len()).unwrap_or(NOWHERE));
        members.push(u32::try_from(node).unwrap_or(NOWHERE));
    }

    /// True if the node has what is asked for: as [`Columns::has`], from one place.
    pub(crate) fn has(&self, columns: &Columns, node: usize, asked: &Asked) -> bool {
        let free = &self.free[node];
        asked.cpu <= free.cpu
            && asked.memory <= free.memory
            && asked.whole <= free.whole
            && asked.scratch <= free.scratch
            && u64::from(asked.gpu_total()) <= free.gpus
            && columns.gpus_fit(node, asked)
    }

    /// The CPU that a node has left, in thousandths.
    pub(crate) fn cpu_left(&self, node: usize) -> u64 {
        self.free[node].cpu
    }

    fn note_roomier(&mut self, slot: usize, node: usize) {
        let Roomier { before, nodes } = &mut self.roomier[slot];
        if nodes.len() >= LISTED_MAX {
            *before += u32::try_from(nodes.len()).unwrap_or(0);
            nodes.clear();
        }
        nodes.push(u32::try_from(node).unwrap_or(NOWHERE));
    }

    /// How often a node of the slot came to have more room.
    pub(crate) fn times_roomier(&self, slot: usize) -> u32 {
        let Roomier { before, nodes } = &self.roomier[slot];
        before + u32::try_from(nodes.len()).unwrap_or(0)
    }

    /// The nodes that may have more room than when [`Self::times_roomier`] said `since`; none: any of them.
    pub(crate) fn roomier(&self, slot: usize, since: u32) -> Option<&[u32]> {
        let Roomier { before, nodes } = &self.roomier[slot];
        nodes.get(since.checked_sub(*before)? as usize..)
    }

    /// True if the node lies in the slot.
    pub(crate) fn lies_in(&self, node: usize, slot: usize) -> bool {
        self.at[node].0 as usize == slot
    }

    fn take_out(&mut self, node: usize) {
        let (slot, place) = self.at[node];
        if slot == NOWHERE {
            return;
        }
        self.at[node] = (NOWHERE, 0);
        let members = &mut self.members[slot as usize];
        members.swap_remove(place as usize);
        if let Some(moved) = members.get(place as usize) {
            self.at[*moved as usize] = (slot, place);
        }
        if members.is_empty() {
            self.mask[slot as usize] = EMPTY;
            self.occupied -= 1;
        }
    }

    /// Throws empty slots away, and doubles the grain while too many are left.
    fn renumber(&mut self, columns: &Columns) {
        loop {
            if self.occupied > OCCUPIED_FEW && !self.grain.is_last() {
                self.grain.level += 1;
            }
            self.rests.clear();
            self.numbers.clear();
            self.members.clear();
            self.mask.clear();
            self.roomier.clear();
            self.occupied = 0;
            self.at.fill((NOWHERE, 0));
            for node in (0..columns.len()).filter(|node| columns.open[*node]) {
                self.put(node, Rest::of(columns, node, self.tier, self.grain));
            }
            if self.rests.len() <= SLOTS_MAX / 2 || self.grain.is_last() {
                break;
            }
        }
        self.most = SLOTS_MAX.max(self.rests.len().saturating_mul(2));
        self.numbering = self.numbering.wrapping_add(1);
    }
}
