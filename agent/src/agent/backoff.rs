//! How long to wait before the next attempt: full jitter (uniform between nothing and a bound that doubles), so
//! that ten thousand nodes that lost their fleet at the same moment do not come back at the same moment.

use std::time::Duration;

use rand::{Rng, RngExt};

/// The bound of the first wait and of every wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Bound of the first wait.
    pub base: Duration,
    /// No bound is larger.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// The bound after so many failures in a row (1 is the first).
    pub fn bound(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }

    /// A wait drawn uniformly from nothing to the bound.
    pub fn wait(&self, failures: u32, rng: &mut impl Rng) -> Duration {
        let bound = u64::try_from(self.bound(failures).as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(rng.random_range(0..=bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn bounds_double_from_half_a_second_to_thirty() {
        let bounds: Vec<u64> = (1..=8)
            .map(|n| u64::try_from(Backoff::default().bound(n).as_millis()).unwrap())
            .collect();
        assert_eq!(bounds, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(Backoff::default().bound(u32::MAX), Duration::from_secs(30));
    }

    #[test]
    fn waits_fill_their_range_evenly() {
        let mut rng = StdRng::seed_from_u64(7);
        let backoff = Backoff::default();
        let mut quarters = [0u32; 4];
        for _ in 0..4000 {
            let wait = backoff.wait(9, &mut rng);
            quarters[usize::try_from(wait.as_millis() * 4 / 30_001).unwrap()] += 1;
        }
        assert!(quarters.iter().all(|n| (900..1100).contains(n)), "{quarters:?}");
    }

    proptest! {
        #[test]
        fn no_wait_is_beyond_its_bound(failures in 0u32..200, seed: u64) {
            let backoff = Backoff::default();
            prop_assert!(backoff.wait(failures, &mut StdRng::seed_from_u64(seed)) <= backoff.bound(failures));
        }
    }
}
