//! Orders from the wire into our own words. What is not understood is said, so that it can be refused by name.

pub mod client;
#[cfg(any(test, feature = "fake"))]
pub mod forge;
pub mod slo;
pub mod status;

use std::collections::BTreeMap;

use loadline_model::{
    AttemptId, Bytes, CpuRequest, Elastic, FleetId, Generation, JobDraft, JobId, JobSpec, MilliCpu, NodeId,
    OnNodeLost, Span, Tier, WorkerRequest, Workers,
};
use loadline_policy::attempt::{StopWhy, WorkOrder};
use loadline_proto::types::v1 as proto;
use prost::Message;

pub use loadline_proto::types::v1::SignedOrder;

/// An order, whoever it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// From this fleet.
    pub fleet: FleetId,
    /// For this node.
    pub node: NodeId,
    /// Its place among the orders for the node.
    pub generation: Generation,
    /// About this attempt.
    pub attempt: AttemptId,
    /// What to do.
    pub what: Ordered,
}

/// What an order asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a handful exist at a time")]
pub enum Ordered {
    /// Run this.
    Start(WorkOrder),
    /// End it.
    Stop {
        /// Why.
        why: StopWhy,
        /// How long it may take.
        grace: Span,
    },
    /// Something this version does not understand, or that is not valid; one sentence.
    Unclear(String),
}

/// Why bytes are no order at all.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// They are no message.
    #[error("it cannot be decoded")]
    Message(#[source] prost::DecodeError),
    /// An id in it is none.
    #[error("an id in it is wrong")]
    Id(#[source] loadline_model::ParseIdError),
}

/// Decodes the signed bytes of an order.
///
/// # Errors
/// When they are no order, or do not say whose.
pub fn order(bytes: &[u8]) -> Result<Order, DecodeError> {
    let order = proto::Order::decode(bytes).map_err(DecodeError::Message)?;
    let attempt = AttemptId::from_slice(&order.attempt_id).map_err(DecodeError::Id)?;
    let what = match order.what {
        Some(proto::order::What::Start(start)) => {
            work_order(attempt, start).map_or_else(Ordered::Unclear, Ordered::Start)
        }
        Some(proto::order::What::Stop(stop)) => Ordered::Stop {
            why: match stop.reason() {
                proto::EndReason::NodeLost => StopWhy::NodeLost,
                proto::EndReason::TimeLimit => StopWhy::TimeLimit,
                proto::EndReason::Evicted => StopWhy::Evicted,
                _ => StopWhy::Cancelled,
            },
            grace: Span(stop.grace_us),
        },
        None => Ordered::Unclear("it asks for something this version of loadline-node does not know".into()),
    };
    Ok(Order {
        fleet: FleetId::from_slice(&order.fleet_id).map_err(DecodeError::Id)?,
        node: NodeId::from_slice(&order.node_id).map_err(DecodeError::Id)?,
        generation: Generation(order.generation),
        attempt,
        what,
    })
}

/// The work order inside a signed order, as the ledger keeps it. None for a stop.
///
/// # Errors
/// When it cannot be read any more.
pub fn stored_order(signed: &[u8]) -> Result<Option<WorkOrder>, DecodeError> {
    let signed = SignedOrder::decode(signed).map_err(DecodeError::Message)?;
    Ok(match order(&signed.order)?.what {
        Ordered::Start(work) => Some(work),
        Ordered::Stop { .. } | Ordered::Unclear(_) => None,
    })
}

/// A signed order as the ledger keeps it.
pub fn to_store(signed: &SignedOrder) -> Vec<u8> {
    signed.encode_to_vec()
}

fn work_order(attempt: AttemptId, start: proto::StartOrder) -> Result<WorkOrder, String> {
    let job = JobId::from_slice(&start.job_id).map_err(|error| error.to_string())?;
    let spec = start.spec.ok_or("it does not say what to run")?;
    Ok(WorkOrder {
        attempt,
        job,
        job_number: start.job_number,
        worker: start.worker,
        attempt_number: start.attempt_number,
        user: start.user,
        team: start.team,
        spec: job_spec(spec)?,
    })
}

fn job_spec(spec: proto::JobSpec) -> Result<JobSpec, String> {
    let tier = match spec.tier() {
        proto::Tier::Burst => Tier::Burst,
        proto::Tier::Standard | proto::Tier::Unspecified => Tier::Standard,
    };
    let on_node_lost = match spec.on_node_lost() {
        proto::OnNodeLost::Unspecified => None,
        proto::OnNodeLost::Wait => Some(OnNodeLost::Wait),
        proto::OnNodeLost::Replace => Some(OnNodeLost::Replace),
    };
    let worker = spec
        .worker
        .as_ref()
        .ok_or("it does not say what each worker gets")?;
    let workers = if spec.workers_min == spec.workers_max {
        Workers::Fixed(spec.workers_min)
    } else {
        let (min, max) = (spec.workers_min, spec.workers_max);
        Workers::Elastic(Elastic { min, max })
    };
    let draft = JobDraft {
        name: Some(spec.name.clone()).filter(|name| !name.is_empty()),
        worker: worker_request(worker)?,
        workers,
        tier,
        on_node_lost,
        dir: Some(spec.dir.clone()).filter(|dir| !dir.is_empty()),
        env: spec.env.into_iter().collect::<BTreeMap<_, _>>(),
        command: spec.command,
        retries: spec.retries,
        time: spec.time_limit_us.map(Span),
        grace: spec.grace_us.map(Span),
        nodes: spec.nodes,
    };
    JobSpec::new(draft).map_err(|problems| problems.to_string())
}

fn worker_request(worker: &proto::WorkerRequest) -> Result<WorkerRequest, String> {
    let cpus = match worker.cpu {
        Some(proto::worker_request::Cpu::ExclusiveCpus(cpus)) => CpuRequest::Exclusive(cpus),
        Some(proto::worker_request::Cpu::SharedMillicpu(share)) => CpuRequest::Shared(MilliCpu(share)),
        None => return Err("it does not say how much CPU each worker gets".into()),
    };
    Ok(WorkerRequest {
        cpus,
        memory: Bytes(worker.memory_bytes),
        gpus: worker.gpus,
    })
}
