//! Disks whose IO goes by weight: what the owner asks of the kernel's io.cost, and what to do about it.
//!
//! `IOWeight=` means something only where io.cost is on for a disk (or its scheduler is BFQ). There lent work's weight of
//! 1 beside 100 holds its IO, as a share of what the disk can do and without first making production wait, so no
//! bandwidth is held on such a disk. io.cost is switched on in two files of the root cgroup, which are the whole
//! machine's and so its owner's: whoever has enabled it, we only see it. We write there if node.toml says so
//! (`[io] cost = [{ disk = "vda", … }]`), and take back only what we wrote: what was there before is kept in [`Held`],
//! durable until the machine restarts, as the setting itself is.
//!
//! In mode `off` it is taken back, in `shadow` nothing is planned, as with production's floors ([`crate::protect`]).
//! Keys and formats: the kernel's `Documentation/admin-guide/cgroup-v2.rst`, `io.cost.qos` and `io.cost.model`.

mod values;

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::node_policy::Mode;

pub use values::{Hundredths, Model, Qos, ValueMistakes};

/// What the owner asks for one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Its name in `/sys/block`.
    pub disk: String,
    /// What it can do; none: the kernel's guess by the kind of disk.
    pub model: Option<Model>,
    /// How far it may be filled; none: the kernel's guess.
    pub qos: Option<Qos>,
}

/// What is written for a disk into each of the two files, without its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// Into `io.cost.model`; first, so that the disk is never held by another model.
    pub model: String,
    /// Into `io.cost.qos`.
    pub qos: String,
}

/// A disk's line in each file, without its number; none: it has none yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// In `io.cost.model`.
    pub model: Option<String>,
    /// In `io.cost.qos`.
    pub qos: Option<String>,
}

/// What we have written for a disk, and what was there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Before us.
    pub before: Seen,
    /// By us.
    pub set: Words,
}

impl Cost {
    /// What makes it so.
    pub fn words(&self) -> Words {
        let model = self.model.as_ref();
        let qos = self.qos.as_ref();
        Words {
            model: model.map_or_else(
                || "ctrl=auto".to_owned(),
                |model| format!("ctrl=user model=linear {model}"),
            ),
            qos: qos.map_or_else(
                || "enable=1 ctrl=auto".to_owned(),
                |qos| format!("enable=1 ctrl=user {qos}"),
            ),
        }
    }
}

impl Words {
    /// True if the kernel shows every value that was written.
    pub fn are_held_by(&self, seen: &Seen) -> bool {
        says(seen.model.as_deref(), &self.model) && says(seen.qos.as_deref(), &self.qos)
    }

    /// What brings back what was there. A line that is the kernel's own guess shows its numbers too, and writing those
    /// would make them the user's.
    fn back_to(before: &Seen) -> Self {
        let is_users = |line: &&String| value(line, "ctrl") == Some("user");
        let enable = before.qos.as_deref().and_then(|line| value(line, "enable"));
        Self {
            model: before
                .model
                .as_ref()
                .filter(is_users)
                .map_or_else(|| "ctrl=auto".to_owned(), ToOwned::to_owned),
            qos: before.qos.as_ref().filter(is_users).map_or_else(
                || format!("enable={} ctrl=auto", enable.unwrap_or("0")),
                ToOwned::to_owned,
            ),
        }
    }
}

/// What stands for a key in a line of words like `key=value`.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn says(line: Option<&str>, meant: &str) -> bool {
    let mut words = meant.split_whitespace();
    let shown = |word: &str| line.is_some_and(|line| line.split_whitespace().any(|other| other == word));
    words.all(shown)
}

/// The lines of one of the files, by the number of the disk, like `254:0`.
pub fn lines(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.trim().split_once(' '))
        .collect()
}

/// The numbers of the disks whose IO goes by weight, by the text of `io.cost.qos`.
pub fn weighed(qos: &str) -> BTreeSet<&str> {
    let lines = lines(qos).into_iter();
    lines
        .filter(|(_, line)| value(line, "enable") == Some("1"))
        .map(|(number, _)| number)
        .collect()
}

/// What is known of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The kernel has the files.
    pub is_there: bool,
    /// By name, the disks of the machine that lie on no others.
    pub disks: BTreeMap<String, Seen>,
    /// By name, what we have written since boot.
    pub held: BTreeMap<String, Held>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write what node.toml asks.
    Set {
        /// The disk.
        disk: String,
        /// To be kept in mind before it is written.
        held: Held,
        /// True if it had been written, and something has changed it.
        again: bool,
    },
    /// Give a disk back what was there.
    TakeBack {
        /// The disk.
        disk: String,
        /// What that was; none: it was changed since, or the disk is gone, and it is only forgotten.
        words: Option<Words>,
    },
}

/// How it stands with a disk that the owner names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As node.toml says, as read back.
    Held,
    /// Not so.
    NotHeld,
    /// There is none of that name that lies on no other.
    NoDisk,
    /// The kernel has no io.cost.
    NotThere,
    /// In this mode it is left alone.
    LeftAlone,
}

/// What is to be done, and how things stand before that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In any order.
    pub actions: Vec<Action>,
    /// By disk that the owner names.
    pub states: BTreeMap<String, State>,
}

/// What is to be done so that each named disk is as the owner says. Nothing in shadow mode.
pub fn plan(costs: &[Cost], mode: Mode, view: &View) -> Plan {
    let mut plan = Plan::default();
    let wanted: &[Cost] = match mode {
        Mode::Enforce => costs,
        Mode::Off | Mode::Shadow => {
            let left_alone = costs.iter().map(|cost| (cost.disk.clone(), State::LeftAlone));
            plan.states.extend(left_alone);
            &[]
        }
    };
    if mode == Mode::Shadow {
        return plan;
    }
    for cost in wanted {
        let state = match view.disks.get(&cost.disk) {
            _ if !view.is_there => State::NotThere,
            None => State::NoDisk,
            Some(seen) => {
                let before = view.held.get(&cost.disk);
                let action = set(cost, seen, before);
                let state = if action.is_some() {
                    State::NotHeld
                } else {
                    State::Held
                };
                plan.actions.extend(action);
                state
            }
        };
        plan.states.insert(cost.disk.clone(), state);
    }
    let names: BTreeSet<&String> = wanted.iter().map(|cost| &cost.disk).collect();
    let over = view.held.iter().filter(|(disk, _)| !names.contains(disk));
    for (disk, held) in over {
        let seen = view.disks.get(disk);
        // Changed since: that is somebody else's now.
        let ours = seen.is_some_and(|seen| held.set.are_held_by(seen));
        plan.actions.push(Action::TakeBack {
            disk: disk.to_string(),
            words: ours.then(|| Words::back_to(&held.before)),
        });
    }
    plan
}

/// None: it is so already.
fn set(cost: &Cost, seen: &Seen, before: Option<&Held>) -> Option<Action> {
    let words = cost.words();
    if words.are_held_by(seen) {
        return None;
    }
    Some(Action::Set {
        disk: cost.disk.clone(),
        again: before.is_some_and(|before| before.set == words),
        held: Held {
            before: before.map_or_else(|| seen.clone(), |before| before.before.clone()),
            set: words,
        },
    })
}

#[cfg(test)]
mod tests;
