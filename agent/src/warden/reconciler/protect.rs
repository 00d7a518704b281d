//! Production's floors: what [`loadline_policy::protect`] plans, set over D-Bus, read back, and put back.
//!
//! Looked at after every reload of systemd and every few seconds. A file that is read costs nothing; systemd is only
//! asked where a unit is when its cgroup is not where it was last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use loadline_model::{Receipt, ReceiptAction, ReceiptSubject, Span};
use loadline_policy::node_policy::Mode;
use loadline_policy::protect::{Action, Floor, Held, Plan, State, View, cgroups_on, plan};
use tracing::{error, info, warn};

use super::Reconciler;
use crate::host::clock::Clock;
use crate::host::systemd::{Setting, Systemd, SystemdError};
use crate::host::users::Accounts;
use crate::warden::floors;

/// What did not work is tried again after this: each try costs PID 1 some CPU, which is production's.
const AGAIN: Span = Span::from_secs(30);

/// What is known of floors.
#[derive(Debug)]
pub(super) struct Floors {
    path: PathBuf,
    /// None: the record could not be read yet, and nothing is changed.
    held: Option<BTreeMap<String, Held>>,
    cgroups: BTreeMap<String, String>,
    /// Units whose floor was seen in force after it was set.
    seen: BTreeSet<String>,
    /// When something was last tried in vain, by unit.
    failed: BTreeMap<String, Span>,
    /// By unit that the owner names.
    pub(super) states: BTreeMap<String, State>,
}

impl Floors {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            held: None,
            cgroups: BTreeMap::new(),
            seen: BTreeSet::new(),
            failed: BTreeMap::new(),
            states: BTreeMap::new(),
        }
    }
}

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    /// Looks at production's floors and sees to it that they are held.
    pub(super) async fn protect(&mut self) {
        let mode = self.node.policy.lend.mode;
        if mode != Mode::Shadow && !self.recall() {
            return;
        }
        if mode != Mode::Shadow {
            self.find_protected().await;
        }
        let first = self.plan_floors();
        if mode == Mode::Shadow || first.actions.is_empty() {
            return self.judged(first);
        }
        let now = self.clock.monotonic();
        for action in first.actions {
            let (Action::Set { unit, .. } | Action::TakeBack { unit, .. }) = &action;
            let waits = self.floors.failed.get(unit);
            if waits.is_some_and(|since| now.minus(*since) < AGAIN) {
                continue;
            }
            self.change_floor(action, now).await;
        }
        let after = self.plan_floors();
        for action in &after.actions {
            if let Action::Set { unit, held, .. } = action
                && !self.floors.failed.contains_key(unit)
            {
                self.floors.failed.insert(unit.clone(), now);
                self.floors.seen.remove(unit);
                warn!(unit, floor = %held.set.min, "systemd says that the floor is set, and the kernel does not hold it");
            }
        }
        self.judged(after);
    }

    fn judged(&mut self, plan: Plan) {
        let short: BTreeSet<&String> = plan
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::Set { unit, .. } => Some(unit),
                Action::TakeBack { .. } => None,
            })
            .collect();
        let held = self.floors.held.iter().flat_map(BTreeMap::keys);
        let seen: BTreeSet<String> = held.filter(|unit| !short.contains(unit)).cloned().collect();
        self.floors.failed.retain(|unit, _| !seen.contains(unit));
        self.floors.seen = seen;
        self.floors.states = plan.states;
    }

    /// Reads what was set before this warden started; false: not possible now.
    fn recall(&mut self) -> bool {
        if self.floors.held.is_none() {
            match floors::load(&self.floors.path, &self.boot.0) {
                Ok(held) => self.floors.held = Some(held),
                Err(problem) => error!(error = &problem as &dyn std::error::Error, "floors"),
            }
        }
        self.floors.held.is_some()
    }

    /// Asks systemd for units that are not where they were.
    async fn find_protected(&mut self) {
        let named = self
            .node
            .policy
            .protect
            .iter()
            .filter(|entry| entry.memory.is_some());
        let named: BTreeSet<String> = named.map(|entry| entry.unit.clone()).collect();
        self.floors.cgroups.retain(|unit, _| named.contains(unit));
        for unit in named {
            let known = self.floors.cgroups.get(&unit);
            if known.is_some_and(|cgroup| self.cgroups.exists(cgroup)) {
                continue;
            }
            match self.systemd.control_group(&unit).await {
                Ok(Some(cgroup)) => drop(self.floors.cgroups.insert(unit, cgroup)),
                // It has stopped or was never there; its slices stay prepared.
                Ok(None) => {}
                Err(problem) => warn!(error = &problem as &dyn std::error::Error, unit, "floor"),
            }
            (self.alive)();
        }
    }

    fn plan_floors(&self) -> Plan {
        let held = self.floors.held.clone().unwrap_or_default();
        let on_the_way = self.floors.cgroups.values().flat_map(|cgroup| cgroups_on(cgroup));
        let mut floors: BTreeMap<String, Floor> = BTreeMap::new();
        for cgroup in on_the_way {
            if !floors.contains_key(cgroup)
                && let Some(floor) = self.cgroups.floor(cgroup)
            {
                floors.insert(cgroup.to_owned(), floor);
            }
        }
        let view = View {
            cgroups: self.floors.cgroups.clone(),
            floors,
            held,
        };
        plan(&self.node.policy.protect, self.node.policy.lend.mode, &view)
    }

    async fn change_floor(&mut self, action: Action, now: Span) {
        let result = match &action {
            Action::Set { unit, held, again } => {
                // Written down first: what was there before is not lost with us.
                if !self.remember(unit, Some(*held)) {
                    return;
                }
                if *again && self.floors.seen.contains(unit) {
                    self.tell_put_back(unit, held);
                }
                self.set_floor(unit, held.set).await
            }
            Action::TakeBack { unit, owner } => match owner {
                Some(owner) => match self.set_floor(unit, *owner).await {
                    Err(SystemdError::NoSuchUnit { .. }) => Ok(()),
                    other => other,
                },
                None => Ok(()),
            },
        };
        match (result, action) {
            (Ok(()), Action::Set { unit, held, .. }) => {
                self.floors.failed.remove(&unit);
                info!(unit, floor = %held.set.min, "production's floor is set");
            }
            (Ok(()), Action::TakeBack { unit, .. }) => {
                self.floors.failed.remove(&unit);
                self.remember(&unit, None);
                info!(unit, "our floor is taken back");
            }
            (Err(problem), Action::Set { unit, .. } | Action::TakeBack { unit, .. }) => {
                warn!(error = &problem as &dyn std::error::Error, unit, "floor");
                self.floors.failed.insert(unit, now);
            }
        }
    }

    async fn set_floor(&mut self, unit: &str, floor: Floor) -> Result<(), SystemdError> {
        let settings = [Setting::MemoryMin(floor.min), Setting::MemoryLow(floor.low)];
        self.systemd.set(unit, &settings).await
    }

    /// Keeps in mind, durably, what is on a unit; false: not possible now.
    fn remember(&mut self, unit: &str, held: Option<Held>) -> bool {
        let Some(before) = &self.floors.held else {
            return false;
        };
        let mut after = before.clone();
        match held {
            Some(held) => after.insert(unit.to_owned(), held),
            None => after.remove(unit),
        };
        if after == *before {
            return true;
        }
        if let Err(problem) = floors::save(&self.floors.path, &self.boot.0, &after) {
            error!(error = &problem as &dyn std::error::Error, "floors");
            return false;
        }
        self.floors.held = Some(after);
        true
    }

    fn tell_put_back(&mut self, unit: &str, held: &Held) {
        let now = self.now();
        let receipt = Receipt {
            at: now.wall,
            action: ReceiptAction::LimitRepaired,
            subject: ReceiptSubject::Node(unit.to_owned()),
            sentence: format!(
                "the memory that node.toml keeps for production, {} on {unit}, had been taken off and is put back: \
                 change it in node.toml, not with systemctl",
                held.set.min
            ),
        };
        self.count(&receipt);
        self.counters.limit_repairs += 1;
        self.state.receipt(receipt, now);
    }
}
