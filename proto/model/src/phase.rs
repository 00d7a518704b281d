//! Where a job and an attempt stand, and how an attempt ended (design §9).

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{Bytes, Span, WallTime};

/// How a job ended as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobOutcome {
    /// Every worker exited with code 0.
    Succeeded,
    /// A worker failed and no retry is left.
    Failed,
    /// Someone asked for its end.
    Cancelled,
}

/// Where a job stands: queued → running → done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobPhase {
    /// No worker has started yet.
    Queued,
    /// At least one worker has been placed.
    Running,
    /// No worker runs and none will.
    Done(JobOutcome),
}

/// Where an attempt stands: assigned → starting → running ⇄ squeezed → stopping → ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptPhase {
    /// The fleet chose a node; the order is on its way.
    Assigned,
    /// The node has the order and systemd is starting the unit.
    Starting,
    /// The command runs.
    Running,
    /// It runs on the floor of the line, because production needs the node.
    Squeezed,
    /// It was asked to stop and has its grace.
    Stopping,
    /// It is over; see [`Ended`].
    Ended,
}

impl AttemptPhase {
    /// The word used in tables, JSON and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Squeezed => "squeezed",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
        }
    }
}

/// Why an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum EndReason {
    /// The command exited by itself.
    Exited {
        /// Its exit code.
        code: u8,
    },
    /// A signal ended it that Loadline did not send.
    Signalled {
        /// The signal's number.
        signal: u8,
    },
    /// The kernel killed it at its own memory limit.
    OutOfMemory,
    /// Its time was over.
    TimeLimit,
    /// Someone asked for its end.
    Cancelled,
    /// It could not be started (command not found, no such directory …).
    StartFailed,
    /// The node needed its room for production.
    Evicted,
    /// The node refused the order.
    Refused {
        /// True: never try this node again for this job. False: for now.
        for_good: bool,
    },
    /// The node has been silent for too long and the job wanted a replacement.
    NodeLost,
    /// The node restarted under it.
    NodeRebooted,
}

impl EndReason {
    /// The last four never use up `retries`: they say nothing about the command.
    pub const fn uses_up_retry(self) -> bool {
        !matches!(
            self,
            Self::Evicted | Self::Refused { .. } | Self::NodeLost | Self::NodeRebooted | Self::Cancelled
        )
    }

    /// True if the command did what it was for.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }

    /// The word used in tables, JSON and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exited { .. } => "exited",
            Self::Signalled { .. } => "signalled",
            Self::OutOfMemory => "out_of_memory",
            Self::TimeLimit => "time_limit",
            Self::Cancelled => "cancelled",
            Self::StartFailed => "start_failed",
            Self::Evicted => "evicted",
            Self::Refused { .. } => "refused",
            Self::NodeLost => "node_lost",
            Self::NodeRebooted => "node_rebooted",
        }
    }

    /// The exit code that `fleet run` and `fleet wait` pass on: the command's own, 128 + signal as shells
    /// have it (137 for the kernel's out-of-memory kill, 124 for time like `timeout`), else 1.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Exited { code } => code,
            Self::Signalled { signal } => 128u8.saturating_add(signal),
            Self::OutOfMemory => 137,
            Self::TimeLimit => 124,
            Self::StartFailed => 127,
            _ => 1,
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited with code {code}"),
            Self::Signalled { signal } => write!(f, "ended by signal {signal}"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::TimeLimit => f.write_str("time limit reached"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::StartFailed => f.write_str("could not be started"),
            Self::Evicted => f.write_str("evicted for production"),
            Self::Refused { for_good: true } => f.write_str("refused by the node for good"),
            Self::Refused { for_good: false } => f.write_str("refused by the node for now"),
            Self::NodeLost => f.write_str("node lost"),
            Self::NodeRebooted => f.write_str("node rebooted"),
        }
    }
}

/// The most an attempt used, sampled while it ran: a lower bound between two samples, absent if never read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peaks {
    /// `memory.peak`.
    pub memory: Option<Bytes>,
    /// `cpu.stat` `usage_usec`.
    pub cpu_time: Option<Span>,
    /// `pids.peak`.
    pub tasks: Option<u64>,
}

/// How an attempt ended, when, and the most it used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// When, by the node's wall clock.
    pub at: WallTime,
    /// The most it used.
    pub peaks: Peaks,
    /// What to tell the person, beyond the reason: for instance the limit and the peak, or what was not found.
    pub detail: alloc::string::String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_command_did_uses_up_retries() {
        for free in [
            EndReason::Evicted,
            EndReason::Refused { for_good: false },
            EndReason::NodeLost,
            EndReason::NodeRebooted,
        ] {
            assert!(!free.uses_up_retry(), "{free}");
        }
        for used in [
            EndReason::Exited { code: 1 },
            EndReason::Signalled { signal: 11 },
            EndReason::OutOfMemory,
            EndReason::TimeLimit,
            EndReason::StartFailed,
        ] {
            assert!(used.uses_up_retry(), "{used}");
        }
    }

    #[test]
    fn exit_codes_follow_the_shell() {
        assert_eq!(EndReason::Exited { code: 7 }.exit_code(), 7);
        assert_eq!(EndReason::Signalled { signal: 9 }.exit_code(), 137);
        assert_eq!(EndReason::Cancelled.exit_code(), 1);
    }
}
