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
/// Nodes of a slot that fit and are compared: they differ by less than the grain.
const COMPARED: usize = 8;
/// Costs that are compared at once.
const BLOCK: usize = 128;
/// What a preference that does not hold costs: more than anything else does, 16 of them less than [`NEVER`].
const PREFERENCE: i32 = 1 << 26;
const PREFERENCE_HALF: i64 = PREFERENCE as i64 / 2;
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
    /// The view's counter of freed room when no node had room.
    full_at: u64,
    /// Slots that might have had room and turned out to have none, each with its cost and what
    /// [`Slots::times_roomier`] was then.
    disappointing: Vec<(u32, i32, u32)>,
    /// Slots that have some again, and where.
    promising: Vec<(u32, u32)>,
    /// The decision in which it was used last.
    used_at: u64,
}

/// Slots and costs.
#[derive(Debug, Clone)]
pub(crate) struct View {
    slots: Slots,
    costs: Vec<Costs>,
    /// Of which have any.
    remembered: usize,
    decisions: u64,
    /// Goes up whenever room may have appeared for the tier.
    freed: u64,
}

impl View {
    pub(crate) fn new(tier: Tier) -> Self {
        Self {
            slots: Slots::new(tier),
            costs: Vec::new(),
            remembered: 0,
            decisions: 0,
            freed: 1,
        }
    }

    /// Begins anew with the same nodes: what they are was numbered anew.
    pub(crate) fn renew(&mut self, columns: &Columns) {
        let mut new = Self::new(self.slots.tier());
        new.freed = self.freed;
        new.decisions = self.decisions;
        for node in 0..columns.len() {
            new.update(columns, node, true);
        }
        *self = new;
    }

    pub(crate) const fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(crate) fn update(&mut self, columns: &Columns, node: usize, freed: bool) {
        self.slots.update(columns, node, freed);
        self.freed += u64::from(freed);
    }

    /// Goes up whenever room may have appeared for the tier.
    pub(crate) const fn freed(&self) -> u64 {
        self.freed
    }

    /// The node where one worker costs least.
    ///
    /// A shape that found no room waits until some appears.
    pub(crate) fn choose(
        &mut self,
        columns: &Columns,
        classes: &Classes,
        worth: &mut Worth,
        shape: ShapeIx,
        avoid: &[NodeIx],
    ) -> Option<usize> {
        let freed = self.freed;
        let known = classes.shapes.get(shape.0 as usize)?;
        let index = shape.0 as usize;
        if index >= self.costs.len() {
            self.costs.resize_with(index + 1, Costs::default);
        }
        if self.costs[index].full_at == freed || self.slots.rests.is_empty() {
            return None;
        }
        self.remember(index);
        let mut sorted = avoid.to_vec();
        sorted.sort_unstable();
        let avoid = sorted.as_slice();
        let costs = &mut self.costs[index];
        costs.prepare(&self.slots, known, worth);
        costs.look_again(&self.slots, known, columns);
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
            let promised = costs
                .promising
                .iter()
                .find(|(promising, _)| *promising as usize == slot);
            if let (Some((_, node)), true) = (promised, avoid.is_empty()) {
                break Some(*node as usize);
            }
            if let Some(node) = pick(columns, &self.slots, slot, known, avoid) {
                break Some(node);
            }
            costs.by_slot[slot] = NEVER;
            if avoid.is_empty() {
                let number = u32::try_from(slot).unwrap_or(u32::MAX);
                costs
                    .disappointing
                    .push((number, cost, self.slots.times_roomier(slot)));
            } else {
                tried.push((slot, cost));
            }
        };
        for (slot, cost) in tried {
            costs.by_slot[slot] = cost;
        }
        if found.is_none() && avoid.is_empty() {
            costs.full_at = freed;
        }
        found
    }

    /// Forgets what was found out about a shape: its number is given again.
    pub(crate) fn forget(&mut self, shape: ShapeIx) {
        if let Some(costs) = self.costs.get_mut(shape.0 as usize) {
            self.remembered -= usize::from(!costs.by_slot.is_empty());
            *costs = Costs::default();
        }
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
                costs.disappointing = Vec::new();
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
            self.disappointing.clear();
            self.numbering = slots.numbering;
            self.renewed = 0;
        }
        let before = self.by_slot.len();
        self.by_slot.resize(slots.rests.len(), UNKNOWN);
        if self.epoch != worth.epoch {
            self.epoch = worth.epoch;
            self.renewed = 0;
            for (slot, ..) in self.disappointing.drain(..) {
                self.by_slot[slot as usize] = UNKNOWN;
            }
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

    /// Looks whether slots that had no room have some now, at the nodes where there is more than there was.
    fn look_again(&mut self, slots: &Slots, shape: &Shape, columns: &Columns) {
        let Self {
            by_slot,
            disappointing,
            promising,
            ..
        } = self;
        promising.clear();
        disappointing.retain_mut(|(slot, cost, since)| {
            let index = *slot as usize;
            let Some(nodes) = slots.roomier(index, *since) else {
                by_slot[index] = *cost;
                return false;
            };
            let fits = |node: &&u32| {
                slots.has(columns, **node as usize, &shape.asked) && slots.lies_in(**node as usize, index)
            };
            if let Some(node) = nodes.iter().find(fits) {
                by_slot[index] = *cost;
                promising.push((*slot, *node));
                return false;
            }
            *since = slots.times_roomier(index);
            true
        });
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
/// The least of each block is found without branches, which compilers turn into vector instructions; a pass that also
/// carries the place is several times slower.
fn cheapest(costs: &[i32], mask: &[i32]) -> (usize, i32) {
    let seen = |(cost, mask): (&i32, &i32)| (*cost).max(*mask);
    let blocks = costs.chunks(BLOCK).zip(mask.chunks(BLOCK));
    let (mut least, mut block) = (NEVER, 0);
    for (number, (costs, mask)) in blocks.enumerate() {
        let lower = costs.iter().zip(mask).map(seen).fold(NEVER, i32::min);
        if lower < least {
            (least, block) = (lower, number * BLOCK);
        }
    }
    let place = costs
        .iter()
        .zip(mask)
        .skip(block)
        .position(|pair| seen(pair) == least);
    (block + place.unwrap_or(0), least)
}

/// What becomes useless of a rest's GPUs if the shape goes there; among equals the tighter fit costs less.
pub(crate) fn cost(rest: &Rest, grain: Grain, shape: &Shape, worth: &mut Worth) -> i32 {
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
    let mut cost = lost.saturating_mul(TIES).saturating_add(tie);
    if let Some(missed) = shape.missed.get(usize::from(rest.class)) {
        let within = (cost / i64::from(NEVER / PREFERENCE)).clamp(-PREFERENCE_HALF, PREFERENCE_HALF - 1);
        cost = within + i64::from(*missed) * i64::from(PREFERENCE);
    }
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

/// The tightest of the first few of a slot's nodes that fit; `avoid` ascends.
fn pick(columns: &Columns, slots: &Slots, slot: usize, shape: &Shape, avoid: &[NodeIx]) -> Option<usize> {
    let surely = slots.rests[slot].fits(&shape.asked, slots.grain()) == Fits::Surely;
    let fits = |node: &usize| {
        (surely || slots.has(columns, *node, &shape.asked))
            && (avoid.is_empty()
                || avoid
                    .binary_search_by_key(node, |avoided| avoided.0 as usize)
                    .is_err())
    };
    let fitting = slots.members[slot].iter().map(|node| *node as usize).filter(fits);
    // Where only some fit, those that do not have been looked at already: the first will do.
    let compared = if surely { COMPARED } else { 1 };
    fitting
        .take(compared)
        .min_by_key(|node| (slots.cpu_left(*node), *node))
}
