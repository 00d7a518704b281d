//! Orders to nodes, before they are encoded and signed.

use loadline_model::{
    AttemptId, Generation, JobId, JobSpec, NodeId, PerMille, ProveAsk, ProveId, Span, WallTime,
};

use super::node_types::LendMode;

/// One order. The session signs its encoding; the same order encodes the same each time it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// To which node.
    pub node: NodeId,
    /// The leader's term in which it was made.
    pub epoch: u64,
    /// Ascending per node.
    pub generation: Generation,
    /// When it was made.
    pub issued_at: WallTime,
    /// About which attempt; none: about the node.
    pub attempt: Option<AttemptId>,
    /// What to do.
    pub what: OrderKind,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderKind {
    /// Start it.
    Start(Box<Start>),
    /// Stop it.
    Stop(Stop),
    /// The most the node may do.
    Ceiling(Ceiling),
    /// Test the node, or no longer.
    Prove(Prove),
}

/// An interference test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prove {
    /// Which.
    pub run: ProveId,
    /// Who asks.
    pub by: String,
    /// How; none: end it at once.
    pub ask: Option<ProveAsk>,
}

/// The most an operator lets a node do, within what its owner allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    /// No more than this.
    pub mode: LendMode,
    /// At most this part of its static line.
    pub line: PerMille,
    /// Who set it.
    pub by: String,
}

impl Ceiling {
    /// True if nothing new starts under it.
    pub fn is_closed(&self) -> bool {
        self.mode != LendMode::Enforce || self.line == PerMille(0)
    }

    /// True if it holds nothing down.
    pub fn is_lifted(&self) -> bool {
        self.mode == LendMode::Enforce && self.line >= PerMille::ONE
    }
}

/// What a node needs to know to start a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Of which job.
    pub job: JobId,
    /// The job's short number.
    pub job_number: u64,
    /// Which worker.
    pub worker: u32,
    /// 1 for the worker's first attempt.
    pub attempt_number: u32,
    /// The submitter's name in the fleet.
    pub user: String,
    /// The Unix account it runs as.
    pub unix_account: String,
    /// The submitter's team.
    pub team: String,
    /// What to run.
    pub spec: JobSpec,
}

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Why.
    pub why: StopReason,
    /// How long it may take.
    pub grace: Span,
}

/// Why a worker is stopped by the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StopReason {
    /// The job was cancelled, or another of its workers failed it.
    Cancelled,
    /// It was given up with its node, and the node is back.
    NodeLost,
    /// It made room for a job that outranks its own.
    Yielded,
}
