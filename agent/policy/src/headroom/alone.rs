//! How long production waits for CPUs by itself. Its tasks queue for each other, the more the busier it is, and such a
//! wait says nothing about lent work: taken for its doing, it would hold lent work at its floor for ever.
//!
//! **Approach.** Tenths of a second in which lent work is held at its floor or sleeps show how production waits alone.
//! For each band of its use mean, spread and the longest are kept. A tenth is lent work's doing only beyond all of
//! them: mean plus four spreads is what TCP takes for a reply that does not come any more (RFC 6298 §2), but waits of a
//! server are rare and long, and one in a hundred tenths lies beyond. What lasts shows in the mean of a second, in
//! which one long wait does not count for much: there two spreads are enough. Nobody has to be stopped to learn it:
//! where waits of its own look like lent work's, that is cut, and being cut is what is learnt from.
//! **Limits.** What lent work makes production wait for while it hardly runs is taken for production's own.

use loadline_model::{MilliCpu, Span};

use super::intake::Interval;
use super::prorate;
use super::tail::Tail;
use super::window::TENTH;

/// Bands of a tenth of the capacity each.
const BANDS: usize = 10;
/// So many tenths of a second make a band known.
const KNOWN: u64 = 20;
/// The weight of one in the means: of the last five seconds or so.
const MEMORY: u64 = 50;
/// Programs are replaced: what was not seen for so long has to be seen again.
const FORGOTTEN: Span = Span::from_secs(3600);
/// Waits nearer than this to each other, in µs, are the same: the clocks of kernel and looks differ by as much.
const LEAST: u64 = 1000;
/// Looks come every 100 ms, some a little early.
const FULL: Span = Span::from_millis(80);

/// Longer than this within a tenth of a second production does not wait by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// In a single one.
    pub(super) tenth: Span,
    /// In the mean of a second.
    pub(super) lasting: Span,
}

/// Waits in one band, in µs of a tenth of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Band {
    seen: u64,
    mean: u64,
    spread: u64,
    tail: Tail,
    ago: Span,
}

impl Band {
    const NEW: Self = Self {
        seen: 0,
        mean: 0,
        spread: 0,
        tail: Tail::NEW,
        ago: Span::ZERO,
    };

    fn learn(&mut self, waited: u64) {
        self.seen = (self.seen + 1).min(MEMORY);
        self.ago = Span::ZERO;
        self.tail.add(waited);
        let off = waited.abs_diff(self.mean);
        self.mean = nearer(self.mean, waited, self.seen);
        // The first is all the mean there is: it is off by nothing.
        if self.seen > 1 {
            self.spread = nearer(self.spread, off, self.seen - 1);
        }
    }

    const fn is_known(&self) -> bool {
        self.seen >= KNOWN && self.ago.0 < FORGOTTEN.0
    }

    fn limits(&self) -> Limits {
        let above = |spreads: u64| Span(self.mean + LEAST.max(spreads * self.spread));
        Limits {
            tenth: above(4).max(Span(self.tail.longest())),
            lasting: above(2),
        }
    }
}

/// One part in `of` of the way, and all of the last bit.
fn nearer(from: u64, to: u64, of: u64) -> u64 {
    if to >= from {
        from + (to - from).div_ceil(of)
    } else {
        from - (from - to).div_ceil(of)
    }
}

/// What was learnt, and the tenth being added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alone {
    bands: [Band; BANDS],
    passed: Span,
    production: Span,
    lent: Span,
    own: Span,
    waited: Span,
}

impl Alone {
    pub(super) const fn new() -> Self {
        Self {
            bands: [Band::NEW; BANDS],
            passed: Span::ZERO,
            production: Span::ZERO,
            lent: Span::ZERO,
            own: Span::ZERO,
            waited: Span::ZERO,
        }
    }

    /// What it does not wait by itself when it uses so much; none: not known. What is known of a lower use holds too: it
    /// waits no less when it uses more.
    pub(super) fn limits(&self, production: MilliCpu, capacity: MilliCpu) -> Option<Limits> {
        let band = band(production, capacity);
        let known = self.bands[..=band].iter().rev().find(|band| band.is_known());
        known.map(Band::limits)
    }

    /// An interval about which both are known. `floor`: lent work that runs no more is as good as out.
    pub(super) fn take(
        &mut self,
        interval: &Interval,
        wait: Option<Span>,
        capacity: MilliCpu,
        floor: MilliCpu,
    ) {
        for band in &mut self.bands {
            band.ago = band.ago.plus(interval.passed);
        }
        let Some(wait) = wait else {
            self.forget();
            return;
        };
        self.passed = self.passed.plus(interval.passed);
        self.production = self.production.plus(interval.production);
        self.lent = self.lent.plus(interval.lent);
        self.own = self.own.plus(interval.own);
        self.waited = self.waited.plus(wait);
        if self.passed < FULL {
            return;
        }
        let per_tenth = |time: Span| prorate(time.0, TENTH.0, self.passed.0);
        // Periods of the quota and looks do not begin together: a tenth may hold a part of one more.
        let out = prorate(floor.0, self.passed.0, 1000).saturating_mul(5) / 4;
        // Loadline's own programs at work, as at a start of theirs, are no part of production's day.
        if self.lent.0 <= out && self.own.0 <= out {
            let used = MilliCpu(per_tenth(self.production) / (TENTH.0 / 1000));
            let waited = per_tenth(self.waited).min(TENTH.0);
            self.bands[band(used, capacity)].learn(waited);
        }
        self.forget();
    }

    /// What was being added up is worth nothing across a gap.
    pub(super) const fn forget(&mut self) {
        self.passed = Span::ZERO;
        self.production = Span::ZERO;
        self.lent = Span::ZERO;
        self.own = Span::ZERO;
        self.waited = Span::ZERO;
    }
}

fn band(production: MilliCpu, capacity: MilliCpu) -> usize {
    let tenth = prorate(production.0, BANDS as u64, capacity.0);
    usize::try_from(tenth).unwrap_or(BANDS).min(BANDS - 1)
}
