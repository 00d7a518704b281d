//! Telemetry: each sample is kept for an hour in memory, five-minute means, maxima and 99th percentiles for eight
//! days in the store (design §5).
//!
//! Not done yet: feeding the firm line from the 99th percentile of production over seven days. The rows it
//! needs are kept from the first day.

use std::sync::Arc;

use loadline_model::{NodeId, NodeSample, Span, WallTime};

use super::change::Change;
use super::command::Reply;
use super::refused::Refused;
use super::rows::{BucketRow, CostRow, ResourceBucket, Stat};
use super::tx::Tx;

const BUCKET: Span = Span::from_secs(300);
const KEPT: Span = Span::from_secs(8 * 24 * 3600);
/// Eight days end once an hour: an hour's rows more cost less than looking at every tick.
const FORGET_EVERY: Span = Span::from_secs(3600);

impl Tx<'_> {
    pub(crate) fn measured(&mut self, id: NodeId, sample: NodeSample) {
        let Some(node) = self.state.nodes.get_mut(&id) else {
            return;
        };
        let before = node.pulse.samples.back().copied();
        let ended = before.map(|before| bucket_start(before.at)).filter(|ended| {
            *ended < bucket_start(sample.at) && node.last_bucket.is_none_or(|last| last < *ended)
        });
        let bucket = ended.map(|start| {
            let within = |sample: &&NodeSample| bucket_start(sample.at) == start;
            let samples: Vec<NodeSample> = node.pulse.samples.iter().filter(within).copied().collect();
            (start, aggregate(&samples))
        });
        node.pulse.measure(sample);
        self.state.touched.node(id);
        if let Some((start, mut bucket)) = bucket {
            self.keep_cost(id, start, &mut bucket);
            self.put(Change::Bucket(id, start, Arc::new(bucket)));
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

fn aggregate(samples: &[NodeSample]) -> BucketRow {
    let each = |figure: fn(&NodeSample) -> u64| samples.iter().map(figure).collect::<Vec<_>>();
    let last = samples.last();
    BucketRow {
        samples: u32::try_from(samples.len()).unwrap_or(u32::MAX),
        cpu: ResourceBucket {
            capacity: last.map_or(0, |sample| sample.cpu.capacity.0),
            reserve: last.map_or(0, |sample| sample.cpu.reserve.0),
            production: stat(each(|sample| sample.cpu.production.0)),
            lent: stat(each(|sample| sample.cpu.lent.0)),
            now_mean: stat(each(|sample| sample.cpu.now.0)).mean,
            firm_mean: stat(each(|sample| sample.cpu.firm.0)).mean,
        },
        memory: ResourceBucket {
            capacity: last.map_or(0, |sample| sample.memory.capacity.0),
            reserve: last.map_or(0, |sample| sample.memory.reserve.0),
            production: stat(each(|sample| sample.memory.production.0)),
            lent: stat(each(|sample| sample.memory.lent.0)),
            now_mean: stat(each(|sample| sample.memory.now.0)).mean,
            firm_mean: stat(each(|sample| sample.memory.firm.0)).mean,
        },
        cost: CostRow::default(),
    }
}

fn stat(mut values: Vec<u64>) -> Stat {
    values.sort_unstable();
    let count = values.len();
    let sum: u128 = values.iter().map(|value| u128::from(*value)).sum();
    let mean = u128::try_from(count)
        .ok()
        .and_then(|count| sum.checked_div(count))
        .unwrap_or(0);
    let rank = (count * 99).div_ceil(100);
    Stat {
        mean: u64::try_from(mean).unwrap_or(u64::MAX),
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
    fn buckets_begin_every_five_minutes_also_before_1970() {
        assert_eq!(bucket_start(WallTime(299_999_999)), WallTime(0));
        assert_eq!(bucket_start(WallTime(300_000_000)), WallTime(300_000_000));
        assert_eq!(bucket_start(WallTime(-1)), WallTime(-300_000_000));
    }
}
