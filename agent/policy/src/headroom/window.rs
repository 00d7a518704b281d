//! The last 10 s, a tenth of a second at a time.

use loadline_model::Span;

use super::prorate;
use super::stall::{Kind, Waits};

/// What one bucket stands for.
pub(super) const TENTH: Span = Span::from_millis(100);
/// 10 s of them.
const BUCKETS: usize = 100;
/// A second of them.
const SECOND: usize = 10;
/// Three of four seconds are no busier.
const USUAL: usize = 75;
/// 2 s of them: what a cut is judged by.
pub(super) const SHORT: usize = 20;

/// A tenth of a second; CPU in millionths of one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    production: u64,
    waited: [Span; 3],
}

/// A ring of buckets; none where nothing was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    buckets: [Option<Bucket>; BUCKETS],
    next: usize,
}

/// How often a time goes into the ring: at least once, and never round it twice.
fn tenths(passed: Span) -> usize {
    let rounded = passed.plus(Span(TENTH.0 / 2)).0 / TENTH.0;
    usize::try_from(rounded).unwrap_or(BUCKETS).min(BUCKETS)
}

impl Window {
    pub(super) const fn new() -> Self {
        Self {
            buckets: [None; BUCKETS],
            next: 0,
        }
    }

    /// Production's use over a time; a late look fills every bucket it covers with the same.
    pub(super) fn push(&mut self, production: u64, waits: &Waits, passed: Span) {
        let times = tenths(passed).max(1);
        let waited = waits.map(|wait| Span(wait.unwrap_or_default().0 / times as u64));
        self.fill(Some(Bucket { production, waited }), times);
    }

    /// A time about which nothing is known.
    pub(super) fn skip(&mut self, passed: Span) {
        self.fill(None, tenths(passed));
    }

    fn fill(&mut self, bucket: Option<Bucket>, times: usize) {
        for _ in 0..times {
            self.buckets[self.next] = bucket;
            self.next = (self.next + 1) % BUCKETS;
        }
    }

    /// The [`USUAL`] percentile, by nearest rank, of production's mean use over each second of the 10 s, whenever it
    /// begins. Only seconds that are known whole count; while there is none, the highest tenth does.
    pub(super) fn usual_second(&self) -> u64 {
        let mut seconds = [0; BUCKETS];
        let (mut count, mut sum, mut run) = (0, 0, 0);
        for age in (0..BUCKETS).rev() {
            let Some(bucket) = self.back(age) else {
                (sum, run) = (0, 0);
                continue;
            };
            sum += bucket.production;
            run += 1;
            if run > SECOND {
                sum -= self.back(age + SECOND).map_or(0, |first| first.production);
            }
            if run >= SECOND {
                seconds[count] = sum.div_ceil(SECOND as u64);
                count += 1;
            }
        }
        let rank = (count * USUAL).div_ceil(100);
        if rank == 0 {
            let known = self.buckets.iter().flatten();
            return known.map(|bucket| bucket.production).max().unwrap_or(0);
        }
        *seconds[..count].select_nth_unstable(rank - 1).1
    }

    /// The bucket of so many tenths ago.
    const fn back(&self, age: usize) -> Option<Bucket> {
        self.buckets[(self.next + 2 * BUCKETS - 1 - age) % BUCKETS]
    }

    /// The mean of production's use over the 10 s.
    pub(super) fn mean(&self) -> u64 {
        let sum: u64 = self
            .buckets
            .iter()
            .flatten()
            .map(|bucket| bucket.production)
            .sum();
        sum / BUCKETS as u64
    }

    /// How long production waited in the 10 s.
    pub(super) fn waited(&self, kind: Kind) -> Span {
        let all = self.buckets.iter().flatten();
        all.fold(Span::ZERO, |sum, bucket| sum.plus(bucket.waited[kind.index()]))
    }

    /// How long production waited in the last 2 s, and how long ago that began.
    pub(super) fn waited_lately(&self, kind: Kind) -> (Span, Span) {
        let mut sum = Span::ZERO;
        let mut began = Span::ZERO;
        for age in 0..SHORT {
            let waited = self
                .back(age)
                .map_or(Span::ZERO, |bucket| bucket.waited[kind.index()]);
            sum = sum.plus(waited);
            if !waited.is_zero() {
                began = TENTH.times(age as u64 + 1);
            }
        }
        (sum, began)
    }
}

/// CPU time over a time, in millionths of one thread.
pub(super) fn rate(used: Span, passed: Span) -> u64 {
    prorate(used.0, 1_000_000, passed.0)
}
