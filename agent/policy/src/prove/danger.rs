//! When a test stops at once: production's probe, its memory, its stalls, looked at every second.

use core::fmt;

use loadline_model::{Bytes, Span};

use super::{Side, millis};

/// So many times the p99 of production alone is danger …
const SLOW_TIMES: u64 = 3;
/// … if it is also so much above it: three times a fifth of a millisecond harms no one.
const SLOW_LEAST: Span = Span::from_millis(5);
/// … for so many seconds in a row: one slow second happens to any service.
const SLOW_SECONDS: u32 = 2;
/// More than one request in so many that fails is danger …
const ERRORS_ONE_IN: u64 = 100;
/// … from the second failure on: a single one of few requests is no share.
const ERRORS_LEAST: u64 = 2;
/// All of production's tasks waited for memory for so long within a second: 5 %, as in the headroom law.
const MEMORY_STALL: Span = Span::from_millis(50);

/// What one second of a round showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Second {
    /// The p99 of what was answered in it, and of how long the unanswered have waited so far. None: nothing was sent.
    pub p99: Option<Span>,
    /// Requests of the round until now.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Memory that can still be had.
    pub memory_available: Option<Bytes>,
    /// How long production has waited for memory since boot.
    pub memory_full: Option<Span>,
}

/// Why a test was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Danger {
    /// The probe was answered too slowly.
    Slow {
        /// The p99 of the last second.
        p99: Span,
        /// The p99 of production alone.
        alone: Span,
    },
    /// The probe failed too often.
    Errors {
        /// How often.
        errors: u64,
        /// Of how many.
        requests: u64,
    },
    /// Memory is about to run short.
    MemoryLow {
        /// What is left.
        available: Bytes,
        /// What is kept for production.
        headroom: Bytes,
    },
    /// Production waited for memory.
    MemoryStall(Span),
    /// Memory cannot be read any more: not known is not good.
    Blind,
}

impl fmt::Display for Danger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow { p99, alone } => write!(
                f,
                "production answered with a p99 of {} for {SLOW_SECONDS} seconds, and of {} alone",
                millis(*p99),
                millis(*alone)
            ),
            Self::Errors { errors, requests } => {
                write!(f, "{errors} of {requests} requests to production failed")
            }
            Self::MemoryLow { available, headroom } => write!(
                f,
                "only {available} of memory could still be had, less than the headroom of {headroom}"
            ),
            Self::MemoryStall(stall) => write!(
                f,
                "production waited {} for memory within a second",
                millis(*stall)
            ),
            Self::Blind => f.write_str("the memory that can still be had could not be read any more"),
        }
    }
}

/// Watches one round.
#[derive(Debug, Clone)]
pub struct Watch {
    side: Side,
    alone: Option<Span>,
    headroom: Bytes,
    slow_seconds: u32,
    memory_full: Option<Span>,
}

impl Watch {
    /// For a round of that side; `alone` is the p99 of production alone as far as it is known.
    pub const fn new(side: Side, alone: Option<Span>, headroom: Bytes) -> Self {
        Self {
            side,
            alone,
            headroom,
            slow_seconds: 0,
            memory_full: None,
        }
    }

    /// One second; the first danger it shows. What is worse for people comes first.
    pub fn look(&mut self, second: &Second) -> Option<Danger> {
        self.errors(second)
            .or_else(|| self.memory(second))
            .or_else(|| self.slow(second))
    }

    fn errors(&self, second: &Second) -> Option<Danger> {
        let Second { errors, requests, .. } = *second;
        let share = errors.saturating_mul(ERRORS_ONE_IN) > requests;
        (share && errors >= ERRORS_LEAST).then_some(Danger::Errors { errors, requests })
    }

    fn memory(&mut self, second: &Second) -> Option<Danger> {
        let before = core::mem::replace(&mut self.memory_full, second.memory_full);
        let stall = before
            .zip(second.memory_full)
            .map(|(before, now)| now.minus(before));
        let headroom = self.headroom;
        match second.memory_available {
            None => Some(Danger::Blind),
            Some(available) if available < headroom => Some(Danger::MemoryLow { available, headroom }),
            Some(_) => stall
                .filter(|stall| *stall > MEMORY_STALL)
                .map(Danger::MemoryStall),
        }
    }

    /// Alone, production is as slow as it is: that is what the other side is compared with.
    fn slow(&mut self, second: &Second) -> Option<Danger> {
        let (Side::Lent, Some(alone), Some(p99)) = (self.side, self.alone, second.p99) else {
            self.slow_seconds = 0;
            return None;
        };
        let slow = p99 > alone.times(SLOW_TIMES) && p99 > alone.plus(SLOW_LEAST);
        self.slow_seconds = if slow { self.slow_seconds + 1 } else { 0 };
        (self.slow_seconds >= SLOW_SECONDS).then_some(Danger::Slow { p99, alone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADROOM: Bytes = Bytes::from_mib(400);
    const ALONE: Span = Span::from_millis(4);

    fn calm() -> Second {
        Second {
            p99: Some(ALONE),
            requests: 1000,
            errors: 0,
            memory_available: Some(Bytes::from_mib(500)),
            memory_full: Some(Span::ZERO),
        }
    }

    fn watch(side: Side) -> Watch {
        Watch::new(side, Some(ALONE), HEADROOM)
    }

    fn at(millis: u64) -> Second {
        Second {
            p99: Some(Span::from_millis(millis)),
            ..calm()
        }
    }

    #[test]
    fn slow_is_three_times_alone_and_some_milliseconds_for_two_seconds_in_a_row() {
        let mut lent = watch(Side::Lent);
        let slow = Danger::Slow {
            p99: Span::from_millis(13),
            alone: ALONE,
        };
        assert_eq!(lent.look(&at(13)), None, "one second");
        assert_eq!(lent.look(&at(12)), None, "exactly three times is not above it");
        assert_eq!(lent.look(&at(13)), None, "the row begins anew");
        assert_eq!(lent.look(&at(13)), Some(slow));
        let mut alone = watch(Side::Alone);
        assert_eq!([alone.look(&at(900)), alone.look(&at(900))], [None, None]);
        // A fast service: 0.2 ms alone, 5 ms is 25 times that, and still below the absolute least of 5.2 ms.
        let fast = Some(Span(200));
        let mut lent = Watch::new(Side::Lent, fast, HEADROOM);
        assert_eq!([lent.look(&at(5)), lent.look(&at(5))], [None, None]);
        assert_eq!(lent.look(&at(6)), None);
        assert!(lent.look(&at(6)).is_some());
        let mut unknown = Watch::new(Side::Lent, None, HEADROOM);
        assert_eq!([unknown.look(&at(900)), unknown.look(&at(900))], [None, None]);
    }

    #[test]
    fn errors_count_from_the_second_on_and_above_one_in_a_hundred() {
        let with = |errors, requests| {
            watch(Side::Alone).look(&Second {
                errors,
                requests,
                ..calm()
            })
        };
        assert_eq!(with(1, 1), None);
        assert_eq!(with(2, 200), None);
        assert_eq!(
            with(2, 199),
            Some(Danger::Errors {
                errors: 2,
                requests: 199
            })
        );
        assert_eq!(
            with(2, 2),
            Some(Danger::Errors {
                errors: 2,
                requests: 2
            })
        );
    }

    #[test]
    fn memory_stops_either_side_at_once() {
        let with = |available| {
            watch(Side::Alone).look(&Second {
                memory_available: available,
                ..calm()
            })
        };
        assert_eq!(with(Some(HEADROOM)), None);
        let available = Bytes(HEADROOM.0 - 1);
        let headroom = HEADROOM;
        assert_eq!(
            with(Some(available)),
            Some(Danger::MemoryLow { available, headroom })
        );
        assert_eq!(with(None), Some(Danger::Blind));
        let mut watch = watch(Side::Lent);
        let stalled = |millis| Second {
            memory_full: Some(Span::from_millis(millis)),
            ..calm()
        };
        assert_eq!(watch.look(&stalled(7000)), None, "the past is not ours");
        assert_eq!(watch.look(&stalled(7050)), None);
        assert_eq!(
            watch.look(&stalled(7101)),
            Some(Danger::MemoryStall(Span::from_millis(51)))
        );
    }

    proptest! {
        #[test]
        fn more_danger_never_lets_a_test_go_on(
            seconds in prop::collection::vec((0u64..40, 0u64..5, 300u64..600, 0u64..120), 1..20),
            worse in (0u64..30, 0u64..5, 0u64..200),
        ) {
            let run = |add: (u64, u64, u64)| {
                let mut watch = watch(Side::Lent);
                seconds.iter().position(|(p99, errors, free, _)| {
                    watch.look(&Second {
                        p99: Some(Span::from_millis(p99 + add.0)),
                        requests: 300,
                        errors: errors + add.1,
                        memory_available: Some(Bytes::from_mib(free.saturating_sub(add.2))),
                        memory_full: Some(Span::ZERO),
                    }).is_some()
                })
            };
            let (mild, hard) = (run((0, 0, 0)), run(worse));
            if let Some(mild) = mild {
                prop_assert!(hard.is_some_and(|hard| hard <= mild));
            }
        }
    }
}
