//! How fast what was taken comes back: the hold after a bad moment, then growth in small steps.

use loadline_model::{MilliCpu, Span};

use super::{Bounds, prorate};
use crate::settings::QUOTA_STEP;

/// Nothing grows for so long after it was bad.
const HOLD: Span = Span::from_secs(10);
/// What is added for coming back too soon, each time and at most: 30 s in all.
const ADDED: Span = Span::from_secs(10);
const ADDED_MOST: Span = Span::from_secs(20);
/// Half a second of what was added is forgotten in a second.
const DECAY: u64 = 2;
/// Triggers nearer to each other than this are one run, and one entry.
const RUN: Span = Span::from_secs(1);

/// The hold, with back-off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold {
    left: Span,
    length: Span,
    added: Span,
    quiet: Option<Span>,
}

impl Hold {
    pub(super) const fn new() -> Self {
        Self {
            left: Span::ZERO,
            length: Span::ZERO,
            added: Span::ZERO,
            quiet: None,
        }
    }

    pub(super) fn pass(&mut self, elapsed: Span) {
        self.left = self.left.minus(elapsed);
        let Some(quiet) = &mut self.quiet else {
            return;
        };
        *quiet = quiet.plus(elapsed);
        if *quiet >= RUN {
            self.added = self.added.minus(Span(elapsed.0 / DECAY));
        }
    }

    /// It is bad, or tiers are squeezed. A run of triggers keeps the hold at its length; a new one lengthens it.
    pub(super) fn trigger(&mut self) {
        if self.quiet.is_none_or(|quiet| quiet >= RUN) {
            self.length = HOLD.plus(self.added);
            self.added = self.added.plus(ADDED).min(ADDED_MOST);
        }
        self.left = self.left.max(self.length);
        self.quiet = Some(Span::ZERO);
    }

    pub(super) const fn holds(&self) -> bool {
        !self.left.is_zero()
    }
}

/// All of the capacity grows back in this time: 10 % in 5 s.
pub(super) const WHOLE_GROWTH: Span = Span::from_secs(50);
/// After a longer gap growth goes on as if the gap had been this long: nobody looked.
pub(super) const SEEN_MOST: Span = Span::from_secs(1);
/// Smaller growth than this part of the capacity is not worth a write, and would chatter.
pub(super) const DEADBAND: u64 = 100;
/// Only up to the line itself less is grown: at the end of a way that was longer, or once there was growth enough for so
/// many machines, after a minute without a moment in which production's use left less than the line. Else a use that ends
/// just there would turn it each time.
const LAST: u64 = 6;

/// Lent work grows so many times as fast where production was never seen to suffer: a tenth of the capacity in a second,
/// as Koordinator's agent lets its best effort grow.
const FAST: u64 = 5;
/// Where production suffered, growth is slow for so long after, or until as much is lent again and it does not …
const CAREFUL: Span = Span::from_secs(120);
/// … from so many tenths of what was lent then.
const NEAR: u64 = 7;

/// From where growth has to be careful: near to what production suffered from. What was taken since then, and all that
/// was taken because production used it, comes back fast: that is not what it suffered from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Care {
    from: MilliCpu,
    /// What was lent when it suffered.
    at: MilliCpu,
    left: Span,
}

impl Care {
    pub(super) const fn new() -> Self {
        Self {
            from: MilliCpu::ZERO,
            at: MilliCpu::ZERO,
            left: Span::ZERO,
        }
    }

    pub(super) fn pass(&mut self, elapsed: Span) {
        self.left = self.left.minus(elapsed);
    }

    /// So much is lent, and production is calm.
    pub(super) fn is_calm(&mut self, quota: MilliCpu) {
        if quota >= self.at {
            self.left = Span::ZERO;
        }
    }

    /// Production suffers with so much lent. `again`: it was cut for that already, and that is why it is so little.
    pub(super) fn suffers(&mut self, quota: MilliCpu, again: bool) {
        let near = MilliCpu(prorate(quota.0, NEAR, 10));
        self.from = match (again, self.left.is_zero()) {
            (true, _) => self.from,
            (false, true) => near,
            // Once more, from less: it may have been another cause, so half the way is believed.
            (false, false) => self.from.min(near.max(MilliCpu(self.from.0 / 2))),
        };
        if !again {
            self.at = quota;
        }
        self.left = CAREFUL;
    }

    /// The time that growth counts for one that passed.
    pub(super) fn pace(&self, quota: MilliCpu, passed: Span) -> Span {
        let careful = !self.left.is_zero() && quota >= self.from;
        passed.times(if careful { 1 } else { FAST })
    }
}

/// What may be grown and was not yet: CPU × time, in thousandths of a thread × µs, so that no remainder is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Growth {
    credit: u64,
    /// It is on a way that was worth a write.
    under_way: bool,
}

impl Growth {
    pub(super) const fn new() -> Self {
        Self {
            credit: 0,
            under_way: false,
        }
    }

    /// What was not grown is not saved for later.
    pub(super) const fn stop(&mut self) {
        *self = Self::new();
    }

    /// The quota after an interval in which it may grow, up to `wanted`.
    pub(super) fn grow(
        &mut self,
        bounds: &Bounds,
        quota: MilliCpu,
        wanted: MilliCpu,
        passed: Span,
    ) -> MilliCpu {
        let room = wanted.minus(quota);
        let least = MilliCpu(bounds.capacity.0 / DEADBAND).max(QUOTA_STEP);
        let to_top = wanted >= bounds.top();
        if room.is_zero() || (room < least && !to_top) {
            self.stop();
            return quota;
        }
        let earned = bounds.capacity.times(passed.min(SEEN_MOST).0).0;
        self.credit = self.credit.saturating_add(earned);
        let may = MilliCpu(prorate(self.credit, 1, WHOLE_GROWTH.0));
        self.under_way |= room >= least;
        let due = if self.under_way {
            least.min(room)
        } else {
            bounds.capacity.times(LAST)
        };
        if may < due {
            return quota;
        }
        let grown = bounds.quota(quota.plus(may.min(room)));
        self.credit = self
            .credit
            .saturating_sub(WHOLE_GROWTH.times(grown.minus(quota).0).0);
        grown
    }
}
