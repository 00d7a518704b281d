//! The longest waits of lately, in fixed room: how often a wait fell into each of a row of steps. Once there are many,
//! all counts are halved, so that what does not come again is forgotten.

/// Waits are told apart in steps of so many µs …
const STEP: u64 = 4_000;
/// … up to a tenth of a second.
const STEPS: usize = 25;
/// So many are remembered before half of each count is forgotten: a hundred seconds of tenths.
const MANY: u16 = 1_000;
/// One that came a single time may be a start or a stop: not a habit.
const HABIT: u16 = 2;

/// Counts of waits by length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    counts: [u16; STEPS],
    all: u16,
}

impl Tail {
    pub(super) const NEW: Self = Self {
        counts: [0; STEPS],
        all: 0,
    };

    /// One more wait, in µs.
    pub(super) fn add(&mut self, waited: u64) {
        let step = usize::try_from(waited / STEP).unwrap_or(STEPS).min(STEPS - 1);
        self.counts[step] += 1;
        self.all += 1;
        if self.all >= MANY {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.all = self.counts.iter().sum();
        }
    }

    /// The end of the step into which the longest fell that came more than once, in µs; zero without any.
    pub(super) fn longest(&self) -> u64 {
        let mut longer = 0;
        let step = self.counts.iter().rposition(|count| {
            longer += count;
            longer >= HABIT
        });
        step.map_or(0, |step| (step as u64 + 1) * STEP)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_come_again_is_forgotten() {
        let mut tail = Tail::NEW;
        (0..2).for_each(|_| tail.add(50_000));
        assert_eq!(tail.longest(), 52_000);
        (0..998).for_each(|_| tail.add(1_000));
        assert_eq!(tail.longest(), 4_000, "halved, it came once");
    }

    proptest! {
        #[test]
        fn it_is_the_second_longest_and_at_most_a_step_more(waits in prop::collection::vec(0u64..99_999, 2..999)) {
            let mut tail = Tail::NEW;
            waits.iter().for_each(|waited| tail.add(*waited));
            let mut sorted: Vec<u64> = waits;
            sorted.sort_unstable();
            let second = sorted[sorted.len() - 2];
            prop_assert!((second + 1..=second + STEP).contains(&tail.longest()));
        }
    }
}
