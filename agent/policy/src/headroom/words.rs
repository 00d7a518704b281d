//! Reasons in words, for receipts and logs: what was measured, as a clause.

use core::fmt;

use super::{Level, Reason};

impl Level {
    /// All, from the foot of the ladder up.
    pub const ALL: [Self; 5] = [Self::Open, Self::Hold, Self::Shrink, Self::Squeeze, Self::Evict];

    /// The word used in tables, JSON and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Hold => "hold",
            Self::Shrink => "shrink",
            Self::Squeeze => "squeeze",
            Self::Evict => "evict",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calm => write!(f, "production is calm"),
            Self::ProductionUse(cpu) => {
                write!(f, "production uses {}.{} CPUs", cpu.0 / 1000, cpu.0 % 1000 / 100)
            }
            Self::CpuStall(stall) => write!(
                f,
                "production waited {} ms for a CPU within 100 ms",
                millis(stall.0)
            ),
            Self::MemoryStall(stall) => write!(
                f,
                "production waited {} ms for memory within 100 ms",
                millis(stall.0)
            ),
            Self::IoStall(stall) => write!(
                f,
                "production waited {} ms for a disk within 100 ms",
                millis(stall.0)
            ),
            Self::MemoryLow(left) => write!(f, "only {left} of memory can still be had"),
            Self::SloSlack(slack) if *slack < 0 => {
                write!(
                    f,
                    "production misses its target by {} %",
                    slack.unsigned_abs() / 10
                )
            }
            Self::SloSlack(slack) => write!(f, "production is {} % from missing its target", slack / 10),
            Self::SloUnknown => write!(f, "nobody has measured production's target lately"),
            Self::Backoff => write!(f, "production was in need a moment ago"),
            Self::Blind => write!(f, "production's use could not be read"),
        }
    }
}

const fn millis(micros: u64) -> u64 {
    micros.div_ceil(1000)
}
