//! All that one worker may ask a node for: what is given to it, and what the node must be.
//!
//! [`crate::WorkerRequest`] is what a worker gets, [`Needs`] what its node must be; together they are a [`Demand`].
//! Placement reckons in demands, so that shares of GPUs, models, scratch space, labels and taints are one vocabulary.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::{Bytes, CpuRequest, Needs, Numa, PerMille, Requirement, WorkerRequest};

/// The most GPUs that placement books on one node; larger machines lend the first so many.
pub const NODE_GPUS_MAX: u32 = 16;

/// GPUs for one worker: whole ones, or a share of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GpuDemand {
    /// How many, of one node; 0 to [`NODE_GPUS_MAX`].
    pub count: u32,
    /// How much of each: all of it where `count` exceeds 1.
    pub share: PerMille,
    /// Each has at least so much memory in all.
    pub memory: Bytes,
    /// One of these models; empty: any.
    pub models: Vec<String>,
}

/// What one worker asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Demand {
    /// CPU, exclusive or shared.
    pub cpus: CpuRequest,
    /// Memory.
    pub memory: Bytes,
    /// Space on the node's own disks.
    pub scratch: Bytes,
    /// GPUs.
    pub gpus: GpuDemand,
    /// Each of these holds for the node's labels.
    pub require: Vec<Requirement>,
    /// Nodes where more of these hold go first.
    pub prefer: Vec<Requirement>,
    /// The node has no taint that is not among these: `key=value`, or `key` with any value.
    pub tolerates: BTreeSet<String>,
    /// On which NUMA nodes.
    pub numa: Numa,
}

/// A demand that no node could ever be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DemandProblem {
    /// A share of several GPUs.
    #[error("{count} GPUs with {share} of each: ask for whole GPUs, or for a share of one")]
    ShareOfSeveral {
        /// How many.
        count: u32,
        /// Of each.
        share: PerMille,
    },
    /// A share that is nothing, or more than a GPU.
    #[error("{share} of a GPU: ask for 0.1% to 100%")]
    NoShare {
        /// Of each.
        share: PerMille,
    },
    /// More than any node lends.
    #[error("{count} GPUs: ask for at most {NODE_GPUS_MAX} per worker")]
    TooManyGpus {
        /// How many.
        count: u32,
    },
}

impl GpuDemand {
    /// No GPU at all.
    pub const NONE: Self = Self {
        count: 0,
        share: PerMille::ONE,
        memory: Bytes::ZERO,
        models: Vec::new(),
    };

    /// True for a share of one GPU.
    pub fn is_share(&self) -> bool {
        self.count == 1 && self.share < PerMille::ONE
    }

    /// Together, in thousandths of one GPU.
    pub const fn total(&self) -> u32 {
        self.count.saturating_mul(self.share.0 as u32)
    }
}

impl Demand {
    /// What a worker of a job asks for.
    #[must_use]
    pub fn new(request: WorkerRequest, needs: &Needs) -> Self {
        let plain = Self::from(request);
        Self {
            scratch: needs.scratch,
            gpus: GpuDemand {
                share: needs.gpu_share.unwrap_or(PerMille::ONE),
                memory: needs.gpu_memory,
                ..plain.gpus
            },
            require: needs.require.clone(),
            prefer: needs.prefer.clone(),
            tolerates: needs.tolerate.iter().map(ToString::to_string).collect(),
            numa: needs.numa,
            ..plain
        }
    }

    /// Says what is wrong with it, if anything.
    ///
    /// # Errors
    /// When no node could ever be asked for it.
    pub fn checked(self) -> Result<Self, DemandProblem> {
        let GpuDemand { count, share, .. } = self.gpus;
        if count > NODE_GPUS_MAX {
            return Err(DemandProblem::TooManyGpus { count });
        }
        if count > 0 && (share.0 == 0 || share > PerMille::ONE) {
            return Err(DemandProblem::NoShare { share });
        }
        if count > 1 && share != PerMille::ONE {
            return Err(DemandProblem::ShareOfSeveral { count, share });
        }
        Ok(self)
    }
}

impl From<WorkerRequest> for Demand {
    fn from(request: WorkerRequest) -> Self {
        let WorkerRequest { cpus, memory, gpus } = request;
        Self {
            cpus,
            memory,
            scratch: Bytes::ZERO,
            gpus: GpuDemand {
                count: gpus,
                ..GpuDemand::NONE
            },
            require: Vec::new(),
            prefer: Vec::new(),
            tolerates: BTreeSet::new(),
            numa: Numa::Any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(count: u32, share: u16) -> Result<Demand, DemandProblem> {
        let request = WorkerRequest {
            cpus: CpuRequest::Exclusive(1),
            memory: Bytes::from_gib(1),
            gpus: count,
        };
        let mut demand = Demand::from(request);
        demand.gpus.share = PerMille(share);
        demand.checked()
    }

    #[test]
    fn whole_gpus_or_a_share_of_one_and_nothing_else() {
        assert!(gpus(0, 1000).is_ok() && gpus(1, 1).is_ok() && gpus(16, 1000).is_ok());
        let (count, share) = (2, PerMille(500));
        assert_eq!(gpus(2, 500), Err(DemandProblem::ShareOfSeveral { count, share }));
        for wrong in [0, 1001] {
            let share = PerMille(wrong);
            assert_eq!(gpus(1, wrong), Err(DemandProblem::NoShare { share }));
        }
        assert_eq!(gpus(17, 1000), Err(DemandProblem::TooManyGpus { count: 17 }));
        assert_eq!(gpus(3, 1000).map(|demand| demand.gpus.total()), Ok(3000));
    }
}
