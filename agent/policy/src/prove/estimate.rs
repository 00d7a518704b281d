//! From latencies to a verdict: quantiles, ratios of pairs, their median, a bootstrap interval, in integers.
//!
//! A p99 of one round wanders; the ratio of two rounds next to each other wanders less, since what the machine does
//! meanwhile hits both. How sure the median of few ratios is shows the percentile bootstrap (Efron 1979): the ratios
//! are drawn anew with replacement many times, and 95 of 100 medians lie in the interval. The draws come from a fixed
//! seed, so that a report can be computed again from its rounds.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use loadline_model::{PerMille, Span};
use serde::{Deserialize, Serialize};

use super::plan::PAIRS_MIN;

/// The promise of design P1: production's p99 with lent work is within these of its p99 alone.
const PROTECTED_MEDIAN: Ratio = Ratio(1100);
const PROTECTED_UPPER: Ratio = Ratio(1250);
/// Enough that the ends of the interval do not wander by themselves.
const DRAWS: usize = 2000;
/// 2.5 of 100 lie below the interval.
const TAIL: usize = DRAWS * 25 / 1000;
/// More rounds than this are not advised but said to be hopeless.
const MORE_MAX: u32 = 1000;
/// The generator's own lateness may be this share of what it measures …
const LATENESS: PerMille = PerMille(100);
/// … or this: the kernel wakes no one more exactly on a virtual machine. Or more, …
const LATENESS_GRANTED: Span = Span(200);
/// … up to this share, if what it measures is the same without it, to within the first.
const LATENESS_MOST: PerMille = PerMille(250);

/// A ratio in thousandths: 1100 is 1.10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ratio(pub u64);

impl Ratio {
    /// `lent` to `alone`; what took no time at all is taken as a microsecond.
    pub fn of(lent: Span, alone: Span) -> Self {
        let alone = alone.0.max(1);
        Self((lent.0.saturating_mul(1000).saturating_add(alone / 2)) / alone)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 1000, self.0 % 1000 / 10)
    }
}

/// The latency that this share of all stayed within: the smallest one that at least so many are not above. None of none.
pub fn quantile(sorted: &[Span], share: PerMille) -> Option<Span> {
    let rank = (sorted.len() * usize::from(share.0)).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied()
}

/// True if the generator was on time enough to judge anyone. `served_p99`: the latencies' without its lateness.
pub fn on_time(lateness_p99: Span, p99: Span, served_p99: Span) -> bool {
    let hidden = p99.minus(served_p99) <= p99.share(LATENESS) && lateness_p99 <= p99.share(LATENESS_MOST);
    hidden || lateness_p99 <= p99.share(LATENESS).max(LATENESS_GRANTED)
}

/// The median; of an even number the middle between the two. None of none.
pub fn median(values: &[Ratio]) -> Option<Ratio> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let upper = sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    let lower = sorted.get(sorted.len() / 2 - 1)?;
    Some(Ratio(lower.0.saturating_add(upper.0) / 2))
}

/// Where the true median lies, 95 times of 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub lower: Ratio,
    /// Its upper end.
    pub upper: Ratio,
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    /// From a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..count`, each as likely as the others to within 2^-32.
    fn below(&mut self, count: usize) -> usize {
        let scaled = (self.next() >> 32).saturating_mul(count as u64) >> 32;
        usize::try_from(scaled).unwrap_or(0)
    }
}

/// The 95 % interval of the median. None of none.
pub fn interval(values: &[Ratio], seed: u64) -> Option<Interval> {
    let mut draws = Draws::new(seed);
    let mut medians = Vec::with_capacity(DRAWS);
    let mut drawn = values.to_vec();
    for _ in 0..DRAWS {
        for place in &mut drawn {
            *place = *values.get(draws.below(values.len()))?;
        }
        medians.push(median(&drawn)?);
    }
    medians.sort_unstable();
    Some(Interval {
        lower: *medians.get(TAIL)?,
        upper: *medians.get(DRAWS - 1 - TAIL)?,
    })
}

/// What the pairs of one resource say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Lent work cost production next to nothing: the median ratio is at most 1.10, surely at most 1.25.
    Protected,
    /// It cost production something: the ratio is surely above 1.10.
    Cost,
    /// The interval is too wide to say.
    Unclear {
        /// About so many more rounds would tell; none: not even a thousand would.
        more_rounds: Option<u32>,
    },
    /// Nothing was measured.
    NotMeasured {
        /// Why.
        why: String,
    },
}

impl Verdict {
    /// The word used in reports.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::Cost => "cost",
            Self::Unclear { .. } => "unclear",
            Self::NotMeasured { .. } => "not measured",
        }
    }
}

/// The verdict on so many pairs.
pub fn verdict(pairs: u32, median: Ratio, interval: Interval) -> Verdict {
    if pairs < PAIRS_MIN {
        return Verdict::Unclear {
            more_rounds: Some(PAIRS_MIN - pairs),
        };
    }
    if interval.upper <= PROTECTED_UPPER && median <= PROTECTED_MEDIAN {
        return Verdict::Protected;
    }
    if interval.lower > PROTECTED_MEDIAN {
        return Verdict::Cost;
    }
    let more_rounds = more(pairs, median, interval);
    Verdict::Unclear { more_rounds }
}

/// An interval narrows with the root of the number of pairs: so many more until it lies on one side of the mark.
fn more(pairs: u32, median: Ratio, interval: Interval) -> Option<u32> {
    let (reach, room) = if median <= PROTECTED_MEDIAN {
        (
            interval.upper.0.saturating_sub(median.0),
            PROTECTED_UPPER.0 - median.0,
        )
    } else {
        (
            median.0.saturating_sub(interval.lower.0),
            median.0 - PROTECTED_MEDIAN.0,
        )
    };
    let squared = |value: u64| value.saturating_mul(value);
    let needed = u64::from(pairs)
        .saturating_mul(squared(reach))
        .div_ceil(squared(room).max(1));
    let more = u32::try_from(needed)
        .unwrap_or(u32::MAX)
        .saturating_sub(pairs)
        .max(1);
    (more <= MORE_MAX).then_some(more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ratios(list: &[u64]) -> Vec<Ratio> {
        list.iter().map(|thousandths| Ratio(*thousandths)).collect()
    }

    const fn between(lower: u64, upper: u64) -> Interval {
        Interval {
            lower: Ratio(lower),
            upper: Ratio(upper),
        }
    }

    #[test]
    fn quantiles_by_hand() {
        let ten: Vec<Span> = (1..=10).map(Span).collect();
        // Half of ten: the fifth. 99 of 100 of ten: 9.9, so the tenth. 900 of 1000: the ninth.
        let of = |share| quantile(&ten, PerMille(share));
        assert_eq!(
            [of(500), of(990), of(900), of(901)],
            [5, 10, 9, 10].map(|us| Some(Span(us)))
        );
        assert_eq!(of(0), Some(Span(1)));
        assert_eq!(quantile(&[], PerMille(990)), None);
        let thousand: Vec<Span> = (1..=1000).map(Span).collect();
        assert_eq!(quantile(&thousand, PerMille(990)), Some(Span(990)));
    }

    #[test]
    fn ratios_and_medians_by_hand() {
        assert_eq!(Ratio::of(Span(1100), Span(1000)), Ratio(1100));
        assert_eq!(Ratio::of(Span(2), Span(3)), Ratio(667), "rounded");
        assert_eq!(Ratio::of(Span(5), Span(0)), Ratio(5000));
        assert_eq!(
            Ratio(1087).to_string(),
            "1.08",
            "never better than it is by much, never rounded up past a mark"
        );
        assert_eq!(median(&ratios(&[1300, 900, 1000])), Some(Ratio(1000)));
        assert_eq!(median(&ratios(&[1300, 900, 1000, 1100])), Some(Ratio(1050)));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn an_interval_by_hand() {
        let same = ratios(&[1030; 5]);
        assert_eq!(interval(&same, 1), Some(between(1030, 1030)));
        // Of three values, all draws the same one with probability 1/27 (3.7 %), more than a tail's 2.5 %, and the
        // median is the smallest if at least two of three draws are: 7/27. So the interval ends at the extremes.
        let three = ratios(&[900, 1000, 1200]);
        assert_eq!(interval(&three, 1), Some(between(900, 1200)));
        assert_eq!(
            interval(&three, 1),
            interval(&three, 1),
            "the same seed, the same interval"
        );
        // Of eleven the median is the smallest only if six or more draws are: a chance of 0.02 %.
        let eleven = ratios(&[500, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 2000]);
        assert_eq!(interval(&eleven, 3), Some(between(1000, 1000)));
        assert_eq!(interval(&[], 1), None);
    }

    #[test]
    fn verdicts_at_their_marks() {
        let of = |median, lower, upper| verdict(5, Ratio(median), between(lower, upper));
        assert_eq!(of(1000, 950, 1050), Verdict::Protected);
        assert_eq!(of(1100, 1000, 1250), Verdict::Protected);
        assert_eq!(of(1300, 1101, 1600), Verdict::Cost);
        assert!(matches!(of(1300, 1100, 1600), Verdict::Unclear { .. }));
        assert!(matches!(of(1101, 1000, 1200), Verdict::Unclear { .. }));
        assert!(matches!(of(1000, 900, 1251), Verdict::Unclear { .. }));
        let few = verdict(3, Ratio(1000), between(1000, 1000));
        assert_eq!(few, Verdict::Unclear { more_rounds: Some(1) });
    }

    #[test]
    fn how_many_more_by_hand() {
        // Reach 500 above the median, room 250: half as wide needs four times the pairs, 20, so 15 more.
        let wide = verdict(5, Ratio(1000), between(900, 1500));
        assert_eq!(
            wide,
            Verdict::Unclear {
                more_rounds: Some(15)
            }
        );
        // Median 1200: 200 below it are needed to be above 1100 by 100: 4 × 5 − 5.
        let costly = verdict(5, Ratio(1200), between(1000, 1300));
        assert_eq!(
            costly,
            Verdict::Unclear {
                more_rounds: Some(15)
            }
        );
        // One thousandth above the mark: hopeless.
        let edge = verdict(5, Ratio(1101), between(1000, 1300));
        assert_eq!(edge, Verdict::Unclear { more_rounds: None });
    }

    #[test]
    fn a_late_generator_judges_no_one() {
        for (late, p99, served, good) in [
            (1000, 10_000, 5_000, true),
            (1001, 10_000, 8_999, false),
            (1001, 10_000, 9_000, true),
            (2501, 10_000, 10_000, false),
            // Granted in any case.
            (200, 500, 300, true),
            (201, 500, 300, false),
        ] {
            let told = on_time(Span(late), Span(p99), Span(served));
            assert_eq!(told, good, "{late} {p99} {served}");
        }
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_median_and_stays_within_the_values(
            values in prop::collection::vec(500u64..3000, 1..12), seed in any::<u64>(),
        ) {
            let values = ratios(&values);
            let (middle, found) = (median(&values).unwrap(), interval(&values, seed).unwrap());
            prop_assert!(found.lower <= middle && middle <= found.upper);
            prop_assert!(found.lower >= *values.iter().min().unwrap());
            prop_assert!(found.upper <= *values.iter().max().unwrap());
        }

        #[test]
        fn worse_ratios_never_give_a_better_verdict(
            values in prop::collection::vec(800u64..1600, 4..10), worse in 0u64..500,
        ) {
            let rank = |list: Vec<Ratio>| {
                let pairs = u32::try_from(list.len()).unwrap();
                match verdict(pairs, median(&list).unwrap(), interval(&list, 7).unwrap()) {
                    Verdict::Protected => 0,
                    Verdict::Unclear { .. } => 1,
                    Verdict::Cost => 2,
                    Verdict::NotMeasured { .. } => 3,
                }
            };
            let better = rank(ratios(&values));
            let shifted: Vec<u64> = values.iter().map(|value| value + worse).collect();
            prop_assert!(rank(ratios(&shifted)) >= better);
        }
    }
}
