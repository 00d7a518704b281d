//! What a node measures about itself and reports every 5 s.

use serde::{Deserialize, Serialize};

use crate::{Bytes, MilliCpu, WallTime};

/// How much of one resource is where, in one unit. `lent` is what workers hold now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceSample<Q> {
    /// All there is.
    pub capacity: Q,
    /// Never lent.
    pub reserve: Q,
    /// What production uses now.
    pub production: Q,
    /// What workers use now.
    pub lent: Q,
    /// The line of now: how much may be lent at this moment.
    pub now: Q,
    /// The firm line: how much may be lent to the standard tier.
    pub firm: Q,
    /// Kept idle on top of what production uses.
    pub headroom: Q,
}

/// Both lines of a node, as amounts per resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineAmounts {
    /// CPU.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: Bytes,
    /// Whole GPUs.
    pub gpus: u32,
}

/// The kernel's pressure stall totals, microseconds since boot; absent where the kernel has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// CPU, some.
    pub cpu_some_us: Option<u64>,
    /// Memory, full.
    pub memory_full_us: Option<u64>,
    /// IO, full.
    pub io_full_us: Option<u64>,
}

/// One sample of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSample {
    /// When, by the node's wall clock.
    pub at: WallTime,
    /// CPU.
    pub cpu: ResourceSample<MilliCpu>,
    /// Memory.
    pub memory: ResourceSample<Bytes>,
    /// Stalls.
    pub pressure: Pressure,
}
