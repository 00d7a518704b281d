//! A worker's unit and its settings, in our own words; `properties` turns them into systemd's.

use loadline_model::{AttemptId, Bytes, CpuSet, MilliCpu};
use loadline_policy::settings::{BytesPerSecond, CpuWeight, Limit, Slice, SliceSettings, WorkerSettings};

/// One setting of a unit that can also be changed while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// Always a full list: an emptied one does not widen a running unit.
    AllowedCpus(CpuSet),
    /// NUMA nodes to take memory from; a full list too.
    AllowedMemoryNodes(CpuSet),
    /// Share of CPU.
    CpuWeight(CpuWeight),
    /// Most CPU time.
    CpuQuota(Limit<MilliCpu>),
    /// Beyond this it is slowed down and reclaimed from.
    MemoryHigh(Limit<Bytes>),
    /// Beyond this it is killed.
    MemoryMax(Limit<Bytes>),
    /// Most swap.
    MemorySwapMax(Limit<Bytes>),
    /// Most processes and threads.
    TasksMax(Limit<u64>),
    /// Share of disk time.
    IoWeight(u16),
    /// Most reads and most writes, of each disk of the machine.
    IoBandwidth(Limit<BytesPerSecond>),
}

impl Setting {
    /// All settings of a worker that a running unit takes.
    pub fn of_worker(settings: &WorkerSettings) -> Vec<Self> {
        let mut list = vec![
            Self::CpuWeight(settings.cpu_weight),
            Self::MemoryHigh(settings.memory_high),
            Self::MemoryMax(settings.memory_max),
            Self::MemorySwapMax(settings.memory_swap_max),
            Self::TasksMax(settings.tasks_max),
        ];
        list.extend(settings.allowed_cpus.clone().map(Self::AllowedCpus));
        list.extend(
            settings
                .allowed_memory_nodes
                .clone()
                .map(Self::AllowedMemoryNodes),
        );
        list
    }

    /// All settings of a slice.
    pub fn of_slice(settings: &SliceSettings) -> Vec<Self> {
        let mut list = vec![
            Self::CpuWeight(settings.cpu_weight),
            Self::CpuQuota(settings.cpu_quota),
            Self::MemoryHigh(settings.memory_high),
            Self::MemoryMax(settings.memory_max),
            Self::MemorySwapMax(settings.memory_swap_max),
            Self::TasksMax(settings.tasks_max),
        ];
        list.extend(settings.io_weight.map(Self::IoWeight));
        // Of lent work as a whole: the tiers have none of their own.
        if settings.slice == Slice::Root {
            list.push(Self::IoBandwidth(settings.io_bandwidth));
        }
        list.extend(settings.allowed_cpus.clone().map(Self::AllowedCpus));
        list
    }
}

/// Everything systemd has to know to run one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerUnit {
    /// What people see in `systemctl status`.
    pub description: String,
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
    pub settings: WorkerSettings,
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
    /// The attempt, for the units that record its end.
    pub attempt: AttemptId,
}

impl WorkerUnit {
    /// The unit that records a success. A unit named for both ends gets no `MONITOR_*` at all, so there are two.
    pub fn on_success(&self) -> String {
        format!("loadline-ended@{}.service", self.attempt.hex())
    }

    /// The unit that records anything else.
    pub fn on_failure(&self) -> String {
        format!("loadline-failed@{}.service", self.attempt.hex())
    }
}
