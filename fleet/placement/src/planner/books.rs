//! The nodes as reasons are looked for in them: one moment, nothing is placed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use loadline_model::{NodeId, Span, WallTime};

use crate::blocks::{Blocks, blocks, times};
use crate::queue::QueueEntry;
use crate::report::ReasonCode;
use crate::snapshot::{HeldByTier, Node};

/// For whom a node's room is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeptNode {
    /// The job.
    pub(crate) number: u64,
    /// When it will probably start; none: nobody knows.
    pub(crate) starts_in: Option<Span>,
    /// Nothing of the node is for the job, whatever else there may be room for.
    pub(crate) wholly: bool,
}

/// The nodes at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Books<'a> {
    pub(crate) nodes: Vec<&'a Node>,
    pub(crate) now: WallTime,
    /// Those whose room is kept for others than the job that is looked at.
    pub(crate) kept: BTreeMap<NodeId, KeptNode>,
}

impl<'a> Books<'a> {
    pub(crate) fn new(nodes: impl Iterator<Item = &'a Node>, now: WallTime) -> Self {
        let nodes = nodes.collect();
        Self {
            nodes,
            now,
            kept: BTreeMap::new(),
        }
    }

    /// Without the room that is kept for others.
    pub(crate) fn without(mut self, kept: BTreeMap<NodeId, KeptNode>) -> Self {
        self.kept = kept;
        self
    }

    /// Each node with what is held there.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a Node, &'a HeldByTier)> {
        self.nodes.iter().map(|node| (*node, &node.held))
    }

    /// Everything that keeps one worker of the job from a node.
    pub(crate) fn blocks(&self, node: &Node, entry: &QueueEntry) -> Blocks {
        let found = blocks(node, &node.held, entry, self.now);
        let kept = self.kept.get(&node.id);
        if kept.is_some_and(|kept| found.is_empty() || kept.wholly) {
            return found.with(ReasonCode::KeptForOthers);
        }
        found
    }

    /// How many workers of the job would be placed, if it wanted so many. Equal workers do not compete between
    /// nodes, so what each node has room for adds up.
    pub(crate) fn room_for(&self, entry: &QueueEntry) -> u64 {
        let free = self.nodes.iter().filter(|node| !self.kept.contains_key(&node.id));
        let each = free.map(|node| times(node, entry, self.now));
        each.fold(0, u64::saturating_add)
    }

    /// True if so many workers of the job would be placed.
    pub(crate) fn would_start(&self, entry: &QueueEntry, workers: u32) -> bool {
        self.room_for(entry) >= workers.into()
    }
}
