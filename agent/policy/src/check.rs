//! The invariants, stated a second time and apart from the code that should keep them.
//!
//! Tests run these after every step; the warden runs [`plan`] before it applies one in debug builds. Each
//! function returns what is violated, one sentence each; empty: nothing. CPUs are counted one by one here, not
//! by the set operations that the decisions are made with.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{AttemptId, EndReason, Tier};

use crate::admission::Account;
use crate::allocation::{Allocation, CpuLayout, Grant, Machine};
use crate::attempt::{Life, StopWhy};
use crate::node_policy::Mode;
use crate::reconcile::{Action, LedgerAttempt, Plan, Planned, Stage, View};
use crate::settings::CpuWeight;

/// One moment of CPUs: an exclusive worker shares none of its own, nobody is without, nobody outgrows the slices.
pub fn layout(layout: &CpuLayout) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut users: BTreeMap<u32, Vec<(AttemptId, bool)>> = BTreeMap::new();
    for (attempt, worker) in &layout.workers {
        if worker.cpus.is_empty() {
            wrong.push(format!(
                "attempt {attempt} has no CPU, which systemd reads as all"
            ));
        }
        for cpu in worker.cpus.iter() {
            users.entry(cpu).or_default().push((*attempt, worker.exclusive));
            if !layout.slices.contains(cpu) {
                wrong.push(format!(
                    "attempt {attempt} has CPU {cpu}, which the slices do not"
                ));
            }
        }
    }
    for (cpu, users) in users {
        if users.len() > 1 && users.iter().any(|(_, exclusive)| *exclusive) {
            wrong.push(format!(
                "CPU {cpu} is someone's own and {} workers have it",
                users.len()
            ));
        }
    }
    wrong
}

/// Who holds what: exclusive sets are disjoint and lendable, and with the pool they are all that is lendable.
pub fn allocation(machine: Machine<'_>, allocation: &Allocation) -> Vec<String> {
    let mut wrong = Vec::new();
    let lendable = &machine.line.lendable;
    let mut owners: BTreeMap<u32, u32> = BTreeMap::new();
    let mut sharing = false;
    for (attempt, holding) in allocation.holdings() {
        match &holding.grant {
            Grant::Shared => sharing = true,
            Grant::Exclusive(cpus) if cpus.is_empty() => {
                wrong.push(format!("attempt {attempt} owns no CPU"));
            }
            Grant::Exclusive(cpus) => {
                cpus.iter().for_each(|cpu| *owners.entry(cpu).or_default() += 1);
            }
        }
        if holding.memory_nodes.is_empty() {
            wrong.push(format!("attempt {attempt} may take memory from nowhere"));
        }
    }
    for (cpu, count) in &owners {
        if *count > 1 {
            wrong.push(format!("CPU {cpu} has {count} owners"));
        }
        if !lendable.contains(*cpu) {
            wrong.push(format!("CPU {cpu} is owned and not lendable"));
        }
        if machine.line.reserved.contains(*cpu) {
            wrong.push(format!("CPU {cpu} is owned and reserved for production"));
        }
    }
    let pool = allocation.pool();
    let free = lendable.iter().filter(|cpu| !owners.contains_key(cpu));
    if !free.eq(pool.iter()) {
        wrong.push(format!(
            "the pool {pool} is not what is lendable ({lendable}) and unowned"
        ));
    }
    if sharing && pool.is_empty() && !lendable.is_empty() {
        wrong.push("workers share a pool without a CPU".into());
    }
    wrong
}

/// A plan is safe: what it starts may run, what it stops may be stopped, and taking comes before giving.
pub fn plan(view: &View<'_>, plan: &Plan) -> Vec<String> {
    let mut wrong = Vec::new();
    for planned in &plan.actions {
        match (&planned.action, planned.attempt) {
            (
                Action::Start {
                    settings,
                    holding,
                    life,
                },
                Some(attempt),
            ) => {
                wrong.extend(start(view, attempt));
                if !matches!(life, Life::Starting { .. })
                    || plan.allocation.holdings().get(&attempt) != Some(holding)
                {
                    wrong.push(format!(
                        "attempt {attempt} starts without being written down as it will run"
                    ));
                }
                if settings
                    .allowed_cpus
                    .as_ref()
                    .is_some_and(loadline_model::CpuSet::is_empty)
                {
                    wrong.push(format!("attempt {attempt} starts without a CPU"));
                }
                let idle = settings.cpu_weight == CpuWeight::Idle;
                let burst = view.attempts.get(&attempt).and_then(|entry| entry.order.as_ref());
                if burst.is_some_and(|order| (order.spec.tier == Tier::Burst) != idle) {
                    wrong.push(format!("attempt {attempt} has the weight of the other tier"));
                }
            }
            (Action::Stop(life), Some(attempt)) => wrong.extend(stop(view, attempt, life)),
            (Action::Kill, Some(attempt)) => {
                let late = view.attempts.get(&attempt).is_some_and(|entry| match entry.life {
                    Life::Stopping { kill_at, .. } => view.now.boot >= kill_at || closed_to(view, entry),
                    _ => false,
                });
                if !late {
                    wrong.push(format!("attempt {attempt} is killed before its grace is over"));
                }
            }
            (Action::SetWorkerCpus(cpus) | Action::SetSliceCpus(_, cpus), _) if cpus.is_empty() => {
                wrong.push("a set without a CPU would be written, which systemd reads as all".into());
            }
            (Action::SetWorkerCpus(_) | Action::SetSliceCpus(..), _) if !view.machine.pinning.is_cpuset() => {
                wrong.push("CPUs are pinned on a weights-only node".into());
            }
            _ => {}
        }
    }
    wrong.extend(order(&plan.actions));
    wrong.extend(firm(view, plan));
    wrong
}

/// Standard work starts within the firm line only: with everyone of its tier who holds something, on the way out or
/// without an order too.
fn firm(view: &View<'_>, plan: &Plan) -> Vec<String> {
    let is_burst = |attempt: &AttemptId| {
        let order = view.attempts.get(attempt).and_then(|entry| entry.order.as_ref());
        order.is_some_and(|order| order.spec.tier == Tier::Burst)
    };
    let starts = plan.actions.iter().any(|planned| {
        matches!(planned.action, Action::Start { .. }) && planned.attempt.is_some_and(|it| !is_burst(&it))
    });
    if !starts {
        return Vec::new();
    }
    let (mut cpu, mut memory) = (0, 0);
    for (attempt, holding) in plan.allocation.holdings() {
        if !is_burst(attempt) {
            cpu += holding.amount.0;
            memory += holding.memory.0;
        }
    }
    let firm = view.machine.line.firm();
    if cpu > firm.cpu.0 || memory > firm.memory.0 {
        return Vec::from([format!(
            "standard work starts and holds {cpu}m and {memory} bytes, beyond the firm line"
        )]);
    }
    Vec::new()
}

fn start(view: &View<'_>, attempt: AttemptId) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(entry) = view.attempts.get(&attempt) else {
        return Vec::from([format!("attempt {attempt} starts without an order")]);
    };
    if entry.life != Life::Accepted
        || view.units.contains_key(&attempt)
        || view.records.contains_key(&attempt)
    {
        wrong.push(format!("attempt {attempt} starts a second time"));
    }
    if entry.boot != *view.boot {
        wrong.push(format!("attempt {attempt} was ordered before the node restarted"));
    }
    if view.policy.lend.mode != Mode::Enforce {
        wrong.push(format!(
            "attempt {attempt} starts on a node in mode {}",
            view.policy.lend.mode.word()
        ));
    }
    let windows = &view.policy.lend.windows;
    if !windows.is_empty() && !windows.iter().any(|window| window.is_open(view.local)) {
        wrong.push(format!("attempt {attempt} starts outside the windows"));
    }
    match &entry.account {
        Account::Missing => wrong.push(format!("attempt {attempt} starts without an account")),
        Account::Known { uid, groups } => {
            if *uid == 0 || *uid < view.policy.lend.uid_min {
                wrong.push(format!("attempt {attempt} starts as uid {uid}"));
            }
            if groups
                .iter()
                .any(|group| view.policy.lend.deny_groups.contains(group))
            {
                wrong.push(format!("attempt {attempt} starts as a member of a refused group"));
            }
        }
    }
    wrong
}

/// An operator who closes a node does not wait for burst.
fn closed_to(view: &View<'_>, entry: &LedgerAttempt) -> bool {
    let burst = entry.order.as_ref().map(|order| order.spec.tier) == Some(Tier::Burst);
    let closed = view.machine.line.ceiling.as_ref();
    burst && closed.is_some_and(|ceiling| ceiling.share.0 == 0)
}

/// Nothing stops by absence: an order, its own time, or local policy must be behind it.
fn stop(view: &View<'_>, attempt: AttemptId, life: &Life) -> Vec<String> {
    let mut wrong = Vec::new();
    let Life::Stopping { why, .. } = life else {
        return Vec::from([format!(
            "attempt {attempt} is stopped without being written down as stopping"
        )]);
    };
    match view.attempts.get(&attempt) {
        None => wrong.push(format!("attempt {attempt} is stopped and nothing names it")),
        Some(entry) => {
            let was_asked = matches!(&entry.life, Life::Stopping { why: before, .. } if before == why);
            let nobody_hangs = *why == StopWhy::OutOfMemory && !view.hung.contains_key(&attempt);
            if !was_asked && (nobody_hangs || matches!(why, StopWhy::Cancelled | StopWhy::NodeLost)) {
                wrong.push(format!(
                    "attempt {attempt} is stopped as by an order that nobody gave"
                ));
            }
        }
    }
    wrong
}

/// Every action that gives comes after every action that takes, except within one transition of CPUs.
fn order(actions: &[Planned]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, planned) in actions.iter().enumerate() {
        let later = &actions[index + 1..];
        let must_be_last = planned.stage == Stage::Start;
        if must_be_last && later.iter().any(|other| other.stage != Stage::Start) {
            wrong.push("something starts before everything else is done".into());
        }
        let takes = |other: &Planned| matches!(other.stage, Stage::Stop | Stage::Record);
        if planned.stage > Stage::Stop && later.iter().any(takes) {
            wrong.push("CPUs or limits change before what must end was told to".into());
        }
    }
    wrong
}

/// A life that changed: what is over stays over, and only what was asked to stop ends for that reason.
pub fn succession(before: &Life, after: &Life) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Life::Ended { .. } = before
        && before != after
    {
        wrong.push("an ended attempt changed".into());
    }
    let asked = match before {
        Life::Stopping { why, .. } => Some(why.reason()),
        _ => None,
    };
    if let (Life::Ended { ended }, Some(reason)) = (after, asked)
        && ended.reason != reason
        && ended.reason != EndReason::NodeRebooted
    {
        wrong.push(format!(
            "asked to stop as `{reason}` and ended as `{}`",
            ended.reason
        ));
    }
    if before.phase() > after.phase()
        && !matches!((before, after), (Life::Squeezed { .. }, Life::Running { .. }))
    {
        wrong.push(format!(
            "went back from {} to {}",
            before.phase().word(),
            after.phase().word()
        ));
    }
    wrong
}
