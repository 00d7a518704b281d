//! One typed truth for the limits of a worker and of a slice. The host edge only encodes it; [`compare`] says
//! whether the kernel does what was meant.

mod compare;
mod place;

use alloc::string::String;

use loadline_model::{AttemptId, Bytes, CpuSet, JobSpec, MilliCpu, PerMille, Span, Tier};

use crate::allocation::Grant;
use crate::line::Line;

pub use crate::io_cost::{Seen as IoCostSeen, Words as IoCostWords, lines as io_cost_lines, weighed};
pub use crate::protect::Floor;
pub use crate::reap::Fed;
pub use crate::reap::hung::Memory;
pub use compare::{
    CpuMax, IoMax, LimitName, LimitReading, Mismatch, Observed, QUOTA_PERIOD_US, Spread, Told, compare,
    readings,
};
pub use place::Place;

/// A limit, or none at all. Never a magic number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit<Q> {
    /// The kernel's `max`, systemd's `infinity`.
    Max,
    /// At most this.
    At(Q),
}

/// A share of CPU against siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuWeight {
    /// The idle class: runs only when nobody else wants to.
    Idle,
    /// 1 to 10000; 100 is usual.
    Weight(u16),
}

/// What happens to a worker when one of its processes was killed for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomPolicy {
    /// All its processes are killed, and the unit fails with `oom-kill`.
    Kill,
    /// The others go on.
    Continue,
}

/// Loadline's three slices, parents first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slice {
    /// `loadline.slice`: the line.
    Root,
    /// `loadline-standard.slice`.
    Standard,
    /// `loadline-burst.slice`.
    Burst,
}

impl Slice {
    /// All, parents first.
    pub const ALL: [Self; 3] = [Self::Root, Self::Standard, Self::Burst];

    /// The unit.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Root => "loadline.slice",
            Self::Standard => "loadline-standard.slice",
            Self::Burst => "loadline-burst.slice",
        }
    }

    /// Where workers of a tier live.
    pub const fn of(tier: Tier) -> Self {
        match tier {
            Tier::Standard => Self::Standard,
            Tier::Burst => Self::Burst,
        }
    }
}

/// Whether CPUs are pinned on this node: the outcome of the cpuset probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinning {
    /// `AllowedCPUs` is set.
    Cpuset,
    /// It is not, and exclusive CPUs are refused for good.
    WeightsOnly {
        /// One sentence, naming the processes that pinning would harm, or the policy that forbids it.
        why: String,
    },
}

impl Pinning {
    /// True if CPUs are pinned.
    pub const fn is_cpuset(&self) -> bool {
        matches!(self, Self::Cpuset)
    }
}

/// Everything that limits one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Its unit.
    pub unit: String,
    /// The slice it lives in.
    pub slice: Slice,
    /// Its CPUs, always a full list; none on a weights-only node.
    pub allowed_cpus: Option<CpuSet>,
    /// NUMA nodes it may take memory from; none on a weights-only node.
    pub allowed_memory_nodes: Option<CpuSet>,
    /// Its share against its siblings, always set.
    pub cpu_weight: CpuWeight,
    /// Where the kernel begins to slow it down.
    pub memory_high: Limit<Bytes>,
    /// Where the kernel kills it.
    pub memory_max: Limit<Bytes>,
    /// How much of it may be swapped out.
    pub memory_swap_max: Limit<Bytes>,
    /// Processes and threads.
    pub tasks_max: Limit<u64>,
    /// What a kill for memory means.
    pub oom_policy: OomPolicy,
    /// How long it may take to end before it is killed.
    pub timeout_stop: Span,
}

/// How fast something may be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BytesPerSecond(pub u64);

/// Everything that limits one slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceSettings {
    /// Which.
    pub slice: Slice,
    /// Its CPUs, always a full list; none on a weights-only node, or if none is lendable.
    pub allowed_cpus: Option<CpuSet>,
    /// Its share against its siblings, always set.
    pub cpu_weight: CpuWeight,
    /// Its share of disk time; means nothing without io.cost or BFQ.
    pub io_weight: Option<u16>,
    /// What it may read, and what it may write, of each disk of the machine.
    pub io_bandwidth: Limit<BytesPerSecond>,
    /// CPU per second; a multiple of [`QUOTA_STEP`].
    pub cpu_quota: Limit<MilliCpu>,
    /// Where the kernel begins to slow it down.
    pub memory_high: Limit<Bytes>,
    /// Where the kernel kills in it.
    pub memory_max: Limit<Bytes>,
    /// How much of it may be swapped out.
    pub memory_swap_max: Limit<Bytes>,
    /// Processes and threads.
    pub tasks_max: Limit<u64>,
}

/// What the headroom loop asks for below the static line. Default: nothing, so the static line holds.
///
/// This is the loop's place: it returns setpoints, [`slice_settings`] turns them into limits, and the
/// reconciler applies and verifies them like any other. Setpoints only ever lower what the line allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Setpoints {
    /// CPU for all lent work.
    pub cpu: Option<MilliCpu>,
    /// CPU for burst, so that standard keeps its share of the above.
    pub burst: Option<MilliCpu>,
    /// Memory for all lent work, as `memory.high`.
    pub memory_high: Option<Bytes>,
    /// What all lent work may read, and what it may write, of each disk of the machine.
    pub io: Option<BytesPerSecond>,
    /// How many processes and threads all lent work may have.
    pub tasks: Option<TasksLimit>,
    /// Tiers held at their floor.
    pub squeezed: Squeezed,
}

/// A limit on processes and threads, below the static one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TasksLimit {
    /// So many.
    pub most: u64,
    /// What it was set for.
    pub why: TasksWhy,
}

/// What a limit on processes and threads is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TasksWhy {
    /// Memory is short.
    Memory,
    /// Their number rose by far too many within a second.
    Growth,
}

impl core::fmt::Display for TasksWhy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory is short",
            Self::Growth => "more than a thousand came within a second",
        })
    }
}

/// Which tiers are held at their floor, in the order of the ladder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Squeezed {
    /// None.
    #[default]
    No,
    /// Burst.
    Burst,
    /// Burst and standard.
    All,
}

impl Squeezed {
    /// The word used in tables, JSON and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::No => "none",
            Self::Burst => "burst",
            Self::All => "all",
        }
    }

    /// True if workers of the tier are held at their floor.
    pub const fn holds(self, tier: Tier) -> bool {
        match (self, tier) {
            (Self::No, _) | (Self::Burst, Tier::Standard) => false,
            (Self::Burst, Tier::Burst) | (Self::All, _) => true,
        }
    }
}

/// systemd 252 keeps quotas as whole percents over a reload; finer ones would drift.
pub const QUOTA_STEP: MilliCpu = MilliCpu(10);
/// Dying needs CPU: a slice never gets less than this, so that what is evicted can also end.
pub(crate) const QUOTA_FLOOR: MilliCpu = MilliCpu(50);
/// Nor less memory than a few ending processes need.
pub(crate) const MEMORY_FLOOR: Bytes = Bytes::from_mib(64);
/// `memory.high` lies this much below `memory.max`: lent work slows down before it is killed.
const HIGH_BELOW_MAX: PerMille = PerMille(20);
/// Half of the 32768 pids of a small kernel: a fork bomb leaves production the other half.
pub(crate) const SLICE_TASKS_MAX: u64 = 16_384;
/// A worker that is ended can still run its handlers.
pub(crate) const TASKS_FLOOR: u64 = 256;
/// A BLAS or OpenMP thread for each of 256 CPUs in 16 processes; a fork bomb ends here.
const WORKER_TASKS_MAX: u64 = 4_096;

/// The limits of all slices, parents first. `memory_held` is what workers were promised, also those on their way
/// out: a slice limited below that would have the kernel kill before anyone could end by itself. By the static line: what
/// production's week takes from the firm one keeps standard work from starting, and nobody from running.
pub fn slice_settings(
    line: &Line,
    pinning: &Pinning,
    setpoints: &Setpoints,
    memory_held: Bytes,
) -> [SliceSettings; 3] {
    let pinned = pinning.is_cpuset() && !line.lendable.is_empty();
    let memory_max = line.most().memory.max(memory_held).max(MEMORY_FLOOR);
    let memory_high = memory_max.minus(memory_max.share(HIGH_BELOW_MAX));
    let memory_high = memory_high
        .min(setpoints.memory_high.unwrap_or(memory_high))
        .max(MEMORY_FLOOR);
    Slice::ALL.map(|slice| {
        let root = slice == Slice::Root;
        let only_root = |limit| if root { Limit::At(limit) } else { Limit::Max };
        SliceSettings {
            slice,
            allowed_cpus: pinned.then(|| line.lendable.clone()),
            cpu_weight: if slice == Slice::Standard {
                CpuWeight::Weight(100)
            } else {
                CpuWeight::Idle
            },
            io_weight: root.then_some(1),
            io_bandwidth: match setpoints.io {
                Some(rate) if root => Limit::At(rate),
                _ => Limit::Max,
            },
            cpu_quota: cpu_quota(slice, line.most().cpu, setpoints),
            memory_high: only_root(memory_high),
            memory_max: only_root(memory_max),
            // With no swap of its own it has nothing in zswap either: that holds pages on their way to swap, each
            // charged to it first. So `memory.zswap.max` (MemoryZSwapMax=, from systemd 253 on) is not needed.
            memory_swap_max: only_root(Bytes::ZERO),
            tasks_max: only_root_tasks(root, setpoints.tasks),
        }
    })
}

fn only_root_tasks(root: bool, held: Option<TasksLimit>) -> Limit<u64> {
    if !root {
        return Limit::Max;
    }
    let most = held.map_or(SLICE_TASKS_MAX, |held| held.most);
    Limit::At(most.clamp(TASKS_FLOOR, SLICE_TASKS_MAX))
}

/// How much CPU a slice gets: the static line at most, and no more than the setpoints say. A tier that is squeezed
/// keeps a floor.
pub fn cpu_quota(slice: Slice, most: MilliCpu, setpoints: &Setpoints) -> Limit<MilliCpu> {
    let squeezed = |tier| {
        if setpoints.squeezed.holds(tier) {
            Limit::At(QUOTA_FLOOR)
        } else {
            Limit::Max
        }
    };
    match slice {
        Slice::Root => {
            let cpu = most.min(setpoints.cpu.unwrap_or(most));
            Limit::At(MilliCpu(cpu.0 - cpu.0 % QUOTA_STEP.0).max(QUOTA_FLOOR))
        }
        Slice::Standard => squeezed(Tier::Standard),
        Slice::Burst => match (squeezed(Tier::Burst), setpoints.burst) {
            (Limit::Max, Some(cpu)) => Limit::At(MilliCpu(cpu.0 - cpu.0 % QUOTA_STEP.0).max(QUOTA_FLOOR)),
            (squeezed, _) => squeezed,
        },
    }
}

/// The limits of one worker. `cpus` and `memory_nodes` come from the allocation; both are none on a
/// weights-only node.
pub fn worker_settings(
    attempt: AttemptId,
    spec: &JobSpec,
    cpus: Option<CpuSet>,
    memory_nodes: Option<CpuSet>,
) -> WorkerSettings {
    let amount = spec.worker.cpus.amount();
    let cpu_weight = match spec.tier {
        Tier::Burst => CpuWeight::Idle,
        // 100 for a CPU, so that workers in the shared pool get what they asked for in proportion.
        Tier::Standard => {
            CpuWeight::Weight(u16::try_from((amount.0 / 10).clamp(1, 10_000)).unwrap_or(10_000))
        }
    };
    WorkerSettings {
        unit: attempt.unit_name(),
        slice: Slice::of(spec.tier),
        allowed_cpus: cpus,
        allowed_memory_nodes: memory_nodes,
        cpu_weight,
        // No soft limit of its own: with nothing to swap, it would only make a leak slow before it is killed.
        memory_high: Limit::Max,
        memory_max: Limit::At(spec.worker.memory),
        memory_swap_max: Limit::At(Bytes::ZERO),
        tasks_max: Limit::At(WORKER_TASKS_MAX),
        oom_policy: OomPolicy::Kill,
        timeout_stop: spec.grace,
    }
}

/// True if a worker has threads of its own.
pub const fn is_exclusive(grant: &Grant) -> bool {
    matches!(grant, Grant::Exclusive(_))
}

#[cfg(test)]
mod tests;
