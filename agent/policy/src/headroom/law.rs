//! One look, one decision: the parts of the law, put together.

use loadline_model::{MilliCpu, Span};

use super::burst::BurstShare;
use super::intake::{Intake, Look};
use super::io::IoLine;
use super::ladder::{Ladder, View};
use super::memory::{MemoryLine, holds_some, reclaim};
use super::pace::{Care, Growth, Hold};
use super::relief::Relief;
use super::stall::{Bad, Kind, Watch};
use super::tasks::TasksLine;
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
    care: Care,
    burst: BurstShare,
    memory: MemoryLine,
    io: IoLine,
    tasks: TasksLine,
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
            care: Care::new(),
            burst: BurstShare::new(),
            memory: MemoryLine::new(),
            io: IoLine::new(),
            tasks: TasksLine::new(),
            since_cut: CUT_AGAIN,
        }
    }

    /// As before, after a gap in which nobody looked. Limits outlive the program that set them: what is in force stays
    /// where it is below the static line, as after a bad moment, instead of giving lent work what was taken from it.
    pub fn resume(bounds: Bounds, in_force: MilliCpu) -> Self {
        let mut law = Self::new(bounds);
        if in_force < bounds.top() {
            law.quota = in_force;
            law.hold.trigger();
        }
        law
    }

    /// The owner changed the policy. What is more is grown into, what is less is gone at the next look.
    pub fn rebound(&mut self, bounds: Bounds) {
        self.quota = self.quota.min(self.bounds.top());
        self.memory.rebound(&self.bounds);
        self.bounds = bounds;
    }

    /// One look, one decision.
    pub fn step(&mut self, sample: &Sample) -> Decision {
        let elapsed = self.intake.elapsed(sample.now);
        self.hold.pass(elapsed);
        self.care.pass(elapsed);
        self.watch.pass(elapsed);
        self.io.pass(elapsed);
        self.since_cut = self.since_cut.plus(elapsed);
        let look = self.intake.look(sample, self.bounds.capacity);
        let bad = self.observe(&look, elapsed);
        let bounds = self.bounds;
        self.quota = bounds.quota(self.quota);
        let view = self.view(sample, &bounds, &look, &bad);
        let danger = self.ladder.danger(&view, elapsed);
        let (level, reason) = self.ladder.climb(danger);
        // Production that merely uses its machine was not in need, and its use is remembered anyway.
        let by_use = matches!(danger.1, Reason::ProductionUse(_));
        if view.bad.is_some() || (danger.0 >= Level::Squeeze && !by_use) {
            self.care.suffers(self.quota, view.held);
            self.hold.trigger();
        }
        let growing = match (level, &look) {
            (Level::Open, Look::Measured(interval)) => Some(interval.passed),
            _ => None,
        };
        let fast = growing.map(|passed| self.care.pace(self.quota, passed));
        self.move_quota(&view, level, &look, &bad, fast);
        if growing.is_some() {
            self.care.is_calm(self.quota);
        }
        self.burst.step(&bounds, self.quota, fast);
        self.memory.step(&bounds, sample, growing);
        self.tasks.step(&bounds, sample, elapsed, growing);
        if bad.has(Kind::Io) {
            self.io.cut();
        } else if look != Look::Soon {
            self.io.grow(growing);
        }
        self.learn(&bad, &look, elapsed);
        Decision {
            level,
            reason,
            setpoints: self.setpoints(),
            reclaim: reclaim(&bounds, sample),
            production: view.production,
            rises: self.usage.rises() && self.quota > bounds.floor,
        }
    }

    fn view<'a>(&self, sample: &Sample, bounds: &'a Bounds, look: &Look, bad: &Bad) -> View<'a> {
        View {
            bounds,
            sees: *look != Look::Blind,
            production: self.usage.production(),
            lasting: self.usage.lasting(),
            squeezed: self.ladder.squeezed(),
            quota: self.quota,
            bad: bad.strongest(),
            lately: self.watch.lately(),
            run: self.watch.run(),
            full: self.memory_full(),
            memory: sample.memory_available,
            holds_memory: holds_some(sample),
            io_can_fall: self.io.can_fall(),
            slo: sample.slo,
            held: self.hold.holds(),
        }
    }

    /// Takes what was measured in; returns the stalls that count.
    fn observe(&mut self, look: &Look, elapsed: Span) -> Bad {
        match look {
            Look::Measured(interval) => {
                self.usage.take(interval, &self.bounds);
                self.burst.take(interval);
                self.io.take(interval);
                let bad = self.watch.judge(interval, self.bounds.capacity);
                bad.counting(|kind| !self.relief.self_inflicted(kind))
            }
            Look::Blind => {
                self.usage.skip(elapsed);
                self.watch.forget();
                Bad::default()
            }
            Look::Soon => Bad::default(),
        }
    }

    fn memory_full(&self) -> Span {
        if self.relief.self_inflicted(Kind::Memory) {
            Span::ZERO
        } else {
            self.usage.waited(Kind::Memory)
        }
    }

    fn move_quota(&mut self, view: &View<'_>, level: Level, look: &Look, bad: &Bad, growing: Option<Span>) {
        // In a blind look neither has changed, unless the owner changed the policy.
        let left = self.bounds.left_by(view.production);
        let mut quota = self.quota.min(left);
        // Where the disk's own limit answers, CPU would be taken for nothing.
        let by_io = bad.has(Kind::Io) && !self.io.is_known();
        let waits = bad.has(Kind::Cpu) || bad.has(Kind::Memory) || by_io;
        if waits || (view.is_close() && self.since_cut >= CUT_AGAIN) {
            quota = quota.min(MilliCpu(prorate(self.quota.0, CUT_TO, 10)));
            self.since_cut = Span::ZERO;
        }
        if self.ladder.squeezed() == Squeezed::All {
            quota = self.bounds.floor;
        }
        self.quota = self.bounds.quota(quota);
        match growing {
            Some(passed) => {
                let wanted = self.bounds.quota(left);
                self.quota = self.growth.grow(&self.bounds, self.quota, wanted, passed);
            }
            None if level == Level::Open && *look == Look::Soon => {}
            None => self.growth.stop(),
        }
    }

    /// After the decision, so that a worse look is never answered with less.
    fn learn(&mut self, bad: &Bad, look: &Look, elapsed: Span) {
        if let Some(stall) = bad.strongest() {
            self.watch.remember(stall);
        }
        match look {
            Look::Blind => self.relief.blind(elapsed),
            _ => self.relief.step(elapsed, &self.usage, bad),
        }
    }

    pub(super) fn setpoints(&self) -> Setpoints {
        Setpoints {
            cpu: (self.quota < self.bounds.most).then_some(self.quota),
            burst: self.burst.setpoint(self.quota),
            memory_high: self.memory.setpoint(&self.bounds),
            io: self.io.setpoint(),
            tasks: self.tasks.setpoint(),
            squeezed: self.ladder.squeezed(),
        }
    }
}
