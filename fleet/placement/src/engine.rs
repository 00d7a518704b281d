//! The engine: which node takes a worker, in a time that does not grow with the fleet.
//!
//! Problem: a fleet of 10,000 nodes is asked 10,000 times a second where a worker goes, and a wrong answer leaves GPUs
//! behind that nobody can use. Approach: what nodes have left is kept in columns; nodes with the same rest share a
//! slot ([`slots`]); what it costs to put a shape on a slot is computed once per pair ([`worth`]) and remembered; a
//! decision is the least of at most 2,048 numbers, and one look at the nodes of that slot.
//!
//! Terms: *shape*, a demand in a tier; *rest*, what a node has left, rounded down; *cost*, the GPUs that become
//! useless by a placement; among equal costs the tighter fit is the lower.
//!
//! Properties: exact, no sampling: if a node fits, one is found; the same calls in the same order give the same
//! answers; [`Engine::release`] undoes what [`Engine::place`] booked.

use alloc::vec::Vec;

use loadline_model::{Demand, DemandProblem, NodeId, PerMille, Tier};

mod among;
mod class;
mod gang;
mod mix;
mod node;
mod pass;
mod slots;
mod view;
mod worth;

pub use among::Among;
pub use class::ShapeIx;
pub use node::{Domain, Holding, NodeGpus, NodeIx, NodeSpec, NumaRoom, Room};
pub use pass::{Pass, Passed, Queued};

use class::{Classes, Facts, NodeClass};
use mix::{Common, Mix};
use node::{Asked, Columns, GPUS};
use slots::{GPU_UNIT, Rest};
use view::View;
use worth::Worth;

/// What one worker was given, to be handed back to [`Engine::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// Where.
    pub node: NodeIx,
    /// To whom.
    pub shape: ShapeIx,
    /// On which of the node's GPUs it is booked, one bit each. The node may use others: it owns the numbers.
    pub gpus: u16,
}

/// Why the engine does not know a node or a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// A number that no node has.
    #[error("the engine has no node {}: use the number that add_node returned", .0.0)]
    NoNode(NodeIx),
    /// A number that no shape has.
    #[error("the engine has no shape {}: use the number that shape returned", .0.0)]
    NoShape(ShapeIx),
    /// More kinds of nodes than can be told apart.
    #[error("more than 65,536 kinds of nodes: use fewer different labels")]
    TooManyClasses,
    /// Nothing of the kind is booked there.
    #[error("node {} does not hold what is released: release each grant once", .0.node.0)]
    NotHeld(Grant),
}

/// The books of a fleet, and how to decide on them.
#[derive(Debug, Clone)]
pub struct Engine {
    columns: Columns,
    classes: Classes,
    mix: Mix,
    learnt: Vec<Common>,
    worth: Worth,
    /// For each tier that anything was asked in.
    standard: Option<View>,
    burst: Option<View>,
    /// GPUs lent and left over all open nodes, in per mille of one.
    gpus_lent: u64,
    gpus_left: u64,
    /// What was left when the shapes were weighed last.
    weighed_at: u64,
    /// So many classes of nodes there may be before those without nodes are forgotten.
    classes_max: usize,
}

/// Classes of nodes are not looked through for fewer.
const CLASSES_FEW: usize = 1024;

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    /// Without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            columns: Columns::default(),
            classes: Classes::default(),
            mix: Mix::default(),
            learnt: Vec::new(),
            worth: Worth::default(),
            standard: None,
            burst: None,
            gpus_lent: 0,
            gpus_left: 0,
            weighed_at: 0,
            classes_max: CLASSES_FEW,
        }
    }

    /// Adds a node that lends and holds nothing yet.
    ///
    /// # Errors
    /// When there are too many kinds of nodes.
    pub fn add_node(&mut self, spec: &NodeSpec) -> Result<NodeIx, EngineError> {
        let met = self.classes.met(&Facts::of(spec));
        let class = self
            .classes
            .node(NodeClass::of(spec, met))
            .ok_or(EngineError::TooManyClasses)?;
        let node = self.columns.push(spec, class);
        let gpus = sum(&self.columns.gpu_left[node.0 as usize]);
        self.gpus_lent += gpus;
        self.gpus_left += gpus;
        self.changed(node.0 as usize, true);
        Ok(node)
    }

    /// How many nodes there are, closed ones included.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.columns.len()
    }

    /// Its identity.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn node_id(&self, node: NodeIx) -> Result<NodeId, EngineError> {
        self.index(node).map(|index| self.columns.ids[index])
    }

    /// How often anything of the node has changed: what was derived from it holds while this stays.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn generation(&self, node: NodeIx) -> Result<u32, EngineError> {
        self.index(node).map(|index| self.columns.generation[index])
    }

    /// Says that a node takes new work, or none; what it holds stays.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn set_open(&mut self, node: NodeIx, open: bool) -> Result<(), EngineError> {
        let index = self.index(node)?;
        if self.columns.open[index] != open {
            self.count_gpus(index, false);
            self.columns.open[index] = open;
            self.count_gpus(index, true);
            self.changed(index, open);
        }
        Ok(())
    }

    /// Counts the GPUs of a node among those of all open nodes, or no longer.
    fn count_gpus(&mut self, node: usize, count: bool) {
        if !self.columns.open[node] {
            return;
        }
        let lent = sum(&self.columns.gpu_lent[node]);
        let left = sum(&self.columns.gpu_left[node]);
        if count {
            self.gpus_lent += lent;
            self.gpus_left += left;
        } else {
            self.gpus_lent = self.gpus_lent.saturating_sub(lent);
            self.gpus_left = self.gpus_left.saturating_sub(left);
        }
    }

    /// Takes over all that is known of a node: what it is, what it holds, whether it takes new work. What was booked
    /// on it before counts no longer, unless `holding` says so.
    ///
    /// # Errors
    /// When there is no such node, or there are too many kinds of nodes; then nothing has changed.
    pub fn set_node(
        &mut self,
        node: NodeIx,
        spec: &NodeSpec,
        holding: &Holding,
        open: bool,
    ) -> Result<(), EngineError> {
        let index = self.index(node)?;
        let facts = Facts::of(spec);
        let met = if facts == self.columns.facts[index] {
            self.classes.met_by(self.columns.class[index])
        } else {
            self.classes.met(&facts)
        };
        let class = self
            .classes
            .node(NodeClass::of(spec, met))
            .ok_or(EngineError::TooManyClasses)?;
        let before = [Tier::Standard, Tier::Burst].map(|tier| self.columns.left(index, tier));
        self.count_gpus(index, false);
        self.columns.set(index, spec, class, holding);
        self.columns.open[index] = open;
        self.columns.generation[index] = self.columns.generation[index].wrapping_add(1);
        self.count_gpus(index, true);
        for (tier, before) in [Tier::Standard, Tier::Burst].into_iter().zip(before) {
            let view = match tier {
                Tier::Standard => &mut self.standard,
                Tier::Burst => &mut self.burst,
            };
            if let Some(view) = view {
                let freed = self.columns.is_roomier(&before, index, tier);
                view.update(&self.columns, index, freed);
            }
        }
        Ok(())
    }

    /// Goes up whenever room may have appeared for a tier: while it stays, what found no room finds none.
    #[must_use]
    pub fn freed(&self, tier: Tier) -> u64 {
        let view = match tier {
            Tier::Standard => self.standard.as_ref(),
            Tier::Burst => self.burst.as_ref(),
        };
        view.map_or(0, View::freed)
    }

    /// Moves a node's lines; what it holds stays, also where that is now beyond them.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn set_lines(&mut self, node: NodeIx, firm: Room, now: Room) -> Result<(), EngineError> {
        let index = self.index(node)?;
        self.columns.set_lines(index, firm, now);
        self.changed(index, true);
        Ok(())
    }

    /// The number of a shape, which stays.
    ///
    /// # Errors
    /// When no node could ever be asked for the demand.
    pub fn shape(&mut self, demand: &Demand, tier: Tier) -> Result<ShapeIx, DemandProblem> {
        self.shape_of(demand, tier, "")
    }

    /// The number of a shape that a team asks for, which stays. Give no team where no node lends to certain teams:
    /// each team would have a shape of its own.
    ///
    /// # Errors
    /// When no node could ever be asked for the demand.
    pub fn shape_of(&mut self, demand: &Demand, tier: Tier, team: &str) -> Result<ShapeIx, DemandProblem> {
        let demand = demand.clone().checked()?;
        self.admit(&demand);
        let shape = self.classes.shape(&demand, tier, team);
        let view = match tier {
            Tier::Standard => &mut self.standard,
            Tier::Burst => &mut self.burst,
        };
        if view.is_none() {
            let mut new = View::new(tier);
            for node in 0..self.columns.len() {
                new.update(&self.columns, node, true);
            }
            *view = Some(new);
        }
        Ok(shape)
    }

    /// Judges every node by what nobody has asked for before. Rests and room stay what they are.
    fn admit(&mut self, demand: &Demand) {
        self.tidy_classes();
        for (number, condition) in self.classes.admit(demand) {
            for node in 0..self.columns.len() {
                if !condition.holds(&self.columns.facts[node]) {
                    continue;
                }
                // Without a class left the node counts as one that does not meet it, and is passed over.
                if let Some(class) = self.classes.meeting(self.columns.class[node], number) {
                    self.columns.class[node] = class;
                    self.changed(node, false);
                }
            }
        }
    }

    /// Forgets classes once they have doubled: what that costs is spread over as many new ones.
    fn tidy_classes(&mut self) {
        if self.classes.count() < self.classes_max {
            return;
        }
        self.classes.tidy(&mut self.columns.class);
        self.classes_max = self.classes.count().saturating_mul(2).max(CLASSES_FEW);
        self.worth.forget_classes();
        for view in [&mut self.standard, &mut self.burst].into_iter().flatten() {
            view.renew(&self.columns);
        }
    }

    /// How many shapes it knows.
    #[must_use]
    pub fn shapes(&self) -> usize {
        self.classes.shapes_known()
    }

    /// Forgets the shapes that were not asked for lately, except those that `uses` names. Their numbers mean nothing any
    /// more, and what was granted for them can be taken back by [`Engine::set_node`] alone.
    pub fn forget_shapes(&mut self, uses: impl Fn(ShapeIx) -> bool) {
        let (mix, learnt) = (&self.mix, &self.learnt);
        let keep =
            |shape| uses(shape) || mix.counts(shape) || learnt.iter().any(|common| common.shape == shape);
        for shape in self.classes.forget_shapes(keep) {
            for view in [&mut self.standard, &mut self.burst].into_iter().flatten() {
                view.forget(shape);
            }
        }
    }

    /// What the shape asks for.
    ///
    /// # Errors
    /// When there is no such shape.
    pub fn demand(&self, shape: ShapeIx) -> Result<(&Demand, Tier), EngineError> {
        let shape = self
            .classes
            .shapes
            .get(shape.0 as usize)
            .ok_or(EngineError::NoShape(shape))?;
        Ok((&shape.demand, shape.tier))
    }

    /// Counts workers as asked for, whether or not they find a place: what comes next is estimated from it.
    pub fn learn(&mut self, shape: ShapeIx, workers: u32) {
        self.mix.learn(shape, workers.into());
    }

    /// Books one worker where it leaves the least behind that nobody can use; none if no node has room but those of
    /// `avoid`.
    pub fn place(&mut self, shape: ShapeIx, avoid: &[NodeIx]) -> Option<Grant> {
        self.place_among(shape, Among::AllBut(avoid))
    }

    /// Gives back what one worker was given.
    ///
    /// # Errors
    /// When the node does not hold so much.
    pub fn release(&mut self, grant: &Grant) -> Result<(), EngineError> {
        let index = self.index(grant.node)?;
        let shape = self
            .classes
            .shapes
            .get(grant.shape.0 as usize)
            .ok_or(EngineError::NoShape(grant.shape))?;
        let asked = shape.asked;
        if !self.columns.unbook(index, shape.tier, &asked, grant.gpus) {
            return Err(EngineError::NotHeld(*grant));
        }
        if self.columns.open[index] {
            self.gpus_left += u64::from(asked.gpu_total());
        }
        self.changed(index, true);
        Ok(())
    }

    /// True if the node has room for one worker of the shape: the definition that the index must agree with.
    ///
    /// # Errors
    /// When there is no such node or shape.
    pub fn fits(&self, node: NodeIx, shape: ShapeIx) -> Result<bool, EngineError> {
        let index = self.index(node)?;
        let known = self.classes.shapes.get(shape.0 as usize);
        let shape = known.ok_or(EngineError::NoShape(shape))?;
        Ok(self.columns.open[index]
            && shape.allowed[usize::from(self.columns.class[index])]
            && self.columns.has(index, shape.tier, &shape.asked))
    }

    /// GPUs lent and left over all open nodes, in per mille of one.
    #[must_use]
    pub const fn gpus(&self) -> (u64, u64) {
        (self.gpus_lent, self.gpus_left)
    }

    fn index(&self, node: NodeIx) -> Result<usize, EngineError> {
        let index = node.0 as usize;
        if index < self.columns.len() {
            Ok(index)
        } else {
            Err(EngineError::NoNode(node))
        }
    }

    fn book(&mut self, node: usize, asked: &Asked, tier: Tier, gpus: u16) {
        self.columns.book(node, tier, asked, gpus);
        self.gpus_left = self.gpus_left.saturating_sub(asked.gpu_total().into());
        self.changed(node, false);
    }

    fn changed(&mut self, node: usize, freed: bool) {
        for view in [&mut self.standard, &mut self.burst].into_iter().flatten() {
            view.update(&self.columns, node, freed);
        }
    }

    /// Estimates anew what rests are worth, if the mix or what is left has changed enough: in a steady state never.
    ///
    /// Enough of what is left is a fortieth of all GPUs or a quarter of what was left then, the lower of the two, but
    /// not every little change of a fleet that is full.
    fn refresh(&mut self) {
        let enough = (self.gpus_lent / 40)
            .min(self.weighed_at / 4)
            .max(self.gpus_lent / 200);
        let moved = self.gpus_left.abs_diff(self.weighed_at) > enough;
        let learn = self.mix.is_due() && self.mix.differs(&self.learnt);
        let behind = self.worth.is_behind(&self.classes);
        if self.gpus_lent == 0 || !(learn || behind || moved && !self.learnt.is_empty()) {
            return;
        }
        let Some(view) = self.standard.as_ref().or(self.burst.as_ref()) else {
            return;
        };
        if learn {
            self.learnt = self.mix.shapes();
            self.worth.learn(&self.learnt, &self.classes);
        }
        self.worth.weigh(&self.learnt, &self.classes, view.slots());
        self.weighed_at = self.gpus_left;
    }

    /// The GPUs of a node that a worker gets: whole ones in order, for a share the one that costs least.
    fn gpus_for(&mut self, node: usize, asked: &Asked, tier: Tier) -> Option<u16> {
        let left = self.columns.gpu_left[node];
        let fitting = |(gpu, left): (u32, u16)| (left >= asked.share).then_some((left, gpu));
        let mut candidates: Vec<(u16, u32)> = (0..).zip(left).filter_map(fitting).collect();
        if !asked.is_share() {
            let wanted = asked.gpus as usize;
            // The tightest first: whole GPUs are all equal, lent parts of GPUs are not.
            candidates.sort_unstable();
            let mask = candidates
                .iter()
                .take(wanted)
                .fold(0, |mask, (_, gpu)| mask | 1 << gpu);
            return (candidates.len() >= wanted).then_some(mask);
        }
        candidates.sort_unstable();
        candidates.dedup_by_key(|(left, _)| *left);
        let view = match tier {
            Tier::Standard => self.standard.as_ref(),
            Tier::Burst => self.burst.as_ref(),
        }?;
        if candidates.len() == 1 || !self.worth.is_informed() {
            return candidates.first().map(|(_, gpu)| 1 << gpu);
        }
        let grain = view.slots().grain();
        let rest = Rest::of(&self.columns, node, tier, grain);
        let best = candidates.into_iter().max_by_key(|(left, gpu)| {
            let units = grain.gpu_floor(u8::try_from(left / GPU_UNIT).unwrap_or(u8::MAX));
            let worth = self.worth.of(&rest.after(asked, units, grain), grain);
            (worth, core::cmp::Reverse((*left, *gpu)))
        });
        best.map(|(_, gpu)| 1 << gpu)
    }
}

fn sum(gpus: &[u16; GPUS]) -> u64 {
    let shares = gpus.iter().map(|share| u64::from((*share).min(PerMille::ONE.0)));
    shares.sum()
}
