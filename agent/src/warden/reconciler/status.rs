//! How things stand, for whoever asks.

use std::collections::BTreeMap;

use loadline_model::{AttemptId, Generation, LedgerId, Sequence, Span};
use loadline_policy::admission::{Lending, lending};
use loadline_policy::node_policy::Mode;
use loadline_policy::protect::State;
use loadline_policy::settings::{LimitReading, Slice};

use super::{CostState, Node, Reconciler, lock};
use crate::host::capabilities::{Capability, weights};
use crate::host::cgroup::Usage;
use crate::host::clock::Clock;
use crate::host::systemd::Systemd;
use crate::host::users::Accounts;
use crate::ledger::AttemptReport;

/// Each of the things that are looked at of slices.
const SLICES_EVERY_TICKS: u64 = 5;

/// What was counted since the warden started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Limits that had changed and were put back.
    pub limit_repairs: u64,
    /// Workers that started.
    pub starts_ok: u64,
    /// Workers that could not be started.
    pub starts_failed: u64,
    /// Ends of which signal and record told differently.
    pub end_records_disagreeing: u64,
    /// Records kept aside.
    pub records_set_aside: u64,
    /// Writes to the ledger that failed.
    pub ledger_failures: u64,
    /// Receipts that did not get into a worker's own log.
    pub receipts_not_logged: u64,
    /// CPU time granted to those who were ended while lent work starved.
    pub reaping: Span,
    /// Receipts, by action.
    pub protection_actions: BTreeMap<&'static str, u64>,
    /// How often each slice has met its own memory limit, as last read.
    pub(super) slices_oom: BTreeMap<Slice, u64>,
}

/// How things stand.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The boot that is running.
    pub boot_id: String,
    /// The ledger.
    pub ledger_id: LedgerId,
    /// Orders up to here are known.
    pub generation: Generation,
    /// The latest event.
    pub last_sequence: Sequence,
    /// Attempts that are not ended.
    pub attempts: Vec<AttemptReport>,
    /// Every limit as last read, by unit.
    pub limits: BTreeMap<String, Vec<LimitReading>>,
    /// What was counted.
    pub counters: Counters,
    /// What each slice uses, as read some seconds ago at most.
    pub slices: BTreeMap<Slice, Usage>,
    /// Limits of slices as last read.
    pub slice_limits: BTreeMap<Slice, loadline_policy::settings::Observed>,
    /// Production's floors, by unit that the owner names.
    pub floors: BTreeMap<String, State>,
    /// Disks that the owner wants to go by weight.
    pub costs: BTreeMap<String, CostState>,
    /// Which disks do, as seen some seconds ago at most.
    pub weights: Capability,
    /// The machine and its policy.
    pub node: Node,
    /// Why its windows are shut, if they are; one sentence.
    pub shut: Option<String>,
}

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    /// Slices are few and carry everyone, so they are looked at often; one thing a second, as production may wait for the
    /// CPU that it takes.
    pub(super) async fn look_at_slices(&mut self) {
        match self.ticks % SLICES_EVERY_TICKS {
            0 => self.weigh().await,
            1 => self.read_slices(),
            2 => self.protect().await,
            3 => self.look_at_use(),
            _ => {}
        }
    }

    /// Nine files of each slice, which are read for people and not for decisions: in the tick's slower rhythm, however
    /// often somebody asks.
    pub(super) fn look_at_use(&mut self) {
        let there = |slice: &Slice| self.cgroups.exists(&self.slice_cgroup(*slice));
        let usage = |slice: Slice| (slice, self.cgroups.usage(&self.slice_cgroup(slice)));
        self.used = Slice::ALL.into_iter().filter(there).map(usage).collect();
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let (ledger_id, last_sequence) = {
            let ledger = lock(&self.ledger);
            (ledger.id(), ledger.last_sequence())
        };
        let report = |attempt: &AttemptId| self.state.report(*attempt);
        Snapshot {
            boot_id: self.boot.0.clone(),
            ledger_id,
            generation: self.state.generation,
            last_sequence,
            attempts: self.state.attempts.keys().filter_map(report).collect(),
            limits: self.readings.clone(),
            counters: Counters {
                receipts_not_logged: self.remarks.dropped(),
                ..self.counters.clone()
            },
            slices: self.used.clone(),
            slice_limits: self.slices.clone(),
            floors: self.floors.states.clone(),
            costs: self.costs.states.clone(),
            weights: weights(&self.costs.disks, self.costs.is_there),
            node: self.node.clone(),
            shut: match lending(&self.node.policy, &(self.local)(&self.node.policy)) {
                Lending::Withdrawn(why) if self.node.policy.lend.mode == Mode::Enforce => Some(why),
                _ => None,
            },
        }
    }
}
