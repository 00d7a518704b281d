//! From one layout of CPUs to another, in an order in which no CPU is ever in two exclusive sets.
//!
//! **Approach.** stop → shrink (children before parents) → grow (parents before children) → start. A worker
//! whose old and new CPUs have nothing in common cannot shrink, since an emptied set means *all* CPUs to
//! systemd: it moves in one write, once its new CPUs are free.
//! **Properties.** After every step: an exclusive worker's CPUs are in no other worker's set, provided that
//! was so before. Every worker's set lies within the slices.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use loadline_model::{AttemptId, CpuSet};

/// One worker's CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCpus {
    /// True if no other worker may run on them.
    pub exclusive: bool,
    /// The CPUs; never empty.
    pub cpus: CpuSet,
}

/// Where every worker runs, and what the slices above them allow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuLayout {
    /// `AllowedCPUs` of Loadline's slices.
    pub slices: CpuSet,
    /// The workers.
    pub workers: BTreeMap<AttemptId, WorkerCpus>,
}

/// One change, carried out before the next begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The worker ends.
    Stop(AttemptId),
    /// The worker keeps some of its CPUs.
    Shrink(AttemptId, CpuSet),
    /// The slices keep some of their CPUs; tier slices before their parent.
    ShrinkSlices(CpuSet),
    /// The slices get more CPUs; the parent before its tier slices.
    GrowSlices(CpuSet),
    /// The worker gets more CPUs, or others.
    Grow(AttemptId, CpuSet),
    /// The worker starts.
    Start(AttemptId, CpuSet),
}

/// Why there is no safe order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransitionProblem {
    /// Workers would have to swap CPUs, and each waits for the other.
    #[error("workers would have to swap CPUs with each other: {}", names(.0))]
    Swap(Vec<AttemptId>),
    /// A set without CPUs would mean all CPUs.
    #[error("attempt {0} would be left without a CPU")]
    Empty(AttemptId),
}

fn names(attempts: &[AttemptId]) -> alloc::string::String {
    let names: Vec<_> = attempts.iter().map(alloc::string::ToString::to_string).collect();
    names.join(", ")
}

/// The changes that lead from `old` to `new`, in a safe order.
///
/// # Errors
/// When workers would have to swap CPUs, or one would get none. Nothing needs to be undone: the plan is made
/// before the first step.
pub fn plan_transition(old: &CpuLayout, new: &CpuLayout) -> Result<Vec<Step>, TransitionProblem> {
    if let Some((attempt, _)) = new.workers.iter().find(|(_, worker)| worker.cpus.is_empty()) {
        return Err(TransitionProblem::Empty(*attempt));
    }
    let mut steps = Vec::new();
    let mut now = old.workers.clone();
    for attempt in old
        .workers
        .keys()
        .filter(|attempt| !new.workers.contains_key(attempt))
    {
        now.remove(attempt);
        steps.push(Step::Stop(*attempt));
    }
    for (attempt, worker) in &mut now {
        let kept = worker.cpus.intersection(&new.workers[attempt].cpus);
        worker.exclusive = new.workers[attempt].exclusive;
        if !kept.is_empty() && kept != worker.cpus {
            steps.push(Step::Shrink(*attempt, kept.clone()));
            worker.cpus = kept;
        }
    }
    // Who must move keeps the slices wide until it has; otherwise they shrink with their children.
    let held = now
        .values()
        .fold(CpuSet::new(), |all, worker| all.union(&worker.cpus));
    let narrow = old.slices.intersection(&new.slices);
    let slices = if held.is_subset(&narrow) && !narrow.is_empty() {
        narrow
    } else {
        old.slices.clone()
    };
    if slices != old.slices {
        steps.push(Step::ShrinkSlices(slices.clone()));
    }
    let wide = slices.union(&new.slices);
    if wide != slices {
        steps.push(Step::GrowSlices(wide.clone()));
    }
    grow(&mut now, new, &mut steps)?;
    if wide != new.slices {
        steps.push(Step::ShrinkSlices(new.slices.clone()));
    }
    for (attempt, worker) in new
        .workers
        .iter()
        .filter(|(attempt, _)| !old.workers.contains_key(attempt))
    {
        steps.push(Step::Start(*attempt, worker.cpus.clone()));
    }
    Ok(steps)
}

/// Each worker gets its new set as soon as nobody it may not meet is in it.
fn grow(
    now: &mut BTreeMap<AttemptId, WorkerCpus>,
    new: &CpuLayout,
    steps: &mut Vec<Step>,
) -> Result<(), TransitionProblem> {
    let mut pending: BTreeSet<AttemptId> = now
        .iter()
        .filter(|(attempt, worker)| new.workers[attempt].cpus != worker.cpus)
        .map(|(attempt, _)| *attempt)
        .collect();
    while !pending.is_empty() {
        let free = |attempt: &&AttemptId| {
            let target = &new.workers[*attempt];
            now.iter()
                .filter(|(other, _)| other != attempt)
                .all(|(_, other)| {
                    let may_meet = !target.exclusive && !other.exclusive;
                    may_meet || other.cpus.is_disjoint(&target.cpus)
                })
        };
        let Some(attempt) = pending.iter().find(free).copied() else {
            return Err(TransitionProblem::Swap(pending.into_iter().collect()));
        };
        let target = new.workers[&attempt].clone();
        steps.push(Step::Grow(attempt, target.cpus.clone()));
        now.insert(attempt, target);
        pending.remove(&attempt);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
