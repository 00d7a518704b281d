//! A fleet of unlike nodes that is 85 % full, and the work that comes and goes on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use loadline_model::{Bytes, CpuRequest, Demand, GpuDemand, MilliCpu, NodeId, Numa, PerMille, Tier};
use loadline_placement::engine::{Domain, Engine, Grant, NodeGpus, NodeSpec, Queued, Room, ShapeIx};

use crate::random::Random;

/// Of CPUs and of GPUs alike.
const FULL_PER_CENT: u64 = 85;

impl Random {
    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// CPUs, GiB, GPUs, model, and how many of 20 nodes are like it.
const KINDS: [(u64, u64, usize, &str, usize); 7] = [
    (32, 128, 0, "", 4),
    (64, 512, 0, "", 4),
    (128, 512, 0, "", 2),
    (16, 120, 2, "P100", 1),
    (104, 512, 2, "T4", 3),
    (64, 256, 4, "L40", 2),
    (96, 768, 8, "A100", 4),
];

/// What the load does, in amounts that both sides of the line know.
pub(crate) struct Load {
    pub(crate) engine: Engine,
    pub(crate) grants: Vec<Grant>,
    /// Without GPUs, with GPUs.
    shapes: [Vec<ShapeIx>; 2],
    random: Random,
    cpus: u64,
    cpus_held: u64,
}

impl Load {
    /// Nodes with work up to 85 % of their CPUs and GPUs.
    pub(crate) fn full(nodes: u32, seed: u64) -> Result<Self> {
        let mut random = Random(seed);
        let mut engine = Engine::new();
        let kinds: Vec<usize> = (0..)
            .zip(KINDS)
            .flat_map(|(kind, (.., often))| vec![kind; often])
            .collect();
        let mut cpus = 0;
        for number in 0..nodes {
            let spec = node(number, random.of(&kinds))?;
            cpus += spec.firm.cpu.0;
            engine.add_node(&spec)?;
        }
        let mut shapes = [Vec::new(), Vec::new()];
        for demand in demands() {
            shapes[usize::from(demand.gpus.count > 0)].push(engine.shape(&demand, Tier::Standard)?);
        }
        let mut load = Self {
            engine,
            grants: Vec::new(),
            shapes,
            random,
            cpus,
            cpus_held: 0,
        };
        load.fill()?;
        Ok(load)
    }

    fn fill(&mut self) -> Result<()> {
        let mut failed = 0;
        while failed < 10_000 {
            let (lent, left) = self.engine.gpus();
            let gpus_full = (lent - left) * 100 >= lent * FULL_PER_CENT;
            let cpus_full = self.cpus_held * 100 >= self.cpus * FULL_PER_CENT;
            if gpus_full && cpus_full {
                return Ok(());
            }
            // GPUs first: they need CPUs beside them.
            let shape = self.random.of(&self.shapes[usize::from(!gpus_full)]);
            self.engine.learn(shape, 1);
            match self.engine.place(shape, &[]) {
                Some(grant) => self.hold(grant)?,
                None => failed += 1,
            }
        }
        ensure!(
            false,
            "the fleet does not get {FULL_PER_CENT} % full: {:?}",
            self.engine.gpus()
        );
        Ok(())
    }

    fn cpu(&self, shape: ShapeIx) -> Result<u64> {
        Ok(self.engine.demand(shape)?.0.cpus.amount().0)
    }

    fn hold(&mut self, grant: Grant) -> Result<()> {
        self.cpus_held += self.cpu(grant.shape)?;
        self.grants.push(grant);
        Ok(())
    }

    /// How full the CPUs are, in parts of one.
    pub(crate) fn full_part(&self) -> f64 {
        self.cpus_held as f64 / self.cpus as f64
    }

    /// Ends one worker, and says which shape comes in its place: as many with and without GPUs as before.
    pub(crate) fn make_room(&mut self) -> Result<ShapeIx> {
        let grant = self.grants.swap_remove(self.random.below(self.grants.len()));
        self.engine.release(&grant)?;
        self.cpus_held -= self.cpu(grant.shape)?;
        let with_gpus = self.engine.demand(grant.shape)?.0.gpus.count > 0;
        // Fuller than it should be: what has ended comes again if it is smaller than most.
        let shape = self.random.of(&self.shapes[usize::from(with_gpus)]);
        self.engine.learn(shape, 1);
        Ok(shape)
    }

    /// Keeps what was placed. Where nothing was, the fleet is a little emptier until more is asked for.
    pub(crate) fn keep(&mut self, grant: Option<Grant>, shape: ShapeIx) -> Result<()> {
        if let Some(grant) = grant {
            self.hold(grant)?;
        }
        let behind = self.cpus_held * 100 < self.cpus * FULL_PER_CENT && self.cpu(shape)? > 0;
        if behind {
            let shape = self.random.of(&self.shapes[0]);
            if let Some(grant) = self.engine.place(shape, &[]) {
                self.hold(grant)?;
            }
        }
        Ok(())
    }

    /// One worker ends and another comes, `times` times; how many were placed.
    pub(crate) fn turn(&mut self, times: usize) -> Result<usize> {
        let before = self.grants.len();
        for _ in 0..times {
            let shape = self.make_room()?;
            let grant = self.engine.place(shape, &[]);
            self.keep(grant, shape)?;
        }
        Ok(times + self.grants.len() - before)
    }

    /// Ends one worker of each `of`.
    pub(crate) fn end_some(&mut self, of: usize) -> Result<()> {
        for _ in 0..self.grants.len() / of {
            let grant = self.grants.swap_remove(self.random.below(self.grants.len()));
            self.engine.release(&grant)?;
        }
        Ok(())
    }

    /// A shape whose 64 workers may find room.
    pub(crate) fn gang_shape(&self, random: &mut Random) -> ShapeIx {
        let all = &self.shapes[random.below(2)];
        all[random.below(all.len() / 2)]
    }

    /// Jobs of so many shapes, in random order.
    pub(crate) fn queue(&mut self, jobs: usize, shapes: usize) -> Result<Vec<Queued>> {
        let base = demands();
        let mut numbers = Vec::new();
        for number in 0..shapes {
            let mut demand = base[number % base.len()].clone();
            demand.memory = demand
                .memory
                .plus(Bytes::from_mib((number / base.len()) as u64 * 512));
            numbers.push(self.engine.shape(&demand, Tier::Standard)?);
        }
        let mut job = || Queued {
            shape: self.random.of(&numbers),
            workers: 1,
            together: false,
        };
        Ok((0..jobs).map(|_| job()).collect())
    }
}

fn node(number: u32, kind: usize) -> Result<NodeSpec> {
    let (cpus, gib, gpus, model, _) = KINDS[kind];
    let room = Room {
        cpu: MilliCpu(cpus * 1000),
        memory: Bytes::from_gib(gib),
        scratch: Bytes::from_gib(1024),
    };
    Ok(NodeSpec {
        id: NodeId::from_slice(&u128::from(number).to_be_bytes()).context("sixteen bytes")?,
        firm: room,
        now: room,
        whole_cpus: u32::try_from(cpus)?,
        gpus: NodeGpus {
            model: model.into(),
            memory: Bytes::from_gib(if gpus > 0 { 40 } else { 0 }),
            shares: vec![PerMille::ONE; gpus],
            ..NodeGpus::default()
        },
        labels: Arc::default(),
        numa: Arc::default(),
        taints: BTreeSet::new(),
        teams: BTreeSet::new(),
        domain: Domain {
            island: number / 8,
            rack: number / 40,
        },
    })
}

/// What is asked for: 24 shapes without GPUs, 24 with, the small ones of each first.
fn demands() -> Vec<Demand> {
    let mut demands = Vec::new();
    for cpus in [0, 1, 2, 4, 8, 16] {
        for gib_per_cpu in [1, 2, 4, 8] {
            demands.push(demand(cpus, cpus.max(1) * gib_per_cpu, 0, 1000, ""));
        }
    }
    for (count, share) in [
        (1, 100),
        (1, 250),
        (1, 500),
        (1, 1000),
        (2, 1000),
        (4, 1000),
        (8, 1000),
        (1, 750),
    ] {
        for cpus_per_gpu in [2, 4] {
            demands.push(demand(count * cpus_per_gpu, count * 16, count, share, ""));
        }
        demands.push(demand(count * 4, count * 32, count, share, "A100"));
    }
    demands
}

fn demand(cpus: u32, gib: u32, gpus: u32, share: u16, model: &str) -> Demand {
    Demand {
        cpus: if cpus == 0 {
            CpuRequest::Shared(MilliCpu(500))
        } else {
            CpuRequest::Exclusive(cpus)
        },
        memory: Bytes::from_gib(gib.into()),
        scratch: Bytes::ZERO,
        gpus: GpuDemand {
            count: gpus,
            share: PerMille(share),
            memory: Bytes::ZERO,
            models: if model.is_empty() {
                Vec::new()
            } else {
                vec![model.into()]
            },
        },
        require: Vec::new(),
        prefer: Vec::new(),
        tolerates: BTreeSet::new(),
        numa: Numa::Any,
    }
}
