//! Who must leave the node: those for whom local policy has no room any more, and, one at a time, those whose room
//! production needs at this moment.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use loadline_model::{AttemptId, Bytes, CpuSet, MilliCpu, Span, Tier, Workers};

use super::{LedgerAttempt, View};
use crate::admission::{Lending, lending};
use crate::allocation::Grant;
use crate::attempt::{Life, StopWhy};

/// Who must go, and why.
pub(super) fn chosen(view: &View<'_>) -> BTreeMap<AttemptId, String> {
    let mut evicted = withdrawn(view);
    if let (true, Some(need)) = (evicted.is_empty(), view.evict)
        && let Some(victim) = least_lost(view)
    {
        let next = "it is tried again elsewhere if its job allows";
        evicted.insert(victim, format!("evicted: {need}; {next}"));
    }
    evicted
}

/// Who goes first when production needs what is lent. Nobody while one is still going: what it holds comes first.
fn least_lost(view: &View<'_>) -> Option<AttemptId> {
    let goes = |entry: &LedgerAttempt| {
        matches!(
            entry.life,
            Life::Stopping {
                why: StopWhy::Evicted,
                ..
            }
        )
    };
    if view.attempts.values().any(goes) {
        return None;
    }
    running(view)
        .max_by_key(|(attempt, entry)| goes_first(view, **attempt, entry))
        .map(|(attempt, _)| *attempt)
}

/// The greatest goes first, so that the least is lost: burst before standard, elastic jobs, which go on with fewer,
/// before fixed ones, then who has done the least work, and of equals the newest.
fn goes_first(
    view: &View<'_>,
    attempt: AttemptId,
    entry: &LedgerAttempt,
) -> (Tier, bool, Reverse<Span>, AttemptId) {
    let spec = entry.order.as_ref().map(|order| &order.spec);
    let elastic = spec.is_some_and(|spec| matches!(spec.workers, Workers::Elastic(_)));
    (tier(entry), elastic, Reverse(work_done(view, entry)), attempt)
}

/// What would have to be done again: CPU time used, or, where that is not known, the time it ran.
fn work_done(view: &View<'_>, entry: &LedgerAttempt) -> Span {
    let ran = match &entry.life {
        Life::Running { clock } => clock.spent.plus(view.now.boot.minus(clock.counted_to)),
        Life::Squeezed { clock } => clock.spent,
        _ => Span::ZERO,
    };
    entry.peaks.cpu_time.unwrap_or(ran)
}

fn running<'a>(view: &View<'a>) -> impl Iterator<Item = (&'a AttemptId, &'a LedgerAttempt)> {
    view.attempts.iter().filter(|(_, entry)| {
        matches!(
            entry.life,
            Life::Starting { .. } | Life::Running { .. } | Life::Squeezed { .. }
        )
    })
}

fn tier(entry: &LedgerAttempt) -> Tier {
    entry
        .order
        .as_ref()
        .map_or(Tier::Standard, |order| order.spec.tier)
}

/// Those that local policy has no room for any more.
fn withdrawn(view: &View<'_>) -> BTreeMap<AttemptId, String> {
    let running = running(view);
    if let Lending::Withdrawn(why) = lending(view.policy, view.local) {
        return running
            .map(|(attempt, _)| (*attempt, format!("evicted: {why}")))
            .collect();
    }
    let mut evicted = BTreeMap::new();
    let line = view.machine.line;
    let mut staying = Vec::new();
    for (attempt, entry) in running {
        let Some(holding) = &entry.holding else { continue };
        let taken = match &holding.grant {
            Grant::Exclusive(cpus) if view.machine.pinning.is_cpuset() => cpus.difference(&line.lendable),
            _ => CpuSet::new(),
        };
        if taken.is_empty() {
            staying.push((goes_first(view, *attempt, entry), *attempt, holding));
        } else {
            let why =
                format!("evicted: CPU {taken} is reserved for production now (production.reserve.cpus)");
            evicted.insert(*attempt, why);
        }
    }
    // Who goes first stands last, until the rest fits.
    staying.sort_by_key(|(order, ..)| *order);
    let most = line.most();
    loop {
        let held = staying.iter().map(|(.., holding)| holding);
        let (cpu, memory) = held.fold((MilliCpu::ZERO, Bytes::ZERO), |(cpu, memory), holding| {
            (cpu.plus(holding.amount), memory.plus(holding.memory))
        });
        let why = if cpu > most.cpu {
            format!(
                "evicted: workers hold {cpu} CPUs and this node now lends {} at most",
                most.cpu
            )
        } else if memory > most.memory {
            format!(
                "evicted: workers hold {memory} of memory and this node now lends {} at most",
                most.memory
            )
        } else {
            return evicted;
        };
        let Some((_, attempt, _)) = staying.pop() else {
            return evicted;
        };
        evicted.insert(attempt, why);
    }
}
