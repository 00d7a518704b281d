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

    /// Each as so many thousandths of a unit, so that those of different services can be pooled.
    #[must_use]
    pub fn in_thousandths_of(&self, unit_us: u64) -> Self {
        let mut all = Self::default();
        for (us, count) in self.pairs() {
            all.0
                .saturating_record_n((us.saturating_mul(1000) / unit_us.max(1)).max(1), count);
        }
        all
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
    /// From the generator's own first look at the request to the last byte of the answer.
    pub served: Latencies,
    /// From the meant instant to the generator's own first look at the request.
    pub lateness: Latencies,
}

impl LoadReport {
    /// True if the generator itself was too late to judge the service by.
    ///
    /// The test protocol's rule is that its p99.9 lateness is within a tenth of the service's p99; 200 µs are always
    /// granted. A later one is believed, too, if the service's p99 without that lateness is the same to a tenth, and the
    /// lateness is within it altogether (ARCHITECTURE 47).
    #[must_use]
    pub fn generator_too_late(&self) -> bool {
        let (late, p99) = (self.lateness.quantile_us(0.999), self.latencies.quantile_us(0.99));
        let spoils = p99 - p99 / 10 > self.served.quantile_us(0.99) || late > p99;
        self.is_beyond_protocol() && spoils
    }

    /// True if the test protocol's own rule would discard it.
    #[must_use]
    pub fn is_beyond_protocol(&self) -> bool {
        let (late, p99) = (self.lateness.quantile_us(0.999), self.latencies.quantile_us(0.99));
        late > (p99 / 10).max(200)
    }

    /// Pools another run into this one.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.elapsed_us += other.elapsed_us;
        self.latencies.add(&other.latencies);
        self.served.add(&other.served);
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
        let half = b.in_thousandths_of(250);
        assert_eq!((half.count(), half.quantile_us(0.5)), (2000, 2000));
    }

    /// All requests took so long, and the generator was late for one in a hundred; p99 is told as so long, and without
    /// its lateness as so long.
    fn report(late_us: u64, p99_us: u64, served_us: u64) -> LoadReport {
        let mut report = LoadReport::default();
        for number in 0..1000 {
            report.latencies.record_us(p99_us);
            report.served.record_us(served_us);
            report
                .lateness
                .record_us(if number % 100 == 0 { late_us } else { 100 });
        }
        report
    }

    #[test]
    fn a_late_generator_condemns_its_own_run_if_its_lateness_is_in_the_result() {
        for (late_us, p99_us, served_us, beyond, condemned) in [
            (100, 10_000, 9_900, false, false),
            (900, 10_000, 8_000, false, false),
            (5_000, 10_000, 9_500, true, false),
            (5_000, 10_000, 8_500, true, true),
            (11_000, 10_000, 10_000, true, true),
            (190, 500, 300, false, false),
            (250, 500, 300, true, true),
        ] {
            let report = report(late_us, p99_us, served_us);
            assert_eq!(
                report.generator_too_late(),
                condemned,
                "{late_us} {p99_us} {served_us}"
            );
            assert_eq!(report.is_beyond_protocol(), beyond, "{late_us} {p99_us}");
        }
    }
}
