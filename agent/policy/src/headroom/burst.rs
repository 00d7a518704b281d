//! What burst gets of the quota: all of it, and while the line of now is below the static one, what standard leaves.
//! So burst gives its share first; standard is throttled only once there is none left to give.

use loadline_model::{MilliCpu, Span};

use super::intake::Interval;
use super::ramp::{Climb, Ramp};
use super::usage::follow;
use super::window::rate;
use super::{Bounds, whole_steps};
use crate::settings::{QUOTA_FLOOR, QUOTA_STEP};

/// Burst's share in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BurstShare {
    share: MilliCpu,
    /// What standard uses, smoothed, in millionths of one thread.
    standard: Option<u64>,
    ramp: Ramp,
}

impl BurstShare {
    pub(super) const fn new() -> Self {
        Self {
            share: MilliCpu(u64::MAX),
            standard: None,
            ramp: Ramp::new(),
        }
    }

    /// None: burst has what all lent work has.
    pub(super) fn setpoint(&self, quota: MilliCpu) -> Option<MilliCpu> {
        (self.share < quota).then_some(self.share)
    }

    pub(super) fn take(&mut self, interval: &Interval) {
        if let Some(used) = interval.standard {
            let used = rate(used, interval.passed);
            let smooth = self.standard;
            self.standard = Some(smooth.map_or(used, |smooth| follow(smooth, used, interval.passed)));
        }
    }

    /// One look, with the quota of all lent work. `growing`: the time passed, if the setpoint may grow.
    pub(super) fn step(&mut self, bounds: &Bounds, quota: MilliCpu, growing: Option<Span>) {
        let top = bounds.top();
        self.share = self.share.min(top);
        let Some(standard) = self.standard.filter(|_| quota < bounds.most) else {
            // Nothing to share, or nobody known to share it with.
            self.climb(bounds, top, top, growing);
            return;
        };
        let left = quota.minus(MilliCpu(standard.div_ceil(1000)));
        let left = whole_steps(left).max(QUOTA_FLOOR).min(quota);
        self.share = self.share.min(left);
        self.climb(bounds, left, quota, growing);
    }

    fn climb(&mut self, bounds: &Bounds, wanted: MilliCpu, quota: MilliCpu, growing: Option<Span>) {
        let Some(passed) = growing else {
            self.ramp.stop();
            return;
        };
        let climb = Climb {
            now: self.share.0,
            wanted: wanted.0,
            whole: bounds.capacity.0,
            step: QUOTA_STEP.0,
            to_top: wanted >= quota,
        };
        self.share = MilliCpu(self.ramp.grow(&climb, passed));
    }
}
