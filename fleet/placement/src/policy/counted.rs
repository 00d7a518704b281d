//! Amounts as quotas, budgets and shares count them: a share of a GPU as its thousandths, not as a GPU.

use loadline_model::{Amounts, Bytes, MilliCpu, MilliGpu, Needs, WorkerRequest};
use serde::{Deserialize, Serialize};

/// What is held or asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// CPU.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: Bytes,
    /// GPUs, whole ones and shares.
    pub gpus: MilliGpu,
}

impl Counted {
    /// Nothing.
    pub const ZERO: Self = Self {
        cpu: MilliCpu::ZERO,
        memory: Bytes::ZERO,
        gpus: MilliGpu::ZERO,
    };

    /// What one worker counts as.
    #[must_use]
    pub fn of(request: &WorkerRequest, needs: &Needs) -> Self {
        let whole = Self::from(Amounts::from(*request));
        match needs.gpu_share {
            Some(share) if request.gpus > 0 => Self {
                gpus: MilliGpu(share.0.into()),
                ..whole
            },
            _ => whole,
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.plus(other.cpu),
            memory: self.memory.plus(other.memory),
            gpus: self.gpus.plus(other.gpus),
        }
    }

    /// What is left, each at least nothing.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.minus(other.cpu),
            memory: self.memory.minus(other.memory),
            gpus: self.gpus.minus(other.gpus),
        }
    }

    /// So many workers that count as this.
    #[must_use]
    pub fn times(self, workers: u32) -> Self {
        Self {
            cpu: self.cpu.times(workers.into()),
            memory: self.memory.times(workers.into()),
            gpus: self.gpus.times(workers.into()),
        }
    }
}

impl From<Amounts> for Counted {
    /// Of whole GPUs.
    fn from(amounts: Amounts) -> Self {
        Self {
            cpu: amounts.cpu,
            memory: amounts.memory,
            gpus: MilliGpu::from_gpus(amounts.gpus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadline_model::{CpuRequest, PerMille};

    #[test]
    fn a_share_counts_as_its_thousandths_and_whole_ones_as_a_thousand_each() {
        let counted = |gpus, share: Option<u16>| {
            let request = WorkerRequest {
                cpus: CpuRequest::Exclusive(2),
                memory: Bytes(5),
                gpus,
            };
            let needs = Needs {
                gpu_share: share.map(PerMille),
                ..Needs::default()
            };
            Counted::of(&request, &needs)
        };
        assert_eq!(counted(1, Some(250)).gpus, MilliGpu(250));
        assert_eq!(counted(3, None).gpus, MilliGpu(3000));
        assert_eq!(
            counted(0, None).times(7),
            Counted {
                gpus: MilliGpu(0),
                ..counted(1, None).times(7)
            }
        );
        let four = counted(1, Some(250)).times(4);
        assert_eq!((four.gpus, four.cpu), (MilliGpu(1000), MilliCpu(8000)));
        assert_eq!(
            four.minus(counted(1, Some(250))).plus(counted(1, Some(250))),
            four
        );
    }
}
