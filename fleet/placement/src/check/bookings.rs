//! What no set of bookings may ever be, stated again from the nodes and demands alone, without the engine's books.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{CpuRequest, Demand, Is, Labels, Numa, Requirement, Tier};

use crate::engine::{Grant, NodeIx, NodeSpec};

/// One worker that is booked.
#[derive(Debug, Clone, Copy)]
pub struct Booking<'a> {
    /// What it asked for.
    pub demand: &'a Demand,
    /// In which tier.
    pub tier: Tier,
    /// What it was given.
    pub grant: Grant,
}

/// A resource that is given twice, or to someone who may not have it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Overbooked {
    /// The node is not there.
    #[error("node {} is not there", .0.0)]
    UnknownNode(NodeIx),
    /// The node is not what the demand wants, or keeps it away.
    #[error("node {} may not have it: {why}", .node.0)]
    NotAllowed {
        /// Where.
        node: NodeIx,
        /// Which rule is broken.
        why: &'static str,
    },
    /// More is given than there is.
    #[error("node {} gives {given} of {what} and lends {lent}", .node.0)]
    TooMuch {
        /// Where.
        node: NodeIx,
        /// Of what.
        what: &'static str,
        /// Given, in the resource's unit.
        given: u64,
        /// Lent, in the same.
        lent: u64,
    },
    /// The GPUs of a worker are not as many as it asked for, or not there.
    #[error("node {} gives GPUs {gpus:#b} where {asked} were asked for", .node.0)]
    WrongGpus {
        /// Where.
        node: NodeIx,
        /// One bit each.
        gpus: u16,
        /// How many.
        asked: u32,
    },
}

/// Sums per node: of standard, and of both tiers.
#[derive(Debug, Clone, Default)]
struct Sums {
    standard: [u64; 3],
    both: [u64; 3],
    whole: u64,
    /// Per GPU, in per mille.
    gpus: BTreeMap<u32, u64>,
}

const AMOUNTS: [&str; 3] = ["CPU", "memory", "scratch"];

/// Everything that is wrong with the bookings; empty: nothing is given twice. `nodes` in the engine's order.
pub fn overbooked(nodes: &[NodeSpec], bookings: &[Booking<'_>]) -> Vec<Overbooked> {
    let mut found = Vec::new();
    let mut sums: BTreeMap<NodeIx, Sums> = BTreeMap::new();
    for booking in bookings {
        let node = booking.grant.node;
        let Some(spec) = nodes.get(node.0 as usize) else {
            found.push(Overbooked::UnknownNode(node));
            continue;
        };
        allowed(spec, booking, &mut found);
        add(sums.entry(node).or_default(), spec, booking, &mut found);
    }
    for (node, sums) in sums {
        if let Some(spec) = nodes.get(node.0 as usize) {
            within(node, spec, &sums, &mut found);
        }
    }
    found
}

/// What is required of labels, said again.
pub(super) fn meets(labels: &Labels, required: &[Requirement]) -> bool {
    required.iter().all(|requirement| {
        let found = labels.iter().find(|(key, _)| **key == requirement.key);
        let is = |wanted: &String| {
            let Some((key, value)) = found else { return false };
            let (wanted, value) = (wanted.to_ascii_lowercase(), value.as_str());
            let lower = value.to_ascii_lowercase();
            let mut words = lower.split(|c: char| !c.is_ascii_alphanumeric());
            let model = key == "gpu-model" && (lower == wanted || words.any(|word| word == wanted));
            model || (lower == wanted && requirement_has(requirement, value))
        };
        match &requirement.is {
            Is::In(values) => values.iter().any(is),
            Is::NotIn(values) => !values.iter().any(is),
            Is::Present => found.is_some(),
            Is::Absent => found.is_none(),
        }
    })
}

/// The letters' case counts, but for models.
fn requirement_has(requirement: &Requirement, value: &str) -> bool {
    match &requirement.is {
        Is::In(values) | Is::NotIn(values) => values.iter().any(|other| other == value),
        Is::Present | Is::Absent => true,
    }
}

fn allowed(spec: &NodeSpec, booking: &Booking<'_>, found: &mut Vec<Overbooked>) {
    let (demand, node) = (booking.demand, booking.grant.node);
    let gpus = &demand.gpus;
    let labelled = meets(&spec.labels, &demand.require);
    let any_value = |taint: &String| {
        taint
            .split('=')
            .next()
            .is_some_and(|key| demand.tolerates.contains(key))
    };
    let tolerated = spec
        .taints
        .iter()
        .all(|taint| demand.tolerates.contains(taint) || any_value(taint));
    let numa = demand.numa == Numa::Any
        || spec
            .numa
            .iter()
            .any(|room| room.cpu >= demand.cpus.amount() && room.memory >= demand.memory);
    let model = gpus.count == 0 || gpus.models.is_empty() || gpus.models.contains(&spec.gpus.model);
    let rules = [
        (labelled, "a label is missing"),
        (tolerated, "a taint is not tolerated"),
        (numa, "no NUMA node is large enough"),
        (model, "the GPUs are of another model"),
        (
            gpus.count == 0 || spec.gpus.memory >= gpus.memory,
            "the GPUs have too little memory",
        ),
    ];
    let broken = rules.into_iter().filter(|(holds, _)| !holds);
    found.extend(broken.map(|(_, why)| Overbooked::NotAllowed { node, why }));
}

fn add(sums: &mut Sums, spec: &NodeSpec, booking: &Booking<'_>, found: &mut Vec<Overbooked>) {
    let Booking { demand, tier, grant } = booking;
    let amounts = [demand.cpus.amount().0, demand.memory.0, demand.scratch.0];
    for (index, amount) in amounts.into_iter().enumerate() {
        sums.both[index] += amount;
        sums.standard[index] += if *tier == Tier::Standard { amount } else { 0 };
    }
    if let (Tier::Standard, CpuRequest::Exclusive(cpus)) = (tier, demand.cpus) {
        sums.whole += u64::from(cpus);
    }
    let there = spec.gpus.shares.len();
    let gpus: Vec<u32> = (0..u16::BITS)
        .filter(|gpu| grant.gpus & (1 << gpu) != 0)
        .collect();
    if gpus.len() != demand.gpus.count as usize || gpus.iter().any(|gpu| *gpu as usize >= there) {
        let (node, gpus, asked) = (grant.node, grant.gpus, demand.gpus.count);
        found.push(Overbooked::WrongGpus { node, gpus, asked });
    }
    for gpu in gpus {
        *sums.gpus.entry(gpu).or_default() += u64::from(demand.gpus.share.0);
    }
}

fn within(node: NodeIx, spec: &NodeSpec, sums: &Sums, found: &mut Vec<Overbooked>) {
    let mut judge = |what, given: u64, lent: u64| {
        if given > lent {
            found.push(Overbooked::TooMuch {
                node,
                what,
                given,
                lent,
            });
        }
    };
    let firm = [spec.firm.cpu.0, spec.firm.memory.0, spec.firm.scratch.0];
    let now = [spec.now.cpu.0, spec.now.memory.0, spec.now.scratch.0];
    for (index, what) in AMOUNTS.into_iter().enumerate() {
        judge(what, sums.standard[index], firm[index]);
        judge(what, sums.both[index], firm[index].max(now[index]));
        judge(what, sums.both[index] - sums.standard[index], now[index]);
    }
    judge("whole CPUs", sums.whole, spec.whole_cpus.into());
    for (gpu, given) in &sums.gpus {
        let lent = spec.gpus.shares.get(*gpu as usize).map_or(0, |share| share.0);
        judge("one GPU", *given, lent.into());
    }
}
