//! One look, one decision: the parts of the law, put together.

use loadline_model::{MilliCpu, Span};

use super::intake::{Intake, Look};
use super::ladder::{Ladder, View};
use super::pace::{Growth, Hold};
use super::relief::Relief;
use super::stall::{Kind, Stall, Watch};
use super::usage::Usage;
use super::{Bounds, Decision, Level, Reason, Sample, prorate};
use crate::settings::{Setpoints, Squeezed};

/// What a cut leaves, in tenths.
const CUT_TO: u64 = 7;
/// Promises are measured once a second or less often: a second cut for the same figure would be blind.
const CUT_AGAIN: Span = Span::from_secs(1);

/// The law's memory: of fixed size, so that a step allocates nothing. All its times are lengths, counted down or up
/// by the time that passed: a clock that jumps cannot make it wait for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Law {
    bounds: Bounds,
    quota: MilliCpu,
    intake: Intake,
    usage: Usage,
    watch: Watch,
    relief: Relief,
    ladder: Ladder,
    hold: Hold,
    growth: Growth,
    since_cut: Span,
}

impl Law {
    /// Before the first look the static line holds, as it does with no warden.
    pub const fn new(bounds: Bounds) -> Self {
        Self {
            // More than any top: the first step brings it down to it.
            quota: MilliCpu(u64::MAX),
            bounds,
            intake: Intake::new(),
            usage: Usage::new(),
            watch: Watch::new(),
            relief: Relief::new(),
            ladder: Ladder::new(),
            hold: Hold::new(),
            growth: Growth::new(),
            since_cut: CUT_AGAIN,
        }
    }

    /// The owner changed the policy. What is more is grown into, what is less is gone at the next look.
    pub fn rebound(&mut self, bounds: Bounds) {
        self.quota = self.quota.min(self.bounds.top());
        self.bounds = bounds;
    }

    /// One look, one decision.
    pub fn step(&mut self, sample: &Sample) -> Decision {
        let elapsed = self.intake.elapsed(sample.now);
        self.hold.pass(elapsed);
        self.watch.pass(elapsed);
        self.since_cut = self.since_cut.plus(elapsed);
        let look = self.intake.look(sample);
        let bad = self.observe(&look, elapsed);
        let bounds = self.bounds;
        self.quota = bounds.quota(self.quota);
        let view = View {
            bounds: &bounds,
            sees: look != Look::Blind,
            production: self.usage.production(),
            lasting: self.usage.lasting(),
            squeezed: self.ladder.squeezed(),
            quota: self.quota,
            bad,
            lately: self.watch.lately(),
            run: self.watch.run(),
            full: self.memory_full(),
            memory: sample.memory_available,
            slo: sample.slo,
            held: self.hold.holds(),
        };
        let danger = self.ladder.danger(&view, elapsed);
        let (level, reason) = self.ladder.climb(danger);
        // Production that merely uses its machine was not in need, and its use is remembered anyway.
        let by_use = matches!(danger.1, Reason::ProductionUse(_));
        if bad.is_some() || (danger.0 >= Level::Squeeze && !by_use) {
            self.hold.trigger();
        }
        self.move_quota(&view, level, &look);
        self.learn(bad, &look, elapsed);
        Decision {
            level,
            reason,
            setpoints: self.setpoints(),
            production: view.production,
        }
    }

    /// Takes what was measured in; returns the stall that counts.
    fn observe(&mut self, look: &Look, elapsed: Span) -> Option<Stall> {
        match look {
            Look::Measured(interval) => {
                self.usage.take(interval, self.bounds.capacity);
                let stall = self.watch.judge(interval, self.bounds.capacity);
                stall.filter(|_| !self.relief.self_inflicted())
            }
            Look::Blind => {
                self.usage.skip(elapsed);
                self.watch.forget();
                None
            }
            Look::Soon => None,
        }
    }

    fn memory_full(&self) -> Span {
        if self.relief.self_inflicted() {
            Span::ZERO
        } else {
            self.usage.waited(Kind::Memory)
        }
    }

    fn move_quota(&mut self, view: &View<'_>, level: Level, look: &Look) {
        // In a blind look neither has changed, unless the owner changed the policy.
        let left = self.bounds.left_by(view.production);
        let mut quota = self.quota.min(left);
        if view.bad.is_some() || (view.is_close() && self.since_cut >= CUT_AGAIN) {
            quota = quota.min(MilliCpu(prorate(self.quota.0, CUT_TO, 10)));
            self.since_cut = Span::ZERO;
        }
        if self.ladder.squeezed() == Squeezed::All {
            quota = self.bounds.floor;
        }
        self.quota = self.bounds.quota(quota);
        match (level, look) {
            (Level::Open, Look::Measured(interval)) => {
                let wanted = self.bounds.quota(left);
                self.quota = self
                    .growth
                    .grow(&self.bounds, self.quota, wanted, interval.passed);
            }
            (Level::Open, Look::Soon) => {}
            _ => self.growth.stop(),
        }
    }

    /// After the decision, so that a worse look is never answered with less.
    fn learn(&mut self, bad: Option<Stall>, look: &Look, elapsed: Span) {
        if let Some(stall) = bad {
            self.watch.remember(stall);
        }
        match look {
            Look::Blind => self.relief.blind(elapsed),
            _ => self
                .relief
                .step(elapsed, &self.usage, bad.map(|stall| stall.kind)),
        }
    }

    fn setpoints(&self) -> Setpoints {
        Setpoints {
            cpu: (self.quota < self.bounds.most).then_some(self.quota),
            // Its place: memory is not moved yet, only guarded by the ladder.
            memory_high: None,
            squeezed: self.ladder.squeezed(),
        }
    }
}
