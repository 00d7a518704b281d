//! How many processes and threads lent work may have: as many as the static limit allows, and no more than there are
//! and a few once memory is short or their number shoots up.
//!
//! **Problem.** Each one costs some 20 KiB of the kernel's memory, which nobody can take back, and a fork storm makes
//! thousands in a second. **Approach.** Nothing that is there is touched: the limit lies above it by a margin, in which
//! workers can still end and threads come and go. A limit that lent work has reached rises step by step, as the storm
//! would otherwise begin anew with each release; one that it has left is taken away. **Properties.** Never above the static
//! limit, never below what is there; it falls by danger alone and rises in calm alone; under a constant storm it
//! turns once.

use loadline_model::Span;

use super::pace::SEEN_MOST;
use super::{Bounds, Sample};
use crate::settings::{SLICE_TASKS_MAX, TASKS_FLOOR, TasksLimit, TasksWhy};

/// So many more within a second are a storm: threads of a pool for each CPU, and some.
const STORM: u64 = 1024;
const STORM_PER_CPU: u64 = 32;
const SECOND: Span = Span::from_secs(1);
/// While memory is short: a few, and an eighth.
const FEW: u64 = 64;
const PART: u64 = 8;
/// It has to be calm for so long.
const CALM: Span = Span::from_secs(10);
/// A limit that is reached rises by this much, after this long.
const STEP: u64 = SLICE_TASKS_MAX / 8;
const STEP_EVERY: Span = Span::from_secs(30);
/// With less room than this it counts as reached.
const ROOM: u64 = 32;

/// The limit in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TasksLine {
    limit: Option<TasksLimit>,
    /// How many there were when this second began, and how much of it has passed.
    counted: Option<u64>,
    passed: Span,
    calm: Span,
    reached: Span,
}

impl TasksLine {
    pub(super) const fn new() -> Self {
        Self {
            limit: None,
            counted: None,
            passed: Span::ZERO,
            calm: Span::ZERO,
            reached: Span::ZERO,
        }
    }

    /// None: the static limit.
    pub(super) const fn setpoint(&self) -> Option<TasksLimit> {
        self.limit
    }

    /// One look. `growing`: the time passed, if setpoints may grow.
    pub(super) fn step(&mut self, bounds: &Bounds, sample: &Sample, elapsed: Span, growing: Option<Span>) {
        let Some(there) = sample.tasks_lent else {
            self.counted = None;
            self.calm = Span::ZERO;
            self.reached = Span::ZERO;
            return;
        };
        let storm = STORM + STORM_PER_CPU * (bounds.capacity.0 / 1000);
        let rose = self.rose(there, elapsed);
        // Half of what is to stay free: there tiers are squeezed for it.
        let short = sample
            .memory_available
            .is_some_and(|left| left.0 < bounds.memory_free.0 / 2);
        if rose >= storm {
            self.hold(there + storm / 2, TasksWhy::Growth);
        }
        if short {
            self.hold(there + FEW + there / PART, TasksWhy::Memory);
        }
        match growing.filter(|_| rose < storm && !short) {
            Some(passed) => self.ease(there, passed.min(SEEN_MOST)),
            None => {
                self.calm = Span::ZERO;
                self.reached = Span::ZERO;
            }
        }
    }

    /// By how much their number rose within this second.
    fn rose(&mut self, there: u64, elapsed: Span) -> u64 {
        self.passed = self.passed.plus(elapsed);
        let before = self.counted.unwrap_or(there);
        // A gap in which nobody looked says nothing about a second.
        if self.counted.is_none() || self.passed > SECOND.plus(SEEN_MOST) {
            self.counted = Some(there);
            self.passed = Span::ZERO;
            return 0;
        }
        if self.passed >= SECOND || there < before {
            self.counted = Some(there);
            self.passed = Span::ZERO;
        }
        there.saturating_sub(before)
    }

    /// Only ever lowers, and not for a few: each change is systemd's to write.
    fn hold(&mut self, most: u64, why: TasksWhy) {
        let most = most.next_multiple_of(FEW).max(TASKS_FLOOR);
        let now = self.limit.map_or(SLICE_TASKS_MAX, |limit| limit.most);
        if most < now && (self.limit.is_none() || now - most >= most / PART) {
            self.limit = Some(TasksLimit { most, why });
        }
    }

    /// A calm look.
    fn ease(&mut self, there: u64, passed: Span) {
        let Some(limit) = &mut self.limit else { return };
        if there + ROOM > limit.most {
            self.calm = Span::ZERO;
            self.reached = self.reached.plus(passed);
            if self.reached >= STEP_EVERY {
                self.reached = Span::ZERO;
                limit.most += STEP;
            }
        } else {
            self.reached = Span::ZERO;
            self.calm = self.calm.plus(passed);
        }
        if self.calm >= CALM || limit.most >= SLICE_TASKS_MAX {
            self.limit = None;
            self.calm = Span::ZERO;
        }
    }
}
