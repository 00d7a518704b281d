//! A job of the simulated fleet, and what happens to its workers.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{JobId, Needs, NodeId, Priority, Span, Tier, WallTime, WorkerRequest, Workers};

use crate::planner::Terms;
use crate::queue::{QueueEntry, Refusal, Wanted};

/// A job: what its user says, and what will happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Its number, for people; no other job has it.
    pub number: u64,
    /// How long each of its workers will run, once it is left to; no planner may look.
    pub runs: Span,
    /// How many workers.
    pub workers: Workers,
    /// All of them start together and end together.
    pub gang: bool,
    /// What each worker asks for.
    pub request: WorkerRequest,
    /// What its nodes must be.
    pub needs: Arc<Needs>,
    /// Its time limit; a worker that runs for longer is ended then.
    pub time: Option<Span>,
    /// How long a worker takes to end when asked.
    pub grace: Span,
    /// Its tier.
    pub tier: Tier,
    /// Its priority.
    pub priority: Priority,
    /// Who submitted it.
    pub user: String,
    /// The team that pays; empty: none.
    pub team: String,
    /// The nodes it may run on, by name; empty: all.
    pub nodes: Vec<String>,
    /// Nodes that refused it.
    pub refusals: Vec<Refusal>,
}

impl Work {
    /// A standard job of one worker, of nobody in particular and without a time limit.
    #[must_use]
    pub fn new(number: u64, request: WorkerRequest, runs: Span) -> Self {
        Self {
            number,
            runs,
            workers: Workers::Fixed(1),
            gang: false,
            request,
            needs: Arc::default(),
            time: None,
            grace: Span::ZERO,
            tier: Tier::Standard,
            priority: Priority::NORMAL,
            user: String::new(),
            team: String::new(),
            nodes: Vec::new(),
            refusals: Vec::new(),
        }
    }

    /// The identity that follows from its number; they are in the same order.
    #[must_use]
    pub fn id(number: u64) -> JobId {
        let bytes = u128::from(number).to_be_bytes();
        JobId::from_slice(&bytes).unwrap_or_else(|_| unreachable!("sixteen bytes are an identity"))
    }

    /// The job as it stands in the queue while these workers wait.
    pub(crate) fn entry(&self, submitted_at: WallTime, missing: Vec<u32>) -> QueueEntry {
        let waiting = u32::try_from(missing.len()).unwrap_or(u32::MAX);
        let present = self.workers.max().saturating_sub(waiting);
        let wanted = Wanted::new(self.workers, present, missing);
        QueueEntry {
            job: Self::id(self.number),
            number: self.number,
            tier: self.tier,
            priority: self.priority,
            submitted_at,
            time: self.time,
            grace: self.grace,
            request: self.request,
            wanted: if self.gang { wanted.gang() } else { wanted },
            user: self.user.clone(),
            team: self.team.clone(),
            needs: Arc::clone(&self.needs),
            ties: None,
            nodes: self.nodes.clone(),
            refusals: self.refusals.clone(),
        }
    }

    /// How many workers it needs at once: all of a gang, the least of an elastic job; none: each runs on its own.
    pub(crate) fn needs_at_once(&self) -> Option<u32> {
        match self.workers {
            Workers::Elastic(elastic) => Some(elastic.min),
            Workers::Fixed(workers) => self.gang.then_some(workers),
        }
    }

    /// What each of its workers holds its room for.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            tier: self.tier,
            priority: self.priority,
            request: self.request,
            needs: Arc::clone(&self.needs),
            user: self.user.as_str().into(),
            team: self.team.as_str().into(),
            limit: self.time.map(|time| time.plus(self.grace)),
            grace: self.grace,
            least: self.needs_at_once(),
        }
    }

    /// How long a worker runs that is left alone.
    pub(crate) fn stays(&self) -> Span {
        self.time
            .map_or(self.runs, |time| time.plus(self.grace).min(self.runs))
    }
}

/// What became of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It was given room, and runs.
    Started,
    /// It came to its own end, or to its time limit.
    Ended,
    /// It was asked to make room for a job.
    Asked {
        /// That job's number.
        to: u64,
    },
    /// It has made room, and waits again.
    Gone,
}

/// Something that happened to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Happened {
    /// When.
    pub at: WallTime,
    /// Its job's number.
    pub number: u64,
    /// Which of it.
    pub worker: u32,
    /// Where.
    pub node: NodeId,
    /// What.
    pub what: What,
}
