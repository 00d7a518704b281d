//! Room that is kept and room that is made, for jobs that ask for more than CPUs and memory: space on disks, a share of a
//! GPU, a spread. And what is tied to each other while everyone gets one worker at a time.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;
use std::sync::Arc;

use loadline_model::{
    Amounts, Arrange, AttemptId, Bytes, CpuRequest, Domain, JobId, MilliCpu, Needs, NodeId, PerMille,
    Priority, Span, Tier, WallTime, WorkerRequest, Workers,
};
use loadline_placement::check::{self, Sharing};
use loadline_placement::policy::{AtOnce, Budget, Period, Quota, Team};
use loadline_placement::{
    Ending, HeldByTier, Line, Node, NodeState, Plan, Planner, Policy, QueueEntry, Running, Terms, Ties,
    Traits, Wanted,
};
use proptest::prelude::*;

const HOUR: Span = Span::from_secs(3600);
const NOW: WallTime = WallTime(7_200_000_000);

fn node_id(number: u8) -> NodeId {
    NodeId::from_slice(&[number; 16]).unwrap()
}

fn node(number: u8, cpus: u32) -> Node {
    let amounts = Amounts {
        cpu: MilliCpu::from_cpus(cpus),
        memory: Bytes::from_gib(64),
        gpus: 1,
    };
    Node {
        id: node_id(number),
        name: format!("n{number}"),
        pool: "default".into(),
        state: NodeState::Ready,
        lending: true,
        traits: Arc::new(Traits::default()),
        line: Line {
            firm: amounts,
            now: amounts,
            whole_cpus: cpus,
            scratch: Bytes::from_gib(100),
        },
        exclusive_cpus: true,
        allow_teams: Vec::new(),
        held: HeldByTier::default(),
    }
}

fn job(number: u8, tier: Tier, gpus: u32, needs: Needs) -> QueueEntry {
    let tied = needs.is_relative();
    QueueEntry {
        job: JobId::from_slice(&[number; 16]).unwrap(),
        number: number.into(),
        tier,
        priority: Priority::NORMAL,
        submitted_at: NOW,
        time: None,
        grace: Span::ZERO,
        request: WorkerRequest {
            cpus: CpuRequest::Shared(MilliCpu::from_cpus(1)),
            memory: Bytes::from_gib(1),
            gpus,
        },
        wanted: Wanted::new(Workers::Fixed(1), 0, vec![0]),
        user: "ada".into(),
        team: String::new(),
        needs: Arc::new(needs),
        ties: tied.then(|| {
            Arc::new(Ties {
                workers: 1,
                ..Ties::default()
            })
        }),
        nodes: Vec::new(),
        refusals: Vec::new(),
    }
}

fn of_scratch(gib: u64) -> Needs {
    Needs {
        scratch: Bytes::from_gib(gib),
        ..Needs::default()
    }
}

fn of_share(share: u16) -> Needs {
    Needs {
        gpu_share: Some(PerMille(share)),
        ..Needs::default()
    }
}

/// Nodes, what runs on them, and the planner that was told of both.
struct World {
    planner: Planner,
    nodes: Vec<Node>,
}

impl World {
    fn new(nodes: impl IntoIterator<Item = Node>) -> Self {
        let nodes: Vec<Node> = nodes.into_iter().collect();
        let mut planner = Planner::default();
        for node in &nodes {
            planner.put_node(node.clone()).unwrap();
        }
        Self { planner, nodes }
    }

    /// A worker of the job has run on a node for an hour.
    fn runs(&mut self, entry: &QueueEntry, on: u8) -> Running {
        let running = Running {
            attempt: AttemptId::from_slice(entry.job.as_bytes()).unwrap(),
            job: entry.job,
            worker: 0,
            node: node_id(on),
            terms: Arc::new(Terms {
                tier: entry.tier,
                priority: entry.priority,
                request: entry.request,
                needs: Arc::clone(&entry.needs),
                user: "bob".into(),
                team: entry.team.as_str().into(),
                limit: entry.time,
                grace: entry.grace,
                least: None,
            }),
            submitted_at: WallTime(NOW.0 - 3_600_000_000),
            started: WallTime(NOW.0 - 3_600_000_000),
            yielded: 0,
            stopping: false,
            given_up: None,
        };
        let node = self.nodes.iter_mut().find(|node| node.id == node_id(on)).unwrap();
        node.held.add(entry.tier, &entry.request, &entry.needs);
        self.planner.put_node(node.clone()).unwrap();
        self.planner.put_running(&running);
        running
    }

    /// Those who were asked to yield are gone.
    fn end_what_yields(&mut self, plan: &Plan) {
        let running: Vec<Running> = self
            .planner
            .expected(NOW)
            .map(|(running, _)| running.clone())
            .collect();
        for running in running {
            if plan.evictions.iter().any(|it| it.attempt == running.attempt) {
                self.ends(&running);
            }
        }
    }

    fn ends(&mut self, running: &Running) {
        let node = self
            .nodes
            .iter_mut()
            .find(|node| node.id == running.node)
            .unwrap();
        node.held.remove(running.tier, &running.request, &running.needs);
        self.planner.put_node(node.clone()).unwrap();
        let ending = Ending { at: NOW, own: false };
        self.planner.remove_running(running.attempt, Some(ending));
    }

    /// Plans, and has the plan checked by who knows nothing of the planner's books.
    fn plan(&mut self, policy: &Policy) -> Plan {
        let (snapshot, queue) = (self.planner.snapshot(), self.planner.queue());
        let mut sharing = Sharing::of(&self.planner, policy, NOW);
        let plan = self.planner.plan(policy, NOW);
        sharing.still_kept(&self.planner);
        assert_eq!(check::violations(&snapshot, &queue, &plan, NOW), vec![]);
        assert_eq!(check::unfair(&snapshot, &queue, &sharing, &plan), vec![]);
        plan
    }

    fn placed(&mut self, policy: &Policy) -> Vec<u8> {
        let plan = self.plan(policy);
        plan.assignments.iter().map(|it| it.job.as_bytes()[0]).collect()
    }
}

fn nobody_yields() -> Policy {
    Policy {
        yielding: None,
        ..Policy::default()
    }
}

/// Burst holds what `held` says, standard wants `wanted`: whether burst has to go, and whether standard starts then.
fn yields(gpus: u32, held: Needs, wanted: Needs) -> (usize, Vec<u8>) {
    let mut world = World::new([node(1, 8)]);
    let burst = world.runs(&job(1, Tier::Burst, gpus, held), 1);
    world.planner.put_job(&job(2, Tier::Standard, gpus, wanted));
    let plan = world.plan(&Policy::default());
    if plan.evictions.is_empty() {
        let placed = plan.assignments.iter().map(|it| it.job.as_bytes()[0]);
        return (0, placed.collect());
    }
    assert!(plan.assignments.is_empty(), "{plan:?}");
    world.ends(&burst);
    (plan.evictions.len(), world.placed(&Policy::default()))
}

#[test]
fn who_yields_gives_back_space_and_shares_and_goes_only_for_want_of_them() {
    assert_eq!(yields(0, of_scratch(80), of_scratch(20)), (0, vec![2]));
    assert_eq!(yields(0, of_scratch(80), of_scratch(21)), (1, vec![2]));
    assert_eq!(yields(1, of_share(600), of_share(400)), (0, vec![2]));
    assert_eq!(yields(1, of_share(600), of_share(401)), (1, vec![2]));
    assert_eq!(yields(1, of_share(600), Needs::default()), (1, vec![2]));
    assert_eq!(yields(1, Needs::default(), of_share(10)), (1, vec![2]));
}

/// One runs for an hour more; the first that waits has its room kept then; the next never ends. Who starts now?
fn beside_kept(gpus: u32, runs: Needs, first: Needs, next: Needs) -> Vec<u8> {
    let mut world = World::new([node(1, 8)]);
    let mut for_hours = job(1, Tier::Standard, gpus, runs);
    for_hours.time = Some(Span(2 * HOUR.0));
    world.runs(&for_hours, 1);
    world.planner.put_job(&job(2, Tier::Standard, gpus, first));
    world.planner.put_job(&job(3, Tier::Standard, gpus, next));
    let placed = world.placed(&nobody_yields());
    let kept: Vec<JobId> = world.planner.kept().map(|kept| kept.job).collect();
    assert_eq!(kept, [JobId::from_slice(&[2; 16]).unwrap()]);
    placed
}

#[test]
fn space_and_shares_are_kept_for_the_first() {
    let (runs, first) = (of_scratch(40), of_scratch(70));
    assert_eq!(beside_kept(0, runs.clone(), first.clone(), of_scratch(30)), [3]);
    assert_eq!(beside_kept(0, runs, first, of_scratch(31)), [0u8; 0]);
    let (runs, first) = (of_share(400), of_share(700));
    assert_eq!(beside_kept(1, runs.clone(), first.clone(), of_share(300)), [3]);
    assert_eq!(beside_kept(1, runs, first, of_share(301)), [0u8; 0]);
}

/// The team may hold so many GPUs, and spend so many hours of them a day; jobs of a share each, an hour long, come.
fn shares_started(gpus: Option<u32>, hours: Option<u64>, share: u16, count: u8) -> (usize, String) {
    let mut world = World::new((1..=4).map(|number| node(number, 8)));
    let budget = hours.map(|hours| Budget {
        period: Period::DAY,
        cpu_hours: None,
        gib_hours: None,
        gpu_hours: Some(hours),
    });
    let quota = Quota {
        team: AtOnce {
            gpus,
            ..AtOnce::default()
        },
        budget,
        ..Quota::default()
    };
    let team = Team {
        quota,
        ..Team::default()
    };
    world.planner.set_team("vision", team.clone(), NOW);
    for number in 1..=count {
        let mut entry = job(number, Tier::Standard, 1, of_share(share));
        (entry.team, entry.time) = ("vision".into(), Some(HOUR));
        world.planner.put_job(&entry);
    }
    let (snapshot, queue) = (world.planner.snapshot(), world.planner.queue());
    let mut sharing = Sharing::of(&world.planner, &Policy::default(), NOW);
    sharing.teams = vec![("vision".into(), team)];
    let plan = world.planner.plan(&Policy::default(), NOW);
    assert_eq!(check::unfair(&snapshot, &queue, &sharing, &plan), vec![]);
    for given in &plan.assignments {
        let entry = queue.iter().find(|entry| entry.job == given.job).unwrap();
        world.runs(entry, given.node.as_bytes()[0]);
    }
    let waiting = world.planner.report(NOW).waiting;
    let why = waiting.first().map_or_else(String::new, |it| it.why.phrase());
    (plan.assignments.len(), why)
}

#[test]
fn a_share_of_a_gpu_counts_as_its_thousandths_in_quotas_and_budgets() {
    let (started, why) = shares_started(Some(1), None, 400, 4);
    assert_eq!(started, 2);
    let held = "the team may hold 1 GPUs at once; 800m GPUs are held and 400m GPUs asked for";
    assert!(why.starts_with(held), "{why}");
    assert_eq!(shares_started(Some(1), None, 250, 4).0, 4);
    assert_eq!(shares_started(Some(2), None, 501, 6).0, 3);
    let (started, why) = shares_started(None, Some(1), 300, 6);
    assert_eq!(started, 3, "{why}");
    assert!(
        why.starts_with("the team may spend 1 GPU-hours in a period"),
        "{why}"
    );
}

fn gang(arrange: Arrange, workers: u32) -> QueueEntry {
    let needs = Needs {
        arrange,
        ..Needs::default()
    };
    let mut entry = job(9, Tier::Standard, 0, needs);
    entry.request.cpus = CpuRequest::Exclusive(1);
    entry.wanted = Wanted::new(Workers::Fixed(workers), 0, (0..workers).collect()).gang();
    Arc::make_mut(entry.ties.as_mut().unwrap()).workers = workers;
    entry
}

fn zoned(number: u8, cpus: u32, zone: &str) -> Node {
    let mut node = node(number, cpus);
    let labels = [("zone".to_string(), zone.to_string())];
    node.traits = Arc::new(Traits {
        labels: Arc::new(labels.into_iter().collect()),
        ..Traits::default()
    });
    node
}

/// Two nodes in zone a, both free, one in zone b that is full for an hour.
fn zones(tier: Tier) -> World {
    let mut world = World::new([zoned(1, 2, "a"), zoned(2, 2, "a"), zoned(3, 2, "b")]);
    let mut busy = job(1, tier, 0, Needs::default());
    busy.request.cpus = match tier {
        Tier::Standard => CpuRequest::Exclusive(2),
        Tier::Burst => CpuRequest::Shared(MilliCpu::from_cpus(2)),
    };
    busy.time = Some(Span(2 * HOUR.0));
    world.runs(&busy, 3);
    world
}

#[test]
fn a_spread_has_its_room_kept_in_each_domain() {
    let mut world = zones(Tier::Standard);
    let by_zone = Arrange::Spread(Domain::Label("zone".into()));
    world.planner.put_job(&gang(by_zone, 4));
    assert_eq!(world.placed(&nobody_yields()), [0u8; 0]);
    let kept: Vec<_> = world.planner.kept().map(|kept| kept.nodes.clone()).collect();
    assert_eq!(kept.len(), 1);
    let on = |number| kept[0].get(&node_id(number)).copied().unwrap_or(0);
    assert_eq!((on(1) + on(2), on(3)), (2, 2), "{kept:?}");
    // Two CPUs of zone a are left: what never ends may have those, and no more.
    let mut other = job(5, Tier::Standard, 0, Needs::default());
    other.request.cpus = CpuRequest::Exclusive(1);
    other.wanted = Wanted::new(Workers::Fixed(4), 0, (0..4).collect());
    world.planner.put_job(&other);
    assert_eq!(world.placed(&nobody_yields()), [5, 5]);
}

#[test]
fn nobody_yields_in_vain_to_a_spread() {
    // One node more would not do: each may get one.
    let mut world = zones(Tier::Burst);
    world.planner.put_job(&gang(Arrange::Spread(Domain::Node), 3));
    let plan = world.plan(&Policy::default());
    assert_eq!((plan.evictions.len(), plan.assignments.len()), (1, 0), "{plan:?}");
    let kept: Vec<_> = world.planner.kept().map(|kept| kept.nodes.clone()).collect();
    let one_each = [1, 2, 3].map(|number| (node_id(number), 1));
    assert_eq!(kept, [one_each.into_iter().collect()]);
}

#[test]
fn others_yield_to_a_gang_that_spreads_domain_by_domain() {
    let mut world = zones(Tier::Burst);
    world
        .planner
        .put_job(&gang(Arrange::Spread(Domain::Label("zone".into())), 4));
    let plan = world.plan(&Policy::default());
    assert_eq!((plan.evictions.len(), plan.assignments.len()), (1, 0), "{plan:?}");
    let kept: Vec<_> = world.planner.kept().map(|kept| kept.nodes.clone()).collect();
    let on = |number| kept[0].get(&node_id(number)).copied().unwrap_or(0);
    assert_eq!((on(1) + on(2), on(3)), (2, 2), "{kept:?}");
    world.end_what_yields(&plan);
    assert_eq!(world.placed(&Policy::default()), [9; 4]);
    // Both zones get half of them: six do not fit, whoever goes.
    let mut world = zones(Tier::Burst);
    world
        .planner
        .put_job(&gang(Arrange::Spread(Domain::Label("zone".into())), 6));
    assert_eq!(world.plan(&Policy::default()), Plan::default());
}

/// A worker of one CPU that is tied to others.
fn tied(ties: Ties) -> QueueEntry {
    let mut entry = job(9, Tier::Standard, 0, Needs::default());
    entry.request.cpus = CpuRequest::Exclusive(1);
    entry.ties = Some(Arc::new(Ties { workers: 1, ..ties }));
    entry
}

#[test]
fn others_yield_to_who_is_near_or_away_only_where_it_may_go() {
    for (near, away, on) in [(Some(2), None, 2), (None, Some(1), 2), (None, Some(2), 1)] {
        let mut world = World::new([node(1, 2), node(2, 2)]);
        for number in [1, 2] {
            let mut busy = job(number, Tier::Burst, 0, Needs::default());
            busy.request.cpus = CpuRequest::Shared(MilliCpu::from_cpus(2));
            world.runs(&busy, number);
        }
        world.planner.put_job(&tied(Ties {
            near: near.map(|node| [node_id(node)].into()),
            away: away.map(node_id).into_iter().collect(),
            ..Ties::default()
        }));
        let plan = world.plan(&Policy::default());
        let from: Vec<NodeId> = plan.evictions.iter().map(|it| it.node).collect();
        assert_eq!(from, [node_id(on)], "near {near:?}, away from {away:?}");
        world.end_what_yields(&plan);
        assert_eq!(world.plan(&Policy::default()).assignments[0].node, node_id(on));
    }
}

/// Nodes with one to four CPUs in three zones, what burst holds of each, and a gang of one CPU each that spreads by
/// zone.
fn spread_world() -> impl Strategy<Value = (Vec<(u8, u32, u32)>, u32)> {
    let node = (0u8..3, 1u32..5, 0u32..5).prop_map(|(zone, cpus, held)| (zone, cpus, held.min(cpus)));
    (prop::collection::vec(node, 1..6), 1u32..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// If every zone with a node can get its part with all of burst gone, as few go as it takes, and then it starts;
    /// otherwise nobody goes.
    #[test]
    fn a_spread_gang_gets_its_room_exactly_if_there_is_any((nodes, workers) in spread_world()) {
        let numbered = || (1u8..).zip(&nodes);
        let mut world = World::new(numbered().map(|(number, (zone, cpus, _))| zoned(number, *cpus, &zone.to_string())));
        for (number, (_, _, held)) in numbered() {
            for place in 0..*held {
                let id = 100 + number * 5 + u8::try_from(place).unwrap();
                let mut busy = job(id, Tier::Burst, 0, Needs::default());
                busy.request.cpus = CpuRequest::Shared(MilliCpu::from_cpus(1));
                world.runs(&busy, number);
            }
        }
        let sums = |of: fn(&(u8, u32, u32)) -> u32| {
            let mut sums: BTreeMap<u8, u32> = BTreeMap::new();
            for node in &nodes {
                *sums.entry(node.0).or_default() += of(node);
            }
            sums
        };
        let (all, free) = (sums(|node| node.1), sums(|node| node.1 - node.2));
        let most = workers.div_ceil(u32::try_from(all.len()).unwrap());
        let room = |sums: &BTreeMap<u8, u32>| sums.values().map(|sum| most.min(*sum)).sum::<u32>();
        world.planner.put_job(&gang(Arrange::Spread(Domain::Label("zone".into())), workers));
        let mut plan = world.plan(&Policy::default());
        let lacking = workers.saturating_sub(room(&free));
        let due = if room(&all) < workers { 0 } else { lacking };
        prop_assert_eq!(plan.evictions.len(), due as usize);
        if due > 0 {
            world.end_what_yields(&plan);
            plan = world.plan(&Policy::default());
        }
        let starts = if room(&all) < workers { 0 } else { workers };
        prop_assert_eq!(plan.assignments.len(), starts as usize);
    }
}

#[test]
fn of_two_that_are_apart_one_moves_in_a_plan_with_all_its_workers() {
    let mut world = World::new([node(1, 8)]);
    let apart = |number: u8, other: u8| {
        let mut entry = job(number, Tier::Standard, 0, Needs::default());
        entry.wanted = Wanted::new(Workers::Fixed(3), 0, vec![0, 1, 2]);
        entry.ties = Some(Arc::new(Ties {
            workers: 3,
            me: format!("j{number}"),
            // Its own workers are no reason to wait.
            with: [format!("j{number}"), format!("j{other}")].into_iter().collect(),
            ..Ties::default()
        }));
        entry
    };
    world.planner.put_job(&apart(1, 2));
    world.planner.put_job(&apart(2, 1));
    let plan = world.plan(&Policy::default());
    let placed: Vec<u8> = plan.assignments.iter().map(|it| it.job.as_bytes()[0]).collect();
    assert_eq!((placed, plan.more), (vec![1, 1, 1], true));
    assert_eq!(world.placed(&Policy::default()), [2, 2, 2]);
}
