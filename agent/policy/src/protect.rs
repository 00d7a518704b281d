//! Memory that production's units keep whatever happens: which floors their cgroups need, and what to do about it.
//!
//! A floor on the unit alone is worthless: the kernel shares out what the slice above it has been promised, which is
//! nothing (`reference/systemd.md`, "Floors"). So each slice above gets at least the sum of the floors below it.
//! Production only receives: what its owner has set himself and is higher stays, and is what is put back when a
//! floor is taken back. What was there before is therefore kept in [`Held`], durable until the machine restarts.
//!
//! In mode `off` floors are taken back: nothing is lent, so nothing threatens, and whoever switches Loadline off
//! expects the machine as if it were not installed. In `shadow` nothing is planned at all, not even taking back.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use loadline_model::Bytes;

use crate::node_policy::{Mode, Protect};

/// The kernel keeps whole pages.
const PAGE: u64 = 4096;

/// `MemoryMin` and `MemoryLow` of a unit; `u64::MAX` bytes: all it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Floor {
    /// Never taken, even if the machine dies of it.
    pub min: Bytes,
    /// Taken last.
    pub low: Bytes,
}

impl Floor {
    /// The same for both.
    pub const fn of(memory: Bytes) -> Self {
        Self {
            min: memory,
            low: memory,
        }
    }

    /// The higher of each.
    pub fn or_more(self, other: Self) -> Self {
        Self {
            min: self.min.max(other.min),
            low: self.low.max(other.low),
        }
    }

    /// As the kernel shows it.
    const fn shown(self) -> Self {
        const fn whole(bytes: Bytes) -> Bytes {
            if bytes.0 == u64::MAX {
                bytes
            } else {
                Bytes(bytes.0 - bytes.0 % PAGE)
            }
        }
        Self {
            min: whole(self.min),
            low: whole(self.low),
        }
    }

    /// True if the kernel keeps at least this.
    fn is_held_by(self, seen: Self) -> bool {
        let meant = self.shown();
        seen.min >= meant.min && seen.low >= meant.low
    }
}

/// What we have set on a unit, and what its owner had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Before us.
    pub owner: Floor,
    /// By us.
    pub set: Floor,
}

/// What is known of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Where protected units are or were last, as systemd writes it, `/system.slice/nginx.service`; absent: not
    /// loaded since the warden started. Kept over a stop, so that a restart finds its slices prepared.
    pub cgroups: BTreeMap<String, String>,
    /// What the kernel keeps for each cgroup.
    pub floors: BTreeMap<String, Floor>,
    /// By unit, what we have set since boot.
    pub held: BTreeMap<String, Held>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Set a unit's floor.
    Set {
        /// The unit.
        unit: String,
        /// To be kept in mind before it is set.
        held: Held,
        /// True if it had been set, and something has removed it.
        again: bool,
    },
    /// Give a unit back what its owner had.
    TakeBack {
        /// The unit.
        unit: String,
        /// What that was; none: it was changed since, and is only forgotten.
        owner: Option<Floor>,
    },
}

/// Whether a unit's floor is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// On it and on every slice above it, as read back.
    Held,
    /// Somewhere on the way not.
    NotHeld,
    /// The unit has no processes, so there is nothing to hold.
    NotLoaded,
    /// In this mode floors are left alone.
    LeftAlone,
}

/// What is to be done, and how things stand before that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Slices first, so that no unit's floor is worthless for a moment.
    pub actions: Vec<Action>,
    /// By unit that the owner names.
    pub states: BTreeMap<String, State>,
}

/// The units on the way to a cgroup, the unit itself last: `/a.slice/a-b.slice/c.service` has three.
pub fn units_on(cgroup: &str) -> impl DoubleEndedIterator<Item = &str> {
    cgroup.split('/').filter(|name| !name.is_empty())
}

/// The cgroup of each unit on the way, the unit itself last.
pub fn cgroups_on(cgroup: &str) -> impl Iterator<Item = &str> {
    let ends = cgroup.match_indices('/').map(|(place, _)| place).skip(1);
    ends.chain([cgroup.len()]).map(|end| &cgroup[..end])
}

/// What a unit needs, by cgroup: what the owner of the machine asked for it, and the sum of what is needed below.
fn needs(protect: &[Protect], view: &View) -> BTreeMap<String, Bytes> {
    let mut own: BTreeMap<&str, Bytes> = BTreeMap::new();
    for entry in protect {
        if let (Some(memory), Some(cgroup)) = (entry.memory, view.cgroups.get(&entry.unit)) {
            let asked = own.entry(cgroup).or_default();
            *asked = (*asked).max(memory);
        }
    }
    let all: BTreeSet<&str> = own.keys().flat_map(|cgroup| cgroups_on(cgroup)).collect();
    // Longest first: whatever is below is known before what is above.
    let mut order: Vec<&str> = all.into_iter().collect();
    order.sort_by_key(|cgroup| core::cmp::Reverse(units_on(cgroup).count()));
    let mut needs: BTreeMap<String, Bytes> = BTreeMap::new();
    let mut below: BTreeMap<&str, Bytes> = BTreeMap::new();
    for cgroup in order {
        let sum = below.get(cgroup).copied().unwrap_or_default();
        let need = own.get(cgroup).copied().unwrap_or_default().max(sum);
        needs.insert(cgroup.to_string(), need);
        let parent = cgroup
            .rfind('/')
            .map(|place| &cgroup[..place])
            .unwrap_or_default();
        let sum = below.entry(parent).or_default();
        *sum = sum.plus(need);
    }
    needs
}

/// What is to be done so that each named unit keeps its memory. Nothing in shadow mode.
pub fn plan(protect: &[Protect], mode: Mode, view: &View) -> Plan {
    let named = || protect.iter().filter(|entry| entry.memory.is_some());
    if mode == Mode::Shadow {
        let states = named().map(|entry| (entry.unit.clone(), State::LeftAlone));
        return Plan {
            actions: Vec::new(),
            states: states.collect(),
        };
    }
    let needs = match mode {
        Mode::Off => BTreeMap::new(),
        Mode::Shadow | Mode::Enforce => needs(protect, view),
    };
    let mut plan = Plan::default();
    let mut order: Vec<(&String, &Bytes)> = needs.iter().collect();
    order.sort_by_key(|(cgroup, _)| units_on(cgroup).count());
    let (mut wanted, mut short) = (BTreeSet::new(), BTreeSet::new());
    for (cgroup, need) in order {
        let Some(unit) = units_on(cgroup).next_back() else {
            continue;
        };
        wanted.insert(unit);
        let seen = view.floors.get(cgroup).copied();
        let action = set(unit, *need, seen, view.held.get(unit).copied());
        let held = |held: &Held| seen.is_some_and(|seen| held.set.is_held_by(seen));
        if seen.is_none_or(|seen| !Floor::of(*need).is_held_by(seen)) {
            short.insert(cgroup.as_str());
        }
        plan.actions.extend(action.filter(|action| match action {
            // A lower floor than before is a change too.
            Action::Set { unit, held: now, .. } => !held(now) || view.held.get(unit) != Some(now),
            Action::TakeBack { .. } => true,
        }));
    }
    let over = view
        .held
        .iter()
        .filter(|(unit, _)| !wanted.contains(unit.as_str()));
    for (unit, held) in over {
        let mut at = view
            .floors
            .iter()
            .filter(|(cgroup, _)| units_on(cgroup).next_back() == Some(unit));
        let raised = at.next().is_some_and(|(_, seen)| !seen.is_at_most(held.set));
        plan.actions.push(Action::TakeBack {
            unit: unit.clone(),
            owner: (!raised).then_some(held.owner),
        });
    }
    for entry in named() {
        let state = match (mode, view.cgroups.get(&entry.unit)) {
            (Mode::Off, _) => State::LeftAlone,
            (_, None) => State::NotLoaded,
            (_, Some(cgroup)) if !view.floors.contains_key(cgroup) => State::NotLoaded,
            (_, Some(cgroup)) if cgroups_on(cgroup).any(|cgroup| short.contains(cgroup)) => State::NotHeld,
            _ => State::Held,
        };
        plan.states.insert(entry.unit.clone(), state);
    }
    plan
}

impl Floor {
    fn is_at_most(self, other: Self) -> bool {
        self.min <= other.min && self.low <= other.low
    }
}

/// What a unit is to have: what is needed, and never less than its owner has set.
fn set(unit: &str, need: Bytes, seen: Option<Floor>, before: Option<Held>) -> Option<Action> {
    // Without the file there is no memory controller to ask.
    let seen = seen?;
    let owner = match before {
        // Higher than we have set: somebody else did, and that is now the owner's.
        Some(held) => Floor {
            min: if seen.min > held.set.min {
                seen.min
            } else {
                held.owner.min
            },
            low: if seen.low > held.set.low {
                seen.low
            } else {
                held.owner.low
            },
        },
        None => seen,
    };
    let held = Held {
        owner,
        set: owner.or_more(Floor::of(need)),
    };
    let again = before.is_some_and(|before| !before.set.is_held_by(seen));
    (before.is_some() || !Floor::of(need).is_held_by(seen)).then(|| Action::Set {
        unit: unit.to_string(),
        held,
        again,
    })
}

#[cfg(test)]
mod tests;
