//! Room that is kept: for the first that found none (EASY), and for who others have yielded to.
//!
//! The books are not rolled forward as a whole: a fleet of 10,000 nodes would be copied for every job that waits. Of
//! each node alone it is asked when it has room for one worker more, and for how many; the kept nodes then have
//! books of their own, as they will be when the one who waits starts. Whoever outlasts that moment has to fit into
//! those too.
//!
//! Properties: what is kept fits at its moment on the nodes it is kept on, as far as the estimates hold; who ends
//! before that moment is not kept away.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{JobId, Needs, NodeId, Span, Tier, WallTime, WorkerRequest};
use serde::{Deserialize, Serialize};

use crate::blocks::{blocks, times_with};
use crate::planner::nodes::Nodes;
use crate::planner::runs::Runs;
use crate::planner::ties::{Caps, In};
use crate::policy::End;
use crate::queue::QueueEntry;
use crate::snapshot::{Held, HeldByTier, Node};

/// Why room is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptFor {
    /// It is the first that found none.
    Turn,
    /// Others have been asked to make it; if they are not gone by then, it is given up.
    Yielded {
        /// Until when.
        until: WallTime,
    },
}

/// Room that is kept for a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Whose turn it is then.
    pub job: JobId,
    /// The job's number, for people.
    pub number: u64,
    /// Its tier.
    pub tier: Tier,
    /// What each of its workers asks for.
    pub request: WorkerRequest,
    /// What else each of them asks for.
    pub needs: Arc<Needs>,
    /// When it is expected to start.
    pub at: End,
    /// Why.
    pub why: KeptFor,
    /// How many of its workers each node has to have room for.
    pub nodes: BTreeMap<NodeId, u32>,
}

/// Room that is kept, with the books of its nodes at that moment.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    pub(crate) is: Kept,
    /// What each of the nodes will hold, the kept workers included.
    books: BTreeMap<NodeId, HeldByTier>,
    pub(crate) made: WallTime,
    /// Whoever it is kept for has waited beyond the patience.
    pub(crate) aged: bool,
    /// And so long beyond it that nobody passes by a guess any more.
    strict: bool,
}

/// All of it, in the order in which it was kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keeps {
    pub(crate) all: Vec<Keep>,
}

/// A worker that would start: until when, what, and whose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comer<'a> {
    pub(crate) entry: &'a QueueEntry,
    pub(crate) end: End,
}

impl Keep {
    fn outlasted_by(&self, comer: &Comer<'_>) -> bool {
        self.is_outlasted(comer.entry.job, comer.end)
    }

    fn is_outlasted(&self, job: JobId, end: End) -> bool {
        self.is.job != job && (end > self.is.at || end == End::Unknown)
    }

    /// True if one worker more would leave what is kept. `own`: one that is kept there for the comer itself, and that
    /// these books count already.
    fn has_room(&self, node: &Node, comer: &Comer<'_>, own: bool) -> bool {
        let Some(held) = self.books.get(&node.id) else {
            return true;
        };
        let mut held = *held;
        if own {
            held.remove(comer.entry.tier, &comer.entry.request, &comer.entry.needs);
        }
        times_with(node, &held, comer.entry) > 0
    }
}

impl Keeps {
    /// True if room for one more of the comer's workers is kept on a node.
    fn is_own(&self, node: NodeId, comer: &Comer<'_>) -> bool {
        let kept = self.of(comer.entry.job).and_then(|keep| keep.is.nodes.get(&node));
        kept.is_some_and(|count| *count > 0)
    }

    pub(crate) fn of(&self, job: JobId) -> Option<&Keep> {
        self.all.iter().find(|keep| keep.is.job == job)
    }

    pub(crate) fn drop(&mut self, job: JobId) -> bool {
        let before = self.all.len();
        self.all.retain(|keep| keep.is.job != job);
        self.all.len() != before
    }

    /// True if someone waits here far beyond the patience: then it is not enough that others will probably be gone in
    /// time, or one wrong guess after the other would let them wait for ever.
    pub(crate) fn are_strict(&self) -> bool {
        self.all.iter().any(|keep| keep.strict)
    }

    /// Whoever room is kept for has waited for so long.
    pub(crate) fn set_waited(&mut self, job: JobId, waited: Span, patience: Span) {
        for keep in self.all.iter_mut().filter(|keep| keep.is.job == job) {
            keep.aged = waited > patience;
            keep.strict = waited > patience.times(STRICT_AFTER);
        }
    }

    pub(crate) fn reservations(&self) -> usize {
        let turns = self.all.iter();
        turns.filter(|keep| keep.is.why == KeptFor::Turn).count()
    }

    /// Which of the keeps a worker outlasts, one bit each; of more than 64 the last bit stands for all.
    pub(crate) fn outlasted(&self, job: JobId, end: End) -> u64 {
        let kept = self.all.iter().enumerate();
        let bits = kept.filter(|(_, keep)| keep.is_outlasted(job, end));
        bits.fold(0, |mask, (index, _)| mask | 1 << index.min(63))
    }

    /// Those whose turn is kept, and would not wait longer for a worker that is gone by then.
    pub(crate) fn not_outlasted(&self, job: JobId, end: End) -> impl Iterator<Item = JobId> {
        let turns = self.all.iter().filter(|keep| keep.is.why == KeptFor::Turn);
        turns
            .filter(move |keep| !keep.is_outlasted(job, end))
            .map(|keep| keep.is.job)
    }

    /// For whom a node is kept, if one worker more there would be in the way.
    pub(crate) fn in_the_way(&self, node: &Node, comer: &Comer<'_>) -> Option<&Kept> {
        let own = self.is_own(node.id, comer);
        let mut keeps = self.all.iter();
        let keep = keeps.find(|keep| keep.outlasted_by(comer) && !keep.has_room(node, comer, own));
        keep.map(|keep| &keep.is)
    }

    /// For whom any part of a node is kept that the worker would outlast.
    pub(crate) fn first_touched(&self, node: NodeId, comer: &Comer<'_>) -> Option<&Kept> {
        let mut keeps = self.all.iter();
        let keep = keeps.find(|keep| keep.outlasted_by(comer) && keep.books.contains_key(&node));
        keep.map(|keep| &keep.is)
    }

    /// The nodes of which anything is kept.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.all.iter().flat_map(|keep| keep.books.keys().copied())
    }

    /// A worker has started there.
    pub(crate) fn started(&mut self, node: NodeId, comer: &Comer<'_>) {
        // The other books count it already.
        let own = self.is_own(node, comer);
        for keep in &mut self.all {
            if keep.is.job == comer.entry.job {
                // Of its own: it is held by the node now, and there is one less to keep room for.
                if let Some(count) = keep.is.nodes.get_mut(&node) {
                    *count = count.saturating_sub(1);
                }
            } else if !own
                && keep.outlasted_by(comer)
                && let Some(held) = keep.books.get_mut(&node)
            {
                held.add(comer.entry.tier, &comer.entry.request, &comer.entry.needs);
            }
        }
    }

    /// What a node will hold for others than these jobs, beside what it holds now: nobody ends in it.
    pub(crate) fn promised(&self, node: NodeId, but: &[JobId], mut held: HeldByTier) -> HeldByTier {
        for keep in self.all.iter().filter(|keep| !but.contains(&keep.is.job)) {
            for _ in 0..keep.is.nodes.get(&node).copied().unwrap_or(0) {
                held.add(keep.is.tier, &keep.is.request, &keep.is.needs);
            }
        }
        held
    }

    /// Keeps room for a job: on these nodes so many workers each, where this will be held without them.
    pub(crate) fn keep(&mut self, is: Kept, held: BTreeMap<NodeId, HeldByTier>, made: WallTime) {
        let mut books = held;
        for (node, count) in &is.nodes {
            let held = books.entry(*node).or_default();
            for _ in 0..*count {
                held.add(is.tier, &is.request, &is.needs);
            }
        }
        self.all.push(Keep {
            is,
            books,
            made,
            aged: false,
            strict: false,
        });
    }

    /// Works the books of the kept nodes out anew: workers have come and gone, and estimates were outlived.
    pub(crate) fn refresh(&mut self, nodes: &Nodes, runs: &Runs, now: WallTime) {
        for index in 0..self.all.len() {
            let is = self.all[index].is.clone();
            let mut books = BTreeMap::new();
            for (id, count) in &is.nodes {
                let Some((_, node)) = nodes.by_id(*id) else {
                    continue;
                };
                let mut held = self.promised(*id, &[is.job], node.held);
                for _ in 0..*count {
                    held.add(is.tier, &is.request, &is.needs);
                }
                for (end, tier, given_back) in ends_on(*id, runs, now).filter(|(end, ..)| *end <= is.at) {
                    // Of those that end some time only as many are counted on as it takes.
                    if end == End::Unknown && node.line.has(&held, is.tier) {
                        break;
                    }
                    held.take_back(tier, &given_back);
                }
                books.insert(*id, held);
            }
            self.all[index].books = books;
        }
    }

    /// The first moment at which so many workers of the job have room, and where; none if that never comes by what is
    /// known to end. `caps`: what a spread leaves.
    pub(crate) fn foreseen(
        &self,
        nodes: &Nodes,
        runs: &Runs,
        (entry, caps): (&QueueEntry, Option<&Caps>),
        workers: u32,
        now: WallTime,
    ) -> Option<Foreseen> {
        let left = |node: &Node| {
            caps.map_or((None, u64::MAX), |caps| {
                let (domain, left) = caps.left(node);
                (Some(domain), left.into())
            })
        };
        let mut steps: Vec<Step> = Vec::new();
        let mut best: Option<(End, usize)> = None;
        for node in nodes.iter() {
            if left(node).1 == 0 || !blocks(node, &HeldByTier::default(), entry, now).is_empty() {
                continue;
            }
            let held = self.promised(node.id, &[entry.job], node.held);
            steps_of(node, held, runs, entry, (workers, now), &mut best, &mut steps);
        }
        steps.sort_by(|a, b| {
            (a.at, a.ended, &a.node.name, a.node.id).cmp(&(b.at, b.ended, &b.node.name, b.node.id))
        });
        let mut room: BTreeMap<NodeId, (u64, &Step)> = BTreeMap::new();
        // By domain, where a domain may get so many only.
        let mut sums: BTreeMap<Option<In>, u64> = BTreeMap::new();
        let mut sum = 0u64;
        let wanted = u64::from(workers);
        let at = steps.iter().find_map(|step| {
            let before = room.insert(step.node.id, (step.times, step));
            let (domain, most) = left(step.node);
            let of_domain = sums.entry(domain).or_default();
            sum = sum.saturating_sub(most.min(*of_domain));
            *of_domain = of_domain
                .saturating_sub(before.map_or(0, |(times, _)| times))
                .saturating_add(step.times);
            sum = sum.saturating_add(most.min(*of_domain));
            (sum >= wanted).then_some(step.at)
        })?;
        Some(chosen(at, room, wanted, left))
    }
}

/// Of the nodes that have room then as many as it takes.
fn chosen(
    at: End,
    room: BTreeMap<NodeId, (u64, &Step<'_>)>,
    wanted: u64,
    left: impl Fn(&Node) -> (Option<In>, u64),
) -> Foreseen {
    // The roomiest first: fewer nodes are kept.
    let mut by_room: Vec<(u64, &Step)> = room.into_values().collect();
    by_room.sort_by(|(a, x), (b, y)| (b, &x.node.name, x.node.id).cmp(&(a, &y.node.name, y.node.id)));
    let mut foreseen = Foreseen {
        at,
        nodes: BTreeMap::new(),
        held: BTreeMap::new(),
    };
    let mut given: BTreeMap<Option<In>, u64> = BTreeMap::new();
    let mut missing = wanted;
    for (times, step) in by_room {
        if missing == 0 {
            break;
        }
        let (domain, most) = left(step.node);
        let given = given.entry(domain).or_default();
        let count = times.min(missing).min(most.saturating_sub(*given));
        if count == 0 {
            continue;
        }
        *given = given.saturating_add(count);
        missing -= count;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        foreseen.nodes.insert(step.node.id, count);
        foreseen.held.insert(step.node.id, step.held);
    }
    foreseen
}

/// When the workers of a node will end and what each gives back, in the order in which that is counted on.
fn ends_on(node: NodeId, runs: &Runs, now: WallTime) -> impl Iterator<Item = (End, Tier, Held)> {
    let mut ends: Vec<(End, Tier, WorkerRequest, Held)> = runs
        .on(node)
        .map(|run| (run.end(now), run.is.tier, run.is.request, run.held()))
        .collect();
    ends.sort_by_key(|(end, tier, request, _)| (*end, *tier, *request));
    ends.into_iter().map(|(end, tier, _, held)| (end, tier, held))
}

/// Where and when a job will have room.
#[derive(Debug)]
pub(crate) struct Foreseen {
    pub(crate) at: End,
    pub(crate) nodes: BTreeMap<NodeId, u32>,
    /// What each of the nodes will hold then, without it.
    pub(crate) held: BTreeMap<NodeId, HeldByTier>,
}

/// A node has room for more workers of the job than before.
struct Step<'a> {
    at: End,
    /// How many workers have to end there for it.
    ended: usize,
    node: &'a Node,
    times: u64,
    held: HeldByTier,
}

/// Rolls one node forward. Of a job that needs one worker only what comes before the best so far counts.
fn steps_of<'a>(
    node: &'a Node,
    mut held: HeldByTier,
    runs: &Runs,
    entry: &QueueEntry,
    (workers, now): (u32, WallTime),
    best: &mut Option<(End, usize)>,
    steps: &mut Vec<Step<'a>>,
) {
    let ends: Vec<(End, Tier, Held)> = ends_on(node.id, runs, now).collect();
    let mut known = 0;
    let mut at = End::At(now);
    for ended in 0..=ends.len() {
        let together = ends.get(ended).is_some_and(|(end, ..)| *end == at);
        let times = if together {
            known
        } else {
            times_with(node, &held, entry)
        };
        if times > known {
            known = times;
            steps.push(Step {
                at,
                ended,
                node,
                times,
                held,
            });
            if workers == 1 {
                *best = Some(best.map_or((at, ended), |best| best.min((at, ended))));
                return;
            }
        }
        let Some((end, tier, given_back)) = ends.get(ended) else {
            return;
        };
        if workers == 1 && best.is_some_and(|best| best < (*end, ended + 1)) {
            return;
        }
        held.take_back(*tier, given_back);
        at = *end;
    }
}

/// So many times the patience: guesses are right more often than not, and going by limits alone leaves more of the fleet
/// unused.
const STRICT_AFTER: u64 = 4;

/// What is kept for a turn is looked for anew after so long: the estimates have moved, and a look at all nodes costs
/// milliseconds.
pub(crate) const LOOK_AGAIN: Span = Span::from_secs(1);
