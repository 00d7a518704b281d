//! The instants at which requests are meant to go out: a Poisson process with a seed, so that runs can be repeated.

use std::time::Duration;

/// Meant instants in nanoseconds from the start of the run, ascending, with exponential gaps.
#[derive(Debug, Clone)]
pub struct Arrivals {
    state: u64,
    rate_per_s: u32,
    step: Option<Step>,
    next_ns: f64,
}

/// Another rate from an instant on.
#[derive(Debug, Clone, Copy)]
struct Step {
    at_ns: f64,
    rate_per_s: u32,
}

/// The mean gap of a rate.
fn gap_ns(rate_per_s: u32) -> f64 {
    1e9 / f64::from(rate_per_s.max(1))
}

impl Arrivals {
    /// `rate_per_s` requests a second on average.
    #[must_use]
    pub fn poisson(rate_per_s: u32, seed: u64) -> Self {
        Self::new(rate_per_s, None, seed)
    }

    /// The first rate up to an instant, the other from then on.
    #[must_use]
    pub fn step(first_per_s: u32, at: Duration, then_per_s: u32, seed: u64) -> Self {
        let step = Step {
            at_ns: at.as_secs_f64() * 1e9,
            rate_per_s: then_per_s,
        };
        Self::new(first_per_s, Some(step), seed)
    }

    fn new(rate_per_s: u32, step: Option<Step>, seed: u64) -> Self {
        let mut arrivals = Self {
            state: seed,
            rate_per_s,
            step,
            next_ns: 0.0,
        };
        arrivals.advance();
        arrivals
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): enough for gaps, and the same on every machine.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let bits = u32::try_from(z >> 32).unwrap_or(u32::MAX);
        (f64::from(bits) + 1.0) / (f64::from(u32::MAX) + 2.0)
    }

    /// The gap is drawn in requests' worth of waiting, so that one that spans the step is right on both sides.
    fn advance(&mut self) {
        let mut worth = -self.uniform().ln();
        if let Some(step) = self.step {
            let before = (step.at_ns - self.next_ns) / gap_ns(self.rate_per_s);
            if worth >= before {
                worth -= before.max(0.0);
                self.next_ns = self.next_ns.max(step.at_ns);
                self.rate_per_s = step.rate_per_s;
                self.step = None;
            }
        }
        self.next_ns += worth * gap_ns(self.rate_per_s);
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "never negative, and far below 2^53 ns (104 days)"
        )]
        let now = self.next_ns as u64;
        self.advance();
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::cast_precision_loss,
        reason = "nanoseconds of minutes are far below 2^53"
    )]
    fn the_rate_and_the_spread_are_those_of_a_poisson_process() {
        let instants: Vec<f64> = Arrivals::poisson(100, 7)
            .take(20_000)
            .map(|ns| ns as f64)
            .collect();
        assert!(instants.is_sorted());
        let rate = 20_000.0 / (instants[19_999] / 1e9);
        assert!((98.0..102.0).contains(&rate), "{rate}");
        // Exponential gaps: standard deviation equals the mean.
        let gaps: Vec<f64> = instants.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let ratio = variance.sqrt() / mean;
        assert!((0.97..1.03).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_step_changes_the_rate_at_its_instant() {
        let second = 1_000_000_000;
        let at = Duration::from_secs(100);
        let instants: Vec<u64> = Arrivals::step(100, at, 300, 7)
            .take_while(|ns| *ns < 200 * second)
            .collect();
        assert!(instants.is_sorted());
        let before = instants.iter().filter(|ns| **ns < 100 * second).count();
        let after = instants.len() - before;
        assert!((9_700..10_300).contains(&before), "{before}");
        assert!((29_500..30_500).contains(&after), "{after}");
        // No hole and no bunch at the step itself: the second before and after it are as busy as their halves.
        let within = |from: u64, to: u64| instants.iter().filter(|ns| (from..to).contains(*ns)).count();
        assert!((60..140).contains(&within(99 * second, 100 * second)));
        assert!((230..370).contains(&within(100 * second, 101 * second)));
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let take = |seed| Arrivals::poisson(50, seed).take(10).collect::<Vec<_>>();
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }
}
