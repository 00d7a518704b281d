//! What a worker asks for and what a node has: amounts, never ids, since the node picks the ids.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{Bytes, MilliCpu, PerMille};

/// CPU for one worker: threads of its own, or a share of what the others leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuRequest {
    /// This many hardware threads that no other worker gets. Written `2`.
    Exclusive(u32),
    /// A share of the threads that nobody has for their own. Written `500m`.
    Shared(MilliCpu),
}

impl CpuRequest {
    /// The amount, whichever way.
    pub const fn amount(self) -> MilliCpu {
        match self {
            Self::Exclusive(cpus) => MilliCpu::from_cpus(cpus),
            Self::Shared(amount) => amount,
        }
    }
}

impl fmt::Display for CpuRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exclusive(cpus) => write!(f, "{cpus}"),
            Self::Shared(amount) => write!(f, "{}m", amount.0),
        }
    }
}

/// What each worker of a job gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerRequest {
    /// CPU, exclusive or shared.
    pub cpus: CpuRequest,
    /// The memory limit; also what is accounted.
    pub memory: Bytes,
    /// Whole GPUs.
    pub gpus: u32,
}

/// Amounts of the resources that placement accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Amounts {
    /// CPU.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: Bytes,
    /// Whole GPUs.
    pub gpus: u32,
}

impl Amounts {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.plus(other.cpu),
            memory: self.memory.plus(other.memory),
            gpus: self.gpus.saturating_add(other.gpus),
        }
    }

    /// What is left, each at least zero.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.minus(other.cpu),
            memory: self.memory.minus(other.memory),
            gpus: self.gpus.saturating_sub(other.gpus),
        }
    }

    /// True if each of `self` is at most the same of `other`.
    pub fn fits_in(&self, other: &Self) -> bool {
        self.cpu <= other.cpu && self.memory <= other.memory && self.gpus <= other.gpus
    }
}

impl From<WorkerRequest> for Amounts {
    fn from(request: WorkerRequest) -> Self {
        Self {
            cpu: request.cpus.amount(),
            memory: request.memory,
            gpus: request.gpus,
        }
    }
}

/// One GPU of a node. The list exists from the first version, even while it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// The driver's UUID.
    pub uuid: String,
    /// The model's name.
    pub model: String,
    /// Its memory.
    pub memory: Bytes,
    /// How much of it may be lent.
    pub share: PerMille,
    /// The MIG profile, if it is a slice of a GPU.
    pub mig_profile: Option<String>,
}

/// The GPUs of a node.
pub type Gpus = Vec<Gpu>;
