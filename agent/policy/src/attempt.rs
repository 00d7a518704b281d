//! Where an attempt stands on its node, and what may happen next.
//!
//! **Problem.** Orders, D-Bus signals, end records, the clock and reboots all speak about the same attempt, in
//! any order and more than once. **Approach.** One state, one function [`step`] that takes any event in any
//! state; nothing else changes the state. **Properties.** An ended attempt stays as it ended; every pair of
//! state and event has a defined outcome; replays change nothing. The time limit counts time in which the
//! attempt was allowed to run, measured by differences of the monotonic clock since boot.

mod end;

use alloc::format;
use alloc::string::String;

use loadline_model::{AttemptId, AttemptPhase, EndReason, Ended, JobId, JobSpec, Peaks, Span, WallTime};
use serde::{Deserialize, Serialize};

pub use end::{MainEnd, UnitEnd, end_reason, start_failure};

/// The kernel's id of one boot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub String);

/// Now, by both clocks: `boot` counts since boot and never steps back, `wall` is for people and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since boot.
    pub boot: Span,
    /// Wall time.
    pub wall: WallTime,
}

/// What the fleet ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkOrder {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its job.
    pub job: JobId,
    /// The job's short number.
    pub job_number: u64,
    /// Which worker of it.
    pub worker: u32,
    /// 1 for the worker's first attempt.
    pub attempt_number: u32,
    /// The Unix account.
    pub user: String,
    /// The team; empty: none.
    pub team: String,
    /// What to run.
    pub spec: JobSpec,
}

/// Time in which the attempt was allowed to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunClock {
    /// So much so far.
    pub spent: Span,
    /// Counted up to this moment since boot.
    pub counted_to: Span,
}

/// Why Loadline ends an attempt that would go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopWhy {
    /// Someone asked for it.
    Cancelled,
    /// Its time was over.
    TimeLimit,
    /// The node needs its room for production.
    Evicted,
    /// It was replaced while its node was silent.
    NodeLost,
    /// It stood at its memory limit, starved, where the kernel got no further.
    OutOfMemory,
}

impl StopWhy {
    /// How the attempt's end is reported.
    pub const fn reason(self) -> EndReason {
        match self {
            Self::Cancelled => EndReason::Cancelled,
            Self::TimeLimit => EndReason::TimeLimit,
            Self::Evicted => EndReason::Evicted,
            Self::NodeLost => EndReason::NodeLost,
            Self::OutOfMemory => EndReason::OutOfMemory,
        }
    }
}

/// Where an attempt stands on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Life {
    /// The order is durable. Next: starting, or ended without ever having run.
    Accepted,
    /// systemd was asked, or is about to be: written *before* the call, so that it is never made twice. Next:
    /// running, stopping, ended.
    Starting {
        /// Asked at this moment since boot.
        asked_at: Span,
    },
    /// The command runs. Next: squeezed, stopping, ended.
    Running {
        /// Its time.
        clock: RunClock,
    },
    /// It runs on the floor of the line; its time stands still. Next: running, stopping, ended.
    Squeezed {
        /// Its time.
        clock: RunClock,
    },
    /// It was asked to end. Next: ended.
    Stopping {
        /// Why.
        why: StopWhy,
        /// What to tell the person.
        detail: String,
        /// Its grace is over at this moment since boot.
        kill_at: Span,
    },
    /// It is over, for ever.
    Ended {
        /// How.
        ended: Ended,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The order will not be carried out.
    Refused {
        /// True: never on this node as it is.
        for_good: bool,
        /// One sentence.
        sentence: String,
    },
    /// systemd is about to be asked.
    StartAsked,
    /// The command runs.
    Started,
    /// systemd could not start it.
    StartFailed {
        /// One sentence.
        sentence: String,
    },
    /// Time passed.
    Tick,
    /// The loop holds it at its floor.
    Squeezed,
    /// The loop lets it go again.
    Released,
    /// Someone with the right to asks for its end.
    StopOrdered {
        /// Why.
        why: StopWhy,
        /// How long it may take; at most what the specification grants counts.
        grace: Span,
        /// What to tell the person.
        detail: String,
    },
    /// Its unit ended: an end record, or D-Bus signals that agree with each other.
    UnitEnded {
        /// How, in systemd's words.
        end: UnitEnd,
        /// The most it used.
        peaks: Peaks,
        /// When, by the wall clock.
        at: WallTime,
    },
    /// There is no such unit and no record of its end.
    UnitVanished,
    /// The node runs under another boot id than the one the attempt belongs to.
    RebootSeen,
}

/// What the event changes, and what must be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: a replay, or no concern of this state.
    Unchanged,
    /// A new state, to be durable before anything is done about it.
    Moved(Life),
    /// The new state needs its unit stopped.
    Stop(Life),
    /// What was reported cannot be, as far as the ledger knows. Nothing changes; to be logged and counted.
    Contradiction(&'static str),
}

impl Life {
    /// The phase that is reported to the fleet.
    pub const fn phase(&self) -> AttemptPhase {
        match self {
            Self::Accepted => AttemptPhase::Assigned,
            Self::Starting { .. } => AttemptPhase::Starting,
            Self::Running { .. } => AttemptPhase::Running,
            Self::Squeezed { .. } => AttemptPhase::Squeezed,
            Self::Stopping { .. } => AttemptPhase::Stopping,
            Self::Ended { .. } => AttemptPhase::Ended,
        }
    }

    /// How it ended, if it did.
    pub const fn ended(&self) -> Option<&Ended> {
        match self {
            Self::Ended { ended } => Some(ended),
            _ => None,
        }
    }

    /// True if a unit of it may exist.
    pub const fn may_have_unit(&self) -> bool {
        !matches!(self, Self::Accepted | Self::Ended { .. })
    }
}

/// The one function that changes where an attempt stands. `spec` is none for an orphan, of which only its unit
/// is known.
pub fn step(life: &Life, event: &Event, spec: Option<&JobSpec>, now: Moment) -> Outcome {
    match life {
        Life::Ended { .. } => after_the_end(event),
        Life::Accepted => from_accepted(event, spec, now),
        Life::Starting { .. } => from_starting(event, spec, now),
        Life::Running { clock } => from_running(*clock, false, event, spec, now),
        Life::Squeezed { clock } => from_running(*clock, true, event, spec, now),
        Life::Stopping { why, detail, .. } => from_stopping(*why, detail, event, now),
    }
}

fn ended(reason: EndReason, detail: impl Into<String>, now: Moment) -> Outcome {
    let ended = Ended {
        reason,
        at: now.wall,
        peaks: Peaks::default(),
        detail: detail.into(),
    };
    Outcome::Moved(Life::Ended { ended })
}

fn rebooted(now: Moment) -> Outcome {
    ended(
        EndReason::NodeRebooted,
        "the node restarted while it was there",
        now,
    )
}

fn vanished(now: Moment) -> Outcome {
    let detail = "its unit is gone and left no record; whether and how it ended is not known";
    ended(EndReason::NodeLost, detail, now)
}

fn after_the_end(event: &Event) -> Outcome {
    match event {
        Event::Started => Outcome::Contradiction("an attempt that had ended was reported as running"),
        Event::StartAsked => Outcome::Contradiction("an attempt that had ended was to be started"),
        // End records arrive again after a restart, stop orders cross with the end, the rest is no news.
        _ => Outcome::Unchanged,
    }
}

fn from_accepted(event: &Event, spec: Option<&JobSpec>, now: Moment) -> Outcome {
    match event {
        Event::Refused { for_good, sentence } => {
            ended(EndReason::Refused { for_good: *for_good }, sentence.clone(), now)
        }
        Event::StartAsked => Outcome::Moved(Life::Starting { asked_at: now.boot }),
        Event::StopOrdered { why, detail, .. } => ended(why.reason(), detail.clone(), now),
        Event::StartFailed { sentence } => ended(EndReason::StartFailed, sentence.clone(), now),
        Event::RebootSeen => rebooted(now),
        // The ledger is older than the node, restored from a copy: the unit knows better.
        Event::Started => started(now),
        Event::UnitEnded { end, peaks, at } => unit_ended(end, *peaks, *at, spec, true),
        Event::Tick | Event::Squeezed | Event::Released | Event::UnitVanished => Outcome::Unchanged,
    }
}

fn from_starting(event: &Event, spec: Option<&JobSpec>, now: Moment) -> Outcome {
    match event {
        Event::Started => started(now),
        Event::StartFailed { sentence } => ended(EndReason::StartFailed, sentence.clone(), now),
        Event::StopOrdered { why, grace, detail } => stop(*why, *grace, detail, spec, now),
        Event::UnitEnded { end, peaks, at } => unit_ended(end, *peaks, *at, spec, false),
        Event::UnitVanished => vanished(now),
        Event::RebootSeen => rebooted(now),
        Event::Refused { .. } => Outcome::Contradiction("an attempt that is starting was refused"),
        Event::StartAsked | Event::Tick | Event::Squeezed | Event::Released => Outcome::Unchanged,
    }
}

fn from_running(
    clock: RunClock,
    squeezed: bool,
    event: &Event,
    spec: Option<&JobSpec>,
    now: Moment,
) -> Outcome {
    let clock = count(clock, squeezed, now);
    match event {
        // The clock needs no writing: it is counted again from where it was last written down.
        Event::Tick => match spec.and_then(|spec| spec.time) {
            Some(limit) if clock.spent >= limit => {
                let detail = format!("it ran for its limit of {limit}; ask for more with `time`");
                stop(StopWhy::TimeLimit, grace_of(spec), &detail, spec, now)
            }
            _ => Outcome::Unchanged,
        },
        Event::Squeezed if !squeezed => Outcome::Moved(running(clock, true)),
        Event::Released if squeezed => Outcome::Moved(running(clock, false)),
        Event::StopOrdered { why, grace, detail } => stop(*why, *grace, detail, spec, now),
        Event::UnitEnded { end, peaks, at } => unit_ended(end, *peaks, *at, spec, true),
        Event::UnitVanished => vanished(now),
        Event::RebootSeen => rebooted(now),
        Event::Refused { .. } => Outcome::Contradiction("an attempt that is running was refused"),
        Event::StartFailed { .. } => Outcome::Contradiction("an attempt that is running failed to start"),
        Event::StartAsked | Event::Started | Event::Squeezed | Event::Released => Outcome::Unchanged,
    }
}

fn from_stopping(why: StopWhy, detail: &str, event: &Event, now: Moment) -> Outcome {
    match event {
        Event::UnitEnded { peaks, at, .. } => {
            let ended = Ended {
                reason: why.reason(),
                at: *at,
                peaks: *peaks,
                detail: detail.into(),
            };
            Outcome::Moved(Life::Ended { ended })
        }
        // It did end, as was wanted; only the record is missing.
        Event::UnitVanished | Event::StartFailed { .. } => ended(why.reason(), detail, now),
        Event::RebootSeen => rebooted(now),
        Event::Refused { .. } => Outcome::Contradiction("an attempt that is stopping was refused"),
        Event::StartAsked
        | Event::Started
        | Event::Tick
        | Event::Squeezed
        | Event::Released
        | Event::StopOrdered { .. } => Outcome::Unchanged,
    }
}

fn started(now: Moment) -> Outcome {
    let clock = RunClock {
        spent: Span::ZERO,
        counted_to: now.boot,
    };
    Outcome::Moved(Life::Running { clock })
}

const fn running(clock: RunClock, squeezed: bool) -> Life {
    if squeezed {
        Life::Squeezed { clock }
    } else {
        Life::Running { clock }
    }
}

/// The monotonic clock of one boot never steps back; if a caller's does, nothing is counted twice.
fn count(clock: RunClock, squeezed: bool, now: Moment) -> RunClock {
    let passed = if squeezed {
        Span::ZERO
    } else {
        now.boot.minus(clock.counted_to)
    };
    RunClock {
        spent: clock.spent.plus(passed),
        counted_to: now.boot.max(clock.counted_to),
    }
}

/// An orphan gets what a job gets that does not say.
fn grace_of(spec: Option<&JobSpec>) -> Span {
    spec.map_or(Span::from_secs(30), |spec| spec.grace)
}

fn stop(why: StopWhy, grace: Span, detail: &str, spec: Option<&JobSpec>, now: Moment) -> Outcome {
    let kill_at = now.boot.plus(grace.min(grace_of(spec)));
    Outcome::Stop(Life::Stopping {
        why,
        detail: detail.into(),
        kill_at,
    })
}

fn unit_ended(
    end: &UnitEnd,
    peaks: Peaks,
    at: WallTime,
    spec: Option<&JobSpec>,
    had_started: bool,
) -> Outcome {
    let (reason, detail) = end_reason(end, &peaks, spec, had_started);
    Outcome::Moved(Life::Ended {
        ended: Ended {
            reason,
            at,
            peaks,
            detail,
        },
    })
}

#[cfg(test)]
mod tests;
