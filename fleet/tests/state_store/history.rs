//! Any history, against an independent model of the nodes: what truly ran is compared with what the fleet says.
//!
//! Histories mix submissions, cancellations, silence, reboots, lost ledgers, lost acknowledgements, full disks,
//! restarts of fleetd and operators. The checker runs after every step. At the end everything heals, and then
//! every job must come to its end, with ends that truly happened.

use std::collections::BTreeMap;

use crate::sim_node::{SimNode, Truth};
use crate::world::{World, draft, job_id, spec};
use loadline_fleet::state::{AttemptView, Command, JobRef, LendMode, NodeVerb, ProveStage, Refused, Reply};
use loadline_model::{
    AttemptId, EndReason, JobDraft, JobId, JobOutcome, JobPhase, OnNodeLost, PerMille, ProveAsk, Workers,
};
use proptest::prelude::*;

const NODES: usize = 3;

#[derive(Debug, Clone)]
enum Act {
    Submit {
        workers: u32,
        retries: u32,
        replace: bool,
    },
    Cancel(usize),
    Pass(u64),
    Connect(usize),
    Disconnect(usize),
    Exchange {
        node: usize,
        orders_max: usize,
        heard: bool,
    },
    Finish {
        node: usize,
        which: usize,
        reason: EndReason,
    },
    Reboot(usize),
    LoseLedger(usize),
    Restart,
    DiskFull,
    Operate(usize, NodeVerb),
    Ceiling(usize, Option<LendMode>, Option<u16>),
    Prove(usize, bool),
    Proved(usize),
}

fn reason() -> impl Strategy<Value = EndReason> {
    prop_oneof![
        4 => Just(EndReason::Exited { code: 0 }),
        2 => Just(EndReason::Exited { code: 3 }),
        1 => Just(EndReason::OutOfMemory),
        1 => Just(EndReason::Evicted),
        1 => Just(EndReason::Refused { for_good: false }),
        1 => Just(EndReason::Cancelled),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let node = 0..NODES;
    prop_oneof![
        3 => (1u32..3, 0u32..3, any::<bool>())
            .prop_map(|(workers, retries, replace)| Act::Submit { workers, retries, replace }),
        1 => (0usize..8).prop_map(Act::Cancel),
        3 => (1u64..90).prop_map(Act::Pass),
        4 => node.clone().prop_map(Act::Connect),
        2 => node.clone().prop_map(Act::Disconnect),
        6 => (node.clone(), 0usize..4, any::<bool>())
            .prop_map(|(node, orders_max, heard)| Act::Exchange { node, orders_max, heard }),
        5 => (node.clone(), any::<usize>(), reason())
            .prop_map(|(node, which, reason)| Act::Finish { node, which, reason }),
        1 => node.clone().prop_map(Act::Reboot),
        1 => node.clone().prop_map(Act::LoseLedger),
        1 => Just(Act::Restart),
        2 => Just(Act::DiskFull),
        1 => (node, prop_oneof![
            Just(NodeVerb::Drain), Just(NodeVerb::Resume), Just(NodeVerb::Forget)])
            .prop_map(|(node, verb)| Act::Operate(node, verb)),
        2 => (0..NODES, proptest::option::of(proptest::sample::select(LendMode::ALL.to_vec())),
            proptest::option::of(prop_oneof![Just(0u16), 0u16..1000, Just(1000u16)]))
            .prop_map(|(node, mode, line)| Act::Ceiling(node, mode, line)),
        2 => (0..NODES, any::<bool>()).prop_map(|(node, stop)| Act::Prove(node, stop)),
        2 => (0..NODES).prop_map(Act::Proved),
    ]
}

fn prove(world: &mut World, node: &str, stop: bool) {
    let (by, node) = ("ada".into(), node.into());
    let told = world.step(if stop {
        Command::StopProve { by, node }
    } else {
        let ask = ProveAsk::default();
        Command::BeginProve { by, node, ask }
    });
    match told {
        Ok(_) | Err(Refused::StoreFull(_) | Refused::ProveRuns(..) | Refused::NoProve(_)) => {}
        Err(Refused::NodeSilent(_) | Refused::NodeNeverSeen(_)) => {}
        Err(other) => panic!("{other:?}"),
    }
}

struct Story {
    world: World,
    nodes: Vec<SimNode>,
    /// Acknowledged jobs with their numbers.
    jobs: BTreeMap<JobId, u64>,
    submitted: u128,
}

impl Story {
    fn new() -> Self {
        let mut world = World::new();
        let nodes = (0..NODES)
            .zip(1..)
            .map(|(_, index)| SimNode::new(&mut world, index, 2))
            .collect();
        Self {
            world,
            nodes,
            jobs: BTreeMap::new(),
            submitted: 0,
        }
    }

    fn act(&mut self, act: Act) {
        let Self { world, nodes, .. } = self;
        match act {
            Act::Submit {
                workers,
                retries,
                replace,
            } => self.submit(workers, retries, replace),
            Act::Cancel(index) => {
                let job = self.jobs.keys().nth(index).copied();
                if let Some(job) = job {
                    let cancel = Command::Cancel {
                        by: "ada".into(),
                        job: JobRef::Id(job),
                    };
                    full_or(world.step(cancel));
                }
            }
            Act::Pass(secs) => self.pass(secs),
            Act::Connect(index) => nodes[index].connect(world),
            Act::Disconnect(index) => nodes[index].disconnect(world),
            Act::Exchange {
                node,
                orders_max,
                heard,
            } => nodes[node].exchange(world, orders_max, heard),
            Act::Finish { node, which, reason } => {
                let running = nodes[node].running();
                if !running.is_empty() {
                    nodes[node].finish(world, running[which % running.len()], reason);
                }
            }
            Act::Reboot(index) => {
                nodes[index].disconnect(world);
                nodes[index].reboot(world);
            }
            Act::LoseLedger(index) => {
                nodes[index].disconnect(world);
                nodes[index].lose_ledger();
            }
            Act::Restart => {
                world.restart();
                nodes.iter_mut().for_each(|node| node.session = None);
            }
            Act::DiskFull => world.disk_full = true,
            Act::Ceiling(index, mode, line) => {
                let command = Command::SetCeiling {
                    by: "ada".into(),
                    node: nodes[index].name.clone(),
                    mode,
                    line: line.map(PerMille),
                };
                full_or(world.step(command));
            }
            Act::Prove(index, stop) => prove(world, &nodes[index].name, stop),
            Act::Proved(index) => nodes[index].finish_prove(world),
            Act::Operate(index, verb) => {
                let node = nodes[index].name.clone();
                match world.step(Command::Operate {
                    by: "ada".into(),
                    node,
                    verb,
                }) {
                    Ok(_) | Err(Refused::StoreFull(_) | Refused::NodeConnected(_)) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
    }

    fn submit(&mut self, workers: u32, retries: u32, replace: bool) {
        self.submitted += 1;
        let on_node_lost = Some(if replace {
            OnNodeLost::Replace
        } else {
            OnNodeLost::Wait
        });
        let workers = Workers::Fixed(workers);
        let spec = spec(JobDraft {
            workers,
            retries,
            on_node_lost,
            ..draft()
        });
        match self.world.submit(self.submitted, spec) {
            Ok(Reply::Submitted { number, fresh: true }) => {
                self.jobs.insert(job_id(self.submitted), number);
            }
            Err(Refused::StoreFull(_)) => {}
            other => panic!("{other:?}"),
        }
    }

    fn pass(&mut self, secs: u64) {
        for second in 1..=secs {
            self.world.now.mono.0 += 1_000_000;
            self.world.now.wall.0 += 1_000_000;
            full_or(self.world.step(Command::Tick));
            if second % 5 == 0 {
                for node in &mut self.nodes {
                    node.heartbeat(&mut self.world);
                }
            }
        }
    }

    /// Everything that must hold at any moment, from the truth of the nodes.
    fn check(&self) {
        for (job, number) in &self.jobs {
            let detail = self
                .world
                .state
                .job(JobRef::Number(*number), self.world.now)
                .unwrap();
            assert_eq!(
                detail.summary.id, *job,
                "an acknowledged job is gone or renumbered"
            );
            for worker in 0..detail.summary.workers_max {
                let of_worker = detail.attempts.iter().filter(|attempt| attempt.worker == worker);
                self.check_worker(&of_worker.collect::<Vec<_>>());
            }
        }
    }

    fn check_worker(&self, attempts: &[&AttemptView]) {
        for (index, attempt) in attempts.iter().enumerate() {
            let last = index + 1 == attempts.len();
            assert!(
                last || attempt.ended.is_some(),
                "two attempts of one worker count at once"
            );
            let Some(ended) = &attempt.ended else { continue };
            let success = ended.reason.is_success();
            assert!(last || !success, "a worker that succeeded was started again");
            // What the fleet decided itself is no report of the node.
            let own = matches!(ended.reason, EndReason::NodeLost)
                || ended.detail == "cancelled before its node got the order";
            if ended.detail == "its node came back and does not know it any more" {
                let known = self
                    .nodes
                    .iter()
                    .filter_map(|node| node.runs.get(&attempt.id))
                    .any(|run| run.known);
                assert!(!known, "given up although its node can still tell its end");
            }
            match self.truth(attempt.id) {
                Some(Truth::Ended(truth)) => {
                    assert!(own || truth == ended.reason, "{truth} became {ended:?}")
                }
                Some(Truth::Runs) => assert!(own, "the end of a running attempt was invented: {ended:?}"),
                None => assert!(
                    own,
                    "the end of an attempt that never ran was invented: {ended:?}"
                ),
            }
        }
    }

    fn truth(&self, attempt: AttemptId) -> Option<Truth> {
        let truths: Vec<Truth> = self
            .nodes
            .iter()
            .filter_map(|node| node.runs.get(&attempt))
            .map(|run| run.truth)
            .collect();
        assert!(truths.len() <= 1, "{attempt} ran on two nodes");
        truths.first().copied()
    }

    /// All is well again: everyone connects, work ends, orders and events flow.
    fn heal(&mut self) {
        self.world.disk_full = false;
        for index in 0..NODES {
            self.nodes[index].connect(&mut self.world);
            self.act(Act::Operate(index, NodeVerb::Resume));
            // Nothing is placed on a closed node; what is lower than all is still to be told.
            self.act(Act::Ceiling(index, Some(LendMode::Enforce), Some(500)));
        }
        for _ in 0..60 {
            for node in &mut self.nodes {
                if node.session.is_none() {
                    node.connect(&mut self.world);
                }
                node.exchange(&mut self.world, usize::MAX, true);
                node.finish_prove(&self.world);
                for attempt in node.running() {
                    node.finish(&self.world, attempt, EndReason::Exited { code: 0 });
                }
                node.exchange(&mut self.world, usize::MAX, true);
            }
            self.pass(5);
            self.check();
            if self.is_quiet() {
                return;
            }
        }
        panic!(
            "not everything came to its end: {:#?}",
            self.world.state.jobs(false)
        );
    }

    fn is_quiet(&self) -> bool {
        let idle = |node: &SimNode| {
            let shown = self.world.state.node(&node.name, self.world.now).unwrap();
            shown.summary.workers == 0 && node.running().is_empty() && self.world.orders(node.id).is_empty()
        };
        self.world.state.jobs(false).is_empty() && self.nodes.iter().all(idle)
    }

    /// Each node may do what was said last, whatever it forgot; and nothing was counted twice.
    fn check_control(&self) {
        let shown = self.world.state.headroom(None, self.world.now).unwrap();
        assert_eq!(shown.len(), NODES);
        for (node, shown) in self.nodes.iter().zip(&shown) {
            assert_eq!(node.name, shown.summary.name);
            let said = shown.summary.ceiling.as_ref();
            assert!(said.is_none_or(|said| said.applied));
            assert_eq!(node.ceiling.as_ref(), said.map(|said| &said.ceiling));
            let tested = self.world.state.prove(&node.name, self.world.now).unwrap();
            let reported = tested.run.filter(|row| row.stage == ProveStage::Reported);
            assert!(reported.is_none_or(|row| node.reported.contains(&row.run)));
            assert!(tested.last.is_none_or(|row| node.reported.contains(&row.run)));
            let counted = shown.week.cost.evictions;
            assert!(counted <= node.evicted(), "{counted} of {}", node.evicted());
        }
    }

    fn check_outcomes(&self) {
        for number in self.jobs.values() {
            let detail = self
                .world
                .state
                .job(JobRef::Number(*number), self.world.now)
                .unwrap();
            let ends: Vec<EndReason> = detail
                .attempts
                .iter()
                .filter_map(|attempt| attempt.ended.as_ref())
                .map(|end| end.reason)
                .collect();
            let succeeded = ends.iter().filter(|end| end.is_success()).count();
            match detail.summary.phase {
                JobPhase::Done(JobOutcome::Succeeded) => {
                    let wanted = usize::try_from(detail.summary.workers_max).unwrap();
                    assert_eq!(succeeded, wanted, "exactly one success counts for each worker");
                }
                JobPhase::Done(JobOutcome::Failed) => {
                    let failed = |end: &EndReason| end.uses_up_retry() || *end == EndReason::Cancelled;
                    assert!(ends.iter().any(failed), "failed without a failure: {ends:?}");
                }
                JobPhase::Done(JobOutcome::Cancelled) => {}
                other => panic!("job {number} is {other:?}"),
            }
        }
    }
}

fn full_or(result: Result<Reply, Refused>) {
    assert!(matches!(result, Ok(_) | Err(Refused::StoreFull(_))), "{result:?}");
}

proptest! {
    #[test]
    fn any_history_ends_with_what_truly_happened(acts in prop::collection::vec(act(), 1..70)) {
        let mut story = Story::new();
        for index in 0..NODES {
            story.nodes[index].connect(&mut story.world);
        }
        for act in acts {
            story.act(act);
            story.check();
        }
        story.heal();
        story.check_outcomes();
        story.check_control();
        let rows = story.world.state.rows();
        story.world.restart();
        prop_assert_eq!(story.world.state.rows(), rows);
    }
}
