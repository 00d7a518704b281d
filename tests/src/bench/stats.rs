//! Median and interquartile range: what a few noisy samples can bear.

/// Samples in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    sorted: Vec<f64>,
}

impl Summary {
    /// `None` without samples, or when one is not a number.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        if samples.is_empty() || samples.iter().any(|sample| sample.is_nan()) {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self { sorted })
    }

    /// The value below which a part of the samples lies, between neighbours by their distance; `parts` in quarters,
    /// so 0 is the smallest and 4 the largest.
    fn quarter(&self, parts: usize) -> f64 {
        let steps = (self.sorted.len() - 1) * parts;
        let (whole, rest) = (steps / 4, steps % 4);
        let low = self.sorted[whole];
        let high = self.sorted[(whole + 1).min(self.sorted.len() - 1)];
        low + (high - low) * [0.0, 0.25, 0.5, 0.75][rest]
    }

    /// Half of the samples lie below it.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quarter(2)
    }

    /// Distance between the quartiles.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.quarter(3) - self.quarter(1)
    }
}

/// The order in which to measure several things so that a drift of the host hits all alike: A B, B A, A B, …
#[must_use]
pub fn abba(things: usize, rounds: usize) -> Vec<usize> {
    (0..rounds)
        .flat_map(|round| {
            let forth = 0..things;
            if round % 2 == 0 {
                forth.collect::<Vec<_>>()
            } else {
                forth.rev().collect()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn median_and_spread_by_hand() {
        // 1 2 3 4: the median lies half way between 2 and 3; quartiles at 1.75 and 3.25.
        let four = Summary::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert!(close(four.median(), 2.5) && close(four.spread(), 1.5));
        // 10 20 30 40 50: quartiles are samples themselves.
        let five = Summary::of(&[50.0, 10.0, 20.0, 40.0, 30.0]).unwrap();
        assert!(close(five.median(), 30.0) && close(five.spread(), 20.0));
        let one = Summary::of(&[7.0]).unwrap();
        assert!(close(one.median(), 7.0) && close(one.spread(), 0.0));
    }

    #[test]
    fn nothing_and_not_a_number_have_no_summary() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn each_thing_is_first_as_often_as_last() {
        assert_eq!(abba(2, 4), [0, 1, 1, 0, 0, 1, 1, 0]);
        assert_eq!(abba(3, 2), [0, 1, 2, 2, 1, 0]);
    }
}
