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
    AcknowledgeReply, AcknowledgeRequest, ApplyReply, ApplyRequest, EventsRequest, LimitState, SliceUsage,
    StatusReply, StatusRequest, WardenCounters,
};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status};

/// What a warden has durable, and what it was asked.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub id: Vec<u8>,
    pub events: Vec<Event>,
    pub acknowledged: u64,
    pub applied: u64,
    pub orders: Vec<SignedOrder>,
    pub attempts: Vec<AttemptState>,
    pub inventory: Inventory,
    /// Applying fails so many times first.
    pub failing_applies: u32,
    pub samples: i64,
}

pub struct FakeWarden {
    socket: PathBuf,
    pub ledger: watch::Sender<Ledger>,
    serving: Mutex<Option<tokio::task::JoinHandle<()>>>,
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
    pub fn new(folder: &Path) -> Arc<Self> {
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

    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    pub fn start(self: &Arc<Self>) {
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).unwrap();
        let door = Door(Arc::clone(self));
        let serving = tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_service(WardenServer::new(door))
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
                .unwrap();
        });
        *self.serving.lock().unwrap() = Some(serving);
    }

    /// As `kill -9` would: the socket and all streams are gone.
    pub async fn kill(&self) {
        let serving = self.serving.lock().unwrap().take().unwrap();
        serving.abort();
        let _ = serving.await;
        std::fs::remove_file(&self.socket).unwrap();
        // Streams being served run in tasks of their own; this makes them end.
        self.ledger.send_modify(|ledger| ledger.samples += 1_000_000);
    }

    /// Something happens to an attempt.
    pub fn happen(&self, n: u8, phase: AttemptPhase) {
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
    pub async fn until(&self, what: &str, seen: impl FnMut(&Ledger) -> bool) {
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
        }))
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
        let era = ledger.borrow().samples / 1_000_000;
        tokio::spawn(async move {
            loop {
                let now = ledger.borrow_and_update().clone();
                if now.samples / 1_000_000 != era {
                    return;
                }
                for event in now.events.into_iter().filter(|event| event.sequence > after) {
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
}
