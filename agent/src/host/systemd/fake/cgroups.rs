//! A folder that looks like cgroupfs: what was set, and what the kernel makes of it along the tree.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use loadline_model::CpuSet;
use loadline_policy::settings::{CpuMax, CpuWeight, Limit, LimitName, Slice, weighed};

use super::super::Setting;

/// The one disk of the fake's machine.
pub(super) const DISK: &str = "254:0";

#[derive(Debug)]
pub(super) struct FakeCgroups {
    root: PathBuf,
    online: CpuSet,
    /// Each unit's folder, its parent unit, and the CPUs it was set to.
    units: BTreeMap<String, Node>,
}

#[derive(Debug)]
struct Node {
    folder: PathBuf,
    parent: Option<String>,
    cpus: Option<CpuSet>,
}

impl FakeCgroups {
    pub(super) fn new(root: &Path, cpus: &str) -> Self {
        Self {
            root: root.to_owned(),
            online: cpus.parse().unwrap_or_default(),
            units: BTreeMap::new(),
        }
    }

    /// A worker's cgroup, and the slices above it.
    pub(super) fn create(&mut self, unit: &str, slice: Slice) {
        self.create_slice(slice.unit());
        let folder = self.root.join("loadline.slice").join(slice.unit()).join(unit);
        self.insert(unit, Some(slice.unit()), folder);
    }

    pub(super) fn create_slice(&mut self, unit: &str) {
        let root = self.root.join(Slice::Root.unit());
        self.insert(Slice::Root.unit(), None, root.clone());
        if unit != Slice::Root.unit() {
            self.insert(unit, Some(Slice::Root.unit()), root.join(unit));
        }
    }

    fn insert(&mut self, unit: &str, parent: Option<&str>, folder: PathBuf) {
        if self.units.contains_key(unit) {
            return;
        }
        make(&folder);
        let parent = parent.map(ToOwned::to_owned);
        self.units.insert(
            unit.into(),
            Node {
                folder,
                parent,
                cpus: None,
            },
        );
        for (file, text) in [
            ("cpu.weight", "100\n"),
            ("cpu.idle", "0\n"),
            ("cpu.max", "max 100000\n"),
            ("io.weight", "default 100\n"),
            ("io.max", ""),
            ("memory.high", "max\n"),
            ("memory.max", "max\n"),
            ("memory.swap.max", "max\n"),
            ("memory.oom.group", "0\n"),
            ("memory.current", "4096\n"),
            ("memory.peak", "8192\n"),
            ("memory.events", "oom 0\noom_kill 0\n"),
            ("memory.events.local", "oom 0\noom_kill 0\n"),
            ("pids.max", "max\n"),
            ("pids.current", "1\n"),
            ("pids.peak", "1\n"),
            ("cpu.stat", "usage_usec 1000\n"),
        ] {
            self.write(unit, file, text);
        }
        self.effective();
    }

    /// A unit of production, and the slices above it, as systemd makes them: without floors.
    pub(super) fn create_production(&mut self, cgroup: &str) {
        let mut folder = self.root.clone();
        let mut parent = None;
        for unit in cgroup.split('/').filter(|unit| !unit.is_empty()) {
            folder.push(unit);
            if !self.units.contains_key(unit) {
                self.insert(unit, parent, folder.clone());
                self.write(unit, "memory.min", "0\n");
                self.write(unit, "memory.low", "0\n");
            }
            parent = Some(unit);
        }
    }

    /// Where a unit is, as systemd writes it.
    pub(super) fn control_group(&self, unit: &str) -> Option<String> {
        let below = self.units.get(unit)?.folder.strip_prefix(&self.root).ok()?;
        Some(format!("/{}", below.display()))
    }

    /// A kernel file of a unit.
    pub(super) fn read(&self, unit: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.units.get(unit)?.folder.join(file)).ok()
    }

    pub(super) fn remove(&mut self, unit: &str) {
        if let Some(node) = self.units.remove(unit) {
            // The folder of a test; what cannot be removed goes with it.
            let _ = fs::remove_dir_all(node.folder);
        }
    }

    pub(super) fn write(&self, unit: &str, file: &str, text: &str) {
        if let Some(node) = self.units.get(unit) {
            put(&node.folder.join(file), text);
        }
    }

    pub(super) fn apply(&mut self, unit: &str, setting: &Setting) {
        let amount = |limit: &Limit<loadline_model::Bytes>| match limit {
            Limit::Max => "max\n".to_owned(),
            Limit::At(bytes) => format!("{}\n", bytes.0 - bytes.0 % 4096),
        };
        match setting {
            Setting::AllowedCpus(cpus) => {
                if let Some(node) = self.units.get_mut(unit) {
                    node.cpus = Some(cpus.clone());
                }
                self.effective();
            }
            Setting::AllowedMemoryNodes(nodes) => {
                self.write(unit, "cpuset.mems.effective", &format!("{nodes}\n"));
            }
            Setting::CpuWeight(CpuWeight::Idle) => {
                self.write(unit, "cpu.idle", "1\n");
                self.write(unit, "cpu.weight", "0\n");
            }
            Setting::CpuWeight(CpuWeight::Weight(weight)) => {
                self.write(unit, "cpu.idle", "0\n");
                self.write(unit, "cpu.weight", &format!("{weight}\n"));
            }
            Setting::CpuQuota(Limit::Max) => self.write(unit, "cpu.max", "max 100000\n"),
            Setting::CpuQuota(Limit::At(cpu)) => {
                let CpuMax { quota_us, period_us } = CpuMax::of(*cpu);
                self.write(unit, "cpu.max", &format!("{quota_us} {period_us}\n"));
            }
            Setting::MemoryHigh(limit) => self.write(unit, "memory.high", &amount(limit)),
            Setting::MemoryMax(limit) => self.write(unit, "memory.max", &amount(limit)),
            Setting::MemorySwapMax(limit) => self.write(unit, "memory.swap.max", &amount(limit)),
            Setting::TasksMax(Limit::Max) => self.write(unit, "pids.max", "max\n"),
            Setting::TasksMax(Limit::At(tasks)) => self.write(unit, "pids.max", &format!("{tasks}\n")),
            Setting::IoBandwidth(Limit::Max) => self.write(unit, "io.max", ""),
            Setting::IoBandwidth(Limit::At(_)) if self.disk_goes_by_weight() => {
                self.write(unit, "io.max", "")
            }
            Setting::IoBandwidth(Limit::At(rate)) => {
                let line = format!("{DISK} rbps={0} wbps={0} riops=max wiops=max\n", rate.0);
                self.write(unit, "io.max", &line);
            }
            Setting::IoWeight(weight) => self.write(unit, "io.weight", &format!("default {weight}\n")),
            Setting::MemoryMin(floor) => self.write(unit, "memory.min", &amount(&Limit::At(*floor))),
            Setting::MemoryLow(floor) => self.write(unit, "memory.low", &amount(&Limit::At(*floor))),
        }
    }

    /// As the live one asks the kernel, whose files lie beside the fake's cgroups.
    fn disk_goes_by_weight(&self) -> bool {
        let qos = self.root.with_file_name("sys").join("fs/cgroup/io.cost.qos");
        weighed(&fs::read_to_string(qos).unwrap_or_default()).contains(DISK)
    }

    /// A child of a parent without any of its CPUs runs on the parent's (seen; reference/systemd.md 1.8).
    fn effective(&self) {
        for unit in self.units.keys() {
            let cpus = self.effective_of(unit);
            self.write(unit, "cpuset.cpus.effective", &format!("{cpus}\n"));
        }
    }

    fn effective_of(&self, unit: &str) -> CpuSet {
        let Some(node) = self.units.get(unit) else {
            return self.online.clone();
        };
        let parent = node
            .parent
            .as_deref()
            .map_or_else(|| self.online.clone(), |up| self.effective_of(up));
        match &node.cpus {
            Some(cpus) if !cpus.is_disjoint(&parent) => cpus.intersection(&parent),
            _ => parent,
        }
    }
}

fn make(folder: &Path) {
    if let Err(error) = fs::create_dir_all(folder) {
        panic!("the fake's folder {}: {error}", folder.display());
    }
}

fn put(path: &Path, text: &str) {
    if let Err(error) = fs::write(path, text) {
        panic!("the fake's file {}: {error}", path.display());
    }
}

/// The limit that a setting ends up in, if it is one.
pub(super) const fn limit_of(setting: &Setting) -> Option<LimitName> {
    Some(match setting {
        // Floors are no limits.
        Setting::MemoryMin(_) | Setting::MemoryLow(_) => return None,
        Setting::AllowedCpus(_) => LimitName::CpusEffective,
        Setting::AllowedMemoryNodes(_) => LimitName::MemsEffective,
        Setting::CpuWeight(_) => LimitName::CpuWeight,
        Setting::CpuQuota(_) => LimitName::CpuMax,
        Setting::MemoryHigh(_) => LimitName::MemoryHigh,
        Setting::MemoryMax(_) => LimitName::MemoryMax,
        Setting::MemorySwapMax(_) => LimitName::MemorySwapMax,
        Setting::TasksMax(_) => LimitName::PidsMax,
        Setting::IoWeight(_) => LimitName::IoWeight,
        Setting::IoBandwidth(_) => LimitName::IoMax,
    })
}
