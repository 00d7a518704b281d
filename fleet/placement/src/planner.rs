//! The plan: who goes where now.
//!
//! Approach: the queue in order (standard before burst, earlier before later), first what jobs need to run at
//! all, then what elastic jobs would like; each worker to the node that it fills best. Work only adds up within
//! one plan, so a request that found no node finds none later in it: equal requests are skipped, and a long
//! queue of equal jobs costs one scan. A large job that waits reserves nothing yet; smaller ones pass it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{Amounts, JobId, NodeId, Tier, WallTime, WorkerRequest};
use serde::{Deserialize, Serialize};

use crate::blocks::{blocks, room};
use crate::queue::{QueueEntry, Refusal, Start};
use crate::report::{Report, Waiting, Why};
use crate::snapshot::{HeldByTier, Node, Snapshot};

/// What the operators of the fleet decide about placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// A plan ends once it has so many assignments; workers that start together are never torn apart for it.
    pub assignments_max: usize,
}

impl Default for Policy {
    /// 256, as many records as one group commit takes (design §5).
    fn default() -> Self {
        Self { assignments_max: 256 }
    }
}

/// One worker goes to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Assignment {
    /// The job.
    pub job: JobId,
    /// The worker's number within it.
    pub worker: u32,
    /// Where to.
    pub node: NodeId,
}

/// What to do now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The assignments, in the order in which they were decided.
    pub assignments: Vec<Assignment>,
    /// True if it ended at its limit and planning again would assign more.
    pub more: bool,
}

/// Decides who goes where now, and says why the others wait.
pub fn plan(snapshot: &Snapshot, queue: &[QueueEntry], policy: &Policy, now: WallTime) -> (Plan, Report) {
    let mut order: Vec<&QueueEntry> = queue.iter().collect();
    order.sort_by_key(|entry| (entry.tier, entry.submitted_at, entry.job));
    let mut books = Books::new(&snapshot.nodes, now);
    let mut plan = Plan::default();
    let mut hopeless: BTreeSet<Shape<'_>> = BTreeSet::new();
    let mut placed: BTreeMap<JobId, usize> = BTreeMap::new();
    // All of standard first: what it takes on top of its needs would push burst over its line again.
    for (tier, extras) in [
        (Tier::Standard, false),
        (Tier::Standard, true),
        (Tier::Burst, false),
        (Tier::Burst, true),
    ] {
        for entry in order.iter().filter(|entry| entry.tier == tier) {
            if plan.assignments.len() >= policy.assignments_max {
                plan.more = true;
                break;
            }
            let done = placed.entry(entry.job).or_insert(0);
            let Some(group) = next_group(entry, *done, extras) else {
                continue;
            };
            let shape = Shape::of(entry, *done);
            if hopeless.contains(&shape) {
                continue;
            }
            let all_or_none = !extras && entry.wanted.start == Start::Together;
            let got = books.place(entry, group, all_or_none);
            if got.len() < group.len() {
                hopeless.insert(shape);
            }
            *done += got.len();
            plan.assignments.extend(got);
        }
    }
    let report = books.report(&order, &placed);
    (plan, report)
}

/// Says why the next worker of one job waits, or that it is next in line, without placing anything.
pub fn explain(snapshot: &Snapshot, entry: &QueueEntry, now: WallTime) -> Why {
    Books::new(&snapshot.nodes, now).why(entry, together(entry, 0))
}

/// The workers to try now: what the job needs in the first round, what it would like in the second, and that
/// only if it has all it needs.
fn next_group(entry: &QueueEntry, done: usize, extras: bool) -> Option<&[u32]> {
    let missing = &entry.wanted.missing;
    let needed = usize::try_from(entry.wanted.needed)
        .unwrap_or(usize::MAX)
        .min(missing.len());
    let range = match extras {
        false => 0..needed,
        true if done >= needed => needed..missing.len(),
        true => return None,
    };
    missing.get(range).filter(|group| !group.is_empty())
}

/// What decides where a worker can go: jobs of one shape wait for the same reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shape<'a> {
    tier: Tier,
    request: WorkerRequest,
    team: &'a str,
    nodes: &'a [String],
    refusals: &'a [Refusal],
    /// How many must start at once.
    together: u32,
}

impl<'a> Shape<'a> {
    fn of(entry: &'a QueueEntry, done: usize) -> Self {
        let QueueEntry {
            job: _,
            tier,
            submitted_at: _,
            request,
            wanted: _,
            user: _,
            team,
            nodes,
            refusals,
        } = entry;
        Self {
            tier: *tier,
            request: *request,
            team,
            nodes,
            refusals,
            together: together(entry, done),
        }
    }
}

/// The nodes with what would be held once the plan is carried out.
#[derive(Debug, Clone)]
pub(crate) struct Books<'a> {
    pub(crate) nodes: &'a [Node],
    pub(crate) held: Vec<HeldByTier>,
    pub(crate) now: WallTime,
}

impl<'a> Books<'a> {
    pub(crate) fn new(nodes: &'a [Node], now: WallTime) -> Self {
        let held = nodes.iter().map(|node| node.held).collect();
        Self { nodes, held, now }
    }

    /// Each node with what is held there.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a Node, &HeldByTier)> {
        self.nodes.iter().zip(&self.held)
    }

    /// Places as many of the workers as fit, or all or none.
    fn place(&mut self, entry: &QueueEntry, workers: &[u32], all_or_none: bool) -> Vec<Assignment> {
        let mut got = Vec::new();
        let mut used = Vec::new();
        for worker in workers {
            let Some(index) = self.best(entry) else { break };
            self.held[index].add(entry.tier, &entry.request);
            used.push(index);
            got.push(Assignment {
                job: entry.job,
                worker: *worker,
                node: self.nodes[index].id,
            });
        }
        if all_or_none && got.len() < workers.len() {
            for index in used {
                self.held[index].remove(entry.tier, &entry.request);
            }
            got.clear();
        }
        got
    }

    /// True if so many workers of the job would be placed.
    pub(crate) fn would_start(&self, entry: &QueueEntry, workers: u32) -> bool {
        let mut scratch = self.clone();
        (0..workers).all(|_| match scratch.best(entry) {
            Some(index) => {
                scratch.held[index].add(entry.tier, &entry.request);
                true
            }
            None => false,
        })
    }

    /// The node where the least is left over; equal ones by name.
    fn best(&self, entry: &QueueEntry) -> Option<usize> {
        let fits = |(index, (node, held)): (usize, (&'a Node, &HeldByTier))| {
            blocks(node, held, entry, self.now).is_empty().then(|| {
                let left = room(node, held, entry).minus(entry.request.into());
                // Work without GPUs leaves machines with GPUs to those who need them.
                let gpus_idle = if entry.request.gpus == 0 { left.gpus } else { 0 };
                ((gpus_idle, leftover(node, left), &node.name, node.id), index)
            })
        };
        self.iter()
            .enumerate()
            .filter_map(fits)
            .min()
            .map(|(_, index)| index)
    }

    fn report<'q>(&self, order: &[&'q QueueEntry], placed: &BTreeMap<JobId, usize>) -> Report {
        let mut known: BTreeMap<Shape<'q>, Arc<Why>> = BTreeMap::new();
        let mut report = Report::default();
        for entry in order.iter().copied() {
            let done = placed.get(&entry.job).copied().unwrap_or(0);
            let waiting = entry.wanted.missing.len().saturating_sub(done);
            if waiting == 0 {
                continue;
            }
            let shape = Shape::of(entry, done);
            let why = known
                .entry(shape)
                .or_insert_with(|| Arc::new(self.why(entry, shape.together)));
            report.waiting.push(Waiting {
                job: entry.job,
                workers: u32::try_from(waiting).unwrap_or(u32::MAX),
                why: Arc::clone(why),
            });
        }
        report
    }
}

/// How many of the missing workers have to start together when `done` of them are placed.
fn together(entry: &QueueEntry, done: usize) -> u32 {
    let done = u32::try_from(done).unwrap_or(u32::MAX);
    match entry.wanted.start {
        Start::Together => entry.wanted.needed.saturating_sub(done).max(1),
        Start::OneByOne => 1,
    }
}

/// How much of the node would be left over, in thousandths of its line, summed over the resources it has.
fn leftover(node: &Node, left: Amounts) -> u64 {
    let line = node.line.higher();
    let part = |left: u64, all: u64| left.saturating_mul(1000).checked_div(all).unwrap_or(0);
    part(left.cpu.0, line.cpu.0)
        .saturating_add(part(left.memory.0 >> 20, line.memory.0 >> 20))
        .saturating_add(part(left.gpus.into(), line.gpus.into()))
}
