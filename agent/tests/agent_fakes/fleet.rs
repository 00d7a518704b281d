//! A fleet in memory: the real protocol over real TLS, with a record of all that arrived and failures on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use loadline_model::NodeId;
use loadline_proto::fleet::v1::access_server::{Access, AccessServer};
use loadline_proto::fleet::v1::{JoinReply, JoinRequest, LoginReply, LoginRequest};
use loadline_proto::node::v1::node_session_server::{NodeSession, NodeSessionServer};
use loadline_proto::node::v1::{
    EventAck, FleetMessage, Hello, Liveness, LogChunk, NodeMessage, RenewReply, RenewRequest, Welcome,
    fleet_message, node_message,
};
use loadline_proto::types::v1::{ErrorInfo, Event};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::transport::server::Connected;
use tonic::{Code, Request, Response, Status, Streaming};

use super::pki::Ca;

/// What a fleet knows and does.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) hellos: Vec<Hello>,
    pub(crate) liveness: Vec<Liveness>,
    /// Every event as it came, repetitions included.
    pub(crate) received: Vec<Event>,
    /// Each event once, as a correct fleet counts.
    pub(crate) counted: BTreeMap<Vec<u8>, BTreeSet<u64>>,
    pub(crate) applied: Vec<u64>,
    pub(crate) logs: Vec<LogChunk>,
    pub(crate) renewals: usize,
    /// Streams that are open now.
    pub(crate) open: usize,
    /// Counts events but does not acknowledge them.
    pub(crate) silent: bool,
    pub(crate) banned: bool,
    pub(crate) refuse_renewals: bool,
    /// Acknowledged per ledger.
    pub(crate) acked: BTreeMap<Vec<u8>, u64>,
    /// Secrets that work once, and the node each is for.
    pub(crate) tokens: BTreeMap<String, String>,
    pub(crate) joins: usize,
    /// Answers a join with an order key id that is not the key's.
    pub(crate) wrong_order_key: bool,
}

impl State {
    pub(crate) fn counted_of(&self, ledger: &[u8]) -> Vec<u64> {
        self.counted
            .get(ledger)
            .map(|of| of.iter().copied().collect())
            .unwrap_or_default()
    }
}

pub(crate) struct FakeFleet {
    pub(crate) ca: Ca,
    pub(crate) node: NodeId,
    pub(crate) life_secs: i64,
    pub(crate) order_key: [u8; 32],
    pub(crate) state: watch::Sender<State>,
    session: watch::Sender<Option<mpsc::Sender<Result<FleetMessage, Status>>>>,
}

impl FakeFleet {
    pub(crate) fn new(ca: Ca, life_secs: i64) -> Arc<Self> {
        Arc::new(Self {
            ca,
            node: NodeId::from_uuid(uuid::Uuid::new_v4()),
            life_secs,
            order_key: [5; 32],
            state: watch::Sender::default(),
            session: watch::Sender::default(),
        })
    }

    pub(crate) fn order_key_id(&self) -> String {
        let digest = Sha256::digest(self.order_key);
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Serves what arrives, until dropped.
    pub(crate) fn serve(
        self: &Arc<Self>,
        config: Arc<rustls::ServerConfig>,
        accepted: mpsc::UnboundedReceiver<DuplexStream>,
    ) -> tokio::task::JoinHandle<()> {
        let fleet = Arc::clone(self);
        tokio::spawn(async move {
            let incoming = tls_incoming(config, accepted);
            tonic::transport::Server::builder()
                .add_service(NodeSessionServer::new(Door(Arc::clone(&fleet))))
                .add_service(AccessServer::new(Door(fleet)))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        })
    }

    /// Says something to the node that is in session.
    pub(crate) async fn say(&self, what: fleet_message::What) {
        let session = self
            .session
            .subscribe()
            .wait_for(Option::is_some)
            .await
            .unwrap()
            .clone()
            .unwrap();
        session.send(Ok(FleetMessage { what: Some(what) })).await.unwrap();
    }

    /// Bans the node: open streams end, new ones are refused.
    pub(crate) fn ban(&self) {
        self.state.send_modify(|state| state.banned = true);
        if let Some(session) = self.session.send_replace(None) {
            let _ = session.try_send(Err(Status::permission_denied("this node is banned")));
        }
    }

    /// Waits until the fleet has seen something.
    pub(crate) async fn until(&self, what: &str, seen: impl FnMut(&State) -> bool) -> State {
        let mut state = self.state.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(30), state.wait_for(seen)).await;
        match waited {
            Ok(found) => found.unwrap().clone(),
            Err(_) => panic!("never seen: {what}; last: {:#?}", self.state.borrow()),
        }
    }

    async fn hear(
        self: Arc<Self>,
        mut stream: Streaming<NodeMessage>,
        out: mpsc::Sender<Result<FleetMessage, Status>>,
    ) {
        while let Ok(Some(message)) = stream.message().await {
            match message.what {
                Some(node_message::What::Events(batch)) => self.count(batch.events, &out).await,
                Some(node_message::What::Liveness(one)) => self.state.send_modify(|s| s.liveness.push(one)),
                Some(node_message::What::Applied(one)) => {
                    self.state.send_modify(|s| s.applied.push(one.generation));
                }
                Some(node_message::What::Logs(chunk)) => self.state.send_modify(|s| s.logs.push(chunk)),
                other => panic!("not expected after the Hello: {other:?}"),
            }
        }
        self.state.send_modify(|state| state.open -= 1);
    }

    async fn count(&self, events: Vec<Event>, out: &mpsc::Sender<Result<FleetMessage, Status>>) {
        let Some(last) = events.last() else { return };
        let (ledger_id, sequence) = (last.ledger_id.clone(), last.sequence);
        self.state.send_modify(|state| {
            for event in events {
                state
                    .counted
                    .entry(event.ledger_id.clone())
                    .or_default()
                    .insert(event.sequence);
                state.received.push(event);
            }
            if !state.silent {
                let acked = state.acked.entry(ledger_id.clone()).or_default();
                *acked = (*acked).max(sequence);
            }
        });
        if !self.state.borrow().silent {
            let what = Some(fleet_message::What::Ack(EventAck { ledger_id, sequence }));
            // A session that ends meanwhile does not hear it and sends the events again.
            let _ = out.send(Ok(FleetMessage { what })).await;
        }
    }
}

/// Where calls come in.
struct Door(Arc<FakeFleet>);

#[tonic::async_trait]
impl NodeSession for Door {
    type SessionStream = ReceiverStream<Result<FleetMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if self.0.state.borrow().banned {
            return Err(refusal("this node is banned", "NODE_BANNED", "ask an operator"));
        }
        let mut stream = request.into_inner();
        let Some(node_message::What::Hello(hello)) = stream.message().await?.and_then(|m| m.what) else {
            return Err(Status::invalid_argument("Hello comes first"));
        };
        let (out, receiver) = mpsc::channel(16);
        let acked = self
            .0
            .state
            .borrow()
            .acked
            .get(&hello.ledger_id)
            .copied()
            .unwrap_or(0);
        let welcome = Welcome {
            version: "test".into(),
            fleet_id: self.0.ca.fleet.as_bytes().to_vec(),
            epoch: 1,
            acked_sequence: acked,
        };
        out.send(Ok(FleetMessage {
            what: Some(fleet_message::What::Welcome(welcome)),
        }))
        .await
        .unwrap();
        self.0.state.send_modify(|state| {
            state.hellos.push(hello);
            state.open += 1;
        });
        self.0.session.send_replace(Some(out.clone()));
        tokio::spawn(Arc::clone(&self.0).hear(stream, out));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        if self.0.state.borrow().refuse_renewals {
            return Err(Status::unavailable("not now"));
        }
        let certificate_pem = self
            .0
            .ca
            .certify(&request.into_inner().csr_der, self.0.node, self.0.life_secs);
        self.0.state.send_modify(|state| state.renewals += 1);
        Ok(Response::new(RenewReply { certificate_pem }))
    }
}

pub(crate) fn refusal(message: &str, reason: &str, next_step: &str) -> Status {
    let info = ErrorInfo {
        reason: reason.into(),
        next_step: next_step.into(),
        request_id: String::new(),
    };
    Status::with_details(Code::PermissionDenied, message, info.encode_to_vec().into())
}

#[tonic::async_trait]
impl Access for Door {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let JoinRequest {
            secret,
            node,
            csr_der,
            version: _,
        } = request.into_inner();
        let bound = self.0.state.borrow().tokens.get(&secret).cloned();
        match bound {
            None => {
                return Err(refusal(
                    "this token was used or is too old",
                    "TOKEN_USED",
                    "make a new one",
                ));
            }
            Some(name) if name != node => {
                return Err(refusal(
                    "this token is for another node",
                    "TOKEN_NAME",
                    "make one for this node",
                ));
            }
            Some(_) => {}
        }
        self.0.state.send_modify(|state| {
            state.tokens.remove(&secret);
            state.joins += 1;
        });
        let wrong = self.0.state.borrow().wrong_order_key;
        Ok(Response::new(JoinReply {
            node_id: self.0.node.as_bytes().to_vec(),
            fleet_id: self.0.ca.fleet.as_bytes().to_vec(),
            certificate_pem: self.0.ca.certify(&csr_der, self.0.node, self.0.life_secs),
            ca_pem: self.0.ca.certificate.pem(),
            order_key_id: if wrong {
                "0".repeat(16)
            } else {
                self.0.order_key_id()
            },
            order_public_key: self.0.order_key.to_vec(),
            session_address: "fleet.test:7717".into(),
            pool: "default".into(),
        }))
    }

    async fn login(&self, _: Request<LoginRequest>) -> Result<Response<LoginReply>, Status> {
        Err(Status::unimplemented("nodes do not log in"))
    }
}

/// Handshakes each connection by itself: one that fails or hangs holds nobody up.
fn tls_incoming(
    config: Arc<rustls::ServerConfig>,
    mut accepted: mpsc::UnboundedReceiver<DuplexStream>,
) -> impl Stream<Item = io::Result<Served>> {
    let (ready, incoming) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(config);
        while let Some(stream) = accepted.recv().await {
            let (acceptor, ready) = (acceptor.clone(), ready.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = ready.send(Ok(Served(stream)));
                }
            });
        }
    });
    UnboundedReceiverStream::new(incoming)
}

/// A connection as tonic's server wants it.
pub(crate) struct Served(TlsStream<DuplexStream>);

impl Connected for Served {
    type ConnectInfo = ();
    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Served {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Served {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
