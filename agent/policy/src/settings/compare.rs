//! Does the kernel do what was meant? Compared is what it *does*, with the ways in which a value that was
//! accepted reads back differently: idle shows weight 0 or 1, short quotas stretch their period, memory
//! rounds down to pages. A value that could not be read is never reported as held.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use loadline_model::{Bytes, CpuSet, MilliCpu};

use super::{BytesPerSecond, CpuWeight, Limit, SliceSettings, WorkerSettings};

/// `cpu.max` with a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuMax {
    /// Microseconds of CPU …
    pub quota_us: u64,
    /// … in each of these.
    pub period_us: u64,
}

/// The period of quotas, in microseconds: a throttled task waits no longer than this for its next turn.
pub const QUOTA_PERIOD_US: u64 = 10_000;
/// The kernel takes no quota below 1 ms; smaller shares get a longer period, as systemd has it.
const QUOTA_US_MIN: u64 = 1_000;

impl CpuMax {
    /// So much CPU.
    pub fn of(cpu: MilliCpu) -> Self {
        let quota_us = cpu.0.saturating_mul(QUOTA_PERIOD_US) / 1000;
        if quota_us >= QUOTA_US_MIN {
            return Self {
                quota_us,
                period_us: QUOTA_PERIOD_US,
            };
        }
        Self {
            quota_us: QUOTA_US_MIN,
            period_us: QUOTA_US_MIN * 1000 / cpu.0.max(1),
        }
    }

    /// The CPUs it gives, rounded down.
    pub fn cpu(self) -> MilliCpu {
        MilliCpu(self.quota_us.saturating_mul(1000) / self.period_us.max(1))
    }

    /// True if it gives more than the other, by more than a thousandth of a CPU.
    pub fn exceeds(self, other: Self) -> bool {
        let share = |one: Self, period: u64| u128::from(one.quota_us) * u128::from(period);
        let thousandth = u128::from(self.period_us) * u128::from(other.period_us) / 1000;
        share(self, other.period_us) > share(other, self.period_us) + thousandth
    }
}

/// `io.max`, over all disks of the machine, reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoMax {
    /// The highest and the lowest limit among those whose bandwidth is held; none: every disk goes by weight.
    pub over: Option<Spread>,
    /// The lowest among those that go by weight, where none belongs.
    pub weighed: Limit<BytesPerSecond>,
}

/// The ends of what was read of several disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// The highest limit.
    pub loosest: Limit<BytesPerSecond>,
    /// The lowest.
    pub tightest: Limit<BytesPerSecond>,
}

impl IoMax {
    /// The same for all.
    pub const fn all(limit: Limit<BytesPerSecond>) -> Self {
        Self {
            over: Some(Spread {
                loosest: limit,
                tightest: limit,
            }),
            weighed: Limit::Max,
        }
    }

    fn is(self, intended: Limit<BytesPerSecond>) -> bool {
        let all = |over: Spread| over.loosest == intended && over.tightest == intended;
        self.over.is_none_or(all) && self.weighed == Limit::Max
    }
}

/// What systemd itself says that it was told of a slice, where it was asked. The brake writes beside it, so of these the
/// kernel's files do not show what somebody else has told it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// `CPUQuotaPerSecUSec=`.
    pub cpu_quota: Option<Limit<MilliCpu>>,
    /// `MemoryHigh=`.
    pub memory_high: Option<Limit<Bytes>>,
}

/// What the kernel's files of one cgroup say; none where a file is missing or could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// `cpuset.cpus.effective`.
    pub cpus_effective: Option<CpuSet>,
    /// `cpuset.mems.effective`.
    pub mems_effective: Option<CpuSet>,
    /// `cpu.idle`.
    pub cpu_idle: Option<bool>,
    /// `cpu.weight`.
    pub cpu_weight: Option<u64>,
    /// `cpu.max`.
    pub cpu_max: Option<Limit<CpuMax>>,
    /// `io.weight`, the default.
    pub io_weight: Option<u64>,
    /// `io.max`; none without the io controller, or without a disk.
    pub io_max: Option<IoMax>,
    /// `memory.high`.
    pub memory_high: Option<Limit<Bytes>>,
    /// `memory.max`.
    pub memory_max: Option<Limit<Bytes>>,
    /// `memory.swap.max`.
    pub memory_swap_max: Option<Limit<Bytes>>,
    /// `memory.oom.group`.
    pub memory_oom_group: Option<bool>,
    /// `pids.max`.
    pub pids_max: Option<Limit<u64>>,
    /// What systemd says, beside the kernel.
    pub told: Told,
}

/// A limit, named by the kernel's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the file it names")]
pub enum LimitName {
    CpusEffective,
    MemsEffective,
    CpuWeight,
    CpuMax,
    IoWeight,
    IoMax,
    MemoryHigh,
    MemoryMax,
    MemorySwapMax,
    MemoryOomGroup,
    PidsMax,
}

impl LimitName {
    /// The kernel's file.
    pub const fn file(self) -> &'static str {
        match self {
            Self::CpusEffective => "cpuset.cpus.effective",
            Self::MemsEffective => "cpuset.mems.effective",
            Self::CpuWeight => "cpu.weight",
            Self::CpuMax => "cpu.max",
            Self::IoWeight => "io.weight",
            Self::IoMax => "io.max",
            Self::MemoryHigh => "memory.high",
            Self::MemoryMax => "memory.max",
            Self::MemorySwapMax => "memory.swap.max",
            Self::MemoryOomGroup => "memory.oom.group",
            Self::PidsMax => "pids.max",
        }
    }
}

/// One limit: what was meant and what the kernel does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitReading {
    /// Which.
    pub limit: LimitName,
    /// What was meant.
    pub intended: String,
    /// What the kernel does; none: it could not be read.
    pub actual: Option<String>,
    /// True if the kernel does what was meant.
    pub held: bool,
}

/// A limit that is not held, or not known to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Which.
    pub limit: LimitName,
    /// What was meant.
    pub intended: String,
    /// What the kernel does; none: it could not be read.
    pub actual: Option<String>,
}

impl core::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let file = self.limit.file();
        match &self.actual {
            Some(actual) => write!(f, "{file} should be {} and is {actual}", self.intended),
            None => write!(f, "{file} should be {} and could not be read", self.intended),
        }
    }
}

/// What a unit should have, of either kind.
#[derive(Debug, Clone, Copy)]
pub enum Intended<'a> {
    /// A worker's.
    Worker(&'a WorkerSettings),
    /// A slice's.
    Slice(&'a SliceSettings),
}

impl<'a> From<&'a WorkerSettings> for Intended<'a> {
    fn from(settings: &'a WorkerSettings) -> Self {
        Self::Worker(settings)
    }
}

impl<'a> From<&'a SliceSettings> for Intended<'a> {
    fn from(settings: &'a SliceSettings) -> Self {
        Self::Slice(settings)
    }
}

/// Every limit with its reading, held or not.
pub fn readings<'a>(intended: impl Into<Intended<'a>>, observed: &Observed) -> Vec<LimitReading> {
    match intended.into() {
        Intended::Worker(settings) => worker_readings(settings, observed),
        Intended::Slice(settings) => slice_readings(settings, observed),
    }
}

/// The limits that are not held, or not known to be; and those that systemd was told otherwise by somebody else, though
/// the kernel still does what was meant.
pub fn compare<'a>(intended: impl Into<Intended<'a>>, observed: &Observed) -> Vec<Mismatch> {
    let intended = intended.into();
    let mut missed = missed(intended, observed);
    if let Intended::Slice(settings) = intended {
        for other in told_otherwise(settings, &observed.told) {
            if missed.iter().all(|mismatch| mismatch.limit != other.limit) {
                missed.push(other);
            }
        }
    }
    missed
}

fn told_otherwise(settings: &SliceSettings, told: &Told) -> Vec<Mismatch> {
    let in_systemd = |reading: LimitReading| Mismatch {
        limit: reading.limit,
        intended: reading.intended,
        actual: reading.actual.map(|actual| format!("{actual} in systemd")),
    };
    let cpu = told.cpu_quota.map(|told| {
        let show = |limit| show_limit(limit, |MilliCpu(cpu)| format!("{cpu}m"));
        LimitReading {
            limit: LimitName::CpuMax,
            intended: show(settings.cpu_quota),
            actual: Some(show(told)),
            held: told == settings.cpu_quota,
        }
    });
    let memory = told
        .memory_high
        .map(|told| bytes(LimitName::MemoryHigh, settings.memory_high, Some(told)));
    let all = cpu.into_iter().chain(memory);
    all.filter(|reading| !reading.held).map(in_systemd).collect()
}

fn missed(intended: Intended<'_>, observed: &Observed) -> Vec<Mismatch> {
    let missed = readings(intended, observed)
        .into_iter()
        .filter(|reading| !reading.held);
    let mismatch = |LimitReading {
                        limit,
                        intended,
                        actual,
                        ..
                    }| Mismatch {
        limit,
        intended,
        actual,
    };
    missed.map(mismatch).collect()
}

fn worker_readings(settings: &WorkerSettings, observed: &Observed) -> Vec<LimitReading> {
    // Destructured in full, so that a new setting cannot be forgotten here.
    let WorkerSettings {
        unit: _,
        slice: _,
        allowed_cpus,
        allowed_memory_nodes,
        cpu_weight,
        memory_high,
        memory_max,
        memory_swap_max,
        tasks_max,
        oom_policy,
        timeout_stop: _, // systemd's own, no file of the kernel
    } = settings;
    let group = *oom_policy == super::OomPolicy::Kill;
    let mut list = vec![
        weight(*cpu_weight, observed),
        bytes(LimitName::MemoryHigh, *memory_high, observed.memory_high),
        bytes(LimitName::MemoryMax, *memory_max, observed.memory_max),
        bytes(
            LimitName::MemorySwapMax,
            *memory_swap_max,
            observed.memory_swap_max,
        ),
        plain(
            LimitName::MemoryOomGroup,
            u8::from(group),
            observed.memory_oom_group.map(u8::from),
        ),
        tasks(*tasks_max, observed),
    ];
    list.extend(set(
        LimitName::CpusEffective,
        allowed_cpus.as_ref(),
        observed.cpus_effective.as_ref(),
    ));
    list.extend(set(
        LimitName::MemsEffective,
        allowed_memory_nodes.as_ref(),
        observed.mems_effective.as_ref(),
    ));
    list
}

fn slice_readings(settings: &SliceSettings, observed: &Observed) -> Vec<LimitReading> {
    let SliceSettings {
        slice: _,
        allowed_cpus,
        cpu_weight,
        io_weight,
        io_bandwidth,
        cpu_quota,
        memory_high,
        memory_max,
        memory_swap_max,
        tasks_max,
    } = settings;
    let mut list = vec![
        weight(*cpu_weight, observed),
        quota(*cpu_quota, observed.cpu_max),
        bytes(LimitName::MemoryHigh, *memory_high, observed.memory_high),
        bytes(LimitName::MemoryMax, *memory_max, observed.memory_max),
        bytes(
            LimitName::MemorySwapMax,
            *memory_swap_max,
            observed.memory_swap_max,
        ),
        tasks(*tasks_max, observed),
    ];
    list.extend(set(
        LimitName::CpusEffective,
        allowed_cpus.as_ref(),
        observed.cpus_effective.as_ref(),
    ));
    list.extend(io_weight.map(|weight| plain(LimitName::IoWeight, u64::from(weight), observed.io_weight)));
    list.extend(bandwidth(*io_bandwidth, observed.io_max));
    list
}

/// Nothing meant and no such file: the machine has no io controller, which `check` tells, and nothing is missed.
fn bandwidth(intended: Limit<BytesPerSecond>, actual: Option<IoMax>) -> Option<LimitReading> {
    if intended == Limit::Max && actual.is_none() {
        return None;
    }
    let show = |limit| show_limit(limit, |BytesPerSecond(rate)| rate.to_string());
    Some(LimitReading {
        limit: LimitName::IoMax,
        intended: show(intended),
        actual: actual.map(|IoMax { over, weighed }| {
            let over = match over {
                None => "by weight".into(),
                Some(Spread { loosest, tightest }) if loosest == tightest => show(loosest),
                Some(Spread { loosest, tightest }) => format!("{} to {}", show(tightest), show(loosest)),
            };
            match weighed {
                Limit::Max => over,
                limit => format!("{over}, and {} on a disk that goes by weight", show(limit)),
            }
        }),
        held: actual.is_some_and(|actual| actual.is(intended)),
    })
}

fn plain<T: PartialEq + ToString>(limit: LimitName, intended: T, actual: Option<T>) -> LimitReading {
    LimitReading {
        limit,
        held: actual.as_ref() == Some(&intended),
        intended: intended.to_string(),
        actual: actual.as_ref().map(ToString::to_string),
    }
}

fn set(limit: LimitName, intended: Option<&CpuSet>, actual: Option<&CpuSet>) -> Option<LimitReading> {
    intended.map(|intended| plain(limit, intended.clone(), actual.cloned()))
}

/// Kernel 6.12 shows weight 1 for the idle class, 6.1 shows 0 (reference/systemd.md 1.9): `cpu.idle` decides.
fn weight(intended: CpuWeight, observed: &Observed) -> LimitReading {
    let show = |idle: bool, weight: Option<u64>| match (idle, weight) {
        (true, _) => Some("idle".to_string()),
        (false, weight) => weight.map(|weight| weight.to_string()),
    };
    let (held, intended) = match intended {
        CpuWeight::Idle => (observed.cpu_idle == Some(true), "idle".to_string()),
        CpuWeight::Weight(weight) => {
            let same = observed.cpu_weight == Some(u64::from(weight));
            (same && observed.cpu_idle == Some(false), weight.to_string())
        }
    };
    let actual = observed.cpu_idle.and_then(|idle| show(idle, observed.cpu_weight));
    LimitReading {
        limit: LimitName::CpuWeight,
        intended,
        actual,
        held,
    }
}

/// Linux's largest page size on the architectures it runs on is 64 KiB.
const PAGE_MAX: u64 = 64 << 10;

fn show_limit<Q>(limit: Limit<Q>, show: impl Fn(Q) -> String) -> String {
    match limit {
        Limit::Max => "max".into(),
        Limit::At(value) => show(value),
    }
}

fn bytes(limit: LimitName, intended: Limit<Bytes>, actual: Option<Limit<Bytes>>) -> LimitReading {
    let held = match (intended, actual) {
        (Limit::Max, Some(Limit::Max)) => true,
        // The kernel rounds down to whole pages: never above, less than a page below.
        (Limit::At(meant), Some(Limit::At(is))) => is <= meant && meant.minus(is) < Bytes(PAGE_MAX),
        _ => false,
    };
    let show = |limit| show_limit(limit, |Bytes(bytes)| bytes.to_string());
    LimitReading {
        limit,
        intended: show(intended),
        actual: actual.map(show),
        held,
    }
}

fn tasks(intended: Limit<u64>, observed: &Observed) -> LimitReading {
    let show = |limit| show_limit(limit, |tasks: u64| tasks.to_string());
    LimitReading {
        limit: LimitName::PidsMax,
        intended: show(intended),
        actual: observed.pids_max.map(show),
        held: observed.pids_max == Some(intended),
    }
}

/// Under 10 % systemd stretches the period, so the ratio is compared, to a thousandth of a CPU.
fn quota(intended: Limit<MilliCpu>, actual: Option<Limit<CpuMax>>) -> LimitReading {
    let held = match (intended, actual) {
        (Limit::Max, Some(Limit::Max)) => true,
        (Limit::At(MilliCpu(meant)), Some(Limit::At(CpuMax { quota_us, period_us }))) if period_us > 0 => {
            let meant = u128::from(meant) * u128::from(period_us);
            let is = u128::from(quota_us) * 1000;
            meant.abs_diff(is) <= u128::from(period_us)
        }
        _ => false,
    };
    LimitReading {
        limit: LimitName::CpuMax,
        intended: show_limit(intended, |quota| format!("{}m", quota.0)),
        actual: actual.map(|actual| {
            show_limit(actual, |CpuMax { quota_us, period_us }| {
                format!("{quota_us} {period_us}")
            })
        }),
        held,
    }
}
