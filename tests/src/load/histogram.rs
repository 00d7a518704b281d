//! Latencies as a histogram that can be pooled over rounds, and the report of one run.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A histogram of microseconds, 1 µs to 10 min, three significant digits; travels as (value, count) pairs.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

const US_MAX: u64 = 600_000_000;

impl Default for Latencies {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "constant bounds, exercised by every test")]
        Self(Histogram::new_with_bounds(1, US_MAX, 3).expect("1 < 10 min, 3 digits"))
    }
}

impl Latencies {
    /// Counts one latency; a longer one than 10 minutes counts as 10 minutes.
    pub fn record_us(&mut self, us: u64) {
        self.0.saturating_record(us.max(1));
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Self) {
        for (us, count) in other.pairs() {
            self.0.saturating_record_n(us, count);
        }
    }

    /// The latency that this share (0 to 1) of all requests stayed within, in microseconds; 0 when empty.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    fn pairs(&self) -> Vec<(u64, u64)> {
        self.0
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect()
    }
}

impl Serialize for Latencies {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.pairs().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latencies = Self::default();
        for (us, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            latencies.0.saturating_record_n(us, count);
        }
        Ok(latencies)
    }
}

/// What one run saw.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// Requests meant to go out (open loop) or sent (closed loop).
    pub requests: u64,
    /// Requests that were not answered with status 200: refused, cut off, other status, or still open at the end.
    pub errors: u64,
    /// How long the run took.
    pub elapsed_us: u64,
    /// From the meant instant to the last byte of the answer.
    pub latencies: Latencies,
    /// From the meant instant to the generator's own first look at the request.
    pub lateness: Latencies,
}

impl LoadReport {
    /// True if the generator itself was too late to judge the service: its p99.9 lateness exceeds a tenth of the
    /// service's p99 (the rule of the test protocol), with 200 µs always granted.
    #[must_use]
    pub fn generator_too_late(&self) -> bool {
        self.lateness.quantile_us(0.999) > (self.latencies.quantile_us(0.99) / 10).max(200)
    }

    /// Pools another run into this one.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.elapsed_us += other.elapsed_us;
        self.latencies.add(&other.latencies);
        self.lateness.add(&other.lateness);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_and_travelling_keep_every_count() {
        let mut a = Latencies::default();
        (1..=1000).for_each(|us| a.record_us(us));
        let mut b: Latencies = serde_json::from_str(&serde_json::to_string(&a).unwrap()).unwrap();
        assert_eq!((b.count(), b.quantile_us(0.5)), (1000, 500));
        b.add(&a);
        assert_eq!((b.count(), b.quantile_us(0.5)), (2000, 500));
    }

    #[test]
    fn a_late_generator_condemns_its_own_run() {
        let mut report = LoadReport::default();
        (0..1000).for_each(|_| report.latencies.record_us(10_000));
        (0..1000).for_each(|_| report.lateness.record_us(100));
        assert!(!report.generator_too_late());
        (0..10).for_each(|_| report.lateness.record_us(5_000));
        assert!(report.generator_too_late());
    }
}
