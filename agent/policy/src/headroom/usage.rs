//! What production uses: the higher of a smoothed use and the 75th percentile of the seconds of the last 10 s.
//!
//! The smoothed use follows the moment, the percentile remembers what comes back. (The 95th, which is as good as the
//! highest, gave away a quarter of what was free where production's seconds differ by a sixth of the machine.) Both look past bursts within a
//! second: what is kept idle is there for them. (Taken from tenths of a second, the percentile paid for the same bursts
//! twice: of two CPUs, production by use of 0.5 was counted as 1.1.)

use loadline_model::{MilliCpu, PerMille, Span};

use super::Bounds;
use super::intake::Interval;
use super::stall::{Kind, Waits};
use super::window::{Window, rate};

/// The time constant of the smoothed use.
const SMOOTH: Span = Span::from_secs(1);
/// Looks come every 100 ms, some a little early: from here an interval says something about a tenth of a second.
const FULL: Span = Span::from_millis(80);
/// From here on an interval says enough where production had all of the machine: what runs is counted at each tick, so
/// ten times on each CPU.
const ENOUGH: Span = Span::from_millis(40);
/// All that was there for production, in thousandths of what Loadline's own programs left; the rest is what lent work's
/// floor takes, and what is not counted yet of those that run.
const SATURATED: PerMille = PerMille(900);
/// Production that uses so much more of the machine than is counted, in thousandths of it, may go on to use all of it.
const RISE: PerMille = PerMille(100);

/// What is added up until it goes into the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    passed: Span,
    production: Span,
    own: Span,
    waits: Waits,
}

impl Open {
    const EMPTY: Self = Self {
        passed: Span::ZERO,
        production: Span::ZERO,
        own: Span::ZERO,
        waits: [None; 3],
    };

    fn add(&mut self, interval: &Interval) {
        self.passed = self.passed.plus(interval.passed);
        self.production = self.production.plus(interval.production);
        self.own = self.own.plus(interval.own);
        for (sum, wait) in self.waits.iter_mut().zip(interval.waits) {
            *sum = match (*sum, wait) {
                (Some(sum), Some(wait)) => Some(sum.plus(wait)),
                (sum, wait) => sum.or(wait),
            };
        }
    }

    /// In millionths of a thread.
    fn used(&self, most: u64) -> u64 {
        rate(self.production, self.passed).min(most)
    }

    /// True if production had all that was there: how much more it wanted is not known.
    fn is_saturated(&self, most: u64) -> bool {
        let there = MilliCpu(most.saturating_sub(rate(self.own, self.passed)));
        self.used(most) >= there.share(SATURATED).0
    }
}

/// Production's use, in millionths of one thread: a thousand times finer than quotas, so that rounding never shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Usage {
    smooth: Option<u64>,
    /// The two intervals before, the newest first.
    last: [Option<u64>; 2],
    open: Open,
    window: Window,
    production: MilliCpu,
    rises: bool,
}

impl Usage {
    pub(super) const fn new() -> Self {
        Self {
            smooth: None,
            last: [None; 2],
            open: Open::EMPTY,
            window: Window::new(),
            production: MilliCpu::ZERO,
            rises: false,
        }
    }

    pub(super) fn take(&mut self, interval: &Interval, bounds: &Bounds) {
        let most = bounds.capacity.0.saturating_mul(1000);
        let used = rate(interval.production, interval.passed).min(most);
        let risen = self
            .production
            .0
            .saturating_mul(1000)
            .saturating_add(MilliCpu(most).share(RISE).0);
        // Of a look that a rise brought about nothing follows but what it says: two never come in a row.
        self.rises = interval.passed >= FULL && used >= risen;
        self.smooth = Some(
            self.smooth
                .map_or(used, |smooth| follow(smooth, used, interval.passed)),
        );
        self.open.add(interval);
        let passed = self.open.passed;
        if passed >= FULL || (passed >= ENOUGH && self.open.is_saturated(most)) {
            self.close(most, bounds.headroom.0.saturating_mul(1000));
        }
        let highest = self.smooth.unwrap_or(0).max(self.window.usual_second());
        self.production = MilliCpu(highest.div_ceil(1000));
    }

    fn close(&mut self, most: u64, headroom: u64) {
        let open = core::mem::replace(&mut self.open, Open::EMPTY);
        let used = open.used(most);
        self.window.push(used, &open.waits, open.passed);
        // Up faster than down: with 1 s alone, a step would take 3 s to show, and production would have lived in the
        // headroom for that long. What goes beyond the headroom counts at once, all of a rise once three intervals
        // have shown it: so bursts for which the headroom is kept take nothing from lent work. Where production had
        // all there was, no headroom is left, and all of it counts.
        let beyond = match open.is_saturated(most) {
            true => used,
            false => used.saturating_sub(headroom),
        };
        let [one, two] = self.last.map(|last| last.unwrap_or(0));
        let lasting = used.min(one).min(two);
        self.smooth = Some(self.smooth.unwrap_or(0).max(beyond).max(lasting));
        self.last = [Some(used), self.last[0]];
    }

    /// In the last interval production used much more than is counted: whether it goes on is worth a look before a tick
    /// is over.
    pub(super) const fn rises(&self) -> bool {
        self.rises
    }

    /// A time about which nothing is known.
    pub(super) fn skip(&mut self, passed: Span) {
        self.rises = false;
        self.open = Open::EMPTY;
        self.last = [None; 2];
        self.window.skip(passed);
    }

    /// What the line of now is taken from, rounded up; as last measured, also while nothing is.
    pub(super) const fn production(&self) -> MilliCpu {
        self.production
    }

    /// The mean of the last 10 s, rounded down; what is not known of them counts as none.
    pub(super) fn lasting(&self) -> MilliCpu {
        MilliCpu(self.window.mean() / 1000)
    }

    /// How long production waited in the last 10 s.
    pub(super) fn waited(&self, kind: Kind) -> Span {
        self.window.waited(kind)
    }

    /// How long production waited in the last 2 s, and how long ago that began.
    pub(super) fn waited_lately(&self, kind: Kind) -> (Span, Span) {
        let (closed, began) = self.window.waited_lately(kind);
        let open = self.open.waits[kind.index()].unwrap_or_default();
        (closed.plus(open), began.plus(self.open.passed))
    }
}

/// One step of the average over an interval of any length, without `exp`: the implicit one, which never overshoots.
/// Rounded towards what is used, so that it gets there.
pub(super) fn follow(smooth: u64, used: u64, passed: Span) -> u64 {
    let weight = u128::from(SMOOTH.0);
    let passed = u128::from(passed.0);
    let sum = u128::from(smooth) * weight + u128::from(used) * passed;
    let total = weight + passed;
    let next = if used > smooth {
        sum.div_ceil(total)
    } else {
        sum / total
    };
    u64::try_from(next).unwrap_or(u64::MAX)
}
