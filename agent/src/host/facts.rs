//! What the machine is, as far as Loadline has requirements of it: kernel, distribution, cgroups, PSI, swap, and
//! whether pinning would harm production. Read once at start and by `loadline-warden check`; judged in `preflight`.

use std::collections::BTreeSet;

use super::affinity::{self, NarrowedProcess};
use super::capabilities::{self, Capability};
use super::root::HostRoot;
use super::topology;
use crate::sentence::chain;
use loadline_model::Topology;

/// A kernel's version, as far as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 of 6.12.
    pub major: u32,
    /// 12 of 6.12.
    pub minor: u32,
}

impl std::fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl KernelVersion {
    /// From a release like `6.1.0-25-cloud-amd64`.
    pub fn of_release(release: &str) -> Option<Self> {
        let mut parts = release.split(['.', '-', '+']);
        let mut number = || parts.next()?.parse().ok();
        Some(Self {
            major: number()?,
            minor: number()?,
        })
    }
}

/// Everything that is judged. Texts of errors where something could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The kernel's release.
    pub kernel: String,
    /// The distribution's name and version.
    pub os: String,
    /// The program that is process 1.
    pub init: Option<String>,
    /// The controllers of the unified cgroup root; none if the hierarchy is not unified.
    pub controllers: Option<BTreeSet<String>>,
    /// Whether floors of slices protect the units below them.
    pub memory_recursiveprot: bool,
    /// Whether the kernel counts stalls.
    pub psi: bool,
    /// What the headroom loop needs, each tried.
    pub capabilities: Vec<Capability>,
    /// Whether any swap is on.
    pub swap_on: bool,
    /// Whether systemd can run a journal for a namespace.
    pub journal_namespaces: bool,
    /// The machine's shape.
    pub topology: Result<Topology, String>,
    /// Production processes with CPUs of their own choice.
    pub narrowed: Result<Vec<NarrowedProcess>, String>,
}

/// Looks at the machine. Nothing is changed.
pub fn gather(root: &HostRoot) -> HostFacts {
    let words = |name: &str| -> Option<BTreeSet<String>> {
        Some(
            root.text(name)
                .ok()?
                .split_whitespace()
                .map(ToOwned::to_owned)
                .collect(),
        )
    };
    let topology = topology::read(root).map_err(|error| chain(&error));
    let narrowed = match &topology {
        Ok(topology) => affinity::narrowed(root, &topology.cpus()).map_err(|error| chain(&error)),
        Err(error) => Err(error.clone()),
    };
    let kernel = root.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let controllers = words("/sys/fs/cgroup/cgroup.controllers");
    let none = BTreeSet::new();
    HostFacts {
        capabilities: capabilities::probe(root, controllers.as_ref().unwrap_or(&none), &kernel),
        kernel,
        os: os_name(root),
        init: root.text("/proc/1/comm").ok(),
        controllers,
        memory_recursiveprot: cgroup_mount_options(root).contains("memory_recursiveprot"),
        psi: super::production::pressure(root).cpu_some_us.is_some(),
        swap_on: root
            .text("/proc/swaps")
            .is_ok_and(|text| text.lines().count() > 1),
        journal_namespaces: ["/usr/lib", "/lib"]
            .iter()
            .any(|lib| root.exists(&format!("{lib}/systemd/system/systemd-journald@.service"))),
        topology,
        narrowed,
    }
}

fn os_name(root: &HostRoot) -> String {
    let release = root.text("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches(['"', '\'']).to_owned())
    };
    value("PRETTY_NAME").or_else(|| value("NAME")).unwrap_or_default()
}

fn cgroup_mount_options(root: &HostRoot) -> BTreeSet<String> {
    let mounts = root.text("/proc/self/mounts").unwrap_or_default();
    let options = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(2) == Some(&"cgroup2"))
            .then(|| fields.get(3).copied())
            .flatten()
    });
    options
        .unwrap_or_default()
        .split(',')
        .map(ToOwned::to_owned)
        .collect()
}
