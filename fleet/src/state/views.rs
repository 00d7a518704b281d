//! The views of the state, made from its rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use loadline_model::{AttemptId, AttemptPhase, JobPhase, NodeId};

use super::change::Change;
use super::command::{JobRef, Now, SessionId};
use super::node_types::{Receipt, Reported};
use super::order::{Order, OrderKind, Start};
use super::refused::Refused;
use super::rows::{AttemptRow, JobStage, OrderRow, OrderWhat, Standing};
use super::view::{
    AttemptView, CeilingView, FleetStatus, JobChange, JobDetail, JobSummary, NodeCondition, NodeDetail,
    NodeReceipt, NodeSummary, NodeWorker,
};
use super::{Generation, Job, Node, State};
use crate::trust::{Directory, Person};

/// So many receipts of a node are shown.
const RECEIPTS_SHOWN: usize = 100;

impl State {
    pub(crate) fn find_job(&self, job: JobRef) -> Result<&Job, Refused> {
        let id = match job {
            JobRef::Id(id) => Some(id),
            JobRef::Number(number) => self.numbers.get(&number).copied(),
        };
        let found = id.and_then(|id| self.jobs.get(&id));
        found.map(Box::as_ref).ok_or_else(|| {
            Refused::JobUnknown(match job {
                JobRef::Id(id) => id.to_string(),
                JobRef::Number(number) => number.to_string(),
            })
        })
    }

    /// Jobs, newest first; `all` also those that are done.
    pub fn jobs(&self, all: bool) -> Vec<JobSummary> {
        let newest_first = self.numbers.values().rev().filter_map(|id| self.jobs.get(id));
        newest_first
            .filter(|job| all || !matches!(job.row.stage, JobStage::Done(..)))
            .map(|job| self.summary(job))
            .collect()
    }

    pub(crate) fn summary(&self, job: &Job) -> JobSummary {
        let row = &job.row;
        let (phase, ended_at, exit_code) = match row.stage {
            JobStage::Queued => (JobPhase::Queued, None, None),
            JobStage::Running | JobStage::Ending(_) => (JobPhase::Running, None, None),
            JobStage::Done(verdict, at) => {
                (JobPhase::Done(verdict.outcome), Some(at), Some(verdict.exit_code))
            }
        };
        let runs = |id: &&AttemptId| {
            let attempt = self.attempts.get(id);
            attempt.is_some_and(|attempt| {
                let phase = attempt.phase();
                matches!(
                    phase,
                    AttemptPhase::Running | AttemptPhase::Squeezed | AttemptPhase::Stopping
                )
            })
        };
        let running = job.attempts.iter().filter(runs).count();
        let waits = self.queue.contains(&row.id);
        JobSummary {
            id: row.id,
            number: row.number,
            name: row.spec.name.clone(),
            user: row.submitter.user.to_string(),
            team: row.submitter.team.to_string(),
            priority: row.spec.priority,
            tier: row.spec.tier,
            phase,
            workers_max: row.spec.workers.max(),
            workers_running: u32::try_from(running).unwrap_or(u32::MAX),
            submitted_at: row.submitted_at,
            started_at: row.started_at,
            ended_at,
            exit_code,
            waiting_for: if waits { self.waits_for(row) } else { String::new() },
            never_started: self.never_started(job).unwrap_or_default(),
        }
    }

    /// One job with everything.
    ///
    /// # Errors
    /// When there is none.
    pub fn job(&self, job: JobRef, now: Now) -> Result<JobDetail, Refused> {
        let job = self.find_job(job)?;
        let attempts = job.attempts.iter().filter_map(|id| self.attempts.get(id));
        let ids: BTreeSet<AttemptId> = job.attempts.iter().copied().collect();
        let about = |receipt: &&Arc<Receipt>| receipt.attempt.is_some_and(|id| ids.contains(&id));
        let mut receipts: Vec<Receipt> = self
            .receipts
            .values()
            .filter(about)
            .map(|receipt| Receipt::clone(receipt))
            .collect();
        receipts.sort_by_key(|receipt| receipt.at);
        Ok(JobDetail {
            summary: self.summary(job),
            spec: job.row.spec.clone(),
            attempts: attempts.map(|row| self.attempt_view(row, now)).collect(),
            receipts,
        })
    }

    fn attempt_view(&self, row: &AttemptRow, now: Now) -> AttemptView {
        let node = self.nodes.get(&row.node);
        let silent = node.is_none_or(|node| {
            let condition = self.condition(node, now);
            !matches!(condition, NodeCondition::Ready | NodeCondition::Draining)
        });
        AttemptView {
            id: row.id,
            worker: row.worker,
            number: row.number,
            node: row.node,
            node_name: node.map(|node| node.row.name.clone()).unwrap_or_default(),
            phase: row.phase(),
            site: row.site.as_deref().cloned(),
            ended: row.ended().cloned(),
            assigned_at: row.assigned_at,
            running_at: row.running_at,
            node_silent: silent && row.occupies(),
        }
    }

    /// The jobs that a batch changed, each with its changed attempts.
    pub fn job_changes(&self, changes: &[Change], now: Now) -> Vec<JobChange> {
        let mut touched: Vec<(super::JobId, Vec<AttemptId>)> = Vec::new();
        for change in changes {
            let (job, attempt) = match change {
                Change::Job(job, Some(_)) => (*job, None),
                Change::Attempt(id, Some(row)) => (row.job, Some(*id)),
                _ => continue,
            };
            let index = touched
                .iter()
                .position(|(other, _)| *other == job)
                .unwrap_or_else(|| {
                    touched.push((job, Vec::new()));
                    touched.len() - 1
                });
            let changed = &mut touched[index].1;
            changed.extend(attempt.filter(|id| !changed.contains(id)));
        }
        let made = touched.into_iter().filter_map(|(job, attempts)| {
            let job = self.jobs.get(&job)?;
            let rows = attempts.iter().filter_map(|id| self.attempts.get(id));
            let changed = rows.map(|row| self.attempt_view(row, now)).collect();
            Some(JobChange {
                summary: self.summary(job),
                changed,
            })
        });
        made.collect()
    }

    /// The orders for a node that are not known to be in its ledger, after a generation.
    pub fn orders(&self, id: NodeId, after: Generation) -> Vec<Order> {
        let Some(node) = self.nodes.get(&id) else {
            return Vec::new();
        };
        let later = node.orders.range(after.next()..);
        let mut orders: Vec<Order> = later
            .filter_map(|(generation, row)| self.order_of(id, *generation, row))
            .chain(node.ceiling_order(after))
            .chain(node.prove_order(after))
            .collect();
        orders.sort_by_key(|order| order.generation);
        orders
    }

    fn order_of(&self, node: NodeId, generation: Generation, order: &OrderRow) -> Option<Order> {
        let OrderRow {
            epoch,
            issued_at,
            attempt,
            what,
        } = *order;
        let what = match what {
            OrderWhat::Stop(stop) => OrderKind::Stop(stop),
            OrderWhat::Start => {
                let row = self.attempts.get(&attempt)?;
                let job = &self.jobs.get(&row.job)?.row;
                OrderKind::Start(Box::new(Start {
                    job: job.id,
                    job_number: job.number,
                    worker: row.worker,
                    attempt_number: row.number,
                    user: job.submitter.user.to_string(),
                    unix_account: job.submitter.unix_account.to_string(),
                    team: job.submitter.team.to_string(),
                    spec: job.spec.clone(),
                }))
            }
        };
        Some(Order {
            node,
            epoch,
            generation,
            issued_at,
            attempt: Some(attempt),
            what,
        })
    }

    /// All nodes, by name; banned ones last.
    pub fn nodes(&self, now: Now) -> Vec<NodeSummary> {
        let mut nodes: Vec<&Node> = self.nodes.values().collect();
        nodes.sort_by_key(|node| (node.row.standing == Standing::Banned, &node.row.name, node.row.id));
        nodes
            .into_iter()
            .map(|node| self.node_summary(node, now))
            .collect()
    }

    pub(crate) fn node_summary(&self, node: &Node, now: Now) -> NodeSummary {
        let orphans = node.link.as_ref().map_or(0, |link| link.orphans.len());
        NodeSummary {
            id: node.row.id,
            name: node.row.name.clone(),
            pool: node.row.pool.clone(),
            condition: self.condition(node, now),
            last_seen: node.pulse.heard_at.or(node.progress.last_seen),
            inventory: node.row.inventory.clone(),
            warden_problem: node.pulse.warden_problem.clone(),
            sample: node.pulse.sample,
            workers: u32::try_from(node.books.attempts.len()).unwrap_or(u32::MAX),
            orphans: u32::try_from(orphans).unwrap_or(u32::MAX),
            assigned: node.books.held,
            labels: super::marks::labels(&node.row),
            taints: node.row.taints.clone(),
            version: node.row.version.clone(),
            word: node.pulse.word.as_deref().cloned(),
            ceiling: node.ceiling.as_ref().and_then(|row| {
                let applied = row.generation <= node.progress.applied;
                let ceiling = row.ceiling.clone();
                let at = row.at;
                // One that lifted everything is worth a word until the node knows.
                (!ceiling.is_lifted() || !applied).then_some(CeilingView { ceiling, at, applied })
            }),
        }
    }

    /// One node with everything.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str, now: Now) -> Result<NodeDetail, Refused> {
        let id = self.node_named(name)?;
        let node = self
            .nodes
            .get(&id)
            .ok_or_else(|| Refused::NodeUnknown(name.to_owned()))?;
        let rows = node.books.attempts.iter().filter_map(|id| self.attempts.get(id));
        let mut workers: Vec<NodeWorker> = rows.map(|row| self.node_worker(row)).collect();
        let orphans = node.link.iter().flat_map(|link| &link.orphans);
        workers.extend(orphans.map(|state| NodeWorker {
            label: state.attempt.unit_name(),
            user: String::new(),
            // The node may well have a record of it: it is the fleet that has none.
            state: Reported {
                orphan: true,
                ..state.clone()
            },
        }));
        let receipts = self.newest_receipts(Some(id), RECEIPTS_SHOWN);
        Ok(NodeDetail {
            summary: self.node_summary(node, now),
            workers,
            receipts: receipts.map(|(_, receipt)| Receipt::clone(receipt)).collect(),
        })
    }

    /// The newest receipts of a node or of all of them, at most so many, oldest first.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn receipts(&self, node: Option<&str>, last: usize) -> Result<Vec<NodeReceipt>, Refused> {
        let node = node.map(|name| self.node_named(name)).transpose()?;
        let told = self.newest_receipts(node, last);
        Ok(told
            .map(|(node, receipt)| NodeReceipt {
                node: self.node_name(node).unwrap_or_default(),
                worker: receipt.attempt.map_or_else(String::new, |id| self.label(id)),
                receipt: Receipt::clone(receipt),
            })
            .collect())
    }

    fn newest_receipts(
        &self,
        of: Option<NodeId>,
        last: usize,
    ) -> impl Iterator<Item = (NodeId, &Arc<Receipt>)> {
        let all = self.receipts.iter();
        let mut receipts: Vec<(NodeId, &Arc<Receipt>)> = all
            .filter(|((node, _, _), _)| of.is_none_or(|id| id == *node))
            .map(|((node, _, _), receipt)| (*node, receipt))
            .collect();
        // Of the same moment, as the node wrote them.
        receipts.sort_by_key(|(_, receipt)| receipt.at);
        let older = receipts.len().saturating_sub(last);
        receipts.into_iter().skip(older)
    }

    /// Like 412.3; empty for an attempt the fleet does not know.
    fn label(&self, attempt: AttemptId) -> String {
        let row = self.attempts.get(&attempt);
        let job = row.and_then(|row| self.jobs.get(&row.job));
        match (row, job) {
            (Some(row), Some(job)) => format!("{}.{}", job.row.number, row.worker),
            _ => String::new(),
        }
    }

    fn node_worker(&self, row: &AttemptRow) -> NodeWorker {
        let job = self.jobs.get(&row.job);
        NodeWorker {
            label: job.map_or_else(String::new, |job| format!("{}.{}", job.row.number, row.worker)),
            user: job
                .map(|job| job.row.submitter.user.to_string())
                .unwrap_or_default(),
            state: Reported {
                attempt: row.id,
                job: Some(row.job),
                phase: row.phase(),
                site: row.site.as_deref().cloned(),
                ended: row.ended().cloned(),
                orphan: false,
            },
        }
    }

    /// The name of a node.
    ///
    /// # Errors
    /// When there is none.
    pub fn node_name(&self, id: NodeId) -> Result<String, Refused> {
        let node = self
            .nodes
            .get(&id)
            .ok_or_else(|| Refused::NodeUnknown(id.to_string()))?;
        Ok(node.row.name.clone())
    }

    /// The open session of a node.
    pub fn session(&self, id: NodeId) -> Option<SessionId> {
        self.nodes.get(&id)?.link.as_ref()?.session
    }

    /// The fleet in one line.
    pub fn status(&self, now: Now) -> FleetStatus {
        let conditions: Vec<NodeCondition> = self
            .nodes
            .values()
            .map(|node| self.condition(node, now))
            .collect();
        let nodes = |wanted: &[NodeCondition]| {
            let count = conditions
                .iter()
                .filter(|condition| wanted.contains(condition))
                .count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let jobs = |wanted: fn(&JobStage) -> bool| {
            let count = self.jobs.values().filter(|job| wanted(&job.row.stage)).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        FleetStatus {
            epoch: self.epoch,
            nodes_ready: nodes(&[NodeCondition::Ready, NodeCondition::Draining]),
            nodes_silent: nodes(&[NodeCondition::Suspect, NodeCondition::Lost]),
            jobs_queued: jobs(|stage| *stage == JobStage::Queued),
            jobs_running: jobs(|stage| matches!(stage, JobStage::Running | JobStage::Ending(_))),
            store: self.store_note.clone(),
        }
    }

    /// The people and bans that trust checks.
    pub fn directory(&self) -> Directory {
        let person = |(name, row): (&String, &Arc<super::rows::UserRow>)| {
            let person = Person {
                role: row.role,
                unix_account: row.unix_account.clone(),
                team: row.team.clone(),
                banned: row.banned,
            };
            (name.clone(), person)
        };
        let banned = self
            .nodes
            .values()
            .filter(|node| node.row.standing == Standing::Banned);
        Directory {
            people: self.users.iter().map(person).collect(),
            banned_nodes: banned.map(|node| node.row.id).collect(),
        }
    }

    /// True if the job is done: nobody needs to watch it any more.
    pub fn is_done(&self, id: super::JobId) -> bool {
        let job = self.jobs.get(&id);
        job.is_none_or(|job| matches!(job.row.stage, JobStage::Done(..)))
    }
}
