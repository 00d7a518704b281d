//! The state of a fleet and the one place where it changes.
//!
//! Problem: many sessions and people change one truth at once; what is answered must be durable, and what is
//! durable must be right. Approach: one writer. A [`Command`] and the time enter [`State::step`]; rows that
//! change come out as [`Change`]s, a reply or a refusal with them. Nothing here reads a clock, a file or a
//! socket. [`State::settle`] then places what waits. The writer commits the changes and only then answers; if
//! the commit fails it calls [`State::roll_back`], and memory equals the store again.
//!
//! Terms: an attempt *counts* while it is the one that its worker waits for; it *occupies* its node until the
//! node says that nothing of it runs. The two differ for an attempt that was given up with a lost node.
//!
//! Properties, stated again in [`check`]: at most one attempt counts for a worker; no attempt runs that the
//! fleet gave up without a stop order waiting for it; generations ascend; books equal rows.

mod access;
mod attempts;
mod ceiling;
mod change;
pub mod check;
mod command;
mod cost;
mod counts;
mod dump;
mod held;
mod jobs;
mod ledger;
mod link;
mod load;
mod marks;
mod mirror;
mod node_types;
mod nodes;
mod order;
mod place;
mod prove;
mod refused;
pub mod rows;
mod samples;
mod sessions;
mod shared;
mod step;
mod teams;
mod ties;
mod tx;
mod view;
mod views;
mod waits;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loadline_model::{AttemptId, Generation, JobId, JobName, LedgerId, NodeId, Sequence, Span, WallTime};
use loadline_placement::policy::Windows;
use loadline_placement::{Planner, Policy, Traits, Why};
use smallvec::SmallVec;

pub use change::Change;
pub use command::{Command, JobRef, Marks, NodeVerb, Now, Reply, SessionId, Sha256, SharingCommand, TokenId};
pub(crate) use cost::{QUARTER, quarter};
pub use counts::JobCounts;
pub use link::Link;
pub use load::{Loaded, SetAside};
pub use node_types::{
    Cost, CostCounts, Event, Happening, HeldCeiling, Hello, Inventory, LendMode, ProveConsent, ProveNews,
    ProveReport, ProveStage, Receipt, Reported, Site, Word,
};
pub use order::{Ceiling, Order, OrderKind, Prove, Start, Stop, StopReason};
pub use refused::{Code, Refused};
pub use shared::Shared;
pub use teams::{Limit, QuotaChange, TeamChange};
pub use tx::{Batch, Ids};
pub use view::{
    AttemptView, BlockingReason, CeilingView, Explanation, FleetStatus, JobChange, JobDetail, JobSummary,
    NodeCondition, NodeDetail, NodeHeadroom, NodeReceipt, NodeSummary, NodeWorker, ProveView, TeamView,
    TokenState, TokenView, UserDetail, UserView,
};

use held::Books;
use link::{Pulse, Steady};
use mirror::Touched;
use rows::{
    AttemptRow, Avoid, CeilingRow, CostRow, JobRow, NodeRow, OrderRow, Progress, ProveRow, ReportRow,
    TeamRow, TokenRow, UserRow, WorkerRow,
};

/// Everything a fleet knows. Read it through its views; only the writer changes it.
#[derive(Debug, Default)]
pub struct State {
    epoch: u64,
    store_note: String,
    /// Boxed: a tree has room for twice as many as it holds.
    jobs: BTreeMap<JobId, Box<Job>>,
    numbers: BTreeMap<u64, JobId>,
    next_number: u64,
    /// Jobs with workers that want an attempt.
    queue: BTreeSet<JobId>,
    /// Who waits for a job, by the name that they know it by.
    dependents: BTreeMap<JobName, BTreeSet<JobId>>,
    /// Jobs whose time has not come.
    timed: BTreeSet<(WallTime, JobId)>,
    /// Jobs whose time has come.
    released: BTreeSet<JobId>,
    /// Jobs that are done, until those that wait for them were looked at.
    ended: Vec<JobId>,
    /// Names of jobs, and who is tied to them.
    names: ties::Names,
    /// What many jobs have in common.
    shared: shared::Shared,
    attempts: BTreeMap<AttemptId, Arc<AttemptRow>>,
    nodes: BTreeMap<NodeId, Node>,
    /// Nodes that are not banned.
    node_names: BTreeMap<String, NodeId>,
    ledgers: BTreeMap<(NodeId, LedgerId), Sequence>,
    receipts: BTreeMap<(NodeId, LedgerId, Sequence), Arc<Receipt>>,
    users: BTreeMap<String, Arc<UserRow>>,
    teams: BTreeMap<String, Arc<TeamRow>>,
    /// Who is in which team: the team, then the person.
    members: BTreeSet<(String, String)>,
    tokens: BTreeMap<TokenId, Arc<TokenRow>>,
    secrets: BTreeMap<Sha256, TokenId>,
    // What follows is neither durable nor undone: facts about the world, and what can be worked out again.
    last_session: u64,
    steady: Steady,
    forgot_buckets: Span,
    /// Placement's own books, and what it has to be told before the next plan.
    planner: Planner,
    touched: Touched,
    planner_problem: Option<String>,
    /// The last plan ended at its limit.
    unplanned: bool,
    planned_at: WallTime,
    policy: Policy,
    /// Why the jobs of a line wait, by the line and the version of the planner's books. Asked for seldom, so it is
    /// worked out when asked for.
    whys: RefCell<BTreeMap<u64, (u64, Arc<Why>)>>,
}

/// How the fleet is shared, as far as it is the same for all teams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharingRules {
    /// What placement goes by.
    pub policy: Policy,
    /// When burst work may start.
    pub burst: Windows,
}

/// A job with everything that belongs to it.
#[derive(Debug)]
pub(crate) struct Job {
    row: Arc<JobRow>,
    /// Most jobs have one, and one attempt of it.
    workers: SmallVec<[WorkerRow; 1]>,
    /// How many of the workers wait.
    waiting: u32,
    /// Oldest first.
    attempts: SmallVec<[AttemptId; 1]>,
    /// How many of them were asked to yield.
    yielded: u32,
    avoid: BTreeMap<NodeId, Avoid>,
}

const _: () = assert!(size_of::<Job>() <= 104, "there are a million");

impl Job {
    fn new(row: Arc<JobRow>) -> Self {
        let count = row.spec.workers.max();
        Self {
            row,
            workers: (0..count).map(|_| WorkerRow::default()).collect(),
            waiting: count,
            attempts: SmallVec::new(),
            yielded: 0,
            avoid: BTreeMap::new(),
        }
    }

    fn worker(&self, index: u32) -> Option<WorkerRow> {
        self.workers.get(usize::try_from(index).ok()?).copied()
    }
}

/// A node with everything that belongs to it.
#[derive(Debug)]
pub(crate) struct Node {
    row: Arc<NodeRow>,
    progress: Progress,
    orders: BTreeMap<Generation, OrderRow>,
    ceiling: Option<Arc<CeilingRow>>,
    prove: Option<Arc<ProveRow>>,
    /// Of its last test that came to something.
    report: Option<Arc<ReportRow>>,
    /// What lending has cost, by the beginning of each quarter of a day.
    costs: BTreeMap<WallTime, CostRow>,
    /// Up to here the node's own counts are in `costs`.
    counted: Option<Arc<CostCounts>>,
    books: Books,
    /// What follows from the row, for placement.
    traits: Arc<Traits>,
    last_bucket: Option<WallTime>,
    link: Option<Arc<Link>>,
    pulse: Pulse,
}

impl Node {
    fn new(row: Arc<NodeRow>) -> Self {
        Self {
            traits: Arc::new(marks::traits(&row)),
            row,
            progress: Progress::default(),
            orders: BTreeMap::new(),
            ceiling: None,
            prove: None,
            report: None,
            costs: BTreeMap::new(),
            counted: None,
            books: Books::default(),
            last_bucket: None,
            link: None,
            pulse: Pulse::default(),
        }
    }
}

impl State {
    /// Says how the fleet is shared from now on.
    pub fn share_by(&mut self, rules: SharingRules) {
        self.policy = rules.policy;
        self.planner.set_burst(rules.burst);
    }

    /// True if placement stopped at its limit: settle again without waiting.
    pub const fn is_unplanned(&self) -> bool {
        self.unplanned
    }
}
