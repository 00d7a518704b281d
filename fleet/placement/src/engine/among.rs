//! Which nodes are asked: all but some, or only some.
//!
//! The index answers for all nodes, and a few that are left out cost little. Where a job names its nodes these are
//! few, and each is looked at.

use loadline_model::Tier;

use crate::engine::class::ShapeIx;
use crate::engine::node::NodeIx;
use crate::engine::slots::Rest;
use crate::engine::view::{View, cost};
use crate::engine::{Engine, Grant};

/// The nodes among which a worker may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among<'a> {
    /// Every node, except these.
    AllBut(&'a [NodeIx]),
    /// These alone.
    Only(&'a [NodeIx]),
}

impl Among<'_> {
    pub(crate) fn allows(&self, node: usize) -> bool {
        let has = |nodes: &[NodeIx]| nodes.iter().any(|other| other.0 as usize == node);
        match self {
            Self::AllBut(nodes) => !has(nodes),
            Self::Only(nodes) => has(nodes),
        }
    }
}

impl Engine {
    /// Books one worker where it leaves the least behind that nobody can use; none if none of the nodes has room.
    pub fn place_among(&mut self, shape: ShapeIx, among: Among<'_>) -> Option<Grant> {
        self.refresh();
        let known = self.classes.shapes.get(shape.0 as usize)?;
        let (asked, tier) = (known.asked, known.tier);
        let node = match among {
            Among::AllBut(avoid) => {
                let view = match tier {
                    Tier::Standard => self.standard.as_mut(),
                    Tier::Burst => self.burst.as_mut(),
                }?;
                view.choose(&self.columns, &self.classes, &mut self.worth, shape, avoid)?
            }
            Among::Only(nodes) => self.best_of(shape, nodes)?,
        };
        let gpus = self.gpus_for(node, &asked, tier)?;
        self.book(node, &asked, tier, gpus);
        let node = NodeIx(u32::try_from(node).ok()?);
        Some(Grant { node, shape, gpus })
    }

    /// The one of these nodes that has room and costs least.
    fn best_of(&mut self, shape: ShapeIx, nodes: &[NodeIx]) -> Option<usize> {
        let known = self.classes.shapes.get(shape.0 as usize)?;
        let view = match known.tier {
            Tier::Standard => self.standard.as_ref(),
            Tier::Burst => self.burst.as_ref(),
        };
        let grain = view.map(View::slots)?.grain();
        let mut best = None;
        for node in nodes {
            if self.fits(*node, shape) != Ok(true) {
                continue;
            }
            let index = node.0 as usize;
            let rest = Rest::of(&self.columns, index, known.tier, grain);
            let left = self.columns.cpu.free(known.tier, index);
            let key = (cost(&rest, grain, known, &mut self.worth), left, index);
            if best.is_none_or(|least| key < least) {
                best = Some(key);
            }
        }
        best.map(|(.., index)| index)
    }
}
