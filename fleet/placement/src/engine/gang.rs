//! Gangs: all workers or none, as close together as they fit.
//!
//! Problem: workers that talk to each other all the time want one node, else one island, else one rack. Approach: how
//! many workers find room is counted per node and summed up per domain; of the smallest kind of domain in
//! which one has room for all, the one with the least room is taken. Counting books nothing, and what is booked
//! after it is known to fit, so a gang is never half placed and nothing is held while it waits.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use loadline_model::Tier;

use crate::engine::among::Among;
use crate::engine::class::ShapeIx;
use crate::engine::node::{Domain, NodeIx};
use crate::engine::slots::Fits;
use crate::engine::view::View;
use crate::engine::{Engine, Grant};

/// A kind of domain, the smallest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Within {
    Node,
    Island,
    Rack,
    Fleet,
}

const SMALLEST_FIRST: [Within; 4] = [Within::Node, Within::Island, Within::Rack, Within::Fleet];

/// A node and how many of the gang's workers fit there.
#[derive(Debug, Clone, Copy)]
struct Place {
    node: usize,
    times: u64,
}

impl Engine {
    /// Books `workers` workers of one shape, or none of them, on any nodes but those of `avoid`.
    pub fn place_gang(&mut self, shape: ShapeIx, workers: u32, avoid: &[NodeIx]) -> Option<Vec<Grant>> {
        self.place_gang_among(shape, workers, Among::AllBut(avoid))
    }

    /// Books `workers` workers of one shape among some nodes, or none of them.
    pub fn place_gang_among(&mut self, shape: ShapeIx, workers: u32, among: Among<'_>) -> Option<Vec<Grant>> {
        if workers == 0 {
            return Some(Vec::new());
        }
        self.refresh();
        let places = self.places(shape, among)?;
        let best = self.preferred(shape, &places);
        let within = self
            .narrowest(&best, workers.into())
            .or_else(|| self.narrowest(&places, workers.into()))?;
        let chosen = fewest(within, workers.into());
        let asked = self.classes.shapes.get(shape.0 as usize)?;
        let (asked, tier) = (asked.asked, asked.tier);
        let mut grants = Vec::with_capacity(workers as usize);
        for Place { node, times } in chosen {
            for _ in 0..times {
                let Some(gpus) = self.gpus_for(node, &asked, tier) else {
                    self.undo(&grants);
                    return None;
                };
                self.book(node, &asked, tier, gpus);
                let node = NodeIx(u32::try_from(node).unwrap_or(u32::MAX));
                grants.push(Grant { node, shape, gpus });
            }
        }
        Some(grants)
    }

    /// Takes back what was booked for a gang that turned out not to fit.
    fn undo(&mut self, grants: &[Grant]) {
        for grant in grants {
            // What was booked a moment ago is held.
            let undone = self.release(grant);
            debug_assert!(undone.is_ok(), "{undone:?}");
        }
    }

    /// Every node with room, and for how many. Where nothing is free, slots say so without a look at their nodes.
    fn places(&self, shape: ShapeIx, among: Among<'_>) -> Option<Vec<Place>> {
        let shape = self.classes.shapes.get(shape.0 as usize)?;
        let slots = match shape.tier {
            Tier::Standard => self.standard.as_ref(),
            Tier::Burst => self.burst.as_ref(),
        }
        .map(View::slots)?;
        let mut places = Vec::new();
        for (rest, members) in slots.rests.iter().zip(&slots.members) {
            let allowed = shape.allowed[usize::from(rest.class)];
            if members.is_empty() || !allowed || rest.fits(&shape.asked, slots.grain()) == Fits::Never {
                continue;
            }
            let nodes = members.iter().map(|node| *node as usize);
            for node in nodes.filter(|node| among.allows(*node)) {
                let times = self.columns.times(node, shape.tier, &shape.asked);
                places.extend((times > 0).then_some(Place { node, times }));
            }
        }
        Some(places)
    }

    /// The places where the most preferences of the shape hold.
    fn preferred(&self, shape: ShapeIx, places: &[Place]) -> Vec<Place> {
        let missed = self
            .classes
            .shapes
            .get(shape.0 as usize)
            .map(|shape| &shape.missed);
        let Some(missed) = missed.filter(|missed| !missed.is_empty()) else {
            return Vec::new();
        };
        let of = |place: &Place| missed.get(usize::from(self.columns.class[place.node]));
        let least = places.iter().filter_map(of).min();
        places
            .iter()
            .filter(|place| of(place) == least)
            .copied()
            .collect()
    }

    /// The places of the smallest domain with room for all; among equals the one with the least room.
    fn narrowest(&self, places: &[Place], workers: u64) -> Option<Vec<Place>> {
        for kind in SMALLEST_FIRST {
            let mut room: BTreeMap<(u32, u32), u64> = BTreeMap::new();
            for place in places {
                let sum = room.entry(self.domain(kind, place.node)).or_default();
                *sum = sum.saturating_add(place.times);
            }
            let enough = room.into_iter().filter(|(_, room)| *room >= workers);
            if let Some((chosen, _)) = enough.min_by_key(|(domain, room)| (*room, *domain)) {
                let inside = |place: &&Place| self.domain(kind, place.node) == chosen;
                return Some(places.iter().filter(inside).copied().collect());
            }
        }
        None
    }

    fn domain(&self, kind: Within, node: usize) -> (u32, u32) {
        let Domain { island, rack } = self.columns.domain[node];
        match kind {
            Within::Node => (0, u32::try_from(node).unwrap_or(u32::MAX)),
            // An island's number counts within its rack, in case it is not unique.
            Within::Island => (rack, island),
            Within::Rack => (rack, 0),
            Within::Fleet => (0, 0),
        }
    }
}

/// The fewest nodes that take all: the roomiest first, and for the last workers the node that is left with least.
fn fewest(mut places: Vec<Place>, workers: u64) -> Vec<Place> {
    places.sort_unstable_by_key(|place| (core::cmp::Reverse(place.times), place.node));
    let mut chosen = Vec::new();
    let mut missing = workers;
    let mut rest = places.as_slice();
    while missing > 0 {
        let Some((roomiest, others)) = rest.split_first() else {
            break;
        };
        if roomiest.times > missing {
            let enough = rest.partition_point(|place| place.times >= missing);
            let last = rest[..enough].last().unwrap_or(roomiest);
            chosen.push(Place {
                node: last.node,
                times: missing,
            });
            break;
        }
        chosen.push(*roomiest);
        missing -= roomiest.times;
        rest = others;
    }
    chosen
}
