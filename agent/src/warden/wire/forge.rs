//! Signed orders for tests, and the pinned trust that goes with them: a fleet of one key.

use std::fs;
use std::io;
use std::path::Path;

use ed25519_dalek::pkcs8::EncodePublicKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::{Signer, SigningKey};
use loadline_model::{AttemptId, Bytes, CpuRequest, FleetId, JobId, NodeId, ProveId, Span, Tier};
use loadline_proto::types::v1 as proto;
use prost::Message;

use super::SignedOrder;
use crate::warden::trust::{Trust, key_id};

/// What a test wants to run.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The argument vector.
    pub command: Vec<String>,
    /// The account.
    pub user: String,
    /// CPU.
    pub cpus: CpuRequest,
    /// Memory.
    pub memory: Bytes,
    /// The tier.
    pub tier: Tier,
    /// The time limit.
    pub time: Option<Span>,
    /// The grace.
    pub grace: Span,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            command: vec!["true".into()],
            user: "alice".into(),
            cpus: CpuRequest::Exclusive(1),
            memory: Bytes::from_mib(64),
            tier: Tier::Standard,
            time: None,
            grace: Span::from_secs(5),
        }
    }
}

/// Makes orders as fleetd does.
#[derive(Debug)]
pub struct Forge {
    key: SigningKey,
    fleet: FleetId,
    node: NodeId,
    /// The generation of the latest order.
    pub generation: u64,
}

impl Forge {
    /// A fleet whose key is made of one number.
    pub fn new(seed: u8, fleet: FleetId, node: NodeId) -> Self {
        Self {
            key: SigningKey::from_bytes(&[seed; 32]),
            fleet,
            node,
            generation: 0,
        }
    }

    /// What a node that joined has pinned.
    pub fn trust(&self) -> Trust {
        let key = self.key.verifying_key();
        Trust {
            fleet: self.fleet,
            node: self.node,
            node_name: "forged".into(),
            key_id: key_id(&key),
            key,
        }
    }

    /// Writes what join writes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_trust(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let key = self.key.verifying_key();
        let pem = key.to_public_key_pem(LineEnding::LF).map_err(io::Error::other)?;
        fs::write(folder.join("order.pub.pem"), pem)?;
        fs::write(folder.join("ca.pem"), "")?;
        let file = serde_json::json!({
            "fleet_id": self.fleet,
            "node_id": self.node,
            "node": "forged",
            "pool": "default",
            "session_address": "127.0.0.1:7717",
            "order_key_id": key_id(&key),
        });
        fs::write(folder.join("fleet.json"), file.to_string())
    }

    /// An order to run something.
    pub fn start(&mut self, attempt: AttemptId, wanted: &Wanted) -> SignedOrder {
        let cpu = match wanted.cpus {
            CpuRequest::Exclusive(cpus) => proto::worker_request::Cpu::ExclusiveCpus(cpus),
            CpuRequest::Shared(share) => proto::worker_request::Cpu::SharedMillicpu(share.0),
        };
        let tier = match wanted.tier {
            Tier::Standard => proto::Tier::Standard,
            Tier::Burst => proto::Tier::Burst,
        };
        let spec = proto::JobSpec {
            command: wanted.command.clone(),
            workers_min: 1,
            workers_max: 1,
            tier: tier.into(),
            time_limit_us: wanted.time.map(|time| time.0),
            grace_us: Some(wanted.grace.0),
            worker: Some(proto::WorkerRequest {
                cpu: Some(cpu),
                memory_bytes: wanted.memory.0,
                gpus: 0,
                ..Default::default()
            }),
            ..proto::JobSpec::default()
        };
        // One job an attempt is enough for a node.
        let job = JobId::from_slice(attempt.as_bytes()).map(|job| job.as_bytes().to_vec());
        self.sign(
            attempt,
            proto::order::What::Start(proto::StartOrder {
                job_id: job.unwrap_or_default(),
                job_number: 1,
                worker: 1,
                attempt_number: 1,
                user: wanted.user.clone(),
                spec: Some(spec),
                ..proto::StartOrder::default()
            }),
        )
    }

    /// An order to end it.
    pub fn stop(&mut self, attempt: AttemptId, grace: Span) -> SignedOrder {
        self.sign(
            attempt,
            proto::order::What::Stop(proto::StopOrder {
                reason: proto::EndReason::Cancelled.into(),
                grace_us: grace.0,
            }),
        )
    }

    /// An order that sets the most the node may do.
    pub fn ceiling(&mut self, mode: &str, line_per_mille: u32, by: &str) -> SignedOrder {
        let (mode, by) = (mode.into(), by.into());
        let ceiling = proto::CeilingOrder {
            mode,
            line_per_mille,
            by,
        };
        self.sign_bytes(Vec::new(), Some(proto::order::What::Ceiling(ceiling)))
    }

    /// An order to test the node, or to end the test.
    pub fn prove(&mut self, run: ProveId, stop: bool, ask: proto::ProveAsk) -> SignedOrder {
        let prove = proto::ProveOrder {
            run_id: run.as_bytes().to_vec(),
            stop,
            by: "ada".into(),
            ask: Some(ask),
        };
        self.sign_bytes(Vec::new(), Some(proto::order::What::Prove(prove)))
    }

    /// An order about the node of a kind that only a newer version knows.
    pub fn unknown(&mut self) -> SignedOrder {
        self.sign_bytes(Vec::new(), None)
    }

    fn sign(&mut self, attempt: AttemptId, what: proto::order::What) -> SignedOrder {
        self.sign_bytes(attempt.as_bytes().to_vec(), Some(what))
    }

    fn sign_bytes(&mut self, attempt_id: Vec<u8>, what: Option<proto::order::What>) -> SignedOrder {
        self.generation += 1;
        let order = proto::Order {
            fleet_id: self.fleet.as_bytes().to_vec(),
            node_id: self.node.as_bytes().to_vec(),
            epoch: 1,
            generation: self.generation,
            issued_at_us: 0,
            attempt_id,
            what,
        };
        let order = order.encode_to_vec();
        SignedOrder {
            key_id: key_id(&self.key.verifying_key()),
            signature: self.key.sign(&order).to_bytes().to_vec(),
            order,
        }
    }
}
