//! What jobs ask of nodes and of each other's places, said again without the planner's filters.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{Arrange, Domain, NodeId, Numa, WallTime};

use super::Violation;
use super::bookings::meets;
use crate::planner::Plan;
use crate::queue::QueueEntry;
use crate::snapshot::{Node, NodeState, Snapshot};

/// Rules about one worker on one node, each with what is broken if it does not hold.
pub(super) fn rules(node: &Node, entry: &QueueEntry) -> [(bool, &'static str); 6] {
    let (traits, needs) = (&node.traits, &entry.needs);
    let tolerated = traits.taints.iter().all(|taint| {
        let mut same = needs.tolerate.iter().filter(|other| other.key == taint.key);
        same.any(|other| other.value.is_none() || other.value == taint.value)
    });
    let (cpu, memory) = (entry.request.cpus.amount(), entry.request.memory);
    let near = entry.ties.as_ref().and_then(|ties| ties.near.as_ref());
    let away = entry.ties.as_ref().map(|ties| &ties.away);
    [
        (
            meets(&traits.labels, &needs.require),
            "its labels are not what the job requires",
        ),
        (tolerated, "the job does not tolerate its taints"),
        (
            entry.request.gpus == 0 || traits.gpu_memory >= needs.gpu_memory,
            "its GPUs are too small",
        ),
        (
            needs.numa == Numa::Any || traits.numa.iter().any(|it| it.cpu >= cpu && it.memory >= memory),
            "none of its NUMA nodes is large enough",
        ),
        (
            near.is_none_or(|near| near.contains(&node.id)),
            "the job is to be near another",
        ),
        (
            away.is_none_or(|away| !away.contains(&node.id)),
            "the job is to be away from another",
        ),
    ]
}

/// Sums up scratch space and parts of GPUs.
pub(super) fn amounts(node: &Node, queue: &[QueueEntry], plan: &Plan, found: &mut Vec<Violation>) {
    let (mut scratch, mut parts) = (0, 0);
    for assignment in plan.assignments.iter().filter(|given| given.node == node.id) {
        let Some(entry) = queue.iter().find(|entry| entry.job == assignment.job) else {
            continue;
        };
        scratch += entry.needs.scratch.0;
        if entry.request.gpus > 0 {
            parts += entry
                .needs
                .gpu_share
                .map_or(u64::from(entry.request.gpus) * 1000, |share| share.0.into());
        }
    }
    let (standard, burst) = (node.held.standard, node.held.burst);
    let held_parts = u64::from(standard.amounts.gpus + burst.amounts.gpus) * 1000
        + u64::from(standard.gpu_shares + burst.gpu_shares);
    let gpus = u64::from(node.line.firm.gpus.max(node.line.now.gpus)) * 1000;
    let held = standard.scratch.0 + burst.scratch.0;
    for (what, given, held, lent) in [
        ("scratch space", scratch, held, node.line.scratch.0),
        ("parts of GPUs", parts, held_parts, gpus),
    ] {
        if given > 0 && held + given > lent {
            let node = node.name.clone();
            found.push(Violation::OverTheLine { node, what });
        }
    }
}

/// Which domain of a kind.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Place<'a> {
    Node(NodeId),
    Value(Option<&'a String>),
}

fn place<'a>(node: &'a Node, domain: &Domain) -> Place<'a> {
    match domain {
        Domain::Node => Place::Node(node.id),
        Domain::Label(key) => Place::Value(node.traits.labels.get(key)),
    }
}

/// An even spread puts `⌈workers ÷ domains⌉` into one, of the domains with a node that might ever take one.
pub(super) fn spread(
    snapshot: &Snapshot,
    queue: &[QueueEntry],
    plan: &Plan,
    now: WallTime,
    found: &mut Vec<Violation>,
) {
    for entry in queue {
        let (Arrange::Spread(domain), Some(ties)) = (&entry.needs.arrange, &entry.ties) else {
            continue;
        };
        let mut counts: BTreeMap<Place<'_>, (u32, bool, bool)> = BTreeMap::new();
        for node in &snapshot.nodes {
            let (count, usable, new) = counts.entry(place(node, domain)).or_default();
            let given = plan.assignments.iter();
            let given = given.filter(|given| given.job == entry.job && given.node == node.id);
            let given = u32::try_from(given.count()).unwrap_or(u32::MAX);
            *count += ties.own.get(&node.id).copied().unwrap_or(0) + given;
            *usable |= given > 0 || might(node, entry, now);
            *new |= given > 0;
        }
        // With too few domains counted the bound would be too high, never too low.
        let domains = counts.values().filter(|(_, usable, _)| *usable).count();
        let most = ties
            .workers
            .div_ceil(u32::try_from(domains).unwrap_or(u32::MAX).max(1));
        let over = counts.into_values().filter(|(got, _, new)| *new && *got > most);
        found.extend(over.map(|(got, ..)| Violation::Uneven {
            job: entry.job,
            got,
            most,
        }));
    }
}

/// True if nothing but its present work and silence keeps a worker from the node.
fn might(node: &Node, entry: &QueueEntry, now: WallTime) -> bool {
    let state = matches!(
        node.state,
        NodeState::Ready | NodeState::Suspect | NodeState::Unattended
    );
    let refused = entry
        .refusals
        .iter()
        .any(|it| it.node == node.id && it.until.is_none() && it.holds(now));
    let line = match entry.tier {
        loadline_model::Tier::Standard => node.line.firm,
        loadline_model::Tier::Burst => node.line.higher(),
    };
    let exclusive = entry.tier == loadline_model::Tier::Standard
        && matches!(entry.request.cpus, loadline_model::CpuRequest::Exclusive(_));
    let whole = line.cpu.whole_cpus().min(node.line.whole_cpus.into());
    state
        && node.lending
        && !refused
        && (entry.nodes.is_empty() || entry.nodes.contains(&node.name))
        && (node.allow_teams.is_empty() || node.allow_teams.contains(&entry.team))
        && (!exclusive || node.exclusive_cpus && entry.request.cpus.amount().whole_cpus() <= whole)
        && entry.request.cpus.amount() <= line.cpu
        && entry.request.memory <= line.memory
        && entry.request.gpus <= line.gpus
        && entry.needs.scratch <= node.line.scratch
        && rules(node, entry).iter().all(|(holds, _)| *holds)
}
