//! The nodes in the engine's terms: each a number, told apart by what it is, its holdings as they were said.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use loadline_model::{Amounts, Bytes, NODE_GPUS_MAX, Needs, NodeId, PerMille, Tier, WorkerRequest};

use crate::engine::{Domain, Engine, EngineError, Holding, NodeGpus, NodeIx, NodeSpec, Room};
use crate::queue::Refusal;
use crate::snapshot::{HeldByTier, Node, NodeState};

/// The engine and what its numbers mean.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nodes {
    pub(crate) engine: Engine,
    /// By number; none: forgotten. Numbers are not given twice: nodes seldom go for good.
    nodes: Vec<Option<Node>>,
    numbers: BTreeMap<NodeId, NodeIx>,
    names: BTreeSet<(String, NodeIx)>,
    /// How many nodes lend to each team that is named.
    teams: BTreeMap<String, u32>,
    /// Goes up when names, teams or labels change.
    epoch: u64,
    /// The nodes by each label that jobs are spread or packed by, as of an epoch.
    pub(super) domains: BTreeMap<String, (u64, super::ties::ByValue)>,
    /// The firm lines of nodes that lend, added up.
    capacity: Amounts,
}

impl Nodes {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node> + Clone {
        self.nodes.iter().flatten()
    }

    /// A node with its number.
    pub(crate) fn by_id(&self, id: NodeId) -> Option<(NodeIx, &Node)> {
        let number = *self.numbers.get(&id)?;
        Some((number, self.at(number)?))
    }

    /// What all nodes lend together, whatever is held.
    pub(crate) const fn capacity(&self) -> Amounts {
        self.capacity
    }

    /// Goes up when a name, a team or a label may have come to mean something else.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// True if it is as was said before.
    pub(crate) fn is_known(&self, node: &Node) -> bool {
        let number = self.numbers.get(&node.id);
        number.is_some_and(|number| self.at(*number) == Some(node))
    }

    pub(crate) fn at(&self, number: NodeIx) -> Option<&Node> {
        self.nodes.get(number.0 as usize)?.as_ref()
    }

    pub(crate) fn put(&mut self, mut node: Node) -> Result<(), EngineError> {
        // Larger machines lend the first so many.
        node.line.firm.gpus = node.line.firm.gpus.min(NODE_GPUS_MAX);
        node.line.now.gpus = node.line.now.gpus.min(NODE_GPUS_MAX);
        let spec = spec(&node);
        let number = match self.numbers.get(&node.id) {
            Some(number) => *number,
            None => {
                let number = self.engine.add_node(&spec)?;
                self.nodes.push(None);
                self.numbers.insert(node.id, number);
                number
            }
        };
        let open = node.takes_work();
        let told = self.engine.set_node(number, &spec, &holding(&node.held), open);
        if told.is_err() {
            self.engine.set_open(number, false)?;
        }
        self.name(number, Some(&node));
        if let Some(slot) = self.nodes.get_mut(number.0 as usize) {
            self.capacity = self.capacity.minus(lent(slot.as_ref())).plus(lent(Some(&node)));
            *slot = Some(node);
        }
        told
    }

    pub(crate) fn remove(&mut self, node: NodeId) {
        let Some(number) = self.numbers.get(&node).copied() else {
            return;
        };
        // A number that was given stays.
        self.engine.set_open(number, false).ok();
        self.name(number, None);
        if let Some(slot) = self.nodes.get_mut(number.0 as usize) {
            self.capacity = self.capacity.minus(lent(slot.as_ref()));
            *slot = None;
        }
    }

    /// Keeps names and teams, which mostly stay what they are.
    fn name(&mut self, number: NodeIx, new: Option<&Node>) {
        let old = self.nodes.get(number.0 as usize).and_then(Option::as_ref);
        let names = |node: Option<&Node>| node.map(|node| node.name.clone());
        let teams = |node: Option<&Node>| node.map(|node| node.allow_teams.clone()).unwrap_or_default();
        let (old_name, new_name) = (names(old), names(new));
        let (old_teams, new_teams) = (teams(old), teams(new));
        if old_name != new_name {
            self.epoch += 1;
            if let Some(name) = old_name {
                self.names.remove(&(name, number));
            }
            if let Some(name) = new_name {
                self.names.insert((name, number));
            }
        }
        let labels = |node: Option<&Node>| node.map(|node| Arc::clone(&node.traits.labels));
        self.epoch += u64::from(labels(old) != labels(new));
        if old_teams != new_teams {
            self.epoch += 1;
            for team in new_teams {
                *self.teams.entry(team).or_default() += 1;
            }
            for team in old_teams {
                if let Some(count) = self.teams.get_mut(&team) {
                    *count -= 1;
                }
            }
            self.teams.retain(|_, count| *count > 0);
        }
    }

    /// The team as far as it matters: one that no node names is like any other.
    pub(crate) fn team<'a>(&self, team: &'a str) -> &'a str {
        if self.teams.contains_key(team) { team } else { "" }
    }

    /// The nodes of these names.
    pub(crate) fn named(&self, names: &[String]) -> Vec<NodeIx> {
        let of = |name: &String| {
            let all = (name.clone(), NodeIx(0))..=(name.clone(), NodeIx(u32::MAX));
            self.names.range(all).map(|(_, number)| *number)
        };
        names.iter().flat_map(of).collect()
    }

    /// The numbers of nodes, of those it knows.
    pub(crate) fn numbers<'a>(&self, nodes: impl Iterator<Item = &'a NodeId>) -> Vec<NodeIx> {
        let numbers = nodes.filter_map(|node| self.numbers.get(node));
        numbers.copied().collect()
    }

    pub(crate) fn number(&self, node: NodeId) -> Option<NodeIx> {
        self.numbers.get(&node).copied()
    }

    /// Each node with its number.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (NodeIx, &Node)> {
        let numbers = (0..).map(NodeIx);
        numbers
            .zip(&self.nodes)
            .filter_map(|(number, node)| Some((number, node.as_ref()?)))
    }

    /// The nodes that refused, of those it knows.
    pub(crate) fn refused<'a>(&self, refusals: impl Iterator<Item = &'a Refusal>) -> Vec<NodeIx> {
        let numbers = refusals.filter_map(|refusal| self.numbers.get(&refusal.node));
        numbers.copied().collect()
    }

    /// One more worker is held by a node: the engine has booked it. Gives the node's identity.
    pub(crate) fn hold(
        &mut self,
        number: NodeIx,
        tier: Tier,
        request: &WorkerRequest,
        needs: &Needs,
    ) -> Option<NodeId> {
        let node = self.nodes.get_mut(number.0 as usize)?.as_mut()?;
        node.held.add(tier, request, needs);
        Some(node.id)
    }
}

/// What a node counts for in the fleet's capacity.
fn lent(node: Option<&Node>) -> Amounts {
    let lending = node.filter(|node| node.lending && node.state != NodeState::Banned);
    lending.map_or_else(Amounts::default, |node| node.line.firm)
}

fn spec(node: &Node) -> NodeSpec {
    let Node {
        id,
        name: _,
        pool: _,
        state: _,
        lending: _,
        traits,
        line,
        exclusive_cpus,
        allow_teams,
        held: _,
    } = node;
    let gpus = line.higher().gpus as usize;
    NodeSpec {
        id: *id,
        firm: room(line.firm, line.scratch),
        now: room(line.now, line.scratch),
        whole_cpus: if *exclusive_cpus { line.whole_cpus } else { 0 },
        gpus: NodeGpus {
            shares: vec![PerMille::ONE; gpus],
            firm_max: Some(line.firm.gpus),
            now_max: Some(line.now.gpus),
            memory: traits.gpu_memory,
            ..NodeGpus::default()
        },
        labels: Arc::clone(&traits.labels),
        numa: Arc::clone(&traits.numa),
        taints: traits.taints.iter().map(ToString::to_string).collect(),
        teams: allow_teams.iter().cloned().collect(),
        domain: Domain::default(),
    }
}

fn holding(held: &HeldByTier) -> Holding {
    let HeldByTier { standard, burst } = held;
    Holding {
        standard: room(standard.amounts, standard.scratch),
        burst: room(burst.amounts, burst.scratch),
        whole_cpus: standard.whole_cpus.saturating_add(burst.whole_cpus),
        standard_gpus: standard.amounts.gpus,
        burst_gpus: burst.amounts.gpus,
        standard_shares: standard.gpu_shares,
        burst_shares: burst.gpu_shares,
    }
}

const fn room(amounts: Amounts, scratch: Bytes) -> Room {
    Room {
        cpu: amounts.cpu,
        memory: amounts.memory,
        scratch,
    }
}
