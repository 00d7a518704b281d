//! Property tests with an oracle of their own: whether a worker fits on a node is decided here a second time, from
//! the words of the design and without the crate's filters.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "truth/live.rs"]
mod live;

use std::collections::BTreeSet;
use std::sync::Arc;

use loadline_model::{
    Amounts, Bytes, CpuRequest, Elastic, JobId, MilliCpu, Needs, NodeId, Numa, PerMille, Tier, WallTime,
    WorkerRequest, Workers,
};
use loadline_placement::{
    Change, HeldByTier, Line, Node, NodeState, NumaRoom, Plan, Policy, QueueEntry, ReasonCode, Refusal,
    Report, Snapshot, Start, Ties, Traits, Wanted, Why, check, plan,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;

const NOW: WallTime = WallTime(1_000);
const NAMES: [&str; 3] = ["n0", "n1", "n2"];

fn node_id(index: usize) -> NodeId {
    NodeId::from_slice(&[u8::try_from(index).unwrap(); 16]).unwrap()
}

fn gib(count: u64) -> Bytes {
    Bytes::from_gib(count)
}

prop_compose! {
    fn amounts(cpus: u64)(cpu in 0..=cpus * 2, memory in 0u64..=8, gpus in 0u32..=2) -> Amounts {
        Amounts { cpu: MilliCpu(cpu * 500), memory: gib(memory), gpus }
    }
}

fn request() -> impl Strategy<Value = WorkerRequest> {
    let cpus = prop_oneof![
        (1u32..6).prop_map(CpuRequest::Exclusive),
        select(vec![300u64, 500, 1500, 2500]).prop_map(|share| CpuRequest::Shared(MilliCpu(share))),
    ];
    (cpus, 1u64..6, 0u32..2).prop_map(|(cpus, memory, gpus)| WorkerRequest {
        cpus,
        memory: gib(memory),
        gpus,
    })
}

prop_compose! {
    fn traits()(
        zone in prop::option::of(select(vec!["a", "b"])),
        taint in prop::option::weighted(0.3, select(vec!["only=gpu", "only=cpu", "spot"])),
        gpu_memory in select(vec![0u64, 16, 40]),
        numa in prop::collection::vec((1u32..6, 1u64..6), 0..3),
    ) -> Arc<Traits> {
        let numa = numa.into_iter().map(|(cpus, memory)| NumaRoom { cpu: MilliCpu::from_cpus(cpus), memory: gib(memory) });
        Arc::new(Traits {
            labels: Arc::new(zone.map(|zone| ("zone".to_string(), zone.to_string())).into_iter().collect()),
            taints: taint.map(|taint| taint.parse().unwrap()).into_iter().collect(),
            gpu_memory: gib(gpu_memory),
            numa: numa.collect(),
        })
    }
}

prop_compose! {
    fn needs(gpus: u32)(
        require in prop::option::weighted(0.3, select(vec!["zone=a", "zone!=a", "zone in (a,b)", "zone", "!zone"])),
        prefer in prop::option::weighted(0.2, select(vec!["zone=b", "!zone"])),
        tolerate in prop::option::weighted(0.6, select(vec!["only", "only=gpu", "spot"])),
        gpu_memory in select(vec![0u64, 0, 0, 40]),
        half in prop::bool::weighted(0.3),
        scratch in select(vec![0u64, 0, 0, 3]),
        single in prop::bool::weighted(0.2),
    ) -> Arc<Needs> {
        Arc::new(Needs {
            require: require.map(|it| it.parse().unwrap()).into_iter().collect(),
            prefer: prefer.map(|it| it.parse().unwrap()).into_iter().collect(),
            tolerate: tolerate.map(|it| it.parse().unwrap()).into_iter().collect(),
            gpu_memory: if gpus > 0 { gib(gpu_memory) } else { Bytes::ZERO },
            gpu_share: (half && gpus == 1).then_some(PerMille(500)),
            scratch: gib(scratch),
            numa: if single { Numa::Single } else { Numa::Any },
            ..Needs::default()
        })
    }
}

fn worker() -> impl Strategy<Value = (WorkerRequest, Arc<Needs>)> {
    request().prop_flat_map(|request| (Just(request), needs(request.gpus)))
}

/// Where others are, for who is near them or away from them.
fn ties() -> impl Strategy<Value = Option<Arc<Ties>>> {
    let nodes = || subsequence(vec![0usize, 1, 2], 0..=3);
    let near = prop::option::weighted(0.5, nodes());
    let some = (near, nodes()).prop_map(|(near, away)| {
        let ids = |nodes: Vec<usize>| -> BTreeSet<NodeId> { nodes.into_iter().map(node_id).collect() };
        Arc::new(Ties {
            near: near.map(ids),
            away: ids(away),
            ..Ties::default()
        })
    });
    prop::option::weighted(0.3, some)
}

fn tier() -> impl Strategy<Value = Tier> {
    select(vec![Tier::Standard, Tier::Burst])
}

fn node(index: usize) -> impl Strategy<Value = Node> {
    use NodeState as S;
    let states = vec![
        S::Ready,
        S::Ready,
        S::Ready,
        S::Suspect,
        S::Unattended,
        S::Lost,
        S::Draining,
        S::NeverSeen,
        S::Banned,
    ];
    let who = (
        select(states),
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.8),
    );
    let teams = prop_oneof![3 => Just(vec![]), 1 => Just(vec!["vision".to_string()])];
    let held = vec((tier(), worker()), 0..3);
    let line = (amounts(6), amounts(6), 0u32..6, 0u64..6);
    (who, line, traits(), teams, held).prop_map(
        move |(
            (state, lending, exclusive_cpus),
            (firm, now, whole_cpus, scratch),
            traits,
            allow_teams,
            held,
        )| Node {
            id: node_id(index),
            name: NAMES[index].into(),
            pool: "default".into(),
            state,
            lending,
            line: Line {
                firm,
                now,
                whole_cpus,
                scratch: gib(scratch),
            },
            traits,
            exclusive_cpus,
            allow_teams,
            held: held
                .iter()
                .fold(HeldByTier::default(), |mut sum, (tier, (request, needs))| {
                    sum.add(*tier, request, needs);
                    sum
                }),
        },
    )
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (node(0), node(1), node(2), 0usize..=3).prop_map(|(a, b, c, count)| Snapshot {
        nodes: [a, b, c].into_iter().take(count).collect(),
    })
}

prop_compose! {
    fn refusal()(index in 0usize..3, until in prop::option::of(900i64..1100)) -> Refusal {
        Refusal { node: node_id(index), until: until.map(WallTime), why: "no".into() }
    }
}

fn entry(number: u8) -> impl Strategy<Value = QueueEntry> {
    let workers = prop_oneof![
        (1u32..4).prop_map(Workers::Fixed),
        (1u32..4, 0u32..3).prop_map(|(min, more)| Workers::Elastic(Elastic { min, max: min + more })),
    ];
    let place = (
        subsequence(NAMES.to_vec(), 0..=2),
        prop::bool::weighted(0.3),
        vec(refusal(), 0..2),
        prop::bool::ANY,
        ties(),
    );
    let worker = (worker(), prop::bool::weighted(0.3));
    (tier(), 0i64..4, worker, workers, place).prop_map(
        move |(tier, at, ((request, needs), gang), workers, (names, named, refusals, team, ties))| {
            QueueEntry {
                job: JobId::from_slice(&[number; 16]).unwrap(),
                number: 0,
                tier,
                priority: loadline_model::Priority::NORMAL,
                time: None,
                grace: loadline_model::Span::ZERO,
                submitted_at: WallTime(at),
                request,
                wanted: {
                    let wanted = Wanted::new(workers, 0, (0..workers.max()).collect());
                    if gang { wanted.gang() } else { wanted }
                },
                needs,
                ties,
                user: "ada".into(),
                team: if team { "vision".into() } else { String::new() },
                nodes: if named {
                    names.iter().map(|name| (*name).to_string()).collect()
                } else {
                    vec![]
                },
                refusals,
            }
        },
    )
}

fn queue() -> impl Strategy<Value = Vec<QueueEntry>> {
    (entry(1), entry(2), entry(3), entry(4), 0usize..=4)
        .prop_map(|(a, b, c, d, count)| [a, b, c, d].into_iter().take(count).collect())
}

/// The oracle: may one more worker go there?
fn fits(node: &Node, entry: &QueueEntry) -> bool {
    fits_at(node, entry, NOW)
}

fn fits_at(node: &Node, entry: &QueueEntry, now: WallTime) -> bool {
    let line = &node.line;
    let (standard, burst) = (node.held.standard, node.held.burst);
    let share = entry.needs.gpu_share;
    let new = Amounts {
        gpus: if share.is_some() { 0 } else { entry.request.gpus },
        ..Amounts::from(entry.request)
    };
    let all = standard.amounts.plus(burst.amounts).plus(new);
    // A resource that the worker does not ask for cannot keep it away.
    let within = |held: Amounts, line: Amounts| {
        held.cpu <= line.cpu && held.memory <= line.memory && (new.gpus == 0 || held.gpus <= line.gpus)
    };
    let higher = Amounts {
        cpu: line.firm.cpu.max(line.now.cpu),
        memory: line.firm.memory.max(line.now.memory),
        gpus: line.firm.gpus.max(line.now.gpus),
    };
    let standard_fits = within(standard.amounts.plus(new), line.firm) && within(all, higher);
    let room = match (entry.tier, entry.request.cpus) {
        (Tier::Burst, _) => within(all, line.now),
        (Tier::Standard, CpuRequest::Shared(_)) => standard_fits,
        (Tier::Standard, CpuRequest::Exclusive(cpus)) => {
            let whole = standard.whole_cpus + burst.whole_cpus + cpus;
            node.exclusive_cpus && whole <= line.whole_cpus && standard_fits
        }
    };
    let refused = entry
        .refusals
        .iter()
        .any(|refusal| refusal.node == node.id && refusal.until.is_none_or(|until| until > now));
    let room = room
        && gpu_parts_fit(node, entry)
        && (entry.needs.scratch.is_zero()
            || entry.needs.scratch.0 + standard.scratch.0 + burst.scratch.0 <= node.line.scratch.0);
    room && traits_fit(node, entry)
        && node.state == NodeState::Ready
        && node.lending
        && !refused
        && (entry.nodes.is_empty() || entry.nodes.contains(&node.name))
        && (node.allow_teams.is_empty() || node.allow_teams.contains(&entry.team))
}

/// GPUs in thousandths; shares lie as close together as they can, so what is left of a GPU in use is of no use for
/// whole ones.
fn gpu_parts_fit(node: &Node, entry: &QueueEntry) -> bool {
    if entry.request.gpus == 0 {
        return true;
    }
    let (standard, burst) = (node.held.standard, node.held.burst);
    let parts = |held: loadline_placement::Held| held.amounts.gpus * 1000 + held.gpu_shares;
    let left = |line: u32, held: u32| (line * 1000).saturating_sub(held);
    let all = parts(standard) + parts(burst);
    let (firm, now) = (node.line.firm.gpus, node.line.now.gpus);
    let left = match entry.tier {
        Tier::Burst => left(now, all),
        Tier::Standard => left(firm, parts(standard)).min(left(firm.max(now), all)),
    };
    match entry.needs.gpu_share {
        Some(share) => u32::from(share.0) <= left,
        None => entry.request.gpus <= left / 1000,
    }
}

/// What the node is, and who is there.
fn traits_fit(node: &Node, entry: &QueueEntry) -> bool {
    let (traits, needs) = (&node.traits, &entry.needs);
    let zone = traits.labels.get("zone").map(String::as_str);
    let labels = needs.require.iter().all(|it| match it.to_string().as_str() {
        "zone=a" => zone == Some("a"),
        "zone!=a" => zone != Some("a"),
        "zone in (a,b)" | "zone" => zone.is_some(),
        "!zone" => zone.is_none(),
        other => panic!("{other} has no oracle"),
    });
    let taints = traits.taints.iter().all(|taint| {
        let tolerated: Vec<String> = needs.tolerate.iter().map(ToString::to_string).collect();
        tolerated.contains(&taint.to_string()) || tolerated.contains(&taint.key)
    });
    let numa = traits
        .numa
        .iter()
        .any(|room| entry.request.cpus.amount() <= room.cpu && entry.request.memory <= room.memory);
    let ties = entry.ties.as_deref().cloned().unwrap_or_default();
    labels
        && taints
        && (needs.numa == Numa::Any || numa)
        && (entry.request.gpus == 0 || needs.gpu_memory <= traits.gpu_memory)
        && ties.near.is_none_or(|near| near.contains(&node.id))
        && !ties.away.contains(&node.id)
}

/// How many workers of a job fit at once: equal workers never compete between nodes, so nodes add up.
fn capacity(nodes: &[Node], entry: &QueueEntry) -> u32 {
    capacity_at(nodes, entry, NOW)
}

fn capacity_at(nodes: &[Node], entry: &QueueEntry, now: WallTime) -> u32 {
    let on = |node: &Node| {
        let mut node = node.clone();
        let mut count = 0;
        while count < 20 && fits_at(&node, entry, now) {
            node.held.add(entry.tier, &entry.request, &entry.needs);
            count += 1;
        }
        count
    };
    nodes.iter().map(on).sum()
}

/// The same once all work has ended, who is silent is back, and who refused for now has taken it.
fn capacity_when_empty(nodes: &[Node], entry: &QueueEntry) -> u32 {
    let emptied = |node: &Node| Node {
        held: HeldByTier::default(),
        state: match node.state {
            NodeState::Suspect | NodeState::Lost | NodeState::Unattended => NodeState::Ready,
            state => state,
        },
        ..node.clone()
    };
    let empty: Vec<Node> = nodes.iter().map(emptied).collect();
    let mut entry = entry.clone();
    entry.refusals.retain(|refusal| refusal.until.is_none());
    capacity(&empty, &entry)
}

fn carried_out(snapshot: &Snapshot, queue: &[QueueEntry], plan: &Plan) -> (Snapshot, Vec<QueueEntry>) {
    carried_out_at(snapshot, queue, plan, NOW)
}

fn carried_out_at(
    snapshot: &Snapshot,
    queue: &[QueueEntry],
    plan: &Plan,
    now: WallTime,
) -> (Snapshot, Vec<QueueEntry>) {
    let (mut snapshot, mut queue) = (snapshot.clone(), queue.to_vec());
    for assignment in &plan.assignments {
        let entry = queue
            .iter_mut()
            .find(|entry| entry.job == assignment.job)
            .unwrap();
        let node = snapshot
            .nodes
            .iter_mut()
            .find(|node| node.id == assignment.node)
            .unwrap();
        assert!(fits_at(node, entry, now), "{assignment:?} does not fit");
        node.held.add(entry.tier, &entry.request, &entry.needs);
        entry.wanted.missing.retain(|worker| *worker != assignment.worker);
        entry.wanted.needed = entry.wanted.needed.saturating_sub(1);
    }
    (snapshot, queue)
}

fn decide(snapshot: &Snapshot, queue: &[QueueEntry]) -> (Plan, Report) {
    plan(snapshot, queue, &Policy::greedy(), NOW)
}

fn must_start(entry: &QueueEntry) -> u32 {
    match entry.wanted.start {
        Start::Together => entry.wanted.needed.max(1),
        Start::OneByOne => 1,
    }
}

fn large_numa() -> NumaRoom {
    NumaRoom {
        cpu: MilliCpu(100_000),
        memory: gib(100),
    }
}

/// Takes one reason away, from the node or from the job.
fn repair(code: ReasonCode, node: &mut Node, entry: &mut QueueEntry) {
    use ReasonCode as C;
    let more = |line: &mut Line, extra: Amounts| {
        line.firm = line.firm.plus(extra);
        line.now = line.now.plus(extra);
    };
    let none = Amounts::default();
    let for_good = |refusal: &Refusal| refusal.until.is_none();
    match code {
        C::NodeSilent
        | C::NodeUnattended
        | C::NodeLost
        | C::NodeDraining
        | C::NodeNeverSeen
        | C::NodeBanned => {
            node.state = NodeState::Ready;
        }
        C::NodeLendsNothing => node.lending = true,
        C::NodeNotSelected => entry.nodes.push(node.name.clone()),
        C::NodeRefused => entry.refusals.retain(|it| it.node != node.id || !for_good(it)),
        C::NodeRefusedForNow => entry.refusals.retain(|it| it.node != node.id || for_good(it)),
        C::TeamNotAllowed => node.allow_teams.push(entry.team.clone()),
        C::ExclusiveCpusUnsupported => {
            node.exclusive_cpus = true;
            node.line.whole_cpus += 100;
        }
        C::CpusBeyondLine | C::CpusBusy => {
            more(
                &mut node.line,
                Amounts {
                    cpu: MilliCpu(100_000),
                    ..none
                },
            );
            node.line.whole_cpus += 100;
        }
        C::MemoryBeyondLine | C::MemoryBusy => more(
            &mut node.line,
            Amounts {
                memory: gib(100),
                ..none
            },
        ),
        C::GpusBeyondLine | C::GpusBusy => more(&mut node.line, Amounts { gpus: 100, ..none }),
        C::LabelsUnmet => Arc::make_mut(&mut entry.needs).require.clear(),
        C::TaintNotTolerated => Arc::make_mut(&mut node.traits).taints.clear(),
        C::GpuTooSmall => Arc::make_mut(&mut node.traits).gpu_memory = gib(100),
        C::NumaTooSmall => Arc::make_mut(&mut node.traits).numa = [large_numa()].into(),
        C::ScratchBeyondLine | C::ScratchBusy => node.line.scratch = gib(100),
        C::NotNear | C::TooNear => {
            let ties = Arc::make_mut(entry.ties.as_mut().unwrap());
            if code == C::NotNear {
                ties.near.as_mut().unwrap().insert(node.id);
            } else {
                ties.away.remove(&node.id);
            }
        }
        C::NoNodes
        | C::NodeUnknown
        | C::NotAllTogether
        | C::SpreadFull
        | C::GangBeyondFleet
        | C::KeptForOthers
        | C::QuotaReached
        | C::WindowShut
        | C::BehindOthers => panic!("{code:?} is not about a node"),
    }
}

fn codes_of(why: &Why, node: &Node) -> Vec<ReasonCode> {
    let named = why
        .reasons
        .iter()
        .filter(|reason| reason.examples.contains(&node.name));
    named.map(|reason| reason.code).collect()
}

/// All reasons taken away the worker fits, or only now are there others (it was not looked at further); with one
/// left it does not fit.
fn judge(node: &Node, entry: &QueueEntry, codes: &[ReasonCode]) {
    let repaired = |skip: Option<ReasonCode>| {
        let (mut node, mut entry) = (node.clone(), entry.clone());
        for code in codes.iter().copied().filter(|code| Some(*code) != skip) {
            repair(code, &mut node, &mut entry);
        }
        (node, entry)
    };
    assert!(
        !fits(node, entry),
        "{} fits, and yet {codes:?} is named",
        node.name
    );
    for code in codes {
        let (node, entry) = repaired(Some(*code));
        assert!(
            !fits(&node, &entry),
            "{code:?} is named for {}, and is not needed",
            node.name
        );
    }
    let (node, entry) = repaired(None);
    let first_look_only = [ReasonCode::NodeNotSelected, ReasonCode::NodeBanned];
    if codes.iter().any(|code| first_look_only.contains(code)) {
        return;
    }
    assert!(
        fits(&node, &entry),
        "{codes:?} are all that is named for {}",
        node.name
    );
}

fn changed(change: &Change, snapshot: &Snapshot, entry: &QueueEntry) -> (Snapshot, QueueEntry) {
    let (mut snapshot, mut entry) = (snapshot.clone(), entry.clone());
    match change {
        Change::AllowNode { node } => entry.nodes.push(node.clone()),
        Change::ShareCpus { cpus, .. } => entry.request.cpus = CpuRequest::Shared(*cpus),
        Change::AskForLess { request, .. } => entry.request = *request,
        Change::FewerWorkers { min } => entry.wanted.needed = *min,
        Change::UseTier { tier } => entry.tier = *tier,
        Change::LeaveOut { what } => entry = what.left_out(&entry),
        Change::Tolerate { taint, .. } => Arc::make_mut(&mut entry.needs).tolerate.push(taint.clone()),
        Change::LessScratch { scratch, .. } => Arc::make_mut(&mut entry.needs).scratch = *scratch,
        Change::GiveTime | Change::ShorterTime { .. } | Change::RaiseQuota { .. } => {
            panic!("there are no quotas and nothing is kept: {change:?}")
        }
        Change::ResumeNode { node } => {
            let node = snapshot
                .nodes
                .iter_mut()
                .find(|candidate| candidate.name == *node)
                .unwrap();
            assert_eq!(node.state, NodeState::Draining);
            node.state = NodeState::Ready;
        }
    }
    (snapshot, entry)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_is_placed_that_does_not_fit(snapshot in snapshot(), queue in queue()) {
        let (plan, _) = decide(&snapshot, &queue);
        carried_out(&snapshot, &queue, &plan);
        prop_assert_eq!(check::violations(&snapshot, &queue, &plan, NOW), vec![]);
    }

    #[test]
    fn the_order_of_the_lists_does_not_matter(snapshot in snapshot(), queue in queue()) {
        let turned = Snapshot { nodes: snapshot.nodes.iter().rev().cloned().collect() };
        let reversed: Vec<QueueEntry> = queue.iter().rev().cloned().collect();
        prop_assert_eq!(decide(&snapshot, &queue), decide(&turned, &reversed));
    }

    #[test]
    fn nothing_waits_that_could_start(snapshot in snapshot(), queue in queue()) {
        let (plan, report) = decide(&snapshot, &queue);
        let (after, rest) = carried_out(&snapshot, &queue, &plan);
        for entry in &rest {
            let waiting = report.of(entry.job).map_or(0, |waiting| waiting.workers);
            prop_assert_eq!(usize::try_from(waiting).unwrap(), entry.wanted.missing.len());
            if waiting > 0 {
                prop_assert!(capacity(&after.nodes, entry) < must_start(entry), "{:?}", entry);
            }
        }
    }

    #[test]
    fn every_reason_is_true(snapshot in snapshot(), queue in queue()) {
        let (plan, report) = decide(&snapshot, &queue);
        let (after, rest) = carried_out(&snapshot, &queue, &plan);
        for waiting in &report.waiting {
            let entry = rest.iter().find(|entry| entry.job == waiting.job).unwrap();
            prop_assert!(!waiting.why.reasons.is_empty());
            let (room, must) = (capacity(&after.nodes, entry), must_start(entry));
            let most = capacity_when_empty(&after.nodes, entry);
            let never = (1..must).contains(&most);
            let told = |code| waiting.why.reasons.iter().any(|reason| reason.code == code);
            prop_assert_eq!(told(ReasonCode::GangBeyondFleet), never);
            prop_assert!(!never || !waiting.why.passes);
            // Some node has room: what is said is about all of them together.
            if room >= 1 {
                prop_assert!(room < must && waiting.why.reasons.len() == 1);
                prop_assert_eq!(told(ReasonCode::NotAllTogether), !never);
                continue;
            }
            for node in &after.nodes {
                let codes = codes_of(&waiting.why, node);
                let silent = node.state == NodeState::Banned && entry.nodes.is_empty();
                prop_assert_eq!(codes.is_empty(), silent, "{} is not told of", &node.name);
                if !silent {
                    judge(node, entry, &codes);
                }
            }
        }
    }

    #[test]
    fn the_change_that_is_named_starts_the_job(snapshot in snapshot(), queue in queue()) {
        let (plan, report) = decide(&snapshot, &queue);
        let (after, rest) = carried_out(&snapshot, &queue, &plan);
        for waiting in &report.waiting {
            let entry = rest.iter().find(|entry| entry.job == waiting.job).unwrap();
            let Some(change) = &waiting.why.change else { continue };
            let (snapshot, entry) = changed(change, &after, entry);
            let needed = if matches!(change, Change::FewerWorkers { .. }) { entry.wanted.needed } else { must_start(&entry) };
            prop_assert!(capacity(&snapshot.nodes, &entry) >= needed, "{:?}", change);
        }
    }
}

#[test]
fn the_checker_finds_what_it_is_for() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3000 {
        let (snapshot, queue) = (snapshot(), queue()).new_tree(&mut runner).unwrap().current();
        let (Some(node), Some(entry)) = (snapshot.nodes.first(), queue.first()) else {
            continue;
        };
        // One worker put where the oracle says it does not fit, whatever the reason.
        if fits(node, entry) || entry.wanted.needed > 1 {
            continue;
        }
        let assignment = loadline_placement::Assignment {
            job: entry.job,
            worker: 0,
            node: node.id,
        };
        let bad = Plan {
            assignments: vec![assignment],
            ..Plan::default()
        };
        let found = check::violations(&snapshot, &queue, &bad, NOW);
        assert!(!found.is_empty(), "not found: {node:?} {entry:?}");
        seen.extend(found.iter().map(|violation| {
            let text = format!("{violation:?}");
            text.split(' ').next().unwrap_or_default().to_string()
        }));
        let twice = Plan {
            assignments: vec![assignment, assignment],
            ..Plan::default()
        };
        let found = check::violations(&snapshot, &queue, &twice, NOW);
        assert!(
            found
                .iter()
                .any(|violation| matches!(violation, check::Violation::Twice { .. }))
        );
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        ["NotEligible", "OverTheLine"]
    );
}
