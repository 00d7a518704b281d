//! Every limit but the CPUs: what differs is set again, what cannot be read is said.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use loadline_model::{AttemptId, Receipt, ReceiptAction, ReceiptSubject};

use super::{Action, LedgerAttempt, Planned, Stage, View};
use crate::allocation::Allocation;
use crate::attempt::Life;
use crate::settings::{Mismatch, SliceSettings, compare, slice_settings, worker_settings};

/// Slices that are not there are made before the first worker starts in them.
pub(super) fn slices(
    view: &View<'_>,
    allocation: &Allocation,
    any_start: bool,
    unverified: &mut Vec<(String, Mismatch)>,
) -> Vec<Planned> {
    let (_, memory_held) = allocation.accounted();
    let all = slice_settings(
        view.machine.line,
        view.machine.pinning,
        view.setpoints,
        memory_held,
    );
    let mut planned = Vec::new();
    for settings in all {
        let settings = match view.reap {
            Some(budget) => budget.over(settings),
            None => settings,
        };
        let Some(observed) = view.slices.get(&settings.slice) else {
            if any_start {
                let action = Action::SetSlice {
                    settings,
                    missed: Vec::new(),
                };
                planned.push(Planned::of_slice(Stage::Slices, action));
            }
            continue;
        };
        let settings = SliceSettings {
            allowed_cpus: None,
            ..settings
        };
        let unit = settings.slice.unit();
        let missed = readable(unit, compare(&settings, observed), unverified);
        if !missed.is_empty() {
            let receipt = Receipt {
                at: view.now.wall,
                action: ReceiptAction::LimitRepaired,
                subject: ReceiptSubject::Node(unit.into()),
                sentence: sentence(&missed),
            };
            let action = Action::SetSlice { settings, missed };
            planned.push(Planned {
                receipt: Some(receipt),
                ..Planned::of_slice(Stage::Slices, action)
            });
        }
    }
    planned
}

/// Workers that run. One that is starting is read back by its start; one that is ending is left alone.
pub(super) fn workers(
    view: &View<'_>,
    after: &BTreeMap<AttemptId, LedgerAttempt>,
    allocation: &Allocation,
    unverified: &mut Vec<(String, Mismatch)>,
) -> Vec<Planned> {
    let mut planned = Vec::new();
    for (attempt, entry) in after {
        let runs = matches!(entry.life, Life::Running { .. } | Life::Squeezed { .. });
        let limits = view.units.get(attempt).and_then(|unit| unit.limits.as_ref());
        let (true, Some(order), Some(limits)) = (runs, &entry.order, limits) else {
            continue;
        };
        let holding = allocation.holdings().get(attempt);
        let memory_nodes = holding.map(|holding| holding.memory_nodes.clone());
        let memory_nodes = memory_nodes.filter(|_| view.machine.pinning.is_cpuset());
        let settings = worker_settings(*attempt, &order.spec, None, memory_nodes);
        let missed = readable(&settings.unit, compare(&settings, limits), unverified);
        if !missed.is_empty() {
            let receipt = Receipt {
                at: view.now.wall,
                action: ReceiptAction::LimitRepaired,
                subject: ReceiptSubject::Attempt(*attempt),
                sentence: sentence(&missed),
            };
            let action = Action::Repair { settings, missed };
            planned.push(Planned {
                receipt: Some(receipt),
                ..Planned::new(Stage::Repair, *attempt, action)
            });
        }
    }
    planned
}

/// What could not be read is told apart: setting it again would not make it readable.
fn readable(unit: &str, missed: Vec<Mismatch>, unverified: &mut Vec<(String, Mismatch)>) -> Vec<Mismatch> {
    let (readable, unread): (Vec<_>, Vec<_>) =
        missed.into_iter().partition(|mismatch| mismatch.actual.is_some());
    unverified.extend(unread.into_iter().map(|mismatch| (unit.into(), mismatch)));
    readable
}

fn sentence(missed: &[Mismatch]) -> String {
    let list: Vec<String> = missed.iter().map(ToString::to_string).collect();
    format!("{}; set again", list.join(", "))
}
