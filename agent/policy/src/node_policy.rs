//! The owner's local policy, final on this node: what may be lent, when, to whom (design §4).
//!
//! Two stages: [`RawNodePolicy`] is what the file says, a [`NodePolicy`] is valid by construction. Every
//! mistake is reported at once, each with its key, so that an operator edits the file once.

mod raw;
mod read;
mod slo;
mod window;

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use loadline_model::{Bytes, CpuSet, PerMille, Topology};
use serde::{Deserialize, Serialize};

use crate::io_cost::Cost;

pub use loadline_model::{Days, LocalTime, Weekday};
pub use raw::{RawNodePolicy, RawValue};
pub use slo::{HttpUrl, Probe, Slo, SloTarget};
pub use window::{LocalTimes, Window, WindowZone};

/// The lowest uid that is ever lent to, whatever the file says: 0 is root.
pub const UID_FLOOR: u32 = 1;

/// What the warden does on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Lends nothing; running workers are evicted.
    Off,
    /// Decides and records, touches nothing and starts nothing.
    Shadow,
    /// Lends, and holds the line.
    Enforce,
}

impl Mode {
    /// All, from the one that does least.
    pub const ALL: [Self; 3] = [Self::Off, Self::Shadow, Self::Enforce];

    /// The mode behind a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == word)
    }

    /// The word used in files and tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::Enforce => "enforce",
        }
    }
}

/// Whether CPUs are pinned through the cpuset controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpusetChoice {
    /// Where it harms no production process, else weights only.
    Auto,
    /// In any case.
    Always,
    /// Weights only.
    Never,
}

/// Whether the fleet's operators may have this node tested by `fleet prove`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProveConsent {
    /// They may: a test presses no more than lent work may anyway, and ends at the first sign of danger.
    Allow,
    /// Only root here may, with `loadline-warden prove`.
    Refuse,
}

impl ProveConsent {
    /// The word used in files and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Refuse => "refuse",
        }
    }
}

/// What may be lent, when, to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lend {
    /// What the warden does.
    pub mode: Mode,
    /// Which operator holds the mode below the owner's; none: it is the owner's.
    pub mode_held_by: Option<String>,
    /// When; empty: always.
    pub windows: Vec<Window>,
    /// To which teams; empty: all.
    pub allow_teams: BTreeSet<String>,
    /// The lowest uid a worker may run as; at least [`UID_FLOOR`].
    pub uid_min: u32,
    /// Members of these groups are refused.
    pub deny_groups: BTreeSet<String>,
    /// Whether the fleet may test here.
    pub prove: ProveConsent,
}

/// A unit of production that is named, and so gets floors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protect {
    /// The systemd unit.
    pub unit: String,
    /// The memory it keeps whatever happens; none: no floor.
    pub memory: Option<Bytes>,
    /// Its promise; none: not probed.
    pub slo: Option<Slo>,
}

/// CPUs that are never lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReserveCpus {
    /// This many threads, rounded up to whole physical cores; Loadline picks them.
    Count(u32),
    /// These.
    List(CpuSet),
}

/// Memory that is never lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReserveMemory {
    /// This much.
    Amount(Bytes),
    /// This share of all there is.
    Share(PerMille),
}

/// What is never lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// CPUs.
    pub cpus: ReserveCpus,
    /// Memory.
    pub memory: ReserveMemory,
    /// Whole GPUs.
    pub gpus: u32,
}

/// What is kept idle on top of what production uses, as shares of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// CPU.
    pub cpu: PerMille,
    /// Memory.
    pub memory: PerMille,
}

/// The checked local policy of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePolicy {
    /// What may be lent, when, to whom.
    pub lend: Lend,
    /// Whether CPUs are pinned.
    pub cpuset: CpusetChoice,
    /// Disks whose IO is to go by weight.
    pub io_cost: Vec<Cost>,
    /// Units of production that get floors.
    pub protect: Vec<Protect>,
    /// What is never lent.
    pub reserve: Reserve,
    /// What is kept idle.
    pub headroom: Headroom,
}

/// One mistake in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyMistake {
    /// The key, for instance `lend.uid_min`.
    pub key: String,
    /// What is wrong and what would be right, in one sentence.
    pub problem: String,
}

impl fmt::Display for PolicyMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// Every mistake in the file, at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyMistakes(pub Vec<PolicyMistake>);

impl fmt::Display for PolicyMistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

impl Default for NodePolicy {
    /// What an empty file with `version = 1` means.
    fn default() -> Self {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Self {
            lend: Lend {
                mode: Mode::Enforce,
                mode_held_by: None,
                windows: Vec::new(),
                allow_teams: BTreeSet::new(),
                uid_min: 1000,
                deny_groups: names(&["docker", "lxd", "disk", "sudo", "wheel"]),
                prove: ProveConsent::Allow,
            },
            cpuset: CpusetChoice::Auto,
            io_cost: Vec::new(),
            protect: Vec::new(),
            reserve: Reserve {
                cpus: ReserveCpus::Count(1),
                memory: ReserveMemory::Share(PerMille(100)),
                gpus: 0,
            },
            headroom: Headroom {
                cpu: PerMille(200),
                memory: PerMille(100),
            },
        }
    }
}

impl NodePolicy {
    /// Checks what a file says and fills in the defaults.
    ///
    /// # Errors
    /// Every mistake found, each with its key.
    pub fn new(raw: RawNodePolicy) -> Result<Self, PolicyMistakes> {
        read::read(raw)
    }

    /// What holds when there is no usable file: nothing is lent.
    pub fn lend_nothing() -> Self {
        let mut policy = Self::default();
        policy.lend.mode = Mode::Off;
        policy
    }

    /// Mistakes that show only on this machine: CPUs it does not have, more memory than it has.
    pub fn mistakes_on(&self, topology: &Topology) -> Vec<PolicyMistake> {
        let mut mistakes = Vec::new();
        let mut add = |key: &str, problem: String| {
            mistakes.push(PolicyMistake {
                key: key.into(),
                problem,
            });
        };
        if let ReserveCpus::List(list) = &self.reserve.cpus {
            let absent = list.difference(&topology.cpus());
            if !absent.is_empty() {
                add(
                    "production.reserve.cpus",
                    alloc::format!(
                        "this machine has no CPU {absent}; its CPUs are {}",
                        topology.cpus()
                    ),
                );
            }
        }
        if let ReserveMemory::Amount(memory) = self.reserve.memory
            && memory > topology.memory()
        {
            add(
                "production.reserve.memory",
                alloc::format!("{memory} is more than the {} of this machine", topology.memory()),
            );
        }
        let floors = self.protect.iter().filter_map(|protect| protect.memory);
        let floors = floors.fold(Bytes::ZERO, Bytes::plus);
        if floors > topology.memory() {
            add(
                "production.protect",
                alloc::format!(
                    "the floors add up to {floors}, more than the {} of this machine",
                    topology.memory()
                ),
            );
        }
        mistakes
    }

    /// The time zones that the windows name; the shell brings the local time of each.
    pub fn zones(&self) -> BTreeSet<String> {
        let zones = self.lend.windows.iter().filter_map(|window| match &window.zone {
            WindowZone::Node => None,
            WindowZone::Named(name) => Some(name.clone()),
        });
        zones.collect()
    }
}

#[cfg(test)]
mod tests;
