//! Why jobs wait, as data: the command line, the API and the golden tests all render these values.
//!
//! Reasons are computed per *shape* (equal request, tier, team, nodes) and shared by all jobs of the shape, so a
//! long queue of equal jobs costs one scan of the nodes.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{JobId, WallTime};

use crate::change::Change;

/// Why one worker cannot go to one node, or to any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReasonCode {
    /// The fleet has no node.
    NoNodes,
    /// The job names a node that the fleet does not have.
    NodeUnknown,
    /// The job names other nodes.
    NodeNotSelected,
    /// The node is shut out.
    NodeBanned,
    /// The node refused this job for good.
    NodeRefused,
    /// The node refused this job for now.
    NodeRefusedForNow,
    /// An operator wants the node empty.
    NodeDraining,
    /// The node has been silent for a while.
    NodeSilent,
    /// The node has been silent for long.
    NodeLost,
    /// The node's warden does not answer its agent.
    NodeUnattended,
    /// The node joined and has not connected yet.
    NodeNeverSeen,
    /// The node's owner lends nothing at present.
    NodeLendsNothing,
    /// The node's owner does not lend to this team.
    TeamNotAllowed,
    /// The node gives no CPUs for exclusive use.
    ExclusiveCpusUnsupported,
    /// More CPU than the node lends even when empty.
    CpusBeyondLine,
    /// The CPU is lent to others.
    CpusBusy,
    /// More memory than the node lends even when empty.
    MemoryBeyondLine,
    /// The memory is lent to others.
    MemoryBusy,
    /// More GPUs than the node lends even when empty.
    GpusBeyondLine,
    /// The GPUs are lent to others.
    GpusBusy,
    /// There is room for some of the workers that must start together, not for all.
    NotAllTogether,
    /// The node's labels are not what the job requires.
    LabelsUnmet,
    /// The node has a taint that the job does not tolerate.
    TaintNotTolerated,
    /// The node's GPUs have less memory than the job asks for.
    GpuTooSmall,
    /// None of the node's NUMA nodes is large enough for a worker.
    NumaTooSmall,
    /// More space on disks than the node lends even when empty.
    ScratchBeyondLine,
    /// The space on disks is lent to others.
    ScratchBusy,
    /// The node's domain has as many of the job's workers as it may get.
    SpreadFull,
    /// A job that this one wants to be near has no worker there.
    NotNear,
    /// A job that this one is to be kept away from has a worker there.
    TooNear,
    /// Even without any other work there is no room for all workers that must start together.
    GangBeyondFleet,
    /// The node has room, and it is kept for another job.
    KeptForOthers,
    /// The team or its user may not hold or spend so much more.
    QuotaReached,
    /// It may start at certain times only.
    WindowShut,
    /// Others go first. It says who comes before, not what is missing: that is what the other reasons say.
    BehindOthers,
}

impl ReasonCode {
    /// Every code, in the order in which reasons are told.
    pub const ALL: [Self; 35] = [
        Self::QuotaReached,
        Self::WindowShut,
        Self::NoNodes,
        Self::NodeUnknown,
        Self::GangBeyondFleet,
        Self::LabelsUnmet,
        Self::TaintNotTolerated,
        Self::GpuTooSmall,
        Self::NumaTooSmall,
        Self::CpusBeyondLine,
        Self::MemoryBeyondLine,
        Self::GpusBeyondLine,
        Self::ScratchBeyondLine,
        Self::ExclusiveCpusUnsupported,
        Self::CpusBusy,
        Self::MemoryBusy,
        Self::GpusBusy,
        Self::ScratchBusy,
        Self::SpreadFull,
        Self::NotNear,
        Self::TooNear,
        Self::NotAllTogether,
        Self::KeptForOthers,
        Self::TeamNotAllowed,
        Self::NodeRefused,
        Self::NodeRefusedForNow,
        Self::NodeDraining,
        Self::NodeSilent,
        Self::NodeLost,
        Self::NodeUnattended,
        Self::NodeNeverSeen,
        Self::NodeLendsNothing,
        Self::NodeBanned,
        Self::NodeNotSelected,
        Self::BehindOthers,
    ];

    /// The stable word used in JSON, tests and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoNodes => "no_nodes",
            Self::NodeUnknown => "node_unknown",
            Self::NodeNotSelected => "node_not_selected",
            Self::NodeBanned => "node_banned",
            Self::NodeRefused => "node_refused",
            Self::NodeRefusedForNow => "node_refused_for_now",
            Self::NodeDraining => "node_draining",
            Self::NodeSilent => "node_silent",
            Self::NodeLost => "node_lost",
            Self::NodeUnattended => "node_unattended",
            Self::NodeNeverSeen => "node_never_seen",
            Self::NodeLendsNothing => "node_lends_nothing",
            Self::TeamNotAllowed => "team_not_allowed",
            Self::ExclusiveCpusUnsupported => "exclusive_cpus_unsupported",
            Self::CpusBeyondLine => "cpus_beyond_line",
            Self::CpusBusy => "cpus_busy",
            Self::MemoryBeyondLine => "memory_beyond_line",
            Self::MemoryBusy => "memory_busy",
            Self::GpusBeyondLine => "gpus_beyond_line",
            Self::GpusBusy => "gpus_busy",
            Self::NotAllTogether => "not_all_together",
            Self::LabelsUnmet => "labels_unmet",
            Self::TaintNotTolerated => "taint_not_tolerated",
            Self::GpuTooSmall => "gpu_too_small",
            Self::NumaTooSmall => "numa_too_small",
            Self::ScratchBeyondLine => "scratch_beyond_line",
            Self::ScratchBusy => "scratch_busy",
            Self::SpreadFull => "spread_full",
            Self::NotNear => "not_near",
            Self::TooNear => "too_near",
            Self::GangBeyondFleet => "gang_beyond_fleet",
            Self::KeptForOthers => "kept_for_others",
            Self::QuotaReached => "quota_reached",
            Self::WindowShut => "window_shut",
            Self::BehindOthers => "behind_others",
        }
    }

    /// True if it passes by itself: work ends, nodes come back.
    pub const fn passes(self) -> bool {
        matches!(
            self,
            Self::CpusBusy
                | Self::MemoryBusy
                | Self::GpusBusy
                | Self::NodeSilent
                | Self::NodeLost
                | Self::NodeUnattended
                | Self::NodeNeverSeen
                | Self::NodeRefusedForNow
                | Self::NotAllTogether
                | Self::ScratchBusy
                | Self::SpreadFull
                | Self::NotNear
                | Self::TooNear
                | Self::KeptForOthers
                | Self::QuotaReached
                | Self::WindowShut
                | Self::BehindOthers
        )
    }
}

/// One reason and the nodes it keeps away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Which.
    pub code: ReasonCode,
    /// For people: what is so, with the amounts.
    pub sentence: String,
    /// How many nodes.
    pub nodes: u32,
    /// Up to three of them, by name.
    pub examples: Vec<String>,
}

/// Why jobs of one shape wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// Every reason with the nodes it holds for, those of the node that is nearest to taking a worker first;
    /// empty: it fits and is next in line.
    pub reasons: Vec<Reason>,
    /// The cheapest change that starts it now, if one change can.
    pub change: Option<Change>,
    /// True if it starts without any change once work ends or nodes come back.
    pub passes: bool,
    /// How many nodes were looked at: all but banned ones that the job does not name.
    pub considered: u32,
    /// Room is kept for it.
    pub expected: Option<Expected>,
    /// How many jobs go before it.
    pub before: u32,
}

/// When a job for which room is kept will probably start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Then; none: nobody knows how long those take that have to end before.
    pub at: Option<WallTime>,
    /// Others have been asked to make room for it.
    pub yielding: bool,
}

/// A job with workers that were not placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Which job.
    pub job: JobId,
    /// How many of its workers wait.
    pub workers: u32,
    /// Why.
    pub why: Arc<Why>,
}

/// What the plan leaves waiting, and why. In the order of the queue as it was planned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The jobs.
    pub waiting: Vec<Waiting>,
}

impl Report {
    /// What is said about one job.
    pub fn of(&self, job: JobId) -> Option<&Waiting> {
        self.waiting.iter().find(|waiting| waiting.job == job)
    }
}

impl Why {
    /// One phrase for tables: the first reason.
    pub fn phrase(&self) -> String {
        self.reasons
            .first()
            .map_or_else(|| "next in line".into(), |reason| reason.sentence.clone())
    }

    /// What to do, in one or two sentences.
    pub fn advice(&self) -> String {
        let first = self.reasons.first().map(|reason| reason.code);
        let by_itself = match (first, self.expected) {
            (_, Some(Expected { yielding: true, .. })) => {
                "Others have been asked to make room for it: it starts once they are gone"
            }
            (_, Some(_)) => "It is next, and room is kept for it: it starts as soon as there is enough",
            (Some(ReasonCode::QuotaReached), _) => "It starts by itself once its team may hold or spend more",
            (Some(ReasonCode::WindowShut), _) => "It starts by itself when it is time",
            _ => "It starts by itself as soon as a node has room for it",
        };
        let none = self
            .reasons
            .iter()
            .any(|reason| reason.code == ReasonCode::NoNodes);
        match (&self.change, self.passes || self.reasons.is_empty()) {
            (None, _) if none => "Let a node join first: an operator types `fleet token node NAME`.".into(),
            (None, true) => alloc::format!("{by_itself}."),
            (Some(change), true) => alloc::format!("{by_itself}. To start it now: {change}."),
            (Some(change), false) => alloc::format!("It cannot start as it is. To start it now: {change}."),
            (None, false) => "It cannot start as it is, and no single change would start it now.".into(),
        }
    }
}
