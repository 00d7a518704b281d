//! The service behind the socket. A thin file: it checks, hands on, and puts answers into the wire's words.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use loadline_model::{LedgerId, Sequence};
use loadline_policy::cost::Cost;
use loadline_policy::headroom::Decision;
use loadline_proto::types::v1::{ErrorInfo, Event};
use loadline_proto::warden::v1 as proto;
use loadline_proto::warden::v1::warden_server::{Warden, WardenServer};
use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Code, Request, Response, Status};
use tracing::{error, warn};

use super::outputs;
use crate::host::clock::Clock;
use crate::host::journal::NAMESPACE;
use crate::host::journal_stream;
use crate::host::pressure::Window;
use crate::host::users::Accounts;
use crate::ledger::{LedgerError, wire as events};
use crate::sentence::chain;
use crate::warden::facts::Facts;
use crate::warden::orders::{Genuine, verify};
use crate::warden::reconciler::{
    CeilingError, Command, Incoming, Lookup, SharedLedger, Snapshot, lock, look_up,
};
use crate::warden::sample::Sampler;
use crate::warden::slo::Promises;
use crate::warden::trust::Trust;
use crate::warden::week::Watched;
use crate::warden::wire::slo::observations;
use crate::warden::wire::status::{SocketCounters, Word, reply};
use crate::warden::wire::{self, Ordered, SignedOrder};

/// Events on their way to a slow reader.
const EVENTS_QUEUED: usize = 64;

/// One order may hold a megabyte of arguments, and the agent brings several at once.
const APPLY_BYTES_MAX: usize = 64 << 20;

/// How long journald may take to read what ended workers wrote.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// The service.
#[derive(Debug)]
pub struct WardenService<A, C> {
    /// The way to the reconciler.
    pub commands: mpsc::Sender<Command>,
    /// The ledger, for events.
    pub ledger: SharedLedger,
    /// Moves with each event.
    pub sequence: watch::Receiver<Sequence>,
    /// Whose orders count.
    pub trust: Trust,
    /// The accounts.
    pub accounts: Arc<A>,
    /// For the inventory.
    pub facts: Facts,
    /// For the sample.
    pub sampler: Sampler<C>,
    /// What the headroom loop says.
    pub headroom: watch::Receiver<Option<Decision>>,
    /// What lending has cost.
    pub cost: watch::Receiver<Cost>,
    /// The windows of the pressure triggers.
    pub window: watch::Receiver<Window>,
    /// How far the watch over production's week has come.
    pub week: watch::Receiver<Watched>,
    /// Names this start of the warden.
    pub started: String,
    /// How production's promises stand.
    pub promises: Promises,
    /// Wall time, for events that had to be replaced.
    pub clock: C,
    /// Reloads that kept the old policy.
    pub reload_failures: Arc<AtomicU64>,
    /// Orders that were not genuine.
    pub not_genuine: AtomicU64,
}

/// Answers on these connections until the listener is gone.
///
/// # Errors
/// When the server cannot go on.
pub async fn serve<A: Accounts, C: Clock>(
    service: WardenService<A, C>,
    connections: impl Stream<Item = io::Result<UnixStream>>,
) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .serve_with_incoming(
            WardenServer::new(service).max_decoding_message_size(APPLY_BYTES_MAX),
            connections,
        )
        .await
}

fn status(code: Code, reason: &str, sentence: String, next_step: &str) -> Status {
    let details = ErrorInfo {
        reason: reason.into(),
        next_step: next_step.into(),
        request_id: String::new(),
    };
    Status::with_details(code, sentence, details.encode_to_vec().into())
}

fn ending() -> Status {
    status(
        Code::Unavailable,
        "WARDEN_ENDING",
        "the warden is about to end".into(),
        "try again",
    )
}

fn not_durable(problem: &LedgerError) -> Status {
    let (reason, next_step) = if problem.is_disk_full() {
        ("DISK_FULL", "make room on the disk of /var/lib/loadline")
    } else {
        ("LEDGER_FAILED", "see `journalctl -u loadline-warden` on the node")
    };
    status(Code::Unavailable, reason, chain(problem), next_step)
}

impl<A: Accounts, C: Clock> WardenService<A, C> {
    /// The orders up to the first that is not genuine, and what is wrong with that one.
    fn genuine(&self, orders: Vec<SignedOrder>) -> (Vec<Genuine>, Option<Status>) {
        let mut genuine = Vec::with_capacity(orders.len());
        for order in orders {
            match verify(&self.trust, order) {
                Ok(order) => genuine.push(order),
                Err(problem) => {
                    self.not_genuine.fetch_add(1, Ordering::Relaxed);
                    error!(
                        error = &problem as &dyn std::error::Error,
                        "an order that is not genuine"
                    );
                    let sentence = format!("an order was refused: {}", chain(&problem));
                    let next = "see the fleet's log; if its order key has changed, join this node again";
                    let refused = status(Code::PermissionDenied, "ORDER_NOT_GENUINE", sentence, next);
                    return (genuine, Some(refused));
                }
            }
        }
        (genuine, None)
    }

    async fn incoming(&self, order: Genuine) -> Incoming {
        let account = match &order.order().what {
            Ordered::Start(work) => look_up(&*self.accounts, &work.user).await,
            Ordered::Stop { .. } | Ordered::Ceiling { .. } | Ordered::Prove(_) | Ordered::Unclear(_) => {
                Lookup::Missing
            }
        };
        Incoming { order, account }
    }

    async fn ask<T>(&self, command: Command, answer: oneshot::Receiver<T>) -> Result<T, Status> {
        self.commands.send(command).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }

    async fn snapshot(&self) -> Result<Snapshot, Status> {
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Status { reply }, answer).await
    }
}

#[tonic::async_trait]
impl<A: Accounts, C: Clock> Warden for WardenService<A, C> {
    type EventsStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    async fn status(&self, _: Request<proto::StatusRequest>) -> Result<Response<proto::StatusReply>, Status> {
        let snapshot = self.snapshot().await?;
        let sample = self.sampler.sample(&snapshot.node);
        let counters = SocketCounters {
            orders_refused: self.not_genuine.load(Ordering::Relaxed),
            config_reload_failures: self.reload_failures.load(Ordering::Relaxed),
        };
        let word = Word {
            decision: *self.headroom.borrow(),
            cost: *self.cost.borrow(),
            window: *self.window.borrow(),
            week: self.week.borrow().clone(),
            started: self.started.clone(),
            promises: self.promises.all(self.clock.monotonic()),
        };
        Ok(Response::new(reply(
            &snapshot,
            &self.facts,
            sample.as_ref(),
            &word,
            counters,
        )))
    }

    async fn apply(
        &self,
        request: Request<proto::ApplyRequest>,
    ) -> Result<Response<proto::ApplyReply>, Status> {
        let (genuine, problem) = self.genuine(request.into_inner().orders);
        let mut orders = Vec::with_capacity(genuine.len());
        for order in genuine {
            orders.push(self.incoming(order).await);
        }
        let (reply, answer) = oneshot::channel();
        let durable = self.ask(Command::Apply { orders, reply }, answer).await?;
        let generation = durable.map_err(|problem| not_durable(&problem))?;
        match problem {
            Some(problem) => Err(problem),
            None => Ok(Response::new(proto::ApplyReply {
                applied_generation: generation.0,
            })),
        }
    }

    async fn observe(
        &self,
        request: Request<proto::ObserveRequest>,
    ) -> Result<Response<proto::ObserveReply>, Status> {
        let observations = observations(request.into_inner());
        self.promises.observe(observations, self.clock.monotonic());
        Ok(Response::new(proto::ObserveReply {}))
    }

    async fn read(&self, _: Request<proto::ReadRequest>) -> Result<Response<proto::ReadReply>, Status> {
        let stdout = journal_stream::socket_of(NAMESPACE);
        match timeout(READ_WITHIN, outputs::until_read(stdout)).await {
            Ok(Ok(())) => Ok(Response::new(proto::ReadReply {})),
            Ok(Err(problem)) => Err(status(
                Code::Unimplemented,
                "UNREAD_UNKNOWN",
                format!("the kernel does not tell what journald has not read: {problem}"),
                "is the kernel module unix_diag there?",
            )),
            Err(_) => Err(status(
                Code::DeadlineExceeded,
                "JOURNALD_BEHIND",
                format!(
                    "the workers' journald has not read all output within {} s",
                    READ_WITHIN.as_secs()
                ),
                "try again; see `systemctl status systemd-journald@loadline` on the node",
            )),
        }
    }

    async fn events(
        &self,
        request: Request<proto::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let (sender, receiver) = mpsc::channel(EVENTS_QUEUED);
        let feed = Feed {
            ledger: self.ledger.clone(),
            sequence: self.sequence.clone(),
            now: self.clock.wall(),
            sender,
        };
        tokio::spawn(feed.run(Sequence(request.into_inner().after_sequence)));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn acknowledge(
        &self,
        request: Request<proto::AcknowledgeRequest>,
    ) -> Result<Response<proto::AcknowledgeReply>, Status> {
        let request = request.into_inner();
        let mut ledger = lock(&self.ledger);
        let id = LedgerId::from_slice(&request.ledger_id).ok();
        if id != Some(ledger.id()) {
            let sentence = "these events are from another ledger than this node's".to_owned();
            let next = "read the events again from the beginning";
            return Err(status(Code::FailedPrecondition, "OTHER_LEDGER", sentence, next));
        }
        ledger.acknowledge(Sequence(request.through_sequence));
        Ok(Response::new(proto::AcknowledgeReply {}))
    }

    async fn drain(
        &self,
        request: Request<proto::DrainRequest>,
    ) -> Result<Response<proto::DrainReply>, Status> {
        only_root(&request, "take a node's workers away at once")?;
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Drain { reply }, answer).await?;
        let snapshot = self.snapshot().await?;
        let attempts = snapshot.attempts.iter().map(events::attempt).collect();
        Ok(Response::new(proto::DrainReply { attempts }))
    }

    async fn set_ceiling(
        &self,
        request: Request<proto::SetCeilingRequest>,
    ) -> Result<Response<proto::SetCeilingReply>, Status> {
        only_root(&request, "say what this node may do")?;
        let wish = wire::wish(request.into_inner())
            .map_err(|sentence| status(Code::InvalidArgument, "INVALID_ARGUMENT", sentence, "correct it"))?;
        let (reply, answer) = oneshot::channel();
        match self.ask(Command::Ceiling { wish, reply }, answer).await? {
            Ok(()) => Ok(Response::new(proto::SetCeilingReply {})),
            Err(CeilingError::Ledger(problem)) => Err(not_durable(&problem)),
            Err(CeilingError::Beyond(beyond)) => {
                let next = "change `lend.mode` there and run `systemctl reload loadline-warden`";
                Err(status(
                    Code::FailedPrecondition,
                    "BEYOND_OWNER",
                    beyond.to_string(),
                    next,
                ))
            }
        }
    }
}

fn only_root<T>(request: &Request<T>, what: &str) -> Result<(), Status> {
    let peer = request
        .extensions()
        .get::<UdsConnectInfo>()
        .and_then(|info| info.peer_cred);
    if peer.is_some_and(|peer| peer.uid() == 0) {
        return Ok(());
    }
    let sentence = format!("only root may {what}");
    let next = "run it as root";
    Err(status(Code::PermissionDenied, "NOT_ROOT", sentence, next))
}

/// One reader of events: all that are there, then each as it happens.
struct Feed {
    ledger: SharedLedger,
    sequence: watch::Receiver<Sequence>,
    now: loadline_model::WallTime,
    sender: mpsc::Sender<Result<Event, Status>>,
}

impl Feed {
    async fn run(mut self, mut after: Sequence) {
        loop {
            // Marked as seen before reading: what comes meanwhile wakes us again.
            self.sequence.borrow_and_update();
            let page = lock(&self.ledger).events_after(after, self.now);
            let page = match page {
                Ok(page) => page,
                Err(problem) => {
                    let problem = not_durable(&problem);
                    let _ = self.sender.send(Err(problem)).await;
                    return;
                }
            };
            if page.is_empty() {
                tokio::select! {
                    moved = self.sequence.changed() => if moved.is_err() { return },
                    () = self.sender.closed() => return,
                }
            }
            for body in page {
                let Ok(event) = events::decode(&body) else {
                    // Checked when it was read; the next look sets it aside.
                    warn!("an event that cannot be decoded");
                    break;
                };
                after = Sequence(event.sequence);
                if self.sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
        }
    }
}
