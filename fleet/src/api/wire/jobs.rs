//! The service Jobs.

use std::pin::Pin;
use std::sync::Arc;

use loadline_model::JobId;
use loadline_proto::fleet::v1 as fleet;
use loadline_proto::fleet::v1::jobs_server::Jobs;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::answer;
use crate::api::Edge;
use crate::api::call::{Call, RequestId};
use crate::api::failure::Failure;
use crate::api::logs::{LogPart, Wanted};
use crate::api::watch::Changes;
use crate::state::JobRef;
use crate::trust::Action;
use crate::wire;

#[derive(Debug, Clone)]
pub(crate) struct JobsService(pub(crate) Arc<Edge>);

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl JobsService {
    async fn take(&self, call: &Call, request: fleet::SubmitRequest) -> Result<(JobId, u64), Failure> {
        let job = wire::read_job_id("job_id", &request.job_id)?;
        let spec = wire::read_spec(request.spec.ok_or(wire::WireError::Missing("spec"))?)?;
        let number = self.0.submit_job(call, job, spec).await?;
        Ok((job, number))
    }
}

fn events(id: RequestId, changes: Changes) -> Streamed<fleet::JobEvent> {
    Box::pin(changes.map(move |change| match change {
        Ok(change) => Ok(wire::write_job_change(&change)),
        Err(failure) => Err(failure.into_status(&id.0)),
    }))
}

fn log_reply(part: LogPart) -> fleet::LogsReply {
    let LogPart {
        worker,
        attempt_number,
        lines,
        notice,
    } = part;
    fleet::LogsReply {
        worker,
        attempt_number,
        lines: lines.0,
        notice,
    }
}

#[tonic::async_trait]
impl Jobs for JobsService {
    type RunStream = Streamed<fleet::JobEvent>;
    type WatchStream = Streamed<fleet::JobEvent>;
    type LogsStream = Streamed<fleet::LogsReply>;

    async fn submit(
        &self,
        request: Request<fleet::SubmitRequest>,
    ) -> Result<Response<fleet::SubmitReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let (_, number) = self.take(&call, request.into_inner()).await?;
            Ok(fleet::SubmitReply { number })
        })
        .await
    }

    async fn run(&self, request: Request<fleet::SubmitRequest>) -> Result<Response<Self::RunStream>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let (job, _) = self.take(&call, request.into_inner()).await?;
            Ok(events(
                call.id.clone(),
                self.0.watch_job(&call, JobRef::Id(job)).await?,
            ))
        })
        .await
    }

    async fn list(
        &self,
        request: Request<fleet::ListJobsRequest>,
    ) -> Result<Response<fleet::ListJobsReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let fleet::ListJobsRequest { all, user } = request.into_inner();
            let jobs = self.0.list_jobs(&call, all, user).await?;
            Ok(fleet::ListJobsReply {
                jobs: jobs.iter().map(wire::write_job_summary).collect(),
            })
        })
        .await
    }

    async fn get(&self, request: Request<fleet::JobRef>) -> Result<Response<fleet::JobDetail>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let job = wire::read_job_ref(request.into_inner())?;
            Ok(wire::write_job_detail(&self.0.see_job(&call, job).await?))
        })
        .await
    }

    async fn watch(&self, request: Request<fleet::JobRef>) -> Result<Response<Self::WatchStream>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let job = wire::read_job_ref(request.into_inner())?;
            self.0.see_job(&call, job).await?;
            Ok(events(call.id.clone(), self.0.watch_job(&call, job).await?))
        })
        .await
    }

    async fn cancel(&self, request: Request<fleet::JobRef>) -> Result<Response<fleet::CancelReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let job = wire::read_job_ref(request.into_inner())?;
            let summary = self.0.cancel_job(&call, job).await?;
            Ok(fleet::CancelReply {
                summary: Some(wire::write_job_summary(&summary)),
            })
        })
        .await
    }

    async fn explain(&self, request: Request<fleet::JobRef>) -> Result<Response<fleet::Explanation>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let job = wire::read_job_ref(request.into_inner())?;
            Ok(wire::write_explanation(&self.0.explain_job(&call, job).await?))
        })
        .await
    }

    async fn logs(&self, request: Request<fleet::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let fleet::LogsRequest {
                job,
                worker,
                follow,
                tail,
            } = request.into_inner();
            let job = wire::read_job_ref(job.ok_or(wire::WireError::Missing("job"))?)?;
            let detail = self.0.see_job(&call, job).await?;
            call.may(Action::ReadLogs {
                owner: &detail.summary.user,
            })?;
            let id = call.id.clone();
            let parts = self.0.read_logs(&call, detail, Wanted { worker, follow, tail });
            let replies = parts.map(move |part| match part {
                Ok(part) => Ok(log_reply(part)),
                Err(failure) => Err(failure.into_status(&id.0)),
            });
            Ok(Box::pin(replies) as Self::LogsStream)
        })
        .await
    }
}
