//! What a plan costs while nothing changes, and what it forgets.

use alloc::string::String;
use alloc::sync::Arc;

use loadline_model::{Amounts, Bytes, CpuRequest, JobId, MilliCpu, NodeId, Tier, WorkerRequest, Workers};

use super::*;
use crate::queue::{QueueEntry, Wanted};
use crate::snapshot::{HeldByTier, Line, Node, NodeState};

fn node() -> Node {
    let amounts = Amounts {
        cpu: MilliCpu::from_cpus(4),
        memory: Bytes::from_gib(200),
        gpus: 0,
    };
    Node {
        id: NodeId::from_slice(&[1; 16]).unwrap(),
        name: "n1".into(),
        pool: "default".into(),
        state: NodeState::Ready,
        lending: true,
        traits: Arc::default(),
        line: Line {
            firm: amounts,
            now: amounts,
            whole_cpus: 4,
            scratch: loadline_model::Bytes::ZERO,
        },
        exclusive_cpus: true,
        allow_teams: Vec::new(),
        held: HeldByTier::default(),
    }
}

fn job(number: u32) -> QueueEntry {
    QueueEntry {
        job: JobId::from_slice(&u128::from(number).to_be_bytes()).unwrap(),
        number: number.into(),
        tier: Tier::Standard,
        priority: loadline_model::Priority::NORMAL,
        time: None,
        grace: loadline_model::Span::ZERO,
        submitted_at: WallTime(number.into()),
        request: WorkerRequest {
            cpus: CpuRequest::Exclusive(1),
            memory: Bytes::from_mib(number.into()),
            gpus: 0,
        },
        wanted: Wanted::new(Workers::Fixed(1), 0, [0].into()),
        user: "ada".into(),
        team: String::new(),
        needs: Arc::default(),
        ties: None,
        nodes: Vec::new(),
        refusals: Vec::new(),
    }
}

#[test]
fn what_nobody_asks_for_any_more_is_forgotten() {
    let mut planner = Planner::default();
    let mut most = 0;
    // Twice as many as the mix of what is asked for remembers.
    for number in 1..=140_000 {
        planner.put_node(node()).unwrap();
        planner.put_job(&job(number));
        let plan = planner.plan(&Policy::default(), WallTime(0));
        assert_eq!(plan.assignments.len(), 1, "job {number}");
        most = most.max(planner.nodes.engine.shapes());
    }
    assert!(most <= 131_072, "{most} shapes were known at once");
    let known = planner.nodes.engine.shapes();
    // Those of the last 65,536 workers may be asked for again soon.
    assert!(known < 75_000, "{known} shapes are known still");
    // They still mean what they meant.
    planner.put_node(node()).unwrap();
    for number in [3, 1, 2, 250_000, 5, 6, 7] {
        planner.put_job(&job(number));
    }
    let plan = planner.plan(&Policy::default(), WallTime(0));
    let placed: Vec<u8> = plan.assignments.iter().map(|it| it.job.as_bytes()[15]).collect();
    assert_eq!(
        placed,
        [1, 2, 3, 5],
        "the first in turn, four CPUs, and none for who wants too much memory"
    );
}

#[test]
fn a_queue_that_stands_still_is_not_looked_at_again() {
    let mut planner = Planner::default();
    planner.put_node(node()).unwrap();
    for number in 1..=5 {
        let request = job(1).request;
        planner.put_job(&QueueEntry {
            request,
            ..job(number)
        });
    }
    let plan = planner.plan(&Policy::default(), WallTime(0));
    assert_eq!(plan.assignments.len(), 4);
    let phase = Phase::ALL[0];
    let heads = |planner: &mut Planner| {
        let mark = (
            planner.nodes.engine.freed(Tier::Standard),
            planner.nodes.epoch(),
            planner.turned,
        );
        planner.lines.ready(phase, mark).len()
    };
    planner.plan(&Policy::default(), WallTime(0));
    assert_eq!(heads(&mut planner), 0, "nothing was freed");
    planner.put_node(node()).unwrap();
    assert_eq!(
        heads(&mut planner),
        1,
        "the plan was not carried out: there is room again"
    );
}
