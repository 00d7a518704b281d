//! What to do now: ledger, units, end records and policy in, actions out, in an order that is safe.
//!
//! **Problem.** The warden starts, restarts, misses signals, finds units it does not know and files that someone
//! changed. **Approach.** No hints: each pass looks at the whole state ([`View`]), and the same code serves
//! normal work, restart and repair. **Properties.** Nothing stops by absence: a unit is stopped only because
//! its ledger record says so (order, time limit) or local policy withdrew its room. What takes comes before
//! what gives: stop → shrink → grow → limits → start, and [`Gate`] lets nothing start after something that
//! takes has failed. A unit without a record is adopted.
//!
//! The headroom loop has its place here: it returns [`Setpoints`], which are part of the view.

mod cpus;
mod evict;
mod limits;
mod lives;
mod starts;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{AttemptId, CpuSet, MilliCpu, Peaks, Receipt, Span, WallTime};

use crate::admission::{Account, Refusal};
use crate::allocation::{Allocation, Holding, Machine};
use crate::attempt::{BootId, Life, Moment, UnitEnd, WorkOrder};
use crate::node_policy::{LocalTimes, Mode, NodePolicy};
use crate::reap::{Budget, Dying};
use crate::settings::{Mismatch, Observed, Setpoints, Slice, SliceSettings, Squeezed, WorkerSettings};

/// An attempt as the ledger has it, not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerAttempt {
    /// What was ordered; none for an adopted orphan.
    pub order: Option<WorkOrder>,
    /// Its account as this node knows it.
    pub account: Account,
    /// The boot it belongs to: in which its order was accepted or it was adopted.
    pub boot: BootId,
    /// Where it stands.
    pub life: Life,
    /// What it holds; from [`Life::Starting`] on.
    pub holding: Option<Holding>,
    /// The CPUs that were last set and read back; none before the first time.
    pub applied_cpus: Option<CpuSet>,
    /// The most it used, as sampled.
    pub peaks: Peaks,
}

/// What systemd says about a worker's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitActive {
    /// The command is about to run, or the warden's own request to start it is not answered yet.
    Starting,
    /// It runs.
    Running,
    /// It is ending.
    Stopping,
    /// It is over, and systemd has not forgotten it yet.
    Over,
}

/// A unit `loadline-w-*.service` as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedUnit {
    /// Where it stands.
    pub active: UnitActive,
    /// How it ended; only with [`UnitActive::Over`].
    pub end: Option<UnitEnd>,
    /// What the kernel does with its cgroup; none if that was not read in this pass.
    pub limits: Option<Observed>,
}

/// What `loadline-ended@.service` wrote down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndRecord {
    /// How it ended.
    pub end: UnitEnd,
    /// When.
    pub at: WallTime,
}

/// Everything a pass looks at. It must be complete: a listing of units that failed is no view.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The owner's policy.
    pub policy: &'a NodePolicy,
    /// Topology, line, pinning.
    pub machine: Machine<'a>,
    /// What the headroom loop asks for.
    pub setpoints: &'a Setpoints,
    /// Why tiers are squeezed, as a clause; empty while none is.
    pub squeezed_for: &'a str,
    /// What lent work has at this moment, by the brake: it may be less than `setpoints`, which systemd was told.
    pub at_once: AtOnce<'a>,
    /// What those who are being ended may use, as it was set last.
    pub reap: Option<Budget>,
    /// Who hangs at its own memory limit, and what it is told: see [`crate::reap::hung`].
    pub hung: &'a BTreeMap<AttemptId, String>,
    /// Why someone has to go for production now, as a clause; none: nobody has to.
    pub evict: Option<&'a str>,
    /// The moment by the clocks that windows go by.
    pub local: &'a LocalTimes,
    /// The boot that is running.
    pub boot: &'a BootId,
    /// Now.
    pub now: Moment,
    /// All attempts that are not ended.
    pub attempts: &'a BTreeMap<AttemptId, LedgerAttempt>,
    /// Attempts that the ledger knows as ended: their dead units are theirs, not orphans.
    pub ended: &'a BTreeSet<AttemptId>,
    /// All units of workers.
    pub units: &'a BTreeMap<AttemptId, ObservedUnit>,
    /// All end records.
    pub records: &'a BTreeMap<AttemptId, EndRecord>,
    /// Since when units that should be there are missing; see [`Absences::observe`].
    pub absences: &'a Absences,
    /// What the kernel does with our slices; those whose cgroup exists.
    pub slices: &'a BTreeMap<Slice, Observed>,
}

/// What the headroom loop lets lent work have at this moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct AtOnce<'a> {
    /// CPU for all of it; none: the line.
    pub cpu: Option<MilliCpu>,
    /// Tiers held at their floor.
    pub squeezed: Squeezed,
    /// Why it has no more, as a clause.
    pub why: &'a str,
}

/// Since when a unit that should be there has been missing, by the clock since boot. Kept between passes, in
/// memory: a new warden waits anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Absences(BTreeMap<AttemptId, Span>);

impl Absences {
    /// Notes which units are missing now; call it once before each pass.
    pub fn observe(
        &mut self,
        attempts: &BTreeMap<AttemptId, LedgerAttempt>,
        units: &BTreeMap<AttemptId, ObservedUnit>,
        now: Moment,
    ) {
        let missing = |attempt: &AttemptId| {
            let expected = attempts
                .get(attempt)
                .is_some_and(|entry| entry.life.may_have_unit());
            // A unit that is over without saying how is as good as missing.
            let there = units
                .get(attempt)
                .is_some_and(|unit| unit.active != UnitActive::Over);
            expected && !there
        };
        self.0.retain(|attempt, _| missing(attempt));
        for attempt in attempts.keys().filter(|attempt| missing(attempt)) {
            self.0.entry(*attempt).or_insert(now.boot);
        }
    }

    fn longer_than(&self, attempt: AttemptId, wait: Span, now: Moment) -> bool {
        self.0
            .get(&attempt)
            .is_some_and(|since| now.boot.minus(*since) >= wait)
    }
}

/// Which part of a pass an action belongs to, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Writing down what is known to have happened.
    Record,
    /// Ending what must end.
    Stop,
    /// Taking CPUs.
    Shrink,
    /// Giving CPUs.
    Grow,
    /// Slices: limits of all lent work.
    Slices,
    /// Workers: limits of one.
    Repair,
    /// Starting.
    Start,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write down where an attempt stands now; nothing else.
    Record(Life),
    /// Write it down as ours, with what it holds, and report it as an orphan.
    AdoptOrphan {
        /// What it holds, as far as its cgroup tells.
        holding: Holding,
        /// Running, with its time counted from now.
        life: Life,
    },
    /// systemd may forget the dead unit of an attempt that the ledger has as ended.
    Forget,
    /// Write it down, then ask systemd to stop the unit. May come again until it is gone.
    Stop(Life),
    /// Its grace is over: kill all of it.
    Kill,
    /// Set a worker's `AllowedCPUs` and read it back.
    SetWorkerCpus(CpuSet),
    /// Set a slice's `AllowedCPUs` and read it back.
    SetSliceCpus(Slice, CpuSet),
    /// Set a slice's limits and read them back. `allowed_cpus` none: leave its CPUs alone. `missed` is empty
    /// if the slice is not there yet, and is to be made.
    SetSlice {
        /// What it should have.
        settings: SliceSettings,
        /// What differs.
        missed: Vec<Mismatch>,
    },
    /// Set a worker's limits again and read them back; its CPUs are left alone.
    Repair {
        /// What it should have.
        settings: WorkerSettings,
        /// What differs.
        missed: Vec<Mismatch>,
    },
    /// Write down [`Life::Starting`] and what it holds, then start the unit and read its limits back.
    Start {
        /// Starting.
        life: Life,
        /// What it holds.
        holding: Holding,
        /// Its limits.
        settings: WorkerSettings,
    },
}

/// One action, whom it concerns, when it is due, and the receipt to write once it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// When in the pass.
    pub stage: Stage,
    /// Which attempt; none for slices.
    pub attempt: Option<AttemptId>,
    /// What.
    pub action: Action,
    /// One sentence for whom it is done to; to be written once it is done.
    pub receipt: Option<Receipt>,
}

/// What a pass decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What to do, in this order.
    pub actions: Vec<Planned>,
    /// Who holds what once all is done.
    pub allocation: Allocation,
    /// Accepted orders that wait for a worker that is stopping, and what they wait for.
    pub waiting: Vec<(AttemptId, Refusal)>,
    /// Limits that could not be read, by unit: not known to be held.
    pub unverified: Vec<(String, Mismatch)>,
    /// Who is being ended and not gone yet, once all is done.
    pub dying: Vec<Dying>,
    /// What cannot be, as far as the ledger knows: to be logged and counted. Nothing is done about it.
    pub contradictions: Vec<(AttemptId, &'static str)>,
    /// Who would be evicted if this node did not only watch, and why: to be told, not to be done.
    pub would_evict: Vec<(AttemptId, String)>,
}

/// Lets actions through as long as it is safe. After a change of CPUs that failed, no CPU is given to anyone, and
/// no slice shrinks: the kernel would spread a worker that kept its CPUs over all that is left of the slice.
/// After any failure but those that concern one worker's limits or start, nothing starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gate {
    cpus_failed: bool,
    no_starts: bool,
}

impl Gate {
    /// True if the action may be carried out. Otherwise it is left for the next pass. To be asked once for each
    /// action, in order: what is not let through counts as failed.
    #[must_use]
    pub fn allows(&mut self, planned: &Planned) -> bool {
        let allowed = match planned.stage {
            // Taking from a worker is safe at any time.
            Stage::Shrink => planned.attempt.is_some() || !self.cpus_failed,
            Stage::Record | Stage::Stop | Stage::Slices | Stage::Repair => true,
            Stage::Grow => !self.cpus_failed,
            Stage::Start => !self.no_starts,
        };
        if !allowed {
            self.failed(planned);
        }
        allowed
    }

    /// Notes that the action failed.
    pub fn failed(&mut self, planned: &Planned) {
        self.cpus_failed |= matches!(planned.stage, Stage::Shrink | Stage::Grow);
        self.no_starts |= !matches!(planned.stage, Stage::Repair | Stage::Start);
    }
}

impl Planned {
    fn new(stage: Stage, attempt: AttemptId, action: Action) -> Self {
        Self {
            stage,
            attempt: Some(attempt),
            action,
            receipt: None,
        }
    }

    fn of_slice(stage: Stage, action: Action) -> Self {
        Self {
            stage,
            attempt: None,
            action,
            receipt: None,
        }
    }
}

/// Decides one pass.
pub fn reconcile(view: &View<'_>) -> Plan {
    let lives = lives::advance(view);
    let mut allocation = cpus::held(view, &lives);
    let starts = starts::decide(view, &lives, &mut allocation);
    let dying = lives::dying(view, &lives.after);
    let mut actions = lives.actions;
    let mut unverified = Vec::new();
    actions.extend(starts.refused);
    // A node that lends nothing, and on which nothing lent is left, is not touched at all.
    if view.policy.lend.mode == Mode::Enforce || !allocation.holdings().is_empty() {
        let any_start = !starts.started.is_empty();
        actions.extend(cpus::changes(view, &lives.after, &allocation));
        actions.extend(limits::slices(view, &allocation, any_start, &mut unverified));
        actions.extend(limits::workers(view, &lives.after, &allocation, &mut unverified));
    }
    actions.extend(starts.started);
    actions.sort_by_key(|planned| pass_order(planned.stage));
    Plan {
        actions,
        allocation,
        waiting: starts.waiting,
        unverified,
        dying,
        contradictions: lives.contradictions,
        would_evict: lives.would_evict,
    }
}

/// CPU changes keep the order in which the transition was planned, whether they take or give.
const fn pass_order(stage: Stage) -> u8 {
    match stage {
        Stage::Record => 0,
        Stage::Stop => 1,
        Stage::Shrink | Stage::Grow => 2,
        Stage::Slices => 3,
        Stage::Repair => 4,
        Stage::Start => 5,
    }
}

#[cfg(test)]
mod tests;
