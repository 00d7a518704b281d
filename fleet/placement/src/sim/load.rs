//! What logs of parallel machines say: jobs of so many processors of one machine, and the figures that are told of it.

use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{Amounts, Bytes, CpuRequest, MilliCpu, NodeId, Span, Tier, WallTime, WorkerRequest};

use crate::engine::EngineError;
use crate::planner::Policy;
use crate::policy::{Priority, Team};
use crate::sim::driver::play;
use crate::sim::fleet::Fleet;
use crate::sim::work::{What, Work};
use crate::snapshot::{Line, Node, NodeState};

/// A job of a load: what its user says, and what will happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimJob {
    /// When it is submitted.
    pub submitted: WallTime,
    /// How long it will run; no scheduler may look.
    pub runs: Span,
    /// How long its user says it may run, at least as long as it does.
    pub asked: Span,
    /// How many processors it needs, all at once.
    pub processors: u32,
    /// Who submitted it.
    pub user: String,
    /// The team that pays.
    pub team: String,
    /// Its tier.
    pub tier: Tier,
    /// Its priority.
    pub priority: Priority,
}

/// Jobs for a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    /// How many processors the machine has.
    pub processors: u32,
    /// In order of submission.
    pub jobs: Vec<SimJob>,
}

/// What came of a load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// When each job first started, in the order of the load; none: never, since the scheduler let it wait for ever.
    pub started: Vec<Option<WallTime>>,
    /// From when to when each ran that came to its end; what it ran before it had to yield was in vain.
    pub ran: Vec<Option<(WallTime, WallTime)>>,
    /// How often the scheduler was asked.
    pub decisions: usize,
}

impl SimJob {
    /// As a job of one worker with so many whole CPUs.
    fn work(&self, number: u64) -> Work {
        Work {
            time: Some(self.asked),
            tier: self.tier,
            priority: self.priority,
            user: self.user.clone(),
            team: self.team.clone(),
            ..Work::new(number, part(self.processors), self.runs)
        }
    }
}

/// Memory comes with processors, as much of it, so that both are used alike.
fn part(processors: u32) -> WorkerRequest {
    WorkerRequest {
        cpus: CpuRequest::Exclusive(processors),
        memory: Bytes::from_gib(processors.into()),
        gpus: 0,
    }
}

impl Load {
    /// What the fleet makes of it, with its real planner. The machine is one node, since processors of such logs are all
    /// equal and near each other: a job fits if so many are free, wherever they are. On a node for each processor every
    /// job would be a gang, and gangs keep off whole nodes that others wait for: none of it is in the log.
    ///
    /// # Errors
    /// When the planner does not take the node.
    pub fn in_fleet(&self, policy: Policy, teams: &[(String, Team)]) -> Result<Outcome, EngineError> {
        self.watched(policy, teams, &mut |_| {})
    }

    /// The same; `look` sees the fleet after each step.
    ///
    /// # Errors
    /// When the planner does not take the node.
    pub fn watched(
        &self,
        policy: Policy,
        teams: &[(String, Team)],
        look: &mut dyn FnMut(&Fleet),
    ) -> Result<Outcome, EngineError> {
        let mut fleet = Fleet::new(policy);
        fleet.put_node(machine(self.processors))?;
        for (name, team) in teams {
            fleet.set_team(name, team.clone());
        }
        let mut outcome = Outcome {
            started: alloc::vec![None; self.jobs.len()],
            ran: alloc::vec![None; self.jobs.len()],
            decisions: 0,
        };
        let numbered = (1..).zip(&self.jobs);
        let work: Vec<(WallTime, Work)> = numbered
            .map(|(number, job)| (job.submitted, job.work(number)))
            .collect();
        let mut last: Vec<Option<WallTime>> = alloc::vec![None; self.jobs.len()];
        play(&mut fleet, &work, &mut |fleet, happened| {
            let Some(happened) = happened else {
                return look(fleet);
            };
            let Ok(place) = usize::try_from(happened.number - 1) else {
                return;
            };
            match happened.what {
                What::Started => {
                    outcome.started[place].get_or_insert(happened.at);
                    last[place] = Some(happened.at);
                }
                What::Ended => outcome.ran[place] = last[place].map(|since| (since, happened.at)),
                What::Asked { .. } | What::Gone => {}
            }
        });
        outcome.decisions = fleet.plans();
        Ok(outcome)
    }
}

/// One node that lends so many CPUs.
fn machine(processors: u32) -> Node {
    let amounts = Amounts {
        cpu: MilliCpu::from_cpus(processors),
        memory: Bytes::from_gib(processors.into()),
        gpus: 0,
    };
    let id = NodeId::from_slice(&[1; 16]);
    Node {
        id: id.unwrap_or_else(|_| unreachable!("sixteen bytes are an identity")),
        name: "machine".into(),
        pool: "default".into(),
        state: NodeState::Ready,
        lending: true,
        traits: alloc::sync::Arc::default(),
        line: Line {
            firm: amounts,
            now: amounts,
            whole_cpus: processors,
            scratch: Bytes::ZERO,
        },
        exclusive_cpus: true,
        allow_teams: Vec::new(),
        held: crate::snapshot::HeldByTier::default(),
    }
}

/// Shorter jobs count as this long in a slowdown: a second's wait of a second's job is nobody's trouble.
const BOUND: Span = Span::from_secs(10);

impl Outcome {
    /// The mean bounded slowdown in thousandths: from submission to end by what it ran, at least ten seconds, and at
    /// least one (Feitelson and Rudolph, JSSPP 1998). None if a job never came to its end.
    #[must_use]
    pub fn slowdown(&self, load: &Load) -> Option<u64> {
        let mut sum: u128 = 0;
        for (job, ran) in load.jobs.iter().zip(&self.ran) {
            let (_, until) = ran.as_ref()?;
            let took = u128::from(until.since(job.submitted).0);
            let bound = u128::from(job.runs.max(BOUND).0);
            sum += (took * 1000 / bound).max(1000);
        }
        let mean = sum / (self.ran.len() as u128).max(1);
        u64::try_from(mean).ok()
    }

    /// The part of the machine that was used between the first and the last submission, in millionths: what comes
    /// after that is the end of the experiment and not of anybody's queue. What had to yield was not used.
    #[must_use]
    pub fn utilisation(&self, load: &Load) -> Option<u64> {
        let (first, last) = (load.jobs.first()?.submitted, load.jobs.last()?.submitted);
        let mut used: u128 = 0;
        for (job, ran) in load.jobs.iter().zip(&self.ran) {
            let Some((from, until)) = *ran else { continue };
            let time = until.min(last).since(from.max(first));
            used += u128::from(time.0) * u128::from(job.processors);
        }
        let all = u128::from(last.since(first).0) * u128::from(load.processors);
        u64::try_from(used * 1_000_000 / all.max(1)).ok()
    }

    /// The longest wait for a first start.
    #[must_use]
    pub fn wait_max(&self, load: &Load) -> Option<Span> {
        let waits = load.jobs.iter().zip(&self.started);
        waits
            .map(|(job, started)| started.map(|started| started.since(job.submitted)))
            .collect::<Option<Vec<Span>>>()?
            .into_iter()
            .max()
    }
}
