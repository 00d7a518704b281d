//! How things stand, as it travels.

use std::collections::{BTreeMap, HashMap};

use loadline_model::{Gpu, LineAmounts, NodeSample, ReceiptAction, ResourceSample, Topology};
use loadline_policy::ceiling::Setter;
use loadline_policy::cost::Cost;
use loadline_policy::headroom::Decision;
use loadline_policy::io_cost::State;
use loadline_policy::settings::{Limit, LimitReading, Observed, Setpoints};
use loadline_proto::types::v1 as types;
use loadline_proto::warden::v1 as proto;

use super::slo;
use crate::host::capabilities::{Capability, IO_COST};
use crate::host::cgroup::Usage;
use crate::host::pressure::Window;
use crate::ledger::wire as events;
use crate::warden::facts::Facts;
use crate::warden::reconciler::{CostState, Snapshot};
use crate::warden::slo::Promise;
use crate::warden::week::Watched;

pub use loadline_proto::warden::v1::StatusReply;

/// What only the socket has counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct SocketCounters {
    /// Orders that were not genuine.
    pub orders_refused: u64,
    /// Reloads that kept the old policy.
    pub config_reload_failures: u64,
}

/// What the headroom loop says.
#[derive(Debug, Clone, Default)]
pub struct Word {
    /// Of its last look; none before the first.
    pub decision: Option<Decision>,
    /// What lending has cost since the warden started.
    pub cost: Cost,
    /// The windows of the pressure triggers that wake it.
    pub window: Window,
    /// How far the watch over production's week has come.
    pub week: Watched,
    /// Names the warden's start.
    pub started: String,
    /// How production's promises stand.
    pub promises: Vec<Promise>,
}

/// The whole answer.
pub fn reply(
    snapshot: &Snapshot,
    facts: &Facts,
    sample: Option<&NodeSample>,
    word: &Word,
    socket: SocketCounters,
) -> StatusReply {
    StatusReply {
        version: env!("CARGO_PKG_VERSION").into(),
        boot_id: snapshot.boot_id.clone(),
        ledger_id: snapshot.ledger_id.as_bytes().to_vec(),
        applied_generation: snapshot.generation.0,
        last_sequence: snapshot.last_sequence.0,
        inventory: Some(offered(snapshot, inventory(snapshot, facts))),
        sample: sample.map(|sample| types::NodeSample {
            slo_slack_per_mille: slo::worst(&word.promises),
            cost: Some(cost(snapshot, word)),
            level: word
                .decision
                .map_or_else(String::new, |decision| decision.level.word().into()),
            reason: word
                .decision
                .map_or_else(String::new, |decision| decision.reason.to_string()),
            ..shut(snapshot, node_sample(sample))
        }),
        attempts: snapshot.attempts.iter().map(events::attempt).collect(),
        limits: limits(snapshot),
        counters: Some(counters(snapshot, socket)),
        slices: slices(snapshot),
        headroom: word
            .decision
            .as_ref()
            .map(|decision| headroom(decision, word.window)),
        slo_targets: word.promises.iter().map(slo::target).collect(),
        protect: slo::protect(&snapshot.node.policy.protect, &snapshot.floors, &word.promises),
        week: Some(week(snapshot, &word.week)),
        capabilities: capabilities(snapshot, facts),
        io_costs: snapshot.costs.iter().map(io_cost).collect(),
    }
}

/// Between its windows a node lends nothing: the fleet is to know that before it asks.
fn offered(snapshot: &Snapshot, inventory: types::Inventory) -> types::Inventory {
    let Some(why) = &snapshot.shut else {
        return inventory;
    };
    let missed = inventory.missed.iter().chain([why]).cloned().collect();
    types::Inventory {
        missed,
        line_millicpu: 0,
        line_memory_bytes: 0,
        line_gpus: 0,
        line_whole_cpus: 0,
        ..inventory
    }
}

fn shut(snapshot: &Snapshot, sample: types::NodeSample) -> types::NodeSample {
    let nothing = |resource: types::ResourceSample| types::ResourceSample {
        now: 0,
        firm: 0,
        ..resource
    };
    match snapshot.shut {
        None => sample,
        Some(_) => types::NodeSample {
            cpu: sample.cpu.map(nothing),
            memory: sample.memory.map(nothing),
            ..sample
        },
    }
}

fn cost(snapshot: &Snapshot, word: &Word) -> types::CostSample {
    let evicted = ReceiptAction::Evicted.word();
    let evictions = snapshot.counters.protection_actions.get(evicted);
    types::CostSample {
        stalled_us: word.cost.stalled.0,
        squeezed_us: word.cost.squeezed.0,
        evictions: evictions.copied().unwrap_or(0),
        reaping_us: snapshot.counters.reaping.0,
        since: word.started.clone(),
    }
}

fn week(snapshot: &Snapshot, watched: &Watched) -> proto::Week {
    let (known, mut most) = (snapshot.node.week, snapshot.node.line.most());
    if snapshot.shut.is_some() {
        most = LineAmounts::default();
    }
    proto::Week {
        cpu_millicpu: known.cpu.map(|cpu| cpu.0),
        memory_bytes: known.memory.map(|memory| memory.0),
        watched_us: watched.over.0,
        unsaved: watched.unsaved.clone().unwrap_or_default(),
        most_millicpu: most.cpu.0,
        most_memory_bytes: most.memory.0,
    }
}

fn headroom(decision: &Decision, window: Window) -> proto::Headroom {
    let Setpoints {
        cpu,
        burst,
        memory_high,
        io,
        tasks,
        squeezed,
    } = decision.setpoints;
    proto::Headroom {
        level: decision.level.word().into(),
        reason: decision.reason.to_string(),
        cpu_millicpu: cpu.map(|cpu| cpu.0),
        production_millicpu: decision.production.0,
        squeezed: squeezed.word().into(),
        memory_high_bytes: memory_high.map(|high| high.0),
        io_bytes_per_s: io.map(|rate| rate.0),
        burst_millicpu: burst.map(|cpu| cpu.0),
        reclaim_bytes: (decision.reclaim.0 > 0).then_some(decision.reclaim.0),
        psi_window_us: window.span().map(|span| span.0),
        tasks_max: tasks.map(|held| held.most),
    }
}

/// As tried at the start; which disks go by weight may have changed since.
fn capabilities(snapshot: &Snapshot, facts: &Facts) -> Vec<proto::Capability> {
    let tried = facts.capabilities.iter().filter(|one| one.name != IO_COST);
    tried.chain([&snapshot.weights]).map(capability).collect()
}

fn io_cost((disk, cost): (&String, &CostState)) -> proto::IoCost {
    proto::IoCost {
        disk: disk.clone(),
        held: cost.state == State::Held,
        problem: cost.problem.clone(),
    }
}

fn capability(capability: &Capability) -> proto::Capability {
    proto::Capability {
        name: capability.name.into(),
        works: capability.problem.is_none(),
        problem: capability.problem.clone().unwrap_or_default(),
    }
}

fn inventory(snapshot: &Snapshot, facts: &Facts) -> types::Inventory {
    let node = &snapshot.node;
    let protect = &node.policy.protect;
    let mut missed = facts.missed.clone();
    missed.extend(slo::missed(protect, &snapshot.floors));
    let costs = snapshot.costs.iter().filter(|(_, cost)| !cost.problem.is_empty());
    missed.extend(costs.map(|(disk, cost)| format!("io.cost of {disk}: {}", cost.problem)));
    let lend = &node.policy.lend;
    types::Inventory {
        topology: Some(topology(&node.topology)),
        gpus: facts.gpus.iter().map(gpu).collect(),
        kernel: facts.kernel.clone(),
        systemd: facts.systemd.clone(),
        os: facts.os.clone(),
        mode: lend.mode.word().into(),
        exclusive_cpus: node.pinning.is_cpuset(),
        missed,
        line_millicpu: node.line.cpu.firm.0,
        line_memory_bytes: node.line.memory.firm.0,
        line_gpus: node.line.gpus,
        line_whole_cpus: u64::from(node.line.whole_cpus()),
        allow_teams: lend.allow_teams.iter().cloned().collect(),
        owner_mode: node.owner_mode.word().into(),
        ceilings: node
            .ceilings
            .all()
            .map(|(setter, set)| types::CeilingState {
                here: setter == Setter::Here,
                mode: set.mode.word().into(),
                line_per_mille: set.line.0.into(),
                by: set.by.clone(),
                at_us: set.at.0,
            })
            .collect(),
        protected: slo::sentences(protect),
        prove: lend.prove.word().into(),
    }
}

fn topology(topology: &Topology) -> types::Topology {
    let thread = |thread: &loadline_model::Thread| types::Thread {
        cpu: thread.cpu,
        core: thread.core,
        l3: thread.l3,
        numa: thread.numa,
        socket: thread.socket,
    };
    let node = |node: &loadline_model::NumaNode| types::NumaNode {
        id: node.id,
        memory_bytes: node.memory.0,
    };
    types::Topology {
        threads: topology.threads().iter().map(thread).collect(),
        numa_nodes: topology.numa_nodes().iter().map(node).collect(),
    }
}

fn gpu(gpu: &Gpu) -> types::Gpu {
    types::Gpu {
        uuid: gpu.uuid.clone(),
        model: gpu.model.clone(),
        memory_bytes: gpu.memory.0,
        share_per_mille: u32::from(gpu.share.0),
        mig_profile: gpu.mig_profile.clone(),
    }
}

fn node_sample(sample: &NodeSample) -> types::NodeSample {
    types::NodeSample {
        at_us: sample.at.0,
        cpu: Some(resource(&sample.cpu, |cpu| cpu.0)),
        memory: Some(resource(&sample.memory, |memory| memory.0)),
        cpu_some_us: sample.pressure.cpu_some_us,
        memory_full_us: sample.pressure.memory_full_us,
        io_full_us: sample.pressure.io_full_us,
        ..types::NodeSample::default()
    }
}

fn resource<Q: Copy>(sample: &ResourceSample<Q>, number: impl Fn(Q) -> u64) -> types::ResourceSample {
    types::ResourceSample {
        capacity: number(sample.capacity),
        reserve: number(sample.reserve),
        production: number(sample.production),
        lent: number(sample.lent),
        now: number(sample.now),
        firm: number(sample.firm),
        headroom: number(sample.headroom),
    }
}

fn limits(snapshot: &Snapshot) -> Vec<proto::LimitState> {
    let limit = |cgroup: &str, reading: &LimitReading| proto::LimitState {
        cgroup: cgroup.into(),
        limit: reading.limit.file().into(),
        intended: reading.intended.clone(),
        actual: reading.actual.clone().unwrap_or_default(),
        verified: reading.held,
    };
    let all = snapshot
        .limits
        .iter()
        .flat_map(|(cgroup, readings)| readings.iter().map(move |reading| limit(cgroup, reading)));
    all.collect()
}

fn counters(snapshot: &Snapshot, socket: SocketCounters) -> proto::WardenCounters {
    let counters = &snapshot.counters;
    let actions = counters.protection_actions.iter();
    proto::WardenCounters {
        limit_repairs: counters.limit_repairs,
        starts_ok: counters.starts_ok,
        starts_failed: counters.starts_failed,
        orders_refused: socket.orders_refused,
        end_records_disagreeing: counters.end_records_disagreeing,
        records_set_aside: counters.records_set_aside,
        config_reload_failures: socket.config_reload_failures,
        protection_actions: actions
            .map(|(action, count)| ((*action).to_owned(), *count))
            .collect(),
        reaping_ms: counters.reaping.0 / 1000,
        receipts_not_logged: counters.receipts_not_logged,
    }
}

fn totals(by_resource: &BTreeMap<&'static str, u64>) -> HashMap<String, u64> {
    by_resource
        .iter()
        .map(|(resource, total)| ((*resource).to_owned(), *total))
        .collect()
}

fn slices(snapshot: &Snapshot) -> Vec<proto::SliceUsage> {
    let none = Observed::default();
    let slice = |(slice, usage): (&loadline_policy::settings::Slice, &Usage)| {
        let limits = snapshot.slice_limits.get(slice).unwrap_or(&none);
        proto::SliceUsage {
            slice: slice.unit().into(),
            cpu_usage_us: usage.cpu_time.map(|time| time.0),
            cpu_throttled_us: usage.throttled.map(|time| time.0),
            memory_current_bytes: usage.memory.map(|memory| memory.0),
            memory_max_bytes: match limits.memory_max {
                Some(Limit::At(memory)) => Some(memory.0),
                Some(Limit::Max) | None => None,
            },
            cpus_effective: limits.cpus_effective.as_ref().map(loadline_model::CpuSet::len),
            memory_events: usage.memory_events.clone().into_iter().collect(),
            pressure_waiting_us: totals(&usage.waiting),
            pressure_stalled_us: totals(&usage.stalled),
        }
    };
    snapshot.slices.iter().map(slice).collect()
}
