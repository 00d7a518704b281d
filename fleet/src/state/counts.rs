//! Jobs as numbers, for the monitoring: nothing is copied, so that a scrape does not hold up the writer.

use loadline_model::{JobOutcome, WallTime};

use super::State;
use super::rows::JobStage;

/// How many jobs stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Not started yet.
    pub queued: u64,
    /// Started and not done.
    pub running: u64,
    /// Done, every worker with code 0.
    pub succeeded: u64,
    /// Done, a worker failed.
    pub failed: u64,
    /// Done, someone asked for it.
    pub cancelled: u64,
    /// When the job came that has waited longest.
    pub oldest_queued_at: Option<WallTime>,
}

impl State {
    /// Counts all jobs.
    pub fn job_counts(&self) -> JobCounts {
        let mut counts = JobCounts::default();
        for job in self.jobs.values() {
            match job.row.stage {
                JobStage::Queued => {
                    counts.queued += 1;
                    let submitted = job.row.submitted_at;
                    let oldest = counts.oldest_queued_at.get_or_insert(submitted);
                    *oldest = submitted.min(*oldest);
                }
                JobStage::Running | JobStage::Ending(_) => counts.running += 1,
                JobStage::Done(verdict, _) => match verdict.outcome {
                    JobOutcome::Succeeded => counts.succeeded += 1,
                    JobOutcome::Failed => counts.failed += 1,
                    JobOutcome::Cancelled => counts.cancelled += 1,
                },
            }
        }
        counts
    }
}
