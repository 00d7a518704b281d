//! The owner's io.cost: what [`loadline_policy::io_cost`] plans, written, read back, and taken back.
//!
//! Beside production's floors and in their rhythm. Whether a disk goes by weight is seen in the kernel's file wherever
//! bandwidth is told or read back, whoever has switched it on; here is only what node.toml asks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use loadline_model::{Receipt, ReceiptAction, ReceiptSubject, Span};
use loadline_policy::io_cost::{Action, Held, Plan, State, View, Words, plan};
use loadline_policy::node_policy::Mode;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::Reconciler;
use crate::host::clock::Clock;
use crate::host::disks::Disk;
use crate::host::io_cost::CostFiles;
use crate::host::systemd::Systemd;
use crate::host::users::Accounts;
use crate::sentence::chain;
use crate::warden::costs::{self, HeldCosts};

/// What did not work is tried again after this: each try makes the disk wait.
const AGAIN: Span = Span::from_secs(30);

/// How it stands with a disk that the owner names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostState {
    /// In policy's words.
    pub state: State,
    /// Why it is not as it should be, one sentence; empty: it is.
    pub problem: String,
}

/// What is known of io.cost.
#[derive(Debug)]
pub(super) struct Costs {
    files: Arc<dyn CostFiles>,
    /// The machine's disks, as last listed.
    pub(super) disks: Vec<Disk>,
    /// The kernel has io.cost, as last seen.
    pub(super) is_there: bool,
    path: PathBuf,
    /// None: the record could not be read yet, and nothing is changed.
    held: Option<HeldCosts>,
    /// Disks that were seen as they should be after they were written.
    seen: BTreeSet<String>,
    /// When something was last tried in vain, by disk, and what came of it.
    failed: BTreeMap<String, (Span, String)>,
    /// By disk that the owner names.
    pub(super) states: BTreeMap<String, CostState>,
}

impl Costs {
    pub(super) fn new(files: Arc<dyn CostFiles>, path: PathBuf) -> Self {
        Self {
            disks: Vec::new(),
            is_there: false,
            files,
            path,
            held: None,
            seen: BTreeSet::new(),
            failed: BTreeMap::new(),
            states: BTreeMap::new(),
        }
    }
}

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    /// Sees to it that the disks that the owner names go by weight, and those that he does not name any more as before;
    /// and looks which there are and which do.
    pub(super) async fn weigh(&mut self) {
        self.see_to_costs().await;
        self.costs.disks = self.costs.files.disks();
        self.costs.is_there = matches!(self.costs.files.look(), Ok(Some(_)));
    }

    async fn see_to_costs(&mut self) {
        let mode = self.node.policy.lend.mode;
        if mode != Mode::Shadow && !self.recall_costs() {
            return;
        }
        let none_held = self.costs.held.as_ref().is_none_or(BTreeMap::is_empty);
        if self.node.policy.io_cost.is_empty() && none_held {
            return self.costs.states.clear();
        }
        let Some(first) = self.plan_costs() else { return };
        if mode == Mode::Shadow {
            return self.judge_costs(&first);
        }
        let now = self.clock.monotonic();
        for action in first.actions {
            let (Action::Set { disk, .. } | Action::TakeBack { disk, .. }) = &action;
            let waits = self.costs.failed.get(disk);
            if waits.is_some_and(|(since, _)| now.minus(*since) < AGAIN) {
                continue;
            }
            (self.alive)();
            self.change_cost(action, now).await;
        }
        let Some(after) = self.plan_costs() else { return };
        for action in &after.actions {
            if let Action::Set { disk, held, .. } = action
                && !self.costs.failed.contains_key(disk)
            {
                let problem = format!("the kernel took `{}` and does not show it", held.set.qos);
                warn!(disk, problem, "io.cost");
                self.costs.failed.insert(disk.clone(), (now, problem));
            }
        }
        self.judge_costs(&after);
    }

    fn recall_costs(&mut self) -> bool {
        if self.costs.held.is_none() {
            match costs::load(&self.costs.path, &self.boot.0) {
                Ok(held) => self.costs.held = Some(held),
                Err(problem) => error!(error = &problem as &dyn std::error::Error, "io.cost"),
            }
        }
        self.costs.held.is_some()
    }

    /// None: the kernel's files could not be read, and nothing follows from that.
    fn plan_costs(&self) -> Option<Plan> {
        let seen = match self.costs.files.look() {
            Ok(seen) => seen,
            Err(problem) => {
                warn!(error = &problem as &dyn std::error::Error, "io.cost");
                return None;
            }
        };
        let view = View {
            is_there: seen.is_some(),
            disks: seen.unwrap_or_default(),
            held: self.costs.held.clone().unwrap_or_default(),
        };
        let policy = &self.node.policy;
        Some(plan(&policy.io_cost, policy.lend.mode, &view))
    }

    fn judge_costs(&mut self, plan: &Plan) {
        let held = |disk: &String| plan.states.get(disk) == Some(&State::Held);
        self.costs.failed.retain(|disk, _| !held(disk));
        self.costs.seen = plan.states.keys().filter(|disk| held(disk)).cloned().collect();
        let state = |(disk, state): (&String, &State)| {
            let problem = match state {
                State::Held | State::LeftAlone => String::new(),
                State::NotThere => {
                    "this kernel has no io.cost (CONFIG_BLK_CGROUP_IOCOST): the disk's bandwidth is held instead"
                        .into()
                }
                State::NoDisk => "this machine has no disk of that name that lies on no other; correct io.cost \
                                  in node.toml, names are in /sys/block"
                    .into(),
                State::NotHeld => match self.costs.failed.get(disk) {
                    Some((_, problem)) => problem.clone(),
                    None => "it is not set yet".into(),
                },
            };
            let state = *state;
            (disk.clone(), CostState { state, problem })
        };
        self.costs.states = plan.states.iter().map(state).collect();
    }

    async fn change_cost(&mut self, action: Action, now: Span) {
        let (disk, words, held) = match action {
            Action::Set { disk, held, again } => {
                // Written down first: what was there before is not lost with us.
                if !self.remember_cost(&disk, Some(held.clone())) {
                    return;
                }
                if again && self.costs.seen.contains(&disk) {
                    self.tell_weighed_again(&disk);
                }
                (disk, Some(held.set.clone()), true)
            }
            Action::TakeBack { disk, words } => (disk, words, false),
        };
        let written = match words {
            Some(words) => write(self.costs.files.clone(), disk.clone(), words).await,
            None => Ok(()),
        };
        match written {
            Ok(()) => {
                self.costs.failed.remove(&disk);
                // Bandwidth is held elsewhere from now on.
                self.renewed = true;
                if !held {
                    self.remember_cost(&disk, None);
                }
                info!(disk, held, "io.cost");
            }
            Err(problem) => {
                warn!(disk, problem, "io.cost");
                self.costs.failed.insert(disk, (now, problem));
            }
        }
    }

    /// Keeps in mind, durably, what is ours on a disk; false: not possible now.
    fn remember_cost(&mut self, disk: &str, held: Option<Held>) -> bool {
        let Some(before) = &self.costs.held else {
            return false;
        };
        let mut after = before.clone();
        match held {
            Some(held) => after.insert(disk.to_owned(), held),
            None => after.remove(disk),
        };
        if after == *before {
            return true;
        }
        if let Err(problem) = costs::save(&self.costs.path, &self.boot.0, &after) {
            error!(error = &problem as &dyn std::error::Error, "io.cost");
            return false;
        }
        self.costs.held = Some(after);
        true
    }

    fn tell_weighed_again(&mut self, disk: &str) {
        let now = self.now();
        let receipt = Receipt {
            at: now.wall,
            action: ReceiptAction::LimitRepaired,
            subject: ReceiptSubject::Node(disk.to_owned()),
            sentence: format!(
                "the io.cost that node.toml asks for on {disk} had been changed and is set again: change it in \
                 node.toml"
            ),
        };
        self.count(&receipt);
        self.counters.limit_repairs += 1;
        self.state.receipt(receipt, now);
    }
}

/// On a thread of its own: it waits for the disk's requests.
async fn write(files: Arc<dyn CostFiles>, disk: String, words: Words) -> Result<(), String> {
    match spawn_blocking(move || files.write(&disk, &words)).await {
        Ok(written) => written.map_err(|problem| chain(&problem)),
        Err(_) => Err("writing it ended in a panic".into()),
    }
}
