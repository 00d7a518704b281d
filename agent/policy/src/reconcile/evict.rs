//! Who must leave the node: those for whom local policy has no room any more, and, one at a time, those whose room
//! production needs at this moment. Where the node only watches, who would have to.

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
use crate::node_policy::Mode;

/// Who must go, and who would have to if this node did not only watch; and why.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) go: BTreeMap<AttemptId, String>,
    pub(super) would: BTreeMap<AttemptId, String>,
}

/// What becomes of someone who had to go for production's need.
const NEXT: &str = "; it is tried again elsewhere if its job allows";

/// The reason alone, of someone who stays.
fn bare(why: &str) -> String {
    let why = why.strip_prefix("evicted: ").unwrap_or(why);
    why.strip_suffix(NEXT).unwrap_or(why).into()
}

/// Decides it. An operator who closes the node is no judgement of ours: that holds in any mode.
pub(super) fn chosen(view: &View<'_>) -> Chosen {
    let all = all(view);
    if view.policy.lend.mode == Mode::Shadow && !view.machine.line.is_closed() {
        let go = BTreeMap::new();
        let would = all
            .into_iter()
            .map(|(attempt, why)| (attempt, bare(&why)))
            .collect();
        return Chosen { go, would };
    }
    let (go, would) = (all, BTreeMap::new());
    Chosen { go, would }
}

/// True for a worker that an operator wants off the node at once: burst was lent for as long as nobody minds.
pub(super) fn is_braked(view: &View<'_>, entry: &LedgerAttempt) -> bool {
    view.machine.line.is_closed() && tier(entry) == Tier::Burst
}

fn all(view: &View<'_>) -> BTreeMap<AttemptId, String> {
    let mut evicted = withdrawn(view);
    if let (true, Some(need)) = (evicted.is_empty(), view.evict)
        && let Some(victim) = least_lost(view)
    {
        evicted.insert(victim, format!("evicted: {need}{NEXT}"));
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
    let line = view.machine.line;
    if let (true, Some(ceiling)) = (line.is_closed(), &line.ceiling) {
        let by = &ceiling.by;
        let why = format!("evicted: {by} has closed this node to lent work: its line is at 0 %");
        return running.map(|(attempt, _)| (*attempt, why.clone())).collect();
    }
    let mut evicted = BTreeMap::new();
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
    let since = line.ceiling.as_ref().map_or_else(String::new, |ceiling| {
        format!(
            ", since {} holds its line at {} %",
            ceiling.by,
            ceiling.share.0 / 10
        )
    });
    loop {
        let held = staying.iter().map(|(.., holding)| holding);
        let (cpu, memory) = held.fold((MilliCpu::ZERO, Bytes::ZERO), |(cpu, memory), holding| {
            (cpu.plus(holding.amount), memory.plus(holding.memory))
        });
        let why = if cpu > most.cpu {
            format!(
                "evicted: workers hold {cpu} CPUs and this node now lends {} at most{since}",
                most.cpu
            )
        } else if memory > most.memory {
            format!(
                "evicted: workers hold {memory} of memory and this node now lends {} at most{since}",
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
