//! An order off the wire into the vocabulary; used when it arrives and when it is read back from the ledger.

use loadline_model::{
    AttemptId, Bytes, CpuRequest, Elastic, JobDraft, JobId, JobSpec, MilliCpu, OnNodeLost, ParseIdError,
    Span, SpecProblems, Tier, WorkerRequest, Workers,
};
use loadline_policy::attempt::WorkOrder;
use loadline_proto::types::v1::{self as wire, order::What, worker_request::Cpu};
use prost::Message;

/// Why an order cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum OrderProblem {
    /// Not an order at all.
    #[error("decode the order")]
    Decode(#[from] prost::DecodeError),
    /// An id that is none.
    #[error("read an id of the order")]
    Id(#[from] ParseIdError),
    /// A part that must be there is not, or one we do not know is.
    #[error("the order says nothing usable about {0}")]
    Missing(&'static str),
    /// The specification breaks a rule.
    #[error("check the order's job specification")]
    Spec(#[from] SpecProblems),
}

/// The work that an encoded start order asks for.
///
/// # Errors
/// When the bytes are not an order that starts valid work.
pub fn work_order(bytes: &[u8]) -> Result<WorkOrder, OrderProblem> {
    let order = wire::Order::decode(bytes)?;
    let Some(What::Start(start)) = order.what else {
        return Err(OrderProblem::Missing("what to start"));
    };
    Ok(WorkOrder {
        attempt: AttemptId::from_slice(&order.attempt_id)?,
        job: JobId::from_slice(&start.job_id)?,
        job_number: start.job_number,
        worker: start.worker,
        attempt_number: start.attempt_number,
        user: start.user,
        team: start.team,
        spec: spec(start.spec.ok_or(OrderProblem::Missing("the job"))?)?,
    })
}

fn spec(spec: wire::JobSpec) -> Result<JobSpec, OrderProblem> {
    let request = spec
        .worker
        .ok_or(OrderProblem::Missing("what each worker gets"))?;
    let cpus = match request.cpu.ok_or(OrderProblem::Missing("CPUs"))? {
        Cpu::ExclusiveCpus(cpus) => CpuRequest::Exclusive(cpus),
        Cpu::SharedMillicpu(share) => CpuRequest::Shared(MilliCpu(share)),
    };
    let tier = match wire::Tier::try_from(spec.tier) {
        Ok(wire::Tier::Standard) => Tier::Standard,
        Ok(wire::Tier::Burst) => Tier::Burst,
        _ => return Err(OrderProblem::Missing("the tier")),
    };
    let on_node_lost = match wire::OnNodeLost::try_from(spec.on_node_lost) {
        Ok(wire::OnNodeLost::Wait) => Some(OnNodeLost::Wait),
        Ok(wire::OnNodeLost::Replace) => Some(OnNodeLost::Replace),
        Ok(wire::OnNodeLost::Unspecified) => None,
        Err(_) => return Err(OrderProblem::Missing("lost nodes")),
    };
    let (min, max) = (spec.workers_min, spec.workers_max);
    let workers = if min == max {
        Workers::Fixed(min)
    } else {
        Workers::Elastic(Elastic { min, max })
    };
    let draft = JobDraft {
        name: Some(spec.name),
        command: spec.command,
        dir: Some(spec.dir),
        env: spec.env.into_iter().collect(),
        workers,
        tier,
        retries: spec.retries,
        time: spec.time_limit_us.map(Span),
        grace: spec.grace_us.map(Span),
        on_node_lost,
        worker: WorkerRequest {
            cpus,
            memory: Bytes(request.memory_bytes),
            gpus: request.gpus,
        },
        nodes: spec.nodes,
    };
    Ok(JobSpec::new(draft)?)
}
