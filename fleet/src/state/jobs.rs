//! The life of a job: submitted, cancelled, decided by its workers, done.
//!
//! A job's end is decided once (its verdict); from then on nothing new is placed, what runs is told to stop, and
//! the job is done when nothing of it counts any more.

use std::sync::Arc;

use loadline_model::{EndReason, Ended, JobId, JobOutcome, JobSpec, Span, WallTime, Workers};

use super::change::Change;
use super::command::{JobRef, Reply};
use super::order::StopReason;
use super::refused::Refused;
use super::rows::{AttemptRow, Avoid, JobRow, JobStage, Submitter, Verdict, WorkerRow, WorkerStage};
use super::tx::Tx;
use crate::trust::Role;

/// A node that refused for now is left alone this long by the job: production's short peaks have passed, and a
/// fleet of one node is not asked more than six times a minute.
const REFUSED_PAUSE: Span = Span::from_secs(10);
/// A node that had to evict a worker needs its room: it holds back up to 30 s itself (design §4).
const EVICTED_PAUSE: Span = Span::from_secs(60);

impl Tx<'_> {
    pub(crate) fn submit(&mut self, by: &str, id: JobId, spec: JobSpec) -> Result<Reply, Refused> {
        if let Some(job) = self.state.jobs.get(&id) {
            let same = *job.row.submitter.user == *by && job.row.spec == spec;
            let number = job.row.number;
            return if same {
                Ok(Reply::Submitted { number, fresh: false })
            } else {
                Err(Refused::JobConflict(id))
            };
        }
        let user = self
            .state
            .users
            .get(by)
            .ok_or_else(|| Refused::UserUnknown(by.to_owned()))?;
        if user.banned {
            return Err(Refused::UserBanned(by.to_owned()));
        }
        if spec.tasks.is_some() {
            return Err(Refused::ArrayNeedsRunner);
        }
        let team = self.paying_team(user, spec.team.as_deref())?;
        self.check_waits(by, &team, id, &spec)?;
        let most = self.state.policy.priority_most;
        if spec.priority > most && !matches!(user.role, Role::Admin | Role::Operator) {
            return Err(Refused::PriorityTooHigh {
                user: by.to_owned(),
                asked: spec.priority,
                most,
            });
        }
        let row = JobRow {
            id,
            number: self.state.next_number,
            submitter: Arc::new(Submitter {
                user: by.into(),
                unix_account: user.unix_account.as_str().into(),
                team: team.into(),
            }),
            spec,
            submitted_at: self.now.wall,
            started_at: None,
            stage: JobStage::Queued,
        };
        let number = row.number;
        // One that it waits for may have ended otherwise already.
        let after = self.state.waited_for(&row);
        self.put_job(row);
        self.state.ended.extend(after);
        self.log("job_submitted", by, number, id);
        Ok(Reply::Submitted { number, fresh: true })
    }

    pub(crate) fn cancel(&mut self, by: &str, job: JobRef) -> Result<Reply, Refused> {
        let job = self.state.find_job(job)?;
        let (id, number, open) = (job.row.id, job.row.number, job.row.stage.is_open());
        if open {
            self.log("job_cancelled", by, number, "");
            let exit_code = EndReason::Cancelled.exit_code();
            self.wind_down(
                id,
                Verdict {
                    outcome: JobOutcome::Cancelled,
                    exit_code,
                },
            );
        }
        let job = self.state.find_job(JobRef::Id(id))?;
        Ok(Reply::Job(Box::new(self.state.summary(job))))
    }

    /// Nothing new is placed, what runs is told to stop.
    pub(crate) fn wind_down(&mut self, id: JobId, verdict: Verdict) {
        self.stage_job(id, JobStage::Ending(verdict));
        let workers = self
            .state
            .jobs
            .get(&id)
            .map(|job| job.workers.clone())
            .unwrap_or_default();
        for (index, worker) in (0u32..).zip(workers) {
            match worker.stage {
                WorkerStage::Waiting => {
                    self.put_worker(
                        id,
                        index,
                        WorkerRow {
                            stage: WorkerStage::Dropped,
                            ..worker
                        },
                    );
                }
                WorkerStage::Active(attempt) => self.order_stop(attempt, StopReason::Cancelled),
                WorkerStage::Succeeded | WorkerStage::Failed(_) | WorkerStage::Dropped => {}
            }
        }
        self.conclude(id);
    }

    fn stage_job(&mut self, id: JobId, stage: JobStage) {
        if let Some(row) = self
            .state
            .jobs
            .get(&id)
            .map(|job| &job.row)
            .filter(|row| row.stage != stage)
        {
            self.put_job(JobRow {
                stage,
                ..(**row).clone()
            });
        }
    }

    /// A worker of the job started.
    pub(crate) fn started(&mut self, id: JobId, ran_at: Option<WallTime>) {
        let Some(row) = self.state.jobs.get(&id).map(|job| Arc::clone(&job.row)) else {
            return;
        };
        let stage = if row.stage == JobStage::Queued {
            JobStage::Running
        } else {
            row.stage
        };
        let started_at = row.started_at.or(ran_at);
        if (stage, started_at) != (row.stage, row.started_at) {
            self.put_job(JobRow {
                stage,
                started_at,
                ..(*row).clone()
            });
        }
    }

    /// The attempt that counted for a worker is over: what becomes of the worker and its job.
    pub(crate) fn worker_ended(&mut self, attempt: &AttemptRow, ended: &Ended) {
        let Some(job) = self.state.jobs.get(&attempt.job) else {
            return;
        };
        let Some(worker) = job.worker(attempt.worker) else {
            return;
        };
        if worker.stage != WorkerStage::Active(attempt.id) {
            return;
        }
        let (open, retries) = (job.row.stage.is_open(), job.row.spec.retries);
        let next = after(worker, ended.reason, open, retries);
        self.put_worker(attempt.job, attempt.worker, next);
        // Who yields to another job may come back: its node has not been short of room for production.
        let yielded = attempt.stop == Some(StopReason::Yielded);
        if let Some(avoid) = avoid_after(ended, self.now.mono).filter(|_| !yielded) {
            self.put(Change::Avoid(attempt.job, attempt.node, Some(avoid)));
        }
        match next.stage {
            WorkerStage::Failed(exit_code) if open => {
                self.wind_down(
                    attempt.job,
                    Verdict {
                        outcome: JobOutcome::Failed,
                        exit_code,
                    },
                );
            }
            _ => self.conclude(attempt.job),
        }
    }

    /// The attempt that counts for a worker cannot be read from the store: the worker, and so its job, failed.
    pub(crate) fn lost_record(&mut self, id: JobId, index: u32, worker: WorkerRow) {
        let exit_code = EndReason::NodeLost.exit_code();
        self.put_worker(
            id,
            index,
            WorkerRow {
                stage: WorkerStage::Failed(exit_code),
                ..worker
            },
        );
        let open = self
            .state
            .jobs
            .get(&id)
            .is_some_and(|job| job.row.stage.is_open());
        if open {
            self.wind_down(
                id,
                Verdict {
                    outcome: JobOutcome::Failed,
                    exit_code,
                },
            );
        } else {
            self.conclude(id);
        }
    }

    /// Ends the job if nothing of it counts any more.
    fn conclude(&mut self, id: JobId) {
        self.drop_needless(id);
        let Some(job) = self.state.jobs.get(&id) else {
            return;
        };
        let over = |worker: &WorkerRow| {
            matches!(
                worker.stage,
                WorkerStage::Succeeded | WorkerStage::Failed(_) | WorkerStage::Dropped
            )
        };
        let verdict = match job.row.stage {
            JobStage::Done(..) => return,
            JobStage::Ending(verdict) => verdict,
            JobStage::Queued | JobStage::Running => Verdict {
                outcome: JobOutcome::Succeeded,
                exit_code: 0,
            },
        };
        if job.workers.iter().all(over) {
            let number = job.row.number;
            self.stage_job(id, JobStage::Done(verdict, self.now.wall));
            if !self.state.dependents.is_empty() {
                self.state.ended.push(id);
            }
            self.log("job_done", "fleet", number, verdict.exit_code);
        }
    }

    /// An elastic job whose workers begin to finish has no more work: those that never started are not needed.
    fn drop_needless(&mut self, id: JobId) {
        let Some(job) = self.state.jobs.get(&id).filter(|job| job.row.stage.is_open()) else {
            return;
        };
        let elastic = matches!(job.row.spec.workers, Workers::Elastic(_));
        if !elastic
            || !job
                .workers
                .iter()
                .any(|worker| worker.stage == WorkerStage::Succeeded)
        {
            return;
        }
        for (index, worker) in (0u32..).zip(job.workers.clone()) {
            if worker == WorkerRow::default() {
                self.put_worker(
                    id,
                    index,
                    WorkerRow {
                        stage: WorkerStage::Dropped,
                        ..worker
                    },
                );
            }
        }
    }
}

/// What becomes of a worker whose attempt ended. The table of design §9: the last four reasons never use up
/// `retries`. An end that someone on the node asked for is neither a failure to try again nor a success.
fn after(worker: WorkerRow, reason: EndReason, open: bool, retries: u32) -> WorkerRow {
    let failed = WorkerStage::Failed(reason.exit_code());
    let (stage, used) = match reason {
        EndReason::Exited { code: 0 } => (WorkerStage::Succeeded, 0),
        _ if !open => (WorkerStage::Dropped, 0),
        EndReason::Cancelled => (failed, 0),
        EndReason::Evicted | EndReason::Refused { .. } | EndReason::NodeLost | EndReason::NodeRebooted => {
            (WorkerStage::Waiting, 0)
        }
        EndReason::Exited { .. }
        | EndReason::Signalled { .. }
        | EndReason::OutOfMemory
        | EndReason::TimeLimit
        | EndReason::StartFailed => {
            if worker.retries_used < retries {
                (WorkerStage::Waiting, 1)
            } else {
                (failed, 0)
            }
        }
    };
    WorkerRow {
        stage,
        retries_used: worker.retries_used + used,
        ..worker
    }
}

fn avoid_after(ended: &Ended, mono: Span) -> Option<Avoid> {
    let until = match ended.reason {
        EndReason::Refused { for_good: true } => None,
        EndReason::Refused { for_good: false } => Some(mono.plus(REFUSED_PAUSE)),
        EndReason::Evicted => Some(mono.plus(EVICTED_PAUSE)),
        _ => return None,
    };
    Some(Avoid {
        until,
        why: ended.detail.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_REASON: [EndReason; 13] = [
        EndReason::Exited { code: 0 },
        EndReason::Exited { code: 3 },
        EndReason::Signalled { signal: 9 },
        EndReason::OutOfMemory,
        EndReason::TimeLimit,
        EndReason::Cancelled,
        EndReason::StartFailed,
        EndReason::Evicted,
        EndReason::Refused { for_good: false },
        EndReason::Refused { for_good: true },
        EndReason::NodeLost,
        EndReason::NodeRebooted,
        EndReason::Signalled { signal: 15 },
    ];

    #[test]
    fn every_end_of_an_attempt_has_its_consequence() {
        let waiting = WorkerStage::Waiting;
        // With a retry left, with none left, and when the job is ending already.
        let table: [(WorkerStage, u32, WorkerStage); 13] = [
            (WorkerStage::Succeeded, 0, WorkerStage::Succeeded),
            (waiting, 1, WorkerStage::Failed(3)),
            (waiting, 1, WorkerStage::Failed(137)),
            (waiting, 1, WorkerStage::Failed(137)),
            (waiting, 1, WorkerStage::Failed(124)),
            (WorkerStage::Failed(1), 0, WorkerStage::Failed(1)),
            (waiting, 1, WorkerStage::Failed(127)),
            (waiting, 0, waiting),
            (waiting, 0, waiting),
            (waiting, 0, waiting),
            (waiting, 0, waiting),
            (waiting, 0, waiting),
            (waiting, 1, WorkerStage::Failed(143)),
        ];
        for (reason, (with_retry, used, without)) in EVERY_REASON.into_iter().zip(table) {
            let worker = WorkerRow {
                attempts: 1,
                retries_used: 0,
                stage: waiting,
            };
            let next = after(worker, reason, true, 1);
            assert_eq!((next.stage, next.retries_used), (with_retry, used), "{reason}");
            assert_eq!(after(worker, reason, true, 0).stage, without, "{reason}");
            let ending = after(worker, reason, false, 1).stage;
            let expected = if reason.is_success() {
                WorkerStage::Succeeded
            } else {
                WorkerStage::Dropped
            };
            assert_eq!(ending, expected, "{reason}");
        }
    }
}
