//! What yielding is chosen from: nodes as they would be once some have gone, and who runs there.
//!
//! Problem: of a large fleet not every node can be looked at each time. Approach: the nodes where least is lost, those
//! with jobs that would have to go as a whole, and for a job whose workers start together those that have room already.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use loadline_model::{AttemptId, JobId, NodeId, Span, WallTime};

use crate::blocks::{blocks, times_with};
use crate::planner::keeps::{Keep, KeptFor};
use crate::planner::runs::{Run, rank, rank_of};
use crate::planner::ties::In;
use crate::planner::{Planner, together};
use crate::policy::yielding::{Claimant, NodeRoom, may_yield};
use crate::policy::{End, Victim, YieldRules};
use crate::queue::QueueEntry;
use crate::snapshot::{Held, HeldByTier, Node};

/// Of a large fleet so many nodes with workers that may yield are looked at: those that lose least.
const NODES_MAX: usize = 512;

impl Planner {
    /// What yielding is chosen from; none where nobody may be asked. When somebody may be asked later is noted.
    pub(super) fn scene(
        &mut self,
        entry: &QueueEntry,
        (rules, patience): (&YieldRules, Span),
        now: WallTime,
    ) -> Option<Scene> {
        let claimant = Claimant {
            tier: entry.tier,
            priority: entry.priority,
            workers: 1,
        };
        let mut loss: BTreeMap<NodeId, u128> = BTreeMap::new();
        let mut later: Option<WallTime> = None;
        let mut grace = Span::ZERO;
        let at_once = YieldRules {
            cool_down: Span::ZERO,
            cool_down_max: Span::ZERO,
            ..*rules
        };
        let mut gangs: BTreeSet<NodeId> = BTreeSet::new();
        for run in self.runs.iter().filter(|run| is_below(entry, run)) {
            // If one of them goes all have to, wherever they are.
            if run.is.least.is_some_and(|least| least > 1) && outranks(entry, run) {
                gangs.insert(run.is.node);
            }
            if run.is.stopping {
                continue;
            }
            let victim = self.victim(run, 0, patience);
            if may_yield(&victim, &claimant, rules, now) {
                let lost = u128::from(now.since(victim.started).0) * u128::from(victim.amounts.cpu.0 + 1);
                let least = loss.entry(run.is.node).or_insert(u128::MAX);
                *least = lost.min(*least);
                grace = grace.max(run.is.grace);
            } else if may_yield(&victim, &claimant, &at_once, now) {
                let alone = match victim.extra {
                    0 => rules.left_alone(run.is.yielded),
                    _ => rules.extra_left_alone(run.is.yielded),
                };
                let at = run.is.started.plus(alone);
                later = Some(later.map_or(at, |later| later.min(at)));
            }
        }
        self.wake_at(later.filter(|at| *at > now));
        if loss.is_empty() {
            return None;
        }
        let mut by_loss: Vec<(u128, NodeId)> = loss.into_iter().map(|(node, least)| (least, node)).collect();
        by_loss.sort_unstable();
        by_loss.truncate(NODES_MAX);
        let mut chosen = gangs;
        chosen.extend(by_loss.into_iter().map(|(_, node)| node));
        let start = End::At(now.plus(grace));
        let end = End::after(start, self.would_run(&entry.user, entry.limit()));
        let mut but = self.no_claim(entry);
        but.extend(self.keeps.not_outlasted(entry.job, end));
        Some(self.scene_of((entry, &but), &chosen, patience, now))
    }

    fn scene_of(
        &self,
        (entry, but): (&QueueEntry, &[JobId]),
        chosen: &BTreeSet<NodeId>,
        patience: Span,
        now: WallTime,
    ) -> Scene {
        let together = together(entry) > 1;
        let (entry, caps) = self.spread_so_far(entry, now);
        let mut scene = Scene::default();
        let mut domains: BTreeMap<In, usize> = BTreeMap::new();
        let mut places: BTreeMap<NodeId, usize> = BTreeMap::new();
        for node in self.nodes.iter() {
            let domain = caps.as_ref().map(|caps| {
                let (domain, left) = caps.left(node);
                let next = domains.len();
                (*domains.entry(domain).or_insert(next), left)
            });
            let is_chosen = chosen.contains(&node.id);
            if !is_chosen && !together {
                continue;
            }
            let held = self.will_hold(node, but);
            let allowed = blocks(node, &HeldByTier::default(), &entry, now).is_empty();
            let is_free = allowed && times_with(node, &held, &entry) > 0;
            if !(is_chosen || is_free) {
                continue;
            }
            places.insert(node.id, scene.rooms.len());
            scene.ids.push(node.id);
            scene.rooms.push(NodeWithRoom {
                node: node.clone(),
                held,
                entry: entry.clone(),
                allowed,
                domain,
            });
            for run in self.runs.on(node.id).filter(|run| !run.is.stopping) {
                scene.victims.push(self.victim(run, places[&node.id], patience));
                scene.attempts.push(run.is.attempt);
            }
        }
        scene
    }

    /// The job itself, and those who only have their turn kept and would have to yield to it if they ran: nobody has to
    /// go for them. Whoever of its tier has waited beyond the patience goes before it.
    pub(super) fn no_claim(&self, entry: &QueueEntry) -> Vec<JobId> {
        let mine = rank(entry.tier, entry.priority);
        let before = |keep: &&Keep| keep.aged && keep.is.tier == entry.tier;
        let turns = self.keeps.all.iter().filter(|keep| keep.is.why == KeptFor::Turn);
        let turns = turns.filter(|keep| !before(keep));
        let below = turns.map(|keep| keep.is.job).filter(|job| {
            let turn = self.lines.turn_of(*job);
            turn.is_some_and(|(_, kind)| rank(kind.phase.tier, kind.priority) < mine)
        });
        below.chain([entry.job]).collect()
    }

    /// What a node will hold once those who were asked to stop are gone, with what is kept there for others than these.
    pub(super) fn will_hold(&self, node: &Node, but: &[JobId]) -> HeldByTier {
        let mut held = self.keeps.promised(node.id, but, node.held);
        for run in self.runs.on(node.id).filter(|run| run.is.stopping) {
            held.take_back(run.is.tier, &run.held());
        }
        held
    }

    fn victim(&self, run: &Run, node: usize, patience: Span) -> Victim {
        let (is, held) = (&run.is, run.held());
        Victim {
            job: is.job,
            worker: is.worker,
            node,
            tier: is.tier,
            priority: is.priority,
            amounts: held.amounts,
            whole_cpus: held.whole_cpus,
            gpu_shares: held.gpu_shares,
            scratch: held.scratch,
            started: is.started,
            saved: is.started,
            yielded: is.yielded,
            least: is.least,
            extra: self.runs.extra(is),
            aged: is.started.since(is.submitted_at) > patience,
        }
    }
}

/// What yielding is chosen from.
#[derive(Debug, Default)]
pub(super) struct Scene {
    pub(super) rooms: Vec<NodeWithRoom>,
    /// Of each room.
    pub(super) ids: Vec<NodeId>,
    pub(super) victims: Vec<Victim>,
    /// Of each victim.
    pub(super) attempts: Vec<AttemptId>,
}

/// A node, as it would be once some have gone and some of the claimant's workers have come.
#[derive(Debug, Clone)]
pub(super) struct NodeWithRoom {
    node: Node,
    held: HeldByTier,
    entry: QueueEntry,
    /// Nothing but room can keep the claimant away.
    allowed: bool,
    /// Its domain, and how many of the claimant's workers that may still get, where the job spreads them.
    domain: Option<(usize, u32)>,
}

impl NodeRoom for NodeWithRoom {
    fn give_back(&mut self, victim: &Victim) {
        let given_back = Held {
            amounts: victim.amounts,
            whole_cpus: victim.whole_cpus,
            gpu_shares: victim.gpu_shares,
            scratch: victim.scratch,
        };
        self.held.take_back(victim.tier, &given_back);
    }

    fn take(&mut self) -> bool {
        let fits = self.allowed && times_with(&self.node, &self.held, &self.entry) > 0;
        if fits {
            self.held
                .add(self.entry.tier, &self.entry.request, &self.entry.needs);
        }
        fits
    }

    fn domain(&self) -> Option<(usize, u32)> {
        self.domain
    }
}

/// By rank alone, whatever the cool-down.
fn outranks(entry: &QueueEntry, run: &Run) -> bool {
    rank(entry.tier, entry.priority) > rank_of(&run.is)
}

/// Whether a worker could be asked at all: of a large fleet that is the first question.
fn is_below(entry: &QueueEntry, run: &Run) -> bool {
    outranks(entry, run) || (run.is.least.is_some() && rank(entry.tier, entry.priority) == rank_of(&run.is))
}
