//! A fleetd for tests: real TLS and real gRPC on a loopback port, answers from a script.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use loadline_proto::fleet::v1 as pb;
use loadline_proto::fleet::v1::{
    access_server::{Access, AccessServer},
    admin_server::{Admin, AdminServer},
    jobs_server::{Jobs, JobsServer},
    nodes_server::{Nodes, NodesServer},
    sharing_server::{Sharing, SharingServer},
};
use loadline_proto::types::v1::{self as types, ErrorInfo};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{Service, http};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Code, Request, Response, Status};
use tower::service_fn;

use crate::authority::Authority;

/// What a stream says next.
#[derive(Debug)]
pub(crate) enum Step<T> {
    Say(T),
    Fail(Status),
    /// Cuts the connection.
    Cut,
    /// Says nothing more and stays open.
    Hang,
}

pub(crate) type Episode<T> = Vec<Step<T>>;

/// What the fleet answers, and what it was asked.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// One episode for each time a job is run or watched.
    pub(crate) events: VecDeque<Episode<pb::JobEvent>>,
    /// One episode for each time logs are read.
    pub(crate) logs: VecDeque<Episode<pb::LogsReply>>,
    /// What every other call fails with.
    pub(crate) refuse: Option<Status>,
    pub(crate) submitted: Vec<pb::SubmitRequest>,
    pub(crate) asked: Vec<String>,
    pub(crate) nodes: Vec<pb::NodeSummary>,
    /// What is seen of a node's test, one after the other; the last one stays.
    pub(crate) proves: VecDeque<pb::ProveReply>,
    pub(crate) explanation: pb::Explanation,
    pub(crate) clock_us: i64,
}

#[derive(Clone)]
pub(crate) struct Fake {
    script: Arc<Mutex<Script>>,
    authority: Arc<Authority>,
    cut: mpsc::Sender<()>,
    pub(crate) address: SocketAddr,
}

/// A status as fleetd sends it.
pub(crate) fn refusal(code: Code, sentence: &str, next_step: &str) -> Status {
    let info = ErrorInfo {
        reason: "TEST".into(),
        next_step: next_step.into(),
        request_id: "r-1".into(),
    };
    Status::with_details(code, sentence, info.encode_to_vec().into())
}

impl Fake {
    /// A fleet whose authority knows the people of `people`.
    pub(crate) async fn start(authority: Arc<Authority>, people: Option<&Authority>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, cuts) = mpsc::channel(8);
        tokio::spawn(relay(listener, inner.local_addr().unwrap(), cuts));
        let tls = authority.server(people);
        let fake = Self {
            script: Arc::new(Mutex::new(script)),
            authority,
            cut,
            address,
        };
        let incoming = accepted(inner, TlsAcceptor::from(tls));
        tokio::spawn(Server::builder().serve_with_incoming(by_path(&fake), incoming));
        fake
    }

    pub(crate) fn script<T>(&self, look: impl FnOnce(&mut Script) -> T) -> T {
        look(&mut self.script.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn asked(&self, what: impl Into<String>) -> Result<(), Status> {
        self.script(|script| {
            script.asked.push(what.into());
            script.refuse.clone().map_or(Ok(()), Err)
        })
    }

    fn play<T: Send + 'static>(&self, episode: Option<Episode<T>>) -> ReceiverStream<Result<T, Status>> {
        let (say, heard) = mpsc::channel(16);
        let cut = self.cut.clone();
        tokio::spawn(async move {
            for step in episode.unwrap_or_default() {
                let sent = match step {
                    Step::Say(value) => say.send(Ok(value)).await,
                    Step::Fail(status) => say.send(Err(status)).await,
                    Step::Cut => {
                        // What was said before has to leave the machine first.
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        let _ = cut.send(()).await;
                        return;
                    }
                    Step::Hang => {
                        say.closed().await;
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        });
        ReceiverStream::new(heard)
    }

    fn see_test(&self) -> Answer<pb::ProveReply> {
        let next = self.script(|script| match script.proves.len() {
            0 | 1 => script.proves.front().cloned(),
            _ => script.proves.pop_front(),
        });
        Ok(Response::new(next.unwrap_or_default()))
    }

    fn summary(&self) -> pb::JobSummary {
        let explained = self.script(|script| script.explanation.summary.clone());
        explained.unwrap_or_else(|| summary(pb::JobPhase::Running))
    }
}

type Call = http::Request<tonic::body::Body>;
type Done = Result<http::Response<tonic::body::Body>, Infallible>;

/// Each call to its service.
fn by_path(
    fake: &Fake,
) -> impl Service<Call, Response = http::Response<tonic::body::Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let fake = fake.clone();
    service_fn(move |call: Call| {
        let fake = fake.clone();
        async move {
            let done: Done = match call.uri().path().split('/').nth(1) {
                Some("loadline.fleet.v1.Jobs") => JobsServer::new(fake).call(call).await,
                Some("loadline.fleet.v1.Nodes") => NodesServer::new(fake).call(call).await,
                Some("loadline.fleet.v1.Sharing") => SharingServer::new(fake).call(call).await,
                Some("loadline.fleet.v1.Admin") => AdminServer::new(fake).call(call).await,
                _ => AccessServer::new(fake).call(call).await,
            };
            done
        }
    })
}

/// Passes bytes on until told to cut every connection.
async fn relay(listener: TcpListener, inner: SocketAddr, mut cuts: mpsc::Receiver<()>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut outside, _) = accepted.unwrap();
                open.spawn(async move {
                    let mut inside = TcpStream::connect(inner).await.unwrap();
                    let (mut from_client, mut to_client) = outside.split();
                    let (mut from_fleet, mut to_fleet) = inside.split();
                    // Each way by itself: what fleetd said last arrives also when it takes nothing any more.
                    let up = async {
                        let _ = tokio::io::copy(&mut from_client, &mut to_fleet).await;
                        let _ = to_fleet.shutdown().await;
                    };
                    let down = async {
                        let _ = tokio::io::copy(&mut from_fleet, &mut to_client).await;
                        let _ = to_client.shutdown().await;
                    };
                    tokio::join!(up, down);
                });
            }
            Some(()) = cuts.recv() => open.abort_all(),
        }
    }
}

struct Tls(TlsStream<TcpStream>);

impl Connected for Tls {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Tls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn accepted(listener: TcpListener, acceptor: TlsAcceptor) -> impl Stream<Item = std::io::Result<Tls>> {
    let (send, receive) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A failed handshake ends this connection and no other.
            if let Ok(stream) = acceptor.accept(stream).await {
                let _ = send.send(Ok(Tls(stream))).await;
            }
        }
    });
    ReceiverStream::new(receive)
}

pub(crate) fn summary(phase: pb::JobPhase) -> pb::JobSummary {
    pb::JobSummary {
        job_id: vec![7; 16],
        number: 412,
        name: "train".into(),
        user: "ada".into(),
        tier: types::Tier::Standard.into(),
        phase: phase.into(),
        workers_max: 1,
        workers_running: u32::from(phase == pb::JobPhase::Running),
        submitted_at_us: 1_700_000_000_000_000,
        started_at_us: (phase != pb::JobPhase::Queued).then_some(1_700_000_001_000_000),
        ended_at_us: None,
        exit_code: None,
        waiting_for: String::new(),
        never_started: String::new(),
        team: String::new(),
        priority: 0,
    }
}

pub(crate) fn attempt(phase: types::AttemptPhase) -> pb::Attempt {
    pb::Attempt {
        attempt_id: vec![9; 16],
        worker: 0,
        number: 1,
        node: "n1".into(),
        phase: phase.into(),
        placement: Some(types::Placement {
            cpus: "0-1".into(),
            exclusive: true,
            ..Default::default()
        }),
        ended: None,
        assigned_at_us: 1_700_000_000_500_000,
        running_at_us: Some(1_700_000_001_000_000),
        node_silent: false,
    }
}

pub(crate) fn event(summary: pb::JobSummary, changed: Vec<pb::Attempt>) -> Step<pb::JobEvent> {
    Step::Say(pb::JobEvent {
        summary: Some(summary),
        changed,
    })
}

pub(crate) fn lines(texts: &[(i64, bool, &str)]) -> Step<pb::LogsReply> {
    let line = |(at_us, stderr, text): &(i64, bool, &str)| types::LogLine {
        at_us: *at_us,
        stderr: *stderr,
        text: text.as_bytes().to_vec(),
        by_warden: false,
    };
    Step::Say(pb::LogsReply {
        worker: 0,
        attempt_number: 1,
        lines: texts.iter().map(line).collect(),
        notice: String::new(),
    })
}

/// What Loadline says about the worker between its lines.
pub(crate) fn remark(at_us: i64, text: &str) -> Step<pb::LogsReply> {
    Step::Say(pb::LogsReply {
        worker: 0,
        attempt_number: 1,
        lines: vec![types::LogLine {
            at_us,
            stderr: true,
            text: text.as_bytes().to_vec(),
            by_warden: true,
        }],
        notice: String::new(),
    })
}

fn name_of(job: &pb::JobRef) -> String {
    match &job.r#ref {
        Some(pb::job_ref::Ref::Number(number)) => number.to_string(),
        Some(pb::job_ref::Ref::JobId(id)) => format!("id {}", id.len()),
        None => "nothing".into(),
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Jobs for Fake {
    async fn submit(&self, request: Request<pb::SubmitRequest>) -> Answer<pb::SubmitReply> {
        self.asked("submit")?;
        self.script(|script| script.submitted.push(request.into_inner()));
        Ok(Response::new(pb::SubmitReply { number: 412 }))
    }

    type SubmitManyStream = ReceiverStream<Result<pb::SubmitManyReply, Status>>;
    async fn submit_many(
        &self,
        _: Request<tonic::Streaming<pb::SubmitManyRequest>>,
    ) -> Answer<Self::SubmitManyStream> {
        Err(Status::unimplemented("no command submits many"))
    }

    type RunStream = ReceiverStream<Result<pb::JobEvent, Status>>;
    async fn run(&self, request: Request<pb::SubmitRequest>) -> Answer<Self::RunStream> {
        self.asked("run")?;
        self.script(|script| script.submitted.push(request.into_inner()));
        let episode = self.script(|script| script.events.pop_front());
        Ok(Response::new(self.play(episode)))
    }

    async fn list(&self, request: Request<pb::ListJobsRequest>) -> Answer<pb::ListJobsReply> {
        self.asked(format!("jobs {:?}", request.into_inner()))?;
        Ok(Response::new(pb::ListJobsReply {
            jobs: vec![self.summary()],
        }))
    }

    async fn get(&self, request: Request<pb::JobRef>) -> Answer<pb::JobDetail> {
        self.asked(format!("get {}", name_of(request.get_ref())))?;
        let summary = Some(self.summary());
        Ok(Response::new(pb::JobDetail {
            summary,
            ..Default::default()
        }))
    }

    type WatchStream = ReceiverStream<Result<pb::JobEvent, Status>>;
    async fn watch(&self, request: Request<pb::JobRef>) -> Answer<Self::WatchStream> {
        self.asked(format!("watch {}", name_of(request.get_ref())))?;
        let episode = self.script(|script| script.events.pop_front());
        Ok(Response::new(self.play(episode)))
    }

    async fn cancel(&self, request: Request<pb::JobRef>) -> Answer<pb::CancelReply> {
        self.asked(format!("cancel {}", name_of(request.get_ref())))?;
        let summary = Some(self.summary());
        Ok(Response::new(pb::CancelReply { summary }))
    }

    async fn explain(&self, request: Request<pb::JobRef>) -> Answer<pb::Explanation> {
        self.asked(format!("explain {}", name_of(request.get_ref())))?;
        Ok(Response::new(self.script(|script| script.explanation.clone())))
    }

    type LogsStream = ReceiverStream<Result<pb::LogsReply, Status>>;
    async fn logs(&self, request: Request<pb::LogsRequest>) -> Answer<Self::LogsStream> {
        self.asked(format!("logs worker {:?}", request.get_ref().worker))?;
        let episode = self.script(|script| script.logs.pop_front());
        Ok(Response::new(self.play(episode)))
    }
}

#[tonic::async_trait]
impl Nodes for Fake {
    async fn list(&self, _: Request<pb::ListNodesRequest>) -> Answer<pb::ListNodesReply> {
        self.asked("nodes")?;
        let nodes = self.script(|script| script.nodes.clone());
        Ok(Response::new(pb::ListNodesReply { nodes }))
    }

    async fn get(&self, request: Request<pb::NodeRef>) -> Answer<pb::NodeDetail> {
        self.asked(format!("node {}", request.get_ref().name))?;
        let summary = self.script(|script| script.nodes.first().cloned());
        Ok(Response::new(pb::NodeDetail {
            summary,
            ..Default::default()
        }))
    }

    async fn receipts(&self, request: Request<pb::ReceiptsRequest>) -> Answer<pb::ReceiptsReply> {
        let pb::ReceiptsRequest { node, last } = request.into_inner();
        self.asked(format!("receipts of {node:?}, {last}"))?;
        Ok(Response::new(pb::ReceiptsReply::default()))
    }

    async fn drain(&self, request: Request<pb::NodeRef>) -> Answer<pb::NodeReply> {
        self.steered("drain", request)
    }

    async fn resume(&self, request: Request<pb::NodeRef>) -> Answer<pb::NodeReply> {
        self.steered("resume", request)
    }

    async fn forget(&self, request: Request<pb::NodeRef>) -> Answer<pb::NodeReply> {
        self.steered("forget", request)
    }

    async fn set_ceiling(&self, request: Request<pb::SetCeilingRequest>) -> Answer<pb::NodeReply> {
        let pb::SetCeilingRequest {
            name,
            mode,
            line_per_mille,
        } = request.into_inner();
        self.asked(format!("ceiling {name} {mode:?} {line_per_mille:?}"))?;
        let summary = self.script(|script| script.nodes.first().cloned());
        Ok(Response::new(pb::NodeReply { summary }))
    }

    async fn mark(&self, request: Request<pb::MarkRequest>) -> Answer<pb::NodeReply> {
        let pb::MarkRequest { name, labels, taints } = request.into_inner();
        self.asked(format!("mark {name} {labels:?} {taints:?}"))?;
        let summary = self.script(|script| script.nodes.first().cloned());
        Ok(Response::new(pb::NodeReply { summary }))
    }

    async fn headroom(&self, request: Request<pb::HeadroomRequest>) -> Answer<pb::HeadroomReply> {
        self.asked(format!("headroom {:?}", request.get_ref().node))?;
        let nodes = self.script(|script| script.nodes.clone());
        let of = |summary: pb::NodeSummary| pb::NodeHeadroom {
            summary: Some(summary),
            week: None,
        };
        let nodes = nodes.into_iter().map(of).collect();
        Ok(Response::new(pb::HeadroomReply { nodes }))
    }

    async fn prove(&self, request: Request<pb::ProveRequest>) -> Answer<pb::ProveReply> {
        let pb::ProveRequest { name, ask } = request.into_inner();
        let ask = ask.unwrap_or_default();
        self.asked(format!(
            "prove {name} {} {}/s {:?} {}x{}us of {}us {}",
            ask.stand_in,
            ask.rate_per_s,
            ask.resources,
            ask.rounds,
            ask.round_us,
            ask.limit_us,
            ask.with_workers
        ))?;
        self.see_test()
    }

    async fn stop_prove(&self, request: Request<pb::NodeRef>) -> Answer<pb::ProveReply> {
        self.asked(format!("stop prove {}", request.get_ref().name))?;
        self.see_test()
    }

    async fn see_prove(&self, request: Request<pb::SeeProveRequest>) -> Answer<pb::ProveReply> {
        let pb::SeeProveRequest { name, report } = request.into_inner();
        self.asked(format!("see prove {name} {report}"))?;
        self.see_test()
    }

    async fn ban(&self, request: Request<pb::NodeRef>) -> Answer<pb::NodeReply> {
        self.steered("ban", request)
    }
}

impl Fake {
    fn steered(&self, what: &str, request: Request<pb::NodeRef>) -> Answer<pb::NodeReply> {
        self.asked(format!("{what} {}", request.get_ref().name))?;
        let summary = self.script(|script| script.nodes.first().cloned());
        Ok(Response::new(pb::NodeReply { summary }))
    }

    fn person(&self, what: &str, request: Request<pb::UserRef>) -> Answer<pb::User> {
        self.asked(format!("{what} {}", request.get_ref().name))?;
        Ok(Response::new(pb::User {
            name: request.into_inner().name,
            role: "user".into(),
            unix_account: "ada".into(),
            team: String::new(),
            banned: what == "ban",
        }))
    }

    fn new_token(&self) -> pb::TokenReply {
        pb::TokenReply {
            token: "LLN1.abc".into(),
            expires_us: loadline_cli::clock::now().0 + 600_000_000,
            command: "sudo loadline-agent join LLN1.abc".into(),
            token_id: "t1".into(),
        }
    }
}

#[tonic::async_trait]
impl Admin for Fake {
    async fn who_am_i(&self, _: Request<pb::WhoAmIRequest>) -> Answer<pb::Identity> {
        self.asked("who am i")?;
        Ok(Response::new(pb::Identity {
            user: "ada".into(),
            role: "user".into(),
            unix_account: "ada".into(),
            team: "vision".into(),
            certificate_expires_us: loadline_cli::clock::now().0 + 12 * 3_600_000_000,
        }))
    }

    async fn fleet_status(&self, _: Request<pb::FleetStatusRequest>) -> Answer<pb::FleetStatusReply> {
        self.asked("status")?;
        Ok(Response::new(pb::FleetStatusReply {
            version: "0.1.0".into(),
            fleet_id: vec![1; 16],
            epoch: 1,
            nodes_ready: 2,
            nodes_silent: 0,
            jobs_queued: 1,
            jobs_running: 1,
            store: "SQLite, schema 1".into(),
            now_us: self.script(|script| script.clock_us),
        }))
    }

    async fn create_node_token(
        &self,
        request: Request<pb::CreateNodeTokenRequest>,
    ) -> Answer<pb::TokenReply> {
        let pb::CreateNodeTokenRequest { node, pool, life_us } = request.into_inner();
        self.asked(format!("node token {node} {pool} {life_us}"))?;
        Ok(Response::new(self.new_token()))
    }

    async fn create_login_token(
        &self,
        request: Request<pb::CreateLoginTokenRequest>,
    ) -> Answer<pb::TokenReply> {
        self.asked(format!("login token {}", request.into_inner().user))?;
        Ok(Response::new(self.new_token()))
    }

    async fn list_tokens(&self, _: Request<pb::ListTokensRequest>) -> Answer<pb::ListTokensReply> {
        self.asked("tokens")?;
        Ok(Response::new(pb::ListTokensReply::default()))
    }

    async fn revoke_token(&self, request: Request<pb::RevokeTokenRequest>) -> Answer<pb::RevokeTokenReply> {
        self.asked(format!("revoke {}", request.into_inner().token_id))?;
        Ok(Response::new(pb::RevokeTokenReply {}))
    }

    async fn add_user(&self, request: Request<pb::AddUserRequest>) -> Answer<pb::User> {
        let pb::AddUserRequest {
            name,
            role,
            unix_account,
            team,
        } = request.into_inner();
        self.asked(format!("add {name} {role} {unix_account} {team}"))?;
        Ok(Response::new(pb::User {
            name,
            role,
            unix_account,
            team,
            banned: false,
        }))
    }

    async fn list_users(&self, _: Request<pb::ListUsersRequest>) -> Answer<pb::ListUsersReply> {
        self.asked("users")?;
        Ok(Response::new(pb::ListUsersReply::default()))
    }

    async fn get_user(&self, request: Request<pb::UserRef>) -> Answer<pb::UserDetail> {
        let user = self.person("show", request)?.into_inner();
        Ok(Response::new(pb::UserDetail {
            user: Some(user),
            ..Default::default()
        }))
    }

    async fn set_user(&self, request: Request<pb::SetUserRequest>) -> Answer<pb::User> {
        let pb::SetUserRequest { name, team, role } = request.into_inner();
        self.asked(format!("set {name} {team:?} {role:?}"))?;
        Ok(Response::new(pb::User {
            name,
            role: role.unwrap_or_default(),
            team: team.unwrap_or_default(),
            ..Default::default()
        }))
    }

    async fn ban_user(&self, request: Request<pb::UserRef>) -> Answer<pb::User> {
        self.person("ban", request)
    }

    async fn unban_user(&self, request: Request<pb::UserRef>) -> Answer<pb::User> {
        self.person("unban", request)
    }
}

fn vision() -> pb::Team {
    pb::Team {
        name: "vision".into(),
        weight: 200,
        members: vec!["ada".into()],
        note: "5 CPUs are held where 4 CPUs are allowed".into(),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl Sharing for Fake {
    async fn list_teams(&self, _: Request<pb::ListTeamsRequest>) -> Answer<pb::ListTeamsReply> {
        self.asked("teams")?;
        Ok(Response::new(pb::ListTeamsReply {
            teams: vec![vision()],
        }))
    }

    async fn get_team(&self, request: Request<pb::TeamRef>) -> Answer<pb::Team> {
        self.asked(format!("team {}", request.into_inner().name))?;
        Ok(Response::new(vision()))
    }

    async fn set_team(&self, request: Request<pb::SetTeamRequest>) -> Answer<pb::Team> {
        let pb::SetTeamRequest {
            name,
            weight,
            add,
            remove,
            windows,
            always,
        } = request.into_inner();
        self.asked(format!(
            "set team {name} {weight:?} +{add:?} -{remove:?} {windows:?} {always}"
        ))?;
        Ok(Response::new(vision()))
    }

    async fn remove_team(&self, request: Request<pb::TeamRef>) -> Answer<pb::RemoveTeamReply> {
        self.asked(format!("remove team {}", request.into_inner().name))?;
        Ok(Response::new(pb::RemoveTeamReply {}))
    }

    async fn set_quota(&self, request: Request<pb::SetQuotaRequest>) -> Answer<pb::Team> {
        let pb::SetQuotaRequest {
            team,
            set,
            lift,
            lift_all,
        } = request.into_inner();
        let set = set.unwrap_or_default();
        let (of_team, user) = (set.team.unwrap_or_default(), set.user.unwrap_or_default());
        self.asked(format!(
            "set quota {team} {:?} {:?} {:?} {:?} {lift:?} {lift_all}",
            of_team.millicpu, user.memory_bytes, set.gpu_hours, set.period
        ))?;
        Ok(Response::new(vision()))
    }
}

#[tonic::async_trait]
impl Access for Fake {
    async fn join(&self, _: Request<pb::JoinRequest>) -> Answer<pb::JoinReply> {
        Err(Status::unimplemented("people do not join"))
    }

    async fn login(&self, request: Request<pb::LoginRequest>) -> Answer<pb::LoginReply> {
        self.asked("login")?;
        let pb::LoginRequest { secret, csr_der } = request.into_inner();
        if secret != "secret" {
            return Err(refusal(
                Code::PermissionDenied,
                "the token is not known",
                "ask for a new one",
            ));
        }
        Ok(Response::new(pb::LoginReply {
            user: "ada".into(),
            role: "user".into(),
            certificate_pem: self.authority.sign(&csr_der),
            ca_pem: self.authority.pem(),
            session_address: self.address.to_string(),
            expires_us: 0,
        }))
    }
}
