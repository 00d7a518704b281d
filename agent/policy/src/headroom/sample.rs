//! What the law is shown: totals as the kernel counts them, read by whoever can.

use loadline_model::{Bytes, Span};

/// For how long tasks of production have waited since boot, in all: added up over its cgroups.
/// None: the kernel does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stalls {
    /// All tasks that could run on a CPU waited for it: somebody else had it. That tasks of production wait for each
    /// other is no part of this (`full` of `cpu.pressure`, of cgroups since Linux 5.13).
    pub cpu_full: Option<Span>,
    /// All tasks waited for memory.
    pub memory_full: Option<Span>,
    /// All tasks waited for a disk.
    pub io_full: Option<Span>,
}

/// How far production is from what its owner promises others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Slo {
    /// The owner set none.
    #[default]
    None,
    /// One is set and was not measured lately; never counts as good.
    Unknown,
    /// (target − measured) / target, in thousandths; negative: missed.
    Slack(i32),
}

/// What went to and came from disks since boot, added up over them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Bytes read.
    pub read: Bytes,
    /// Bytes written, by the kernel on its behalf too.
    pub written: Bytes,
}

/// One look at the machine. CPU times are totals since boot; the law takes the differences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// When, by the monotonic clock. Looks come about every 100 ms, sooner after an event, later on a busy machine.
    pub now: Span,
    /// CPU time of everything on the machine, the kernel's own included: long to read, so about once a second.
    pub cpu_all: Option<Span>,
    /// CPU time of all cgroups but lent work's, as the scheduler counts it; Loadline's own programs are part of it.
    pub cpu_units: Option<Span>,
    /// CPU time of all lent work; starts anew at zero when its slice is made anew.
    pub cpu_lent: Option<Span>,
    /// CPU time of Loadline's own two programs, which are neither production nor lent work.
    pub cpu_own: Span,
    /// The part of `cpu_lent` that is of the standard tier.
    pub cpu_standard: Option<Span>,
    /// What lent work has read and written; none where the kernel does not tell (no io controller).
    pub io_lent: Option<Transferred>,
    /// Memory that lent work holds, with its page cache and what waits to be written back.
    pub memory_lent: Option<Bytes>,
    /// Processes and threads of lent work.
    pub tasks_lent: Option<u64>,
    /// How long production has stalled.
    pub stalls: Stalls,
    /// Memory that could be had without swapping.
    pub memory_available: Option<Bytes>,
    /// How production's promises stand.
    pub slo: Slo,
}
