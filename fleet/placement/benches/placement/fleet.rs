//! The planner as fleetd keeps it, with its nodes, and users of several teams.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use loadline_model::{
    Amounts, AttemptId, Bytes, CpuRequest, JobId, MilliCpu, NodeId, Priority, Span, Tier, WallTime,
    WorkerRequest, Workers,
};
use loadline_placement::policy::Team;
use loadline_placement::{
    Ending, HeldByTier, Line, Node, NodeState, Planner, Policy, QueueEntry, Running, Terms, Wanted,
};

use crate::random::Random;

const TEAMS: usize = 5;
const SHAPES: usize = 500;
const NODE_CPUS: u32 = 64;

pub(crate) struct Fleet {
    pub(crate) planner: Planner,
    nodes: BTreeMap<NodeId, Node>,
    pub(crate) running: Vec<Running>,
    random: Random,
    /// Microseconds.
    pub(crate) clock: i64,
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
    /// Idle nodes. Jobs come from so many users, with so many time limits of whole hours.
    pub(crate) fn new(nodes: u32, seed: u64, (users, limits): (usize, usize)) -> Result<Self> {
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
                traits: Arc::default(),
                line: Line {
                    firm: amounts,
                    now: amounts,
                    whole_cpus: NODE_CPUS,
                    scratch: Bytes::ZERO,
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

    /// A job that has just been submitted.
    pub(crate) fn entry(&mut self, tier: Tier) -> Result<QueueEntry> {
        let (number, user) = (self.next, self.random.below(self.users));
        self.next += 1;
        let shape = self.random.below(SHAPES);
        Ok(QueueEntry {
            job: JobId::from_slice(&number.to_be_bytes()).context("sixteen bytes")?,
            number: u64::try_from(number)?,
            tier,
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
            needs: Arc::default(),
            ties: None,
            refusals: Vec::new(),
        })
    }

    /// Plans until nothing fits, and says that all of it runs.
    pub(crate) fn settle(&mut self, jobs: &mut BTreeMap<JobId, QueueEntry>) -> Result<usize> {
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

    pub(crate) fn start(&mut self, entry: &QueueEntry, node: NodeId) -> Result<()> {
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

    /// One of so many has ended, chosen by chance.
    pub(crate) fn end_some(&mut self, of: usize) -> Result<()> {
        for _ in 0..self.running.len() / of {
            let place = self.random.below(self.running.len());
            self.end(place, true)?;
        }
        Ok(())
    }

    /// The worker in this place of those that run has ended, by itself or not.
    pub(crate) fn end(&mut self, place: usize, own: bool) -> Result<()> {
        let ended = self.running.swap_remove(place);
        let node = self
            .nodes
            .get_mut(&ended.node)
            .context("a node that is not there")?;
        node.held.remove(ended.tier, &ended.request, &ended.needs);
        self.planner.put_node(node.clone())?;
        let at = WallTime(self.clock);
        self.planner
            .remove_running(ended.attempt, Some(Ending { at, own }));
        Ok(())
    }
}
