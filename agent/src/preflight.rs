//! The requirements that Loadline has of a host, by name, each satisfied or missed with one sentence and what to do
//! about it. Judged from [`HostFacts`], so that every verdict can be tried on a captured machine.
//!
//! Nothing may write to the host without a [`PreflightPassed`], which only [`Report::passed`] hands out.

mod show;

use std::collections::BTreeSet;

use loadline_policy::node_policy::{CpusetChoice, NodePolicy};
use loadline_policy::settings::Pinning;

use crate::host::capabilities::{Capability, Purpose};
use crate::host::facts::{HostFacts, KernelVersion};

/// `cpu.idle` came with it, in RHEL 9's case by backport (design §9).
const KERNEL_MIN: KernelVersion = KernelVersion { major: 5, minor: 14 };
/// From here on, enabling cpuset keeps the affinities that processes chose (kernel change da019032819a).
const KERNEL_KEEPS_AFFINITY: KernelVersion = KernelVersion { major: 6, minor: 2 };
/// `CPUWeight=idle` needs it.
const SYSTEMD_MIN: u32 = 252;
/// Without these there are no limits.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// What helps where a limit's file is missing or closed.
const AS_ROOT: &str =
    "use a kernel from 5.19 on; ask `loadline-warden check` as root and outside a container";
/// How many processes a sentence names before it only counts.
const NAMED_MAX: usize = 3;

/// What follows if a requirement is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Loadline does not run here.
    Required,
    /// It runs with less.
    Degraded,
}

/// How it stands with a requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is met.
    Satisfied {
        /// What was found.
        found: String,
    },
    /// It is not.
    Missed {
        /// What was found and what follows.
        problem: String,
        /// What to do about it.
        next_step: String,
    },
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Its name, stable.
    pub name: &'static str,
    /// What follows if it is missed.
    pub need: Need,
    /// How it stands.
    pub verdict: Verdict,
}

/// What the bus said; asked by the warden's shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bus {
    /// systemd answered with its version, like `252.39-1~deb12u1`.
    Reached {
        /// It.
        systemd: String,
    },
    /// It did not.
    Unreachable {
        /// Why.
        error: String,
    },
}

/// All requirements and what follows for pinning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// All of them, in the order in which they are shown.
    pub requirements: Vec<Requirement>,
    /// Whether CPUs are pinned on this node.
    pub pinning: Pinning,
}

/// Proof that the requirements were looked at and met. Whatever writes to the host takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreflightPassed(());

/// The host is not one that Loadline can run on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this host lacks what Loadline requires: {}; `loadline-warden check` shows everything", .0.join("; "))]
pub struct PreflightFailed(pub Vec<String>);

impl Report {
    /// The proof, if nothing required is missed.
    ///
    /// # Errors
    /// Every required requirement that is missed, one sentence each.
    pub fn passed(&self) -> Result<PreflightPassed, PreflightFailed> {
        let required = self
            .requirements
            .iter()
            .filter(|requirement| requirement.need == Need::Required);
        let missed: Vec<String> = required.filter_map(Requirement::missed).collect();
        if missed.is_empty() {
            Ok(PreflightPassed(()))
        } else {
            Err(PreflightFailed(missed))
        }
    }

    /// Everything that is missed, one sentence each, for the inventory.
    pub fn missed(&self) -> Vec<String> {
        self.requirements.iter().filter_map(Requirement::missed).collect()
    }
}

impl Requirement {
    fn missed(&self) -> Option<String> {
        match &self.verdict {
            Verdict::Satisfied { .. } => None,
            Verdict::Missed { problem, next_step } => Some(format!("{problem}: {next_step}")),
        }
    }
}

fn judge(
    name: &'static str,
    need: Need,
    verdict: Result<impl Into<String>, (impl Into<String>, impl Into<String>)>,
) -> Requirement {
    let verdict = match verdict {
        Ok(found) => Verdict::Satisfied { found: found.into() },
        Err((problem, next_step)) => Verdict::Missed {
            problem: problem.into(),
            next_step: next_step.into(),
        },
    };
    Requirement { name, need, verdict }
}

/// Judges a host. `policy` is the owner's, or why it cannot be used.
pub fn check(facts: &HostFacts, bus: &Bus, policy: Result<&NodePolicy, &str>) -> Report {
    let choice = policy.map_or(CpusetChoice::Auto, |policy| policy.cpuset);
    let (pinning, cpuset) = pinning(facts, choice);
    let requirements = vec![
        kernel(facts),
        cgroups(facts),
        controllers(facts),
        systemd(facts, bus),
        journal(facts),
        topology(facts),
        node_toml(facts, policy),
        cpuset,
        io(facts),
        psi(facts),
        wakes(facts),
        preemption(facts),
        setpoints(facts),
        swap(facts),
        floors(facts, policy),
    ];
    Report {
        requirements,
        pinning,
    }
}

fn kernel(facts: &HostFacts) -> Requirement {
    let verdict = match KernelVersion::of_release(&facts.kernel) {
        Some(version) if version >= KERNEL_MIN => Ok(format!("Linux {}", facts.kernel)),
        _ => Err((
            format!("the kernel is `{}`, older than {KERNEL_MIN}", facts.kernel),
            "use Debian 12, Ubuntu 24.04, RHEL 9 or newer",
        )),
    };
    judge("kernel", Need::Required, verdict)
}

fn cgroups(facts: &HostFacts) -> Requirement {
    let verdict = match facts.controllers {
        Some(_) => Ok("cgroup v2, unified"),
        None => Err((
            "cgroups are not mounted as one unified hierarchy (v2)",
            "boot with systemd.unified_cgroup_hierarchy=1",
        )),
    };
    judge("cgroup-v2", Need::Required, verdict)
}

fn controllers(facts: &HostFacts) -> Requirement {
    let there = facts.controllers.clone().unwrap_or_default();
    let absent: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|name| !there.contains(*name))
        .collect();
    let verdict = if absent.is_empty() {
        Ok(format!("controllers {}", CONTROLLERS.join(", ")))
    } else {
        Err((
            format!("the cgroup root lacks the controllers {}", absent.join(", ")),
            "remove cgroup_disable= from the kernel's command line",
        ))
    };
    judge("controllers", Need::Required, verdict)
}

fn systemd(facts: &HostFacts, bus: &Bus) -> Requirement {
    let version = |text: &str| {
        text.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse::<u32>()
            .ok()
    };
    let verdict = match (facts.init.as_deref(), bus) {
        (Some("systemd"), Bus::Reached { systemd }) if version(systemd).is_some_and(|v| v >= SYSTEMD_MIN) => {
            Ok(format!("systemd {systemd}, reached over D-Bus"))
        }
        (Some("systemd"), Bus::Reached { systemd }) => Err((
            format!("systemd is `{systemd}`, older than {SYSTEMD_MIN}"),
            "use Debian 12, Ubuntu 24.04, RHEL 9 or newer".to_owned(),
        )),
        (Some("systemd"), Bus::Unreachable { error }) => Err((
            format!("systemd does not answer over D-Bus: {error}"),
            "install dbus and see `systemctl status dbus`".to_owned(),
        )),
        (init, _) => Err((
            format!("process 1 is `{}` and not systemd", init.unwrap_or("unknown")),
            "run Loadline on a machine or virtual machine that systemd has booted".to_owned(),
        )),
    };
    judge("systemd", Need::Required, verdict)
}

fn journal(facts: &HostFacts) -> Requirement {
    let verdict = if facts.journal_namespaces {
        Ok("workers log to a journal of their own")
    } else {
        Err((
            "systemd-journald@.service is not installed, so workers could not log apart from production",
            "install all of systemd's package",
        ))
    };
    judge("journal-namespace", Need::Required, verdict)
}

fn topology(facts: &HostFacts) -> Requirement {
    let verdict = match &facts.topology {
        Ok(topology) => {
            let (sockets, l3, cores) = topology.counts();
            Ok(format!(
                "{} CPUs on {cores} cores, {l3} L3 domains, {sockets} sockets, {} NUMA nodes; {}",
                topology.cpus().len(),
                topology.numa_nodes().len(),
                topology.memory()
            ))
        }
        Err(error) => Err((
            format!("the machine's CPUs and memory cannot be read: {error}"),
            "see that /sys and /proc are mounted and readable",
        )),
    };
    judge("topology", Need::Required, verdict)
}

/// Degraded: without a usable file nothing is lent, and the warden still runs.
fn node_toml(facts: &HostFacts, policy: Result<&NodePolicy, &str>) -> Requirement {
    let edit = "edit /etc/loadline/node.toml, then `systemctl reload loadline-warden`";
    let verdict = match (policy, &facts.topology) {
        (Err(error), _) => Err((format!("node.toml cannot be used: {error}"), edit)),
        (Ok(policy), Ok(topology)) => {
            let mistakes = policy.mistakes_on(topology);
            let list: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            if list.is_empty() {
                Ok(format!("node.toml is valid, mode {}", policy.lend.mode.word()))
            } else {
                Err((
                    format!("node.toml does not fit this machine: {}", list.join("; ")),
                    edit,
                ))
            }
        }
        (Ok(policy), Err(_)) => Ok(format!("node.toml is valid, mode {}", policy.lend.mode.word())),
    };
    judge("node-toml", Need::Degraded, verdict)
}

/// Whether pinning is safe here, and what follows.
fn pinning(facts: &HostFacts, choice: CpusetChoice) -> (Pinning, Requirement) {
    let there = facts
        .controllers
        .as_ref()
        .is_some_and(|controllers| controllers.contains("cpuset"));
    let keeps =
        KernelVersion::of_release(&facts.kernel).is_some_and(|version| version >= KERNEL_KEEPS_AFFINITY);
    let why = match (choice, &facts.narrowed) {
        (CpusetChoice::Never, _) => Some("node.toml says `cpuset = \"never\"`".to_owned()),
        _ if !there => Some("the cgroup root lacks the controller cpuset".to_owned()),
        (CpusetChoice::Always, _) => None,
        _ if keeps => None,
        (CpusetChoice::Auto, Ok(narrowed)) if narrowed.is_empty() => None,
        (CpusetChoice::Auto, Ok(narrowed)) => {
            let named: Vec<String> = narrowed.iter().take(NAMED_MAX).map(ToString::to_string).collect();
            let others = narrowed.len().saturating_sub(NAMED_MAX);
            let others = if others == 0 {
                String::new()
            } else {
                format!(", and {others} more do so too")
            };
            let kernel = &facts.kernel;
            Some(format!(
                "{}{others}; enabling cpuset on kernel {kernel} would take that from them",
                named.join(", ")
            ))
        }
        (CpusetChoice::Auto, Err(error)) => Some(format!("production's affinities cannot be read: {error}")),
    };
    let next_step = match choice {
        CpusetChoice::Never => "set [pinning] cpuset to \"auto\" to give CPUs of one's own",
        _ if !there => "remove cgroup_disable= from the kernel's command line",
        _ => "use a kernel from 6.2 on, or set [pinning] cpuset to \"always\" and let them choose again",
    };
    let verdict = match &why {
        None => Ok("CPUs can be pinned without harm to production".to_owned()),
        Some(why) => Err((format!("weights only, no CPUs of one's own: {why}"), next_step)),
    };
    let pinning = why.map_or(Pinning::Cpuset, |why| Pinning::WeightsOnly { why });
    (pinning, judge("cpuset", Need::Degraded, verdict))
}

fn io(facts: &HostFacts) -> Requirement {
    let there = facts
        .controllers
        .as_ref()
        .is_some_and(|controllers| controllers.contains("io"));
    let verdict = match (there, lacking(facts, Purpose::Disks).as_slice()) {
        (true, []) => Ok(match lacking(facts, Purpose::Weights).as_slice() {
            [] => "controller io; IO of every disk goes by weight (io.cost)".to_owned(),
            problems => format!("controller io; {}", problems.join("; ")),
        }),
        (true, problems) => Err((
            format!("lent work's disk use cannot be held: {}", problems.join("; ")),
            AS_ROOT,
        )),
        (false, _) => Err((
            "the cgroup root lacks the controller io, so lent work's disk use cannot be held".to_owned(),
            "remove cgroup_disable= from the kernel's command line",
        )),
    };
    judge("io", Need::Degraded, verdict)
}

fn psi(facts: &HostFacts) -> Requirement {
    let next_step = "boot with psi=1";
    let some = lacking(facts, Purpose::Stalls);
    let verdict = match (facts.psi, some.as_slice()) {
        (true, []) => Ok("the kernel counts stalls (PSI)"),
        (true, problems) => Err((
            format!("some of production's stalls go unseen: {}", problems.join("; ")),
            next_step,
        )),
        (false, _) => Err((
            "the kernel does not count stalls (PSI), so production's stalls go unseen".to_owned(),
            next_step,
        )),
    };
    judge("psi", Need::Degraded, verdict)
}

/// The tick sees every stall too, up to a tenth of a second later.
fn wakes(facts: &HostFacts) -> Requirement {
    let problems = lacking(facts, Purpose::Wakes);
    let verdict = if problems.is_empty() {
        Ok("production's stalls wake the headroom loop")
    } else {
        let lacks = problems.join("; ");
        Err((
            format!(
                "stalls do not wake the headroom loop at once, and it sees them at its next look: {lacks}"
            ),
            "use a kernel from 6.4 on; run as root",
        ))
    };
    judge("psi-triggers", Need::Degraded, verdict)
}

/// Nothing stops without it; production's requests are later.
fn preemption(facts: &HostFacts) -> Requirement {
    let problems = lacking(facts, Purpose::Preemption);
    let verdict = if problems.is_empty() {
        Ok("the kernel leaves lent work for production anywhere (preempt=full)".to_owned())
    } else {
        Err((
            problems.join("; "),
            "boot with preempt=full, or now: echo full > /sys/kernel/debug/sched/preempt; without PREEMPT_DYNAMIC use \
             another kernel",
        ))
    };
    judge("preemption", Need::Degraded, verdict)
}

/// What does not work of this, each with its reason. A controller that is missing altogether is said elsewhere.
fn lacking(facts: &HostFacts, purpose: Purpose) -> Vec<String> {
    let there = facts.controllers.clone().unwrap_or_default();
    let can_be_there = |one: &&Capability| {
        matches!(purpose, Purpose::Stalls | Purpose::Wakes | Purpose::Preemption)
            || there.contains(one.controller())
    };
    let asked = facts.capabilities.iter().filter(|one| one.purpose == purpose);
    asked
        .filter(can_be_there)
        .filter_map(|one| Some(format!("{}: {}", one.name, one.problem.as_ref()?)))
        .collect()
}

/// The loop's other levers.
fn setpoints(facts: &HostFacts) -> Requirement {
    let problems = lacking(facts, Purpose::Levers);
    let verdict = if problems.is_empty() {
        Ok("CPU and memory of lent work can be lowered at any moment")
    } else {
        let lacks = problems.join("; ");
        Err((
            format!("the headroom loop squeezes or evicts earlier, as it lacks {lacks}"),
            AS_ROOT,
        ))
    };
    judge("setpoints", Need::Degraded, verdict)
}

/// Both are fine; it is said because it changes what memory pressure looks like.
fn swap(facts: &HostFacts) -> Requirement {
    let found = if facts.swap_on {
        "swap is on; lent work is kept out of it (memory.swap.max 0)"
    } else {
        "no swap"
    };
    judge("swap", Need::Degraded, Ok::<_, (String, String)>(found))
}

/// Only asked where someone is to be protected.
fn floors(facts: &HostFacts, policy: Result<&NodePolicy, &str>) -> Requirement {
    let wanted = policy.is_ok_and(|policy| policy.protect.iter().any(|protect| protect.memory.is_some()));
    let verdict = match (wanted, facts.memory_recursiveprot) {
        (_, true) => Ok("floors of slices protect what is below them"),
        (false, false) => Ok("no floors are asked for"),
        (true, false) => Err((
            "cgroups are mounted without memory_recursiveprot, so floors of slices protect nothing below them",
            "mount /sys/fs/cgroup with memory_recursiveprot, as systemd from 250 on does by itself",
        )),
    };
    judge("memory-floors", Need::Degraded, verdict)
}

/// The names of all requirements that are missed.
pub fn names_missed(report: &Report) -> BTreeSet<&'static str> {
    let missed = report
        .requirements
        .iter()
        .filter(|requirement| requirement.missed().is_some());
    missed.map(|requirement| requirement.name).collect()
}

#[cfg(test)]
mod tests;
