//! How a node's hardware threads hang together: sockets, NUMA nodes, L3 domains, cores.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{Bytes, CpuSet};

/// One hardware thread and where it belongs. All ids are unique within the node (not only within their parent).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Thread {
    /// The kernel's CPU number.
    pub cpu: u32,
    /// The physical core: the lowest CPU number among its threads.
    pub core: u32,
    /// The L3 domain: the lowest CPU number that shares the cache.
    pub l3: u32,
    /// The NUMA node's number.
    pub numa: u32,
    /// The socket's number.
    pub socket: u32,
}

/// One NUMA node and its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// The kernel's number.
    pub id: u32,
    /// All memory of it.
    pub memory: Bytes,
}

/// The online hardware threads and memory of one node; threads ascend by CPU number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    threads: Vec<Thread>,
    numa_nodes: Vec<NumaNode>,
}

/// Why a reading cannot be a topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyProblem {
    /// No CPU was found online.
    #[error("no CPU is online")]
    NoCpu,
    /// The same CPU number came twice.
    #[error("CPU {0} is listed twice")]
    Repeated(u32),
    /// A thread names a NUMA node that does not exist.
    #[error("CPU {cpu} belongs to NUMA node {numa}, which is not listed")]
    UnknownNuma {
        /// The thread.
        cpu: u32,
        /// The node it names.
        numa: u32,
    },
}

impl Topology {
    /// Checks and orders a reading.
    ///
    /// # Errors
    /// When it has no CPU, one twice, or one on a NUMA node that is not listed.
    pub fn new(mut threads: Vec<Thread>, mut numa_nodes: Vec<NumaNode>) -> Result<Self, TopologyProblem> {
        threads.sort_unstable();
        numa_nodes.sort_unstable_by_key(|node| node.id);
        if threads.is_empty() {
            return Err(TopologyProblem::NoCpu);
        }
        if let Some(pair) = threads.windows(2).find(|pair| pair[0].cpu == pair[1].cpu) {
            return Err(TopologyProblem::Repeated(pair[0].cpu));
        }
        let known = |numa: u32| numa_nodes.iter().any(|node| node.id == numa);
        match threads.iter().find(|thread| !known(thread.numa)) {
            Some(thread) => Err(TopologyProblem::UnknownNuma {
                cpu: thread.cpu,
                numa: thread.numa,
            }),
            None => Ok(Self { threads, numa_nodes }),
        }
    }

    /// The threads, ascending by CPU number.
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// The NUMA nodes, ascending.
    pub fn numa_nodes(&self) -> &[NumaNode] {
        &self.numa_nodes
    }

    /// All online CPUs.
    pub fn cpus(&self) -> CpuSet {
        self.threads.iter().map(|thread| thread.cpu).collect()
    }

    /// The CPUs of one NUMA node.
    pub fn cpus_of_numa(&self, numa: u32) -> CpuSet {
        self.threads
            .iter()
            .filter(|thread| thread.numa == numa)
            .map(|thread| thread.cpu)
            .collect()
    }

    /// The NUMA nodes that the given CPUs touch.
    pub fn numa_of(&self, cpus: &CpuSet) -> CpuSet {
        self.threads
            .iter()
            .filter(|thread| cpus.contains(thread.cpu))
            .map(|thread| thread.numa)
            .collect()
    }

    /// All memory.
    pub fn memory(&self) -> Bytes {
        self.numa_nodes
            .iter()
            .fold(Bytes::ZERO, |sum, node| sum.plus(node.memory))
    }

    /// How many sockets, L3 domains and physical cores, in this order.
    pub fn counts(&self) -> (u32, u32, u32) {
        let distinct = |f: fn(&Thread) -> u32| self.threads.iter().map(f).collect::<CpuSet>().len();
        (distinct(|t| t.socket), distinct(|t| t.l3), distinct(|t| t.core))
    }
}
