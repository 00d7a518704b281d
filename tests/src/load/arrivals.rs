//! The instants at which requests are meant to go out: a Poisson process with a seed, so that runs can be repeated.

/// Meant instants in nanoseconds from the start of the run, ascending, with exponential gaps.
#[derive(Debug, Clone)]
pub struct Arrivals {
    state: u64,
    mean_gap_ns: f64,
    next_ns: f64,
}

impl Arrivals {
    /// `rate_per_s` requests a second on average.
    #[must_use]
    pub fn poisson(rate_per_s: u32, seed: u64) -> Self {
        let mut arrivals = Self {
            state: seed,
            mean_gap_ns: 1e9 / f64::from(rate_per_s.max(1)),
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

    fn advance(&mut self) {
        let gap = -self.uniform().ln() * self.mean_gap_ns;
        self.next_ns += gap;
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
    fn the_same_seed_gives_the_same_run() {
        let take = |seed| Arrivals::poisson(50, seed).take(10).collect::<Vec<_>>();
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }
}
