//! Property tests of the engine with an oracle of their own: a plain list of nodes and of what is booked there, and a
//! scan of all of it for each question.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loadline_model::{Bytes, CpuRequest, Demand, GpuDemand, MilliCpu, NodeId, Numa, PerMille, Tier};
use loadline_placement::check::{Booking, Overbooked, overbooked};
use loadline_placement::engine::{
    Among, Domain, Engine, EngineError, Grant, NodeGpus, NodeIx, NodeSpec, NumaRoom, Queued, Room, ShapeIx,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn node_id(number: u32) -> NodeId {
    NodeId::from_slice(&u128::from(number).to_be_bytes()).unwrap()
}

prop_compose! {
    fn room()(cpu in 0u64..20, memory in 0u64..90, scratch in 0u64..3) -> Room {
        Room {
            cpu: MilliCpu(cpu * 700),
            memory: Bytes::from_gib(memory),
            scratch: Bytes::from_gib(scratch * 200),
        }
    }
}

prop_compose! {
    fn node()(
        firm in room(),
        now in room(),
        whole_cpus in 0u32..12,
        shares in vec(select(vec![1000u16, 1000, 1000, 500]), 0..6),
        model in select(vec!["T4", "A100"]),
        gpu_memory in select(vec![16u64, 80]),
        zone in prop::option::of(select(vec!["a", "b"])),
        tainted in prop::bool::weighted(0.2),
        domain in (0u32..3, 0u32..2),
        gpu_lines in (prop::option::weighted(0.3, 0u32..6), prop::option::weighted(0.3, 0u32..6)),
        teams in prop_oneof![4 => Just(vec![]), 1 => Just(vec!["vision"])],
    ) -> NodeSpec {
        let shares: Vec<PerMille> = shares.into_iter().map(PerMille).collect();
        NodeSpec {
            id: node_id(0),
            firm,
            now,
            whole_cpus,
            gpus: NodeGpus {
                model: if shares.is_empty() { String::new() } else { model.into() },
                memory: if shares.is_empty() { Bytes::ZERO } else { Bytes::from_gib(gpu_memory) },
                shares,
                firm_max: gpu_lines.0,
                now_max: gpu_lines.1,
            },
            labels: Arc::new(zone.map(|zone| ("zone".to_string(), zone.to_string())).into_iter().collect()),
            numa: Arc::from([NumaRoom { cpu: MilliCpu::from_cpus(3), memory: Bytes::from_gib(20) }]),
            taints: tainted.then(|| "gpu-only".to_string()).into_iter().collect(),
            teams: teams.into_iter().map(String::from).collect(),
            domain: Domain { island: domain.0, rack: domain.1 },
        }
    }
}

fn gpus() -> impl Strategy<Value = GpuDemand> {
    let amount = prop_oneof![
        3 => Just((0u32, 1000u16)),
        2 => (1u32..5).prop_map(|count| (count, 1000)),
        3 => select(vec![95u16, 250, 333, 500, 811]).prop_map(|share| (1, share)),
    ];
    let models = prop_oneof![4 => Just(vec![]), 1 => Just(vec!["A100".to_string()])];
    let memory = prop_oneof![4 => Just(0u64), 1 => Just(40)];
    (amount, models, memory).prop_map(|((count, share), models, memory)| GpuDemand {
        count,
        share: PerMille(share),
        memory: Bytes::from_gib(memory),
        models,
    })
}

prop_compose! {
    fn demand()(
        cpus in prop_oneof![
            (1u32..6).prop_map(CpuRequest::Exclusive),
            select(vec![90u64, 350, 1400, 2750]).prop_map(|share| CpuRequest::Shared(MilliCpu(share))),
        ],
        memory in 0u64..40,
        scratch in select(vec![0u64, 0, 0, 150]),
        gpus in gpus(),
        zone in prop::option::weighted(0.3, select(vec!["zone=a", "zone!=b", "zone in (a,b)", "!zone", "zone"])),
        numa in prop::bool::weighted(0.1),
        tolerant in prop::bool::ANY,
    ) -> Demand {
        Demand {
            cpus,
            memory: Bytes::from_gib(memory),
            scratch: Bytes::from_gib(scratch),
            gpus,
            require: zone.map(|zone| zone.parse().unwrap()).into_iter().collect(),
            prefer: Vec::new(),
            numa: if numa { Numa::Single } else { Numa::Any },
            tolerates: tolerant.then(|| "gpu-only".to_string()).into_iter().collect(),
        }
    }
}

fn team() -> impl Strategy<Value = &'static str> {
    select(vec!["", "vision"])
}

fn tier() -> impl Strategy<Value = Tier> {
    select(vec![Tier::Standard, Tier::Standard, Tier::Burst])
}

/// One thing that happens to a fleet.
#[derive(Debug, Clone)]
enum Step {
    Place(usize, Vec<usize>),
    PlaceOnly(usize, Vec<usize>),
    Gang(usize, u32),
    Release(usize),
    Open(usize, bool),
    Lines(usize, Room, Room),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (any::<usize>(), vec(any::<usize>(), 0..2)).prop_map(|(shape, avoid)| Step::Place(shape, avoid)),
        2 => (any::<usize>(), vec(any::<usize>(), 0..4))
            .prop_map(|(shape, only)| Step::PlaceOnly(shape, only)),
        2 => (any::<usize>(), 1u32..9).prop_map(|(shape, workers)| Step::Gang(shape, workers)),
        4 => any::<usize>().prop_map(Step::Release),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(node, open)| Step::Open(node, open)),
        1 => (any::<usize>(), room(), room()).prop_map(|(node, firm, now)| Step::Lines(node, firm, now)),
    ];
    vec(step, 1..60)
}

prop_compose! {
    fn fleet()(
        nodes in vec(node(), 1..9),
        shapes in vec((demand(), tier(), team()), 1..7),
        steps in steps(),
    ) -> (Vec<NodeSpec>, Vec<Asked>, Vec<Step>) {
        let mut nodes = nodes;
        for (number, node) in (0..).zip(&mut nodes) {
            node.id = node_id(number);
        }
        (nodes, shapes, steps)
    }
}

/// What is asked for, in which tier, by which team.
type Asked = (Demand, Tier, &'static str);

/// One resource of a demand.
type Amount = fn(&Demand) -> u64;

/// The oracle: nodes and bookings in plain lists.
#[derive(Debug, Clone)]
struct Oracle {
    nodes: Vec<NodeSpec>,
    open: Vec<bool>,
    shapes: Vec<Asked>,
    booked: Vec<(usize, Grant)>,
}

impl Oracle {
    fn held(&self, node: usize, of: impl Fn(&Demand) -> u64, tier: Option<Tier>) -> u64 {
        let here = self
            .booked
            .iter()
            .filter(|(_, grant)| grant.node.0 as usize == node);
        let shapes = here.map(|(shape, _)| &self.shapes[*shape]);
        let mine = shapes.filter(|(_, booked, _)| tier.is_none_or(|tier| tier == *booked));
        mine.map(|(demand, ..)| of(demand)).sum()
    }

    fn gpu_left(&self, node: usize) -> Vec<u64> {
        let lent = self.nodes[node]
            .gpus
            .shares
            .iter()
            .map(|share| u64::from(share.0));
        let mut left: Vec<u64> = lent.collect();
        for (shape, grant) in &self.booked {
            for (gpu, left) in left.iter_mut().enumerate() {
                if grant.node.0 as usize == node && grant.gpus & (1 << gpu) != 0 {
                    *left -= u64::from(self.shapes[*shape].0.gpus.share.0);
                }
            }
        }
        left
    }

    /// May one more worker of the shape go there? From the words of the design.
    fn fits(&self, node: usize, shape: usize) -> bool {
        let (demand, tier, team) = &self.shapes[shape];
        let spec = &self.nodes[node];
        let gpus_all: u64 = spec.gpus.shares.iter().map(|share| u64::from(share.0)).sum();
        let gpu_line = |most: Option<u32>| most.map_or(gpus_all, |most| gpus_all.min(u64::from(most) * 1000));
        let resources: [(Amount, u64, u64); 4] = [
            (|d| d.cpus.amount().0, spec.firm.cpu.0, spec.now.cpu.0),
            (|d| d.memory.0, spec.firm.memory.0, spec.now.memory.0),
            (|d| d.scratch.0, spec.firm.scratch.0, spec.now.scratch.0),
            (
                |d| d.gpus.total().into(),
                gpu_line(spec.gpus.firm_max),
                gpu_line(spec.gpus.now_max),
            ),
        ];
        let lends = spec.teams.is_empty() || spec.teams.contains(*team);
        let room = resources.iter().all(|(of, firm, now)| {
            let new = of(demand);
            let all = self.held(node, of, None) + new;
            let standard = self.held(node, of, Some(Tier::Standard)) + new;
            new == 0
                || match tier {
                    Tier::Standard => standard <= *firm && all <= *firm.max(now),
                    Tier::Burst => all <= *now,
                }
        });
        let exclusive = |demand: &Demand| match demand.cpus {
            CpuRequest::Exclusive(cpus) => u64::from(cpus),
            CpuRequest::Shared(_) => 0,
        };
        let whole = *tier == Tier::Burst
            || exclusive(demand) == 0
            || self.held(node, exclusive, Some(Tier::Standard)) + exclusive(demand)
                <= u64::from(spec.whole_cpus);
        let gpus = &demand.gpus;
        let enough = self
            .gpu_left(node)
            .iter()
            .filter(|left| **left >= u64::from(gpus.share.0))
            .count();
        let gpus_fit = gpus.count == 0
            || (enough >= gpus.count as usize
                && spec.gpus.memory >= gpus.memory
                && (gpus.models.is_empty() || gpus.models.contains(&spec.gpus.model)));
        let zone = spec.labels.get("zone").map(String::as_str);
        let labels = demand
            .require
            .iter()
            .all(|required| match required.to_string().as_str() {
                "zone=a" => zone == Some("a"),
                "zone!=b" => zone != Some("b"),
                "zone in (a,b)" => matches!(zone, Some("a" | "b")),
                "!zone" => zone.is_none(),
                "zone" => zone.is_some(),
                other => panic!("{other} has no oracle"),
            });
        let small = demand.cpus.amount() <= MilliCpu::from_cpus(3) && demand.memory <= Bytes::from_gib(20);
        let labels = labels && (demand.numa == Numa::Any || small);
        self.open[node]
            && lends
            && room
            && whole
            && gpus_fit
            && labels
            && spec.taints.is_subset(&demand.tolerates)
    }

    /// How many of the shape fit on these nodes, by putting them there one by one.
    fn capacity(&self, shape: usize, nodes: &[usize]) -> u32 {
        let mut tried = self.clone();
        let mut count = 0;
        for node in nodes {
            while count < 64 && tried.fits(*node, shape) {
                let share = u64::from(tried.shapes[shape].0.gpus.share.0);
                let wanted = tried.shapes[shape].0.gpus.count as usize;
                let left = tried.gpu_left(*node);
                let fitting = (0..left.len()).filter(|gpu| left[*gpu] >= share).take(wanted);
                let gpus = fitting.fold(0, |mask, gpu| mask | 1 << gpu);
                let node = NodeIx(u32::try_from(*node).unwrap());
                tried.booked.push((
                    shape,
                    Grant {
                        node,
                        shape: ShapeIx(0),
                        gpus,
                    },
                ));
                count += 1;
            }
        }
        count
    }

    fn overbooked(&self) -> Vec<Overbooked> {
        let bookings: Vec<Booking<'_>> = self
            .booked
            .iter()
            .map(|(shape, grant)| {
                let (demand, tier, _) = &self.shapes[*shape];
                Booking {
                    demand,
                    tier: *tier,
                    grant: *grant,
                }
            })
            .collect();
        overbooked(&self.nodes, &bookings)
    }
}

struct Played {
    engine: Engine,
    oracle: Oracle,
    shapes: Vec<ShapeIx>,
    log: Vec<Option<Vec<Grant>>>,
}

fn start(nodes: &[NodeSpec], shapes: &[Asked]) -> Played {
    let mut engine = Engine::new();
    for node in nodes {
        engine.add_node(node).unwrap();
    }
    let numbers = shapes
        .iter()
        .map(|(demand, tier, team)| engine.shape_of(demand, *tier, team).unwrap());
    let numbers = numbers.collect();
    let oracle = Oracle {
        nodes: nodes.to_vec(),
        open: vec![true; nodes.len()],
        shapes: shapes.to_vec(),
        booked: Vec::new(),
    };
    Played {
        engine,
        oracle,
        shapes: numbers,
        log: Vec::new(),
    }
}

impl Played {
    /// Plays one step on both sides and compares what each says.
    fn step(&mut self, step: &Step) {
        let nodes = self.oracle.nodes.len();
        match step {
            Step::Place(shape, avoid) => {
                let shape = shape % self.shapes.len();
                let avoid: Vec<usize> = avoid.iter().map(|node| node % nodes).collect();
                let avoided: Vec<NodeIx> = avoid
                    .iter()
                    .map(|node| NodeIx(u32::try_from(*node).unwrap()))
                    .collect();
                self.engine.learn(self.shapes[shape], 1);
                let grant = self.engine.place(self.shapes[shape], &avoided);
                let fitting: Vec<usize> = (0..nodes)
                    .filter(|node| !avoid.contains(node) && self.oracle.fits(*node, shape))
                    .collect();
                match grant {
                    None => assert_eq!(fitting, [], "the index hides nodes"),
                    Some(grant) => assert!(
                        fitting.contains(&(grant.node.0 as usize)),
                        "{grant:?} {fitting:?}"
                    ),
                }
                self.oracle.booked.extend(grant.map(|grant| (shape, grant)));
                self.log.push(grant.map(|grant| vec![grant]));
            }
            Step::PlaceOnly(shape, only) => {
                let shape = shape % self.shapes.len();
                let only: Vec<usize> = only.iter().map(|node| node % nodes).collect();
                let named: Vec<NodeIx> = only
                    .iter()
                    .map(|node| NodeIx(u32::try_from(*node).unwrap()))
                    .collect();
                let grant = self.engine.place_among(self.shapes[shape], Among::Only(&named));
                let fitting: Vec<usize> = only
                    .into_iter()
                    .filter(|node| self.oracle.fits(*node, shape))
                    .collect();
                match grant {
                    None => assert_eq!(fitting, [], "a named node has room"),
                    Some(grant) => assert!(fitting.contains(&(grant.node.0 as usize)), "{grant:?}"),
                }
                self.oracle.booked.extend(grant.map(|grant| (shape, grant)));
                self.log.push(grant.map(|grant| vec![grant]));
            }
            Step::Gang(shape, workers) => self.gang(shape % self.shapes.len(), *workers),
            Step::Release(which) if !self.oracle.booked.is_empty() => {
                let (_, grant) = self.oracle.booked.swap_remove(which % self.oracle.booked.len());
                self.engine.release(&grant).unwrap();
            }
            Step::Release(_) => {}
            Step::Open(node, open) => {
                let node = node % nodes;
                self.oracle.open[node] = *open;
                self.engine
                    .set_open(NodeIx(u32::try_from(node).unwrap()), *open)
                    .unwrap();
            }
            Step::Lines(node, firm, now) => {
                let node = node % nodes;
                self.oracle.nodes[node].firm = *firm;
                self.oracle.nodes[node].now = *now;
                self.engine
                    .set_lines(NodeIx(u32::try_from(node).unwrap()), *firm, *now)
                    .unwrap();
            }
        }
    }

    fn gang(&mut self, shape: usize, workers: u32) {
        let all: Vec<usize> = (0..self.oracle.nodes.len()).collect();
        let room = self.oracle.capacity(shape, &all);
        let grants = self.engine.place_gang(self.shapes[shape], workers, &[]);
        self.log.push(grants.clone());
        let Some(grants) = grants else {
            assert!(room < workers, "{room} have room, and {workers} were not placed");
            return;
        };
        assert_eq!(grants.len(), workers as usize, "a gang half placed");
        let at = |grant: &Grant| self.oracle.nodes[grant.node.0 as usize].domain;
        let used: BTreeSet<u32> = grants.iter().map(|grant| grant.node.0).collect();
        let racks: BTreeSet<u32> = grants.iter().map(|grant| at(grant).rack).collect();
        let islands: BTreeSet<(u32, u32)> = grants.iter().map(|g| (at(g).rack, at(g).island)).collect();
        let domain = |node: usize| self.oracle.nodes[node].domain;
        let inside = |keep: &dyn Fn(usize) -> bool| {
            let nodes: Vec<usize> = all.iter().copied().filter(|node| keep(*node)).collect();
            self.oracle.capacity(shape, &nodes) >= workers
        };
        if used.len() > 1 {
            assert!(
                !all.iter().any(|node| inside(&|other| other == *node)),
                "one node would do"
            );
        }
        if islands.len() > 1 {
            let fits = |node: &usize| inside(&|other| domain(other) == domain(*node));
            assert!(!all.iter().any(fits), "one island would do");
        }
        if racks.len() > 1 {
            let fits = |node: &usize| inside(&|other| domain(other).rack == domain(*node).rack);
            assert!(!all.iter().any(fits), "one rack would do");
        }
        self.oracle
            .booked
            .extend(grants.into_iter().map(|grant| (shape, grant)));
    }

    fn fits_everywhere(&self) -> Vec<Vec<bool>> {
        let node = |index: u32, shape: &ShapeIx| self.engine.fits(NodeIx(index), *shape).unwrap();
        let nodes = u32::try_from(self.oracle.nodes.len()).unwrap();
        self.shapes
            .iter()
            .map(|shape| (0..nodes).map(|index| node(index, shape)).collect())
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_index_hides_no_node_and_gangs_are_whole_and_close((nodes, shapes, steps) in fleet()) {
        let mut played = start(&nodes, &shapes);
        for step in &steps {
            played.step(step);
            for node in 0..nodes.len() {
                for shape in 0..shapes.len() {
                    let index = NodeIx(u32::try_from(node).unwrap());
                    let said = played.engine.fits(index, played.shapes[shape]).unwrap();
                    prop_assert_eq!(said, played.oracle.fits(node, shape));
                }
            }
        }
    }

    #[test]
    fn nothing_is_given_twice((nodes, shapes, steps) in fleet()) {
        let mut played = start(&nodes, &shapes);
        for step in steps.iter().filter(|step| !matches!(step, Step::Lines(..))) {
            played.step(step);
            prop_assert_eq!(played.oracle.overbooked(), vec![]);
        }
    }

    #[test]
    fn the_same_history_gives_the_same_plan((nodes, shapes, steps) in fleet()) {
        let mut first = start(&nodes, &shapes);
        let mut second = start(&nodes, &shapes);
        for step in &steps {
            first.step(step);
            second.step(step);
        }
        prop_assert_eq!(first.log, second.log);
    }

    #[test]
    fn a_release_undoes_a_placement_exactly((nodes, shapes, steps) in fleet(), extra in vec(any::<usize>(), 1..9)) {
        let mut played = start(&nodes, &shapes);
        for step in &steps {
            played.step(step);
        }
        let before = (played.fits_everywhere(), played.engine.gpus());
        let shapes = extra.iter().map(|shape| played.shapes[shape % played.shapes.len()]);
        let shapes: Vec<ShapeIx> = shapes.collect();
        let placed: Vec<Grant> = shapes.iter().filter_map(|shape| played.engine.place(*shape, &[])).collect();
        for grant in &placed {
            played.engine.release(grant).unwrap();
        }
        prop_assert_eq!((played.fits_everywhere(), played.engine.gpus()), before);
        // To the last unit: what was free can be used up again, and nothing beyond.
        for shape in 0..played.shapes.len() {
            while let Some(grant) = played.engine.place(played.shapes[shape], &[]) {
                prop_assert!(played.oracle.fits(grant.node.0 as usize, shape));
                played.oracle.booked.push((shape, grant));
                if played.oracle.booked.len() > 400 { break }
            }
            let left = (0..nodes.len()).filter(|node| played.oracle.fits(*node, shape)).count();
            prop_assert!(left == 0 || played.oracle.booked.len() > 400);
        }
    }

    #[test]
    fn a_pass_leaves_nothing_waiting_that_fits((nodes, shapes, steps) in fleet(), jobs in vec((any::<usize>(), 1u32..5, any::<bool>()), 1..30)) {
        let mut played = start(&nodes, &shapes);
        for step in &steps {
            played.step(step);
        }
        let queue: Vec<Queued> = jobs.iter().map(|(shape, workers, together)| Queued {
            shape: played.shapes[shape % played.shapes.len()],
            workers: *workers,
            together: *together,
        }).collect();
        let pass = played.engine.pass(&queue, usize::MAX);
        let mut got: BTreeMap<usize, u32> = BTreeMap::new();
        for passed in &pass.passed {
            for grant in &passed.grants {
                let shape = jobs[passed.queued].0 % played.shapes.len();
                prop_assert!(played.oracle.fits(grant.node.0 as usize, shape));
                played.oracle.booked.push((shape, *grant));
                *got.entry(passed.queued).or_default() += 1;
            }
        }
        let all: Vec<usize> = (0..nodes.len()).collect();
        let mut waiting = 0;
        for (index, job) in queue.iter().enumerate() {
            let missing = job.workers - got.get(&index).copied().unwrap_or(0);
            let room = played.oracle.capacity(jobs[index].0 % played.shapes.len(), &all);
            waiting += usize::from(missing > 0);
            prop_assert!(!job.together || missing == 0 || missing == job.workers, "torn apart");
            let needed = if job.together { job.workers } else { 1 };
            prop_assert!(missing == 0 || room < needed);
        }
        prop_assert_eq!(pass.waiting, waiting);
        prop_assert!(!pass.more);
    }
}

fn plain_node(number: u32, cpus: u64, gpus: usize) -> NodeSpec {
    let room = Room {
        cpu: MilliCpu(cpus * 1000),
        memory: Bytes::from_gib(cpus * 4),
        scratch: Bytes::ZERO,
    };
    NodeSpec {
        id: node_id(number),
        firm: room,
        now: room,
        whole_cpus: u32::try_from(cpus).unwrap(),
        gpus: NodeGpus {
            model: "A100".into(),
            memory: Bytes::from_gib(80),
            shares: vec![PerMille::ONE; gpus],
            ..NodeGpus::default()
        },
        labels: Arc::default(),
        numa: Arc::default(),
        taints: BTreeSet::new(),
        teams: BTreeSet::new(),
        domain: Domain::default(),
    }
}

fn plain_demand(cpus: u32, gpus: u32, share: u16) -> Demand {
    Demand {
        cpus: CpuRequest::Exclusive(cpus),
        memory: Bytes::from_gib(1),
        scratch: Bytes::ZERO,
        gpus: GpuDemand {
            count: gpus,
            share: PerMille(share),
            ..GpuDemand::NONE
        },
        require: Vec::new(),
        prefer: Vec::new(),
        tolerates: BTreeSet::new(),
        numa: Numa::Any,
    }
}

#[test]
fn a_grant_is_released_once_and_what_is_unknown_is_named() {
    let mut engine = Engine::new();
    let node = engine.add_node(&plain_node(0, 8, 2)).unwrap();
    let shape = engine.shape(&plain_demand(2, 1, 400), Tier::Standard).unwrap();
    let grant = engine.place(shape, &[]).unwrap();
    assert_eq!(engine.generation(node), Ok(1));
    engine.release(&grant).unwrap();
    assert_eq!(engine.generation(node), Ok(2));
    assert_eq!(engine.release(&grant), Err(EngineError::NotHeld(grant)));
    assert_eq!(engine.node_id(NodeIx(1)), Err(EngineError::NoNode(NodeIx(1))));
    assert_eq!(
        engine.fits(node, ShapeIx(9)),
        Err(EngineError::NoShape(ShapeIx(9)))
    );
    assert_eq!(engine.place(ShapeIx(9), &[]), None);
}

#[test]
fn rests_of_gpus_are_completed_and_work_without_gpus_keeps_off() {
    let mut engine = Engine::new();
    for number in 0..4 {
        engine.add_node(&plain_node(number, 32, 4)).unwrap();
    }
    let plain = engine.add_node(&plain_node(4, 32, 0)).unwrap();
    let most = engine.shape(&plain_demand(1, 1, 700), Tier::Standard).unwrap();
    let rest = engine.shape(&plain_demand(1, 1, 300), Tier::Standard).unwrap();
    let cpus = engine.shape(&plain_demand(4, 0, 1000), Tier::Standard).unwrap();
    engine.learn(most, 50);
    engine.learn(rest, 50);
    engine.learn(cpus, 20);
    let first: Vec<Grant> = (0..4).map(|_| engine.place(most, &[]).unwrap()).collect();
    let second: Vec<Grant> = (0..4).map(|_| engine.place(rest, &[]).unwrap()).collect();
    let key = |grant: &Grant| (grant.node, grant.gpus);
    let of = |grants: &[Grant]| grants.iter().map(key).collect::<BTreeSet<_>>();
    assert_eq!(
        of(&first),
        of(&second),
        "each rest of 30 % goes to those who want 30 %"
    );
    assert_eq!(engine.place(cpus, &[]).unwrap().node, plain);
}

#[test]
fn a_large_fleet_with_many_rests_still_finds_the_one_that_fits() {
    // Enough different rests that slots are made coarser, and one node that only an exact look finds.
    let mut engine = Engine::new();
    let mut nodes = Vec::new();
    for number in 0..9000u32 {
        let mut node = plain_node(number, 4 + u64::from(number % 120), (number % 9) as usize);
        node.firm.memory = Bytes::from_gib(64 + u64::from(number % 37) * 48);
        node.now = node.firm;
        node.whole_cpus = 0;
        engine.add_node(&node).unwrap();
        nodes.push(node);
    }
    let mut wanted = plain_demand(1, 8, 1000);
    wanted.cpus = CpuRequest::Shared(MilliCpu(119_500));
    let brute = |engine: &Engine, shape| {
        (0..9000)
            .filter(|node| engine.fits(NodeIx(*node), shape).unwrap())
            .count()
    };
    let shape = engine.shape(&wanted, Tier::Standard).unwrap();
    let fitting = brute(&engine, shape);
    assert!(fitting > 0);
    let mut placed = 0;
    while engine.place(shape, &[]).is_some() {
        placed += 1;
    }
    assert_eq!((placed, brute(&engine, shape)), (fitting, 0));
}

#[test]
fn the_checker_finds_what_it_is_for() {
    let nodes = [plain_node(0, 4, 1)];
    let (small, large) = (plain_demand(2, 1, 600), plain_demand(3, 0, 1000));
    let booking = |demand, gpus, node| Booking {
        demand,
        tier: Tier::Standard,
        grant: Grant {
            node: NodeIx(node),
            shape: ShapeIx(0),
            gpus,
        },
    };
    assert_eq!(overbooked(&nodes, &[booking(&small, 1, 0)]), []);
    let twice = overbooked(&nodes, &[booking(&small, 1, 0), booking(&small, 1, 0)]);
    assert!(
        matches!(
            twice[..],
            [Overbooked::TooMuch {
                what: "one GPU",
                given: 1200,
                lent: 1000,
                ..
            }]
        ),
        "{twice:?}"
    );
    let both = overbooked(&nodes, &[booking(&small, 1, 0), booking(&large, 0, 0)]);
    let what: Vec<_> = both.iter().map(ToString::to_string).collect();
    assert_eq!(what.len(), 3, "firm line, higher line, whole CPUs: {what:?}");
    assert!(matches!(
        overbooked(&nodes, &[booking(&small, 0, 0)])[..],
        [Overbooked::WrongGpus { asked: 1, .. }]
    ));
    assert!(matches!(
        overbooked(&nodes, &[booking(&small, 2, 0)])[..],
        [Overbooked::WrongGpus { .. }, ..]
    ));
    assert_eq!(
        overbooked(&nodes, &[booking(&small, 1, 7)]),
        [Overbooked::UnknownNode(NodeIx(7))]
    );
    let mut picky = small.clone();
    picky.gpus.models = vec!["H100".into()];
    picky.require.push("zone=a".parse().unwrap());
    assert_eq!(overbooked(&nodes, &[booking(&picky, 1, 0)]).len(), 2);
}
