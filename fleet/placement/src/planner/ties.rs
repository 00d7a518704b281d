//! Workers that may not go just anywhere because of where others are: spread, packed, near or away.
//!
//! Problem: where the next worker may go changes with each that is placed, the job's own and others'. Approach: such
//! jobs wait each in a line of their own and name nodes to the engine, few to leave out or few to choose from. Of
//! jobs that are tied to each other one moves in a plan; the next plan is told where.
//!
//! *Spread* is even: a domain gets at most `⌈workers ÷ domains⌉` workers of the job, where domains are those with a
//! node that could take one if it were empty. Domains with fewer go first.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{Arrange, Domain, JobId, NodeId, WallTime};

use crate::blocks::blocks;
use crate::engine::{Grant, NodeIx};
use crate::planner::Planner;
use crate::planner::lines::Kind;
use crate::planner::place::Place;
use crate::queue::{QueueEntry, Ties};
use crate::report::ReasonCode;
use crate::snapshot::{HeldByTier, Node};

/// Nodes by the value of one label; without it, by none.
pub(crate) type ByValue = Arc<BTreeMap<Option<String>, Vec<NodeIx>>>;

/// Which domain of a kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum In {
    Node(NodeId),
    Value(Option<String>),
}

/// The domain that a node lies in.
pub(crate) fn domain_of(node: &Node, domain: &Domain) -> In {
    match domain {
        Domain::Node => In::Node(node.id),
        Domain::Label(key) => In::Value(node.traits.labels.get(key).cloned()),
    }
}

/// How many workers of the job one domain may get; none: no matter, or no domain could take any.
fn most<'a>(nodes: impl Iterator<Item = &'a Node>, entry: &QueueEntry, now: WallTime) -> Option<u32> {
    let Arrange::Spread(domain) = &entry.needs.arrange else {
        return None;
    };
    let empty = HeldByTier::default();
    let passing = [
        ReasonCode::NodeSilent,
        ReasonCode::NodeUnattended,
        ReasonCode::NodeRefusedForNow,
        ReasonCode::SpreadFull,
    ];
    let could = |node: &&Node| {
        let found = blocks(node, &empty, entry, now);
        passing
            .into_iter()
            .fold(found, |found, code| found.without(code))
            .is_empty()
    };
    let domains: BTreeSet<In> = nodes.filter(could).map(|node| domain_of(node, domain)).collect();
    let workers = entry.ties.as_ref().map_or(1, |ties| ties.workers);
    let domains = u32::try_from(domains.len()).unwrap_or(u32::MAX);
    (domains > 0).then(|| workers.div_ceil(domains).max(1))
}

/// The nodes that may get no more workers of a job that spreads them, and how many a domain may get in all.
pub(crate) fn crowded(nodes: &[&Node], entry: &QueueEntry, now: WallTime) -> Option<(u32, BTreeSet<NodeId>)> {
    let caps = Caps::of(nodes.iter().copied(), entry, now)?;
    let full = nodes.iter().filter(|node| caps.left(node).1 == 0);
    let full = full.map(|node| node.id).collect();
    Some((caps.most, full))
}

/// How many more of a job's workers each domain may get, where the job spreads them.
#[derive(Debug, Clone)]
pub(crate) struct Caps {
    domain: Domain,
    most: u32,
    own: BTreeMap<In, u32>,
}

impl Caps {
    fn of<'a>(
        nodes: impl Iterator<Item = &'a Node> + Clone,
        entry: &QueueEntry,
        now: WallTime,
    ) -> Option<Self> {
        let (Arrange::Spread(domain), Some(ties)) = (&entry.needs.arrange, &entry.ties) else {
            return None;
        };
        let most = most(nodes.clone(), entry, now)?;
        let mut own: BTreeMap<In, u32> = BTreeMap::new();
        for node in nodes {
            if let Some(count) = ties.own.get(&node.id) {
                let all = own.entry(domain_of(node, domain)).or_default();
                *all = all.saturating_add(*count);
            }
        }
        let domain = domain.clone();
        Some(Self { domain, most, own })
    }

    /// The domain of a node, and how many more workers it may get.
    pub(crate) fn left(&self, node: &Node) -> (In, u32) {
        let domain = domain_of(node, &self.domain);
        let own = self.own.get(&domain).copied().unwrap_or(0);
        (domain, self.most.saturating_sub(own))
    }
}

/// What a plan has moved.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moved {
    /// Who moved, by what others call it.
    names: BTreeMap<String, BTreeSet<JobId>>,
    /// Workers of jobs that arrange them, by node.
    own: BTreeMap<JobId, Vec<NodeId>>,
    /// How many workers a domain may get, by what decides that.
    most: BTreeMap<Kind, Option<u32>>,
}

impl Moved {
    pub(crate) fn clear(&mut self) {
        self.names.clear();
        self.own.clear();
        self.most.clear();
    }

    /// True if someone else has moved to whom the job is tied.
    pub(crate) fn is_tied(&self, kind: &Kind, job: JobId) -> bool {
        let Some(ties) = &kind.ties else { return false };
        let mut moved = ties.with.iter().filter_map(|name| self.names.get(name));
        moved.any(|jobs| jobs.iter().any(|other| *other != job))
    }

    /// Notes that a worker of the job goes to a node.
    pub(crate) fn note(&mut self, entry: &QueueEntry, node: NodeId) {
        let Some(ties) = &entry.ties else { return };
        if !ties.me.is_empty() {
            self.names.entry(ties.me.clone()).or_default().insert(entry.job);
        }
        if entry.needs.arrange != Arrange::Anyhow {
            self.own.entry(entry.job).or_default().push(node);
        }
    }
}

impl Planner {
    /// The job with where its own workers are by now, as far as it spreads them, and what that leaves.
    pub(crate) fn spread_so_far(&self, entry: &QueueEntry, now: WallTime) -> (QueueEntry, Option<Caps>) {
        let mut entry = entry.clone();
        if let (Arrange::Spread(_), Some(ties)) = (&entry.needs.arrange, &mut entry.ties) {
            let ties = Arc::make_mut(ties);
            for node in self.moved.own.get(&entry.job).into_iter().flatten() {
                let own = ties.own.entry(*node).or_default();
                *own = own.saturating_add(1);
            }
        }
        let caps = Caps::of(self.nodes.iter(), &entry, now);
        (entry, caps)
    }

    /// Books one worker after the other, each where the arrangement wants it next; all or none.
    pub(crate) fn arranged(
        &mut self,
        place: &Place,
        entry: &QueueEntry,
        ties: &Ties,
        workers: usize,
        now: WallTime,
    ) -> Option<Vec<Grant>> {
        let (domain, most, pack) = match &entry.needs.arrange {
            Arrange::Anyhow => return None,
            Arrange::Spread(domain) => (domain, self.most(entry, now), false),
            Arrange::PreferSpread(domain) => (domain, None, false),
            Arrange::Pack(domain) => (domain, None, true),
        };
        let mut counts: BTreeMap<In, u32> = BTreeMap::new();
        let moved = self.moved.own.get(&entry.job).cloned().unwrap_or_default();
        let own = ties.own.iter().map(|(node, count)| (*node, *count));
        for (node, more) in own.chain(moved.into_iter().map(|node| (node, 1))) {
            self.count(node, domain, more, &mut counts);
        }
        let mut grants = Vec::new();
        while grants.len() < workers {
            let grant = if pack {
                let used = self.nodes_of(counts.keys(), domain);
                let engine = &mut self.nodes.engine;
                place
                    .book_on(engine, &used)
                    .or_else(|| place.book_off(engine, &BTreeSet::new()))
            } else {
                self.spread(place, (domain, most), &counts)
            };
            let Some(grant) = grant else { break };
            if let Ok(node) = self.nodes.engine.node_id(grant.node) {
                self.count(node, domain, 1, &mut counts);
            }
            grants.push(grant);
        }
        if grants.len() == workers {
            return Some(grants);
        }
        for grant in grants {
            // What was booked a moment ago is held.
            let undone = self.nodes.engine.release(&grant);
            debug_assert!(undone.is_ok(), "{undone:?}");
        }
        None
    }

    /// Books one worker in a domain with as few of the job's workers as there is room.
    fn spread(
        &mut self,
        place: &Place,
        (domain, most): (&Domain, Option<u32>),
        counts: &BTreeMap<In, u32>,
    ) -> Option<Grant> {
        let mut levels: BTreeSet<u32> = counts.values().copied().collect();
        levels.insert(0);
        for level in levels
            .into_iter()
            .filter(|level| most.is_none_or(|most| *level < most))
        {
            let fuller = counts.iter().filter(|(_, count)| **count > level);
            let avoid = self.nodes_of(fuller.map(|(domain, _)| domain), domain);
            if let Some(grant) = place.book_off(&mut self.nodes.engine, &avoid) {
                return Some(grant);
            }
        }
        None
    }

    fn count(&self, node: NodeId, domain: &Domain, more: u32, counts: &mut BTreeMap<In, u32>) {
        let node = self.nodes.number(node).and_then(|number| self.nodes.at(number));
        if let Some(node) = node {
            let count = counts.entry(domain_of(node, domain)).or_default();
            *count = count.saturating_add(more);
        }
    }

    /// The nodes of some domains.
    fn nodes_of<'a>(&mut self, domains: impl Iterator<Item = &'a In>, by: &Domain) -> BTreeSet<NodeIx> {
        let values = match by {
            Domain::Node => Arc::default(),
            Domain::Label(key) => self.by_value(key),
        };
        let mut found = BTreeSet::new();
        for domain in domains {
            match domain {
                In::Node(node) => found.extend(self.nodes.number(*node)),
                In::Value(value) => found.extend(values.get(value).into_iter().flatten()),
            }
        }
        found
    }

    /// The nodes by the values of a label, worked out anew once labels have changed.
    fn by_value(&mut self, key: &str) -> ByValue {
        let epoch = self.nodes.epoch();
        if let Some((known, values)) = self.nodes.domains.get(key)
            && *known == epoch
        {
            return Arc::clone(values);
        }
        let mut values: BTreeMap<Option<String>, Vec<NodeIx>> = BTreeMap::new();
        for (number, node) in self.nodes.numbered() {
            let value = node.traits.labels.get(key).cloned();
            values.entry(value).or_default().push(number);
        }
        let values = Arc::new(values);
        self.nodes.domains.retain(|_, (known, _)| *known == epoch);
        self.nodes
            .domains
            .insert(key.into(), (epoch, Arc::clone(&values)));
        values
    }

    /// How many workers of the job one domain may get, worked out once a plan for all jobs that are alike.
    fn most(&mut self, entry: &QueueEntry, now: WallTime) -> Option<u32> {
        let alike = QueueEntry {
            ties: Some(Arc::new(Ties {
                own: BTreeMap::new(),
                ..entry.ties.as_deref().cloned().unwrap_or_default()
            })),
            ..entry.clone()
        };
        let kind = Kind::of(&alike);
        if let Some(most) = self.moved.most.get(&kind) {
            return *most;
        }
        let most = most(self.nodes.iter(), &alike, now);
        self.moved.most.insert(kind, most);
        most
    }
}
