//! The warden's status, as the agent shows it and passes it on.

use std::collections::{BTreeMap, BTreeSet};

use loadline_model::{
    AttemptId, Bytes, Generation, LedgerId, MilliCpu, NodeSample, ParseIdError, Pressure, ResourceSample,
    Sequence, Span, WallTime,
};
use loadline_proto::types::v1 as types;
use loadline_proto::warden::v1 as warden;

use super::WireError;
use super::slo::{self, Protected, SloTarget};

/// One limit, meant and held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) cgroup: String,
    pub(crate) limit: String,
    pub(crate) verified: bool,
}

/// What a slice uses; absent where the warden could not read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) name: String,
    pub(crate) cpu_usage_us: Option<u64>,
    pub(crate) cpu_throttled_us: Option<u64>,
    pub(crate) memory_current: Option<u64>,
    pub(crate) memory_max: Option<u64>,
    pub(crate) cpus: Option<u32>,
    pub(crate) memory_events: BTreeMap<String, u64>,
    pub(crate) waiting_us: BTreeMap<String, u64>,
    pub(crate) stalled_us: BTreeMap<String, u64>,
}

/// What the warden's headroom loop says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headroom {
    pub(crate) level: String,
    pub(crate) reason: String,
    /// Absent: the static line.
    pub(crate) cpu: Option<MilliCpu>,
    pub(crate) production: MilliCpu,
    pub(crate) squeezed: String,
    /// Absent: the static line.
    pub(crate) memory_high: Option<Bytes>,
    /// Bytes a second, each way, of each disk; absent: no limit.
    pub(crate) io_rate: Option<u64>,
    /// Absent: all of it.
    pub(crate) burst: Option<MilliCpu>,
    /// Taken back at this look.
    pub(crate) reclaim: Bytes,
    /// Of the pressure triggers that wake it; absent: only its tick does.
    pub(crate) psi_window: Option<Span>,
    /// Processes and threads; absent: the static limit.
    pub(crate) tasks_max: Option<u64>,
}

/// What the warden has watched of production's last week.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Week {
    /// The 99th percentile; absent: not known yet.
    pub(crate) cpu: Option<MilliCpu>,
    /// The same.
    pub(crate) memory: Option<Bytes>,
    pub(crate) watched: Span,
    /// It is on the disk.
    pub(crate) saved: bool,
    /// The static line: what all lent work may have.
    pub(crate) most: MilliCpu,
}

/// What the warden counted since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) limit_repairs: u64,
    pub(crate) starts_ok: u64,
    pub(crate) starts_failed: u64,
    pub(crate) orders_refused: u64,
    pub(crate) end_records_disagreeing: u64,
    pub(crate) records_set_aside: u64,
    pub(crate) config_reload_failures: u64,
    pub(crate) protection_actions: BTreeMap<String, u64>,
    /// CPU time granted to those who were ended while lent work starved.
    pub(crate) reaping_ms: u64,
    /// That did not get into a worker's own log.
    pub(crate) receipts_not_logged: u64,
}

/// The warden's status.
#[derive(Debug, Clone)]
pub(crate) struct WardenStatus {
    pub(crate) version: String,
    pub(crate) boot_id: String,
    pub(crate) ledger: LedgerId,
    pub(crate) applied: Generation,
    pub(crate) last_sequence: Sequence,
    pub(crate) sample: Option<NodeSample>,
    /// Attempts that have not ended.
    pub(crate) open: BTreeSet<AttemptId>,
    /// How many of them stand where.
    pub(crate) phases: BTreeMap<&'static str, u64>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) slices: Vec<Slice>,
    /// Absent before its loop's first look.
    pub(crate) headroom: Option<Headroom>,
    /// Absent: an older warden.
    pub(crate) week: Option<Week>,
    /// What the loop needs of the host, and whether it works there.
    pub(crate) capabilities: BTreeMap<String, bool>,
    /// Absent: the warden gave none.
    pub(crate) counters: Option<Counters>,
    /// What the agent is to probe.
    pub(crate) slo_targets: Vec<SloTarget>,
    /// Production's units that the owner names.
    pub(crate) protect: Vec<Protected>,
    pub(super) raw_sample: Option<types::NodeSample>,
    pub(super) inventory: Option<types::Inventory>,
    pub(super) attempts: Vec<types::AttemptState>,
}

#[cfg(test)]
impl WardenStatus {
    /// Of a warden that has nothing to say.
    pub(crate) fn empty(ledger: LedgerId) -> Self {
        let reply = warden::StatusReply {
            ledger_id: ledger.as_bytes().to_vec(),
            ..Default::default()
        };
        Self::try_from(reply).unwrap()
    }
}

impl TryFrom<warden::StatusReply> for WardenStatus {
    type Error = WireError;

    fn try_from(reply: warden::StatusReply) -> Result<Self, Self::Error> {
        let warden::StatusReply {
            version,
            boot_id,
            ledger_id,
            applied_generation,
            last_sequence,
            inventory,
            sample,
            attempts,
            limits,
            counters,
            slices,
            headroom,
            capabilities,
            slo_targets,
            protect,
            week,
            // The node's own screens show it; its problems are in the inventory.
            io_costs: _,
        } = reply;
        let mut phases = BTreeMap::new();
        for state in &attempts {
            *phases.entry(word(state.phase())).or_default() += 1;
        }
        let open = attempts
            .iter()
            .map(|state| AttemptId::from_slice(&state.attempt_id))
            .collect::<Result<_, ParseIdError>>()?;
        Ok(Self {
            version,
            boot_id,
            ledger: LedgerId::from_slice(&ledger_id)?,
            applied: Generation(applied_generation),
            last_sequence: Sequence(last_sequence),
            sample: sample.as_ref().and_then(read_sample),
            open,
            phases,
            limits: limits.into_iter().map(read_limit).collect(),
            slices: slices.into_iter().map(read_slice).collect(),
            headroom: headroom.map(read_headroom),
            week: week.map(read_week),
            capabilities: capabilities
                .into_iter()
                .map(|one| (one.name, one.works))
                .collect(),
            counters: counters.map(read_counters),
            slo_targets: slo_targets.into_iter().filter_map(slo::target).collect(),
            protect: protect.into_iter().map(slo::protected).collect(),
            raw_sample: sample,
            inventory,
            attempts,
        })
    }
}

fn read_week(week: warden::Week) -> Week {
    Week {
        cpu: week.cpu_millicpu.map(MilliCpu),
        memory: week.memory_bytes.map(Bytes),
        watched: Span(week.watched_us),
        saved: week.unsaved.is_empty(),
        most: MilliCpu(week.most_millicpu),
    }
}

fn read_headroom(headroom: warden::Headroom) -> Headroom {
    let warden::Headroom {
        level,
        reason,
        cpu_millicpu,
        production_millicpu,
        squeezed,
        memory_high_bytes,
        io_bytes_per_s,
        burst_millicpu,
        reclaim_bytes,
        psi_window_us,
        tasks_max,
    } = headroom;
    Headroom {
        level,
        reason,
        cpu: cpu_millicpu.map(MilliCpu),
        production: MilliCpu(production_millicpu),
        squeezed,
        memory_high: memory_high_bytes.map(Bytes),
        io_rate: io_bytes_per_s,
        burst: burst_millicpu.map(MilliCpu),
        reclaim: Bytes(reclaim_bytes.unwrap_or(0)),
        psi_window: psi_window_us.map(Span),
        tasks_max,
    }
}

fn word(phase: types::AttemptPhase) -> &'static str {
    match phase {
        types::AttemptPhase::Unspecified => "unknown",
        types::AttemptPhase::Assigned => "assigned",
        types::AttemptPhase::Starting => "starting",
        types::AttemptPhase::Running => "running",
        types::AttemptPhase::Squeezed => "squeezed",
        types::AttemptPhase::Stopping => "stopping",
        types::AttemptPhase::Ended => "ended",
    }
}

fn read_counters(counters: warden::WardenCounters) -> Counters {
    let warden::WardenCounters {
        limit_repairs,
        starts_ok,
        starts_failed,
        orders_refused,
        end_records_disagreeing,
        records_set_aside,
        config_reload_failures,
        protection_actions,
        reaping_ms,
        receipts_not_logged,
    } = counters;
    Counters {
        limit_repairs,
        starts_ok,
        starts_failed,
        orders_refused,
        end_records_disagreeing,
        records_set_aside,
        config_reload_failures,
        protection_actions: protection_actions.into_iter().collect(),
        reaping_ms,
        receipts_not_logged,
    }
}

fn read_limit(limit: warden::LimitState) -> Limit {
    let warden::LimitState {
        cgroup,
        limit,
        intended: _,
        actual: _,
        verified,
    } = limit;
    Limit {
        cgroup,
        limit,
        verified,
    }
}

fn read_slice(usage: warden::SliceUsage) -> Slice {
    let warden::SliceUsage {
        slice,
        cpu_usage_us,
        cpu_throttled_us,
        memory_current_bytes,
        memory_max_bytes,
        cpus_effective,
        memory_events,
        pressure_waiting_us,
        pressure_stalled_us,
    } = usage;
    Slice {
        name: slice,
        cpu_usage_us,
        cpu_throttled_us,
        memory_current: memory_current_bytes,
        memory_max: memory_max_bytes,
        cpus: cpus_effective,
        memory_events: memory_events.into_iter().collect(),
        waiting_us: pressure_waiting_us.into_iter().collect(),
        stalled_us: pressure_stalled_us.into_iter().collect(),
    }
}

fn read_sample(sample: &types::NodeSample) -> Option<NodeSample> {
    fn resource<Q>(raw: types::ResourceSample, unit: fn(u64) -> Q) -> ResourceSample<Q> {
        let types::ResourceSample {
            capacity,
            reserve,
            production,
            lent,
            now,
            firm,
            headroom,
        } = raw;
        ResourceSample {
            capacity: unit(capacity),
            reserve: unit(reserve),
            production: unit(production),
            lent: unit(lent),
            now: unit(now),
            firm: unit(firm),
            headroom: unit(headroom),
        }
    }
    Some(NodeSample {
        at: WallTime(sample.at_us),
        cpu: resource(sample.cpu?, MilliCpu),
        memory: resource(sample.memory?, Bytes),
        pressure: Pressure {
            cpu_some_us: sample.cpu_some_us,
            memory_full_us: sample.memory_full_us,
            io_full_us: sample.io_full_us,
        },
    })
}
