//! What a node's attempts hold, counted as rows come and go.

use std::collections::BTreeSet;

use loadline_model::AttemptId;
use loadline_placement::HeldByTier;

use super::rows::{AttemptRow, JobRow};

/// What is on one node. Counted from rows only, so it can be counted again to check it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Books {
    /// The attempts that may hold something.
    pub attempts: BTreeSet<AttemptId>,
    /// What they were promised.
    pub held: HeldByTier,
}

impl Books {
    pub(crate) fn add(&mut self, attempt: &AttemptRow, job: &JobRow) {
        if self.attempts.insert(attempt.id) {
            self.held.add(job.spec.tier, &job.spec.worker, &job.spec.needs);
        }
    }

    pub(crate) fn remove(&mut self, attempt: &AttemptRow, job: &JobRow) {
        if self.attempts.remove(&attempt.id) {
            self.held.remove(job.spec.tier, &job.spec.worker, &job.spec.needs);
        }
    }
}
