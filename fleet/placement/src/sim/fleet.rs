//! A fleet in virtual time around the real [`Planner`]: it is told what fleetd would tell it, and nothing else.
//!
//! fleetd plans whenever something has changed and once a second. A month of empty seconds would take hours, so time
//! goes from event to event. Between two the planner is asked when it wants to be: in the second after, when it may
//! look at the whole fleet again, and then at whole minutes. So a start for which time alone gives the reason (an
//! estimate that was outlived, a window that opens) may come a minute late.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{AttemptId, JobId, NodeId, Span, WallTime};

use crate::check::Sharing;
use crate::engine::EngineError;
use crate::planner::{Ending, Eviction, Plan, Planner, Policy, Running};
use crate::policy::{Team, Windows};
use crate::queue::QueueEntry;
use crate::sim::work::{Happened, What, Work};
use crate::snapshot::{HeldByTier, Node, Snapshot};

/// fleetd plans at least so often, whatever happens.
const TICK: Span = Span::from_secs(1);
/// Where nothing happened it is asked no more often than this.
const PAUSE: Span = Span::from_secs(60);
/// A plan that has more to give is followed by another, so many times at one moment.
const ROUNDS_MAX: u32 = 1000;

/// A plan, with all that it was made of: for whoever checks it.
#[derive(Debug)]
pub struct Planned<'a> {
    /// The nodes before it.
    pub snapshot: &'a Snapshot,
    /// The jobs that wanted workers.
    pub queue: &'a [QueueEntry],
    /// What was held, allowed and kept.
    pub sharing: &'a Sharing,
    /// What was decided.
    pub plan: &'a Plan,
    /// When.
    pub now: WallTime,
}

/// Sees every plan before it is carried out.
pub type Judge<'j> = &'j mut dyn FnMut(&Planned<'_>);

/// A job and where it stands.
#[derive(Debug, Clone)]
struct Job {
    work: Work,
    submitted: WallTime,
    /// Workers that want an attempt, ascending.
    missing: Vec<u32>,
    yielded: u32,
    running: BTreeSet<AttemptId>,
}

impl Job {
    /// How often it has yielded, for each of its workers.
    fn yielded_each(&self) -> u32 {
        self.yielded / self.work.workers.max().max(1)
    }

    fn entry(&self) -> QueueEntry {
        self.work.entry(self.submitted, self.missing.clone())
    }
}

/// A worker that runs.
#[derive(Debug, Clone)]
struct Run {
    is: Running,
    number: u64,
    ends: WallTime,
}

/// Nodes, jobs, what runs, and the planner that was told of them.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    policy: Policy,
    planner: Planner,
    nodes: BTreeMap<NodeId, Node>,
    teams: BTreeMap<String, Team>,
    jobs: BTreeMap<u64, Job>,
    running: BTreeMap<AttemptId, Run>,
    ends: BTreeSet<(WallTime, AttemptId)>,
    past: Vec<(Running, Ending)>,
    now: WallTime,
    attempts: u128,
    /// Something was said since the last step.
    stirred: bool,
    wake: Option<WallTime>,
    plans: usize,
}

impl Fleet {
    /// Without nodes and jobs, at the beginning of time.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// What it is now.
    #[must_use]
    pub const fn now(&self) -> WallTime {
        self.now
    }

    /// Time passes, up to that moment; what happens meanwhile happens at the next step.
    pub fn go_to(&mut self, now: WallTime) {
        self.now = self.now.max(now);
    }

    /// Says what a node is and lends; what it holds is the fleet's to know.
    ///
    /// # Errors
    /// When there are more kinds of nodes than can be told apart.
    pub fn put_node(&mut self, node: Node) -> Result<(), EngineError> {
        let known = self.nodes.get(&node.id);
        let held = known.map_or_else(HeldByTier::default, |known| known.held);
        let node = Node { held, ..node };
        self.stirred = true;
        self.nodes.insert(node.id, node.clone());
        self.planner.put_node(node)
    }

    /// Says what a team may. As in fleetd, everything is told anew then.
    pub fn set_team(&mut self, name: &str, team: Team) {
        self.teams.insert(name.into(), team);
        self.stirred = true;
        self.planner.forget_past();
        for (name, team) in &self.teams {
            self.planner.set_team(name, team.clone(), self.now);
        }
        for (was, ending) in &self.past {
            self.planner.recall(was, *ending, self.now);
        }
        for run in self.running.values() {
            self.planner.put_running(&run.is);
        }
    }

    /// Says when burst work may start.
    pub fn set_burst(&mut self, windows: Windows) {
        self.stirred = true;
        self.planner.set_burst(windows);
    }

    /// A job comes now. One of a number that is known takes its place.
    pub fn submit(&mut self, work: Work) {
        self.submit_at(work, self.now);
    }

    /// The same, of a job that is said to have come at another time.
    pub fn submit_at(&mut self, work: Work, submitted: WallTime) {
        let number = work.number;
        let job = Job {
            missing: (0..work.workers.max()).collect(),
            submitted,
            yielded: 0,
            running: BTreeSet::new(),
            work,
        };
        self.jobs.insert(number, job);
        self.stirred = true;
        self.tell(number);
    }

    /// Lets a worker come to its end now, whatever it was to run for; false if it does not run.
    pub fn finish(&mut self, number: u64, worker: u32) -> bool {
        let mut runs = self.running.values_mut();
        let found = runs.find(|run| run.number == number && run.is.worker == worker);
        let Some(run) = found else {
            return false;
        };
        self.ends.remove(&(run.ends, run.is.attempt));
        run.ends = self.now;
        self.ends.insert((run.ends, run.is.attempt));
        true
    }

    /// The workers that hold room.
    pub fn running(&self) -> impl Iterator<Item = &Running> {
        self.running.values().map(|run| &run.is)
    }

    /// When the next worker ends.
    #[must_use]
    pub fn next_end(&self) -> Option<WallTime> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// When there is reason to plan although nothing comes or ends.
    #[must_use]
    pub const fn wake(&self) -> Option<WallTime> {
        self.wake
    }

    /// How often it has planned.
    #[must_use]
    pub const fn plans(&self) -> usize {
        self.plans
    }

    /// What it plans with.
    #[must_use]
    pub const fn planner(&self) -> &Planner {
        &self.planner
    }

    /// The operators' rules.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The nodes, with what they hold.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// What jobs want workers now.
    #[must_use]
    pub fn queue(&self) -> Vec<QueueEntry> {
        let waiting = self.jobs.values().filter(|job| !job.missing.is_empty());
        waiting.map(Job::entry).collect()
    }

    /// A job that was submitted.
    #[must_use]
    pub fn work(&self, number: u64) -> Option<&Work> {
        self.jobs.get(&number).map(|job| &job.work)
    }

    /// True if no worker of a job waits or runs.
    #[must_use]
    pub fn is_done(&self, number: u64) -> bool {
        let job = self.jobs.get(&number);
        job.is_some_and(|job| job.missing.is_empty() && job.running.is_empty())
    }

    /// Ends what is due, plans, and carries the plan out. What has happened, in order.
    pub fn step(&mut self) -> Vec<Happened> {
        self.step_judged(None)
    }

    /// The same, with someone who sees each plan.
    pub fn step_judged(&mut self, mut judge: Option<Judge<'_>>) -> Vec<Happened> {
        let mut happened = Vec::new();
        self.end_what_is_due(&mut happened);
        let mut more = true;
        for _ in 0..ROUNDS_MAX {
            let judge = judge.as_mut().map(|judge| &mut **judge as Judge<'_>);
            more = self.plan(judge, &mut happened);
            if !more {
                break;
            }
        }
        let quiet = happened.is_empty() && !core::mem::take(&mut self.stirred);
        let pause = if quiet { PAUSE } else { TICK };
        let wants = if more { Some(self.now) } else { self.planner.wake() };
        self.wake = wants.map(|at| whole(at.max(self.now.plus(TICK)), pause));
        happened
    }

    /// True if planning again would give more.
    fn plan(&mut self, judge: Option<Judge<'_>>, happened: &mut Vec<Happened>) -> bool {
        self.plans += 1;
        let plan = match judge {
            None => self.planner.plan(&self.policy, self.now),
            Some(judge) => self.plan_judged(judge),
        };
        for given in &plan.assignments {
            let number = number_of(given.job);
            happened.extend(self.start(number, given.worker, given.node));
        }
        for eviction in &plan.evictions {
            happened.extend(self.ask_to_go(eviction));
        }
        plan.more || !self.planner.is_settled()
    }

    fn plan_judged(&mut self, judge: Judge<'_>) -> Plan {
        let (now, queue) = (self.now, self.queue());
        let snapshot = Snapshot {
            nodes: self.nodes.values().cloned().collect(),
        };
        let mut sharing = Sharing {
            running: self.running.values().map(|run| run.is.clone()).collect(),
            teams: self.teams.clone().into_iter().collect(),
            ..Sharing::of(&self.planner, &self.policy, now)
        };
        let plan = self.planner.plan(&self.policy, now);
        sharing.still_kept(&self.planner);
        judge(&Planned {
            snapshot: &snapshot,
            queue: &queue,
            sharing: &sharing,
            plan: &plan,
            now,
        });
        plan
    }

    fn tell(&mut self, number: u64) {
        let Some(job) = self.jobs.get(&number) else {
            return;
        };
        if job.missing.is_empty() {
            self.planner.remove_job(Work::id(number));
        } else {
            self.planner.put_job(&job.entry());
        }
        // How long the others are left alone depends on how often it has yielded.
        let yielded = job.yielded_each();
        for attempt in &job.running {
            if let Some(run) = self.running.get_mut(attempt)
                && run.is.yielded != yielded
            {
                run.is.yielded = yielded;
                self.planner.put_running(&run.is);
            }
        }
    }

    /// What a node holds has changed.
    fn tell_node(&mut self, node: NodeId) {
        if let Some(node) = self.nodes.get(&node) {
            // It was taken over before: no new kind of node comes of what it holds.
            self.planner.put_node(node.clone()).ok();
        }
    }

    fn start(&mut self, number: u64, worker: u32, node: NodeId) -> Option<Happened> {
        let job = self.jobs.get_mut(&number)?;
        let held = self.nodes.get_mut(&node)?;
        job.missing.retain(|other| *other != worker);
        self.attempts += 1;
        let attempt = attempt_id(self.attempts);
        let work = &job.work;
        held.held.add(work.tier, &work.request, &work.needs);
        let is = Running {
            attempt,
            job: Work::id(number),
            worker,
            node,
            terms: Arc::new(work.terms()),
            submitted_at: job.submitted,
            started: self.now,
            yielded: job.yielded_each(),
            stopping: false,
            given_up: None,
        };
        let ends = self.now.plus(work.stays());
        job.running.insert(attempt);
        self.tell_node(node);
        self.planner.put_running(&is);
        self.ends.insert((ends, attempt));
        self.running.insert(attempt, Run { is, number, ends });
        self.tell(number);
        Some(self.happened(number, worker, node, What::Started))
    }

    fn ask_to_go(&mut self, eviction: &Eviction) -> Option<Happened> {
        let run = self.running.get_mut(&eviction.attempt)?;
        self.ends.remove(&(run.ends, eviction.attempt));
        run.is.stopping = true;
        run.ends = run.ends.min(self.now.plus(run.is.grace));
        self.ends.insert((run.ends, eviction.attempt));
        self.planner.put_running(&run.is);
        let (number, worker, node) = (run.number, run.is.worker, run.is.node);
        let to = number_of(eviction.to);
        Some(self.happened(number, worker, node, What::Asked { to }))
    }

    fn end_what_is_due(&mut self, happened: &mut Vec<Happened>) {
        while let Some((end, attempt)) = self.ends.first().copied()
            && end <= self.now
        {
            self.ends.pop_first();
            happened.extend(self.end(attempt));
        }
    }

    fn end(&mut self, attempt: AttemptId) -> Option<Happened> {
        let Run { is, number, .. } = self.running.remove(&attempt)?;
        let node = self.nodes.get_mut(&is.node)?;
        node.held.remove(is.tier, &is.request, &is.needs);
        self.tell_node(is.node);
        let ending = Ending {
            at: self.now,
            own: !is.stopping,
        };
        self.planner.remove_running(attempt, Some(ending));
        let job = self.jobs.get_mut(&number)?;
        job.running.remove(&attempt);
        if is.stopping {
            job.missing.push(is.worker);
            job.missing.sort_unstable();
            job.yielded += 1;
        }
        self.tell(number);
        let what = if is.stopping { What::Gone } else { What::Ended };
        let happened = self.happened(number, is.worker, is.node, what);
        self.past.push((is, ending));
        Some(happened)
    }

    const fn happened(&self, number: u64, worker: u32, node: NodeId, what: What) -> Happened {
        Happened {
            at: self.now,
            number,
            worker,
            node,
            what,
        }
    }
}

fn attempt_id(number: u128) -> AttemptId {
    AttemptId::from_slice(&number.to_be_bytes())
        .unwrap_or_else(|_| unreachable!("sixteen bytes are an identity"))
}

fn number_of(job: JobId) -> u64 {
    u64::try_from(u128::from_be_bytes(*job.as_bytes())).unwrap_or(u64::MAX)
}

/// The first whole multiple of a span that is not before a time.
fn whole(at: WallTime, span: Span) -> WallTime {
    let span = i64::try_from(span.0.max(1)).unwrap_or(i64::MAX);
    let over = at.0.rem_euclid(span);
    WallTime(if over == 0 {
        at.0
    } else {
        at.0.saturating_add(span - over)
    })
}
