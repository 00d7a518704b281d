//! What people do with jobs.

use loadline_model::{JobId, JobSpec};

use super::Edge;
use super::call::{Call, Change};
use super::failure::Failure;
use crate::state::{Command, Explanation, JobDetail, JobRef, JobSummary, Reply};
use crate::trust::{Action, Actor, Role};

impl Edge {
    /// A job with everything, if the caller may see it.
    pub(super) async fn see_job(&self, call: &Call, job: JobRef) -> Result<JobDetail, Failure> {
        let detail = self.fleet.read(move |state, now| state.job(job, now)).await??;
        call.may(Action::SeeJob {
            owner: &detail.summary.user,
        })?;
        Ok(detail)
    }

    pub(super) async fn submit_job(&self, call: &Call, job: JobId, spec: JobSpec) -> Result<u64, Failure> {
        let (change, command) = submission(call, job, spec)?;
        number(self.change(call, change, command).await?)
    }

    /// Many jobs in their order, so that they share commits; each is recorded and answered as if it had come alone.
    pub(super) async fn submit_jobs(
        &self,
        call: &Call,
        jobs: Vec<Result<(JobId, JobSpec), Failure>>,
    ) -> Vec<Result<u64, Failure>> {
        let mut begun = Vec::with_capacity(jobs.len());
        for job in jobs {
            begun.push(match job.and_then(|(job, spec)| submission(call, job, spec)) {
                Ok((change, command)) => self.begin(call, change, command).await,
                Err(failure) => Err(failure),
            });
        }
        let mut answers = Vec::with_capacity(begun.len());
        for begun in begun {
            answers.push(match begun {
                Ok(begun) => self.finish(begun).await.and_then(number),
                Err(failure) => Err(failure),
            });
        }
        answers
    }

    pub(super) async fn cancel_job(&self, call: &Call, job: JobRef) -> Result<JobSummary, Failure> {
        let detail = self.fleet.read(move |state, now| state.job(job, now)).await??;
        let owner = detail.summary.user;
        let by = call.person()?;
        let change = Change {
            action: Action::CancelJob { owner: &owner },
            word: "job.cancel",
            object: format!("job/{}", detail.summary.id),
        };
        match self.change(call, change, Command::Cancel { by, job }).await? {
            Reply::Job(summary) => Ok(*summary),
            _ => Err(Failure::internal(
                "a cancellation was answered with something else",
            )),
        }
    }

    /// A user sees their own jobs; the others may choose whose.
    pub(super) async fn list_jobs(
        &self,
        call: &Call,
        all: bool,
        user: String,
    ) -> Result<Vec<JobSummary>, Failure> {
        call.may(Action::ListJobs)?;
        let only = match &call.actor {
            Actor::Person {
                name,
                role: Role::User,
            } => name.clone(),
            _ => user,
        };
        let mut jobs = self.fleet.read(move |state, _| state.jobs(all)).await?;
        jobs.retain(|job| only.is_empty() || job.user == only);
        Ok(jobs)
    }

    pub(super) async fn explain_job(&self, call: &Call, job: JobRef) -> Result<Explanation, Failure> {
        self.see_job(call, job).await?;
        Ok(self
            .fleet
            .read(move |state, now| state.explain(job, now))
            .await??)
    }
}

fn submission(call: &Call, job: JobId, spec: JobSpec) -> Result<(Change<'static>, Command), Failure> {
    let by = call.person()?;
    let change = Change {
        action: Action::SubmitJob,
        word: "job.submit",
        object: format!("job/{job}"),
    };
    Ok((change, Command::Submit { by, job, spec }))
}

fn number(reply: Reply) -> Result<u64, Failure> {
    match reply {
        Reply::Submitted { number, .. } => Ok(number),
        _ => Err(Failure::internal("a submission was answered with something else")),
    }
}
