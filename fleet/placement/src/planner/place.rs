//! Where a job's next workers may go, and booking them there.
//!
//! A job is kept off the nodes that refused it, off those of others that it is kept away from, and off those where
//! someone would wait longer for it. All of this is few nodes to leave out or to choose from, in the engine's terms.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use loadline_model::{Arrange, WallTime};

use crate::engine::{Among, Engine, Grant, NodeIx, ShapeIx};
use crate::planner::keeps::Comer;
use crate::planner::{Planner, together};
use crate::policy::End;
use crate::queue::QueueEntry;

/// Where a job may go, in the engine's terms.
pub(crate) struct Place {
    pub(crate) shape: ShapeIx,
    /// Ascending.
    avoid: Vec<NodeIx>,
    only: Option<Vec<NodeIx>>,
}

impl Place {
    fn among(&self) -> Among<'_> {
        match &self.only {
            Some(only) => Among::Only(only),
            None => Among::AllBut(&self.avoid),
        }
    }

    /// Books one worker, on none of `avoid`.
    pub(crate) fn book_off(&self, engine: &mut Engine, avoid: &BTreeSet<NodeIx>) -> Option<Grant> {
        match &self.only {
            None => {
                let mut all = self.avoid.clone();
                all.extend(avoid);
                engine.place_among(self.shape, Among::AllBut(&all))
            }
            Some(only) => {
                let left = only.iter().copied().filter(|node| !avoid.contains(node));
                let left: Vec<NodeIx> = left.collect();
                engine.place_among(self.shape, Among::Only(&left))
            }
        }
    }

    /// Books one worker on one of these.
    pub(crate) fn book_on(&self, engine: &mut Engine, only: &BTreeSet<NodeIx>) -> Option<Grant> {
        let may = |node: &NodeIx| match &self.only {
            None => self.avoid.binary_search(node).is_err(),
            Some(all) => all.contains(node),
        };
        let left: Vec<NodeIx> = only.iter().copied().filter(may).collect();
        engine.place_among(self.shape, Among::Only(&left))
    }
}

impl Planner {
    /// Where a job may go: not where others would wait longer for it.
    pub(crate) fn place(&self, entry: &QueueEntry, shape: ShapeIx, end: End, now: WallTime) -> Place {
        let holding = entry.refusals.iter().filter(|refusal| refusal.holds(now));
        let mut avoid = self.nodes.refused(holding);
        let ties = entry.ties.as_deref();
        if let Some(ties) = ties {
            avoid.extend(self.nodes.numbers(ties.away.iter()));
        }
        let comer = Comer { entry, end };
        let mask = self.keeps.outlasted(entry.job, end);
        let together = together(entry) > 1;
        if mask != 0 {
            for id in self.keeps.nodes() {
                let Some((number, node)) = self.nodes.by_id(id) else {
                    continue;
                };
                // Of a gang several may go to one node: it keeps off all of what is kept.
                let touched = together && self.keeps.first_touched(id, &comer).is_some();
                if touched || self.keeps.in_the_way(node, &comer).is_some() {
                    avoid.push(number);
                }
            }
        }
        avoid.sort_unstable();
        avoid.dedup();
        let near = ties.and_then(|ties| ties.near.as_ref());
        let near = near.map(|near| self.nodes.numbers(near.iter()));
        let named = (!entry.nodes.is_empty()).then(|| self.nodes.named(&entry.nodes));
        let mut only = match (named, near) {
            (Some(mut named), Some(near)) => {
                named.retain(|node| near.contains(node));
                Some(named)
            }
            (named, near) => named.or(near),
        };
        if let Some(only) = &mut only {
            only.retain(|node| avoid.binary_search(node).is_err());
        }
        Place { shape, avoid, only }
    }

    /// Books so many workers of a job, or none.
    pub(crate) fn book(
        &mut self,
        entry: &QueueEntry,
        place: &Place,
        workers: usize,
        now: WallTime,
    ) -> Option<Vec<Grant>> {
        let gang = entry.wanted.start == crate::queue::Start::Together && entry.wanted.needed > 0;
        let arrange = &entry.needs.arrange;
        // What starts together packed is packed by the engine: it knows where all of it fits.
        let packed = gang && matches!(arrange, Arrange::Pack(_));
        if let (Some(ties), false) = (&entry.ties, *arrange == Arrange::Anyhow || packed) {
            return self.arranged(place, entry, ties, workers, now);
        }
        let engine = &mut self.nodes.engine;
        if gang {
            let workers = u32::try_from(workers).unwrap_or(u32::MAX);
            return engine.place_gang_among(place.shape, workers, place.among());
        }
        let grant = engine.place_among(place.shape, place.among())?;
        Some(Vec::from([grant]))
    }
}
