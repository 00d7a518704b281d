//! The plan: who goes where now.
//!
//! Problem: thousands of workers a second go to thousands of nodes, and between two plans little changes. Approach: a
//! [`Planner`] keeps the nodes in the [`crate::engine`] and the queue in *lines* of jobs that wait for the same thing;
//! whoever keeps the truth says what has changed of it. The order is standard before burst, earlier before later;
//! first what jobs need to run at all, then what elastic jobs would like. Work only adds up within one plan, so a line
//! that found no room is left alone until room appears, and a long queue costs no more than its lines. A large job
//! that waits reserves nothing yet; smaller ones pass it.
//!
//! Properties: what a plan books is in the planner's books at once. If the plan is not carried out, what is said of
//! its nodes and jobs next puts the books right: nothing is kept that was not said or planned since.

mod books;
mod lines;
mod nodes;
mod pass;
mod ties;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{JobId, NodeId, WallTime};
use serde::{Deserialize, Serialize};

use crate::engine::EngineError;
use crate::queue::{QueueEntry, Start};
use crate::report::{Report, Waiting, Why};
use crate::snapshot::{Node, Snapshot};

pub(crate) use books::Books;
use lines::Lines;
use nodes::Nodes;

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

/// Shapes that the engine knows are not looked through for fewer: each is a kilobyte or so, and its costs far more.
const SHAPES_FEW: usize = 1024;

/// The nodes and the queue as they were last told, and the plan that follows.
#[derive(Debug, Clone, Default)]
pub struct Planner {
    nodes: Nodes,
    lines: Lines,
    version: u64,
    /// What the plan that is being made has moved, as far as others are tied to it.
    moved: ties::Moved,
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

    /// The nodes as it knows them, in no order.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            nodes: self.nodes.iter().cloned().collect(),
        }
    }

    /// The jobs as it knows them, in the order in which their turn comes.
    #[must_use]
    pub fn queue(&self) -> Vec<QueueEntry> {
        let mut queue = self.lines.entries();
        queue.sort_by_key(|(_, entry)| (entry.tier, entry.submitted_at, entry.job));
        queue.into_iter().map(|(_, entry)| entry).collect()
    }

    /// The number of the line in which a job waits: why one job of a line waits is why all of them do.
    #[must_use]
    pub fn line(&self, job: JobId) -> Option<u64> {
        self.lines.line_of(job)
    }

    /// Says why the next worker of a job waits, or that it is next in line; none: it does not wait.
    #[must_use]
    pub fn why(&self, job: JobId, now: WallTime) -> Option<Why> {
        let entry = self.lines.entry(job)?;
        Some(Books::new(self.nodes.iter(), now).why(&entry, together(&entry)))
    }

    /// Says why each job waits that does.
    #[must_use]
    pub fn report(&self, now: WallTime) -> Report {
        let books = Books::new(self.nodes.iter(), now);
        let mut entries = self.lines.entries();
        entries.sort_by_key(|(_, entry)| (entry.tier, entry.submitted_at, entry.job));
        let mut known: BTreeMap<u64, Arc<Why>> = BTreeMap::new();
        let waiting = entries.into_iter().map(|(line, entry)| Waiting {
            job: entry.job,
            workers: u32::try_from(entry.wanted.missing.len()).unwrap_or(u32::MAX),
            why: Arc::clone(
                known
                    .entry(line)
                    .or_insert_with(|| Arc::new(books.why(&entry, together(&entry)))),
            ),
        });
        Report {
            waiting: waiting.collect(),
        }
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
