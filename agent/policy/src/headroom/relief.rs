//! Whether lent work's retreat helps production. Where it does not, the stalls are production's own, and squeezing
//! lent work for them would help nobody.

use loadline_model::Span;

use super::prorate;
use super::stall::{Bad, Kind};
use super::usage::Usage;

/// A cut is judged by the stall so long before and after it.
const JUDGED_BY: Span = Span::from_secs(2);
/// A stall that began so lately is compared by its rate: two seconds of which it filled a tenth say nothing.
const ONSET: Span = Span::from_millis(500);
const TENTH: Span = Span::from_millis(100);
/// The stall has fallen if at most this many hundredths are left.
const FALLEN: u64 = 80;
/// So many cuts in a row must have been in vain.
const STRIKES: u8 = 3;
/// Stalls do not count for so long; then it is tried again …
const MUTED: Span = Span::from_secs(60);
/// … and each time that was in vain too, for twice as long, up to this.
const MUTED_MOST: Span = Span::from_secs(8 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trial {
    before: Span,
    passed: Span,
}

/// Each kind by itself: production that has a slow disk of its own can still be short of CPU because of lent work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relief([OfKind; 3]);

impl Relief {
    pub(super) const fn new() -> Self {
        Self([OfKind::NEW, OfKind::NEW, OfKind::NEW])
    }

    /// True if stalls of this kind are production's own.
    pub(super) const fn self_inflicted(&self, kind: Kind) -> bool {
        !self.0[kind.index()].muted.is_zero()
    }

    /// Time has passed and was measured; `cut` says for which stalls lent work was just cut.
    pub(super) fn step(&mut self, elapsed: Span, usage: &Usage, cut: &Bad) {
        for kind in Kind::ALL {
            self.0[kind.index()].step(kind, elapsed, usage, cut.has(kind));
        }
    }

    /// Nothing was measured: before and after cannot be compared.
    pub(super) fn blind(&mut self, elapsed: Span) {
        for one in &mut self.0 {
            one.muted = one.muted.minus(elapsed);
            one.trial = None;
        }
    }
}

/// The cut being judged, and what the ones before it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OfKind {
    trial: Option<Trial>,
    strikes: u8,
    muted: Span,
    /// How long stalls do not count the next time.
    next: Span,
}

impl OfKind {
    const NEW: Self = Self {
        trial: None,
        strikes: 0,
        muted: Span::ZERO,
        next: MUTED,
    };

    fn step(&mut self, kind: Kind, elapsed: Span, usage: &Usage, cut: bool) {
        self.muted = self.muted.minus(elapsed);
        if let Some(trial) = &mut self.trial {
            trial.passed = trial.passed.plus(elapsed);
            if trial.passed >= JUDGED_BY {
                let trial = *trial;
                self.end(kind, trial, usage);
            }
        }
        if self.trial.is_none() && cut {
            self.trial = Some(Trial {
                before: before(kind, usage),
                passed: Span::ZERO,
            });
        }
    }

    fn end(&mut self, kind: Kind, trial: Trial, usage: &Usage) {
        self.trial = None;
        let (after, _) = usage.waited_lately(kind);
        if after.0 <= prorate(trial.before.0, FALLEN, 100) {
            self.strikes = 0;
            self.next = MUTED;
            return;
        }
        self.strikes += 1;
        if self.strikes >= STRIKES {
            self.strikes = 0;
            self.muted = self.next;
            self.next = self.next.times(2).min(MUTED_MOST);
        }
    }
}

fn before(kind: Kind, usage: &Usage) -> Span {
    let (waited, began) = usage.waited_lately(kind);
    if began < ONSET {
        Span(prorate(waited.0, JUDGED_BY.0, began.max(TENTH).0))
    } else {
        waited
    }
}
