//! Reads back what the kernel does with a cgroup, file by file, every value optional: kernels and controllers
//! differ, and missing is not zero.
//!
//! cgroups-rs reads what it reads faithfully (weights, bandwidth, task counts). Its memory reader turns a file
//! that is not there into "no limit" and its cpuset reader knows only the names of cgroup v1, so those are read
//! here. Nothing is written: systemd owns these cgroups, and any `daemon-reload` undoes foreign writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::pid::PidController;
use loadline_model::{Bytes, CpuSet, Span};

/// A limit as the kernel writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ceiling<T> {
    /// No limit: `max`.
    Unlimited,
    /// This much.
    At(T),
}

/// `cpu.max`: so much CPU time in each period; both in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    /// The time.
    pub quota: Ceiling<u64>,
    /// The period.
    pub period: u64,
}

/// What the kernel enforces on one cgroup now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// `cpuset.cpus.effective`: where it really runs, whatever was asked for.
    pub cpus_effective: Option<CpuSet>,
    /// `cpuset.mems.effective`.
    pub mems_effective: Option<CpuSet>,
    /// `cpu.weight`; beside `cpu.idle` it is 1 or 0, depending on the kernel.
    pub cpu_weight: Option<u64>,
    /// `cpu.idle`.
    pub cpu_idle: Option<bool>,
    /// `cpu.max`.
    pub cpu_max: Option<Bandwidth>,
    /// `memory.high`.
    pub memory_high: Option<Ceiling<Bytes>>,
    /// `memory.max`.
    pub memory_max: Option<Ceiling<Bytes>>,
    /// `memory.swap.max`.
    pub swap_max: Option<Ceiling<Bytes>>,
    /// `pids.max`.
    pub tasks_max: Option<Ceiling<u64>>,
}

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
}

/// The unified hierarchy, or a folder that looks like it.
#[derive(Debug, Clone)]
pub struct CgroupFs {
    root: PathBuf,
}

impl Default for CgroupFs {
    fn default() -> Self {
        Self::new("/sys/fs/cgroup")
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

    /// What the kernel enforces on it.
    pub fn limits(&self, cgroup: &str) -> Limits {
        let path = self.path(cgroup);
        let cpu = CpuController::new(path.clone(), path.clone(), true);
        let pids = PidController::new(path.clone(), path.clone(), true);
        let bandwidth = cpu.cfs_quota().ok().zip(cpu.cfs_period().ok());
        Limits {
            cpus_effective: read(&path, "cpuset.cpus.effective"),
            mems_effective: read(&path, "cpuset.mems.effective"),
            cpu_weight: cpu.shares().ok(),
            cpu_idle: read::<u8>(&path, "cpu.idle").map(|idle| idle == 1),
            cpu_max: bandwidth.map(|(quota, period)| Bandwidth {
                quota: u64::try_from(quota).map_or(Ceiling::Unlimited, Ceiling::At),
                period,
            }),
            memory_high: ceiling(&path, "memory.high"),
            memory_max: ceiling(&path, "memory.max"),
            swap_max: ceiling(&path, "memory.swap.max"),
            tasks_max: match pids.get_pid_max() {
                Ok(MaxValue::Max) => Some(Ceiling::Unlimited),
                Ok(MaxValue::Value(tasks)) => u64::try_from(tasks).ok().map(Ceiling::At),
                Err(_) => None,
            },
        }
    }

    /// What it uses and has used.
    pub fn usage(&self, cgroup: &str) -> Usage {
        let path = self.path(cgroup);
        let pids = PidController::new(path.clone(), path.clone(), true);
        let cpu = pairs(&path, "cpu.stat");
        Usage {
            memory: read(&path, "memory.current").map(Bytes),
            memory_peak: read(&path, "memory.peak").map(Bytes),
            memory_events: pairs(&path, "memory.events"),
            cpu_time: cpu.get("usage_usec").copied().map(Span),
            throttled: cpu.get("throttled_usec").copied().map(Span),
            tasks: pids.get_pid_current().ok(),
            tasks_peak: read(&path, "pids.peak"),
        }
    }

    /// The processes directly in it.
    pub fn processes(&self, cgroup: &str) -> Vec<u32> {
        let text = fs::read_to_string(self.path(cgroup).join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

fn read<T: FromStr>(cgroup: &Path, file: &str) -> Option<T> {
    fs::read_to_string(cgroup.join(file)).ok()?.trim().parse().ok()
}

fn ceiling(cgroup: &Path, file: &str) -> Option<Ceiling<Bytes>> {
    let text = fs::read_to_string(cgroup.join(file)).ok()?;
    match text.trim() {
        "max" => Some(Ceiling::Unlimited),
        amount => amount.parse().ok().map(|bytes| Ceiling::At(Bytes(bytes))),
    }
}

/// Lines of `name number`.
fn pairs(cgroup: &Path, file: &str) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(cgroup.join(file)).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests;
