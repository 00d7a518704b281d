//! A node that does what it is told, without a machine behind it.

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, VerifyingKey};
use loadline_fleet::tokens::TokenText;
use loadline_proto::fleet::v1 as fleet;
use loadline_proto::node::v1::node_session_client::NodeSessionClient;
use loadline_proto::node::v1::{self as node, fleet_message, node_message};
use loadline_proto::types::v1 as types;
use prost::Message;
use rcgen::KeyPair;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::world::{Identity, SOON, World, channel, client_config, csr};

pub(crate) struct FakeNode {
    pub(crate) identity: Identity,
    pub(crate) id: Vec<u8>,
    pub(crate) name: String,
    pub(crate) boot_id: String,
    pub(crate) ledger: Vec<u8>,
    pub(crate) sequence: u64,
    pub(crate) applied: u64,
    order_key: VerifyingKey,
}

/// An open stream.
pub(crate) struct Stream {
    pub(crate) up: mpsc::Sender<node::NodeMessage>,
    pub(crate) down: Streaming<node::FleetMessage>,
    pub(crate) welcome: node::Welcome,
}

pub(crate) async fn join(world: &World, token: &str, name: &str) -> Result<FakeNode, Status> {
    let key = KeyPair::generate().unwrap();
    let (_, token) = TokenText::decode(token).unwrap();
    let request = fleet::JoinRequest {
        secret: token.secret,
        node: name.into(),
        csr_der: csr(&key),
        version: "0.1.0".into(),
    };
    let reply = world.access().await.join(request).await?.into_inner();
    let order_key = VerifyingKey::from_bytes(&reply.order_public_key.try_into().unwrap()).unwrap();
    Ok(FakeNode {
        identity: Identity {
            key,
            certificate: Some(reply.certificate_pem),
        },
        id: reply.node_id,
        name: name.into(),
        boot_id: "boot-1".into(),
        ledger: vec![7; 16],
        sequence: 0,
        applied: 0,
        order_key,
    })
}

pub(crate) fn inventory(cpus: u32) -> types::Inventory {
    let thread = |cpu| types::Thread {
        cpu,
        core: cpu,
        l3: 0,
        numa: 0,
        socket: 0,
    };
    types::Inventory {
        topology: Some(types::Topology {
            threads: (0..cpus).map(thread).collect(),
            numa_nodes: vec![types::NumaNode {
                id: 0,
                memory_bytes: 4 << 30,
            }],
        }),
        kernel: "6.12".into(),
        systemd: "257".into(),
        os: "test".into(),
        mode: "enforce".into(),
        exclusive_cpus: true,
        line_millicpu: u64::from(cpus - 1) * 1000,
        line_memory_bytes: 3 << 30,
        line_whole_cpus: u64::from(cpus - 1),
        ..Default::default()
    }
}

pub(crate) fn message(what: node_message::What) -> node::NodeMessage {
    node::NodeMessage { what: Some(what) }
}

impl FakeNode {
    pub(crate) async fn channel(&self, world: &World) -> Result<Channel, tonic::transport::Error> {
        let tls = client_config(&world.authority(), Some(&self.identity));
        channel(world.session_address(), tls).await
    }

    pub(crate) fn hello(&self) -> node::Hello {
        node::Hello {
            version: "0.1.0".into(),
            capabilities: Vec::new(),
            node_id: self.id.clone(),
            name: self.name.clone(),
            boot_id: self.boot_id.clone(),
            ledger_id: self.ledger.clone(),
            applied_generation: self.applied,
            last_sequence: self.sequence,
            first_sequence: 0,
            inventory: Some(inventory(4)),
            attempts: Vec::new(),
        }
    }

    pub(crate) async fn connect(&self, world: &World) -> Result<Stream, Status> {
        let channel = self
            .channel(world)
            .await
            .map_err(|error| Status::unavailable(format!("{error:?}")))?;
        self.open(channel, self.hello()).await
    }

    pub(crate) async fn open(&self, channel: Channel, hello: node::Hello) -> Result<Stream, Status> {
        let (up, ups) = mpsc::channel(16);
        up.send(message(node_message::What::Hello(hello))).await.unwrap();
        let opened = NodeSessionClient::new(channel)
            .session(ReceiverStream::new(ups))
            .await?;
        let mut down = opened.into_inner();
        match down.message().await?.and_then(|message| message.what) {
            Some(fleet_message::What::Welcome(welcome)) => Ok(Stream { up, down, welcome }),
            other => panic!("expected Welcome, got {other:?}"),
        }
    }

    /// Checks an order as a warden does.
    pub(crate) fn verify(&self, signed: &types::SignedOrder) -> types::Order {
        let signature = Signature::from_slice(&signed.signature).unwrap();
        self.order_key.verify_strict(&signed.order, &signature).unwrap();
        let order = types::Order::decode(signed.order.as_slice()).unwrap();
        assert_eq!(order.node_id, self.id);
        order
    }

    pub(crate) fn event(&mut self, what: types::event::What) -> node::NodeMessage {
        self.sequence += 1;
        let event = types::Event {
            ledger_id: self.ledger.clone(),
            sequence: self.sequence,
            boot_id: self.boot_id.clone(),
            at_us: crate::world::START,
            what: Some(what),
        };
        message(node_message::What::Events(node::EventBatch {
            events: vec![event],
        }))
    }

    pub(crate) fn attempt(
        &mut self,
        order: &types::Order,
        phase: types::AttemptPhase,
        ended: Option<types::Ended>,
    ) -> node::NodeMessage {
        let Some(types::order::What::Start(start)) = &order.what else {
            panic!("{order:?}")
        };
        let state = types::AttemptState {
            attempt_id: order.attempt_id.clone(),
            job_id: start.job_id.clone(),
            phase: phase.into(),
            placement: Some(types::Placement {
                cpus: "1".into(),
                numa_nodes: "0".into(),
                exclusive: true,
                main_pid: 77,
                unit: "loadline-w-x.service".into(),
                user: start.user.clone(),
            }),
            ended,
            orphan: false,
        };
        self.event(types::event::What::Attempt(state))
    }
}

pub(crate) fn exited(code: u32) -> types::Ended {
    types::Ended {
        reason: types::EndReason::Exited.into(),
        code,
        at_us: crate::world::START,
        ..Default::default()
    }
}

impl Stream {
    pub(crate) async fn next(&mut self) -> Result<Option<fleet_message::What>, Status> {
        let message = timeout(SOON, self.down.message())
            .await
            .expect("fleetd says nothing")?;
        Ok(message.and_then(|message| message.what))
    }

    /// The next order, whatever else is said before.
    pub(crate) async fn order(&mut self, node: &FakeNode) -> types::Order {
        loop {
            match self.next().await.unwrap() {
                Some(fleet_message::What::Desired(desired)) => return node.verify(&desired.orders[0]),
                Some(_) => {}
                None => panic!("the stream ended before an order came"),
            }
        }
    }

    /// The acknowledged sequence, once it reaches `sequence`.
    pub(crate) async fn acked(&mut self, sequence: u64) {
        loop {
            match self.next().await.unwrap() {
                Some(fleet_message::What::Ack(ack)) if ack.sequence >= sequence => return,
                Some(_) => {}
                None => panic!("the stream ended before {sequence} was acknowledged"),
            }
        }
    }

    pub(crate) async fn say(&self, message: node::NodeMessage) {
        self.up.send(message).await.unwrap();
    }

    /// How the stream ends.
    pub(crate) async fn end(&mut self) -> Option<Status> {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }
}

pub(crate) fn spec(command: &[&str]) -> types::JobSpec {
    types::JobSpec {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        workers_min: 1,
        workers_max: 1,
        worker: Some(types::WorkerRequest {
            cpu: Some(types::worker_request::Cpu::ExclusiveCpus(1)),
            memory_bytes: 64 << 20,
            gpus: 0,
            ..Default::default()
        }),
        env: BTreeMap::<String, String>::new().into_iter().collect(),
        ..Default::default()
    }
}
