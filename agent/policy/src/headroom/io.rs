//! How fast lent work may read and write: nothing is held until production waits for a disk while lent work uses it;
//! then half of what it used, again each second that this was not enough, and back by a tenth in 5 s.
//!
//! One figure, for reads and for writes of each disk: what the kernel tells of waiting names neither.

use loadline_model::{Bytes, Span};

use super::intake::Interval;
use super::pace::SEEN_MOST;
use super::prorate;
use crate::settings::BytesPerSecond;

/// Lent work can always read what it needs to end, and write its results, if slowly.
pub(super) const IO_FLOOR: BytesPerSecond = BytesPerSecond(1 << 20);
/// What a cut leaves: a half.
const CUT_TO: u64 = 2;
/// What is on its way to a disk takes so long to get there: a second cut before would be blind.
const CUT_AGAIN: Span = Span::from_secs(1);
/// What is added, as a part of what was used before the cuts, or is used by now …
const GROWTH: u64 = 10;
/// … each time that so long it may grow.
const GROWTH_EVERY: Span = Span::from_secs(5);
/// Up to nine tenths of where production waited last it grows; there it stands for so long before it tries more, or
/// it would meet the same wait three times a minute.
const NEAR: u64 = 9;
const STANDS: Span = Span::from_secs(60);
/// A limit of so many times what is used holds nobody …
const LOOSE: u64 = 2;
/// … and is taken away once it has been so for this long.
const LOOSE_FOR: Span = Span::from_secs(30);
/// A limit of which nobody can say whether it is met goes after this.
const BLIND_FOR: Span = Span::from_secs(30);
/// What a rate is taken over.
const SECOND: Span = Span::from_secs(1);
/// Less says nothing about a rate.
const SHORTEST: Span = Span::from_millis(150);

/// Bytes each way within a second, and in the second before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Meter {
    passed: Span,
    read: Bytes,
    written: Bytes,
    last: u64,
}

impl Meter {
    const NEW: Self = Self {
        passed: Span::ZERO,
        read: Bytes::ZERO,
        written: Bytes::ZERO,
        last: 0,
    };

    fn take(&mut self, passed: Span, read: Bytes, written: Bytes) {
        self.passed = self.passed.plus(passed);
        self.read = self.read.plus(read);
        self.written = self.written.plus(written);
        if self.passed >= SECOND {
            *self = Self {
                last: self.open(),
                ..Self::NEW
            };
        }
    }

    /// The rate of the busier way.
    fn open(&self) -> u64 {
        prorate(self.read.max(self.written).0, 1_000_000, self.passed.0)
    }

    fn rate(&self) -> u64 {
        let open = if self.passed >= SHORTEST { self.open() } else { 0 };
        self.last.max(open)
    }
}

/// The limit in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IoLine {
    meter: Option<Meter>,
    limit: Option<u64>,
    /// What was used when it was first cut.
    full: u64,
    /// Where it was when production waited last, and how long it has stood near that since.
    stalled_at: Option<u64>,
    stood_for: Span,
    since_cut: Span,
    grown_for: Span,
    loose_for: Span,
    blind_for: Span,
}

impl IoLine {
    pub(super) const fn new() -> Self {
        Self {
            meter: None,
            limit: None,
            full: 0,
            stalled_at: None,
            stood_for: Span::ZERO,
            since_cut: CUT_AGAIN,
            grown_for: Span::ZERO,
            loose_for: Span::ZERO,
            blind_for: Span::ZERO,
        }
    }

    /// None: nothing is held.
    pub(super) fn setpoint(&self) -> Option<BytesPerSecond> {
        self.limit.map(BytesPerSecond)
    }

    /// True if lent work's use of disks is known.
    pub(super) const fn is_known(&self) -> bool {
        self.meter.is_some()
    }

    /// True if there is something left to cut.
    pub(super) fn can_fall(&self) -> bool {
        self.is_known() && self.limit.is_none_or(|limit| limit > IO_FLOOR.0)
    }

    pub(super) fn pass(&mut self, elapsed: Span) {
        self.since_cut = self.since_cut.plus(elapsed);
        self.blind_for = if self.is_known() {
            Span::ZERO
        } else {
            self.blind_for.plus(elapsed)
        };
        // Its disks go by weight now, or the kernel does not count any more: a limit that nothing moves would stay.
        if self.blind_for >= BLIND_FOR && self.limit.is_some() {
            *self = Self {
                since_cut: self.since_cut,
                ..Self::new()
            };
        }
    }

    pub(super) fn take(&mut self, interval: &Interval) {
        match interval.io {
            Some(io) => {
                let meter = self.meter.get_or_insert(Meter::NEW);
                meter.take(interval.passed, io.read, io.written);
            }
            None => self.meter = None,
        }
    }

    /// Production waited for a disk, and lent work has a part in it.
    pub(super) fn cut(&mut self) {
        self.grown_for = Span::ZERO;
        self.loose_for = Span::ZERO;
        let Some(meter) = self.meter.filter(|_| self.since_cut >= CUT_AGAIN) else {
            return;
        };
        let used = meter.rate();
        if self.limit.is_none() {
            self.full = used;
        }
        // Half of a limit that nobody meets would change nothing.
        let limit = self.limit.unwrap_or(u64::MAX).min(used.max(IO_FLOOR.0));
        // Cut again before it was back: it was the same wait.
        if self.stalled_at.is_none_or(|at| limit >= near(at)) {
            self.stalled_at = Some(limit);
        }
        self.stood_for = Span::ZERO;
        self.limit = Some((limit / CUT_TO).max(IO_FLOOR.0));
        self.since_cut = Span::ZERO;
    }

    fn up_to(&mut self, limit: u64, next: u64) -> u64 {
        match self.stalled_at.map(near) {
            Some(near) if next > near && self.stood_for < STANDS => near.max(limit),
            Some(near) if next > near => {
                self.stalled_at = None;
                next
            }
            _ => next,
        }
    }

    /// A look without a cut. `growing`: the time passed, if the setpoint may grow.
    pub(super) fn grow(&mut self, growing: Option<Span>) {
        let (Some(limit), Some(meter), Some(passed)) = (self.limit, self.meter, growing) else {
            self.grown_for = Span::ZERO;
            self.loose_for = Span::ZERO;
            return;
        };
        let passed = passed.min(SEEN_MOST);
        self.grown_for = self.grown_for.plus(passed);
        if self.grown_for >= GROWTH_EVERY {
            self.grown_for = self.grown_for.minus(GROWTH_EVERY);
            let whole = self.full.max(meter.rate()).max(IO_FLOOR.0);
            self.limit = Some(self.up_to(limit, limit.saturating_add(whole / GROWTH)));
        }
        if self.stalled_at.is_some_and(|at| limit >= near(at)) {
            self.stood_for = self.stood_for.plus(passed);
        }
        if limit >= meter.rate().saturating_mul(LOOSE) {
            self.loose_for = self.loose_for.plus(passed);
        } else {
            self.loose_for = Span::ZERO;
        }
        if self.loose_for >= LOOSE_FOR {
            *self = Self {
                meter: self.meter,
                since_cut: self.since_cut,
                ..Self::new()
            };
        }
    }
}

const fn near(stalled_at: u64) -> u64 {
    stalled_at / GROWTH * NEAR
}
