//! Placement's eyes and hands: the snapshot and the queue it decides on, and its plan carried out.

use std::sync::Arc;

use loadline_model::{Amounts, AttemptPhase, Bytes, JobId, NODE_GPUS_MAX, Workers};
use loadline_placement::{
    Assignment, Line, Node as Candidate, NodeState, QueueEntry, Refusal, Snapshot, Wanted, Why,
};

use super::command::{JobRef, Now};
use super::node_types::LendMode;
use super::refused::Refused;
use super::rows::{AttemptRow, AttemptStage, Avoid, JobRow, OrderWhat, Standing, WorkerRow, WorkerStage};
use super::tx::Tx;
use super::view::{BlockingReason, Explanation, NodeCondition};
use super::{Job, Node, State};

impl State {
    pub(crate) fn snapshot(&self, now: Now) -> Snapshot {
        let nodes = self
            .nodes
            .values()
            .filter(|node| node.row.standing != Standing::Forgotten);
        Snapshot {
            nodes: nodes.map(|node| self.candidate(node, now)).collect(),
        }
    }

    /// A node as placement sees it.
    pub(crate) fn candidate(&self, node: &Node, now: Now) -> Candidate {
        let state = match self.condition(node, now) {
            // An agent without its warden is as good as silent: an order would lie there unread.
            NodeCondition::Ready if node.pulse.warden_problem.is_some() => NodeState::Unattended,
            NodeCondition::Ready if self.is_connected(node, now) => NodeState::Ready,
            NodeCondition::Ready | NodeCondition::Suspect => NodeState::Suspect,
            NodeCondition::Lost | NodeCondition::Forgotten => NodeState::Lost,
            NodeCondition::Draining => NodeState::Draining,
            NodeCondition::NeverSeen => NodeState::NeverSeen,
            NodeCondition::Banned => NodeState::Banned,
        };
        let inventory = node.row.inventory.as_deref();
        Candidate {
            id: node.row.id,
            name: node.row.name.clone(),
            pool: node.row.pool.clone(),
            state,
            // What was said counts at once, also before the node has it.
            lending: inventory.is_some_and(|inventory| inventory.mode == LendMode::Enforce)
                && !node.ceiling.as_ref().is_some_and(|row| row.ceiling.is_closed()),
            traits: Arc::clone(&node.traits),
            line: line(node),
            exclusive_cpus: inventory.is_some_and(|inventory| inventory.exclusive_cpus),
            allow_teams: inventory
                .map(|inventory| inventory.allow_teams.clone())
                .unwrap_or_default(),
            held: node.books.held,
        }
    }

    /// All who wait, for the checks.
    #[cfg(debug_assertions)]
    pub(crate) fn queue_entries(&self, now: Now) -> Vec<QueueEntry> {
        let jobs = self.queue.iter().filter_map(|id| self.jobs.get(id));
        let jobs = jobs.filter(|job| self.ready(&job.row) == loadline_placement::policy::Ready::Now);
        jobs.map(|job| self.entry(job, now)).collect()
    }

    /// A job as placement sees it.
    pub(crate) fn entry(&self, job: &Job, now: Now) -> QueueEntry {
        let (mut missing, mut present) = (Vec::new(), 0);
        for (index, worker) in (0u32..).zip(&job.workers) {
            match worker.stage {
                WorkerStage::Waiting => missing.push(index),
                WorkerStage::Active(_) | WorkerStage::Succeeded => present += 1,
                WorkerStage::Failed(_) | WorkerStage::Dropped => {}
            }
        }
        // Placement reckons in wall time: a pause that is over by the monotonic clock is left out.
        let holds = |avoid: &Avoid| avoid.until.is_none_or(|until| until > now.mono);
        let refusals = job
            .avoid
            .iter()
            .filter(|(_, avoid)| holds(avoid))
            .map(|(node, avoid)| Refusal {
                node: *node,
                until: avoid.until.map(|until| now.wall.plus(until.minus(now.mono))),
                why: avoid.why.clone(),
            });
        QueueEntry {
            job: job.row.id,
            number: job.row.number,
            tier: job.row.spec.tier,
            priority: job.row.spec.priority,
            submitted_at: job.row.submitted_at,
            time: job.row.spec.time,
            grace: job.row.spec.grace,
            request: job.row.spec.worker,
            wanted: {
                let wanted = Wanted::new(job.row.spec.workers, present, missing);
                if job.row.spec.gang { wanted.gang() } else { wanted }
            },
            needs: Arc::clone(&job.row.spec.needs),
            ties: self.ties(job),
            user: job.row.submitter.user.to_string(),
            team: job.row.submitter.team.to_string(),
            nodes: job.row.spec.nodes.clone(),
            refusals: refusals.collect(),
        }
    }

    /// Why a job waits.
    ///
    /// # Errors
    /// When there is none.
    pub fn explain(&self, job: JobRef, now: Now) -> Result<Explanation, Refused> {
        let job = self.find_job(job)?;
        let summary = self.summary(job);
        if !self.queue.contains(&job.row.id) {
            return Ok(Explanation {
                summary,
                reasons: Vec::new(),
                change: String::new(),
                nodes_considered: 0,
                expected: None,
                before: 0,
            });
        }
        if let Some(waits) = self.waits(&job.row) {
            let reason = BlockingReason {
                code: waits.code.to_owned(),
                sentence: waits.sentence,
                nodes: 0,
                examples: Vec::new(),
            };
            return Ok(Explanation {
                summary,
                reasons: vec![reason],
                change: waits.advice,
                nodes_considered: 0,
                expected: None,
                before: 0,
            });
        }
        // As of the last plan, which follows every change.
        let why = self.planner.why(job.row.id, &self.policy, now.wall);
        let why = why.unwrap_or_else(|| {
            loadline_placement::explain(&self.snapshot(now), &self.entry(job, now), now.wall)
        });
        let mut explanation = explanation(summary, &why);
        explanation.reasons.extend(self.beyond_least(job));
        Ok(explanation)
    }

    /// What an elastic job that has all it needs still waits for.
    fn beyond_least(&self, job: &Job) -> Option<BlockingReason> {
        let Workers::Elastic(elastic) = job.row.spec.workers else {
            return None;
        };
        let has = elastic.max.saturating_sub(job.waiting);
        if has < elastic.min {
            return None;
        }
        let gave_back = match job.yielded {
            0 => String::new(),
            1 => "; once a worker of it made room for another job".into(),
            times => format!("; {times} times a worker of it made room for another job"),
        };
        Some(BlockingReason {
            code: "beyond_least".into(),
            sentence: format!(
                "it needs {} of its workers and has {has}: those beyond come after what other jobs need{gave_back}",
                elastic.min
            ),
            nodes: 0,
            examples: Vec::new(),
        })
    }
}

impl State {
    /// What a waiting job waits for, as of the last plan: one phrase of a table.
    pub(crate) fn waits_for(&self, row: &JobRow) -> String {
        if let Some(waits) = self.waits(row) {
            return waits.sentence;
        }
        let (job, tier) = (row.id, row.spec.tier);
        let why = self.planner.line(job).and_then(|line| self.why_line(line, job));
        why.map_or_else(
            || format!("its turn in the {} queue", tier.word()),
            |why| why.phrase(),
        )
    }

    /// Jobs of one line wait for the same thing: it is worked out once for all of them.
    fn why_line(&self, line: u64, job: JobId) -> Option<Arc<Why>> {
        let version = self.planner.version();
        let mut whys = self.whys.borrow_mut();
        if let Some((_, why)) = whys.get(&line).filter(|(known, _)| *known == version) {
            return Some(Arc::clone(why));
        }
        whys.retain(|_, (known, _)| *known == version);
        let why = Arc::new(self.planner.why_line(job, self.planned_at)?);
        whys.insert(line, (version, Arc::clone(&why)));
        Some(why)
    }
}

fn explanation(summary: super::JobSummary, why: &Why) -> Explanation {
    let reasons = why.reasons.iter().map(|reason| BlockingReason {
        code: reason.code.word().to_owned(),
        sentence: reason.sentence.clone(),
        nodes: reason.nodes,
        examples: reason.examples.clone(),
    });
    Explanation {
        summary,
        reasons: reasons.collect(),
        change: why.advice(),
        nodes_considered: why.considered,
        expected: why.expected.and_then(|expected| expected.at),
        before: why.before,
    }
}

/// Both lines. Before the first sample the line of now is unknown, so burst gets nothing.
fn line(node: &Node) -> Line {
    let Some(inventory) = node.row.inventory.as_deref() else {
        return Line::default();
    };
    let firm = Amounts {
        // Larger machines lend the first so many.
        gpus: inventory.line.gpus.min(NODE_GPUS_MAX),
        ..inventory.line
    };
    let now = node.pulse.sample.map_or_else(Amounts::default, |sample| Amounts {
        cpu: sample.cpu.now,
        memory: sample.memory.now,
        gpus: firm.gpus,
    });
    Line {
        firm,
        now,
        whole_cpus: inventory.line_whole_cpus,
        // No node lends any yet.
        scratch: Bytes::ZERO,
    }
}

impl Tx<'_> {
    /// Places what waits, where anything changed since it was last tried.
    pub(crate) fn place(&mut self) {
        let now = self.now;
        self.state.tell_planner(now);
        #[cfg(debug_assertions)]
        let (snapshot, queue) = {
            let found = self.state.planner_differences(now);
            assert!(found.is_empty(), "placement was not told: {found:?}");
            (self.state.snapshot(now), self.state.queue_entries(now))
        };
        #[cfg(debug_assertions)]
        let mut sharing = self.state.sharing(now);
        let policy = self.state.policy;
        let plan = self.state.planner.plan(&policy, now.wall);
        #[cfg(debug_assertions)]
        {
            sharing.still_kept(&self.state.planner);
            check(&snapshot, &queue, &sharing, &plan, now.wall);
        }
        for assignment in &plan.assignments {
            self.assign(assignment);
        }
        for eviction in &plan.evictions {
            self.let_yield(eviction);
        }
        // So that what teams hold is what was just given.
        self.state.tell_attempts(now);
        self.state.planned_at = now.wall;
        self.state.unplanned = plan.more || !self.state.planner.is_settled();
    }

    fn assign(
        &mut self,
        Assignment {
            job: id,
            worker: index,
            node,
        }: &Assignment,
    ) {
        let Some(job) = self.state.jobs.get(id) else {
            return;
        };
        let Some(worker) = job.worker(*index) else { return };
        let number = job.row.number;
        let attempt = self.ids.attempt(self.now);
        let Some(on) = self.state.nodes.get(node) else {
            return;
        };
        let row = AttemptRow {
            id: attempt,
            job: *id,
            worker: *index,
            number: worker.attempts + 1,
            node: *node,
            generation: on.progress.generation.next(),
            assigned_at: self.now.wall,
            running_at: None,
            site: None,
            stage: AttemptStage::Live(AttemptPhase::Assigned),
            stop: None,
        };
        self.log("assigned", "fleet", format_args!("{number}.{index}"), attempt);
        self.put_attempt(row);
        let stage = WorkerStage::Active(attempt);
        self.put_worker(
            *id,
            *index,
            WorkerRow {
                attempts: worker.attempts + 1,
                stage,
                ..worker
            },
        );
        self.order(*node, attempt, OrderWhat::Start);
    }
}

#[cfg(debug_assertions)]
fn check(
    snapshot: &Snapshot,
    queue: &[QueueEntry],
    sharing: &loadline_placement::check::Sharing,
    plan: &loadline_placement::Plan,
    now: loadline_model::WallTime,
) {
    let found = loadline_placement::check::violations(snapshot, queue, plan, now);
    assert!(found.is_empty(), "placement broke its own rules: {found:?}");
    let found = loadline_placement::check::unfair(snapshot, queue, sharing, plan);
    assert!(
        found.is_empty(),
        "placement broke the rules of sharing: {found:?}"
    );
}
