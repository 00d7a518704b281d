//! A warden on a real socket, with a ledger in memory that outlives it, and failures on demand.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loadline_proto::types::v1::{
    AttemptPhase, AttemptState, EndReason, Ended, Event, Inventory, NodeSample, ResourceSample, SignedOrder,
    event,
};
use loadline_proto::warden::v1::warden_server::{Warden, WardenServer};
use loadline_proto::warden::v1::{
    AcknowledgeReply, AcknowledgeRequest, ApplyReply, ApplyRequest, DrainReply, DrainRequest, EventsRequest,
    LimitState, ObserveReply, ObserveRequest, ReadReply, ReadRequest, SetCeilingReply, SetCeilingRequest,
    SliceUsage, SloReading, SloTarget, StatusReply, StatusRequest, WardenCounters,
};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::network::{Cuttable, Weather};

/// What a warden has durable, and what it was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) id: Vec<u8>,
    pub(crate) events: Vec<Event>,
    pub(crate) acknowledged: u64,
    pub(crate) applied: u64,
    pub(crate) orders: Vec<SignedOrder>,
    pub(crate) attempts: Vec<AttemptState>,
    pub(crate) inventory: Inventory,
    /// Applying fails so many times first.
    pub(crate) failing_applies: u32,
    pub(crate) samples: i64,
    /// What is to be probed.
    pub(crate) slo_targets: Vec<SloTarget>,
    /// What was told of it last.
    pub(crate) readings: Vec<SloReading>,
}

pub(crate) struct FakeWarden {
    socket: PathBuf,
    pub(crate) ledger: watch::Sender<Ledger>,
    serving: Mutex<Option<Serving>>,
}

/// One life of the warden.
struct Serving {
    accepting: tokio::task::JoinHandle<()>,
    connections: watch::Sender<Weather>,
}

fn attempt(n: u8, phase: AttemptPhase) -> AttemptState {
    AttemptState {
        attempt_id: vec![n; 16],
        job_id: vec![9; 16],
        phase: phase.into(),
        placement: None,
        ended: (phase == AttemptPhase::Ended).then(|| Ended {
            reason: EndReason::Exited.into(),
            ..Ended::default()
        }),
        orphan: false,
    }
}

impl FakeWarden {
    /// With an empty ledger, not serving yet.
    pub(crate) fn new(folder: &Path) -> Arc<Self> {
        let ledger = Ledger {
            id: vec![1; 16],
            inventory: Inventory {
                kernel: "6.1".into(),
                mode: "enforce".into(),
                ..Inventory::default()
            },
            ..Ledger::default()
        };
        Arc::new(Self {
            socket: folder.join("warden.sock"),
            ledger: watch::Sender::new(ledger),
            serving: Mutex::default(),
        })
    }

    pub(crate) fn start(self: &Arc<Self>) {
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).unwrap();
        let door = Door(Arc::clone(self));
        let connections = watch::Sender::new(Weather::Fine);
        let weather = connections.clone();
        let incoming =
            UnixListenerStream::new(listener).map(move |io| io.map(|io| Cuttable::new(io, &weather)));
        let accepting = tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_service(WardenServer::new(door))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        *self.serving.lock().unwrap() = Some(Serving {
            accepting,
            connections,
        });
    }

    /// As `kill -9` would: the socket and all streams are gone.
    pub(crate) async fn kill(&self) {
        let Serving {
            accepting,
            connections,
        } = self.serving.lock().unwrap().take().unwrap();
        accepting.abort();
        let _ = accepting.await;
        connections.send_replace(Weather::Severed);
        std::fs::remove_file(&self.socket).unwrap();
    }

    /// Something happens to an attempt.
    pub(crate) fn happen(&self, n: u8, phase: AttemptPhase) {
        self.ledger.send_modify(|ledger| {
            let state = attempt(n, phase);
            ledger.attempts.retain(|one| one.attempt_id != state.attempt_id);
            if phase != AttemptPhase::Ended {
                ledger.attempts.push(state.clone());
            }
            let sequence = ledger
                .events
                .last()
                .map_or(ledger.acknowledged, |event| event.sequence)
                + 1;
            ledger.events.push(Event {
                ledger_id: ledger.id.clone(),
                sequence,
                boot_id: "boot".into(),
                at_us: 1,
                what: Some(event::What::Attempt(state)),
            });
        });
    }

    /// Waits until the ledger shows something.
    pub(crate) async fn until(&self, what: &str, seen: impl FnMut(&Ledger) -> bool) {
        let mut ledger = self.ledger.subscribe();
        if tokio::time::timeout(Duration::from_secs(30), ledger.wait_for(seen))
            .await
            .is_err()
        {
            panic!("never seen: {what}; last: {:#?}", self.ledger.borrow());
        }
    }
}

/// Where calls come in.
struct Door(Arc<FakeWarden>);

fn resource(now: u64) -> ResourceSample {
    ResourceSample {
        capacity: 4000,
        reserve: 1000,
        production: 500,
        lent: 250,
        now,
        firm: 2000,
        headroom: 800,
    }
}

#[tonic::async_trait]
impl Warden for Door {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        self.0.ledger.send_modify(|ledger| ledger.samples += 1);
        let ledger = self.0.ledger.borrow().clone();
        Ok(Response::new(StatusReply {
            version: "test".into(),
            boot_id: "boot".into(),
            ledger_id: ledger.id,
            applied_generation: ledger.applied,
            last_sequence: ledger
                .events
                .last()
                .map_or(ledger.acknowledged, |event| event.sequence),
            slo_targets: ledger.slo_targets,
            inventory: Some(ledger.inventory),
            sample: Some(NodeSample {
                at_us: ledger.samples,
                cpu: Some(resource(2250)),
                memory: Some(resource(2250)),
                ..NodeSample::default()
            }),
            attempts: ledger.attempts,
            limits: vec![LimitState {
                cgroup: "loadline.slice".into(),
                limit: "memory.max".into(),
                intended: "1".into(),
                actual: "1".into(),
                verified: true,
            }],
            counters: Some(WardenCounters {
                limit_repairs: 3,
                starts_ok: 2,
                ..WardenCounters::default()
            }),
            slices: vec![SliceUsage {
                slice: "loadline.slice".into(),
                cpu_usage_us: Some(1_500_000),
                ..SliceUsage::default()
            }],
            headroom: None,
            capabilities: Vec::new(),
            protect: Vec::new(),
            week: None,
            io_costs: Vec::new(),
        }))
    }

    async fn observe(&self, request: Request<ObserveRequest>) -> Result<Response<ObserveReply>, Status> {
        let readings = request.into_inner().readings;
        self.0.ledger.send_modify(|ledger| ledger.readings = readings);
        Ok(Response::new(ObserveReply {}))
    }

    async fn read(&self, _: Request<ReadRequest>) -> Result<Response<ReadReply>, Status> {
        Ok(Response::new(ReadReply {}))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        Err(Status::permission_denied("the agent never drains a node"))
    }

    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyReply>, Status> {
        let mut failed = false;
        self.0.ledger.send_modify(|ledger| {
            failed = ledger.failing_applies > 0;
            if failed {
                ledger.failing_applies -= 1;
                return;
            }
            for order in request.into_inner().orders {
                ledger.applied += 1;
                ledger.orders.push(order);
            }
        });
        if failed {
            return Err(Status::internal("the disk is full"));
        }
        Ok(Response::new(ApplyReply {
            applied_generation: self.0.ledger.borrow().applied,
        }))
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let mut after = request.into_inner().after_sequence;
        let mut ledger = self.0.ledger.subscribe();
        let (out, stream) = mpsc::channel(4);
        tokio::spawn(async move {
            loop {
                let now = ledger.borrow_and_update().clone();
                let told = after;
                for event in now.events.into_iter().filter(|event| event.sequence > told) {
                    after = event.sequence;
                    if out.send(Ok(event)).await.is_err() {
                        return;
                    }
                }
                if ledger.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn acknowledge(
        &self,
        request: Request<AcknowledgeRequest>,
    ) -> Result<Response<AcknowledgeReply>, Status> {
        let AcknowledgeRequest {
            ledger_id,
            through_sequence,
        } = request.into_inner();
        self.0.ledger.send_modify(|ledger| {
            if ledger.id == ledger_id {
                ledger.acknowledged = ledger.acknowledged.max(through_sequence);
                ledger.events.retain(|event| event.sequence > through_sequence);
            }
        });
        Ok(Response::new(AcknowledgeReply {}))
    }
    async fn set_ceiling(&self, _: Request<SetCeilingRequest>) -> Result<Response<SetCeilingReply>, Status> {
        Err(Status::unimplemented("only root on the node itself"))
    }
}
