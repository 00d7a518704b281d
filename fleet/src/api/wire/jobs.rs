//! The service Jobs.

use std::pin::Pin;
use std::sync::Arc;

use loadline_model::{JobId, JobSpec};
use loadline_proto::fleet::v1 as fleet;
use loadline_proto::fleet::v1::jobs_server::Jobs;
use loadline_proto::fleet::v1::submitted::Outcome;
use loadline_proto::types::v1::ErrorInfo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::answer;
use crate::api::Edge;
use crate::api::call::{Call, RequestId};
use crate::api::failure::Failure;
use crate::api::logs::{LogPart, Wanted};
use crate::api::watch::Changes;
use crate::state::JobRef;
use crate::trust::Action;
use crate::wire;

/// Jobs in one message: some ten kilobytes, and a few of them fill a commit.
const MESSAGE_JOBS_MAX: usize = 100;

#[derive(Debug, Clone)]
pub(crate) struct JobsService(pub(crate) Arc<Edge>);

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl JobsService {
    async fn take(&self, call: &Call, request: fleet::SubmitRequest) -> Result<(JobId, u64), Failure> {
        let (job, spec) = read_submission(request)?;
        let number = self.0.submit_job(call, job, spec).await?;
        Ok((job, number))
    }
}

fn read_submission(request: fleet::SubmitRequest) -> Result<(JobId, JobSpec), Failure> {
    let job = wire::read_job_id("job_id", &request.job_id)?;
    let spec = wire::read_spec(request.spec.ok_or(wire::WireError::Missing("spec"))?)?;
    Ok((job, spec))
}

/// Answers message after message, until the caller has said all or the connection reaches its age.
async fn take_many(
    edge: Arc<Edge>,
    mut call: Call,
    mut messages: Streaming<fleet::SubmitManyRequest>,
    replies: mpsc::Sender<Result<fleet::SubmitManyReply, Status>>,
) {
    loop {
        // Both arms are cancel-safe: the stream is not used again once the other arm has won.
        let message = tokio::select! {
            message = messages.message() => message,
            _ = call.drain.wait_for(|drain| *drain) => Err(Failure::draining().into_status(&call.id.0)),
        };
        let reply = match message {
            Ok(None) => return,
            Ok(Some(message)) => many(&edge, &call, message)
                .await
                .map_err(|failure| failure.into_status(&call.id.0)),
            Err(status) => Err(status),
        };
        let last = reply.is_err();
        if replies.send(reply).await.is_err() || last {
            return;
        }
    }
}

async fn many(
    edge: &Arc<Edge>,
    call: &Call,
    message: fleet::SubmitManyRequest,
) -> Result<fleet::SubmitManyReply, Failure> {
    let count = message.jobs.len();
    if count > MESSAGE_JOBS_MAX {
        let said = format!("{count} jobs in one message");
        let next_step = format!("send at most {MESSAGE_JOBS_MAX} in each, as many messages as it takes");
        return Err(Failure::invalid(said, next_step));
    }
    let jobs = message.jobs.into_iter().map(read_submission).collect();
    let answers = edge.submit_jobs(call, jobs).await;
    let outcome = |answer| match answer {
        Ok(number) => Outcome::Number(number),
        Err(failure) => Outcome::Refused(refused(failure, call)),
    };
    let jobs = answers.into_iter().map(outcome).map(|outcome| fleet::Submitted {
        outcome: Some(outcome),
    });
    Ok(fleet::SubmitManyReply { jobs: jobs.collect() })
}

fn refused(failure: Failure, call: &Call) -> fleet::SubmitRefused {
    let Failure {
        code: _,
        reason,
        message,
        next_step,
    } = failure;
    let info = ErrorInfo {
        reason: reason.to_owned(),
        next_step,
        request_id: call.id.0.clone(),
    };
    fleet::SubmitRefused {
        message,
        info: Some(info),
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
    type SubmitManyStream = Streamed<fleet::SubmitManyReply>;

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

    async fn submit_many(
        &self,
        request: Request<Streaming<fleet::SubmitManyRequest>>,
    ) -> Result<Response<Self::SubmitManyStream>, Status> {
        let call = self.0.call(&request)?;
        // One reply waits at most: who does not read its answers is not asked for more.
        let (replies, stream) = mpsc::channel(1);
        tokio::spawn(take_many(
            Arc::clone(&self.0),
            call,
            request.into_inner(),
            replies,
        ));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
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
