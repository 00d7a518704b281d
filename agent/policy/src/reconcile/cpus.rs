//! Who holds which CPUs, and how to get from what the kernel does now to that.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use loadline_model::{AttemptId, CpuSet, Receipt, ReceiptAction, ReceiptSubject};

use super::lives::Lives;
use super::{Action, LedgerAttempt, Planned, Stage, UnitActive, View};
use crate::allocation::{
    Allocation, CpuLayout, Grant, Holding, Step, WorkerCpus, plan_transition, wants_exclusive,
};
use crate::attempt::Life;
use crate::settings::Slice;

/// Everyone who may have a unit holds what the ledger says, until its end is recorded.
pub(super) fn held(view: &View<'_>, lives: &Lives) -> Allocation {
    let mut allocation = Allocation::new(view.machine.line.lendable.clone());
    let holders = lives
        .after
        .iter()
        .filter(|(attempt, entry)| is_there(view, **attempt, entry));
    let (exclusive, shared): (Vec<_>, Vec<_>) = holders
        .filter_map(|(attempt, entry)| Some((*attempt, holding_of(view, *attempt, entry)?)))
        .partition(|(_, holding)| matches!(holding.grant, Grant::Exclusive(_)));
    for (attempt, holding) in exclusive.into_iter().chain(shared) {
        allocation.restore(attempt, holding);
    }
    allocation
}

/// True if it may run: by what the ledger says, or because its unit is seen.
fn is_there(view: &View<'_>, attempt: AttemptId, entry: &LedgerAttempt) -> bool {
    let seen = view
        .units
        .get(&attempt)
        .is_some_and(|unit| unit.active != UnitActive::Over);
    entry.life.may_have_unit() || (seen && entry.life.ended().is_none())
}

/// A record that lacks what it holds is still accounted for what it asked for and runs on. One that was put among the others
/// on its way out, because its own CPUs were reserved, does not get them back.
fn holding_of(view: &View<'_>, attempt: AttemptId, entry: &LedgerAttempt) -> Option<Holding> {
    let Some(holding) = entry.holding.clone() else {
        let order = entry.order.as_ref()?;
        let worker = &order.spec.worker;
        let alone = wants_exclusive(order.spec.tier, worker.cpus);
        let cpus = current(view, attempt, entry).filter(|cpus| Some(cpus.len()) == alone);
        let nodes = view.machine.topology.numa_nodes().iter();
        return Some(Holding {
            grant: cpus.map_or(Grant::Shared, Grant::Exclusive),
            amount: worker.cpus.amount(),
            memory: worker.memory,
            memory_nodes: nodes.map(|node| node.id).collect(),
        });
    };
    if let (Grant::Exclusive(cpus), Life::Stopping { .. }) = (&holding.grant, &entry.life)
        && current(view, attempt, entry).is_some_and(|is| !is.is_subset(cpus))
    {
        return Some(Holding {
            grant: Grant::Shared,
            ..holding
        });
    }
    Some(holding)
}

/// The CPU changes of this pass, in their order. None on a weights-only node.
pub(super) fn changes(
    view: &View<'_>,
    after: &BTreeMap<AttemptId, LedgerAttempt>,
    allocation: &Allocation,
) -> Vec<Planned> {
    if !view.machine.pinning.is_cpuset() {
        return Vec::new();
    }
    let (old, new) = layouts(view, after, allocation);
    // No safe order: nothing changes now, and the next pass sees whoever has ended by then.
    let steps = plan_transition(&old, &new).unwrap_or_default();
    let mut planned: Vec<Planned> = steps
        .into_iter()
        .flat_map(|step| actions_of(view, after, step))
        .collect();
    planned.extend(unpinned_workers(view, &new));
    planned.extend(strayed_slices(view, &new.slices, &planned));
    planned
}

/// Workers whose cgroup has no cpuset at all: they run everywhere.
fn unpinned_workers(view: &View<'_>, new: &CpuLayout) -> Vec<Planned> {
    let unpinned = new.workers.iter().filter(|(attempt, _)| {
        let limits = view.units.get(attempt).and_then(|unit| unit.limits.as_ref());
        limits.is_some_and(|observed| observed.cpus_effective.is_none())
    });
    let set = |(attempt, worker): (&AttemptId, &WorkerCpus)| {
        Planned::new(
            Stage::Shrink,
            *attempt,
            Action::SetWorkerCpus(worker.cpus.clone()),
        )
    };
    unpinned.map(set).collect()
}

/// What the kernel does now, and what it should do.
fn layouts(
    view: &View<'_>,
    after: &BTreeMap<AttemptId, LedgerAttempt>,
    allocation: &Allocation,
) -> (CpuLayout, CpuLayout) {
    let target = allocation.layout();
    let mut old = CpuLayout::default();
    let mut new = CpuLayout {
        slices: target.slices.clone(),
        ..CpuLayout::default()
    };
    for (attempt, worker) in target.workers {
        let is = after
            .get(&attempt)
            .and_then(|entry| current(view, attempt, entry));
        // With nothing left to share it stays where it is: someone is on the way out.
        let cpus = if worker.cpus.is_empty() {
            is.clone().unwrap_or_default()
        } else {
            worker.cpus
        };
        if cpus.is_empty() {
            continue;
        }
        new.slices = new.slices.union(&cpus);
        if after
            .get(&attempt)
            .is_some_and(|entry| is_there(view, attempt, entry))
        {
            let is = is.unwrap_or_else(|| cpus.clone());
            old.workers.insert(
                attempt,
                WorkerCpus {
                    exclusive: worker.exclusive,
                    cpus: is,
                },
            );
        }
        new.workers.insert(
            attempt,
            WorkerCpus {
                exclusive: worker.exclusive,
                cpus,
            },
        );
    }
    let seen = view
        .slices
        .values()
        .filter_map(|observed| observed.cpus_effective.as_ref());
    let seen = seen.fold(CpuSet::new(), |all, cpus| all.union(cpus));
    if new.slices.is_empty() {
        // Nothing is lendable and nobody is there: an empty set would mean all CPUs, so it stays as it is.
        new.slices = seen.clone();
    }
    old.slices = if seen.is_empty() { new.slices.clone() } else { seen };
    (old, new)
}

/// Where it runs: as the kernel says, or as it was last set and read back.
fn current(view: &View<'_>, attempt: AttemptId, entry: &LedgerAttempt) -> Option<CpuSet> {
    let unit = view.units.get(&attempt).and_then(|unit| unit.limits.as_ref());
    let observed = unit.and_then(|observed| observed.cpus_effective.clone());
    observed
        .or_else(|| entry.applied_cpus.clone())
        .filter(|cpus| !cpus.is_empty())
}

fn actions_of(view: &View<'_>, after: &BTreeMap<AttemptId, LedgerAttempt>, step: Step) -> Vec<Planned> {
    let slices = |stage, order: [Slice; 3], cpus: CpuSet| {
        let there = order.into_iter().filter(|slice| view.slices.contains_key(slice));
        there
            .map(|slice| Planned::of_slice(stage, Action::SetSliceCpus(slice, cpus.clone())))
            .collect()
    };
    let worker = |stage, attempt, cpus: CpuSet| {
        let receipt = strayed(view, after, attempt, &cpus);
        let planned = Planned::new(stage, attempt, Action::SetWorkerCpus(cpus));
        Vec::from([Planned { receipt, ..planned }])
    };
    let [root, standard, burst] = Slice::ALL;
    match step {
        Step::Shrink(attempt, cpus) => worker(Stage::Shrink, attempt, cpus),
        Step::Grow(attempt, cpus) => worker(Stage::Grow, attempt, cpus),
        Step::ShrinkSlices(cpus) => slices(Stage::Shrink, [burst, standard, root], cpus),
        Step::GrowSlices(cpus) => slices(Stage::Grow, [root, standard, burst], cpus),
        // Lives end and begin elsewhere; here only CPUs change hands.
        Step::Stop(_) | Step::Start(..) => Vec::new(),
    }
}

/// The receipt for putting a worker back on the CPUs that it had been set to.
fn strayed(
    view: &View<'_>,
    after: &BTreeMap<AttemptId, LedgerAttempt>,
    attempt: AttemptId,
    cpus: &CpuSet,
) -> Option<Receipt> {
    let applied = after.get(&attempt)?.applied_cpus.as_ref()?;
    let is = view
        .units
        .get(&attempt)?
        .limits
        .as_ref()?
        .cpus_effective
        .as_ref()?;
    (applied == cpus && is != cpus).then(|| Receipt {
        at: view.now.wall,
        action: ReceiptAction::LimitRepaired,
        subject: ReceiptSubject::Attempt(attempt),
        sentence: format!("it ran on CPU {is} instead of {cpus}, changed by someone else; put back"),
    })
}

/// Slices that differ from the others, or whose cpuset is not on yet.
fn strayed_slices(view: &View<'_>, cpus: &CpuSet, planned: &[Planned]) -> Vec<Planned> {
    let touched = |slice: Slice| {
        planned
            .iter()
            .any(|planned| matches!(&planned.action, Action::SetSliceCpus(other, _) if *other == slice))
    };
    let strayed = Slice::ALL.into_iter().filter(|slice| {
        let observed = view.slices.get(slice);
        let differs = observed.is_some_and(|observed| observed.cpus_effective.as_ref() != Some(cpus));
        !cpus.is_empty() && differs && !touched(*slice)
    });
    let set = |slice| Planned::of_slice(Stage::Grow, Action::SetSliceCpus(slice, cpus.clone()));
    strayed.map(set).collect()
}
