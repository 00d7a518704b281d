//! The invariants of a plan, stated again without the planner: tests run this after every plan, fleetd before
//! every commit in debug builds.

mod bookings;
mod constraints;
mod sharing;

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{Amounts, CpuRequest, JobId, NodeId, Tier, WallTime};

use crate::planner::{Assignment, Plan};
use crate::queue::{QueueEntry, Start};
use crate::snapshot::{Node, NodeState, Snapshot};

pub use bookings::{Booking, Overbooked, overbooked};
pub use sharing::{Sharing, Unfair, unfair};

/// A plan that must not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The job is not in the queue.
    #[error("job {job} is not in the queue")]
    UnknownJob {
        /// Which.
        job: JobId,
    },
    /// The node is not in the snapshot.
    #[error("node {node} is not in the snapshot")]
    UnknownNode {
        /// Which.
        node: NodeId,
    },
    /// The worker needs no attempt.
    #[error("worker {worker} of job {job} is not missing")]
    NotMissing {
        /// The job.
        job: JobId,
        /// The worker.
        worker: u32,
    },
    /// The same worker goes to two nodes.
    #[error("worker {worker} of job {job} is assigned twice")]
    Twice {
        /// The job.
        job: JobId,
        /// The worker.
        worker: u32,
    },
    /// A node gets work that it must not get.
    #[error("job {job} may not run on {node}: {why}")]
    NotEligible {
        /// The job.
        job: JobId,
        /// The node's name.
        node: String,
        /// Which rule is broken.
        why: &'static str,
    },
    /// A node would hold more than it lends.
    #[error("{node} would hold more than it lends: {what}")]
    OverTheLine {
        /// The node's name.
        node: String,
        /// Of what.
        what: &'static str,
    },
    /// More workers of a job in one domain than an even spread puts there.
    #[error("job {job} has {got} workers in one domain, where an even spread puts {most}")]
    Uneven {
        /// The job.
        job: JobId,
        /// How many it gets there.
        got: u32,
        /// How many it may get.
        most: u32,
    },
    /// Only a part of the workers that start together.
    #[error("job {job} gets {got} of the {needed} workers that start together")]
    TornApart {
        /// The job.
        job: JobId,
        /// How many it gets.
        got: usize,
        /// How many it needs.
        needed: u32,
    },
}

/// Every invariant that the plan breaks; empty: it may be carried out.
pub fn violations(snapshot: &Snapshot, queue: &[QueueEntry], plan: &Plan, now: WallTime) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for assignment in &plan.assignments {
        if !seen.insert((assignment.job, assignment.worker)) {
            let Assignment { job, worker, node: _ } = *assignment;
            found.push(Violation::Twice { job, worker });
        }
        one(snapshot, queue, assignment, now, &mut found);
    }
    for entry in queue {
        let got = plan
            .assignments
            .iter()
            .filter(|assignment| assignment.job == entry.job)
            .count();
        let needed = entry.wanted.needed;
        let torn = got > 0 && u32::try_from(got).is_ok_and(|got| got < needed);
        if torn && entry.wanted.start == Start::Together {
            found.push(Violation::TornApart {
                job: entry.job,
                got,
                needed,
            });
        }
    }
    for node in &snapshot.nodes {
        lines(node, queue, plan, &mut found);
        constraints::amounts(node, queue, plan, &mut found);
    }
    constraints::spread(snapshot, queue, plan, now, &mut found);
    found
}

fn one(
    snapshot: &Snapshot,
    queue: &[QueueEntry],
    given: &Assignment,
    now: WallTime,
    found: &mut Vec<Violation>,
) {
    let Assignment { job, worker, node } = *given;
    let Some(entry) = queue.iter().find(|entry| entry.job == job) else {
        found.push(Violation::UnknownJob { job });
        return;
    };
    let Some(node) = snapshot.nodes.iter().find(|candidate| candidate.id == node) else {
        found.push(Violation::UnknownNode { node });
        return;
    };
    if !entry.wanted.missing.contains(&worker) {
        found.push(Violation::NotMissing { job, worker });
    }
    let exclusive = entry.tier == Tier::Standard && matches!(entry.request.cpus, CpuRequest::Exclusive(_));
    let rules = [
        (node.state == NodeState::Ready, "the node takes no new work"),
        (node.lending, "the node lends nothing"),
        (
            entry.nodes.is_empty() || entry.nodes.contains(&node.name),
            "the job names other nodes",
        ),
        (
            !entry
                .refusals
                .iter()
                .any(|it| it.node == node.id && it.until.is_none()),
            "the node refused it for good",
        ),
        (
            !entry
                .refusals
                .iter()
                .any(|it| it.node == node.id && it.until.is_some_and(|until| until > now)),
            "the node refused it for now",
        ),
        (
            node.allow_teams.is_empty() || node.allow_teams.contains(&entry.team),
            "the node does not lend to the team",
        ),
        (
            !exclusive || node.exclusive_cpus,
            "the node gives no CPUs for exclusive use",
        ),
    ];
    let rules = rules.into_iter().chain(constraints::rules(node, entry));
    for (_, why) in rules.filter(|(holds, _)| !holds) {
        let node = node.name.clone();
        found.push(Violation::NotEligible { job, node, why });
    }
}

/// Sums up what a node would hold and compares it with its lines, if it gets anything of that tier at all: a line
/// may have sunk below what was placed earlier.
fn lines(node: &Node, queue: &[QueueEntry], plan: &Plan, found: &mut Vec<Violation>) {
    let new = |tier: Tier| {
        let mine = plan
            .assignments
            .iter()
            .filter(|assignment| assignment.node == node.id);
        mine.filter_map(|assignment| queue.iter().find(|entry| entry.job == assignment.job))
            .filter(move |entry| entry.tier == tier)
    };
    let amounts = |entry: &QueueEntry| {
        let all = Amounts::from(entry.request);
        // Shares of GPUs are summed up on their own.
        let gpus = if entry.needs.gpu_share.is_some() {
            0
        } else {
            all.gpus
        };
        Amounts { gpus, ..all }
    };
    let sum = |tier| new(tier).fold(Amounts::default(), |sum, entry| sum.plus(amounts(entry)));
    let standard = node.held.standard.amounts.plus(sum(Tier::Standard));
    let burst = node.held.burst.amounts.plus(sum(Tier::Burst));
    let highest = Amounts {
        cpu: node.line.firm.cpu.max(node.line.now.cpu),
        memory: node.line.firm.memory.max(node.line.now.memory),
        gpus: node.line.firm.gpus.max(node.line.now.gpus),
    };
    let mut judge = |holds: bool, what| {
        if !holds {
            let node = node.name.clone();
            found.push(Violation::OverTheLine { node, what });
        }
    };
    // A resource of which nothing is given may be over its line already.
    let within = |held: Amounts, line: Amounts, given: Amounts| {
        (given.cpu.is_zero() || held.cpu <= line.cpu)
            && (given.memory.is_zero() || held.memory <= line.memory)
            && (given.gpus == 0 || held.gpus <= line.gpus)
    };
    if new(Tier::Standard).next().is_some() {
        let whole = new(Tier::Standard).fold(node.held.standard.whole_cpus, |sum, entry| {
            match entry.request.cpus {
                CpuRequest::Exclusive(cpus) => sum.saturating_add(cpus),
                CpuRequest::Shared(_) => sum,
            }
        });
        let exclusive =
            new(Tier::Standard).any(|entry| matches!(entry.request.cpus, CpuRequest::Exclusive(_)));
        let given = sum(Tier::Standard);
        judge(!exclusive || whole <= node.line.whole_cpus, "whole CPUs");
        judge(within(standard, node.line.firm, given), "the firm line");
        judge(within(standard.plus(burst), highest, given), "the higher line");
    }
    let given = sum(Tier::Burst);
    judge(
        within(standard.plus(burst), node.line.now, given),
        "the line of now",
    );
}
