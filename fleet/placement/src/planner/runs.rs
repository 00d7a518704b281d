//! The workers that run: when each will probably end, and what it would give back.
//!
//! Told one by one as attempts begin and end; what a node holds is told with the node. A worker that is not known
//! here holds its room for ever, as far as reservations go. What many of them have in common is kept once.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::cmp::Reverse;
use core::ops::Deref;

use loadline_model::{AttemptId, JobId, Needs, NodeId, Pool, Priority, Span, Tier, WallTime, WorkerRequest};
use serde::{Deserialize, Serialize};

use crate::policy::End;
use crate::policy::estimate::outlived;
use crate::snapshot::Held;

/// What a worker holds its room for: the same for all workers of a job, and mostly for many jobs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Terms {
    /// Its job's tier.
    pub tier: Tier,
    /// Its job's priority.
    pub priority: Priority,
    /// What it was given.
    pub request: WorkerRequest,
    /// What else it was given: space on disks, a share of a GPU.
    pub needs: Arc<Needs>,
    /// Who submitted the job.
    pub user: Arc<str>,
    /// The team that pays.
    pub team: Arc<str>,
    /// How long it may run, its farewell included; none: as long as it likes.
    pub limit: Option<Span>,
    /// How long it may take to end when asked.
    pub grace: Span,
    /// So many workers its job needs at once; whoever is beyond is *extra*, and with fewer all would have to go. None:
    /// each runs on its own.
    pub least: Option<u32>,
}

/// A worker that holds room on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Which attempt of it.
    pub attempt: AttemptId,
    /// Whose worker.
    pub job: JobId,
    /// Which of it.
    pub worker: u32,
    /// Where.
    pub node: NodeId,
    /// What for.
    pub terms: Arc<Terms>,
    /// When the job was submitted.
    pub submitted_at: WallTime,
    /// When it was given its room.
    pub started: WallTime,
    /// How often its job has yielded before, for each of its workers.
    pub yielded: u32,
    /// It was asked to stop.
    pub stopping: bool,
    /// When it was given up with its node: it holds room there, and nobody pays for it any more.
    pub given_up: Option<WallTime>,
}

impl Deref for Running {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.terms
    }
}

/// What became of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// When.
    pub at: WallTime,
    /// By itself: how long it ran says something about its user's next job.
    pub own: bool,
}

/// A worker with its estimate.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) is: Running,
    estimate: Option<Span>,
}

const _: () = assert!(size_of::<Run>() <= 128, "there are hundreds of thousands");

impl Run {
    /// What it gives back when it ends.
    pub(crate) fn held(&self) -> Held {
        Held::of(self.is.tier, &self.is.request, &self.is.needs)
    }

    /// When it will probably end. An estimate that was outlived is made anew.
    pub(crate) fn end(&self, now: WallTime) -> End {
        let is = &self.is;
        if is.stopping {
            return End::At(now.plus(is.grace));
        }
        let Some(estimate) = self.estimate else {
            return End::Unknown;
        };
        let ran = now.since(is.started);
        if ran < estimate {
            return End::At(is.started.plus(estimate));
        }
        End::At(is.started.plus(outlived(ran, is.limit).max(Span(ran.0 + 1))))
    }
}

/// All of them, node by node: a look at all nodes reads each once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs {
    nodes: BTreeMap<AttemptId, NodeId>,
    by_node: BTreeMap<NodeId, BTreeMap<AttemptId, Box<Run>>>,
    terms: Pool<Terms>,
    /// How many of each rank there are, the lowest first.
    ranks: BTreeMap<Rank, usize>,
    /// Of the jobs that need several at once, how many run on.
    staying: BTreeMap<JobId, u32>,
    /// Of each rank, how many jobs have more than they need.
    extras: BTreeMap<Rank, usize>,
}

/// Burst before standard, then the lower priority.
pub(crate) type Rank = (Reverse<Tier>, Priority);

pub(crate) fn rank_of(is: &Running) -> Rank {
    rank(is.tier, is.priority)
}

pub(crate) const fn rank(tier: Tier, priority: Priority) -> Rank {
    (Reverse(tier), priority)
}

impl Runs {
    /// Takes over what is said of a worker; gives what was known of it.
    pub(crate) fn put(&mut self, is: &Running, estimate: Option<Span>) -> Option<Running> {
        let before = self.remove(is.attempt);
        let estimate = before.as_ref().map_or(estimate, |run| run.estimate);
        *self.ranks.entry(rank_of(is)).or_default() += 1;
        self.recount(is, |count| count.saturating_add(1));
        let terms = self.terms.share(&is.terms);
        let is = Running { terms, ..is.clone() };
        self.nodes.insert(is.attempt, is.node);
        let on_node = self.by_node.entry(is.node).or_default();
        on_node.insert(is.attempt, Box::new(Run { is, estimate }));
        before.map(|run| run.is)
    }

    pub(crate) fn remove(&mut self, attempt: AttemptId) -> Option<Box<Run>> {
        let node = self.nodes.remove(&attempt)?;
        let on_node = self.by_node.get_mut(&node)?;
        let run = on_node.remove(&attempt)?;
        if on_node.is_empty() {
            self.by_node.remove(&node);
        }
        less(&mut self.ranks, rank_of(&run.is));
        self.recount(&run.is, |count| count.saturating_sub(1));
        Some(run)
    }

    /// Counts a worker of a job that needs several at once, or no longer.
    fn recount(&mut self, is: &Running, change: fn(u32) -> u32) {
        let Some(least) = is.least.filter(|_| !is.stopping && is.given_up.is_none()) else {
            return;
        };
        let count = self.staying.entry(is.job).or_default();
        let before = *count > least;
        *count = change(*count);
        let after = *count > least;
        if *count == 0 {
            self.staying.remove(&is.job);
        }
        match (before, after) {
            (false, true) => *self.extras.entry(rank_of(is)).or_default() += 1,
            (true, false) => less(&mut self.extras, rank_of(is)),
            _ => {}
        }
    }

    /// How many workers a worker's job has beyond those it needs at once.
    pub(crate) fn extra(&self, is: &Running) -> u32 {
        let count = self.staying.get(&is.job).copied().unwrap_or(0);
        is.least.map_or(0, |least| count.saturating_sub(least))
    }

    /// True if anything runs that a job of that rank outranks, or that is extra and of no higher rank.
    pub(crate) fn any_to_ask(&self, tier: Tier, priority: Priority) -> bool {
        let mine = (Reverse(tier), priority);
        let lowest = |ranks: &BTreeMap<Rank, usize>| ranks.first_key_value().map(|(rank, _)| *rank);
        lowest(&self.ranks).is_some_and(|rank| rank < mine)
            || lowest(&self.extras).is_some_and(|rank| rank <= mine)
    }

    /// A worker is asked to stop.
    pub(crate) fn stop(&mut self, attempt: AttemptId) -> Option<Running> {
        let node = self.nodes.get(&attempt)?;
        let run = self.by_node.get_mut(node)?.get_mut(&attempt)?;
        let before = run.is.clone();
        run.is.stopping = true;
        self.recount(&before, |count| count.saturating_sub(1));
        Some(before)
    }

    pub(crate) fn is_known(&self, is: &Running) -> bool {
        let on_node = self.by_node.get(&is.node);
        let known = on_node.and_then(|runs| runs.get(&is.attempt));
        known.is_some_and(|run| run.is == *is)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Run> {
        self.by_node.values().flat_map(BTreeMap::values).map(Box::as_ref)
    }

    pub(crate) fn on(&self, node: NodeId) -> impl Iterator<Item = &Run> {
        let on_node = self.by_node.get(&node).into_iter();
        on_node.flat_map(BTreeMap::values).map(Box::as_ref)
    }
}

fn less(ranks: &mut BTreeMap<Rank, usize>, rank: Rank) {
    if let Some(count) = ranks.get_mut(&rank) {
        *count -= 1;
        if *count == 0 {
            ranks.remove(&rank);
        }
    }
}
