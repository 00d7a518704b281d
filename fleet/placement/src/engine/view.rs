//! One tier's view of the fleet: its slots, and what it costs each shape to go to each of them.
//!
//! Costs are numbers in a row, so that the least of them is found at memory speed. A cost is computed when it is
//! first looked at; when what rests are worth has changed, old costs serve on and a few are renewed with each
//! decision, so that no decision pays for all.

use alloc::vec::Vec;

use loadline_model::Tier;

use crate::engine::class::{Classes, Shape, ShapeIx};
use crate::engine::node::{Columns, NodeIx};
use crate::engine::slots::{Fits, Grain, Rest, Slots};
use crate::engine::worth::Worth;

/// Not computed yet: lower than any cost, so that it is found.
const UNKNOWN: i32 = i32::MIN;
/// Does not fit.
const NEVER: i32 = i32::MAX;
/// Old costs that one decision renews: some 100 µs of work.
const RENEWED: usize = 256;
/// Nodes of a slot that are compared when all of them fit.
const COMPARED: usize = 8;
/// Steps of the tie-break within one step of cost.
const TIES: i64 = 1024;

/// Shapes whose costs are kept: 16 MiB with all slots in use. Beyond, those not placed lately are forgotten.
const REMEMBERED: usize = 1024;

/// What one shape pays.
#[derive(Debug, Clone, Default)]
struct Costs {
    by_slot: Vec<i32>,
    /// Of the slots, when the costs were computed.
    numbering: u32,
    /// Of the worth, from which slot on they are older.
    epoch: u32,
    renewed: usize,
    /// The state of [`crate::engine::Engine`]'s counter of freed room when no node had room.
    full_at: u64,
    /// The decision in which it was used last.
    used_at: u64,
}

/// Slots and costs.
#[derive(Debug, Clone)]
pub(crate) struct View {
    tier: Tier,
    slots: Slots,
    costs: Vec<Costs>,
    /// Of which have any.
    remembered: usize,
    decisions: u64,
}

impl View {
    pub(crate) fn new(tier: Tier) -> Self {
        Self {
            tier,
            slots: Slots::new(tier),
            costs: Vec::new(),
            remembered: 0,
            decisions: 0,
        }
    }

    pub(crate) const fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(crate) fn update(&mut self, columns: &Columns, node: usize) {
        self.slots.update(columns, node);
    }

    /// The node where one worker costs least.
    ///
    /// `freed` counts how often room appeared: a shape that found none waits for the next time.
    pub(crate) fn choose(
        &mut self,
        columns: &Columns,
        classes: &Classes,
        worth: &mut Worth,
        shape: ShapeIx,
        avoid: &[NodeIx],
        freed: u64,
    ) -> Option<usize> {
        let known = classes.shapes.get(shape.0 as usize)?;
        let index = shape.0 as usize;
        if index >= self.costs.len() {
            self.costs.resize_with(index + 1, Costs::default);
        }
        if self.costs[index].full_at == freed || self.slots.rests.is_empty() {
            return None;
        }
        self.remember(index);
        let costs = &mut self.costs[index];
        costs.prepare(&self.slots, known, worth);
        let mut tried: Vec<(usize, i32)> = Vec::new();
        let found = loop {
            let (slot, cost) = cheapest(&costs.by_slot, &self.slots.mask);
            if cost == NEVER {
                break None;
            }
            if cost == UNKNOWN {
                costs.fill_in(&self.slots, known, worth);
                continue;
            }
            let rest = &self.slots.rests[slot];
            let surely = rest.fits(&known.asked, self.slots.grain()) == Fits::Surely;
            let members = &self.slots.members[slot];
            if let Some(node) = pick(columns, members, self.tier, known, surely, avoid) {
                break Some(node);
            }
            tried.push((slot, cost));
            costs.by_slot[slot] = NEVER;
        };
        for (slot, cost) in tried {
            costs.by_slot[slot] = cost;
        }
        if found.is_none() && avoid.is_empty() {
            costs.full_at = freed;
        }
        found
    }

    /// Notes that a shape's costs are used, and forgets others if there are too many.
    fn remember(&mut self, index: usize) {
        self.decisions += 1;
        self.costs[index].used_at = self.decisions;
        if !self.costs[index].by_slot.is_empty() {
            return;
        }
        self.remembered += 1;
        if self.remembered <= REMEMBERED {
            return;
        }
        let recent = self.decisions.saturating_sub(REMEMBERED as u64 / 2);
        for costs in self.costs.iter_mut().filter(|costs| costs.used_at <= recent) {
            if !costs.by_slot.is_empty() {
                costs.by_slot = Vec::new();
                self.remembered -= 1;
            }
        }
    }
}

impl Costs {
    /// Makes room for new slots, and renews some of what is old.
    fn prepare(&mut self, slots: &Slots, shape: &Shape, worth: &mut Worth) {
        if self.numbering != slots.numbering {
            self.by_slot.clear();
            self.numbering = slots.numbering;
            self.renewed = 0;
        }
        let before = self.by_slot.len();
        self.by_slot.resize(slots.rests.len(), UNKNOWN);
        if self.epoch != worth.epoch {
            self.epoch = worth.epoch;
            self.renewed = 0;
        }
        let until = before.min(self.renewed + RENEWED);
        for slot in self.renewed..until {
            // Empty slots are computed when somebody comes to lie there.
            self.by_slot[slot] = match self.by_slot[slot] {
                NEVER => NEVER,
                _ if slots.members[slot].is_empty() => UNKNOWN,
                _ => cost(&slots.rests[slot], slots.grain(), shape, worth),
            };
        }
        self.renewed = self.renewed.max(until);
    }

    /// Computes every cost that is asked for and not known.
    fn fill_in(&mut self, slots: &Slots, shape: &Shape, worth: &mut Worth) {
        for (slot, known) in self.by_slot.iter_mut().enumerate() {
            if *known == UNKNOWN && !slots.members[slot].is_empty() {
                *known = cost(&slots.rests[slot], slots.grain(), shape, worth);
            }
        }
    }
}

/// The least cost among occupied slots, and its first place.
///
/// Two passes without branches, which compilers turn into vector instructions; one pass that also carries the place
/// is several times slower.
fn cheapest(costs: &[i32], mask: &[i32]) -> (usize, i32) {
    let seen = |(cost, mask): (&i32, &i32)| (*cost).max(*mask);
    let least = costs.iter().zip(mask).map(seen).fold(NEVER, i32::min);
    let place = costs.iter().zip(mask).position(|pair| seen(pair) == least);
    (place.unwrap_or(0), least)
}

/// What becomes useless of a rest's GPUs if the shape goes there; among equals the tighter fit costs less.
fn cost(rest: &Rest, grain: Grain, shape: &Shape, worth: &mut Worth) -> i32 {
    let asked = &shape.asked;
    if !shape.allowed[usize::from(rest.class)] || rest.fits(asked, grain) == Fits::Never {
        return NEVER;
    }
    let mut after = rest.after(asked, u8::try_from(asked.share / 10).unwrap_or(100), grain);
    let mut lost = 0;
    if rest.gpus[0] > 0 && worth.is_informed() {
        let before = worth.of(rest, grain);
        let used = Worth::used(asked);
        let mut best = None;
        let mut last = u8::MAX;
        for left in rest.gpus {
            let enough = u16::from(left) * 10 + grain.gpu_reach() >= asked.share;
            if left == last || (asked.gpus > 0 && !enough) {
                continue;
            }
            last = left;
            let rest_after = rest.after(asked, left, grain);
            let value = worth.of(&rest_after, grain);
            if best.is_none_or(|(most, _)| value > most) {
                best = Some((value, rest_after));
            }
            if !asked.is_share() {
                break;
            }
        }
        if let Some((value, rest_after)) = best {
            after = rest_after;
            lost = before - value - used;
        }
    }
    let tie = tightness(&after, asked.gpus == 0, grain).min(TIES - 1);
    let cost = lost.saturating_mul(TIES).saturating_add(tie);
    i32::try_from(cost.clamp(i64::from(UNKNOWN) + 1, i64::from(NEVER) - 1)).unwrap_or(0)
}

/// How much would be left over: less is a tighter fit. Work without GPUs leaves nodes with GPUs to others.
fn tightness(after: &Rest, without_gpus: bool, grain: Grain) -> i64 {
    let gpus: i64 = after.gpus.iter().map(|left| i64::from(*left)).sum();
    let cpus = i64::try_from(after.cpu_floor(grain) / 1000).unwrap_or(TIES);
    let memory = i64::try_from(after.memory_gib(grain) / 8).unwrap_or(TIES);
    let spared = if without_gpus && gpus > 0 { TIES / 2 } else { 0 };
    cpus.min(TIES / 4) + memory.min(TIES / 8) + (gpus / 8).min(TIES / 8) + spared
}

/// The tightest of a slot's nodes that fits; of a long slot where all fit, of the first few.
fn pick(
    columns: &Columns,
    members: &[u32],
    tier: Tier,
    shape: &Shape,
    surely: bool,
    avoid: &[NodeIx],
) -> Option<usize> {
    let fits = |node: &usize| {
        (surely || columns.has(*node, tier, &shape.asked))
            && (avoid.is_empty() || !avoid.iter().any(|avoided| avoided.0 as usize == *node))
    };
    let fitting = members.iter().map(|node| *node as usize).filter(fits);
    let left = |node: &usize| (columns.cpu.free(tier, *node), *node);
    if surely {
        fitting.take(COMPARED).min_by_key(left)
    } else {
        fitting.min_by_key(left)
    }
}
