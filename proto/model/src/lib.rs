//! The vocabulary in which Loadline makes every decision.
//!
//! Pure: no clock, file, socket or thread can be named here. Quantities are integers with their unit in the
//! type, states are enums whose variants carry only what is valid there, and a [`JobSpec`] that exists is valid.
//! Programs convert to and from the wire in their own `wire` modules.
#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

extern crate alloc;

mod cpuset;
mod demand;
mod ids;
mod job;
mod label;
mod observation;
mod phase;
mod pool;
mod priority;
mod prove;
mod quantity;
mod receipt;
mod resources;
mod shown;
mod topology;
mod week;

pub use cpuset::{CpuSet, ParseCpuSetError};
pub use demand::{Demand, DemandProblem, GpuDemand, NODE_GPUS_MAX};
pub use ids::{AttemptId, FleetId, Generation, JobId, LedgerId, NodeId, ParseIdError, ProveId, Sequence};
pub use job::{
    After, AfterJob, Arrange, Domain, Elastic, JobDraft, JobName, JobNameProblem, JobSpec, Needs, Numa,
    OnNodeLost, SpecFields, SpecProblem, SpecProblems, Tasks, Tier, Waits, Workers, is_team_name,
};
pub use label::{
    Is, LabelProblem, Labels, Mark, OWN_KEYS, Requirement, Taint, as_label_value, label_key, label_value,
    labels_from_text, labels_text, taints_of,
};
pub use observation::{LineAmounts, NodeSample, Pressure, ResourceSample};
pub use phase::{AttemptPhase, EndReason, Ended, JobOutcome, JobPhase, Peaks};
pub use pool::Pool;
pub use priority::{ParsePriorityError, Priority};
pub use prove::{AskProblem, NoResource, ProveAsk, Resource};
pub use quantity::{Bytes, MilliCpu, MilliGpu, ParseQuantityError, PerMille, Span, WallTime};
pub use receipt::{Receipt, ReceiptAction, ReceiptSubject};
pub use resources::{Amounts, CpuRequest, Gpu, Gpus, WorkerRequest};
pub use shown::shown;
pub use topology::{NumaNode, Thread, Topology, TopologyProblem};
pub use week::{
    Days, LocalTime, ParseDaysError, ParseTimeOfDayError, ParseWeekSpanError, TimeOfDay, WeekSpan, Weekday,
};
