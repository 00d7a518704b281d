//! What lending costs production, and what protecting production costs lent work: counted from what the headroom
//! law said and saw, one look after the other.
//!
//! **Terms.** *Stalled*: production waited, lent work ran meanwhile, and the law took that as bad; by its own rate
//! within the look, never more than the look was long. *Squeezed*: lent work wanted to run and a tier of it was held
//! at its floor. A node that only watches squeezes nobody. Looks that saw nothing count for nothing.

use loadline_model::Span;

use crate::headroom::{Decision, Reason, Sample};
use crate::settings::Squeezed;

/// The law says how long production waited within this time.
const WITHIN: Span = Span::from_millis(100);
/// Nobody looked for longer than this: what happened meanwhile is not known.
const LOOK_MOST: Span = Span::from_secs(2);

/// Counted since the warden started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Production stalled for so long.
    pub stalled: Span,
    /// Lent work was held at its floor for so long.
    pub squeezed: Span,
}

/// Adds up looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CostMeter {
    cost: Cost,
    last: Option<(Span, Option<Span>)>,
}

impl CostMeter {
    /// What it has come to.
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// One look and what the law said about it. `in_force`: what it wants is done, not only told.
    pub fn look(&mut self, sample: &Sample, decision: &Decision, in_force: bool) {
        let before = self.last.replace((sample.now, sample.cpu_lent));
        let Some((at, lent)) = before else { return };
        let passed = sample.now.minus(at);
        // A total that fell belongs to a slice that was made anew.
        let ran = lent
            .zip(sample.cpu_lent)
            .is_some_and(|(before, after)| after > before);
        if passed > LOOK_MOST || !ran {
            return;
        }
        if let Some(waited) = stalled(decision.reason) {
            self.cost.stalled = self.cost.stalled.plus(part(waited, passed));
        }
        if in_force && decision.setpoints.squeezed != Squeezed::No {
            self.cost.squeezed = self.cost.squeezed.plus(passed);
        }
    }
}

const fn stalled(reason: Reason) -> Option<Span> {
    match reason {
        Reason::CpuStall(waited) | Reason::MemoryStall(waited) | Reason::IoStall(waited) => Some(waited),
        _ => None,
    }
}

fn part(waited: Span, passed: Span) -> Span {
    let micros = u128::from(waited.0) * u128::from(passed.0) / u128::from(WITHIN.0);
    Span(u64::try_from(micros).unwrap_or(u64::MAX)).min(passed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headroom::Level;
    use crate::settings::Setpoints;
    use proptest::prelude::*;

    fn sample(now_ms: u64, lent_ms: u64) -> Sample {
        Sample {
            now: Span::from_millis(now_ms),
            cpu_lent: Some(Span::from_millis(lent_ms)),
            ..Sample::default()
        }
    }

    fn decision(reason: Reason, squeezed: Squeezed) -> Decision {
        Decision {
            level: Level::Shrink,
            reason,
            setpoints: Setpoints {
                squeezed,
                ..Setpoints::default()
            },
            ..Decision::default()
        }
    }

    const STALL: Reason = Reason::CpuStall(Span::from_millis(30));

    #[test]
    fn a_stall_counts_by_its_rate_and_only_while_lent_work_ran() {
        let mut meter = CostMeter::default();
        meter.look(&sample(0, 5), &decision(STALL, Squeezed::No), true);
        assert_eq!(meter.cost(), Cost::default(), "nothing to compare with yet");
        meter.look(&sample(100, 6), &decision(STALL, Squeezed::No), true);
        assert_eq!(meter.cost().stalled, Span::from_millis(30));
        // A look that came late: the same rate for longer.
        meter.look(&sample(300, 7), &decision(STALL, Squeezed::No), true);
        assert_eq!(meter.cost().stalled, Span::from_millis(90));
        meter.look(&sample(400, 7), &decision(STALL, Squeezed::No), true);
        meter.look(&sample(500, 1), &decision(STALL, Squeezed::No), true);
        meter.look(&sample(600, 2), &decision(Reason::Calm, Squeezed::No), true);
        assert_eq!(
            meter.cost().stalled,
            Span::from_millis(90),
            "lent work slept, was new, harmed nobody"
        );
        // Many tasks that wait at once stall production for the length of the look, not longer.
        let all = Reason::MemoryStall(Span::from_millis(800));
        meter.look(&sample(700, 3), &decision(all, Squeezed::No), true);
        assert_eq!(meter.cost().stalled, Span::from_millis(190));
    }

    #[test]
    fn squeezed_time_counts_where_it_is_done() {
        let mut meter = CostMeter::default();
        meter.look(&sample(0, 1), &decision(Reason::Calm, Squeezed::Burst), true);
        meter.look(&sample(100, 2), &decision(Reason::Calm, Squeezed::Burst), true);
        meter.look(&sample(200, 3), &decision(Reason::Calm, Squeezed::All), false);
        assert_eq!(meter.cost().squeezed, Span::from_millis(100));
        // Nobody looked for a minute.
        meter.look(&sample(60_200, 9), &decision(STALL, Squeezed::All), true);
        assert_eq!(meter.cost().squeezed, Span::from_millis(100));
    }

    proptest! {
        #[test]
        fn neither_ever_exceeds_the_time_that_passed(
            looks in proptest::collection::vec((1u64..3000, 0u64..50, 0u64..500, 0u8..3, any::<bool>()), 1..60),
        ) {
            let (mut meter, mut now, mut lent) = (CostMeter::default(), 0, 0);
            for (step, ran, waited, squeezed, in_force) in looks {
                now += step;
                lent += ran;
                let before = meter.cost();
                let squeezed = [Squeezed::No, Squeezed::Burst, Squeezed::All][usize::from(squeezed)];
                let reason = Reason::IoStall(Span::from_millis(waited));
                meter.look(&sample(now, lent), &decision(reason, squeezed), in_force);
                let after = meter.cost();
                prop_assert!(after.stalled.minus(before.stalled) <= Span::from_millis(step));
                prop_assert!(after.squeezed.minus(before.squeezed) <= Span::from_millis(step));
                prop_assert!(after.stalled >= before.stalled && after.squeezed >= before.squeezed);
                prop_assert!(after.stalled <= Span::from_millis(now));
            }
        }
    }
}
