//! A fleet in virtual time: jobs come, run and end as they will, and the planner is told what fleetd would tell it.

use std::collections::BTreeMap;
use std::sync::Arc;

use loadline_model::{
    Amounts, AttemptId, Bytes, CpuRequest, Elastic, JobId, MilliCpu, NodeId, Priority, Span, Tier, WallTime,
    WorkerRequest, Workers,
};
use loadline_placement::check::{self, Sharing};
use loadline_placement::policy::Team;
use loadline_placement::{
    Ending, HeldByTier, Line, Node, NodeState, Plan, Planner, Policy, QueueEntry, ReasonCode, Running,
    Snapshot, Wanted, Why,
};

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
            runs: 60,
            asked: None,
            team: String::new(),
            user: "ada".into(),
            tier: Tier::Standard,
            priority: Priority::NORMAL,
        }
    }
}

pub(crate) fn job_id(number: u64) -> JobId {
    JobId::from_slice(&u128::from(number).to_be_bytes()).unwrap()
}

struct Job {
    shape: Shape,
    submitted: u64,
    /// Workers that want an attempt.
    missing: Vec<u32>,
    done: u32,
    yielded: u32,
    waited: u64,
}

/// The fleet.
pub(crate) struct Day {
    policy: Policy,
    planner: Planner,
    nodes: BTreeMap<NodeId, Node>,
    teams: BTreeMap<String, Team>,
    jobs: BTreeMap<u64, Job>,
    running: BTreeMap<AttemptId, (Running, u64)>,
    clock: u64,
    next_attempt: u128,
    pub(crate) last: Plan,
    cpu_seconds: u64,
}

fn seconds(at: u64) -> WallTime {
    WallTime(i64::try_from(at * 1_000_000).unwrap())
}

impl Day {
    /// Nodes with so many CPUs each.
    pub(crate) fn new(cpus: &[u32], policy: Policy) -> Self {
        let mut day = Self {
            policy,
            planner: Planner::default(),
            nodes: BTreeMap::new(),
            teams: BTreeMap::new(),
            jobs: BTreeMap::new(),
            running: BTreeMap::new(),
            clock: 0,
            next_attempt: 1,
            last: Plan::default(),
            cpu_seconds: 0,
        };
        for (index, cpus) in cpus.iter().enumerate() {
            let amounts = Amounts {
                cpu: MilliCpu::from_cpus(*cpus),
                memory: Bytes::from_gib(1000),
                gpus: 0,
            };
            let node = Node {
                id: NodeId::from_slice(&[u8::try_from(index + 1).unwrap(); 16]).unwrap(),
                name: format!("n{index}"),
                pool: "default".into(),
                state: NodeState::Ready,
                lending: true,
                traits: Arc::default(),
                line: Line {
                    firm: amounts,
                    now: amounts,
                    whole_cpus: *cpus,
                    scratch: loadline_model::Bytes::ZERO,
                },
                exclusive_cpus: true,
                allow_teams: Vec::new(),
                held: HeldByTier::default(),
            };
            day.planner.put_node(node.clone()).unwrap();
            day.nodes.insert(node.id, node);
        }
        day
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock
    }

    pub(crate) fn set_team(&mut self, name: &str, team: Team) {
        self.teams.insert(name.into(), team);
        self.tell_everything();
    }

    /// As fleetd does when what a team may has changed.
    fn tell_everything(&mut self) {
        self.planner.forget_past();
        for (name, team) in &self.teams {
            self.planner.set_team(name, team.clone(), seconds(self.clock));
        }
        for (running, _) in self.running.values() {
            self.planner.put_running(running);
        }
    }

    pub(crate) fn submit(&mut self, shape: Shape) {
        let job = Job {
            missing: (0..shape.workers).collect(),
            submitted: self.clock,
            done: 0,
            yielded: 0,
            waited: 0,
            shape,
        };
        let number = job.shape.number;
        self.jobs.insert(number, job);
        self.tell(number);
    }

    fn entry(&self, job: &Job) -> QueueEntry {
        let shape = &job.shape;
        let workers = if shape.gang {
            Workers::Elastic(Elastic {
                min: shape.workers,
                max: shape.workers,
            })
        } else {
            Workers::Fixed(shape.workers)
        };
        let present = shape.workers - u32::try_from(job.missing.len()).unwrap();
        QueueEntry {
            job: job_id(shape.number),
            number: shape.number,
            tier: shape.tier,
            priority: shape.priority,
            submitted_at: seconds(job.submitted),
            time: shape.asked.map(Span::from_secs),
            grace: Rules::default().grace,
            request: WorkerRequest {
                cpus: CpuRequest::Exclusive(shape.cpus),
                memory: Bytes::from_gib(1),
                gpus: 0,
            },
            wanted: Wanted::new(workers, present, job.missing.clone()),
            user: shape.user.clone(),
            team: shape.team.clone(),
            needs: Arc::default(),
            ties: None,
            nodes: Vec::new(),
            refusals: Vec::new(),
        }
    }

    fn tell(&mut self, number: u64) {
        let job = &self.jobs[&number];
        if job.missing.is_empty() {
            self.planner.remove_job(job_id(number));
        } else {
            self.planner.put_job(&self.entry(job));
        }
    }

    fn queue(&self) -> Vec<QueueEntry> {
        let jobs = self.jobs.values().filter(|job| !job.missing.is_empty());
        jobs.map(|job| self.entry(job)).collect()
    }

    /// Ends what is due, plans, carries the plan out. Who has started.
    pub(crate) fn step(&mut self) -> Vec<Shape> {
        self.end_what_is_due();
        let mut started = Vec::new();
        let mut all = Plan::default();
        for round in 0.. {
            assert!(round < 50, "the plan never comes to its end");
            started.extend(self.plan());
            all.assignments.append(&mut self.last.assignments);
            all.evictions.append(&mut self.last.evictions);
            if !self.last.more {
                break;
            }
        }
        self.last = all;
        started
    }

    fn plan(&mut self) -> Vec<Shape> {
        let (now, queue) = (seconds(self.clock), self.queue());
        let snapshot = Snapshot {
            nodes: self.nodes.values().cloned().collect(),
        };
        let mut sharing = Sharing {
            running: self
                .running
                .values()
                .map(|(running, _)| running.clone())
                .collect(),
            teams: self.teams.clone().into_iter().collect(),
            ..Sharing::of(&self.planner, now)
        };
        let plan = self.planner.plan(&self.policy, now);
        sharing.still_kept(&self.planner);
        assert_eq!(check::violations(&snapshot, &queue, &plan, now), vec![]);
        assert_eq!(check::unfair(&snapshot, &queue, &sharing, &plan), vec![]);
        let mut started = Vec::new();
        for given in &plan.assignments {
            let number = number_of(given.job);
            started.extend(self.start(number, given.worker, given.node));
        }
        for eviction in &plan.evictions {
            let grace = Rules::default().grace.0 / 1_000_000;
            let (running, ends) = self.running.get_mut(&eviction.attempt).unwrap();
            running.stopping = true;
            *ends = (*ends).min(self.clock + grace);
            self.planner.put_running(running);
        }
        self.last = plan;
        started
    }

    fn start(&mut self, number: u64, worker: u32, node: NodeId) -> Option<Shape> {
        let id = AttemptId::from_slice(&self.next_attempt.to_be_bytes()).unwrap();
        self.next_attempt += 1;
        let job = self.jobs.get_mut(&number).unwrap();
        job.missing.retain(|other| *other != worker);
        job.waited = job.waited.max(self.clock - job.submitted);
        let (shape, yielded) = (job.shape.clone(), job.yielded);
        let entry = self.entry(&self.jobs[&number]);
        let running = Running {
            attempt: id,
            job: entry.job,
            worker,
            node,
            tier: entry.tier,
            priority: entry.priority,
            request: entry.request,
            needs: Arc::clone(&entry.needs),
            user: entry.user.clone(),
            team: entry.team.clone(),
            started: seconds(self.clock),
            limit: entry.time.map(|time| time.plus(entry.grace)),
            grace: entry.grace,
            yielded,
            gang: shape.gang,
            stopping: false,
            given_up: None,
        };
        let held = self.nodes.get_mut(&node).unwrap();
        held.held.add(entry.tier, &entry.request, &entry.needs);
        self.planner.put_node(held.clone()).unwrap();
        self.planner.put_running(&running);
        self.running.insert(id, (running, self.clock + shape.runs));
        self.tell(number);
        Some(shape)
    }

    fn end_what_is_due(&mut self) {
        let due: Vec<AttemptId> = self
            .running
            .iter()
            .filter(|(_, (_, ends))| *ends <= self.clock)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let (running, _) = self.running.remove(&id).unwrap();
            let number = number_of(running.job);
            let ran = self.clock - u64::try_from(running.started.0).unwrap() / 1_000_000;
            self.cpu_seconds += ran * running.request.cpus.amount().0 / 1000;
            let node = self.nodes.get_mut(&running.node).unwrap();
            node.held.remove(running.tier, &running.request, &running.needs);
            self.planner.put_node(node.clone()).unwrap();
            let ending = Ending {
                at: seconds(self.clock),
                own: !running.stopping,
            };
            self.planner.remove_running(id, Some(ending));
            let job = self.jobs.get_mut(&number).unwrap();
            if running.stopping {
                job.missing.push(running.worker);
                job.missing.sort_unstable();
                job.yielded += 1;
                job.submitted = job.submitted.min(self.clock);
            } else {
                job.done += 1;
            }
            self.tell(number);
        }
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.clock += seconds;
    }

    /// Goes on to when something ends, a minute at most.
    pub(crate) fn next_event(&mut self) {
        let next = self.running.values().map(|(_, ends)| *ends).min();
        let next = next.unwrap_or(u64::MAX).min(self.clock + 60);
        self.clock = next.max(self.clock + 1);
    }

    pub(crate) fn evicted(&self) -> usize {
        self.last.evictions.len()
    }

    pub(crate) fn is_done(&self, number: u64) -> bool {
        let job = &self.jobs[&number];
        job.done == job.shape.workers
    }

    pub(crate) fn waits_longest_of(&self, user: &str) -> u64 {
        let jobs = self.jobs.values().filter(|job| job.shape.user == user);
        jobs.map(|job| job.waited).max().unwrap_or(0)
    }

    /// The part of the machine that was used so far.
    pub(crate) fn used(&self) -> f64 {
        let cpus: u64 = self.nodes.values().map(|node| node.line.firm.cpu.0 / 1000).sum();
        self.cpu_seconds as f64 / (cpus * self.clock) as f64
    }

    pub(crate) fn why(&self, number: u64) -> Option<Why> {
        self.planner
            .why(job_id(number), &self.policy, seconds(self.clock))
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting_numbers().len()
    }

    pub(crate) fn waiting_numbers(&self) -> Vec<u64> {
        let waiting = self.jobs.iter().filter(|(_, job)| !job.missing.is_empty());
        waiting.map(|(number, _)| *number).collect()
    }

    /// True if the job would start on an empty fleet.
    pub(crate) fn is_feasible(&self, number: u64) -> bool {
        let shape = &self.jobs[&number].shape;
        let room = |node: &Node| u64::from(node.line.whole_cpus / shape.cpus);
        let all: u64 = self.nodes.values().map(room).sum();
        all >= if shape.gang { shape.workers.into() } else { 1 }
    }

    /// How many of the job's workers start if only it and those for whom room is kept want anything, or it alone, so that
    /// nothing is kept; with the quota or the lack of room on some nodes taken away.
    fn without(&self, number: u64, quota: bool, alone: bool, room: &[String]) -> usize {
        let (mut planner, now) = (self.planner.clone(), seconds(self.clock));
        let policy = Policy {
            yielding: None,
            ..self.policy
        };
        // Whoever rests is asked again.
        planner.set_team("nobody", Team::default(), now);
        if quota {
            let team = &self.jobs[&number].shape.team;
            planner.set_team(team, Team::default(), now);
        }
        for node in self.nodes.values().filter(|node| room.contains(&node.name)) {
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
        let everywhere: Vec<String> = self.nodes.values().map(|node| node.name.clone()).collect();
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
        let gang = self.jobs[&number].shape.gang;
        let repaired: &[String] = match reasons.first() {
            Some(first) if gang || first.code == ReasonCode::NotAllTogether => &everywhere,
            Some(first) if first.code != ReasonCode::KeptForOthers => &first.examples,
            _ => &[],
        };
        let started = self.without(number, quota, true, repaired);
        assert!(started > 0, "{reasons:?} are all that is named for job {number}");
    }
}

fn number_of(job: JobId) -> u64 {
    let bytes = *job.as_bytes();
    u64::try_from(u128::from_be_bytes(bytes)).unwrap()
}
