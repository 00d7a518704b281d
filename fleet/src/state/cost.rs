//! What lending has cost each node, over the last days.
//!
//! A node counts since its warden started; what is kept is by how much these counts grew, five minutes at a time,
//! together with how far they have been taken over. So nothing is counted twice and nothing is lost when fleetd or a
//! warden starts anew: a warden's new start counts from zero under another name. In memory there are quarters of days
//! only: ten thousand nodes have two thousand rows each.

use std::sync::Arc;

use loadline_model::{MilliCpu, NodeId, Span, WallTime};

use super::change::Change;
use super::command::Now;
use super::node_types::{Cost, CostCounts, Word};
use super::refused::Refused;
use super::rows::{BucketRow, CostRow, Standing};
use super::tx::Tx;
use super::view::NodeHeadroom;
use super::{Node, State};

/// What costs are added up over in memory.
pub(crate) const QUARTER: Span = Span::from_secs(6 * 3600);
/// What is shown: whole quarters, so a little less at times.
const WEEK: Span = Span::from_secs(7 * 24 * 3600);
/// Nodes send a sample this often.
const SAMPLE: Span = Span::from_secs(5);

/// The quarter of a day that a moment lies in.
pub(crate) const fn quarter(at: WallTime) -> WallTime {
    let length = QUARTER.0.cast_signed();
    WallTime(at.0.div_euclid(length).saturating_mul(length))
}

/// By how much a node's counts have grown since they were last taken over.
fn grown(counted: Option<&CostCounts>, now: &CostCounts) -> Cost {
    match counted {
        Some(before) if before.since == now.since => now.cost.minus(before.cost),
        // Another start: it counts from zero.
        _ => now.cost,
    }
}

impl Tx<'_> {
    /// A fact about the world, like a sample.
    pub(crate) fn heard_word(&mut self, id: NodeId, word: Word) {
        let Some(node) = self.state.nodes.get_mut(&id) else {
            return;
        };
        let before = node.pulse.word.as_ref().and_then(|word| word.counts.as_ref());
        if let (Some(before), Some(now)) = (before, &word.counts)
            && before.since != now.since
        {
            let last = grown(node.counted.as_deref(), before);
            node.pulse.carried = node.pulse.carried.plus(last);
        }
        node.pulse.word = Some(Box::new(word));
    }

    /// Five minutes are over: what they cost goes with them.
    pub(crate) fn keep_cost(&mut self, id: NodeId, start: WallTime, bucket: &mut BucketRow) {
        let Some(node) = self.state.nodes.get_mut(&id) else {
            return;
        };
        let counts = node.pulse.word.as_ref().and_then(|word| word.counts.clone());
        let carried = std::mem::take(&mut node.pulse.carried);
        let now = counts
            .as_ref()
            .map_or(Cost::default(), |now| grown(node.counted.as_deref(), now));
        let observed = Span(SAMPLE.0.saturating_mul(u64::from(bucket.samples)));
        bucket.cost = CostRow {
            cost: carried.plus(now),
            lent: used(MilliCpu(bucket.cpu.lent.mean), observed),
            observed,
        };
        let begins = quarter(start);
        let sum = node
            .costs
            .get(&begins)
            .copied()
            .unwrap_or_default()
            .plus(bucket.cost);
        let oldest = begins.0.saturating_sub(i64::try_from(WEEK.0).unwrap_or(i64::MAX));
        let old: Vec<WallTime> = node.costs.range(..WallTime(oldest)).map(|(at, _)| *at).collect();
        self.put(Change::Costs(id, begins, Some(sum)));
        for at in old {
            self.put(Change::Costs(id, at, None));
        }
        if let Some(counts) = counts {
            self.put(Change::Counted(id, Some(Arc::new(counts))));
        }
    }
}

/// CPU time from a share of it.
fn used(cpu: MilliCpu, time: Span) -> Span {
    let micros = u128::from(cpu.0) * u128::from(time.0) / 1000;
    Span(u64::try_from(micros).unwrap_or(u64::MAX))
}

impl State {
    /// What nodes keep, lend and have cost over the last seven days.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn headroom(&self, node: Option<&str>, now: Now) -> Result<Vec<NodeHeadroom>, Refused> {
        let one = node.map(|name| self.node_named(name)).transpose()?;
        let mut nodes: Vec<&Node> = self
            .nodes
            .values()
            .filter(|node| one.is_none_or(|id| id == node.row.id) && node.row.standing != Standing::Banned)
            .collect();
        nodes.sort_by_key(|node| (&node.row.name, node.row.id));
        let week = i64::try_from(WEEK.0).unwrap_or(i64::MAX);
        let since = WallTime(now.wall.0.saturating_sub(week));
        let of = |node: &Node| {
            let costs = node.costs.range(since..).map(|(_, cost)| *cost);
            let kept = costs.fold(CostRow::default(), CostRow::plus);
            // What was counted since the last five minutes were kept.
            let counts = node.pulse.word.as_ref().and_then(|word| word.counts.as_ref());
            let fresh = counts.map_or(Cost::default(), |now| grown(node.counted.as_deref(), now));
            let cost = kept.cost.plus(fresh).plus(node.pulse.carried);
            NodeHeadroom {
                summary: self.node_summary(node, now),
                week: CostRow { cost, ..kept },
            }
        };
        Ok(nodes.into_iter().map(of).collect())
    }
}
