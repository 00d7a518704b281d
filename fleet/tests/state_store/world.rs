//! A fleet's state in a test: virtual time, counted ids, a store that is a list of changes, and the checker after
//! every step.

use std::collections::BTreeMap;

use loadline_fleet::state::{
    Batch, Change, Command, Event, Happening, Hello, Ids, Inventory, JobDetail, JobRef, LendMode, Loaded,
    Now, Order, ProveConsent, Refused, Reply, Reported, SessionId, State, check,
};
use loadline_fleet::trust::Role;
use loadline_model::{
    Amounts, AttemptId, AttemptPhase, Bytes, CpuRequest, EndReason, Ended, Generation, JobDraft, JobId,
    JobSpec, LedgerId, MilliCpu, NodeId, NodeSample, OnNodeLost, Peaks, Pressure, ProveId, ResourceSample,
    Sequence, Span, Tier, WallTime, WorkerRequest, Workers,
};

/// Ids in the order in which they are asked for.
#[derive(Debug, Default)]
pub(crate) struct Counted(u128);

impl Ids for Counted {
    fn attempt(&mut self, _: Now) -> AttemptId {
        self.0 += 1;
        AttemptId::from_slice(&self.0.to_be_bytes()).unwrap()
    }

    fn test(&mut self, _: Now) -> ProveId {
        self.0 += 1;
        ProveId::from_slice(&self.0.to_be_bytes()).unwrap()
    }

    fn node(&mut self, _: Now) -> NodeId {
        self.0 += 1;
        NodeId::from_slice(&self.0.to_be_bytes()).unwrap()
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) now: Now,
    ids: Counted,
    /// Every durable change, in order: the store.
    pub(crate) log: Vec<Change>,
    /// The next commit fails.
    pub(crate) disk_full: bool,
    epoch: u64,
}

pub(crate) fn job_id(number: u128) -> JobId {
    JobId::from_slice(&number.to_be_bytes()).unwrap()
}

pub(crate) fn ledger(number: u128) -> LedgerId {
    LedgerId::from_slice(&number.to_be_bytes()).unwrap()
}

pub(crate) fn draft() -> JobDraft {
    JobDraft {
        name: None,
        command: vec!["true".into()],
        dir: None,
        env: BTreeMap::new(),
        workers: Workers::Fixed(1),
        tier: Tier::Standard,
        retries: 0,
        time: None,
        grace: None,
        on_node_lost: None,
        worker: WorkerRequest {
            cpus: CpuRequest::Exclusive(1),
            memory: Bytes::from_mib(64),
            gpus: 0,
        },
        nodes: Vec::new(),
        needs: loadline_model::Needs::default(),
        waits: loadline_model::Waits::default(),
        gang: false,
        tasks: None,
        priority: loadline_model::Priority::NORMAL,
        team: None,
    }
}

pub(crate) fn spec(draft: JobDraft) -> JobSpec {
    JobSpec::new(draft).unwrap()
}

pub(crate) fn replaceable() -> JobSpec {
    spec(JobDraft {
        on_node_lost: Some(OnNodeLost::Replace),
        ..draft()
    })
}

/// A node that lends so many whole CPUs.
pub(crate) fn inventory(cpus: u32) -> Inventory {
    Inventory {
        topology: None,
        gpus: Vec::new(),
        kernel: "6.1".into(),
        systemd: "252".into(),
        os: "Debian 12".into(),
        mode: LendMode::Enforce,
        exclusive_cpus: true,
        missed: Vec::new(),
        line: Amounts {
            cpu: MilliCpu::from_cpus(cpus),
            memory: Bytes::from_gib(64),
            gpus: 0,
        },
        line_whole_cpus: cpus,
        allow_teams: Vec::new(),
        owner_mode: Some(LendMode::Enforce),
        ceilings: Vec::new(),
        protected: Vec::new(),
        prove: Some(ProveConsent::Allow),
    }
}

pub(crate) fn sample(at: WallTime, cpus: u32) -> NodeSample {
    let cpu = MilliCpu::from_cpus(cpus);
    let memory = Bytes::from_gib(64);
    NodeSample {
        at,
        cpu: ResourceSample {
            capacity: cpu,
            now: cpu,
            firm: cpu,
            ..ResourceSample::default()
        },
        memory: ResourceSample {
            capacity: memory,
            now: memory,
            firm: memory,
            ..ResourceSample::default()
        },
        pressure: Pressure::default(),
    }
}

pub(crate) fn ended(reason: EndReason) -> Ended {
    Ended {
        reason,
        at: WallTime(0),
        peaks: Peaks::default(),
        detail: String::new(),
    }
}

pub(crate) fn report(attempt: AttemptId, phase: AttemptPhase) -> Reported {
    Reported {
        attempt,
        job: None,
        phase,
        site: None,
        ended: None,
        orphan: false,
    }
}

pub(crate) fn report_end(attempt: AttemptId, reason: EndReason) -> Reported {
    Reported {
        ended: Some(ended(reason)),
        ..report(attempt, AttemptPhase::Ended)
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A fleet with the user `ada` and no node.
    pub(crate) fn new() -> Self {
        let now = Now {
            wall: WallTime(1_000_000_000_000),
            mono: Span::ZERO,
        };
        let loaded = Loaded {
            epoch: 1,
            ..Loaded::default()
        };
        let (state, _) = State::load(loaded);
        let mut world = Self {
            state,
            now,
            ids: Counted::default(),
            log: Vec::new(),
            disk_full: false,
            epoch: 1,
        };
        let (by, name) = ("local".into(), "ada".into());
        let (unix_account, team) = (String::new(), String::new());
        world
            .step(Command::AddUser {
                by,
                name,
                role: Role::Admin,
                unix_account,
                team,
            })
            .unwrap();
        world
    }

    /// One command in a batch of its own, committed unless the disk is full.
    pub(crate) fn step(&mut self, command: Command) -> Result<Reply, Refused> {
        let mut batch = Batch::default();
        let before = self.state.rows();
        let result = self.state.step(command, self.now, &mut self.ids, &mut batch);
        if result.is_err() {
            assert!(batch.changes().is_empty(), "a refused command changed something");
        }
        self.state.settle(self.now, &mut self.ids, &mut batch);
        self.check();
        if std::mem::take(&mut self.disk_full) && batch.is_durable() {
            self.state.roll_back(batch);
            assert_eq!(self.state.rows(), before, "rolling back is not exact");
            self.check();
            return Err(Refused::StoreFull("full".into()));
        }
        self.log.extend(
            batch
                .changes()
                .iter()
                .filter(|change| change.is_durable())
                .cloned(),
        );
        result
    }

    pub(crate) fn check(&self) {
        let violations = check::violations(&self.state);
        assert!(violations.is_empty(), "{violations:#?}");
    }

    /// fleetd ends and starts again, on everything that was committed.
    pub(crate) fn restart(&mut self) {
        self.restart_on(self.log.len());
    }

    /// fleetd starts again on an older store: only the first so many changes.
    pub(crate) fn restart_on(&mut self, changes: usize) {
        self.log.truncate(changes);
        self.epoch += 1;
        let loaded = Loaded {
            epoch: self.epoch,
            rows: self
                .log
                .iter()
                .filter(|change| !matches!(change, Change::Log(_)))
                .cloned()
                .collect(),
            ..Loaded::default()
        };
        let (state, dangling) = State::load(loaded);
        assert!(dangling.is_empty(), "{dangling:#?}");
        self.state = state;
        self.now.mono = Span::ZERO;
        self.check();
    }

    /// Time passes, a second at a time, as the writer counts it.
    pub(crate) fn pass(&mut self, secs: u64) {
        for _ in 0..secs {
            self.now.mono = self.now.mono.plus(Span::from_secs(1));
            self.now.wall = self.now.wall.plus(Span::from_secs(1));
            self.step(Command::Tick).unwrap();
        }
    }

    pub(crate) fn submit(&mut self, id: u128, spec: JobSpec) -> Result<Reply, Refused> {
        self.step(Command::Submit {
            by: "ada".into(),
            job: job_id(id),
            spec,
        })
    }

    pub(crate) fn detail(&self, id: u128) -> JobDetail {
        self.state.job(JobRef::Id(job_id(id)), self.now).unwrap()
    }

    /// The newest attempt of worker 0.
    pub(crate) fn attempt(&self, id: u128) -> AttemptId {
        self.detail(id).attempts.last().unwrap().id
    }

    /// Lets a machine of that name join.
    pub(crate) fn join(&mut self, name: &str) -> NodeId {
        let mut secret = [0; 32];
        let digits = format!("{name}{}", self.log.len());
        secret[..digits.len()].copy_from_slice(digits.as_bytes());
        let token = loadline_fleet::state::TokenId(digits);
        let (by, node, pool) = ("ada".into(), name.into(), String::new());
        self.step(Command::CreateNodeToken {
            by,
            token,
            secret,
            node,
            pool,
            life: Span::ZERO,
        })
        .unwrap();
        match self.step(Command::RedeemNodeToken {
            secret,
            node: name.into(),
        }) {
            Ok(Reply::Joined { node, .. }) => node,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn orders(&self, node: NodeId) -> Vec<Order> {
        self.state.orders(node, Generation(0))
    }
}

/// A node as a script plays it: it says what the test tells it to say.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) id: NodeId,
    pub(crate) session: SessionId,
    pub(crate) ledger: LedgerId,
    pub(crate) sequence: u64,
    pub(crate) cpus: u32,
}

impl Script {
    /// Joins and connects a node with so many CPUs.
    pub(crate) fn join(world: &mut World, name: &str, cpus: u32) -> Self {
        let id = world.join(name);
        let ledger = ledger(u128::from(cpus) << 64 | 1);
        let mut node = Self {
            id,
            session: SessionId(0),
            ledger,
            sequence: 0,
            cpus,
        };
        node.hello(world, 0, Vec::new());
        node.alive(world);
        node
    }

    pub(crate) fn greeting(&self, applied: u64, attempts: Vec<Reported>) -> Hello {
        Hello {
            node: self.id,
            name: "n".into(),
            version: "0.1.0".into(),
            boot_id: "b".into(),
            ledger: self.ledger,
            applied: Generation(applied),
            last_sequence: Sequence(self.sequence),
            first_sequence: None,
            inventory: Some(inventory(self.cpus)),
            attempts,
            complete: true,
        }
    }

    pub(crate) fn hello(&mut self, world: &mut World, applied: u64, attempts: Vec<Reported>) -> Sequence {
        let hello = self.greeting(applied, attempts);
        match world.step(Command::Hello(Box::new(hello))) {
            Ok(Reply::Welcome { session, acked, .. }) => {
                self.session = session;
                acked
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn alive(&self, world: &mut World) {
        let sample = Some(sample(world.now.wall, self.cpus));
        let (node, session) = (self.id, self.session);
        world
            .step(Command::Alive {
                node,
                session,
                sample,
                word: None,
                inventory: None,
            })
            .unwrap();
    }

    pub(crate) fn bye(&self, world: &mut World) {
        world
            .step(Command::Bye {
                node: self.id,
                session: self.session,
            })
            .unwrap();
    }

    /// All its orders are in its ledger.
    pub(crate) fn apply(&self, world: &mut World) {
        let Some(last) = world.orders(self.id).last().map(|order| order.generation) else {
            return;
        };
        world
            .step(Command::Applied {
                node: self.id,
                session: self.session,
                generation: last,
            })
            .unwrap();
    }

    pub(crate) fn event(&mut self, world: &World, report: Reported) -> Event {
        self.sequence += 1;
        Event {
            ledger: self.ledger,
            sequence: Sequence(self.sequence),
            boot_id: "b".into(),
            at: world.now.wall,
            what: Happening::Attempt(Box::new(report)),
        }
    }

    pub(crate) fn send(&self, world: &mut World, events: Vec<Event>) -> Result<Reply, Refused> {
        world.step(Command::Events {
            node: self.id,
            session: self.session,
            events,
        })
    }

    /// An event happens and arrives.
    pub(crate) fn tell(&mut self, world: &mut World, report: Reported) {
        let event = self.event(world, report);
        self.send(world, vec![event]).unwrap();
    }

    /// The attempt starts and runs.
    pub(crate) fn run(&mut self, world: &mut World, attempt: AttemptId) {
        self.apply(world);
        self.tell(world, report(attempt, AttemptPhase::Starting));
        self.tell(world, report(attempt, AttemptPhase::Running));
    }

    pub(crate) fn end(&mut self, world: &mut World, attempt: AttemptId, reason: EndReason) {
        self.tell(world, report_end(attempt, reason));
    }

    /// Time passes while it lives: a heartbeat every 5 s.
    pub(crate) fn live(&self, world: &mut World, secs: u64) {
        for _ in 0..secs.div_ceil(5) {
            world.pass(5);
            self.alive(world);
        }
    }
}
