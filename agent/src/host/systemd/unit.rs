//! A worker's unit and its settings, in our own words; `properties` turns them into systemd's.

use loadline_model::{Bytes, CpuSet, MilliCpu, Span};

use crate::host::cgroup::Ceiling;

/// A cgroup's share of CPU among its siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Only what nobody else wants: the scheduler's idle class.
    Idle,
    /// 1 to 10000.
    Share(u16),
}

/// One setting of a unit that can also be changed while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// Always a full list: an emptied one does not widen a running unit.
    AllowedCpus(CpuSet),
    /// NUMA nodes to take memory from; a full list too.
    AllowedMemoryNodes(CpuSet),
    /// Share of CPU.
    CpuWeight(Weight),
    /// Most CPU time.
    CpuQuota(Ceiling<MilliCpu>),
    /// Beyond this it is slowed down and reclaimed from.
    MemoryHigh(Ceiling<Bytes>),
    /// Beyond this it is killed.
    MemoryMax(Ceiling<Bytes>),
    /// Most swap.
    MemorySwapMax(Ceiling<Bytes>),
    /// Most processes and threads.
    TasksMax(Ceiling<u64>),
}

/// Everything systemd has to know to run one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerUnit {
    /// Its name.
    pub name: String,
    /// What people see in `systemctl status`.
    pub description: String,
    /// The slice it runs in.
    pub slice: String,
    /// The account it runs as.
    pub user: String,
    /// The working directory, absolute.
    pub directory: String,
    /// An absolute path, or a bare file name to look for in `search_path`.
    pub program: String,
    /// The argument vector, the program's own name first; nothing in it is expanded.
    pub argv: Vec<String>,
    /// Where programs are looked for; absolute.
    pub search_path: Vec<String>,
    /// Its variables, `NAME=value`.
    pub environment: Vec<String>,
    /// Its limits.
    pub settings: Vec<Setting>,
    /// From being asked to end until being ended.
    pub grace: Span,
    /// Its own /dev/shm is at most this large.
    pub shared_memory: Bytes,
    /// Folders it may write to; missing ones are passed over.
    pub writable: Vec<String>,
    /// Device files it may use; none: it sees pseudo devices only.
    pub devices: Vec<String>,
    /// `NAME=value` fields of each of its journal entries.
    pub log_fields: Vec<String>,
    /// The name before its lines in the journal.
    pub log_identifier: String,
    /// The unit that records its end.
    pub recorder: String,
}
