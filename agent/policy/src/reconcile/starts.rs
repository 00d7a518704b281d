//! Accepted orders: started, refused, or waiting for a worker that is on its way out.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{AttemptId, Bytes, MilliCpu, Numa, Tier};

use super::lives::{Lives, receipt_of_refusal};
use super::{Action, LedgerAttempt, Planned, Stage, View};
use crate::admission::{Admission, Refusal};
use crate::allocation::{Allocation, Grant, Holding};
use crate::attempt::{Event, Life, Outcome, WorkOrder, step};
use crate::headroom::Bounds;
use crate::settings::{TasksLimit, worker_settings};

/// CPU without which a start takes long enough to fail: with a hundredth of two CPUs it took 36 s and more, with
/// a twentieth it met systemd's 90 s on a busy host. A line that is lower than that counts as enough.
const START_NEEDS: MilliCpu = MilliCpu(200);

pub(super) struct Starts {
    pub(super) started: Vec<Planned>,
    pub(super) refused: Vec<Planned>,
    pub(super) waiting: Vec<(AttemptId, Refusal)>,
}

/// Grants in the order of attempt ids, which is the order in which they were made.
pub(super) fn decide(view: &View<'_>, lives: &Lives, allocation: &mut Allocation) -> Starts {
    let mut starts = Starts {
        started: Vec::new(),
        refused: Vec::new(),
        waiting: Vec::new(),
    };
    let mut granted: Vec<(AttemptId, &WorkOrder)> = Vec::new();
    let has_traces =
        |attempt: &AttemptId| view.units.contains_key(attempt) || view.records.contains_key(attempt);
    let accepted = lives.after.iter().filter(|(attempt, entry)| {
        // What an older ledger has forgotten may have begun already: then its unit is waited for.
        entry.life == Life::Accepted && !has_traces(attempt)
    });
    for (attempt, entry) in accepted {
        let Some(order) = &entry.order else { continue };
        let gpus_held = gpus_held(&lives.after, &granted);
        match admit(view, &lives.after, allocation, gpus_held, order, entry) {
            Ok(()) => granted.push((*attempt, order)),
            Err(refusal) if would_fit_later(view, lives, allocation, gpus_held, order, entry, &refusal) => {
                starts.waiting.push((*attempt, refusal));
            }
            Err(refusal) => starts.refused.extend(refuse(view, *attempt, order, refusal)),
        }
    }
    // Settings come last: an exclusive grant takes CPUs from the pool of those before it.
    starts.started = granted
        .into_iter()
        .filter_map(|(attempt, order)| start(view, allocation, attempt, order))
        .collect();
    starts
}

fn admit(
    view: &View<'_>,
    after: &BTreeMap<AttemptId, LedgerAttempt>,
    allocation: &mut Allocation,
    gpus_held: u32,
    order: &WorkOrder,
    entry: &LedgerAttempt,
) -> Result<(), Refusal> {
    let tier = order.spec.tier;
    let admission = Admission {
        policy: view.policy,
        local: view.local,
        machine: view.machine,
        allocation,
        standard_held: standard_held(after, allocation),
        gpus_held,
    };
    admission.check(order, &entry.account)?;
    if let Some(sentence) = starved(view, tier) {
        let for_good = false;
        return Err(Refusal { for_good, sentence });
    }
    let holding = allocation.grant(view.machine, order.attempt, tier, &order.spec.worker)?;
    let single = order.spec.needs.numa == Numa::Single;
    if let Some(sentence) = single.then(|| reaches_over(view, holding)).flatten() {
        allocation.release(order.attempt);
        let for_good = false;
        return Err(Refusal { for_good, sentence });
    }
    Ok(())
}

/// Why a worker that has to fit one NUMA node does not.
fn reaches_over(view: &View<'_>, holding: &Holding) -> Option<String> {
    let nodes = match &holding.grant {
        Grant::Exclusive(cpus) => view.machine.topology.numa_of(cpus),
        Grant::Shared => {
            return Some("it has to fit one NUMA node, and shared CPUs lie on all of them".into());
        }
    };
    let all = nodes.union(&holding.memory_nodes);
    (all.len() > 1).then(|| {
        format!("it has to fit one NUMA node, and what is free of this node's CPUs and memory lies on {all}")
    })
}

/// Why a start would starve: nothing is started into a starved slice, since systemd itself would wait for it.
fn starved(view: &View<'_>, tier: Tier) -> Option<String> {
    if view.setpoints.squeezed.holds(tier) || view.at_once.squeezed.holds(tier) {
        let why = if view.setpoints.squeezed.holds(tier) {
            view.squeezed_for
        } else {
            view.at_once.why
        };
        return Some(format!(
            "{} work is held at its floor on this node now, and none is started: {why}",
            tier.word()
        ));
    }
    // A start needs some too, and would fail for lack of them.
    if let Some(TasksLimit { most, why }) = view.setpoints.tasks {
        return Some(format!(
            "lent work is held at {most} processes and threads on this node now, and none is started: {why}"
        ));
    }
    // Whatever is lower: systemd gives the higher one later, or has not been told of the lower one yet.
    let cpu = [view.setpoints.cpu, view.at_once.cpu]
        .into_iter()
        .flatten()
        .min()?;
    let floor = Bounds::of(view.machine.line).floor;
    (cpu <= floor || cpu < START_NEEDS).then(|| {
        format!(
            "lent work has only {cpu} CPUs on this node now, too few to start in: {}",
            view.at_once.why
        )
    })
}

/// True if only workers that are already stopping stand in its way.
fn would_fit_later(
    view: &View<'_>,
    lives: &Lives,
    allocation: &Allocation,
    gpus_held: u32,
    order: &WorkOrder,
    entry: &LedgerAttempt,
    refusal: &Refusal,
) -> bool {
    let stopping = |entry: &LedgerAttempt| matches!(entry.life, Life::Stopping { .. });
    let mut later = allocation.clone();
    let mut gpus = gpus_held;
    let mut anyone = false;
    for (attempt, leaving) in lives.after.iter().filter(|(_, entry)| stopping(entry)) {
        anyone = true;
        later.release(*attempt);
        gpus = gpus.saturating_sub(gpus_of(leaving));
    }
    anyone && !refusal.for_good && admit(view, &lives.after, &mut later, gpus, order, entry).is_ok()
}

/// What the standard tier holds of it, whoever has no order among it.
fn standard_held(after: &BTreeMap<AttemptId, LedgerAttempt>, allocation: &Allocation) -> (MilliCpu, Bytes) {
    let is_burst = |attempt: &AttemptId| {
        let order = after.get(attempt).and_then(|entry| entry.order.as_ref());
        order.is_some_and(|order| order.spec.tier == Tier::Burst)
    };
    let holdings = allocation.holdings().iter();
    let standard = holdings.filter(|(attempt, _)| !is_burst(attempt));
    standard.fold((MilliCpu::ZERO, Bytes::ZERO), |(cpu, memory), (_, holding)| {
        (cpu.plus(holding.amount), memory.plus(holding.memory))
    })
}

fn gpus_of(entry: &LedgerAttempt) -> u32 {
    entry.order.as_ref().map_or(0, |order| order.spec.worker.gpus)
}

fn gpus_held(after: &BTreeMap<AttemptId, LedgerAttempt>, granted: &[(AttemptId, &WorkOrder)]) -> u32 {
    let running = after
        .values()
        .filter(|entry| entry.life.may_have_unit())
        .map(gpus_of);
    let granted = granted.iter().map(|(_, order)| order.spec.worker.gpus);
    running.chain(granted).fold(0, u32::saturating_add)
}

fn refuse(view: &View<'_>, attempt: AttemptId, order: &WorkOrder, refusal: Refusal) -> Option<Planned> {
    let event = Event::from(refusal);
    let Outcome::Moved(life) = step(&Life::Accepted, &event, Some(&order.spec), view.now) else {
        return None;
    };
    let receipt = receipt_of_refusal(view, attempt, &life);
    Some(Planned {
        receipt,
        ..Planned::new(Stage::Record, attempt, Action::Record(life))
    })
}

fn start(view: &View<'_>, allocation: &Allocation, attempt: AttemptId, order: &WorkOrder) -> Option<Planned> {
    let spec = &order.spec;
    let Outcome::Moved(life) = step(&Life::Accepted, &Event::StartAsked, Some(spec), view.now) else {
        return None;
    };
    let holding = allocation.holdings().get(&attempt)?.clone();
    let pinned = view.machine.pinning.is_cpuset();
    let cpus = allocation.cpus_of(attempt).filter(|_| pinned);
    let memory_nodes = pinned.then(|| holding.memory_nodes.clone());
    let settings = worker_settings(attempt, spec, cpus, memory_nodes);
    Some(Planned::new(
        Stage::Start,
        attempt,
        Action::Start {
            life,
            holding,
            settings,
        },
    ))
}
