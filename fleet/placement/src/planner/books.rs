//! The nodes as reasons are looked for in them: one moment, nothing is placed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{Arrange, Domain, NodeId, Span, WallTime};

use crate::blocks::{Blocks, blocks, times};
use crate::planner::ties::{In, crowded, domain_of};
use crate::queue::{QueueEntry, Ties};
use crate::report::ReasonCode;
use crate::snapshot::{HeldByTier, Node, NodeState};

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
        if let (Arrange::Spread(domain), Some((most, _))) = (&entry.needs.arrange, self.crowded(entry)) {
            return self.room_spread(entry, domain, most);
        }
        let free = self.nodes.iter().filter(|node| !self.kept.contains_key(&node.id));
        let each = free.map(|node| times(node, entry, self.now));
        each.fold(0, u64::saturating_add)
    }

    /// The same where a domain gets at most so many of the job's workers.
    fn room_spread(&self, entry: &QueueEntry, domain: &Domain, most: u32) -> u64 {
        let own = |node: &Node| {
            let ties = entry.ties.as_ref();
            ties.and_then(|ties| ties.own.get(&node.id)).copied().unwrap_or(0)
        };
        let mut room: BTreeMap<In, (u64, u64)> = BTreeMap::new();
        for node in &self.nodes {
            let (free, used) = room.entry(domain_of(node, domain)).or_default();
            if !self.kept.contains_key(&node.id) {
                *free = free.saturating_add(times(node, entry, self.now));
            }
            *used = used.saturating_add(own(node).into());
        }
        let each = room
            .values()
            .map(|(free, used)| u64::from(most).saturating_sub(*used).min(*free));
        each.fold(0, u64::saturating_add)
    }

    fn crowded(&self, entry: &QueueEntry) -> Option<(u32, BTreeSet<NodeId>)> {
        crowded(&self.nodes, entry, self.now)
    }

    /// The job with what follows from where its own workers are.
    pub(crate) fn resolved(&self, entry: &QueueEntry) -> QueueEntry {
        let mut entry = entry.clone();
        if let Some((_, crowded)) = self.crowded(&entry)
            && let Some(ties) = &entry.ties
        {
            entry.ties = Some(Arc::new(Ties {
                crowded,
                ..(**ties).clone()
            }));
        }
        entry
    }

    /// How many workers of the job would find room if nobody else held anything, those who are silent came back, and
    /// those who refused it for now took it.
    pub(crate) fn room_when_empty(&self, entry: &QueueEntry) -> u64 {
        let empty: Vec<Node> = self
            .nodes
            .iter()
            .map(|node| Node {
                held: HeldByTier::default(),
                state: match node.state {
                    NodeState::Suspect | NodeState::Lost | NodeState::Unattended => NodeState::Ready,
                    state => state,
                },
                ..(*node).clone()
            })
            .collect();
        let mut entry = entry.clone();
        entry.refusals.retain(|refusal| refusal.until.is_none());
        Books::new(empty.iter(), self.now).room_for(&entry)
    }

    /// True if so many workers of the job would be placed.
    pub(crate) fn would_start(&self, entry: &QueueEntry, workers: u32) -> bool {
        self.room_for(entry) >= workers.into()
    }
}
