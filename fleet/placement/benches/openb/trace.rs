//! The tasks that one seed makes of the trace's files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use loadline_model::{Bytes, CpuRequest, Demand, GpuDemand, MilliCpu, NodeId, Numa, PerMille};
use loadline_placement::engine::{Domain, NodeGpus, NodeSpec, Room};
use loadline_placement::sim::{OpenbNode, OpenbPod, read_openb_nodes, read_openb_pods};

use crate::random::Random;

/// Per mille of one GPU.
pub(crate) const GPU: u64 = 1000;
/// Of all GPUs, what is asked for in the end.
const ASKED_PER_CENT: u64 = 130;

/// Allocated GPUs, in per cent of all, once 100, 120 and 130 % were asked for.
pub(crate) type Allocated = [f64; 3];

/// One node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) cpu: u64,
    pub(crate) memory_mib: u64,
    pub(crate) gpus: usize,
    pub(crate) model: String,
}

/// What one task asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Task {
    pub(crate) cpu: u64,
    pub(crate) memory_mib: u64,
    pub(crate) gpus: usize,
    /// Of each, in per mille; 0 without GPUs.
    pub(crate) share: u64,
    /// Any of them; none: any at all.
    pub(crate) models: Vec<String>,
}

/// A cluster and the tasks of one variant.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    pub(crate) nodes: Vec<Node>,
    pub(crate) tasks: Vec<Task>,
}

/// Every variant whose list of tasks lies in the folder.
pub(crate) fn variants(folder: &Path) -> Result<Vec<String>> {
    let listed = fs::read_dir(folder).with_context(|| {
        format!(
            "no traces in {}: set OPENB_DIR to the folder of openb_pod_list_*.csv",
            folder.display()
        )
    })?;
    let mut names = Vec::new();
    for entry in listed {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let variant = name
            .strip_prefix("openb_pod_list_")
            .and_then(|rest| rest.strip_suffix(".csv"));
        names.extend(variant.map(String::from));
    }
    names.sort();
    ensure!(
        !names.is_empty(),
        "no openb_pod_list_*.csv in {}: set OPENB_DIR to the folder that has them",
        folder.display()
    );
    Ok(names)
}

pub(crate) fn text(folder: &Path, file: &str) -> Result<String> {
    let path = folder.join(file);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// What a variant asks for.
pub(crate) fn pods(folder: &Path, variant: &str) -> Result<Vec<OpenbPod>> {
    let file = format!("openb_pod_list_{variant}.csv");
    read_openb_pods(&text(folder, &file)?).with_context(|| file)
}

impl Trace {
    pub(crate) fn read(folder: &Path, variant: &str) -> Result<Self> {
        const NODES: &str = "openb_node_list_gpu_node.csv";
        let nodes = read_openb_nodes(&text(folder, NODES)?).context(NODES)?;
        let node = |node: OpenbNode| Node {
            cpu: node.cpu.0,
            memory_mib: node.memory.0 >> 20,
            gpus: node.gpus as usize,
            model: node.model,
        };
        let task = |pod: OpenbPod| Task {
            cpu: pod.cpu.0,
            memory_mib: pod.memory.0 >> 20,
            gpus: pod.gpus as usize,
            share: if pod.gpus == 0 { 0 } else { pod.share.0.into() },
            models: pod.models,
        };
        Ok(Self {
            nodes: nodes.into_iter().map(node).collect(),
            tasks: pods(folder, variant)?.into_iter().map(task).collect(),
        })
    }

    /// All GPUs, in per mille.
    pub(crate) fn gpus(&self) -> u64 {
        self.nodes.iter().map(|node| node.gpus as u64 * GPU).sum()
    }
}

impl Node {
    pub(crate) fn spec(&self, id: NodeId) -> NodeSpec {
        let room = Room {
            cpu: MilliCpu(self.cpu),
            memory: Bytes::from_mib(self.memory_mib),
            scratch: Bytes::ZERO,
        };
        NodeSpec {
            id,
            firm: room,
            now: room,
            whole_cpus: 0,
            gpus: NodeGpus {
                model: self.model.clone(),
                memory: Bytes::ZERO,
                shares: vec![PerMille::ONE; self.gpus],
                ..NodeGpus::default()
            },
            labels: Arc::default(),
            numa: Arc::default(),
            taints: BTreeSet::new(),
            teams: BTreeSet::new(),
            domain: Domain::default(),
        }
    }
}

impl Task {
    /// GPUs together, in per mille.
    pub(crate) fn total(&self) -> u64 {
        self.gpus as u64 * self.share
    }

    pub(crate) fn demand(&self) -> Demand {
        let gpus = GpuDemand {
            count: u32::try_from(self.gpus).unwrap_or(u32::MAX),
            share: if self.gpus == 0 {
                PerMille::ONE
            } else {
                PerMille(u16::try_from(self.share).unwrap_or(u16::MAX))
            },
            memory: Bytes::ZERO,
            models: self.models.clone(),
        };
        Demand {
            cpus: CpuRequest::Shared(MilliCpu(self.cpu)),
            memory: Bytes::from_mib(self.memory_mib),
            scratch: Bytes::ZERO,
            gpus,
            require: Vec::new(),
            prefer: Vec::new(),
            tolerates: BTreeSet::new(),
            numa: Numa::Any,
        }
    }
}

/// The tasks of a seed: all, then sampled ones again until 130 % of the GPUs are asked for, shuffled.
pub(crate) fn workload(trace: &Trace, seed: u64) -> Vec<Task> {
    let mut random = Random(seed);
    let most = trace.gpus() * ASKED_PER_CENT / 100;
    let mut tasks = trace.tasks.clone();
    let mut asked: u64 = tasks.iter().map(Task::total).sum();
    while asked > most {
        let gone = tasks.swap_remove(random.below(tasks.len()));
        asked -= gone.total();
    }
    loop {
        let task = &trace.tasks[random.below(trace.tasks.len())];
        // As published: the end is decided by the share, also where several GPUs are asked for.
        if asked + task.share > most {
            break;
        }
        asked += task.total();
        tasks.push(task.clone());
    }
    for last in (1..tasks.len()).rev() {
        tasks.swap(last, random.below(last + 1));
    }
    tasks
}

/// Notes what is allocated when the marks are passed.
pub(crate) struct Marks {
    all: u64,
    asked: u64,
    used: u64,
    passed: Vec<f64>,
}

impl Marks {
    pub(crate) fn new(trace: &Trace) -> Self {
        Self {
            all: trace.gpus(),
            asked: 0,
            used: 0,
            passed: Vec::new(),
        }
    }

    pub(crate) fn note(&mut self, task: &Task, placed: bool) {
        self.asked += task.total();
        self.used += if placed { task.total() } else { 0 };
        // The last mark is the end: the tasks ask for a little less than 130 %.
        while self.passed.len() < 2 && self.asked * 100 >= self.all * [100, 120][self.passed.len()] {
            self.passed.push(self.per_cent());
        }
    }

    fn per_cent(&self) -> f64 {
        self.used as f64 * 100.0 / self.all as f64
    }

    pub(crate) fn finish(mut self) -> Allocated {
        while self.passed.len() < 3 {
            self.passed.push(self.per_cent());
        }
        [self.passed[0], self.passed[1], self.passed[2]]
    }
}
