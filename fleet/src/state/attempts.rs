//! The life of an attempt as the fleet sees it: placed, reported by its node, given up, over.
//!
//! The node has the last word on what runs. The fleet's own word is only whether an attempt still counts: one
//! that was given up with its node is stopped when it is seen again, and its end changes nothing.

use std::sync::Arc;

use loadline_model::{AttemptId, AttemptPhase, EndReason, Ended, NodeId, Peaks, WallTime};

use super::change::Change;
use super::link::Link;
use super::node_types::Reported;
use super::order::{Stop, StopReason};
use super::rows::{AttemptRow, AttemptStage, OrderRow, OrderWhat, Standing};
use super::tx::Tx;

impl Tx<'_> {
    /// A node says where an attempt stands.
    pub(crate) fn reported(&mut self, node: NodeId, report: &Reported, at: WallTime) {
        let known = self
            .state
            .attempts
            .get(&report.attempt)
            .filter(|row| row.node == node)
            .cloned();
        let Some(row) = known else {
            self.orphan(node, report);
            return;
        };
        match (&row.stage, report.phase) {
            (AttemptStage::Ended(_), AttemptPhase::Ended) => {}
            // Only what the fleet itself gave up is stopped: a report of something that ended is just old.
            (AttemptStage::Ended(verdict) | AttemptStage::GivenUp(verdict), phase)
                if phase != AttemptPhase::Ended =>
            {
                if verdict.reason == EndReason::NodeLost {
                    self.order_stop(row.id, StopReason::NodeLost);
                }
            }
            (AttemptStage::GivenUp(verdict), _) => {
                let peaks = report
                    .ended
                    .as_ref()
                    .map_or(Peaks::default(), |ended| ended.peaks);
                let verdict = Ended {
                    peaks,
                    ..(**verdict).clone()
                };
                self.over(&row, verdict);
            }
            (AttemptStage::Live(_), AttemptPhase::Ended) => {
                let ended = report.ended.clone().unwrap_or_else(|| untold(at));
                let ended = self.as_ordered(&row, ended);
                self.over(&row, ended);
            }
            (AttemptStage::Live(phase), next) => {
                if may_follow(*phase, next) {
                    self.advance(&row, report, at);
                }
            }
            (AttemptStage::Ended(_), _) => {}
        }
    }

    fn advance(&mut self, row: &AttemptRow, report: &Reported, at: WallTime) {
        let runs = matches!(report.phase, AttemptPhase::Running | AttemptPhase::Squeezed);
        let site = report.site.clone().map(|mut site| {
            self.state.shared.of_site(&mut site);
            Arc::new(site)
        });
        let next = AttemptRow {
            stage: AttemptStage::Live(report.phase),
            site: site.or_else(|| row.site.clone()),
            running_at: row.running_at.or(runs.then_some(at)),
            ..row.clone()
        };
        if next == *row {
            return;
        }
        let (job, running_at) = (next.job, next.running_at);
        self.log("attempt", "node", row.id, report.phase.word());
        self.put_attempt(next);
        self.started(job, running_at);
    }

    /// Nothing of the attempt runs any more. If it counted, its worker goes on from here.
    pub(crate) fn over(&mut self, row: &AttemptRow, ended: Ended) {
        let ended = Arc::new(ended);
        self.log("attempt", "node", row.id, ended.reason);
        self.put_attempt(AttemptRow {
            stage: AttemptStage::Ended(Arc::clone(&ended)),
            ..row.clone()
        });
        self.withdraw_orders(row.node, row.id);
        if !matches!(ended.reason, EndReason::Refused { .. }) && row.is_live() {
            self.started(row.job, None);
        }
        self.worker_ended(row, &ended);
    }

    /// The attempt no longer counts; what may run of it is stopped when its node is seen again.
    pub(crate) fn give_up(&mut self, row: &AttemptRow, detail: &str) {
        let ended = Arc::new(Ended {
            reason: EndReason::NodeLost,
            at: self.now.wall,
            peaks: Peaks::default(),
            detail: detail.to_owned(),
        });
        self.log("attempt", "fleet", row.id, EndReason::NodeLost);
        self.put_attempt(AttemptRow {
            stage: AttemptStage::GivenUp(Arc::clone(&ended)),
            ..row.clone()
        });
        self.order_stop(row.id, StopReason::NodeLost);
        self.worker_ended(row, &ended);
    }

    /// Orders an attempt to stop, once.
    pub(crate) fn order_stop(&mut self, id: AttemptId, why: StopReason) {
        let Some(row) = self
            .state
            .attempts
            .get(&id)
            .cloned()
            .filter(|row| row.stop.is_none())
        else {
            return;
        };
        let Some(node) = self.state.nodes.get(&row.node) else {
            return;
        };
        if node.row.standing == Standing::Banned {
            return;
        }
        let grace = self
            .state
            .jobs
            .get(&row.job)
            .map(|job| job.row.spec.grace)
            .unwrap_or_default();
        self.order(row.node, id, OrderWhat::Stop(Stop { why, grace }));
        self.put_attempt(AttemptRow {
            stop: Some(why),
            ..(*row).clone()
        });
    }

    /// Makes the next order of a node.
    pub(crate) fn order(&mut self, node: NodeId, attempt: AttemptId, what: OrderWhat) {
        let Some(mut progress) = self.state.nodes.get(&node).map(|node| node.progress) else {
            return;
        };
        progress.generation = progress.generation.next();
        let row = OrderRow {
            epoch: self.state.epoch,
            issued_at: self.now.wall,
            attempt,
            what,
        };
        self.put(Change::Order(node, progress.generation, Some(row)));
        self.put_progress(node, progress);
    }

    /// Takes back the orders about an attempt that are not in the node's ledger yet.
    pub(crate) fn withdraw_orders(&mut self, node: NodeId, attempt: AttemptId) {
        let orders = self.state.nodes.get(&node).map(|node| &node.orders);
        let about: Vec<_> = orders
            .into_iter()
            .flatten()
            .filter_map(|(generation, order)| (order.attempt == attempt).then_some(*generation))
            .collect();
        for generation in about {
            self.put(Change::Order(node, generation, None));
        }
    }

    /// Something runs, or ran, that the fleet knows nothing of: shown with its node and left alone.
    fn orphan(&mut self, node: NodeId, report: &Reported) {
        let Some(link) = self.state.nodes.get(&node).and_then(|node| node.link.clone()) else {
            return;
        };
        let mut orphans: Vec<Reported> = link
            .orphans
            .iter()
            .filter(|other| other.attempt != report.attempt)
            .cloned()
            .collect();
        if report.phase != AttemptPhase::Ended {
            orphans.push(report.clone());
        }
        if orphans != link.orphans {
            self.put_link(
                node,
                Link {
                    orphans,
                    ..(*link).clone()
                },
            );
        }
    }
}

/// Phases go forward, but running and squeezed alternate. An older report that comes late changes nothing.
fn may_follow(now: AttemptPhase, next: AttemptPhase) -> bool {
    let rank = |phase| match phase {
        AttemptPhase::Assigned => 0,
        AttemptPhase::Starting => 1,
        AttemptPhase::Running | AttemptPhase::Squeezed => 2,
        AttemptPhase::Stopping => 3,
        AttemptPhase::Ended => 4,
    };
    rank(next) >= rank(now)
}

/// A node that says that an attempt ended, but not how.
pub(crate) fn untold(at: WallTime) -> Ended {
    Ended {
        reason: EndReason::NodeLost,
        at,
        peaks: Peaks::default(),
        detail: "the node does not know how it ended".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_go_forward_and_squeezing_ends() {
        use AttemptPhase::{Assigned, Ended, Running, Squeezed, Starting, Stopping};
        let all = [Assigned, Starting, Running, Squeezed, Stopping, Ended];
        let allowed = [
            [true, true, true, true, true, true],
            [false, true, true, true, true, true],
            [false, false, true, true, true, true],
            [false, false, true, true, true, true],
            [false, false, false, false, true, true],
            [false, false, false, false, false, true],
        ];
        for (now, row) in all.into_iter().zip(allowed) {
            for (next, expected) in all.into_iter().zip(row) {
                assert_eq!(may_follow(now, next), expected, "{now:?} → {next:?}");
            }
        }
    }
}
