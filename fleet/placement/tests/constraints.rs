//! Jobs whose workers may not go just anywhere: preferences, spread, pack, near, away, gangs. An oracle here counts
//! domains a second time.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loadline_model::{
    Amounts, Arrange, Bytes, CpuRequest, Domain, JobId, MilliCpu, Needs, NodeId, Tier, WallTime,
    WorkerRequest, Workers,
};
use loadline_placement::{
    HeldByTier, Line, Node, NodeState, Plan, Planner, Policy, QueueEntry, ReasonCode, Restriction, Snapshot,
    Ties, Traits, Wanted, check, explain,
};
use proptest::collection::vec;
use proptest::prelude::*;

const NOW: WallTime = WallTime(0);

fn node_id(number: usize) -> NodeId {
    NodeId::from_slice(&u128::try_from(number + 1).unwrap().to_be_bytes()).unwrap()
}

fn job_id(number: u8) -> JobId {
    JobId::from_slice(&[number; 16]).unwrap()
}

/// A node that lends so many CPUs, in a zone.
fn node(number: usize, cpus: u32, zone: &str) -> Node {
    let amounts = Amounts {
        cpu: MilliCpu::from_cpus(cpus),
        memory: Bytes::from_gib(4096),
        gpus: 0,
    };
    let labels = [("zone".to_string(), zone.to_string())].into_iter();
    Node {
        id: node_id(number),
        name: format!("n{number}"),
        pool: "default".into(),
        state: NodeState::Ready,
        lending: true,
        traits: Arc::new(Traits {
            labels: Arc::new(labels.filter(|(_, zone)| !zone.is_empty()).collect()),
            ..Traits::default()
        }),
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

fn job(number: u8, workers: u32, needs: Needs) -> QueueEntry {
    let tied = needs.is_relative();
    QueueEntry {
        job: job_id(number),
        tier: Tier::Standard,
        number: number.into(),
        priority: loadline_model::Priority::NORMAL,
        time: None,
        grace: loadline_model::Span::ZERO,
        submitted_at: WallTime(number.into()),
        request: WorkerRequest {
            cpus: CpuRequest::Exclusive(1),
            memory: Bytes::from_gib(1),
            gpus: 0,
        },
        wanted: Wanted::new(Workers::Fixed(workers), 0, (0..workers).collect()),
        user: String::new(),
        team: String::new(),
        needs: Arc::new(needs),
        ties: tied.then(|| {
            Arc::new(Ties {
                workers,
                ..Ties::default()
            })
        }),
        nodes: Vec::new(),
        refusals: Vec::new(),
    }
}

fn arranged(arrange: Arrange) -> Needs {
    Needs {
        arrange,
        ..Needs::default()
    }
}

fn planned(nodes: &[Node], queue: &[QueueEntry]) -> Plan {
    let mut planner = Planner::default();
    nodes
        .iter()
        .for_each(|node| planner.put_node(node.clone()).unwrap());
    queue.iter().for_each(|entry| planner.put_job(entry));
    let plan = planner.plan(&Policy::default(), NOW);
    let snapshot = Snapshot {
        nodes: nodes.to_vec(),
    };
    assert_eq!(check::violations(&snapshot, queue, &plan, NOW), vec![]);
    plan
}

/// Workers per node.
fn by_node(plan: &Plan, nodes: &[Node]) -> Vec<usize> {
    let on = |node: &Node| plan.assignments.iter().filter(|it| it.node == node.id).count();
    nodes.iter().map(on).collect()
}

#[test]
fn a_preference_is_met_while_there_is_room_and_no_longer() {
    let nodes = [node(0, 9, "a"), node(1, 2, "b"), node(2, 1, "a")];
    let prefer = Needs {
        prefer: vec!["zone=b".parse().unwrap()],
        ..Needs::default()
    };
    assert_eq!(
        by_node(&planned(&nodes, &[job(1, 1, prefer.clone())]), &nodes),
        [0, 1, 0]
    );
    let all = by_node(&planned(&nodes, &[job(1, 4, prefer.clone())]), &nodes);
    assert_eq!((all[1], all.iter().sum::<usize>()), (2, 4), "{all:?}");
    let mut gang = job(1, 2, prefer);
    gang.wanted = gang.wanted.gang();
    assert_eq!(by_node(&planned(&nodes, &[gang]), &nodes), [0, 2, 0]);
}

#[test]
fn more_preferences_are_better_than_one() {
    let nodes = [node(0, 4, "a"), node(1, 4, "b"), node(2, 4, "")];
    let needs = Needs {
        prefer: vec!["zone".parse().unwrap(), "zone!=a".parse().unwrap()],
        ..Needs::default()
    };
    assert_eq!(by_node(&planned(&nodes, &[job(1, 3, needs)]), &nodes), [0, 3, 0]);
}

#[test]
fn packed_workers_stay_together_until_there_is_no_room() {
    let nodes = [node(0, 2, "a"), node(1, 3, "b"), node(2, 2, "a")];
    let pack = arranged(Arrange::Pack(Domain::Label("zone".into())));
    let plan = planned(&nodes, &[job(1, 4, pack)]);
    let counts = by_node(&plan, &nodes);
    assert!(counts == [2, 0, 2] || counts[1] == 3, "{counts:?}");
    let mut own = job(1, 2, arranged(Arrange::Pack(Domain::Node)));
    own.ties = Some(Arc::new(Ties {
        workers: 3,
        own: [(node_id(1), 1)].into_iter().collect(),
        ..Ties::default()
    }));
    assert_eq!(by_node(&planned(&nodes, &[own]), &nodes), [0, 2, 0]);
}

#[test]
fn a_spread_that_finds_no_domain_waits_and_says_what_would_do() {
    let nodes = [node(0, 4, "a"), node(1, 1, "b")];
    let mut busy = nodes.clone();
    let needs = Needs::default();
    let one = job(9, 1, needs).request;
    busy[1].held.add(Tier::Standard, &one, &Needs::default());
    let spread = job(1, 2, arranged(Arrange::Spread(Domain::Node)));
    let plan = planned(&busy, std::slice::from_ref(&spread));
    assert_eq!(by_node(&plan, &busy), [1, 0]);
    let mut rest = spread;
    rest.wanted.missing = vec![1];
    rest.ties = Some(Arc::new(Ties {
        workers: 2,
        own: [(node_id(0), 1)].into_iter().collect(),
        ..Ties::default()
    }));
    busy[0].held.add(Tier::Standard, &one, &Needs::default());
    let why = explain(&Snapshot { nodes: busy.to_vec() }, &rest, NOW);
    let told: Vec<_> = why
        .reasons
        .iter()
        .map(|it| (it.code, it.sentence.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (
                ReasonCode::SpreadFull,
                "n0 has its part of this job's workers, which are to be spread"
            ),
            (
                ReasonCode::CpusBusy,
                "a worker wants 1 CPU, and n1 has none left to lend"
            ),
        ]
    );
    let change = why.change.unwrap();
    assert_eq!(
        change.to_string(),
        "spread the workers only as far as there is room (--prefer-spread)"
    );
    let eased = Restriction::Spread.left_out(&rest);
    assert_eq!(by_node(&planned(&busy, &[eased]), &busy), [1, 0]);
}

#[test]
fn of_jobs_that_are_tied_one_moves_in_a_plan() {
    let nodes = [node(0, 4, "a"), node(1, 4, "a")];
    let tied = |number, me: &str, with: &str| {
        let mut entry = job(number, 1, Needs::default());
        entry.ties = Some(Arc::new(Ties {
            me: me.into(),
            with: [with.to_string()].into(),
            ..Ties::default()
        }));
        entry
    };
    let queue = [
        tied(1, "db", "web"),
        tied(2, "web", "db"),
        tied(3, "other", "none"),
    ];
    let mut planner = Planner::default();
    nodes
        .iter()
        .for_each(|node| planner.put_node(node.clone()).unwrap());
    queue.iter().for_each(|entry| planner.put_job(entry));
    let jobs = |plan: &Plan| plan.assignments.iter().map(|it| it.job).collect::<Vec<_>>();
    let first = planner.plan(&Policy::default(), NOW);
    assert_eq!((jobs(&first), first.more), (vec![job_id(1), job_id(3)], true));
    let second = planner.plan(&Policy::default(), NOW);
    assert_eq!((jobs(&second), second.more), (vec![job_id(2)], false));
}

#[test]
fn an_impossible_gang_is_told_from_one_that_waits() {
    let mut nodes = [node(0, 2, "a"), node(1, 2, "a")];
    let gang = |workers| {
        let mut entry = job(1, workers, Needs::default());
        entry.wanted = entry.wanted.gang();
        entry
    };
    assert_eq!(
        by_node(&planned(&nodes, &[gang(2)]), &nodes).iter().max(),
        Some(&2)
    );
    assert_eq!(planned(&nodes, &[gang(4)]).assignments.len(), 4);
    assert!(planned(&nodes, &[gang(5)]).assignments.is_empty());
    let why = |nodes: &[Node], workers| {
        let snapshot = Snapshot {
            nodes: nodes.to_vec(),
        };
        explain(&snapshot, &gang(workers), NOW)
    };
    let never = why(&nodes, 5);
    assert_eq!(
        (never.phrase().as_str(), never.passes),
        (
            "even with no other work there is room for 4 of the 5 workers that start together",
            false
        )
    );
    let one = gang(1);
    nodes[0].held.add(Tier::Standard, &one.request, &one.needs);
    let waits = why(&nodes, 4);
    assert_eq!(
        (waits.reasons[0].code, waits.passes),
        (ReasonCode::NotAllTogether, true)
    );
}

/// Many distinct requirements on labels that are different on each node do not make the fleet many classes for ever.
#[test]
fn requirements_nobody_asks_for_any_more_cost_nothing() {
    let mut planner = Planner::default();
    for number in 0..40 {
        planner
            .put_node(node(number, 1000, &format!("z{number}")))
            .unwrap();
    }
    for round in 0..3000usize {
        let wanted = round % 40;
        let needs = Needs {
            require: vec![format!("zone in (z{wanted},x{round})").parse().unwrap()],
            ..Needs::default()
        };
        planner.put_job(&job(1, 1, needs));
        let plan = planner.plan(&Policy::default(), NOW);
        let places: Vec<NodeId> = plan.assignments.iter().map(|it| it.node).collect();
        assert_eq!(places, [node_id(wanted)], "round {round}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Oracle: a strict spread places as many as its bound and the room in each domain let it, and evenly.
    #[test]
    fn a_spread_is_even(
        sizes in vec((0u32..5, 0usize..3), 1..6),
        workers in 1u32..9,
        label in any::<bool>(),
        strict in any::<bool>(),
    ) {
        let zones = ["a", "b", ""];
        let nodes: Vec<Node> = (0..).zip(&sizes).map(|(number, (cpus, zone))| node(number, *cpus, zones[*zone])).collect();
        let domain = if label { Domain::Label("zone".into()) } else { Domain::Node };
        let arrange = if strict { Arrange::Spread(domain) } else { Arrange::PreferSpread(domain) };
        let plan = planned(&nodes, &[job(1, workers, arranged(arrange))]);
        let mut room: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for (node, (cpus, zone)) in nodes.iter().zip(&sizes) {
            let key = if label { zones[*zone].to_string() } else { node.name.clone() };
            let entry = room.entry(key).or_default();
            entry.0 += cpus;
            entry.1 += u32::try_from(plan.assignments.iter().filter(|it| it.node == node.id).count()).unwrap();
        }
        room.retain(|_, (cpus, _)| *cpus > 0);
        let domains = u32::try_from(room.len()).unwrap();
        let most = if strict && domains > 0 { workers.div_ceil(domains) } else { u32::MAX };
        let possible: u32 = room.values().map(|(cpus, _)| (*cpus).min(most)).sum();
        prop_assert_eq!(u32::try_from(plan.assignments.len()).unwrap(), possible.min(workers));
        // Nowhere two more than where there was room for one more.
        for (cpus, got) in room.values() {
            if got < cpus {
                prop_assert!(room.values().all(|(_, other)| *other <= got + 1), "{:?}", room);
            }
        }
    }

    #[test]
    fn near_and_away_are_kept(
        sizes in vec(0u32..4, 1..6),
        near in prop::option::of(prop::collection::btree_set(0usize..6, 0..4)),
        away in prop::collection::btree_set(0usize..6, 0..3),
        workers in 1u32..6,
    ) {
        let nodes: Vec<Node> = (0..).zip(&sizes).map(|(number, cpus)| node(number, *cpus, "a")).collect();
        let ids = |nodes: &BTreeSet<usize>| -> BTreeSet<NodeId> { nodes.iter().map(|node| node_id(*node)).collect() };
        let mut entry = job(1, workers, Needs::default());
        entry.ties = Some(Arc::new(Ties { near: near.as_ref().map(ids), away: ids(&away), ..Ties::default() }));
        let plan = planned(&nodes, &[entry]);
        let allowed = |number: &usize| near.as_ref().is_none_or(|near| near.contains(number)) && !away.contains(number);
        let room: u32 = (0..sizes.len()).filter(allowed).map(|number| sizes[number]).sum();
        prop_assert_eq!(u32::try_from(plan.assignments.len()).unwrap(), room.min(workers));
    }
}
