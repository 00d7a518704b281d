//! What waits: jobs with workers that have no attempt.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{JobId, Needs, NodeId, Priority, Span, Tier, WallTime, WorkerRequest, Workers};
use serde::{Deserialize, Serialize};

/// How the workers a job needs have to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Each as soon as there is room for it.
    OneByOne,
    /// All that are needed, or none.
    Together,
}

/// The workers of a job that have no attempt now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Their numbers, ascending.
    pub missing: Vec<u32>,
    /// So many of them the job needs to run at all; the others are welcome.
    pub needed: u32,
    /// How the needed ones start.
    pub start: Start,
}

impl Wanted {
    /// What follows from the shape of the job, with `present` workers running or already done.
    pub fn new(workers: Workers, present: u32, missing: Vec<u32>) -> Self {
        let all = u32::try_from(missing.len()).unwrap_or(u32::MAX);
        match workers {
            Workers::Fixed(_) => Self {
                missing,
                needed: all,
                start: Start::OneByOne,
            },
            Workers::Elastic(elastic) => Self {
                missing,
                needed: elastic.min.saturating_sub(present).min(all),
                start: Start::Together,
            },
        }
    }
}

impl Wanted {
    /// All that are missing, or none of them.
    #[must_use]
    pub fn gang(self) -> Self {
        Self {
            start: Start::Together,
            ..self
        }
    }
}

/// Where other workers are, as far as it matters for where a job's next ones may go.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ties {
    /// How many workers the job has at most.
    pub workers: u32,
    /// Its own workers, by node; only if it spreads or packs them.
    pub own: BTreeMap<NodeId, u32>,
    /// The nodes with workers of each job that it wants to be near; none: it does not.
    pub near: Option<BTreeSet<NodeId>>,
    /// The nodes with workers of jobs that it wants to be away from, or that want to be away from it.
    pub away: BTreeSet<NodeId>,
    /// What it is called where others are near it or away from it; empty: none are.
    pub me: String,
    /// What those are called whose workers `near` and `away` tell of: once one of them has moved, they are old.
    pub with: BTreeSet<String>,
    /// Left empty, and filled in by placement: the nodes of domains that have as many of its workers as they may get.
    pub crowded: BTreeSet<NodeId>,
}

/// A node that refused this job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// Which.
    pub node: NodeId,
    /// From then on it is tried again; none: it refused for good.
    pub until: Option<WallTime>,
    /// The node's own words.
    pub why: String,
}

impl Refusal {
    /// True if it still holds.
    pub fn holds(&self, now: WallTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A job that wants workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Which job.
    pub job: JobId,
    /// Its number, for people; of one user's equal jobs the lower goes first.
    #[serde(default)]
    pub number: u64,
    /// Its tier; standard goes before burst.
    pub tier: Tier,
    /// The higher goes first within its tier.
    #[serde(default)]
    pub priority: Priority,
    /// When it came: who has waited longer is more urgent.
    pub submitted_at: WallTime,
    /// The time limit of each attempt; none: it may run as long as it likes.
    #[serde(default)]
    pub time: Option<Span>,
    /// How long a worker may take to end when asked.
    #[serde(default)]
    pub grace: Span,
    /// What each worker asks for.
    pub request: WorkerRequest,
    /// Which workers.
    pub wanted: Wanted,
    /// Who submitted it.
    pub user: String,
    /// The team that pays; empty: none.
    pub team: String,
    /// What its nodes must be.
    pub needs: Arc<Needs>,
    /// Where others are, if that matters.
    pub ties: Option<Arc<Ties>>,
    /// The nodes it may run on, by name; empty: all.
    pub nodes: Vec<String>,
    /// Nodes that refused it, for good or for now.
    pub refusals: Vec<Refusal>,
}

impl QueueEntry {
    /// How long each of its workers may run, its farewell included.
    pub(crate) fn limit(&self) -> Option<Span> {
        self.time.map(|time| time.plus(self.grace))
    }
}
