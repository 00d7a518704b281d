//! The plan: who goes where now.
//!
//! Problem: thousands of workers a second go to thousands of nodes, and between two plans little changes. Approach: a
//! [`Planner`] keeps the nodes in the [`crate::engine`] and the queue in *lines* of jobs that wait for the same thing;
//! whoever keeps the truth says what has changed of it. Who goes first, who may start at all, for whom room is kept and
//! who makes room are the rules of [`crate::policy`]; first come what jobs need to run at all, then what elastic jobs
//! would like. Work only adds up within one plan, so a line that could not start is left alone until room appears or
//! something else turns, and a long queue costs no more than its lines.
//!
//! Properties: what a plan books is in the planner's books at once. If the plan is not carried out, what is said of
//! its nodes and jobs next puts the books right: nothing is kept that was not said or planned since.

mod blocked;
mod books;
mod keeps;
mod lines;
mod nodes;
mod pass;
mod place;
mod runs;
mod scene;
mod ties;
mod waits;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{AttemptId, JobId, NodeId, Priority, Span, WallTime};
use serde::{Deserialize, Serialize};

use crate::engine::EngineError;
use crate::policy::{
    Accounts, BackfillRules, Counted, End, Estimates, OrderRules, ShareRules, Starting, Team, Windows,
    YieldRules,
};
use crate::queue::{QueueEntry, Start};
use crate::report::{Report, Waiting, Why};
use crate::snapshot::{Node, Snapshot};

pub use blocked::Eviction;
pub(crate) use books::Books;
pub use keeps::{Kept, KeptFor};
pub use runs::{Ending, Running, Terms};

use keeps::Keeps;
use lines::Lines;
use nodes::Nodes;
use runs::Runs;
pub(crate) use waits::about;

/// What the operators of the fleet decide about placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// A plan ends once it has so many assignments; workers that start together are never torn apart for it.
    pub assignments_max: usize,
    /// What teams and users have had counts half after so long.
    pub half_life: Span,
    /// Who goes first.
    pub order: OrderRules,
    /// How many that found no room have it kept.
    pub backfill: BackfillRules,
    /// Who makes room; none: nobody does.
    pub yielding: Option<YieldRules>,
    /// Who is no operator may ask for so much at most: whoever is free to outrank others has the whole fleet.
    pub priority_most: Priority,
    /// In a second the whole fleet is looked over so often at most, for who might yield or when there will be room.
    pub looks_max: u32,
}

impl Default for Policy {
    /// 256 assignments, as many records as one group commit takes (design §5); four looks, some tens of
    /// milliseconds on a fleet of 10,000 nodes.
    fn default() -> Self {
        Self {
            assignments_max: 256,
            half_life: ShareRules::HALF_LIFE,
            order: OrderRules::default(),
            backfill: BackfillRules::default(),
            yielding: Some(YieldRules::default()),
            priority_most: Priority::NORMAL,
            looks_max: 4,
        }
    }
}

impl Policy {
    /// Whoever fits starts: nothing is kept for anyone, and nobody yields.
    #[must_use]
    pub fn greedy() -> Self {
        Self {
            backfill: BackfillRules { reservations: 0 },
            yielding: None,
            ..Self::default()
        }
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
    /// Workers that have to make room, each for a job that has none.
    pub evictions: Vec<Eviction>,
    /// True if it ended at its limit, or freed what was kept: planning again would assign more.
    pub more: bool,
}

/// Shapes that the engine knows are not looked through for fewer: each is a kilobyte or so, and its costs far more.
const SHAPES_FEW: usize = 1024;

/// The nodes and the queue as they were last told, and the plan that follows.
#[derive(Debug, Clone, Default)]
pub struct Planner {
    nodes: Nodes,
    lines: Lines,
    accounts: Accounts,
    /// When burst work of all teams may start.
    burst: Windows,
    estimates: Estimates,
    runs: Runs,
    keeps: Keeps,
    version: u64,
    /// What the plan that is being made has moved, as far as others are tied to it.
    moved: ties::Moved,
    /// Goes up when anything but room has turned that could let someone start.
    turned: u64,
    /// What that was when the last plan ended.
    settled: u64,
    /// When that happens next by time alone.
    wake: Option<WallTime>,
    /// When the first job of a line was last looked for room for in vain.
    looked: BTreeMap<u64, WallTime>,
    /// Since when looks over the whole fleet are counted, and how many are left.
    looks: (Option<WallTime>, u32),
    /// Lines that jobs went on to in the plan at hand.
    wishes: Vec<u64>,
    /// So many shapes the engine may know before those that nobody asks for are forgotten.
    shapes_max: usize,
}

impl Planner {
    /// Takes over what is said of a node. What was planned for it counts only if it is in `held`.
    ///
    /// # Errors
    /// When there are more kinds of nodes than can be told apart; the node then takes no new work.
    pub fn put_node(&mut self, node: Node) -> Result<(), EngineError> {
        if !self.nodes.is_known(&node) {
            self.version += 1;
            self.nodes.put(node)?;
        }
        Ok(())
    }

    /// Forgets a node.
    pub fn remove_node(&mut self, node: NodeId) {
        self.version += 1;
        self.nodes.remove(node);
    }

    /// Takes over what is said of a job that wants workers.
    pub fn put_job(&mut self, entry: &QueueEntry) {
        if self.lines.put(entry) {
            self.version += 1;
        }
    }

    /// Forgets a job: it wants no workers now.
    pub fn remove_job(&mut self, job: JobId) {
        if self.lines.remove(job) {
            self.version += 1;
        }
    }

    /// Goes up whenever anything has changed: what was said of the same version still holds.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// When a plan may come out otherwise by time alone; none: nothing waits for that.
    #[must_use]
    pub const fn wake(&self) -> Option<WallTime> {
        self.wake
    }

    /// What teams and users hold, have spent and may.
    #[must_use]
    pub const fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The nodes as it knows them, in no order.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            nodes: self.nodes.iter().cloned().collect(),
        }
    }

    /// Says what a team may, from now on; what it holds stays. What it paid of another budget is told by
    /// [`Self::forget_past`] and what is said after.
    pub fn set_team(&mut self, name: &str, team: Team, now: WallTime) {
        self.accounts.set_team(name, team, now);
        self.turned += 1;
        self.version += 1;
    }

    /// When burst work of all teams may start.
    #[must_use]
    pub const fn burst(&self) -> &Windows {
        &self.burst
    }

    /// Says when burst work of all teams may start, from now on.
    pub fn set_burst(&mut self, windows: Windows) {
        self.burst = windows;
        self.turned += 1;
        self.version += 1;
    }

    /// Forgets teams, what they and their users hold and have had, what runs, and what is kept: all is told anew.
    pub fn forget_past(&mut self) {
        self.accounts = Accounts::new(*self.accounts.rules());
        self.estimates = Estimates::default();
        self.runs = Runs::default();
        self.forget_kept();
    }

    /// Keeps nothing for anyone: what was planned did not come to be.
    pub fn forget_kept(&mut self) {
        self.keeps = Keeps::default();
        self.turned += 1;
        self.version += 1;
    }

    /// Takes over what is said of a worker that holds room. It is charged from when it began.
    pub fn put_running(&mut self, is: &Running) {
        if self.runs.is_known(is) {
            return;
        }
        let estimate = self.estimates.of(&is.user, is.limit);
        let before = self.runs.put(is, estimate);
        let charged = before.as_ref().is_some_and(|before| before.given_up.is_none());
        if let Some(at) = is.given_up.filter(|_| charged) {
            self.accounts.end(is.job, is.worker, at);
        } else if is.given_up.is_none() && !charged {
            // Another attempt of the same worker would be counted twice.
            self.accounts.end(is.job, is.worker, is.started);
            self.accounts.start(&starting(is, estimate), is.started);
        }
        // When what was planned a moment ago will end is known only now: beside what is kept there may be room again.
        if before.is_some() || self.keeps.nodes().any(|node| node == is.node) {
            self.turned += 1;
        }
        self.version += 1;
    }

    /// True if nothing that was said since the last plan could let anyone start, but for room.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.turned == self.settled
    }

    /// A worker holds no room any more. None: as if it had never been.
    pub fn remove_running(&mut self, attempt: AttemptId, ending: Option<Ending>) {
        let Some(run) = self.runs.remove(attempt) else {
            return;
        };
        self.turned += 1;
        self.version += 1;
        let is = run.is;
        let at = ending.map_or(is.started, |ending| ending.at);
        if is.given_up.is_none() {
            self.accounts.end(is.job, is.worker, at);
        }
        if ending.is_some_and(|ending| ending.own) {
            self.estimates.learn(&is.user, is.limit, at.since(is.started));
        }
    }

    /// A worker that has ended already, for accounts that begin anew; in the order in which they ended.
    pub fn recall(&mut self, was: &Running, ending: Ending, now: WallTime) {
        self.accounts
            .recall(&starting(was, None), was.started, ending.at, now);
        if ending.own {
            let ran = ending.at.since(was.started);
            self.estimates.learn(&was.user, was.limit, ran);
        }
    }

    /// Room that is kept, in the order in which it was kept.
    pub fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.keeps.all.iter().map(|keep| &keep.is)
    }

    /// When each worker that runs will probably end, for whoever checks what is kept.
    pub fn expected(&self, now: WallTime) -> impl Iterator<Item = (&Running, End)> {
        self.runs.iter().map(move |run| (&run.is, run.end(now)))
    }

    /// When a worker of a job that started now would probably end; or, while room is kept for someone who has waited
    /// beyond the patience, when it ends at the latest.
    #[must_use]
    pub fn expected_end(&self, entry: &QueueEntry, now: WallTime) -> End {
        self.would_end(&entry.user, entry.limit(), now)
    }

    fn would_end(&self, user: &str, limit: Option<Span>, now: WallTime) -> End {
        End::after(End::At(now), self.would_run(user, limit))
    }

    fn would_run(&self, user: &str, limit: Option<Span>) -> Option<Span> {
        if self.keeps.are_strict() {
            limit
        } else {
            self.estimates.of(user, limit)
        }
    }

    /// The jobs as it knows them: standard before burst, then by number.
    #[must_use]
    pub fn queue(&self) -> Vec<QueueEntry> {
        let mut queue = self.lines.entries();
        queue.sort_by_key(|(_, entry)| in_queue(entry));
        queue.into_iter().map(|(_, entry)| entry).collect()
    }

    /// The number of the line in which a job waits: why one job of a line waits is why all of them do.
    #[must_use]
    pub fn line(&self, job: JobId) -> Option<u64> {
        self.lines.line_of(job)
    }

    /// Says why each job waits that does.
    #[must_use]
    pub fn report(&self, now: WallTime) -> Report {
        let books = Books::new(self.nodes.iter(), now);
        let mut entries = self.lines.entries();
        entries.sort_by_key(|(_, entry)| in_queue(entry));
        let mut known: BTreeMap<u64, Arc<Why>> = BTreeMap::new();
        let waiting = entries.into_iter().map(|(line, entry)| Waiting {
            job: entry.job,
            workers: u32::try_from(entry.wanted.missing.len()).unwrap_or(u32::MAX),
            why: Arc::clone(
                known
                    .entry(line)
                    .or_insert_with(|| Arc::new(self.why_entry(&books, &entry))),
            ),
        });
        Report {
            waiting: waiting.collect(),
        }
    }
}

fn in_queue(entry: &QueueEntry) -> (loadline_model::Tier, u64, WallTime, JobId) {
    (entry.tier, entry.number, entry.submitted_at, entry.job)
}

fn starting(is: &Running, estimate: Option<Span>) -> Starting<'_, Counted> {
    Starting {
        job: is.job,
        worker: is.worker,
        team: &is.team,
        user: &is.user,
        amounts: Counted::of(&is.request, &is.needs),
        estimate,
        limit: is.limit,
    }
}

/// Decides who goes where now, and says why the others wait: a [`Planner`] that is used once. Nodes beyond the kinds
/// that it can tell apart get nothing.
pub fn plan(snapshot: &Snapshot, queue: &[QueueEntry], policy: &Policy, now: WallTime) -> (Plan, Report) {
    let mut planner = Planner::default();
    let mut nodes: Vec<&Node> = snapshot.nodes.iter().collect();
    nodes.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    for node in nodes {
        planner.put_node(node.clone()).ok();
    }
    for entry in queue {
        planner.put_job(entry);
    }
    let plan = planner.plan(policy, now);
    (plan, planner.report(now))
}

/// Says why the next worker of one job waits, or that it is next in line, without placing anything.
pub fn explain(snapshot: &Snapshot, entry: &QueueEntry, now: WallTime) -> Why {
    Books::new(snapshot.nodes.iter(), now).why(entry, together(entry))
}

/// How many of the missing workers have to start together.
fn together(entry: &QueueEntry) -> u32 {
    match entry.wanted.start {
        Start::Together => entry.wanted.needed.max(1),
        Start::OneByOne => 1,
    }
}
