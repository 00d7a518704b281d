//! What is shown: views of the state in the wire's words. One direction only.

use loadline_proto::fleet::v1 as fleet;

use super::job::{write_spec, write_tier};
use super::node::{write_inventory, write_sample};
use super::phase::{
    write_ended, write_job_phase, write_phase, write_placement, write_receipt, write_reported,
};
use crate::state::rows::CostRow;
use crate::state::{
    AttemptView, Explanation, JobChange, JobDetail, JobSummary, NodeCondition, NodeDetail, NodeHeadroom,
    NodeReceipt, NodeSummary, TokenView, UserView,
};

/// A job in a list.
pub fn write_job_summary(job: &JobSummary) -> fleet::JobSummary {
    fleet::JobSummary {
        job_id: job.id.as_bytes().to_vec(),
        number: job.number,
        name: job.name.clone(),
        user: job.user.clone(),
        tier: write_tier(job.tier).into(),
        phase: write_job_phase(job.phase).into(),
        workers_max: job.workers_max,
        workers_running: job.workers_running,
        submitted_at_us: job.submitted_at.0,
        started_at_us: job.started_at.map(|at| at.0),
        ended_at_us: job.ended_at.map(|at| at.0),
        exit_code: job.exit_code.map(u32::from),
        never_started: job.never_started.clone(),
        waiting_for: job.waiting_for.clone(),
        team: job.team.clone(),
        priority: job.priority.0.into(),
    }
}

fn write_attempt(attempt: &AttemptView) -> fleet::Attempt {
    let site = attempt.site.as_ref();
    fleet::Attempt {
        attempt_id: attempt.id.as_bytes().to_vec(),
        worker: attempt.worker,
        number: attempt.number,
        node: attempt.node_name.clone(),
        phase: write_phase(attempt.phase).into(),
        placement: site.map(|site| write_placement(attempt.id, site)),
        ended: attempt.ended.as_ref().map(write_ended),
        assigned_at_us: attempt.assigned_at.0,
        running_at_us: attempt.running_at.map(|at| at.0),
        node_silent: attempt.node_silent,
    }
}

/// A job with everything.
pub fn write_job_detail(job: &JobDetail) -> fleet::JobDetail {
    fleet::JobDetail {
        summary: Some(write_job_summary(&job.summary)),
        spec: Some(write_spec(&job.spec)),
        attempts: job.attempts.iter().map(write_attempt).collect(),
        receipts: job.receipts.iter().map(write_receipt).collect(),
    }
}

/// A change of a watched job.
pub fn write_job_change(change: &JobChange) -> fleet::JobEvent {
    fleet::JobEvent {
        summary: Some(write_job_summary(&change.summary)),
        changed: change.changed.iter().map(write_attempt).collect(),
    }
}

/// Why a job waits.
pub fn write_explanation(explanation: &Explanation) -> fleet::Explanation {
    fleet::Explanation {
        summary: Some(write_job_summary(&explanation.summary)),
        reasons: explanation
            .reasons
            .iter()
            .map(|reason| fleet::BlockingReason {
                code: reason.code.clone(),
                sentence: reason.sentence.clone(),
                nodes: reason.nodes,
                examples: reason.examples.clone(),
            })
            .collect(),
        change: explanation.change.clone(),
        nodes_considered: explanation.nodes_considered,
        expected_us: explanation.expected.map(|at| at.0),
        jobs_before: explanation.before,
    }
}

const fn write_condition(condition: NodeCondition) -> fleet::NodeState {
    match condition {
        NodeCondition::NeverSeen => fleet::NodeState::NeverSeen,
        NodeCondition::Ready => fleet::NodeState::Ready,
        NodeCondition::Suspect => fleet::NodeState::Suspect,
        NodeCondition::Lost => fleet::NodeState::Lost,
        NodeCondition::Draining => fleet::NodeState::Draining,
        NodeCondition::Forgotten => fleet::NodeState::Forgotten,
        NodeCondition::Banned => fleet::NodeState::Banned,
    }
}

/// A node in a list.
pub fn write_node_summary(node: &NodeSummary) -> fleet::NodeSummary {
    fleet::NodeSummary {
        node_id: node.id.as_bytes().to_vec(),
        name: node.name.clone(),
        pool: node.pool.clone(),
        state: write_condition(node.condition).into(),
        last_seen_us: node.last_seen.map_or(0, |at| at.0),
        inventory: node.inventory.as_deref().map(|inventory| {
            let mut shown = write_inventory(inventory);
            // Stands among what the node misses, where people look for why nothing is placed there.
            shown.missed.extend(node.warden_problem.clone());
            shown
        }),
        sample: node.sample.as_ref().map(|sample| {
            let (level, reason) = node
                .word
                .as_ref()
                .map_or_else(Default::default, |word| (word.level.clone(), word.reason.clone()));
            loadline_proto::types::v1::NodeSample {
                level,
                reason,
                ..write_sample(sample)
            }
        }),
        workers: node.workers,
        orphans: node.orphans,
        assigned_millicpu: node.assigned.total().cpu.0,
        assigned_memory_bytes: node.assigned.total().memory.0,
        version: node.version.clone(),
        labels: node.labels.clone().into_iter().collect(),
        taints: node.taints.clone().into_iter().collect(),
        ceiling: node.ceiling.as_ref().map(|set| fleet::Ceiling {
            mode: set.ceiling.mode.word().to_owned(),
            line_per_mille: set.ceiling.line.0.into(),
            by: set.ceiling.by.clone(),
            at_us: set.at.0,
            applied: set.applied,
        }),
    }
}

/// What a node keeps, lends and has cost.
pub fn write_headroom(node: &NodeHeadroom) -> fleet::NodeHeadroom {
    let CostRow { cost, lent, observed } = node.week;
    fleet::NodeHeadroom {
        summary: Some(write_node_summary(&node.summary)),
        week: Some(fleet::Cost {
            stalled_us: cost.stalled.0,
            squeezed_us: cost.squeezed.0,
            evictions: cost.evictions,
            reaping_us: cost.reaping.0,
            lent_cpu_us: lent.0,
            observed_us: observed.0,
        }),
    }
}

/// A node with what runs on it.
pub fn write_node_detail(node: &NodeDetail) -> fleet::NodeDetail {
    fleet::NodeDetail {
        summary: Some(write_node_summary(&node.summary)),
        workers: node
            .workers
            .iter()
            .map(|worker| fleet::NodeWorker {
                label: worker.label.clone(),
                user: worker.user.clone(),
                state: Some(write_reported(&worker.state)),
            })
            .collect(),
        receipts: node.receipts.iter().map(write_receipt).collect(),
    }
}

/// A receipt in a list.
pub fn write_node_receipt(receipt: &NodeReceipt) -> fleet::NodeReceipt {
    fleet::NodeReceipt {
        node: receipt.node.clone(),
        worker: receipt.worker.clone(),
        receipt: Some(write_receipt(&receipt.receipt)),
    }
}

/// A token in a list.
pub fn write_token(token: &TokenView) -> fleet::Token {
    fleet::Token {
        token_id: token.id.0.clone(),
        kind: if token.for_node { "node" } else { "login" }.to_owned(),
        bound_to: token.bound_to.clone(),
        pool: token.pool.clone(),
        expires_us: token.expires.0,
        state: token.state.word().to_owned(),
    }
}

/// A person in a list.
pub fn write_user(user: &UserView) -> fleet::User {
    fleet::User {
        name: user.name.clone(),
        role: user.role.word().to_owned(),
        unix_account: user.unix_account.clone(),
        team: user.team.clone(),
        banned: user.banned,
    }
}
