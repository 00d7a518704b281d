//! How much memory lent work may hold: what it holds, and what production leaves free beyond what is to stay free.
//!
//! **Approach.** Lent work's memory and what is left add up to the same, whoever of lent work takes it: so the sum
//! less what is to stay free is a target that lent work does not move, and nothing swings. It falls at once, to no less than a bite
//! below what is held: the kernel takes memory back while we wait for it, and we have to look again in 100 ms.
//! **Limits.** Without swap only page cache can be taken back; what lent work holds beyond that is stopped from growing, and
//! goes by the ladder.

use loadline_model::{Bytes, Span};

use super::pace::DEADBAND;
use super::ramp::{Climb, Ramp};
use super::{Bounds, Sample};
use crate::settings::MEMORY_FLOOR;

/// What is taken back at one look at most: some ten milliseconds of the kernel's time.
const BITE: Bytes = Bytes::from_mib(64);
/// Limits are multiples of this; smaller changes are not worth a write.
const GRAIN: Bytes = Bytes::from_mib(16);
/// A limit comes back in steps of this. Each CPU counts some pages for itself before the kernel adds them up, so what lent work
/// holds and what is left do not add up to the same to a grain: with a step as small as that, another
/// limit was wanted three times a second beside lent work that takes memory and gives it back, and each time that
/// systemd may be told it was.
const STEP: Bytes = Bytes::from_mib(64);

/// The limit in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemoryLine {
    high: Bytes,
    ramp: Ramp,
}

impl MemoryLine {
    pub(super) const fn new() -> Self {
        Self {
            // More than any top: the first step brings it down to it.
            high: Bytes(u64::MAX),
            ramp: Ramp::new(),
        }
    }

    /// The owner changed the policy; what is more is grown into.
    pub(super) fn rebound(&mut self, before: &Bounds) {
        self.high = self.high.min(top(before));
    }

    /// None: the static line.
    pub(super) fn setpoint(&self, bounds: &Bounds) -> Option<Bytes> {
        (self.high < top(bounds)).then_some(self.high)
    }

    /// One look. `growing`: the time passed, if the setpoint may grow.
    pub(super) fn step(&mut self, bounds: &Bounds, sample: &Sample, growing: Option<Span>) {
        let top = top(bounds);
        self.high = self.high.min(top);
        let (Some(left), Some(lent)) = (sample.memory_available, sample.memory_lent) else {
            self.ramp.stop();
            return;
        };
        let wanted = whole_grains(lent.plus(left).minus(bounds.memory_free));
        let lowest = whole_grains(lent.minus(BITE));
        let between = |amount: Bytes| amount.max(MEMORY_FLOOR).min(top);
        self.high = self.high.min(between(wanted.max(lowest)));
        match growing {
            Some(passed) => {
                // Only with some to spare, or noise at the top would take the limit away and put it back.
                let to_top = wanted >= top.plus(Bytes(bounds.memory.0 / DEADBAND));
                let wanted = between(wanted);
                let climb = Climb {
                    now: self.high.0,
                    wanted: wanted.0,
                    whole: bounds.memory.0,
                    step: STEP.0,
                    to_top,
                };
                self.high = Bytes(self.ramp.grow(&climb, passed));
            }
            None => self.ramp.stop(),
        }
    }
}

/// The floor stands also where nothing may be lent, as in the slices' settings.
fn top(bounds: &Bounds) -> Bytes {
    bounds.memory_most.max(MEMORY_FLOOR)
}

const fn whole_grains(amount: Bytes) -> Bytes {
    Bytes(amount.0 - amount.0 % GRAIN.0)
}

/// True if lent work holds more than its floor.
pub(super) fn holds_some(sample: &Sample) -> bool {
    sample.memory_lent.is_some_and(|lent| lent > MEMORY_FLOOR)
}

/// What is to be taken back at this look: what is short, a bite at most, and never what the floor leaves.
pub(super) fn reclaim(bounds: &Bounds, sample: &Sample) -> Bytes {
    let (Some(left), Some(lent)) = (sample.memory_available, sample.memory_lent) else {
        return Bytes::ZERO;
    };
    let short = bounds.memory_free.minus(left);
    short.min(BITE).min(lent.minus(MEMORY_FLOOR))
}
