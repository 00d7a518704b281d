//! Sentences about what nodes are not, and about where other workers are.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use loadline_model::{Arrange, Bytes, Domain, Requirement, Taint};

use super::subject;
use crate::queue::QueueEntry;
use crate::report::ReasonCode;
use crate::snapshot::{HeldByTier, Node};

/// Requirements, taints or jobs in one sentence.
const NAMED_MAX: usize = 3;

type Kept<'a> = [(&'a Node, &'a HeldByTier)];

pub(super) fn sentence(code: ReasonCode, kept: &Kept<'_>, entry: &QueueEntry, all: bool) -> String {
    use ReasonCode as C;
    match code {
        C::LabelsUnmet => labels(kept, entry, all),
        C::TaintNotTolerated => taints(kept, entry, all),
        C::GpuTooSmall => gpu_memory(kept, entry),
        C::NumaTooSmall => numa(kept, entry),
        C::SpreadFull => spread(kept, entry),
        C::NotNear => others(kept, &entry.needs.near, "no worker of"),
        C::TooNear => too_near(kept, entry),
        _ => String::new(),
    }
}

/// The first few, in one phrase.
fn list(items: &[String], joint: &str) -> String {
    let shown = items
        .iter()
        .take(NAMED_MAX)
        .cloned()
        .collect::<Vec<_>>()
        .join(joint);
    match items.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn labels(kept: &Kept<'_>, entry: &QueueEntry, all: bool) -> String {
    let broken = |requirement: &&Requirement| {
        let holds = |(node, _): &(&Node, &HeldByTier)| requirement.holds(&node.traits.labels);
        !kept.iter().all(holds)
    };
    let broken: Vec<String> = entry
        .needs
        .require
        .iter()
        .filter(broken)
        .map(|requirement| format!("`{requirement}`"))
        .collect();
    let broken = list(&broken, " and ");
    if all {
        return format!("the job requires {broken}, and no node's labels say so");
    }
    subject(
        kept,
        &format!("is not what the job requires: {broken}"),
        &format!("are not what the job requires: {broken}"),
    )
}

/// The taints of these nodes that the job does not tolerate.
pub(super) fn not_tolerated(kept: &Kept<'_>, entry: &QueueEntry) -> BTreeSet<Taint> {
    let taints = kept.iter().flat_map(|(node, _)| &node.traits.taints);
    let tolerated = |taint: &&Taint| entry.needs.tolerate.iter().any(|it| it.tolerates(taint));
    taints.filter(|taint| !tolerated(taint)).cloned().collect()
}

fn taints(kept: &Kept<'_>, entry: &QueueEntry, all: bool) -> String {
    let taints = not_tolerated(kept, entry);
    let taints: Vec<String> = taints.iter().map(|taint| format!("`{taint}`")).collect();
    let taints = list(&taints, ", ");
    if all {
        return format!("every node is kept for work that tolerates {taints}");
    }
    subject(
        kept,
        &format!("is kept for work that tolerates {taints}"),
        &format!("are kept for work that tolerates {taints}"),
    )
}

fn gpu_memory(kept: &Kept<'_>, entry: &QueueEntry) -> String {
    let largest = kept.iter().map(|(node, _)| node.traits.gpu_memory).max();
    let (wanted, largest) = (entry.needs.gpu_memory, largest.unwrap_or(Bytes::ZERO));
    if largest.is_zero() {
        return subject(
            kept,
            &format!("has no GPUs that are known to have {wanted}"),
            &format!("have no GPUs that are known to have {wanted}"),
        );
    }
    subject(
        kept,
        &format!("has GPUs of {largest}, and the job wants {wanted}"),
        &format!("have smaller GPUs than the job wants, {wanted} (the largest of them {largest})"),
    )
}

fn numa(kept: &Kept<'_>, entry: &QueueEntry) -> String {
    let wanted = format!(
        "{} of CPU and {} of memory",
        entry.request.cpus.amount(),
        entry.request.memory
    );
    subject(
        kept,
        &format!("has no NUMA node with {wanted}"),
        &format!("have no NUMA node with {wanted}"),
    )
}

fn spread(kept: &Kept<'_>, entry: &QueueEntry) -> String {
    let of = match &entry.needs.arrange {
        Arrange::Spread(Domain::Label(key)) => format!(" of its `{key}`"),
        _ => String::new(),
    };
    subject(
        kept,
        &format!("has its part{of} of this job's workers, which are to be spread"),
        &format!("have their part{of} of this job's workers, which are to be spread"),
    )
}

fn others(kept: &Kept<'_>, names: &[String], what: &str) -> String {
    let names = list(names, " or ");
    subject(
        kept,
        &format!("has {what} {names}"),
        &format!("have {what} {names}"),
    )
}

fn too_near(kept: &Kept<'_>, entry: &QueueEntry) -> String {
    if entry.needs.away_from.is_empty() {
        let apart = "a worker of a job that is to be kept away from this one".to_string();
        return subject(kept, &format!("has {apart}"), &format!("have {apart}"));
    }
    others(kept, &entry.needs.away_from, "a worker of")
}
