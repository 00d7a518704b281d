//! CPU time that no unit accounts for: kernel threads, interrupts, cgroups that are not known yet.
//!
//! It is what is left of the machine's busy time, and production's like all else: room for it has to be left.

use loadline_model::{MilliCpu, Span};

use super::sample::Sample;
use super::since;
use super::usage::follow;
use super::window::rate;

/// What all of the machine and all units had used when both were last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Totals {
    now: Span,
    all: Span,
    units: Span,
    lent: Span,
}

impl Totals {
    fn of(sample: &Sample) -> Option<Self> {
        Some(Self {
            now: sample.now,
            all: sample.cpu_all?,
            units: sample.cpu_units?,
            lent: sample.cpu_lent?,
        })
    }

    /// What no unit used and in which time; none between totals of different things.
    fn unaccounted_since(&self, last: &Self, capacity: MilliCpu) -> Option<(u64, Span)> {
        let passed = since(self.now, last.now)?;
        let units = since(self.units, last.units)?.plus(since(self.lent, last.lent)?);
        let left = since(self.all, last.all)?.minus(units);
        let rate = rate(left, passed);
        // A CPU that came online has brought all its time with it.
        let possible = rate <= capacity.0.saturating_mul(1000);
        (possible && !passed.is_zero()).then_some((rate, passed))
    }
}

/// The kernel's own use, smoothed over a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kernel {
    last: Option<Totals>,
    /// Millionths of a thread.
    rate: u64,
}

impl Kernel {
    pub(super) const fn new() -> Self {
        Self { last: None, rate: 0 }
    }

    /// Of a look that says what all of the machine used; others say nothing.
    pub(super) fn take(&mut self, sample: &Sample, capacity: MilliCpu) {
        let Some(totals) = Totals::of(sample) else { return };
        let last = self.last.replace(totals);
        let seen = last.and_then(|last| totals.unaccounted_since(&last, capacity));
        if let Some((seen, passed)) = seen {
            self.rate = follow(self.rate, seen, passed);
        }
    }

    /// Its part of a time.
    pub(super) fn within(&self, passed: Span) -> Span {
        Span(super::prorate(self.rate, passed.0, 1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: MilliCpu = MilliCpu(4_000);

    fn at(ms: u64, all: u64, units: u64, lent: u64) -> Sample {
        let total = |ms: u64| Some(Span::from_millis(ms));
        Sample {
            now: Span::from_millis(ms),
            cpu_all: total(all),
            cpu_units: total(units),
            cpu_lent: total(lent),
            ..Sample::default()
        }
    }

    fn after(samples: &[Sample]) -> Span {
        let mut kernel = Kernel::new();
        for sample in samples {
            kernel.take(sample, CAPACITY);
        }
        kernel.within(Span::from_secs(1))
    }

    #[test]
    fn what_no_unit_used_is_the_kernel_s_and_is_followed_within_seconds() {
        let seconds = |count: u64| -> Vec<Sample> {
            (0..=count)
                .map(|second| at(second * 1000, second * 1900, second * 1000, second * 500))
                .collect()
        };
        assert_eq!(after(&seconds(1)), Span::from_millis(200), "half of it at once");
        let settled = after(&seconds(8)).0;
        assert!((398_000..=400_000).contains(&settled), "{settled}");
    }

    #[test]
    fn a_look_without_the_whole_says_nothing_and_loses_nothing() {
        let mut part = at(500, 0, 9_000, 0);
        part.cpu_all = None;
        let whole = [at(0, 0, 0, 0), part, at(1000, 1000, 600, 200)];
        assert_eq!(after(&whole), Span::from_millis(100));
    }

    #[test]
    fn totals_of_different_things_have_no_difference() {
        let start = at(0, 1000, 1000, 1000);
        for odd in [
            at(1000, 900, 1000, 1000),
            at(1000, 1500, 1000, 10),
            at(1000, 1500, 10, 1000),
            at(1000, 500_000, 1000, 1000),
            at(0, 1500, 1000, 1000),
        ] {
            assert_eq!(after(&[start, odd]), Span::ZERO, "{odd:?}");
        }
        // Units may have been read a little after the whole.
        assert_eq!(after(&[start, at(1000, 2000, 1990, 1020)]), Span::ZERO);
    }
}
