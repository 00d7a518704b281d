//! What is durable, one type a table. Stages carry only what is valid in them.

use std::sync::Arc;

use loadline_model::{
    AttemptId, AttemptPhase, Ended, Generation, JobId, JobOutcome, JobSpec, Labels, LedgerId, NodeId,
    ProveAsk, ProveId, Span, WallTime,
};
use loadline_placement::policy::{Quota, Windows};

use super::command::{Sha256, TokenId};
use super::node_types::{Cost, Inventory, ProveReport, ProveStage, Site};
use super::order::{Ceiling, Stop, StopReason};
use crate::trust::Role;

/// How a job ended as a whole, decided once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The outcome.
    pub outcome: JobOutcome,
    /// What `fleet run` and `fleet wait` pass on.
    pub exit_code: u8,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStage {
    /// No worker has started yet.
    Queued,
    /// A worker has started.
    Running,
    /// How it ends is known; workers are still being stopped.
    Ending(Verdict),
    /// No worker runs and none will.
    Done(Verdict, WallTime),
}

impl JobStage {
    /// True while workers may be placed.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// For whom a job runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Submitter {
    /// Who submitted it.
    pub user: Arc<str>,
    /// The Unix account its workers run as.
    pub unix_account: Arc<str>,
    /// The submitter's team when it was submitted.
    pub team: Arc<str>,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// The client's id.
    pub id: JobId,
    /// The short number.
    pub number: u64,
    /// For whom.
    pub submitter: Arc<Submitter>,
    /// What to run.
    pub spec: JobSpec,
    /// When it came.
    pub submitted_at: WallTime,
    /// When its first worker ran.
    pub started_at: Option<WallTime>,
    /// Where it stands.
    pub stage: JobStage,
}

const _: () = assert!(size_of::<JobRow>() <= 104, "there are a million");

/// Where a worker stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WorkerStage {
    /// It wants an attempt.
    #[default]
    Waiting,
    /// This attempt counts for it.
    Active(AttemptId),
    /// It exited with code 0.
    Succeeded,
    /// It failed and may not try again; the exit code.
    Failed(u8),
    /// It is not needed any more.
    Dropped,
}

/// A worker. None is stored before its first change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerRow {
    /// How many attempts it has had.
    pub attempts: u32,
    /// How many failures of its own it has used up.
    pub retries_used: u32,
    /// Where it stands.
    pub stage: WorkerStage,
}

/// Where an attempt stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptStage {
    /// It counts for its worker. Never `AttemptPhase::Ended`.
    Live(AttemptPhase),
    /// The fleet gave it up; it may still run on its node, and is stopped when seen there.
    GivenUp(Arc<Ended>),
    /// It is over, and nothing of it runs.
    Ended(Arc<Ended>),
}

/// An attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// Which.
    pub id: AttemptId,
    /// Of which job.
    pub job: JobId,
    /// Of which worker.
    pub worker: u32,
    /// 1 for the first of its worker.
    pub number: u32,
    /// Where.
    pub node: NodeId,
    /// The generation of its start order.
    pub generation: Generation,
    /// When it was placed.
    pub assigned_at: WallTime,
    /// When its command ran.
    pub running_at: Option<WallTime>,
    /// Where on the node it runs.
    pub site: Option<Arc<Site>>,
    /// Where it stands.
    pub stage: AttemptStage,
    /// It was ordered to stop, and why.
    pub stop: Option<StopReason>,
}

const _: () = assert!(size_of::<AttemptRow>() <= 128, "there are hundreds of thousands");

impl AttemptRow {
    /// True while it may hold resources of its node.
    pub const fn occupies(&self) -> bool {
        !matches!(self.stage, AttemptStage::Ended(_))
    }

    /// True while it counts for its worker.
    pub const fn is_live(&self) -> bool {
        matches!(self.stage, AttemptStage::Live(_))
    }

    /// The phase to show.
    pub const fn phase(&self) -> AttemptPhase {
        match self.stage {
            AttemptStage::Live(phase) => phase,
            AttemptStage::GivenUp(_) | AttemptStage::Ended(_) => AttemptPhase::Ended,
        }
    }

    /// How it ended, once that is known.
    pub fn ended(&self) -> Option<&Ended> {
        match &self.stage {
            AttemptStage::Live(_) => None,
            AttemptStage::GivenUp(ended) | AttemptStage::Ended(ended) => Some(ended),
        }
    }
}

/// What the operators decided about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It takes work.
    Member,
    /// It keeps what it has.
    Draining,
    /// Given up until it connects again.
    Forgotten,
    /// Refused for ever.
    Banned,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its identity.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// What the operators decided.
    pub standing: Standing,
    /// When it joined first.
    pub joined_at: WallTime,
    /// The agent's version; empty: it never connected.
    pub version: String,
    /// The machine's boot.
    pub boot_id: String,
    /// What it is and lends.
    pub inventory: Option<Arc<Inventory>>,
    /// What operators say of it.
    pub labels: Labels,
    /// What keeps work away that does not tolerate it; an empty value is none.
    pub taints: Labels,
}

/// How far a node and the fleet have got with each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The newest order made for it; never goes back.
    pub generation: Generation,
    /// Every order up to here is in its ledger.
    pub applied: Generation,
    /// The incarnation of its ledger.
    pub ledger: Option<LedgerId>,
    /// When it was heard of, as of the last session's begin or end.
    pub last_seen: Option<WallTime>,
}

/// An order that is not yet known to be in its node's ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderRow {
    /// The leader's term in which it was made.
    pub epoch: u64,
    /// When.
    pub issued_at: WallTime,
    /// About which attempt.
    pub attempt: AttemptId,
    /// What to do.
    pub what: OrderWhat,
}

/// What an order says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderWhat {
    /// Start the attempt.
    Start,
    /// Stop it.
    Stop(Stop),
}

/// What an operator lets a node do, with the order that says so. It stays as the order that lifted it once lifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CeilingRow {
    /// What.
    pub ceiling: Ceiling,
    /// The leader's term in which it was ordered.
    pub epoch: u64,
    /// When.
    pub at: WallTime,
    /// The order's place among those for the node; a node that forgot is told anew, under another one.
    pub generation: Generation,
}

/// The newest test of a node, with the order that begins or ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProveRow {
    /// Which.
    pub run: ProveId,
    /// Who asked for it.
    pub by: String,
    /// What was asked.
    pub ask: ProveAsk,
    /// When.
    pub at: WallTime,
    /// Who wants it to end.
    pub stopped_by: Option<String>,
    /// The leader's term in which the newest order was made.
    pub epoch: u64,
    /// That order's place among those for the node.
    pub generation: Generation,
    /// Where it stands.
    pub stage: ProveStage,
    /// What it does just now, or why it came to nothing.
    pub sentence: String,
    /// When that was last heard.
    pub changed: WallTime,
}

impl ProveRow {
    /// True as long as something is expected of its node.
    pub fn is_open(&self) -> bool {
        !self.stage.is_final()
    }
}

/// The last report of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRow {
    /// Of which test.
    pub run: ProveId,
    /// Who asked for it.
    pub by: String,
    /// When it came.
    pub at: WallTime,
    /// What it says.
    pub report: ProveReport,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// The name in the fleet.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The account their jobs run as.
    pub unix_account: String,
    /// The team that pays unless a job says otherwise; empty: none.
    pub team: String,
    /// Refused until unbanned.
    pub banned: bool,
    /// When they were added.
    pub created_at: WallTime,
}

/// A team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamRow {
    /// Its name.
    pub name: String,
    /// Its part of the fleet is this by the sum of the weights of all that want something.
    pub weight: u32,
    /// What it may hold and spend.
    pub quota: Quota,
    /// When its work may start, by UTC; without any: always.
    pub windows: Windows,
    /// When it was made.
    pub created_at: WallTime,
}

impl TeamRow {
    /// Its windows, `;` between them.
    pub fn windows_text(&self) -> String {
        let windows: Vec<String> = self.windows.0.iter().map(ToString::to_string).collect();
        windows.join(";")
    }

    /// Reads them back; none: that are no windows.
    pub fn read_windows(text: &str) -> Option<Windows> {
        let parts = text.split(';').filter(|part| !part.is_empty());
        let windows: Option<Vec<_>> = parts.map(|part| part.parse().ok()).collect();
        windows.map(Windows)
    }
}

/// Whom a token lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFor {
    /// One machine.
    Node {
        /// Its name.
        name: String,
        /// Its pool.
        pool: String,
    },
    /// One person.
    User(String),
}

/// Where a token stands, but for time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenStage {
    /// Not used yet.
    Open,
    /// Used at that time.
    Used(WallTime),
    /// Taken back at that time.
    Revoked(WallTime),
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Its public name.
    pub id: TokenId,
    /// Of its secret.
    pub secret: Sha256,
    /// Whom it lets in.
    pub whom: TokenFor,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: WallTime,
    /// Until when it is good.
    pub expires: WallTime,
    /// Where it stands.
    pub stage: TokenStage,
}

/// A node that a job leaves alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Avoid {
    /// Until this moment of the monotonic clock, and forgotten when fleetd restarts; none: for good, and durable.
    pub until: Option<Span>,
    /// The node's own words.
    pub why: String,
}

/// The mean, the most and the 99th percentile of one figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stat {
    /// The mean.
    pub mean: u64,
    /// The most.
    pub max: u64,
    /// The nearest-rank 99th percentile.
    pub p99: u64,
}

/// Five minutes of one resource of one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResourceBucket {
    /// All there is.
    pub capacity: u64,
    /// Never lent.
    pub reserve: u64,
    /// What production used.
    pub production: Stat,
    /// What workers used.
    pub lent: Stat,
    /// The line of now, its mean.
    pub now_mean: u64,
    /// The firm line, its mean.
    pub firm_mean: u64,
}

/// Five minutes of one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BucketRow {
    /// How many samples it was made of.
    pub samples: u32,
    /// CPU, in thousandths.
    pub cpu: ResourceBucket,
    /// Memory, in bytes.
    pub memory: ResourceBucket,
    /// What lending cost meanwhile.
    pub cost: CostRow,
}

/// What lending cost in some time, and what came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CostRow {
    /// The cost.
    pub cost: Cost,
    /// CPU time that lent work used.
    pub lent: Span,
    /// How much of the time is known.
    pub observed: Span,
}

impl CostRow {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            cost: self.cost.plus(other.cost),
            lent: self.lent.plus(other.lent),
            observed: self.observed.plus(other.observed),
        }
    }
}

/// A line of the append-only record of what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// When.
    pub at: WallTime,
    /// One stable word.
    pub kind: &'static str,
    /// Who caused it: a person, a node, or `fleet`.
    pub who: String,
    /// Whom it concerns.
    pub subject: String,
    /// What else there is to say.
    pub detail: String,
}
