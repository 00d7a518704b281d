//! What happened to each attempt since the last pass, and what follows for its life.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{
    AttemptId, Bytes, EndReason, MilliCpu, Receipt, ReceiptAction, ReceiptSubject, Span, Tier,
};

use super::{Action, LedgerAttempt, ObservedUnit, Planned, Stage, UnitActive, View, evict};
use crate::allocation::{Grant, Holding};
use crate::attempt::{Event, Life, MainEnd, Outcome, RunClock, StopWhy, step};
use crate::reap::Dying;
use crate::settings::Limit;

/// How long a unit may be missing before its end counts as unrecorded: a start or an end record under
/// saturation took up to 60 s on an emulated machine (reference/systemd.md 1.2, 1.3).
const VANISH_WAIT: Span = Span::from_secs(90);

/// All attempts after this pass's news.
pub(super) struct Lives {
    pub(super) after: BTreeMap<AttemptId, LedgerAttempt>,
    pub(super) actions: Vec<Planned>,
    pub(super) contradictions: Vec<(AttemptId, &'static str)>,
    pub(super) would_evict: Vec<(AttemptId, String)>,
}

pub(super) fn advance(view: &View<'_>) -> Lives {
    let evict::Chosen { go: evicted, would } = evict::chosen(view);
    let mut lives = Lives {
        after: BTreeMap::new(),
        actions: Vec::new(),
        contradictions: Vec::new(),
        would_evict: would.into_iter().collect(),
    };
    for (attempt, entry) in view.attempts {
        let event = news(view, *attempt, entry, evicted.get(attempt));
        let after = live_on(view, *attempt, entry, &event, &mut lives);
        lives.after.insert(
            *attempt,
            LedgerAttempt {
                life: after,
                ..entry.clone()
            },
        );
    }
    adopt_orphans(view, &mut lives);
    lives
}

fn live_on(
    view: &View<'_>,
    attempt: AttemptId,
    entry: &LedgerAttempt,
    event: &Event,
    lives: &mut Lives,
) -> Life {
    let spec = entry.order.as_ref().map(|order| &order.spec);
    match step(&entry.life, event, spec, view.now) {
        Outcome::Moved(life) => {
            let mut planned = Planned::new(Stage::Record, attempt, Action::Record(life.clone()));
            // Who was asked to end has its receipt for that.
            let asked = matches!(entry.life, Life::Stopping { .. });
            planned.receipt = receipt_of_end(view, attempt, &life).filter(|_| !asked);
            lives.actions.push(planned);
            life
        }
        Outcome::Stop(life) => {
            let mut planned = Planned::new(Stage::Stop, attempt, Action::Stop(life.clone()));
            planned.receipt = receipt_of_stop(view, attempt, &life);
            lives.actions.push(planned);
            life
        }
        Outcome::Contradiction(what) => {
            lives.contradictions.push((attempt, what));
            entry.life.clone()
        }
        Outcome::Unchanged => {
            lives.actions.extend(see_it_stopped(view, attempt, entry));
            entry.life.clone()
        }
    }
}

/// The most telling news of one attempt. One a pass is enough: the next pass looks again.
fn news(view: &View<'_>, attempt: AttemptId, entry: &LedgerAttempt, evicted: Option<&String>) -> Event {
    let unit = view.units.get(&attempt);
    let may_have_unit = entry.life.may_have_unit();
    if let Some(record) = view.records.get(&attempt) {
        return Event::UnitEnded {
            end: record.end.clone(),
            peaks: entry.peaks,
            at: record.at,
        };
    }
    if entry.boot != *view.boot {
        return Event::RebootSeen;
    }
    if let Some(end) = unit.and_then(told_end) {
        return Event::UnitEnded {
            end,
            peaks: entry.peaks,
            at: view.now.wall,
        };
    }
    if may_have_unit && view.absences.longer_than(attempt, VANISH_WAIT, view.now) {
        return Event::UnitVanished;
    }
    if matches!(entry.life, Life::Accepted | Life::Starting { .. })
        && unit.is_some_and(|unit| unit.active == UnitActive::Running)
    {
        return Event::Started;
    }
    let asked = matches!(entry.life, Life::Stopping { .. });
    if let (Some(why), false) = (view.hung.get(&attempt), asked) {
        return Event::StopOrdered {
            why: StopWhy::OutOfMemory,
            // As the kernel would have done it.
            grace: Span::ZERO,
            detail: why.clone(),
        };
    }
    if let (Some(why), false) = (evicted, asked) {
        return Event::StopOrdered {
            why: StopWhy::Evicted,
            // At the floor of a closed line it could do nothing with a grace but be in the way.
            grace: if evict::is_braked(view, entry) {
                Span::ZERO
            } else {
                Span(u64::MAX)
            },
            detail: why.clone(),
        };
    }
    let tier = entry
        .order
        .as_ref()
        .map_or(Tier::Standard, |order| order.spec.tier);
    match (&entry.life, view.setpoints.squeezed.holds(tier)) {
        (Life::Running { .. }, true) => Event::Squeezed,
        (Life::Squeezed { .. }, false) => Event::Released,
        _ => Event::Tick,
    }
}

/// How systemd says that a unit ended. `success` without an exit is what it says about units it has forgotten.
fn told_end(unit: &ObservedUnit) -> Option<crate::attempt::UnitEnd> {
    let end = unit.end.clone().filter(|_| unit.active == UnitActive::Over)?;
    (end.main != MainEnd::Unknown || end.result != "success").then_some(end)
}

/// A worker that was asked to end is asked again until systemd is at it, and killed when its grace is over.
fn see_it_stopped(view: &View<'_>, attempt: AttemptId, entry: &LedgerAttempt) -> Option<Planned> {
    let life = &entry.life;
    let Life::Stopping { kill_at, .. } = life else {
        return None;
    };
    let over = view.now.boot >= *kill_at || evict::is_braked(view, entry);
    match view.units.get(&attempt)?.active {
        UnitActive::Over => None,
        _ if over => Some(Planned::new(Stage::Stop, attempt, Action::Kill)),
        UnitActive::Stopping => None,
        UnitActive::Starting | UnitActive::Running => {
            Some(Planned::new(Stage::Stop, attempt, Action::Stop(life.clone())))
        }
    }
}

/// Who is being ended and still has a unit.
pub(super) fn dying(view: &View<'_>, after: &BTreeMap<AttemptId, LedgerAttempt>) -> Vec<Dying> {
    let dies = |(attempt, entry): (&AttemptId, &LedgerAttempt)| {
        let Life::Stopping { kill_at, .. } = entry.life else {
            return None;
        };
        let unit = view.units.get(attempt)?;
        (unit.active != UnitActive::Over).then(|| Dying {
            attempt: *attempt,
            tier: entry
                .order
                .as_ref()
                .map_or(Tier::Standard, |order| order.spec.tier),
            kill_at,
        })
    };
    after.iter().filter_map(dies).collect()
}

fn receipt(view: &View<'_>, attempt: AttemptId, action: ReceiptAction, sentence: &str) -> Receipt {
    let subject = ReceiptSubject::Attempt(attempt);
    Receipt {
        at: view.now.wall,
        action,
        subject,
        sentence: sentence.into(),
    }
}

fn receipt_of_end(view: &View<'_>, attempt: AttemptId, life: &Life) -> Option<Receipt> {
    let ended = life.ended()?;
    let action = match ended.reason {
        EndReason::OutOfMemory => ReceiptAction::OutOfMemory,
        EndReason::Refused { .. } => ReceiptAction::Refused,
        _ => return None,
    };
    Some(receipt(view, attempt, action, &ended.detail))
}

fn receipt_of_stop(view: &View<'_>, attempt: AttemptId, life: &Life) -> Option<Receipt> {
    let Life::Stopping { why, detail, .. } = life else {
        return None;
    };
    let action = match why {
        StopWhy::Evicted => ReceiptAction::Evicted,
        StopWhy::TimeLimit => ReceiptAction::TimeLimit,
        StopWhy::OutOfMemory => ReceiptAction::OutOfMemory,
        StopWhy::Cancelled | StopWhy::NodeLost => return None,
    };
    Some(receipt(view, attempt, action, detail))
}

pub(super) fn receipt_of_refusal(view: &View<'_>, attempt: AttemptId, life: &Life) -> Option<Receipt> {
    receipt_of_end(view, attempt, life)
}

/// Units and end records that nobody knows, and dead units of attempts that ended.
fn adopt_orphans(view: &View<'_>, lives: &mut Lives) {
    let known = |attempt: &AttemptId| view.attempts.contains_key(attempt);
    let ended = |attempt: &AttemptId| view.ended.contains(attempt);
    for (attempt, unit) in view.units.iter().filter(|(attempt, _)| !known(attempt)) {
        match (unit.active, ended(attempt)) {
            (UnitActive::Over, true) => {
                lives
                    .actions
                    .push(Planned::new(Stage::Record, *attempt, Action::Forget));
            }
            (_, true) => lives
                .contradictions
                .push((*attempt, "an attempt that had ended has a live unit")),
            (_, false) => adopt(view, *attempt, Some(unit), lives),
        }
    }
    let lost =
        |attempt: &&AttemptId| !known(attempt) && !ended(attempt) && !view.units.contains_key(*attempt);
    for attempt in view.records.keys().filter(lost) {
        adopt(view, *attempt, None, lives);
    }
}

fn adopt(view: &View<'_>, attempt: AttemptId, unit: Option<&ObservedUnit>, lives: &mut Lives) {
    let life = Life::Running {
        clock: RunClock {
            spent: Span::ZERO,
            counted_to: view.now.boot,
        },
    };
    let holding = orphan_holding(view, attempt, unit, lives);
    let mut planned = Planned::new(
        Stage::Record,
        attempt,
        Action::AdoptOrphan {
            holding: holding.clone(),
            life: life.clone(),
        },
    );
    let sentence = "its unit was found without a record of it; it goes on until an order names it";
    planned.receipt = Some(receipt(view, attempt, ReceiptAction::OrphanAdopted, sentence));
    lives.actions.push(planned);
    let entry = LedgerAttempt {
        order: None,
        account: crate::admission::Account::Missing,
        boot: view.boot.clone(),
        life,
        applied_cpus: None,
        peaks: loadline_model::Peaks::default(),
        holding: Some(holding),
    };
    lives.after.insert(attempt, entry);
}

/// As far as its cgroup tells. Workers with CPUs of their own are known by their weight, 100 for each,
/// and by being alone.
fn orphan_holding(
    view: &View<'_>,
    attempt: AttemptId,
    unit: Option<&ObservedUnit>,
    lives: &Lives,
) -> Holding {
    let observed = unit.and_then(|unit| unit.limits.clone()).unwrap_or_default();
    let lendable = &view.machine.line.lendable;
    let cpus = observed.cpus_effective.unwrap_or_default();
    let others = view.units.iter().filter(|(other, _)| **other != attempt);
    let others = others.filter_map(|(_, other)| other.limits.as_ref()?.cpus_effective.as_ref());
    let owned = lives
        .after
        .values()
        .filter_map(|entry| match &entry.holding.as_ref()?.grant {
            Grant::Exclusive(owned) => Some(owned),
            Grant::Shared => None,
        });
    let taken = others.chain(owned).any(|other| !other.is_disjoint(&cpus));
    let weight = observed.cpu_weight.filter(|_| observed.cpu_idle == Some(false));
    let whole = weight == Some(u64::from(cpus.len()) * 100) && !cpus.is_empty();
    let alone = view.machine.pinning.is_cpuset() && whole && !taken && !cpus.is_disjoint(lendable);
    // The inverse of how workers get their weight.
    let amount = weight.map_or(MilliCpu::ZERO, |weight| MilliCpu(weight.saturating_mul(10)));
    let memory = match observed.memory_max {
        Some(Limit::At(memory)) => memory,
        _ => Bytes::ZERO,
    };
    let all = view
        .machine
        .topology
        .numa_nodes()
        .iter()
        .map(|node| node.id)
        .collect();
    Holding {
        grant: if alone {
            Grant::Exclusive(cpus)
        } else {
            Grant::Shared
        },
        amount,
        memory,
        memory_nodes: observed.mems_effective.unwrap_or(all),
    }
}
