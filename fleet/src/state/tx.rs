//! A batch of decisions: what they changed, and how to undo it.

use std::sync::Arc;

use loadline_model::{AttemptId, JobId, NodeId, ProveId};

use super::change::Change;
use super::command::Now;
use super::link::Link;
use super::refused::Refused;
use super::rows::{AttemptRow, JobRow, LogRow, NodeRow, Progress, WorkerRow};
use super::{Node, State};

/// Where new ids come from. Chosen at random in fleetd, counted in tests.
pub trait Ids: Send {
    /// A new attempt: UUIDv7.
    fn attempt(&mut self, now: Now) -> AttemptId;
    /// A new test: UUIDv7.
    fn test(&mut self, now: Now) -> ProveId;
    /// A new node.
    fn node(&mut self, now: Now) -> NodeId;
}

/// What a batch of decisions changed.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) changes: Vec<Change>,
    undo: Vec<Change>,
}

impl Batch {
    /// The changes, in the order in which they were made.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// True if the store has something to keep.
    pub fn is_durable(&self) -> bool {
        self.changes.iter().any(Change::is_durable)
    }
}

/// One decision in the making.
pub(crate) struct Tx<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) now: Now,
    pub(crate) ids: &'a mut dyn Ids,
    pub(crate) batch: &'a mut Batch,
}

impl State {
    /// Undoes a whole batch: the commit failed.
    pub fn roll_back(&mut self, batch: Batch) {
        self.undo_to(&mut { batch }, (0, 0));
        // What was told of attempts meanwhile cannot be taken back one by one: charges decay.
        self.touched.past();
        self.planner.forget_kept();
    }

    fn undo_to(&mut self, batch: &mut Batch, mark: (usize, usize)) {
        for inverse in batch.undo.drain(mark.1..).rev() {
            self.apply(&inverse);
        }
        batch.changes.truncate(mark.0);
    }
}

impl Tx<'_> {
    /// Runs one decision; if it is refused, whatever it changed is undone.
    pub(crate) fn attempt<T>(
        &mut self,
        decide: impl FnOnce(&mut Self) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let mark = (self.batch.changes.len(), self.batch.undo.len());
        let result = decide(self);
        if result.is_err() {
            self.state.undo_to(self.batch, mark);
        }
        result
    }

    pub(crate) fn put(&mut self, change: Change) {
        if let Some(inverse) = self.state.apply(&change) {
            self.batch.undo.push(inverse);
        }
        self.batch.changes.push(change);
    }

    pub(crate) fn log(
        &mut self,
        kind: &'static str,
        who: &str,
        subject: impl ToString,
        detail: impl ToString,
    ) {
        self.put(Change::Log(LogRow {
            at: self.now.wall,
            kind,
            who: who.to_owned(),
            subject: subject.to_string(),
            detail: detail.to_string(),
        }));
    }

    pub(crate) fn put_job(&mut self, mut row: JobRow) {
        self.state.shared.of_job(&mut row);
        self.put(Change::Job(row.id, Some(Arc::new(row))));
    }

    pub(crate) fn put_worker(&mut self, job: JobId, worker: u32, row: WorkerRow) {
        self.put(Change::Worker(job, worker, Some(row)));
    }

    pub(crate) fn put_attempt(&mut self, row: AttemptRow) {
        self.put(Change::Attempt(row.id, Some(Arc::new(row))));
    }

    pub(crate) fn put_node(&mut self, row: NodeRow) {
        self.put(Change::Node(row.id, Some(Arc::new(row))));
    }

    pub(crate) fn put_progress(&mut self, node: NodeId, progress: Progress) {
        self.put(Change::Progress(node, Some(progress)));
    }

    pub(crate) fn put_link(&mut self, node: NodeId, link: Link) {
        self.put(Change::Link(node, Some(Arc::new(link))));
    }

    pub(crate) fn node(&self, id: NodeId) -> Result<&Node, Refused> {
        self.state
            .nodes
            .get(&id)
            .ok_or_else(|| Refused::NodeUnknown(id.to_string()))
    }
}
