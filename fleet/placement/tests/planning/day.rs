//! A fleet in virtual time, minute by minute: each plan is judged by the independent checkers.

use std::collections::BTreeMap;
use std::sync::Arc;

use loadline_model::{
    Amounts, Bytes, CpuRequest, Elastic, JobId, MilliCpu, NodeId, Priority, Span, Tier, WorkerRequest,
    Workers,
};
use loadline_placement::check;
use loadline_placement::policy::Team;
use loadline_placement::sim::{Fleet, Planned, What, Work};
use loadline_placement::{HeldByTier, Line, Node, NodeState, Plan, Policy, ReasonCode, Why};

/// What is the same for all jobs.
#[derive(Debug)]
pub(crate) struct Rules {
    /// How long a worker takes to end when asked.
    pub(crate) grace: Span,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            grace: Span::from_secs(10),
        }
    }
}

/// A job: what its user says, and what will happen.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) number: u64,
    pub(crate) cpus: u32,
    pub(crate) workers: u32,
    pub(crate) gang: bool,
    /// It runs with so many of its workers.
    pub(crate) least: Option<u32>,
    /// In seconds.
    pub(crate) runs: u64,
    pub(crate) asked: Option<u64>,
    pub(crate) team: String,
    pub(crate) user: String,
    pub(crate) tier: Tier,
    pub(crate) priority: Priority,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            number: 0,
            cpus: 1,
            workers: 1,
            gang: false,
            least: None,
            runs: 60,
            asked: None,
            team: String::new(),
            user: "ada".into(),
            tier: Tier::Standard,
            priority: Priority::NORMAL,
        }
    }
}

impl Shape {
    fn work(&self) -> Work {
        let request = WorkerRequest {
            cpus: CpuRequest::Exclusive(self.cpus),
            memory: Bytes::from_gib(1),
            gpus: 0,
        };
        Work {
            workers: match self.least {
                Some(min) => Workers::Elastic(Elastic {
                    min,
                    max: self.workers,
                }),
                None => Workers::Fixed(self.workers),
            },
            gang: self.gang,
            time: self.asked.map(Span::from_secs),
            grace: Rules::default().grace,
            tier: self.tier,
            priority: self.priority,
            user: self.user.clone(),
            team: self.team.clone(),
            ..Work::new(self.number, request, Span::from_secs(self.runs))
        }
    }
}

pub(crate) fn job_id(number: u64) -> JobId {
    Work::id(number)
}

/// The fleet, and what was seen of it.
pub(crate) struct Day {
    fleet: Fleet,
    shapes: BTreeMap<u64, (Shape, u64)>,
    /// When each worker that runs was started, in seconds.
    since: BTreeMap<(u64, u32), u64>,
    waited: BTreeMap<String, u64>,
    cpu_seconds: u64,
    pub(crate) last: Plan,
}

fn node(index: usize, cpus: u32) -> Node {
    let amounts = Amounts {
        cpu: MilliCpu::from_cpus(cpus),
        memory: Bytes::from_gib(1000),
        gpus: 0,
    };
    Node {
        id: NodeId::from_slice(&[u8::try_from(index + 1).unwrap(); 16]).unwrap(),
        name: format!("n{index}"),
        pool: "default".into(),
        state: NodeState::Ready,
        lending: true,
        traits: Arc::default(),
        line: Line {
            firm: amounts,
            now: amounts,
            whole_cpus: cpus,
            scratch: Bytes::ZERO,
        },
        exclusive_cpus: true,
        allow_teams: Vec::new(),
        held: HeldByTier::default(),
    }
}

impl Day {
    /// Nodes with so many CPUs each.
    pub(crate) fn new(cpus: &[u32], policy: Policy) -> Self {
        let mut fleet = Fleet::new(policy);
        for (index, cpus) in cpus.iter().enumerate() {
            fleet.put_node(node(index, *cpus)).unwrap();
        }
        Self {
            fleet,
            shapes: BTreeMap::new(),
            since: BTreeMap::new(),
            waited: BTreeMap::new(),
            cpu_seconds: 0,
            last: Plan::default(),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.fleet.now().0).unwrap() / 1_000_000
    }

    pub(crate) fn set_team(&mut self, name: &str, team: Team) {
        self.fleet.set_team(name, team);
    }

    pub(crate) fn submit(&mut self, shape: Shape) {
        self.fleet.submit(shape.work());
        self.shapes.insert(shape.number, (shape, self.now()));
    }

    /// Ends what is due, plans, carries the plan out. Who has started.
    pub(crate) fn step(&mut self) -> Vec<Shape> {
        let mut all = Plan::default();
        let mut judge = |planned: &Planned<'_>| {
            let Planned {
                snapshot,
                queue,
                sharing,
                plan,
                now,
            } = planned;
            assert_eq!(check::violations(snapshot, queue, plan, *now), vec![]);
            assert_eq!(check::unfair(snapshot, queue, sharing, plan), vec![]);
            all.assignments.extend(&plan.assignments);
            all.evictions.extend(&plan.evictions);
            all.more = plan.more;
        };
        let happened = self.fleet.step_judged(Some(&mut judge));
        assert!(!all.more, "the plan never comes to its end");
        self.last = all;
        let mut started = Vec::new();
        for it in happened {
            let (now, worker) = (self.now(), (it.number, it.worker));
            let (shape, submitted) = &self.shapes[&it.number];
            match it.what {
                What::Started => {
                    self.since.insert(worker, now);
                    let waited = self.waited.entry(shape.user.clone()).or_default();
                    *waited = (*waited).max(now - submitted);
                    started.push(shape.clone());
                }
                What::Ended | What::Gone => {
                    let ran = now - self.since.remove(&worker).unwrap();
                    self.cpu_seconds += ran * u64::from(shape.cpus);
                }
                What::Asked { .. } => {}
            }
        }
        started
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.fleet.go_to(self.fleet.now().plus(Span::from_secs(seconds)));
    }

    /// Goes on to when something ends, a minute at most.
    pub(crate) fn next_event(&mut self) {
        let now = self.fleet.now();
        let minute = now.plus(Span::from_secs(60));
        let next = self.fleet.next_end().unwrap_or(minute).min(minute);
        self.fleet.go_to(next.max(now.plus(Span::from_secs(1))));
    }

    /// How many of its workers run and were not asked to stop.
    pub(crate) fn staying(&self, number: u64) -> usize {
        let running = self.fleet.running();
        running
            .filter(|running| running.job == job_id(number) && !running.stopping)
            .count()
    }

    pub(crate) fn evicted(&self) -> usize {
        self.last.evictions.len()
    }

    pub(crate) fn is_done(&self, number: u64) -> bool {
        self.fleet.is_done(number)
    }

    pub(crate) fn waits_longest_of(&self, user: &str) -> u64 {
        self.waited.get(user).copied().unwrap_or(0)
    }

    /// The part of the machine that was used so far.
    pub(crate) fn used(&self) -> f64 {
        let cpus: u64 = self.fleet.nodes().map(|node| node.line.firm.cpu.0 / 1000).sum();
        self.cpu_seconds as f64 / (cpus * self.now()) as f64
    }

    pub(crate) fn why(&self, number: u64) -> Option<Why> {
        let (fleet, now) = (&self.fleet, self.fleet.now());
        fleet.planner().why(job_id(number), fleet.policy(), now)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting_numbers().len()
    }

    pub(crate) fn waiting_numbers(&self) -> Vec<u64> {
        self.fleet.queue().iter().map(|entry| entry.number).collect()
    }

    /// True if the job would start on an empty fleet.
    pub(crate) fn is_feasible(&self, number: u64) -> bool {
        let (shape, _) = &self.shapes[&number];
        let room = |node: &Node| u64::from(node.line.whole_cpus / shape.cpus);
        let all: u64 = self.fleet.nodes().map(room).sum();
        all >= if shape.gang {
            shape.workers
        } else {
            shape.least.unwrap_or(1)
        }
        .into()
    }

    /// How many of the job's workers start if only it and those for whom room is kept want anything, or it alone, so that
    /// nothing is kept; with the quota or the lack of room on some nodes taken away.
    fn without(&self, number: u64, quota: bool, alone: bool, room: &[String]) -> usize {
        let (mut planner, now) = (self.fleet.planner().clone(), self.fleet.now());
        let policy = Policy {
            yielding: None,
            ..*self.fleet.policy()
        };
        // Whoever rests is asked again.
        planner.set_team("nobody", Team::default(), now);
        if quota {
            let team = &self.shapes[&number].0.team;
            planner.set_team(team, Team::default(), now);
        }
        for node in self.fleet.nodes().filter(|node| room.contains(&node.name)) {
            let mut node = node.clone();
            let more = Amounts {
                cpu: MilliCpu::from_cpus(100),
                ..Amounts::default()
            };
            node.line.firm = node.line.firm.plus(more);
            node.line.now = node.line.now.plus(more);
            node.line.whole_cpus += 100;
            planner.put_node(node).unwrap();
        }
        let kept: Vec<JobId> = planner.kept().map(|kept| kept.job).collect();
        for other in self.waiting_numbers() {
            if other != number && (alone || !kept.contains(&job_id(other))) {
                planner.remove_job(job_id(other));
            }
        }
        let plan = planner.plan(&policy, now);
        plan.assignments
            .iter()
            .filter(|it| it.job == job_id(number))
            .count()
    }

    /// What is named keeps the job away, and nothing else does: with the quota lifted, if it is named, and the nearest
    /// node repaired, it starts; with any of that left, it does not.
    pub(crate) fn judge_why(&self, number: u64) {
        let why = self.why(number).unwrap();
        let mut reasons = why.reasons.clone();
        reasons.retain(|reason| reason.code != ReasonCode::BehindOthers);
        if reasons.is_empty() {
            panic!("job {number} waits for nothing: {why:?}");
        }
        let everywhere: Vec<String> = self.fleet.nodes().map(|node| node.name.clone()).collect();
        let quota = reasons[0].code == ReasonCode::QuotaReached;
        assert_eq!(
            self.without(number, false, false, &[]),
            0,
            "job {number} could start: {why:?}"
        );
        if quota {
            let left = self.without(number, false, true, &everywhere);
            assert_eq!(left, 0, "the quota does not keep job {number} away: {why:?}");
            reasons.remove(0);
        }
        // That the first of the others is needed was seen above, where there is no quota in the way.
        // What keeps one worker away is told; a gang needs more than one.
        let shape = &self.shapes[&number].0;
        let gang = shape.gang || shape.least.is_some();
        let repaired: &[String] = match reasons.first() {
            Some(first) if gang || first.code == ReasonCode::NotAllTogether => &everywhere,
            Some(first) if first.code != ReasonCode::KeptForOthers => &first.examples,
            _ => &[],
        };
        let started = self.without(number, quota, true, repaired);
        assert!(started > 0, "{reasons:?} are all that is named for job {number}");
    }
}
