//! What the played fleet consists of and what is asked of it.

use loadline_fleet::state::{Event, Happening, Hello, Inventory, LendMode, Order, OrderKind, Reported, Site};
use loadline_model::{
    Amounts, AttemptPhase, Bytes, CpuRequest, Generation, JobDraft, JobSpec, LedgerId, MilliCpu, NodeId,
    NodeSample, Pressure, ResourceSample, Sequence, Tier, WallTime, WorkerRequest, Workers,
};

const BOOT: &str = "c1bceb1f-6d8e-4f03-bba5-3291cf25d6a8";

/// Sixteen bytes that ascend, as the time-ordered ids of jobs and nodes do: version 7, variant 1.
pub(crate) fn id(number: u64) -> [u8; 16] {
    let bytes = number.to_be_bytes();
    let mut id = [1; 16];
    id[..6].copy_from_slice(&bytes[2..]);
    id[6] = 0x70;
    id[8] = 0x80;
    id
}

/// Every fourth node has eight GPUs.
fn lent(number: u64) -> Amounts {
    Amounts {
        cpu: MilliCpu::from_cpus(64),
        memory: Bytes::from_gib(512),
        gpus: if number.is_multiple_of(4) { 8 } else { 0 },
    }
}

pub(crate) fn hello(number: u64) -> anyhow::Result<Hello> {
    Ok(Hello {
        node: NodeId::from_slice(&id(number))?,
        name: format!("node{number}"),
        version: "0.1.0".into(),
        boot_id: BOOT.into(),
        ledger: LedgerId::from_slice(&id(number))?,
        applied: Generation(0),
        last_sequence: Sequence(0),
        first_sequence: None,
        inventory: Some(Inventory {
            topology: None,
            gpus: Vec::new(),
            kernel: "6.12.0".into(),
            systemd: "257".into(),
            os: "Debian 13".into(),
            mode: LendMode::Enforce,
            exclusive_cpus: true,
            missed: Vec::new(),
            line: lent(number),
            line_whole_cpus: 64,
            allow_teams: Vec::new(),
            owner_mode: None,
            ceilings: Vec::new(),
            protected: Vec::new(),
            prove: None,
        }),
        attempts: Vec::new(),
        complete: true,
    })
}

/// The event by which a node says that what it was ordered to start runs.
pub(crate) fn runs(order: &Order, sequence: u64, at: WallTime) -> anyhow::Result<Option<Event>> {
    let (Some(attempt), OrderKind::Start(start)) = (order.attempt, &order.what) else {
        return Ok(None);
    };
    let cpus = match start.spec.worker.cpus {
        CpuRequest::Exclusive(cpus) => cpus,
        CpuRequest::Shared(_) => 64,
    };
    let site = Site {
        cpus: (0..cpus).collect(),
        numa_nodes: (0..1).collect(),
        exclusive: true,
        main_pid: 4242,
        user: start.unix_account.as_str().into(),
    };
    let reported = Reported {
        attempt,
        job: Some(start.job),
        phase: AttemptPhase::Running,
        site: Some(site),
        ended: None,
        orphan: false,
    };
    Ok(Some(Event {
        ledger: LedgerId::from_slice(order.node.as_bytes())?,
        sequence: Sequence(sequence),
        boot_id: BOOT.into(),
        at,
        what: Happening::Attempt(Box::new(reported)),
    }))
}

pub(crate) fn sample(at: WallTime) -> NodeSample {
    let all = lent(1);
    NodeSample {
        at,
        cpu: ResourceSample {
            capacity: all.cpu,
            now: all.cpu,
            firm: all.cpu,
            ..ResourceSample::default()
        },
        memory: ResourceSample {
            capacity: all.memory,
            now: all.memory,
            firm: all.memory,
            ..ResourceSample::default()
        },
        pressure: Pressure::default(),
    }
}

/// Of twenty jobs twelve want one CPU, seven two, and one four and a GPU.
pub(crate) fn spec(number: u64) -> anyhow::Result<JobSpec> {
    let (cpus, gpus) = match number % 20 {
        0..12 => (1, 0),
        12..19 => (2, 0),
        _ => (4, 1),
    };
    Ok(JobSpec::new(JobDraft {
        name: None,
        command: vec!["true".into()],
        dir: None,
        env: std::collections::BTreeMap::new(),
        workers: Workers::Fixed(1),
        tier: Tier::Standard,
        retries: 0,
        time: None,
        grace: None,
        on_node_lost: None,
        worker: WorkerRequest {
            cpus: CpuRequest::Exclusive(cpus),
            memory: Bytes::from_gib(u64::from(cpus) * 4),
            gpus,
        },
        nodes: Vec::new(),
        priority: loadline_model::Priority::NORMAL,
        team: None,
        needs: loadline_model::Needs::default(),
        waits: loadline_model::Waits::default(),
        gang: false,
        tasks: None,
    })?)
}
