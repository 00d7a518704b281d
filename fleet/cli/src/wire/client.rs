//! A connection to fleetd and the calls on it. Connects once; who wants another connection asks for one.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use loadline_model::{JobId, JobSpec};
use loadline_proto::fleet::v1 as pb;
use loadline_proto::fleet::v1::{
    admin_client::AdminClient, jobs_client::JobsClient, nodes_client::NodesClient,
    sharing_client::SharingClient,
};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::failure::CallError;
use super::job::{self, JobRef, JobUpdate, LogBatch};
use super::{node, spec};
use crate::tls;
use crate::view::{Explained, JobRow, JobView, NodeRow, NodeView, ReceiptRow, Submitted};

/// A connection that died without a word is noticed after two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// fleetd, connected.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) jobs: JobsClient<Channel>,
    pub(super) nodes: NodesClient<Channel>,
    pub(super) admin: AdminClient<Channel>,
    pub(super) sharing: SharingClient<Channel>,
}

/// Which logs.
#[derive(Debug, Clone, Copy)]
pub struct LogQuery {
    /// Of which job.
    pub job: JobRef,
    /// Of which worker; none: all.
    pub worker: Option<u32>,
    /// Go on until the job ends.
    pub follow: bool,
    /// Only the last lines.
    pub tail: Option<u32>,
}

/// Answers that come one by one.
#[derive(Debug)]
pub struct Stream<W, T> {
    wire: Streaming<W>,
    view: fn(W) -> Result<T, CallError>,
}

/// What happens to a job.
pub type JobEvents = Stream<pb::JobEvent, JobUpdate>;
/// What its workers write.
pub type LogBatches = Stream<pb::LogsReply, LogBatch>;

impl<W, T> Stream<W, T> {
    /// The next answer; none: there are no more.
    ///
    /// # Errors
    /// When the call fails or the connection breaks.
    pub async fn next(&mut self) -> Result<Option<T>, CallError> {
        self.wire.message().await?.map(self.view).transpose()
    }
}

/// HTTP/2 on a connection that exists already.
pub(super) async fn channel(stream: tls::Stream) -> Result<Channel, CallError> {
    // The channel would connect again by itself; it gets this one connection and no other, so that every
    // failure to connect is seen where it can be told well.
    let slot = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = service_fn(move |_| {
        let stream = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    Endpoint::from_static("http://fleetd.loadline")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|error| CallError::from(tonic::Status::from_error(Box::new(error))))
}

impl Client {
    /// Takes over a connection.
    ///
    /// # Errors
    /// When the other side does not speak HTTP/2.
    pub async fn new(stream: tls::Stream) -> Result<Self, CallError> {
        let channel = channel(stream).await?;
        Ok(Self {
            jobs: JobsClient::new(channel.clone()),
            nodes: NodesClient::new(channel.clone()),
            admin: AdminClient::new(channel.clone()),
            sharing: SharingClient::new(channel),
        })
    }

    /// Submits a job.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn submit(&mut self, id: JobId, job: &JobSpec) -> Result<Submitted, CallError> {
        let reply = self.jobs.submit(submission(id, job)).await?.into_inner();
        Ok(Submitted {
            job_id: id.to_string(),
            job: reply.number,
        })
    }

    /// Submits a job and watches it.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn run(&mut self, id: JobId, job: &JobSpec) -> Result<JobEvents, CallError> {
        let wire = self.jobs.run(submission(id, job)).await?.into_inner();
        Ok(Stream {
            wire,
            view: job::update,
        })
    }

    /// Watches a job: as it is now, then every change, until it is done.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn watch(&mut self, job: JobRef) -> Result<JobEvents, CallError> {
        let wire = self.jobs.watch(pb::JobRef::from(job)).await?.into_inner();
        Ok(Stream {
            wire,
            view: job::update,
        })
    }

    /// Lists jobs.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn jobs(&mut self, all: bool, user: Option<String>) -> Result<Vec<JobRow>, CallError> {
        let request = pb::ListJobsRequest {
            all,
            user: user.unwrap_or_default(),
        };
        let reply = self.jobs.list(request).await?.into_inner();
        reply
            .jobs
            .into_iter()
            .map(|summary| job::row(Some(summary)))
            .collect()
    }

    /// Shows one job.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn job(&mut self, job: JobRef) -> Result<JobView, CallError> {
        job::detail(self.jobs.get(pb::JobRef::from(job)).await?.into_inner())
    }

    /// Ends one job.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn cancel(&mut self, job: JobRef) -> Result<JobRow, CallError> {
        job::row(
            self.jobs
                .cancel(pb::JobRef::from(job))
                .await?
                .into_inner()
                .summary,
        )
    }

    /// Says why a job waits.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn explain(&mut self, job: JobRef) -> Result<Explained, CallError> {
        job::explanation(self.jobs.explain(pb::JobRef::from(job)).await?.into_inner())
    }

    /// Reads logs.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn logs(&mut self, query: LogQuery) -> Result<LogBatches, CallError> {
        let request = pb::LogsRequest {
            job: Some(query.job.into()),
            worker: query.worker,
            follow: query.follow,
            tail: query.tail,
        };
        let wire = self.jobs.logs(request).await?.into_inner();
        Ok(Stream {
            wire,
            view: |reply| Ok(job::logs(reply)),
        })
    }

    /// Lists nodes.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn nodes(&mut self) -> Result<Vec<NodeRow>, CallError> {
        let reply = self.nodes.list(pb::ListNodesRequest {}).await?.into_inner();
        Ok(reply.nodes.iter().map(node::row).collect())
    }

    /// Shows one node.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn node(&mut self, name: &str) -> Result<NodeView, CallError> {
        node::detail(self.nodes.get(node_ref(name)).await?.into_inner())
    }

    /// The newest receipts of a node, or of all: at most so many, oldest first.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn receipts(&mut self, node: Option<String>, last: u32) -> Result<Vec<ReceiptRow>, CallError> {
        let request = pb::ReceiptsRequest {
            node: node.unwrap_or_default(),
            last,
        };
        let reply = self.nodes.receipts(request).await?.into_inner();
        reply.receipts.into_iter().map(node::receipt_row).collect()
    }
}

pub(super) fn node_ref(name: &str) -> pb::NodeRef {
    pb::NodeRef { name: name.into() }
}

pub(super) fn node_row(reply: pb::NodeReply) -> Result<NodeRow, CallError> {
    let summary = reply
        .summary
        .ok_or_else(|| CallError::strange("a node is missing"))?;
    Ok(node::row(&summary))
}

fn submission(id: JobId, job: &JobSpec) -> pb::SubmitRequest {
    pb::SubmitRequest {
        job_id: id.as_bytes().to_vec(),
        spec: Some(spec::to_wire(job)),
    }
}
