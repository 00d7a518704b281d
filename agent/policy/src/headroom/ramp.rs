//! How a setpoint comes back: like the quota, 10 % of the whole in 5 s, in steps that are worth a write.

use loadline_model::Span;

use super::pace::{DEADBAND, SEEN_MOST, WHOLE_GROWTH};

/// From where to where, out of how much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Climb {
    pub(super) now: u64,
    pub(super) wanted: u64,
    /// What 100 % are.
    pub(super) whole: u64,
    /// Steps are multiples of this.
    pub(super) step: u64,
    /// `wanted` is as high as it gets: the last bit is worth a write too.
    pub(super) to_top: bool,
}

/// What may be grown and was not yet: amount × µs, so that no remainder is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ramp {
    credit: u128,
}

impl Ramp {
    pub(super) const fn new() -> Self {
        Self { credit: 0 }
    }

    /// What was not grown is not saved for later.
    pub(super) const fn stop(&mut self) {
        self.credit = 0;
    }

    /// The setpoint after an interval in which it may grow.
    pub(super) fn grow(&mut self, climb: &Climb, passed: Span) -> u64 {
        let Climb {
            now,
            wanted,
            whole,
            step,
            to_top,
        } = *climb;
        let room = wanted.saturating_sub(now);
        let least = (whole / DEADBAND).max(step);
        if room == 0 || (room < least && !to_top) {
            self.stop();
            return now;
        }
        self.credit += u128::from(whole) * u128::from(passed.min(SEEN_MOST).0);
        let may = u64::try_from(self.credit / u128::from(WHOLE_GROWTH.0)).unwrap_or(u64::MAX);
        let more = if may >= room {
            room
        } else {
            may - may % step.max(1)
        };
        if more < least.min(room) {
            return now;
        }
        self.credit -= u128::from(more) * u128::from(WHOLE_GROWTH.0);
        now + more
    }
}
