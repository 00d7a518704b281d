//! A node as an independent model of warden and agent: a ledger, a spool, workers that run. It obeys orders the
//! way the contract says and knows what truly ran.

use std::collections::{BTreeMap, BTreeSet};

use loadline_fleet::state::{
    Ceiling, Command, Cost, CostCounts, Event, Happening, Hello, Order, OrderKind, Prove, ProveNews,
    ProveStage, Refused, Reply, Reported, SessionId, Word,
};
use loadline_model::{AttemptId, AttemptPhase, EndReason, Generation, LedgerId, NodeId, ProveId, Sequence};

use crate::world::{World, inventory, ledger, report, report_end, sample};

/// What truly became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    Runs,
    Ended(EndReason),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) truth: Truth,
    /// The ledger still knows it.
    pub(crate) known: bool,
}

#[derive(Debug)]
pub(crate) struct SimNode {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) session: Option<SessionId>,
    cpus: u32,
    ledger: LedgerId,
    ledgers: u128,
    applied: u64,
    sequence: u64,
    spool: Vec<Event>,
    pub(crate) runs: BTreeMap<AttemptId, Run>,
    /// What it may do, as its ledger has it.
    pub(crate) ceiling: Option<Ceiling>,
    /// The test that runs.
    prove: Option<ProveId>,
    /// Every test that ever began here.
    begun: BTreeSet<ProveId>,
    /// Every test of which it told a report.
    pub(crate) reported: BTreeSet<ProveId>,
    /// Its warden has started so often …
    starts: u64,
    /// … and has evicted so many since, and before that.
    evictions: (u64, u64),
}

impl SimNode {
    pub(crate) fn new(world: &mut World, index: u128, cpus: u32) -> Self {
        let name = format!("n{index}");
        let id = world.join(&name);
        Self {
            id,
            name,
            session: None,
            cpus,
            ledger: ledger(index << 64),
            ledgers: index << 64,
            applied: 0,
            sequence: 0,
            spool: Vec::new(),
            runs: BTreeMap::new(),
            ceiling: None,
            prove: None,
            begun: BTreeSet::new(),
            reported: BTreeSet::new(),
            starts: 0,
            evictions: (0, 0),
        }
    }

    /// All evictions there ever were.
    pub(crate) const fn evicted(&self) -> u64 {
        self.evictions.0 + self.evictions.1
    }

    /// One more each time it is asked.
    fn word(&mut self) -> Word {
        self.evictions.0 += 1;
        let cost = Cost {
            evictions: self.evictions.0,
            ..Cost::default()
        };
        let since = format!("{} {}", self.name, self.starts);
        Word {
            counts: Some(CostCounts { since, cost }),
            ..Word::default()
        }
    }

    fn warden_starts(&mut self) {
        self.starts += 1;
        self.evictions = (0, self.evicted());
    }

    pub(crate) fn running(&self) -> Vec<AttemptId> {
        let runs = self.runs.iter().filter(|(_, run)| run.truth == Truth::Runs);
        runs.map(|(id, _)| *id).collect()
    }

    fn happen(&mut self, world: &World, report: Reported) {
        self.tell(world, Happening::Attempt(Box::new(report)));
    }

    fn tell(&mut self, world: &World, what: Happening) {
        self.sequence += 1;
        self.spool.push(Event {
            ledger: self.ledger,
            sequence: Sequence(self.sequence),
            boot_id: String::new(),
            at: world.now.wall,
            what,
        });
    }

    fn proved(&mut self, world: &World, run: ProveId, stage: ProveStage) {
        let news = ProveNews {
            run,
            stage,
            sentence: String::new(),
            report: (stage == ProveStage::Reported).then(Box::default),
        };
        self.tell(world, Happening::Prove(news));
    }

    /// The test that runs comes to its end.
    pub(crate) fn finish_prove(&mut self, world: &World) {
        if let Some(run) = self.prove.take() {
            self.reported.insert(run);
            self.proved(world, run, ProveStage::Reported);
        }
    }

    fn obey_prove(&mut self, world: &World, order: &Prove) {
        let run = order.run;
        match (&order.ask, self.prove) {
            (Some(_), None) => {
                assert!(self.begun.insert(run), "{run} began twice");
                self.prove = Some(run);
                self.proved(world, run, ProveStage::Running);
            }
            (Some(_), Some(other)) => {
                // The fleet gave that one up.
                assert_ne!(other, run, "ordered twice");
                self.proved(world, run, ProveStage::Refused);
            }
            (None, running) => {
                self.prove = running.filter(|running| *running != run);
                self.proved(world, run, ProveStage::Stopped);
            }
        }
    }

    /// A worker ends by itself.
    pub(crate) fn finish(&mut self, world: &World, attempt: AttemptId, reason: EndReason) {
        let Some(run) = self.runs.get_mut(&attempt) else {
            return;
        };
        run.truth = Truth::Ended(reason);
        if run.known {
            self.happen(world, report_end(attempt, reason));
        }
    }

    pub(crate) fn reboot(&mut self, world: &World) {
        for attempt in self.running() {
            self.finish(world, attempt, EndReason::NodeRebooted);
        }
        self.prove = None;
        self.warden_starts();
        self.session = None;
    }

    /// The disk is replaced: nothing runs, nothing is known.
    pub(crate) fn lose_ledger(&mut self) {
        self.ledgers += 1;
        self.ledger = ledger(self.ledgers);
        (self.applied, self.sequence) = (0, 0);
        self.spool.clear();
        self.ceiling = None;
        self.prove = None;
        self.begun.clear();
        self.warden_starts();
        self.session = None;
        for run in self.runs.values_mut() {
            run.known = false;
            if run.truth == Truth::Runs {
                run.truth = Truth::Ended(EndReason::NodeRebooted);
            }
        }
    }

    /// Dials in.
    pub(crate) fn connect(&mut self, world: &mut World) {
        let running = self
            .running()
            .into_iter()
            .map(|id| report(id, AttemptPhase::Running));
        let hello = Hello {
            node: self.id,
            name: self.name.clone(),
            version: "0.1.0".into(),
            boot_id: String::new(),
            ledger: self.ledger,
            applied: Generation(self.applied),
            last_sequence: Sequence(self.sequence),
            first_sequence: Some(self.oldest()),
            inventory: Some(inventory(self.cpus)),
            attempts: running.collect(),
            complete: true,
        };
        match world.step(Command::Hello(Box::new(hello))) {
            Ok(Reply::Welcome { session, acked, .. }) => {
                self.session = Some(session);
                self.spool
                    .retain(|event| event.ledger != self.ledger || event.sequence > acked);
            }
            Err(Refused::StoreFull(_)) => self.session = None,
            other => panic!("{other:?}"),
        }
    }

    /// The oldest event of this ledger that it can still send.
    fn oldest(&self) -> Sequence {
        let mut spooled = self.spool.iter().filter(|event| event.ledger == self.ledger);
        let next = Sequence(self.sequence).next();
        spooled.next().map_or(next, |event| event.sequence)
    }

    pub(crate) fn disconnect(&mut self, world: &mut World) {
        if let Some(session) = self.session.take() {
            // The stream may also just vanish; fleetd's own end of it reports the same.
            let _lost_if_disk_full = world.step(Command::Bye {
                node: self.id,
                session,
            });
        }
    }

    /// An answer to something said on the session; a failure closes it.
    fn said(&mut self, result: Result<Reply, Refused>) -> Option<Reply> {
        match result {
            Ok(reply) => Some(reply),
            Err(Refused::StoreFull(_) | Refused::SessionReplaced) => {
                self.session = None;
                None
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    pub(crate) fn heartbeat(&mut self, world: &mut World) {
        let Some(session) = self.session else { return };
        let sample = Some(sample(world.now.wall, self.cpus));
        let alive = Command::Alive {
            node: self.id,
            session,
            sample,
            word: Some(Box::new(self.word())),
            inventory: None,
        };
        let result = world.step(alive);
        self.said(result);
    }

    /// Orders come down (at most so many), events go up. Without `heard` the acknowledgement is lost.
    pub(crate) fn exchange(&mut self, world: &mut World, orders_max: usize, heard: bool) {
        if self.session.is_none() {
            return;
        }
        for order in world.orders(self.id).into_iter().take(orders_max) {
            self.obey(world, &order);
        }
        let generation = Generation(self.applied);
        let Some(session) = self.session else { return };
        let result = world.step(Command::Applied {
            node: self.id,
            session,
            generation,
        });
        self.said(result);
        let Some(session) = self.session.filter(|_| !self.spool.is_empty()) else {
            return;
        };
        let events = self.spool.clone();
        let result = world.step(Command::Events {
            node: self.id,
            session,
            events,
        });
        if let Some(Reply::Acked { ledger, sequence }) = self.said(result)
            && heard
        {
            self.spool
                .retain(|event| event.ledger != ledger || event.sequence > sequence);
        }
    }

    fn obey(&mut self, world: &World, order: &Order) {
        if order.generation.0 <= self.applied {
            return;
        }
        self.applied = order.generation.0;
        let attempt = match (&order.what, order.attempt) {
            (OrderKind::Ceiling(ceiling), None) => {
                self.ceiling = Some(ceiling.clone()).filter(|ceiling| !ceiling.is_lifted());
                return;
            }
            (OrderKind::Prove(order), None) => return self.obey_prove(world, order),
            (_, Some(attempt)) => attempt,
            (_, None) => panic!("about nothing: {order:?}"),
        };
        match &order.what {
            OrderKind::Ceiling(_) | OrderKind::Prove(_) => panic!("about an attempt: {order:?}"),
            OrderKind::Start(_) => {
                let run = Run {
                    truth: Truth::Runs,
                    known: true,
                };
                let before = self.runs.insert(attempt, run);
                assert!(before.is_none(), "{attempt} was started twice");
                self.happen(world, report(attempt, AttemptPhase::Starting));
                self.happen(world, report(attempt, AttemptPhase::Running));
            }
            OrderKind::Stop(_) => {
                let runs = self
                    .runs
                    .get(&attempt)
                    .is_some_and(|run| run.truth == Truth::Runs);
                if runs {
                    self.finish(world, attempt, EndReason::Cancelled);
                }
            }
        }
    }
}
