//! What is shown of the state: values for the API to encode, for tests to compare.

use std::sync::Arc;

use loadline_model::{
    AttemptId, AttemptPhase, Ended, JobId, JobPhase, JobSpec, Labels, NodeId, NodeSample, PerMille, Priority,
    Span, Tier, WallTime,
};

use loadline_placement::HeldByTier;
use loadline_placement::policy::{Held, Spent};

use super::command::TokenId;
use super::node_types::{Inventory, Receipt, Reported, Site, Word};
use super::order::Ceiling;
use super::rows::{CostRow, ProveRow, ReportRow, TeamRow};
use crate::trust::Role;

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSummary {
    /// The client's id.
    pub id: JobId,
    /// The short number.
    pub number: u64,
    /// As in the specification.
    pub name: String,
    /// Who submitted it.
    pub user: String,
    /// The team that pays.
    pub team: String,
    /// As in the specification.
    pub priority: Priority,
    /// As in the specification.
    pub tier: Tier,
    /// Where it stands.
    pub phase: JobPhase,
    /// The most workers it gets.
    pub workers_max: u32,
    /// Workers whose command runs now.
    pub workers_running: u32,
    /// When it came.
    pub submitted_at: WallTime,
    /// When its first worker ran.
    pub started_at: Option<WallTime>,
    /// When it was done.
    pub ended_at: Option<WallTime>,
    /// Once done: what `fleet run` and `fleet wait` pass on.
    pub exit_code: Option<u8>,
    /// One phrase while it waits; empty otherwise.
    pub waiting_for: String,
    /// Why it ended without having started, if another job was why.
    pub never_started: String,
}

/// An attempt of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptView {
    /// Which.
    pub id: AttemptId,
    /// Of which worker.
    pub worker: u32,
    /// 1 for the first try of this worker.
    pub number: u32,
    /// On which node.
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// Where it stands.
    pub phase: AttemptPhase,
    /// Where it runs.
    pub site: Option<Site>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// When it was placed.
    pub assigned_at: WallTime,
    /// When its command ran.
    pub running_at: Option<WallTime>,
    /// The node is silent: what is shown may be old.
    pub node_silent: bool,
}

/// A job with all its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDetail {
    /// As in lists.
    pub summary: JobSummary,
    /// What to run.
    pub spec: JobSpec,
    /// Oldest first.
    pub attempts: Vec<AttemptView>,
    /// What was done to its attempts, oldest first.
    pub receipts: Vec<Receipt>,
}

/// A change of a watched job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobChange {
    /// The job after the change.
    pub summary: JobSummary,
    /// The attempts that changed, after the change.
    pub changed: Vec<AttemptView>,
}

/// Why a job waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The job.
    pub summary: JobSummary,
    /// One for each way in which nodes do not fit.
    pub reasons: Vec<BlockingReason>,
    /// The cheapest change that would start it; empty: none needed.
    pub change: String,
    /// How many nodes were looked at.
    pub nodes_considered: u32,
    /// When room is expected for it, if room is kept for it and that is known.
    pub expected: Option<WallTime>,
    /// How many jobs go before it.
    pub before: u32,
}

/// One way in which nodes do not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockingReason {
    /// Stable, e.g. `cpus_busy`.
    pub code: String,
    /// For people.
    pub sentence: String,
    /// How many nodes.
    pub nodes: u32,
    /// At most 3 of their names.
    pub examples: Vec<String>,
}

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeCondition {
    /// Joined, not connected yet.
    NeverSeen,
    /// Heard of within the last 15 s.
    Ready,
    /// Silent for 15 s, or not heard of since fleetd started.
    Suspect,
    /// Silent for 60 s.
    Lost,
    /// An operator wants it empty.
    Draining,
    /// An operator gave it up; it comes back by connecting.
    Forgotten,
    /// Refused for ever.
    Banned,
}

/// A node in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSummary {
    /// Its identity.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Where it stands.
    pub condition: NodeCondition,
    /// When it was last heard of; none: never.
    pub last_seen: Option<WallTime>,
    /// What it is and lends.
    pub inventory: Option<Arc<Inventory>>,
    /// Why its warden does not answer, while it does not.
    pub warden_problem: Option<String>,
    /// What it measured last.
    pub sample: Option<NodeSample>,
    /// Attempts of jobs that are on it.
    pub workers: u32,
    /// What runs on it without the fleet knowing why.
    pub orphans: u32,
    /// What its workers were promised.
    pub assigned: HeldByTier,
    /// All its labels.
    pub labels: Labels,
    /// Its taints.
    pub taints: Labels,
    /// The agent's version.
    pub version: String,
    /// What its headroom loop said last.
    pub word: Option<Word>,
    /// What an operator lets it do.
    pub ceiling: Option<CeilingView>,
}

/// What an operator lets a node do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CeilingView {
    /// What.
    pub ceiling: Ceiling,
    /// Since when.
    pub at: WallTime,
    /// The node has it in its ledger.
    pub applied: bool,
}

/// A team and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamView {
    /// What was decided about it.
    pub row: Arc<TeamRow>,
    /// Who is in it, by name.
    pub members: Vec<String>,
    /// What its workers hold now.
    pub held: Held,
    /// What is spent or promised of its budget in this period.
    pub paid: Spent,
    /// Its part of all that teams have had lately.
    pub share: PerMille,
    /// Jobs that wait.
    pub jobs_queued: u32,
    /// Jobs that run.
    pub jobs_running: u32,
    /// What follows from a quota below what is held; empty: nothing.
    pub note: String,
    /// As of when.
    pub at: WallTime,
}

/// A person, with their teams and what they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDetail {
    /// As in lists.
    pub user: UserView,
    /// The teams that may pay for their jobs.
    pub teams: Vec<String>,
    /// Jobs that wait.
    pub jobs_queued: u32,
    /// Jobs that run.
    pub jobs_running: u32,
    /// What their workers hold now, whichever team pays.
    pub held: Held,
}

/// A node's tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProveView {
    /// The newest; none: none was ever begun.
    pub run: Option<Arc<ProveRow>>,
    /// The newest report; none: none is kept.
    pub last: Option<Arc<ReportRow>>,
    /// For how long the node has been silent.
    pub silence: Span,
}

/// What a node keeps, lends and has cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeHeadroom {
    /// As in lists.
    pub summary: NodeSummary,
    /// Over the last seven days.
    pub week: CostRow,
}

/// Something that runs on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeWorker {
    /// `412.3`, or the unit's name for an orphan.
    pub label: String,
    /// Whose; empty for an orphan.
    pub user: String,
    /// As the node reported it, or as it was assigned.
    pub state: Reported,
}

/// A receipt with where it was written and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReceipt {
    /// The node's name.
    pub node: String,
    /// Like 412.3; empty for the node itself, and for workers the fleet does not know.
    pub worker: String,
    /// What was done, and why.
    pub receipt: Receipt,
}

/// A node with what runs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDetail {
    /// As in lists.
    pub summary: NodeSummary,
    /// Workers and orphans.
    pub workers: Vec<NodeWorker>,
    /// The newest receipts of the node, oldest first.
    pub receipts: Vec<Receipt>,
}

/// Where a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// Good for one use.
    Open,
    /// It was used.
    Used,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

impl TokenState {
    /// The word used in tables and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// A token in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenView {
    /// Its public name.
    pub id: TokenId,
    /// True: lets a node join. False: lets a person log in.
    pub for_node: bool,
    /// The name of the node or person.
    pub bound_to: String,
    /// The node's pool; empty for people.
    pub pool: String,
    /// Until when it is good.
    pub expires: WallTime,
    /// Where it stands.
    pub state: TokenState,
}

/// A person in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserView {
    /// The name in the fleet.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The account their jobs run as.
    pub unix_account: String,
    /// Their team; empty: none.
    pub team: String,
    /// Refused until unbanned.
    pub banned: bool,
}

/// The fleet in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetStatus {
    /// The leader's term.
    pub epoch: u64,
    /// Nodes that answer.
    pub nodes_ready: u32,
    /// Nodes that do not.
    pub nodes_silent: u32,
    /// Jobs that wait.
    pub jobs_queued: u32,
    /// Jobs that run.
    pub jobs_running: u32,
    /// What the store is, e.g. `SQLite, schema 1`, and what could not be read from it.
    pub store: String,
}
