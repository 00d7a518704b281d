//! The generated service traits, filled: convert, call [`Edge`](super::Edge), convert back.

mod access;
mod admin;
mod jobs;
mod nodes;
mod sharing;

pub(super) use access::AccessService;
pub(super) use admin::AdminService;
pub(super) use jobs::JobsService;
pub(super) use nodes::NodesService;
pub(super) use sharing::SharingService;

pub(super) use loadline_proto::fleet::v1::access_server::AccessServer;
pub(super) use loadline_proto::fleet::v1::admin_server::AdminServer;
pub(super) use loadline_proto::fleet::v1::jobs_server::JobsServer;
pub(super) use loadline_proto::fleet::v1::nodes_server::NodesServer;
pub(super) use loadline_proto::fleet::v1::sharing_server::SharingServer;

use tonic::{Response, Status};

use super::call::RequestId;
use super::failure::Failure;

/// Runs a call's body and gives its failure the call's id.
pub(super) async fn answer<T>(
    id: &RequestId,
    body: impl Future<Output = Result<T, Failure>>,
) -> Result<Response<T>, Status> {
    body.await
        .map(Response::new)
        .map_err(|failure| failure.into_status(&id.0))
}
