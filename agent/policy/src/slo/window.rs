//! Times of single answers: probes, and what a service tells by itself.
//!
//! The percentile is that of the shortest recent past that holds enough samples, so that a busy service's bad
//! moment is over when it is over. Fewer than enough are unknown with one exception: when so many are beyond the
//! target that the rest cannot save it, the promise is known to be missed. And where enough reach back further than
//! that recent past, with nothing beyond the target in it, a missed promise is not known to be missed any more: a service
//! asked once a second that was restarted would otherwise count as failing for two minutes, and everything lent would go
//! for it. It is not known to be kept either.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use loadline_model::Span;

use super::{SAMPLES_MIN, WINDOW};

/// More are not kept: a service that tells thousands a second is judged by its latest.
const KEPT_MAX: usize = 4096;
/// Even where there are many, so much of the past counts.
const RECENT: Span = Span::from_secs(10);
/// So many in it say that a bad moment is over.
const RECENT_MIN: usize = 8;

/// The latest samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples(VecDeque<(Span, Span)>);

impl Samples {
    /// An answer took this long; one that never came counts with its whole time-out.
    pub fn add(&mut self, at: Span, took: Span) {
        if self.0.len() == KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((at, took));
    }

    /// How many count at this moment.
    pub fn count(&self, now: Span) -> usize {
        self.0.iter().filter(|(at, _)| now.minus(*at) <= WINDOW).count()
    }

    /// The 99th percentile, if it is known. Where all that is known is that it is missed, the least it can be.
    pub fn p99(&mut self, now: Span, target: Span) -> Option<Span> {
        while self.0.front().is_some_and(|(at, _)| now.minus(*at) > WINDOW) {
            self.0.pop_front();
        }
        let lately = || self.0.iter().filter(|(at, _)| now.minus(*at) <= RECENT);
        let recent = lately().count();
        let is_over = recent >= RECENT_MIN && lately().all(|(_, took)| *took <= target);
        let counted = recent.max(SAMPLES_MIN);
        let mut took: Vec<Span> = self.0.iter().rev().take(counted).map(|(_, took)| *took).collect();
        took.sort_unstable();
        let known = |p99: &Span| *p99 <= target || !is_over;
        if took.len() >= SAMPLES_MIN {
            return took.get(rank(took.len()) - 1).copied().filter(known);
        }
        // Of 100 the second worst is the percentile: with two beyond the target nothing that comes can mend it.
        let second = took
            .len()
            .checked_sub(2)
            .and_then(|place| took.get(place).copied());
        second.filter(|second| *second > target && known(second))
    }
}

/// The least place, counted from one, below which 99 % of so many lie.
const fn rank(samples: usize) -> usize {
    (samples * 99).div_ceil(100)
}
