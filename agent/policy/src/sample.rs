//! Machines, jobs and attempts to try the decisions on.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use loadline_model::{
    AttemptId, Bytes, CpuRequest, JobDraft, JobId, JobSpec, NumaNode, Thread, Tier, Topology, WorkerRequest,
    Workers,
};

use crate::attempt::WorkOrder;

/// `sockets` × `cores` × `smt` threads, one NUMA node and one L3 a socket; siblings are numbered as Intel
/// servers have it: all first threads first. `gib` of memory for each NUMA node.
pub(crate) fn machine(sockets: u32, cores: u32, smt: u32, gib: u64) -> Topology {
    machine_with_l3(sockets, cores, smt, gib, cores)
}

/// The same with an L3 for every `cores_per_l3` cores.
pub(crate) fn machine_with_l3(sockets: u32, cores: u32, smt: u32, gib: u64, cores_per_l3: u32) -> Topology {
    let total = sockets * cores;
    let threads = (0..total * smt).map(|cpu| {
        let core = cpu % total;
        let socket = core / cores;
        let l3 = socket * cores + core % cores / cores_per_l3 * cores_per_l3;
        Thread {
            cpu,
            core,
            l3,
            numa: socket,
            socket,
        }
    });
    let node = |id| NumaNode {
        id,
        memory: Bytes::from_gib(gib),
    };
    Topology::new(threads.collect(), (0..sockets).map(node).collect()).unwrap()
}

pub(crate) fn attempt(number: u128) -> AttemptId {
    AttemptId::from_uuid(uuid::Uuid::from_u128(number))
}

pub(crate) fn draft(tier: Tier, cpus: CpuRequest, memory: Bytes) -> JobDraft {
    JobDraft {
        name: None,
        command: ["work".to_string(), "hard".to_string()].into(),
        dir: None,
        env: BTreeMap::new(),
        workers: Workers::Fixed(1),
        tier,
        retries: 0,
        time: None,
        grace: None,
        on_node_lost: None,
        worker: WorkerRequest {
            cpus,
            memory,
            gpus: 0,
        },
        nodes: Vec::new(),
        needs: loadline_model::Needs::default(),
        waits: loadline_model::Waits::default(),
        gang: false,
        tasks: None,
        priority: loadline_model::Priority::NORMAL,
        team: None,
    }
}

pub(crate) fn spec(tier: Tier, cpus: CpuRequest, memory: Bytes) -> JobSpec {
    JobSpec::new(draft(tier, cpus, memory)).unwrap()
}

pub(crate) fn order(number: u128, spec: JobSpec) -> WorkOrder {
    WorkOrder {
        attempt: attempt(number),
        job: JobId::from_uuid(uuid::Uuid::from_u128(number)),
        job_number: 412,
        worker: 0,
        attempt_number: 1,
        user: "alice".into(),
        team: "research".into(),
        spec,
    }
}
