//! Whether lent work's retreat helps production. Where it does not, the stalls are production's own, and squeezing
//! lent work for them would help nobody.

use loadline_model::Span;

use super::prorate;
use super::stall::Kind;
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
/// Stalls do not count for so long; then it is tried again.
const MUTED: Span = Span::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trial {
    kind: Kind,
    before: Span,
    passed: Span,
}

/// The cut being judged, and what the ones before it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relief {
    trial: Option<Trial>,
    strikes: u8,
    muted: Span,
}

impl Relief {
    pub(super) const fn new() -> Self {
        Self {
            trial: None,
            strikes: 0,
            muted: Span::ZERO,
        }
    }

    /// True if stalls are production's own.
    pub(super) const fn self_inflicted(&self) -> bool {
        !self.muted.is_zero()
    }

    /// Time has passed and was measured; `cut` is the stall for which lent work was just cut.
    pub(super) fn step(&mut self, elapsed: Span, usage: &Usage, cut: Option<Kind>) {
        self.muted = self.muted.minus(elapsed);
        if let Some(trial) = &mut self.trial {
            trial.passed = trial.passed.plus(elapsed);
            if trial.passed >= JUDGED_BY {
                let trial = *trial;
                self.end(trial, usage);
            }
        }
        if let (None, Some(kind)) = (self.trial, cut) {
            self.trial = Some(Trial {
                kind,
                before: before(kind, usage),
                passed: Span::ZERO,
            });
        }
    }

    fn end(&mut self, trial: Trial, usage: &Usage) {
        self.trial = None;
        let (after, _) = usage.waited_lately(trial.kind);
        if after.0 <= prorate(trial.before.0, FALLEN, 100) {
            self.strikes = 0;
            return;
        }
        self.strikes += 1;
        if self.strikes >= STRIKES {
            self.strikes = 0;
            self.muted = MUTED;
        }
    }

    /// Nothing was measured: before and after cannot be compared.
    pub(super) fn blind(&mut self, elapsed: Span) {
        self.muted = self.muted.minus(elapsed);
        self.trial = None;
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
