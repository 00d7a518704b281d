//! Looks at the machine and its owner's policy, and says what follows: at start, on reload, and for `check`.

use std::path::{Path, PathBuf};

use loadline_model::Topology;
use loadline_policy::node_policy::{CpusetChoice, NodePolicy};
use loadline_policy::settings::Pinning;
use tracing::{error, warn};

use super::facts::Facts;
use super::reconciler::Node;
use crate::config::{self, AtStart, ConfigError};
use crate::host::cgroup::{CgroupFs, MOUNT};
use crate::host::facts::{HostFacts, gather};
use crate::host::root::HostRoot;
use crate::preflight::{self, Bus, PreflightFailed, PreflightPassed, Report};
use crate::sentence::chain;

/// The machine, looked at.
#[derive(Debug)]
pub struct Machine {
    root: HostRoot,
    host: HostFacts,
    bus: Bus,
    node_toml: PathBuf,
    good: PathBuf,
}

/// Why the warden cannot hold the line here.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The host lacks what is required.
    #[error(transparent)]
    Preflight(#[from] PreflightFailed),
    /// Its shape cannot be read.
    #[error("the machine's CPUs and memory cannot be read: {0}")]
    Topology(String),
}

impl Machine {
    /// Looks at it. Nothing is changed.
    pub fn look(root: HostRoot, bus: Bus, node_toml: PathBuf, good: PathBuf) -> Self {
        Self {
            host: gather(&root),
            root,
            bus,
            node_toml,
            good,
        }
    }

    fn topology(&self) -> Result<Topology, MachineError> {
        self.host.topology.clone().map_err(MachineError::Topology)
    }

    /// The owner's policy, if it can be used.
    pub fn policy(&self) -> Option<NodePolicy> {
        let loaded = config::load(&self.node_toml, &self.topology().ok()?);
        loaded.ok().map(|loaded| loaded.policy)
    }

    /// Every requirement, met or missed.
    pub fn report(&self) -> Report {
        match self.topology() {
            Ok(topology) => match config::load(&self.node_toml, &topology) {
                Ok(loaded) => self.judge(Ok(&loaded.policy)),
                Err(problem) => self.judge(Err(&chain(&problem))),
            },
            Err(problem) => self.judge(Err(&problem.to_string())),
        }
    }

    fn judge(&self, policy: Result<&NodePolicy, &str>) -> Report {
        preflight::check(&self.host, &self.bus, policy)
    }

    /// The node as it is at a start: with its policy, the last good one, or lending nothing.
    ///
    /// # Errors
    /// When the host is not one that Loadline can run on.
    pub fn start(&self) -> Result<(Node, Facts, PreflightPassed), MachineError> {
        let topology = self.topology()?;
        let at_start = config::at_start(&self.node_toml, &self.good, &topology);
        if let Some(problem) = at_start.error() {
            error!(error = problem as &dyn std::error::Error, "node.toml");
        }
        if let AtStart::File(loaded) = &at_start {
            keep(&self.good, loaded);
        }
        let policy = at_start.policy();
        let problem = at_start.error().map(|problem| chain(problem));
        let report = self.judge(problem.as_deref().map_or(Ok(&policy), Err));
        let passed = report.passed()?;
        let facts = Facts {
            kernel: self.host.kernel.clone(),
            systemd: match &self.bus {
                Bus::Reached { systemd } => systemd.clone(),
                Bus::Unreachable { .. } => String::new(),
            },
            os: self.host.os.clone(),
            missed: report.missed(),
            capabilities: self.host.capabilities.clone(),
            gpus: Vec::new(),
        };
        let pinning = self.pinning(&policy, report.pinning);
        Ok((Node::new(policy, topology, 0, pinning), facts, passed))
    }

    /// Whether CPUs are pinned under another policy.
    pub fn repin(&self, policy: &NodePolicy) -> Pinning {
        let report = self.judge(Ok(policy));
        self.pinning(policy, report.pinning)
    }

    /// Enabling cpuset is what would harm; where it is enabled already, pinning changes nothing for anyone else.
    fn pinning(&self, policy: &NodePolicy, probed: Pinning) -> Pinning {
        let enabled = || CgroupFs::new(self.root.path(MOUNT)).children_have("cpuset");
        if policy.cpuset == CpusetChoice::Auto && !probed.is_cpuset() && enabled() {
            return Pinning::Cpuset;
        }
        probed
    }
}

/// The node under the policy as it is in the file now, its CPUs pinned or not as before: to look at the machine takes
/// seconds where production uses it all.
///
/// # Errors
/// When the file is not valid; the policy in force stays.
pub fn reload(node_toml: &Path, good: &Path, now: &Node) -> Result<Node, ConfigError> {
    let loaded = config::load(node_toml, &now.topology)?;
    keep(good, &loaded);
    Ok(Node::new(
        loaded.policy,
        now.topology.clone(),
        0,
        now.pinning.clone(),
    ))
}

/// True if a look at the machine is needed to say whether CPUs are pinned.
pub fn must_repin(node: &Node) -> bool {
    // What the probe guards against has happened or not when pinning began: going on harms no one.
    let goes_on = matches!(node.policy.cpuset, CpusetChoice::Auto | CpusetChoice::Always);
    !(node.pinning.is_cpuset() && goes_on)
}

fn keep(good: &Path, loaded: &config::Loaded) {
    if let Err(problem) = config::keep_good(good, loaded) {
        // It is only needed when the file is broken later; the policy itself is in force.
        warn!(error = &problem as &dyn std::error::Error, "node.toml");
    }
}
