//! What placement has to be told: which nodes and jobs have changed since it last was.
//!
//! The planner keeps its own books, so that a plan costs what has changed and not what there is. Approach: every
//! change of a row, done or undone, marks the node or job it concerns; before the next plan each of them is told
//! anew, as the state has it then. So there is no second way in which a commit that failed is undone, and after a
//! start everything is marked. Nodes also change by silence alone: each is marked when that is due.

#[cfg(debug_assertions)]
use std::collections::BTreeMap;
use std::collections::BTreeSet;

use loadline_model::{AttemptId, JobId, NodeId, Span};
use loadline_placement::policy::Ready;

use super::change::Change;
use super::command::Now;
use super::link::{LOST_AFTER, SUSPECT_AFTER};
use super::rows::{Avoid, Standing};
use super::{Node, State};

/// What has changed.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    nodes: BTreeSet<NodeId>,
    jobs: BTreeSet<JobId>,
    /// When, by the steady clock, a node is suspect or lost if nothing is heard of it.
    due: BTreeSet<(Span, NodeId)>,
    /// Jobs that leave a node alone for a while.
    paused: BTreeSet<JobId>,
    attempts: BTreeSet<AttemptId>,
    /// Nothing of what teams hold and have had is to be kept: all of it is told anew.
    past: bool,
}

impl Touched {
    /// Whatever was said of attempts is said again.
    pub(crate) fn past(&mut self) {
        self.past = true;
    }

    /// The attempts that have changed; none: all of them are to be told anew.
    pub(crate) fn take_attempts(&mut self) -> Option<BTreeSet<AttemptId>> {
        let attempts = std::mem::take(&mut self.attempts);
        (!std::mem::take(&mut self.past)).then_some(attempts)
    }

    pub(crate) fn node(&mut self, id: NodeId) {
        self.nodes.insert(id);
    }

    pub(crate) fn attempt(&mut self, id: AttemptId) {
        self.attempts.insert(id);
    }

    pub(crate) fn job(&mut self, id: JobId) {
        self.jobs.insert(id);
    }

    /// A row is about to change. Attempts are noted where they are counted on their nodes.
    pub(crate) fn note(&mut self, change: &Change) {
        match change {
            Change::Avoid(job, _, Some(Avoid { until: Some(_), .. })) => {
                self.jobs.insert(*job);
                self.paused.insert(*job);
            }
            Change::Job(id, _) | Change::Worker(id, ..) | Change::Avoid(id, ..) => {
                self.jobs.insert(*id);
            }
            Change::Node(id, _) | Change::Progress(id, _) | Change::Ceiling(id, _) | Change::Link(id, _) => {
                self.nodes.insert(*id);
            }
            Change::Attempt(id, _) => {
                self.attempts.insert(*id);
            }
            Change::Team(..) => self.past = true,
            Change::Order(..)
            | Change::Prove(..)
            | Change::Report(..)
            | Change::Counted(..)
            | Change::Costs(..)
            | Change::Ledger(..)
            | Change::Receipt(..)
            | Change::User(..)
            | Change::Member(..)
            | Change::Token(..)
            | Change::Bucket(..)
            | Change::LastBucket(..)
            | Change::ForgetBuckets(_)
            | Change::Log(_) => {}
        }
    }
}

impl State {
    /// Tells placement what has changed.
    pub(crate) fn tell_planner(&mut self, now: Now) {
        self.notice_silence(now);
        self.notice_time(now);
        self.tell_attempts(now);
        for id in std::mem::take(&mut self.touched.nodes) {
            let known = self.nodes.get(&id);
            let Some(node) = known.filter(|node| node.row.standing != Standing::Forgotten) else {
                self.planner.remove_node(id);
                continue;
            };
            if let Some(due) = self.next_due(node, now) {
                self.touched.due.insert((due, id));
            }
            let candidate = self.candidate(node, now);
            if let Err(error) = self.planner.put_node(candidate) {
                self.planner_problem = Some(format!("{}: {error}", node.row.name));
            }
        }
        for id in std::mem::take(&mut self.touched.jobs) {
            let waits = self.jobs.get(&id).filter(|_| self.queue.contains(&id));
            match waits.filter(|job| self.ready(&job.row) == Ready::Now) {
                None => self.planner.remove_job(id),
                Some(job) => self.planner.put_job(&self.entry(job, now)),
            }
        }
    }

    /// Marks the nodes that time alone has changed.
    fn notice_silence(&mut self, now: Now) {
        let steady = self.steady.at(now.mono);
        while let Some((due, id)) = self.touched.due.first().copied()
            && due <= steady
        {
            self.touched.due.pop_first();
            // If it was heard since, that is due at another time.
            let still = |node: &Node| [SUSPECT_AFTER, LOST_AFTER].map(|after| node.pulse.heard.plus(after));
            if self.nodes.get(&id).is_some_and(|node| still(node).contains(&due)) {
                self.touched.nodes.insert(id);
            }
        }
    }

    /// When silence changes the node next, if it can.
    fn next_due(&self, node: &Node, now: Now) -> Option<Span> {
        let silence = self.silence(node, now);
        let after = [SUSPECT_AFTER, LOST_AFTER]
            .into_iter()
            .find(|after| silence < *after)?;
        Some(node.pulse.heard.plus(after))
    }

    /// Time passed: pauses may be over.
    pub(crate) fn notice_pauses(&mut self, now: Now) {
        let Touched { jobs, paused, .. } = &mut self.touched;
        paused.retain(|id| {
            jobs.insert(*id);
            let Some(job) = self.jobs.get(id) else {
                return false;
            };
            let holds = |avoid: &Avoid| avoid.until.is_some_and(|until| until > now.mono);
            job.avoid.values().any(holds)
        });
    }

    /// What placement cannot do, since it was last asked.
    pub fn take_planner_problem(&mut self) -> Option<String> {
        self.planner_problem.take()
    }

    #[cfg(debug_assertions)]
    /// What placement knows otherwise than the state does, one sentence each; empty: all is well.
    pub(crate) fn planner_differences(&self, now: Now) -> Vec<String> {
        let mut found = Vec::new();
        let by_id = |nodes: Vec<loadline_placement::Node>| -> BTreeMap<_, _> {
            nodes.into_iter().map(|node| (node.id, node)).collect()
        };
        let (told, true_now) = (
            by_id(self.planner.snapshot().nodes),
            by_id(self.snapshot(now).nodes),
        );
        if told != true_now {
            found.push(format!("placement's nodes are {told:?}, and truly {true_now:?}"));
        }
        let told = self.planner.queue();
        let told: BTreeMap<_, _> = told.iter().map(|entry| (entry.job, &entry.wanted)).collect();
        let entries = self.queue_entries(now);
        let true_now: BTreeMap<_, _> = entries.iter().map(|entry| (entry.job, &entry.wanted)).collect();
        if told != true_now {
            found.push(format!("placement's queue is {told:?}, and truly {true_now:?}"));
        }
        found
    }
}
