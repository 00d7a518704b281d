//! How the machine's threads hang together and how much memory is where, from `/sys/devices/system`.
//!
//! Touches sysfs and `/proc/meminfo`, reads only, needs no privilege. A kernel without NUMA has no
//! `/sys/devices/system/node`: then all CPUs and memory are node 0. A virtual machine without an L3 has its NUMA
//! node's part of a socket for one.

use std::collections::BTreeMap;

use loadline_model::{Bytes, CpuSet, NumaNode, Thread, Topology, TopologyProblem};
use procfs::{FromRead, Meminfo, ProcError};

use super::root::{HostRoot, KernelFileError};

const CPU: &str = "/sys/devices/system/cpu";
const NODE: &str = "/sys/devices/system/node";
const MEMINFO: &str = "/proc/meminfo";

/// The machine's shape could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A file of it.
    #[error(transparent)]
    File(#[from] KernelFileError),
    /// The memory.
    #[error("reading {MEMINFO} failed")]
    Memory(#[source] ProcError),
    /// A node's memory.
    #[error("the memory of NUMA node {node} is not in its meminfo")]
    NodeMemory {
        /// The node.
        node: u32,
    },
    /// The files contradict each other.
    #[error("the kernel's description of the CPUs contradicts itself")]
    Contradiction(#[source] TopologyProblem),
}

/// The online threads and the memory of the machine.
///
/// # Errors
/// When a file cannot be read or they contradict each other.
pub fn read(root: &HostRoot) -> Result<Topology, TopologyError> {
    let online = root.cpus(&format!("{CPU}/online"))?;
    let nodes = numa_nodes(root, &online)?;
    let node_of = |cpu: u32| {
        nodes
            .iter()
            .find(|(_, cpus)| cpus.contains(cpu))
            .map_or(0, |(node, _)| node.id)
    };
    let mut threads = Vec::new();
    for cpu in online.iter() {
        let numa = node_of(cpu);
        let socket = socket(root, cpu)?;
        let core = first_online(siblings(root, cpu)?, &online, cpu);
        // Where no L3 is described, the marker is replaced below.
        let l3 = l3_siblings(root, cpu)?.map(|shared| first_online(shared, &online, cpu));
        threads.push((
            Thread {
                cpu,
                core,
                l3: l3.unwrap_or(cpu),
                numa,
                socket,
            },
            l3.is_some(),
        ));
    }
    let mut first_of: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for (thread, _) in &threads {
        first_of.entry((thread.socket, thread.numa)).or_insert(thread.cpu);
    }
    let threads = threads.into_iter().map(|(thread, has_l3)| match has_l3 {
        true => thread,
        false => Thread {
            l3: first_of[&(thread.socket, thread.numa)],
            ..thread
        },
    });
    let numa = nodes.into_iter().map(|(node, _)| node).collect();
    Topology::new(threads.collect(), numa).map_err(TopologyError::Contradiction)
}

/// The lowest online CPU of a group; the CPU itself if the kernel lists none.
fn first_online(group: CpuSet, online: &CpuSet, cpu: u32) -> u32 {
    group.intersection(online).first().unwrap_or(cpu)
}

fn siblings(root: &HostRoot, cpu: u32) -> Result<CpuSet, KernelFileError> {
    let topology = format!("{CPU}/cpu{cpu}/topology");
    // The newer name first; RHEL 9's kernel has both.
    for name in ["core_cpus_list", "thread_siblings_list"] {
        if root.exists(&format!("{topology}/{name}")) {
            return root.cpus(&format!("{topology}/{name}"));
        }
    }
    Ok([cpu].into_iter().collect())
}

/// Some firmware says -1 where it does not know: one socket then.
fn socket(root: &HostRoot, cpu: u32) -> Result<u32, KernelFileError> {
    let name = format!("{CPU}/cpu{cpu}/topology/physical_package_id");
    if !root.exists(&name) {
        return Ok(0);
    }
    let socket: i64 = root.parsed(&name, "a socket's number")?;
    Ok(u32::try_from(socket).unwrap_or(0))
}

fn l3_siblings(root: &HostRoot, cpu: u32) -> Result<Option<CpuSet>, KernelFileError> {
    let cache = format!("{CPU}/cpu{cpu}/cache");
    for index in root.numbered(&cache, "index") {
        if root.optional(&format!("{cache}/index{index}/level"))?.as_deref() == Some("3") {
            return root
                .cpus(&format!("{cache}/index{index}/shared_cpu_list"))
                .map(Some);
        }
    }
    Ok(None)
}

fn numa_nodes(root: &HostRoot, online: &CpuSet) -> Result<Vec<(NumaNode, CpuSet)>, TopologyError> {
    let ids = root.numbered(NODE, "node");
    // Of one node, all memory is asked for: what was plugged in later may be missing in the node's own count.
    if ids.len() <= 1 {
        let id = ids.first().copied().unwrap_or(0);
        return Ok(vec![(
            NumaNode {
                id,
                memory: total_memory(root)?,
            },
            online.clone(),
        )]);
    }
    let mut nodes = Vec::new();
    for id in ids {
        let cpus = root.cpus(&format!("{NODE}/node{id}/cpulist"))?;
        let text = root.text(&format!("{NODE}/node{id}/meminfo"))?;
        let memory = node_memory(&text).ok_or(TopologyError::NodeMemory { node: id })?;
        nodes.push((NumaNode { id, memory }, cpus));
    }
    Ok(nodes)
}

/// `Node 0 MemTotal:  2024000 kB`, where kB are KiB.
fn node_memory(meminfo: &str) -> Option<Bytes> {
    let line = meminfo.lines().find(|line| line.contains("MemTotal:"))?;
    let kib: u64 = line
        .split_once("MemTotal:")?
        .1
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()?;
    Some(Bytes(kib.saturating_mul(1024)))
}

fn total_memory(root: &HostRoot) -> Result<Bytes, TopologyError> {
    let meminfo = Meminfo::from_file(root.path(MEMINFO)).map_err(TopologyError::Memory)?;
    Ok(Bytes(meminfo.mem_total))
}
