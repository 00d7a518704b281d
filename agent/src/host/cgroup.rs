//! Reads back what the kernel does with a cgroup, file by file, every value optional: kernels and controllers
//! differ, and missing is not zero.
//!
//! cgroups-rs reads what it reads faithfully (weights, bandwidth, task counts). Its memory reader turns a file
//! that is not there into "no limit" and its cpuset reader knows only the names of cgroup v1, so those are read
//! here. Nothing is written: systemd owns these cgroups, and any `daemon-reload` undoes foreign writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::pid::PidController;
use loadline_model::{Bytes, Peaks, Span};
use loadline_policy::settings::{
    BytesPerSecond, CpuMax, Fed, Floor, IoMax, Limit, Memory, Observed, Spread, Told,
};

use super::disks::Disk;
use super::short;

/// Where the unified hierarchy is mounted.
pub const MOUNT: &str = "/sys/fs/cgroup";

/// What one cgroup uses and has used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// `memory.current`.
    pub memory: Option<Bytes>,
    /// `memory.peak`; since kernel 5.19.
    pub memory_peak: Option<Bytes>,
    /// `memory.events`: how often each limit was met.
    pub memory_events: BTreeMap<String, u64>,
    /// `cpu.stat` `usage_usec`.
    pub cpu_time: Option<Span>,
    /// `cpu.stat` `throttled_usec`.
    pub throttled: Option<Span>,
    /// `pids.current`.
    pub tasks: Option<u64>,
    /// `pids.peak`; since kernel 6.1.
    pub tasks_peak: Option<u64>,
    /// How long some tasks have waited, in microseconds, by resource; what the kernel does not count is not in it.
    pub waiting: BTreeMap<&'static str, u64>,
    /// How long all tasks have.
    pub stalled: BTreeMap<&'static str, u64>,
}

/// The unified hierarchy, or a folder that looks like it.
#[derive(Debug, Clone)]
pub struct CgroupFs {
    root: PathBuf,
}

impl Default for CgroupFs {
    fn default() -> Self {
        Self::new(MOUNT)
    }
}

impl CgroupFs {
    /// The hierarchy mounted at this folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of a cgroup given as systemd writes it, `/loadline.slice/…`.
    pub fn path(&self, cgroup: &str) -> PathBuf {
        self.root.join(cgroup.trim_start_matches('/'))
    }

    /// True if the cgroup is there.
    pub fn exists(&self, cgroup: &str) -> bool {
        self.path(cgroup).is_dir()
    }

    /// True if a controller is on for the cgroups right below the root.
    pub fn children_have(&self, controller: &str) -> bool {
        let text = short::read(&self.root.join("cgroup.subtree_control")).unwrap_or_default();
        text.split_whitespace().any(|word| word == controller)
    }

    /// What the kernel enforces on it.
    pub fn limits(&self, cgroup: &str) -> Observed {
        let path = self.path(cgroup);
        let cpu = CpuController::new(path.clone(), path.clone(), true);
        let pids = PidController::new(path.clone(), path.clone(), true);
        Observed {
            cpus_effective: read(&path, "cpuset.cpus.effective"),
            mems_effective: read(&path, "cpuset.mems.effective"),
            cpu_weight: cpu.shares().ok(),
            cpu_idle: read::<u8>(&path, "cpu.idle").map(|idle| idle == 1),
            cpu_max: bandwidth(&cpu),
            io_weight: pairs(&path, "io.weight").get("default").copied(),
            // Asked for apart, of the one slice that has it.
            io_max: None,
            memory_high: limit(&path, "memory.high"),
            memory_max: limit(&path, "memory.max"),
            memory_swap_max: limit(&path, "memory.swap.max"),
            memory_oom_group: read::<u8>(&path, "memory.oom.group").map(|group| group == 1),
            pids_max: match pids.get_pid_max() {
                Ok(MaxValue::Max) => Some(Limit::Max),
                Ok(MaxValue::Value(tasks)) => u64::try_from(tasks).ok().map(Limit::At),
                Err(_) => None,
            },
            // systemd's to say.
            told: Told::default(),
        }
    }

    /// `cpu.max` alone.
    pub fn cpu_max(&self, cgroup: &str) -> Option<Limit<CpuMax>> {
        let path = self.path(cgroup);
        bandwidth(&CpuController::new(path.clone(), path, true))
    }

    /// `io.max` over these disks, all of the machine; none without the io controller, or without a disk.
    pub fn io_max(&self, cgroup: &str, disks: &[Disk]) -> Option<IoMax> {
        if disks.is_empty() {
            return None;
        }
        let text = short::read(&self.path(cgroup).join("io.max")).ok()?;
        let limits = |by_weight: bool| -> Vec<u64> {
            let these = disks.iter().filter(|disk| disk.by_weight == by_weight);
            these.flat_map(|disk| limits_of(&text, disk)).collect()
        };
        let limit = |rate: u64| match rate {
            u64::MAX => Limit::Max,
            rate => Limit::At(BytesPerSecond(rate)),
        };
        let held = limits(false);
        let ends = held.iter().max().zip(held.iter().min());
        let weighed = limits(true).into_iter().min();
        Some(IoMax {
            over: ends.map(|(loosest, tightest)| Spread {
                loosest: limit(*loosest),
                tightest: limit(*tightest),
            }),
            weighed: limit(weighed.unwrap_or(u64::MAX)),
        })
    }

    /// Memory that the kernel keeps for it; none without the memory controller.
    pub fn floor(&self, cgroup: &str) -> Option<Floor> {
        let path = self.path(cgroup);
        let bytes = |file| {
            limit(&path, file).map(|limit| match limit {
                Limit::At(bytes) => bytes,
                Limit::Max => Bytes(u64::MAX),
            })
        };
        Some(Floor {
            min: bytes("memory.min")?,
            low: bytes("memory.low")?,
        })
    }

    /// What it uses and has used.
    pub fn usage(&self, cgroup: &str) -> Usage {
        let path = self.path(cgroup);
        let pids = PidController::new(path.clone(), path.clone(), true);
        let cpu = pairs(&path, "cpu.stat");
        let [waiting, stalled] = pressures(&path);
        Usage {
            memory: read(&path, "memory.current").map(Bytes),
            memory_peak: read(&path, "memory.peak").map(Bytes),
            memory_events: pairs(&path, "memory.events"),
            cpu_time: cpu.get("usage_usec").copied().map(Span),
            throttled: cpu.get("throttled_usec").copied().map(Span),
            tasks: pids.get_pid_current().ok(),
            tasks_peak: read(&path, "pids.peak"),
            waiting,
            stalled,
        }
    }

    /// The most it has used. Read for every worker every few seconds, so no file more than needed; where the kernel
    /// keeps no peak, what it uses now. A cgroup without a process yet has used nothing that would be worth telling.
    pub fn peaks(&self, cgroup: &str) -> Peaks {
        let path = self.path(cgroup);
        let pids = PidController::new(path.clone(), path.clone(), true);
        let memory = read(&path, "memory.peak").or_else(|| read(&path, "memory.current"));
        Peaks {
            memory: memory.filter(|bytes| *bytes > 0).map(Bytes),
            cpu_time: pairs(&path, "cpu.stat").get("usage_usec").copied().map(Span),
            tasks: read(&path, "pids.peak")
                .or_else(|| pids.get_pid_current().ok())
                .filter(|tasks| *tasks > 0),
        }
    }

    /// How it stands with its memory limit, if it has one. What could be taken back from it is only read of one that
    /// stands there.
    pub fn memory(&self, cgroup: &str) -> Option<Memory> {
        let path = self.path(cgroup);
        let Limit::At(limit) = limit(&path, "memory.max")? else {
            return None;
        };
        let used = read(&path, "memory.current").map(Bytes)?;
        let events = pairs(&path, "memory.events.local");
        let is_full = Memory::is_full(used, limit);
        let stat = if is_full {
            pairs(&path, "memory.stat")
        } else {
            BTreeMap::new()
        };
        let spare = ["inactive_file", "active_file", "slab_reclaimable"]
            .iter()
            .filter_map(|name| stat.get(*name));
        let waited = is_full.then(|| pressure(&path, "memory", "some").map(Span));
        Some(Memory {
            used,
            limit,
            met: events.get("max").copied()?,
            killed: events.get("oom_kill").copied().unwrap_or(0),
            spare: Bytes(spare.sum()),
            waited: waited.flatten(),
        })
    }

    /// What CPU it got, and how long all of it that could run has waited for one.
    pub fn fed(&self, cgroup: &str) -> Option<Fed> {
        let path = self.path(cgroup);
        Some(Fed {
            used: pairs(&path, "cpu.stat").get("usage_usec").copied().map(Span)?,
            waited: pressure(&path, "cpu", "full").map(Span)?,
        })
    }

    /// How often it met its own memory limit and nothing could be freed; not what happened below or above it.
    pub fn limit_met(&self, cgroup: &str) -> u64 {
        let events = pairs(&self.path(cgroup), "memory.events.local");
        events.get("oom").copied().unwrap_or(0)
    }

    /// The processes directly in it.
    pub fn processes(&self, cgroup: &str) -> Vec<u32> {
        let text = short::read(&self.path(cgroup).join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

/// What a cgroup may read and write of a disk in a second. Only disks with a limit have a line.
fn limits_of(io_max: &str, disk: &Disk) -> [u64; 2] {
    let mut lines = io_max.lines();
    let line = lines.find_map(|line| line.strip_prefix(&disk.number)?.strip_prefix(' '));
    let words = line.unwrap_or_default().split(' ');
    ["rbps=", "wbps="].map(|key| {
        let value = words
            .clone()
            .find_map(|word| word.strip_prefix(key)?.parse().ok());
        value.unwrap_or(u64::MAX)
    })
}

fn bandwidth(cpu: &CpuController) -> Option<Limit<CpuMax>> {
    let (quota, period_us) = cpu.cfs_quota().ok().zip(cpu.cfs_period().ok())?;
    // cgroups-rs says -1 for the kernel's `max`.
    Some(u64::try_from(quota).map_or(Limit::Max, |quota_us| Limit::At(CpuMax { quota_us, period_us })))
}

fn read<T: FromStr>(cgroup: &Path, file: &str) -> Option<T> {
    short::read(&cgroup.join(file)).ok()?.trim().parse().ok()
}

fn limit(cgroup: &Path, file: &str) -> Option<Limit<Bytes>> {
    let text = short::read(&cgroup.join(file)).ok()?;
    match text.trim() {
        "max" => Some(Limit::Max),
        amount => amount.parse().ok().map(|bytes| Limit::At(Bytes(bytes))),
    }
}

/// The total of one line of `cpu.pressure`, `memory.pressure` or `io.pressure`.
fn pressure(cgroup: &Path, resource: &str, line: &str) -> Option<u64> {
    let text = short::read(&cgroup.join(format!("{resource}.pressure"))).ok()?;
    total(&text, line)
}

fn total(pressure: &str, line: &str) -> Option<u64> {
    let found = pressure.lines().find(|found| found.starts_with(line))?;
    found.rsplit_once("total=")?.1.parse().ok()
}

/// Both lines of all three: `some` and `full`.
fn pressures(cgroup: &Path) -> [BTreeMap<&'static str, u64>; 2] {
    let mut all = [BTreeMap::new(), BTreeMap::new()];
    for resource in ["cpu", "memory", "io"] {
        let Ok(text) = short::read(&cgroup.join(format!("{resource}.pressure"))) else {
            continue;
        };
        for (line, of) in ["some", "full"].into_iter().zip(&mut all) {
            if let Some(total) = total(&text, line) {
                of.insert(resource, total);
            }
        }
    }
    all
}

/// Lines of `name number`.
fn pairs(cgroup: &Path, file: &str) -> BTreeMap<String, u64> {
    let text = short::read(&cgroup.join(file)).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests;
