//! What waits: jobs with workers that have no attempt.

use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{JobId, NodeId, Priority, Span, Tier, WallTime, WorkerRequest, Workers};
use serde::{Deserialize, Serialize};

/// How the workers a job needs have to start. Gangs of fixed jobs will be a third way.
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
