//! Telemetry: five-minute means, maxima and 99th percentiles, for eight days in the store (design §5).
//!
//! Of single samples memory keeps the last one, and of the five minutes under way what their figures follow from:
//! an hour of whole samples, which nothing read, took more than a gigabyte for 10,000 nodes.
//!
//! Not done yet: feeding the firm line from the 99th percentile of production over seven days. The rows it
//! needs are kept from the first day.

use std::sync::Arc;

use loadline_model::{NodeId, NodeSample, Span, WallTime};

use super::change::Change;
use super::command::Reply;
use super::link::Pulse;
use super::refused::Refused;
use super::rows::{BucketRow, CostRow, ResourceBucket, Stat};
use super::tx::Tx;

const BUCKET: Span = Span::from_secs(300);
/// As many as a node sends in five minutes, one each 5 s, and as many again.
const SAMPLES_MAX: usize = 120;
const KEPT: Span = Span::from_secs(8 * 24 * 3600);
/// Eight days end once an hour: an hour's rows more cost less than looking at every tick.
const FORGET_EVERY: Span = Span::from_secs(3600);

impl Tx<'_> {
    pub(crate) fn measured(&mut self, id: NodeId, sample: NodeSample) {
        let Some(node) = self.state.nodes.get_mut(&id) else {
            return;
        };
        let start = bucket_start(sample.at);
        let Pulse {
            sample: last,
            gathered,
            ..
        } = &mut node.pulse;
        let before = last.replace(sample);
        let ended = before
            .filter(|before| bucket_start(before.at) != start)
            .and_then(|before| {
                let (begun, bucket) = (bucket_start(before.at), std::mem::take(gathered).figures(&before));
                let fresh = begun < start && node.last_bucket.is_none_or(|last| last < begun);
                fresh.then_some((begun, bucket))
            });
        gathered.add(&sample);
        self.state.touched.node(id);
        if let Some((begun, mut bucket)) = ended {
            self.keep_cost(id, begun, &mut bucket);
            self.put(Change::Bucket(id, begun, Arc::new(bucket)));
        }
    }

    /// A fact about the world, like a sample: nothing durable follows from it, only what may be placed.
    pub(crate) fn warden_said(&mut self, id: NodeId, problem: Option<String>) -> Result<Reply, Refused> {
        if let Some(node) = self.state.nodes.get_mut(&id) {
            node.pulse.warden_problem = problem;
            self.state.touched.node(id);
        }
        Ok(Reply::Done)
    }

    pub(crate) fn forget_old_buckets(&mut self) {
        let now = self.now;
        if now.mono.minus(self.state.forgot_buckets) < FORGET_EVERY {
            return;
        }
        self.state.forgot_buckets = now.mono;
        let kept = i64::try_from(KEPT.0).unwrap_or(i64::MAX);
        self.put(Change::ForgetBuckets(WallTime(now.wall.0.saturating_sub(kept))));
    }
}

fn bucket_start(at: WallTime) -> WallTime {
    let length = i64::try_from(BUCKET.0).unwrap_or(i64::MAX);
    WallTime(at.0.div_euclid(length).saturating_mul(length))
}

/// The five minutes under way of one node. A clock that goes back begins them anew.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gathered {
    cpu: Used,
    memory: Used,
}

/// What was measured of one resource.
#[derive(Debug, Clone, Default)]
struct Used {
    production: Vec<u64>,
    lent: Vec<u64>,
    now: u128,
    firm: u128,
}

impl Gathered {
    fn add(&mut self, sample: &NodeSample) {
        let NodeSample { cpu, memory, .. } = sample;
        self.cpu
            .add([cpu.production.0, cpu.lent.0, cpu.now.0, cpu.firm.0]);
        self.memory
            .add([memory.production.0, memory.lent.0, memory.now.0, memory.firm.0]);
    }

    fn figures(self, last: &NodeSample) -> BucketRow {
        BucketRow {
            samples: u32::try_from(self.cpu.production.len()).unwrap_or(u32::MAX),
            cpu: self.cpu.figures(last.cpu.capacity.0, last.cpu.reserve.0),
            memory: self.memory.figures(last.memory.capacity.0, last.memory.reserve.0),
            cost: CostRow::default(),
        }
    }
}

impl Used {
    fn add(&mut self, [production, lent, now, firm]: [u64; 4]) {
        // A node whose clock stands still must not fill the memory.
        if self.production.len() < SAMPLES_MAX {
            self.production.push(production);
            self.lent.push(lent);
            self.now += u128::from(now);
            self.firm += u128::from(firm);
        }
    }

    fn figures(self, capacity: u64, reserve: u64) -> ResourceBucket {
        let count = self.production.len();
        ResourceBucket {
            capacity,
            reserve,
            production: stat(self.production),
            lent: stat(self.lent),
            now_mean: mean(self.now, count),
            firm_mean: mean(self.firm, count),
        }
    }
}

fn mean(sum: u128, count: usize) -> u64 {
    let count = u128::try_from(count).unwrap_or(u128::MAX);
    let mean = sum.checked_div(count).unwrap_or(0);
    u64::try_from(mean).unwrap_or(u64::MAX)
}

fn stat(mut values: Vec<u64>) -> Stat {
    values.sort_unstable();
    let count = values.len();
    let sum: u128 = values.iter().map(|value| u128::from(*value)).sum();
    let rank = (count * 99).div_ceil(100);
    Stat {
        mean: mean(sum, count),
        max: values.last().copied().unwrap_or(0),
        p99: rank
            .checked_sub(1)
            .and_then(|index| values.get(index))
            .copied()
            .unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_the_nearest_rank() {
        // Of 1..=200 the 99 % rank is 198; of a hundred values the 99th; of sixty the last.
        assert_eq!(
            stat((1..=200).rev().collect()),
            Stat {
                mean: 100,
                max: 200,
                p99: 198
            }
        );
        assert_eq!(stat((1..=100).collect()).p99, 99);
        assert_eq!(stat((1..=60).collect()).p99, 60);
        assert_eq!(stat(Vec::new()), Stat::default());
    }

    #[test]
    fn a_clock_that_stands_still_fills_no_memory() {
        let sample = NodeSample {
            at: WallTime(0),
            cpu: loadline_model::ResourceSample::default(),
            memory: loadline_model::ResourceSample::default(),
            pressure: loadline_model::Pressure::default(),
        };
        let mut gathered = Gathered::default();
        for _ in 0..10 * SAMPLES_MAX {
            gathered.add(&sample);
        }
        assert_eq!(
            usize::try_from(gathered.figures(&sample).samples),
            Ok(SAMPLES_MAX)
        );
    }

    #[test]
    fn buckets_begin_every_five_minutes_also_before_1970() {
        assert_eq!(bucket_start(WallTime(299_999_999)), WallTime(0));
        assert_eq!(bucket_start(WallTime(300_000_000)), WallTime(300_000_000));
        assert_eq!(bucket_start(WallTime(-1)), WallTime(-300_000_000));
    }
}
