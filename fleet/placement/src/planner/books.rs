//! The nodes as reasons are looked for in them: one moment, nothing is placed.

use alloc::vec::Vec;

use loadline_model::WallTime;

use crate::blocks::times;
use crate::queue::QueueEntry;
use crate::snapshot::{HeldByTier, Node};

/// The nodes at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Books<'a> {
    pub(crate) nodes: Vec<&'a Node>,
    pub(crate) now: WallTime,
}

impl<'a> Books<'a> {
    pub(crate) fn new(nodes: impl Iterator<Item = &'a Node>, now: WallTime) -> Self {
        let nodes = nodes.collect();
        Self { nodes, now }
    }

    /// Each node with what is held there.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a Node, &'a HeldByTier)> {
        self.nodes.iter().map(|node| (*node, &node.held))
    }

    /// How many workers of the job would be placed, if it wanted so many. Equal workers do not compete between
    /// nodes, so what each node has room for adds up.
    pub(crate) fn room_for(&self, entry: &QueueEntry) -> u64 {
        let each = self.nodes.iter().map(|node| times(node, entry, self.now));
        each.fold(0, u64::saturating_add)
    }

    /// True if so many workers of the job would be placed.
    pub(crate) fn would_start(&self, entry: &QueueEntry, workers: u32) -> bool {
        self.room_for(entry) >= workers.into()
    }
}
