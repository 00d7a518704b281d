//! The planner as fleetd keeps it: shares, quotas, room that is kept, and a long queue of several teams.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use loadline_model::{
    Amounts, AttemptId, Bytes, CpuRequest, JobId, MilliCpu, NodeId, Priority, Span, Tier, WallTime,
    WorkerRequest, Workers,
};
use loadline_placement::policy::Team;
use loadline_placement::{
    Ending, HeldByTier, Line, Node, NodeState, Planner, Policy, QueueEntry, Running, Terms, Wanted,
};
use serde_json::json;

use crate::measure::{now, on_cpu};
use crate::random::Random;

const TEAMS: usize = 5;
const SHAPES: usize = 500;
const WAITING: usize = 100_000;
const NODE_CPUS: u32 = 64;

struct Fleet {
    planner: Planner,
    nodes: BTreeMap<NodeId, Node>,
    running: Vec<Running>,
    random: Random,
    clock: i64,
    next: u128,
    users: usize,
    limits: usize,
}

fn request(shape: usize) -> WorkerRequest {
    let cpus = [1, 2, 4, 8, 16][shape % 5];
    WorkerRequest {
        cpus: CpuRequest::Exclusive(cpus),
        memory: Bytes::from_mib(u64::from(cpus) * 1024 + shape as u64),
        gpus: 0,
    }
}

impl Fleet {
    fn new(nodes: u32, seed: u64, (users, limits): (usize, usize)) -> Result<Self> {
        let mut fleet = Self {
            planner: Planner::default(),
            nodes: BTreeMap::new(),
            running: Vec::new(),
            random: Random(seed),
            clock: 1_000_000_000_000,
            next: 1,
            users,
            limits,
        };
        for team in 0..TEAMS {
            let rules = Team {
                weight: 100 * (u32::try_from(team)? + 1),
                ..Team::default()
            };
            fleet
                .planner
                .set_team(&format!("team{team}"), rules, WallTime(fleet.clock));
        }
        for number in 0..nodes {
            let amounts = Amounts {
                cpu: MilliCpu::from_cpus(NODE_CPUS),
                memory: Bytes::from_gib(256),
                gpus: 0,
            };
            let node = Node {
                id: NodeId::from_slice(&u128::from(number).to_be_bytes()).context("sixteen bytes")?,
                name: format!("n{number}"),
                pool: "default".into(),
                state: NodeState::Ready,
                lending: true,
                traits: std::sync::Arc::default(),
                line: Line {
                    firm: amounts,
                    now: amounts,
                    whole_cpus: NODE_CPUS,
                    scratch: loadline_model::Bytes::ZERO,
                },
                exclusive_cpus: true,
                allow_teams: Vec::new(),
                held: HeldByTier::default(),
            };
            fleet.planner.put_node(node.clone())?;
            fleet.nodes.insert(node.id, node);
        }
        Ok(fleet)
    }

    fn entry(&mut self) -> Result<QueueEntry> {
        let (number, user) = (self.next, self.random.below(self.users));
        self.next += 1;
        let shape = self.random.below(SHAPES);
        Ok(QueueEntry {
            job: JobId::from_slice(&number.to_be_bytes()).context("sixteen bytes")?,
            number: u64::try_from(number)?,
            tier: Tier::Standard,
            priority: Priority::NORMAL,
            submitted_at: WallTime(self.clock),
            time: Some(Span::from_secs(
                3600 * (1 + self.random.below(self.limits) as u64),
            )),
            grace: Span::from_secs(30),
            request: request(shape),
            wanted: Wanted::new(Workers::Fixed(1), 0, vec![0]),
            user: format!("user{user}"),
            team: format!("team{}", user % TEAMS),
            nodes: Vec::new(),
            needs: std::sync::Arc::default(),
            ties: None,
            refusals: Vec::new(),
        })
    }

    /// Plans until nothing fits, and says that all of it runs.
    fn settle(&mut self, jobs: &mut BTreeMap<JobId, QueueEntry>) -> Result<usize> {
        let mut placed = 0;
        loop {
            let plan = self.planner.plan(&Policy::default(), WallTime(self.clock));
            placed += plan.assignments.len();
            for given in &plan.assignments {
                let entry = jobs.remove(&given.job).context("a job that was not queued")?;
                self.start(&entry, given.node)?;
            }
            if !plan.more {
                return Ok(placed);
            }
        }
    }

    fn start(&mut self, entry: &QueueEntry, node: NodeId) -> Result<()> {
        let id = self.next;
        self.next += 1;
        let running = Running {
            attempt: AttemptId::from_slice(&id.to_be_bytes()).context("sixteen bytes")?,
            job: entry.job,
            worker: 0,
            node,
            terms: Arc::new(Terms {
                tier: entry.tier,
                priority: entry.priority,
                request: entry.request,
                needs: Arc::clone(&entry.needs),
                user: entry.user.as_str().into(),
                team: entry.team.as_str().into(),
                limit: entry.time,
                grace: entry.grace,
                least: None,
            }),
            submitted_at: entry.submitted_at,
            started: WallTime(self.clock),
            yielded: 0,
            stopping: false,
            given_up: None,
        };
        let held = self.nodes.get_mut(&node).context("a node that is not there")?;
        held.held.add(entry.tier, &entry.request, &entry.needs);
        self.planner.put_node(held.clone())?;
        self.planner.put_running(&running);
        self.running.push(running);
        Ok(())
    }

    fn end_some(&mut self, of: usize) -> Result<()> {
        for _ in 0..self.running.len() / of {
            let ended = self.running.swap_remove(self.random.below(self.running.len()));
            let node = self
                .nodes
                .get_mut(&ended.node)
                .context("a node that is not there")?;
            node.held.remove(ended.tier, &ended.request, &ended.needs);
            self.planner.put_node(node.clone())?;
            let at = WallTime(self.clock);
            self.planner
                .remove_running(ended.attempt, Some(Ending { at, own: true }));
        }
        Ok(())
    }
}

/// How long a plan takes with 100,000 jobs of 500 shapes waiting, of so many users and time limits, once a hundredth of
/// the work has ended, and how long one that finds nothing to do.
pub(crate) fn turns(nodes: u32, seed: u64, kinds: (usize, usize)) -> Result<serde_json::Value> {
    let mut fleet = Fleet::new(nodes, seed, kinds)?;
    let mut jobs = BTreeMap::new();
    let top_up = |fleet: &mut Fleet, jobs: &mut BTreeMap<JobId, QueueEntry>| -> Result<()> {
        while jobs.len() < WAITING {
            let entry = fleet.entry()?;
            fleet.planner.put_job(&entry);
            jobs.insert(entry.job, entry);
        }
        Ok(())
    };
    while {
        top_up(&mut fleet, &mut jobs)?;
        fleet.settle(&mut jobs)? > 0
    } {}
    ensure!(jobs.len() == WAITING, "{} wait", jobs.len());
    let (mut took, mut idle, mut placed) = (Vec::new(), Vec::new(), 0);
    let mut cpu = std::time::Duration::ZERO;
    for _ in 0..20 {
        fleet.clock += 2_000_000;
        fleet.end_some(100)?;
        let (begun, used) = (now(), on_cpu()?);
        let plan = fleet.planner.plan(&Policy::default(), WallTime(fleet.clock));
        took.push(begun.elapsed());
        cpu += on_cpu()? - used;
        placed += plan.assignments.len();
        for given in &plan.assignments {
            let entry = jobs.remove(&given.job).context("a job that was not queued")?;
            fleet.start(&entry, given.node)?;
        }
        fleet.settle(&mut jobs)?;
        let begun = now();
        fleet.planner.plan(&Policy::default(), WallTime(fleet.clock));
        idle.push(begun.elapsed());
        top_up(&mut fleet, &mut jobs)?;
    }
    took.sort_unstable();
    idle.sort_unstable();
    let ms = |took: &[std::time::Duration], at: usize| took.get(at).map_or(0.0, |it| it.as_secs_f64() * 1e3);
    Ok(json!({
        "ms": ms(&took, took.len() / 2),
        "max_ms": ms(&took, took.len() - 1),
        "cpu_ms": cpu.as_secs_f64() * 1e3 / took.len() as f64,
        "idle_ms": ms(&idle, idle.len() / 2),
        "placed": placed,
        "running": fleet.running.len(),
    }))
}
