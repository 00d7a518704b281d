//! What a job waits for before it is placed: other jobs, and a time.
//!
//! A job may only wait for jobs that are known, so nothing ever waits in a circle. A job that can never start, since
//! another ended otherwise, ends in the batch in which that became so: it failed, without an attempt, and why can be
//! told at any time from the two.

use std::collections::BTreeSet;

use loadline_model::{After, AfterJob, JobId, JobName, JobOutcome, JobPhase, JobSpec};
use loadline_placement::policy::{Dependency, DependencyProblem, Prerequisites, Ready};

use super::command::{JobRef, Now};
use super::refused::Refused;
use super::rows::{JobRow, JobStage, Verdict};
use super::tx::Tx;
use super::{Job, State};

/// What `fleet run` and `fleet wait` pass on of a job that could never start.
const NEVER_STARTED: u8 = 1;

/// Why a job is not placed, as data.
pub(crate) struct Waits {
    /// Stable.
    pub code: &'static str,
    /// For people.
    pub sentence: String,
    /// What changes it.
    pub advice: String,
}

impl State {
    fn job_of(&self, name: JobName) -> Option<&Job> {
        match name {
            JobName::Number(number) => self.find_job(JobRef::Number(number)).ok(),
            JobName::Id(id) => self.find_job(JobRef::Id(id)).ok(),
        }
    }

    fn prerequisites(&self, spec: &JobSpec) -> Prerequisites {
        let known = |after: &AfterJob| {
            let job = self.job_of(after.job)?;
            Some(Dependency {
                job: job.row.id,
                after: after.after,
            })
        };
        Prerequisites {
            jobs: spec.waits.after.iter().filter_map(known).collect(),
            start_after: spec.waits.start_after,
        }
    }

    /// Whether a job may start as far as others and its time are concerned.
    pub(crate) fn ready(&self, row: &JobRow) -> Ready {
        if row.spec.waits.after.is_empty() && row.spec.waits.start_after.is_none() {
            return Ready::Now;
        }
        let phase = |id: JobId| {
            let stage = self.jobs.get(&id)?.row.stage;
            Some(match stage {
                JobStage::Queued => JobPhase::Queued,
                JobStage::Running | JobStage::Ending(_) => JobPhase::Running,
                JobStage::Done(verdict, _) => JobPhase::Done(verdict.outcome),
            })
        };
        let mut prerequisites = self.prerequisites(&row.spec);
        if self.released.contains(&row.id) {
            prerequisites.start_after = None;
        }
        prerequisites.ready(phase, loadline_model::WallTime(i64::MIN))
    }

    /// Why a job that wants workers is not placed, if it is for another job or its time.
    pub(crate) fn waits(&self, row: &JobRow) -> Option<Waits> {
        let number = |id: JobId| self.jobs.get(&id).map_or(0, |job| job.row.number);
        match self.ready(row) {
            Ready::Now => None,
            Ready::On(Dependency { job, after }) => {
                let number = number(job);
                let (how, ended) = match after {
                    After::Ok => ("to end well", "has ended well"),
                    After::Any => ("to end", "has ended"),
                    After::NotOk => ("to fail", "has failed"),
                };
                Some(Waits {
                    code: "after_job",
                    sentence: format!("it waits for job {number} {how}"),
                    advice: format!("It is placed once job {number} {ended}."),
                })
            }
            Ready::At(at) => Some(Waits {
                code: "start_after",
                sentence: format!("it is not to start before {}", crate::clock::rfc3339(at)),
                advice: "It is placed once that time has come.".into(),
            }),
            Ready::Never(dependency) => Some(Waits {
                code: "after_job_never",
                sentence: self.never(dependency),
                advice: "It never starts: submit it again without that, or after another job.".into(),
            }),
        }
    }

    fn never(&self, Dependency { job, after }: Dependency) -> String {
        let Some(job) = self.jobs.get(&job) else {
            return "it was to start after a job that is not known any more".into();
        };
        let how = match job.row.stage {
            JobStage::Done(verdict, _) => match verdict.outcome {
                JobOutcome::Succeeded => "ended well",
                JobOutcome::Failed => "failed",
                JobOutcome::Cancelled => "was cancelled",
            },
            _ => "has not ended",
        };
        let wanted = match after {
            After::Ok => "has ended well",
            After::Any => "has ended",
            After::NotOk => "has failed",
        };
        let number = job.row.number;
        format!("it was to start once job {number} {wanted}, and job {number} {how}")
    }

    /// Why a job ended without having started, if it is for another job.
    pub(crate) fn never_started(&self, job: &Job) -> Option<String> {
        let failed = matches!(
            job.row.stage,
            JobStage::Done(
                Verdict {
                    outcome: JobOutcome::Failed,
                    ..
                },
                _
            )
        );
        if !failed || !job.attempts.is_empty() || job.row.spec.waits.after.is_empty() {
            return None;
        }
        match self.ready(&job.row) {
            Ready::Never(dependency) => Some(self.never(dependency)),
            _ => None,
        }
    }

    /// The jobs that wait for a job, by either of its names.
    pub(crate) fn waiting_for(&self, row: &JobRow) -> BTreeSet<JobId> {
        let names = [JobName::Number(row.number), JobName::Id(row.id)];
        let found = names.iter().filter_map(|name| self.dependents.get(name));
        found.flatten().copied().collect()
    }

    /// The jobs that a job waits for.
    pub(crate) fn waited_for(&self, row: &JobRow) -> Vec<JobId> {
        let waited = row
            .spec
            .waits
            .after
            .iter()
            .filter_map(|after| self.job_of(after.job));
        waited.map(|job| job.row.id).collect()
    }

    /// Keeps who waits for whom, and for what time.
    pub(crate) fn index_waits(&mut self, row: &JobRow, known: bool) {
        for after in &row.spec.waits.after {
            let waiting = self.dependents.entry(after.job).or_default();
            if known {
                waiting.insert(row.id);
            } else {
                waiting.remove(&row.id);
            }
            if waiting.is_empty() {
                self.dependents.remove(&after.job);
            }
        }
        if let Some(at) = row.spec.waits.start_after {
            if known {
                self.timed.insert((at, row.id));
            } else {
                self.timed.remove(&(at, row.id));
                self.released.remove(&row.id);
            }
        }
    }

    /// Marks the jobs whose time has come. One whose time has come stays so, whatever the wall clock does then.
    pub(crate) fn notice_time(&mut self, now: Now) {
        while let Some((at, id)) = self.timed.first().copied()
            && at <= now.wall
        {
            self.timed.pop_first();
            self.released.insert(id);
            self.touched.job(id);
        }
    }
}

impl Tx<'_> {
    /// Refuses a job that waits for itself or for one that its submitter does not know.
    pub(crate) fn check_waits(&self, by: &str, team: &str, id: JobId, spec: &JobSpec) -> Result<(), Refused> {
        for after in &spec.waits.after {
            if after.job == JobName::Id(id) {
                // Whoever is known waits for others that were known before: this is the only circle there can be.
                return Err(Refused::Dependency(
                    DependencyProblem::Circle(vec![id]).to_string(),
                ));
            }
            let known = self.state.job_of(after.job);
            let theirs = |job: &&Job| {
                let submitter = &job.row.submitter;
                *submitter.user == *by || (!team.is_empty() && *submitter.team == *team)
            };
            if known.filter(theirs).is_none() {
                return Err(Refused::DependencyUnknown(after.job.to_string()));
            }
        }
        Ok(())
    }

    /// Ends the jobs that can never start, since others have ended, and those that wait for them in turn.
    pub(crate) fn end_never_starting(&mut self) {
        while let Some(ended) = self.state.ended.pop() {
            let Some(job) = self.state.jobs.get(&ended) else {
                continue;
            };
            for id in self.state.waiting_for(&job.row) {
                let Some(waiting) = self.state.jobs.get(&id) else {
                    continue;
                };
                let row = &waiting.row;
                if row.stage.is_open() && matches!(self.state.ready(row), Ready::Never(_)) {
                    self.log("job_never_starts", "fleet", row.number, ended);
                    let outcome = JobOutcome::Failed;
                    let exit_code = NEVER_STARTED;
                    self.wind_down(id, Verdict { outcome, exit_code });
                }
            }
        }
    }
}
