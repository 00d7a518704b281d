//! From a connection to a service: by path, with the call's id, its time and outcome measured.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::Edge;
use super::call::RequestId;
use super::failure::Failure;
use super::wire::{
    AccessServer, AccessService, AdminServer, AdminService, JobsServer, JobsService, NodesServer,
    NodesService, SharingServer, SharingService,
};
use crate::session::{NodeSessionServer, NodeSessionService};
use crate::tls::{Peer, PeerBuckets, Rate};

/// A page of jobs or nodes of a large fleet.
const ANSWER_MAX: usize = 64 << 20;

/// Answers calls on port 7717.
pub fn session_service(
    edge: Arc<Edge>,
) -> impl Fn(Request<Incoming>) -> Answering + Clone + Send + Sync + 'static {
    let services = Arc::new(SessionServices {
        jobs: JobsServer::new(JobsService(edge.clone())).max_encoding_message_size(ANSWER_MAX),
        nodes: NodesServer::new(NodesService(edge.clone())).max_encoding_message_size(ANSWER_MAX),
        admin: AdminServer::new(AdminService(edge.clone())),
        sharing: SharingServer::new(SharingService(edge.clone())).max_encoding_message_size(ANSWER_MAX),
        session: NodeSessionServer::new(NodeSessionService(edge.clone())),
    });
    move |request| {
        let services = services.clone();
        measured(edge.clone(), request, move |service, request| match service {
            "loadline.fleet.v1.Jobs" => Some(call(services.jobs.clone(), request)),
            "loadline.fleet.v1.Nodes" => Some(call(services.nodes.clone(), request)),
            "loadline.fleet.v1.Sharing" => Some(call(services.sharing.clone(), request)),
            "loadline.fleet.v1.Admin" => Some(call(services.admin.clone(), request)),
            "loadline.node.v1.NodeSession" => Some(call(services.session.clone(), request)),
            _ => None,
        })
    }
}

struct SessionServices {
    jobs: JobsServer<JobsService>,
    nodes: NodesServer<NodesService>,
    admin: AdminServer<AdminService>,
    sharing: SharingServer<SharingService>,
    session: NodeSessionServer<NodeSessionService>,
}

/// People try a login a few times; whoever guesses tokens waits. Each guess costs a line of the audit log.
const NEWCOMER_CALLS: Rate = Rate {
    burst: 10,
    per_second: 1,
};

/// A secret, a name and a certificate request.
const NEWCOMER_MESSAGE_MAX: usize = 64 << 10;

/// Answers calls on port 7718.
pub fn access_service(
    edge: Arc<Edge>,
) -> impl Fn(Request<Incoming>) -> Answering + Clone + Send + Sync + 'static {
    let access =
        AccessServer::new(AccessService(edge.clone())).max_decoding_message_size(NEWCOMER_MESSAGE_MAX);
    let calls = Arc::new(Mutex::new(PeerBuckets::new(NEWCOMER_CALLS)));
    move |request| {
        if let Some(wait) = too_often(&calls, &request) {
            edge.metrics.auth_failure("rate_limited");
            return refuse(Failure::new(
                Code::ResourceExhausted,
                "RATE_LIMITED",
                "too many attempts from this address",
                format!("try again in {} s", wait.as_secs() + 1),
            ));
        }
        let access = access.clone();
        measured(edge.clone(), request, move |service, request| match service {
            "loadline.fleet.v1.Access" => Some(call(access, request)),
            _ => None,
        })
    }
}

/// An answer on its way.
pub(super) type Answering = std::pin::Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

fn call<S>(mut service: S, request: Request<Incoming>) -> Answering
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = std::convert::Infallible>,
    S::Future: Send + 'static,
{
    let answer = service.call(request);
    Box::pin(async move {
        match answer.await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    })
}

fn too_often(calls: &Mutex<PeerBuckets>, request: &Request<Incoming>) -> Option<Duration> {
    let address = request.extensions().get::<Peer>()?.address.ip();
    // Nothing under this lock can leave the buckets half-changed.
    let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    calls.take(address, Instant::now()).err()
}

fn refuse(failure: Failure) -> Answering {
    let status = failure.into_status(&RequestId::generate().0);
    Box::pin(std::future::ready(status.into_http()))
}

fn measured(
    edge: Arc<Edge>,
    mut request: Request<Incoming>,
    route: impl FnOnce(&str, Request<Incoming>) -> Option<Answering>,
) -> Answering {
    let id = RequestId::generate();
    request.extensions_mut().insert(id.clone());
    let path = request.uri().path().to_owned();
    let (service, method) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((&path, ""));
    let started = Instant::now();
    let Some(answer) = route(service, request) else {
        let failure = Failure::new(
            Code::Unimplemented,
            "UNKNOWN_SERVICE",
            "this port does not serve that",
            "use a client of the same minor version as fleetd; join and login have a port of their own",
        );
        return refuse(failure);
    };
    let label = format!("{}/{method}", service.rsplit('.').next().unwrap_or(service));
    Box::pin(async move {
        let answer = answer.await;
        let status = Status::from_header_map(answer.headers());
        let code = status.map_or(Code::Ok, |status| status.code());
        // An unknown method would make the label unbounded.
        if code != Code::Unimplemented {
            edge.metrics.rpc(&label, code_word(code), started.elapsed());
        }
        answer
    })
}

const fn code_word(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}
