//! Job specifications to the wire, and back as views.

use loadline_model::{CpuRequest, JobSpec, OnNodeLost, Priority, Tier};
use loadline_proto::types::v1 as pb;

use super::needs;
use crate::view::{RequestView, SpecView};

/// A checked job as it is sent.
pub(super) fn to_wire(spec: &JobSpec) -> pb::JobSpec {
    let worker = &spec.worker;
    let cpu = match worker.cpus {
        CpuRequest::Exclusive(cpus) => pb::worker_request::Cpu::ExclusiveCpus(cpus),
        CpuRequest::Shared(share) => pb::worker_request::Cpu::SharedMillicpu(share.0),
    };
    let tier = match spec.tier {
        Tier::Standard => pb::Tier::Standard,
        Tier::Burst => pb::Tier::Burst,
    };
    let on_node_lost = match spec.on_node_lost {
        OnNodeLost::Wait => pb::OnNodeLost::Wait,
        OnNodeLost::Replace => pb::OnNodeLost::Replace,
    };
    let mut wire = pb::JobSpec {
        name: spec.name.clone(),
        command: spec.command.clone(),
        dir: spec.dir.clone(),
        env: spec.env.clone().into_iter().collect(),
        workers_min: spec.workers.min(),
        workers_max: spec.workers.max(),
        tier: tier.into(),
        retries: spec.retries,
        time_limit_us: spec.time.map(|span| span.0),
        grace_us: Some(spec.grace.0),
        on_node_lost: on_node_lost.into(),
        worker: Some(pb::WorkerRequest {
            cpu: Some(cpu),
            memory_bytes: worker.memory.0,
            gpus: worker.gpus,
            ..Default::default()
        }),
        nodes: spec.nodes.clone(),
        priority: spec.priority.0.into(),
        team: spec.team.clone().unwrap_or_default(),
        ..Default::default()
    };
    needs::write(spec, &mut wire);
    wire
}

pub(super) fn view(spec: pb::JobSpec) -> SpecView {
    let on_node_lost = match spec.on_node_lost() {
        pb::OnNodeLost::Unspecified => None,
        pb::OnNodeLost::Wait => Some(OnNodeLost::Wait.word()),
        pb::OnNodeLost::Replace => Some(OnNodeLost::Replace.word()),
    };
    let needs = needs::view(&spec);
    let worker = spec.worker.unwrap_or_default();
    let (millicpu, exclusive) = match worker.cpu {
        Some(pb::worker_request::Cpu::ExclusiveCpus(cpus)) => (u64::from(cpus) * 1000, true),
        Some(pb::worker_request::Cpu::SharedMillicpu(share)) => (share, false),
        None => (0, false),
    };
    SpecView {
        command: spec.command,
        dir: spec.dir,
        env: spec.env.into_iter().collect(),
        workers_min: spec.workers_min,
        workers_max: spec.workers_max,
        retries: spec.retries,
        time_limit_us: spec.time_limit_us,
        grace_us: spec.grace_us,
        on_node_lost,
        nodes: spec.nodes,
        needs,
        priority: i16::try_from(spec.priority)
            .map(Priority)
            .unwrap_or_default()
            .to_string(),
        team: spec.team,
        worker: RequestView {
            millicpu,
            exclusive,
            memory_bytes: worker.memory_bytes,
            gpus: worker.gpus,
        },
    }
}

pub(super) const fn tier_word(tier: pb::Tier) -> &'static str {
    match tier {
        pb::Tier::Burst => Tier::Burst.word(),
        pb::Tier::Standard => Tier::Standard.word(),
        pb::Tier::Unspecified => "unknown",
    }
}
