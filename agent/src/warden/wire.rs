//! Orders from the wire into our own words. What is not understood is said, so that it can be refused by name.

pub mod client;
#[cfg(any(test, feature = "fake"))]
pub mod forge;
mod prove;
pub mod slo;
pub mod status;

use std::collections::BTreeMap;

use loadline_model::{
    AttemptId, Bytes, CpuRequest, Elastic, FleetId, Generation, JobDraft, JobId, JobSpec, MilliCpu, Needs,
    NodeId, Numa, OnNodeLost, PerMille, Span, Tier, Waits, WorkerRequest, Workers,
};
use loadline_policy::attempt::{StopWhy, WorkOrder};
use loadline_policy::ceiling::Wish;
use loadline_policy::node_policy::Mode;
use loadline_policy::prove::ordered::ProveOrder;
use loadline_proto::types::v1 as proto;
use loadline_proto::warden::v1::SetCeilingRequest;
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
    /// About this attempt; none: about the node.
    pub attempt: Option<AttemptId>,
    /// What to do.
    pub what: Ordered,
}

/// What an order asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    /// Run this.
    Start(Box<WorkOrder>),
    /// End it.
    Stop {
        /// Why.
        why: StopWhy,
        /// How long it may take.
        grace: Span,
    },
    /// The most this node may do from now on.
    Ceiling {
        /// No more than this.
        mode: Mode,
        /// At most this part of the static line.
        line: PerMille,
        /// Who says so.
        by: String,
    },
    /// Test this node, or no longer.
    Prove(ProveOrder),
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
    let attempt = match order.attempt_id.as_slice() {
        // What is about the node, or from a newer fleet.
        [] if !is_about_attempt(order.what.as_ref()) => None,
        id => Some(AttemptId::from_slice(id).map_err(DecodeError::Id)?),
    };
    let what = match order.what {
        Some(proto::order::What::Start(start)) => attempt
            .ok_or_else(String::new)
            .and_then(|attempt| work_order(attempt, start))
            .map_or_else(Ordered::Unclear, |work| Ordered::Start(Box::new(work))),
        Some(proto::order::What::Ceiling(order)) => ceiling(order),
        Some(proto::order::What::Prove(order)) => prove::order(order),
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

/// What root on this node wants.
///
/// # Errors
/// When it names no mode of ours, or more than all of the line; one sentence.
pub fn wish(request: SetCeilingRequest) -> Result<Wish, String> {
    let mode = request.mode.map(|word| {
        Mode::from_word(&word)
            .ok_or_else(|| format!("there is no mode `{word}`: there are off, shadow and enforce"))
    });
    let line = request.line_per_mille.map(|share| {
        let share = u16::try_from(share)
            .ok()
            .filter(|share| *share <= PerMille::ONE.0);
        share
            .map(PerMille)
            .ok_or_else(|| "a line is between 0 and 100 %".to_owned())
    });
    Ok(Wish {
        mode: mode.transpose()?,
        line: line.transpose()?,
        by: request.by,
    })
}

const fn is_about_attempt(what: Option<&proto::order::What>) -> bool {
    matches!(
        what,
        Some(proto::order::What::Start(_) | proto::order::What::Stop(_))
    )
}

fn ceiling(order: proto::CeilingOrder) -> Ordered {
    let proto::CeilingOrder {
        mode,
        line_per_mille,
        by,
    } = order;
    let share = u16::try_from(line_per_mille)
        .ok()
        .filter(|share| *share <= PerMille::ONE.0);
    match (Mode::from_word(&mode), share) {
        (Some(mode), Some(share)) => Ordered::Ceiling {
            mode,
            line: PerMille(share),
            by,
        },
        _ => Ordered::Unclear(format!(
            "it asks for the mode `{mode}` and {line_per_mille} thousandths of the line, which this version of loadline-node does not know"
        )),
    }
}

/// The work order inside a signed order, as the ledger keeps it. None for a stop.
///
/// # Errors
/// When it cannot be read any more.
pub fn stored_order(signed: &[u8]) -> Result<Option<WorkOrder>, DecodeError> {
    let signed = SignedOrder::decode(signed).map_err(DecodeError::Message)?;
    Ok(match order(&signed.order)?.what {
        Ordered::Start(work) => Some(*work),
        Ordered::Stop { .. } | Ordered::Ceiling { .. } | Ordered::Prove(_) | Ordered::Unclear(_) => None,
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
        needs: needs(worker)?,
        waits: Waits::default(),
        gang: false,
        tasks: None,
        // Both are the fleet's business: here nothing depends on them.
        priority: loadline_model::Priority::NORMAL,
        team: None,
    };
    JobSpec::new(draft).map_err(|problems| problems.to_string())
}

/// Of what a job needs only what is held on a node: the rest is the fleet's to see to.
fn needs(worker: &proto::WorkerRequest) -> Result<Needs, String> {
    let numa = match worker.numa.as_str() {
        "" => Numa::Any,
        word => Numa::from_word(word).ok_or("it names a way to use NUMA nodes that is not known here")?,
    };
    let share =
        u16::try_from(worker.gpu_share_per_mille).map_err(|_| "it asks for more than a GPU's share")?;
    Ok(Needs {
        gpu_memory: Bytes(worker.gpu_memory_bytes),
        gpu_share: (share > 0).then_some(PerMille(share)),
        scratch: Bytes(worker.scratch_bytes),
        numa,
        ..Needs::default()
    })
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
