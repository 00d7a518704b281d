//! Interference tests that operators have nodes run: ordered like a ceiling, answered by the node.
//!
//! One test a node at a time. Only the newest word about it counts, to begin or to end it, so it is a row of its own
//! rather than a queue of orders. The node says how it goes; the last report of a node is kept beside the test, so that a
//! test that comes to nothing does not take the report before it away. A node that never answers does not keep the
//! operator waiting: what is owed is given up after a time, and believed all the same should it still come.

use std::sync::Arc;

use loadline_model::{NodeId, ProveAsk, Span, WallTime};

use super::change::Change;
use super::command::{Now, Reply};
use super::node_types::{ProveConsent, ProveNews, ProveReport, ProveStage};
use super::order::{Order, OrderKind, Prove};
use super::refused::Refused;
use super::rows::{ProveRow, ReportRow};
use super::tx::Tx;
use super::view::ProveView;
use super::{Generation, Node, State};

/// What a node may send in one report; its own programs keep to less.
const REPORT_MAX: usize = 640 * 1024;
/// Reports are in memory: so many nodes have one, the newest.
const REPORTS_KEPT: usize = 100;
/// After its limit a test has to be taken away, written down and told.
const PATIENCE: Span = Span::from_secs(300);

impl Tx<'_> {
    pub(crate) fn begin_prove(&mut self, by: &str, name: &str, ask: ProveAsk) -> Result<Reply, Refused> {
        let id = self.state.node_named(name)?;
        let node = self.node(id)?;
        let name = node.row.name.clone();
        let Some(inventory) = &node.row.inventory else {
            return Err(Refused::NodeNeverSeen(name));
        };
        match inventory.prove {
            None => return Err(Refused::ProveTooOld(name)),
            Some(ProveConsent::Refuse) => return Err(Refused::ProveForbidden(name)),
            Some(ProveConsent::Allow) => {}
        }
        if let Some(row) = node.prove.as_ref().filter(|row| row.is_open()) {
            return Err(Refused::ProveRuns(name, row.by.clone()));
        }
        if !self.state.is_connected(node, self.now) {
            return Err(Refused::NodeSilent(name));
        }
        let run = self.ids.test(self.now);
        self.log("prove_begun", by, &name, run);
        let row = ProveRow {
            run,
            by: by.to_owned(),
            ask,
            at: self.now.wall,
            stopped_by: None,
            epoch: self.state.epoch,
            generation: Generation(0),
            stage: ProveStage::Ordered,
            sentence: String::new(),
            changed: self.now.wall,
        };
        self.order_prove(id, row)
    }

    pub(crate) fn stop_prove(&mut self, by: &str, name: &str) -> Result<Reply, Refused> {
        let id = self.state.node_named(name)?;
        let node = self.node(id)?;
        let Some(row) = node.prove.clone().filter(|row| row.is_open()) else {
            return Err(Refused::NoProve(node.row.name.clone()));
        };
        if row.stopped_by.is_some() {
            return Ok(Reply::Prove(Box::new(self.state.prove_view(id, self.now)?)));
        }
        let name = node.row.name.clone();
        self.log("prove_stopped", by, &name, row.run);
        let row = ProveRow {
            stopped_by: Some(by.to_owned()),
            epoch: self.state.epoch,
            ..(*row).clone()
        };
        self.order_prove(id, row)
    }

    fn order_prove(&mut self, id: NodeId, row: ProveRow) -> Result<Reply, Refused> {
        let mut progress = self.node(id)?.progress;
        progress.generation = progress.generation.next();
        let row = ProveRow {
            generation: progress.generation,
            ..row
        };
        self.put(Change::Prove(id, Some(Arc::new(row))));
        self.put_progress(id, progress);
        Ok(Reply::Prove(Box::new(self.state.prove_view(id, self.now)?)))
    }

    /// A node says how its test goes. Told at least once, so whatever is over stays as it is; but what was only given up
    /// here is over when the node says so.
    pub(crate) fn proved(&mut self, id: NodeId, news: ProveNews) {
        let ProveNews {
            run,
            mut stage,
            mut sentence,
            report,
        } = news;
        let before = self.state.nodes.get(&id).and_then(|node| node.prove.clone());
        let Some(row) = before.filter(|row| row.run == run) else {
            self.log("prove_unknown", &id.to_string(), run, stage.word());
            return;
        };
        let given_up = row.stage == ProveStage::Lost && stage.is_final();
        if !row.is_open() && !given_up {
            return;
        }
        let report = report.filter(|report| {
            let fits = report.len() <= REPORT_MAX;
            if !fits {
                stage = ProveStage::Failed;
                sentence = format!("its report is too large to keep: {} KiB", report.len() / 1024);
            }
            fits
        });
        if stage.is_final() {
            self.log("prove_over", &id.to_string(), run, stage.word());
        }
        self.put(Change::Prove(
            id,
            Some(Arc::new(ProveRow {
                stage,
                sentence,
                changed: self.now.wall,
                ..(*row).clone()
            })),
        ));
        if let Some(report) = report {
            self.keep_report(id, &row, *report);
        }
    }

    fn keep_report(&mut self, id: NodeId, row: &ProveRow, report: ProveReport) {
        let kept = ReportRow {
            run: row.run,
            by: row.by.clone(),
            at: self.now.wall,
            report,
        };
        self.put(Change::Report(id, Some(Arc::new(kept))));
        let mut all: Vec<(WallTime, NodeId)> = self.state.nodes.iter().filter_map(reported).collect();
        if all.len() > REPORTS_KEPT {
            all.sort_unstable();
            for (_, oldest) in &all[..all.len() - REPORTS_KEPT] {
                self.put(Change::Report(*oldest, None));
            }
        }
    }

    /// Nothing more is expected of a node that should have answered long ago.
    pub(crate) fn give_up_prove(&mut self, id: NodeId) {
        let Some(row) = self.state.nodes.get(&id).and_then(|node| node.prove.clone()) else {
            return;
        };
        let due = row.at.plus(row.ask.limit).plus(PATIENCE);
        if row.is_open() && self.now.wall > due {
            self.lose_prove(
                id,
                &row,
                "the node has not said how it ended; its own time limit ends it there",
            );
        }
    }

    /// A machine that was started anew runs no test from before; unless the end of it is still on its way.
    pub(crate) fn forget_prove_of_boot(&mut self, id: NodeId) {
        let Some(node) = self.state.nodes.get(&id) else {
            return;
        };
        let took_it = |row: &Arc<ProveRow>| row.is_open() && row.generation <= node.progress.applied;
        if let Some(row) = node.prove.clone().filter(took_it) {
            self.lose_prove(id, &row, "the node was started anew meanwhile");
        }
    }

    fn lose_prove(&mut self, id: NodeId, row: &ProveRow, why: &str) {
        self.log("prove_lost", "fleet", row.run, why);
        self.put(Change::Prove(
            id,
            Some(Arc::new(ProveRow {
                stage: ProveStage::Lost,
                sentence: why.to_owned(),
                changed: self.now.wall,
                ..row.clone()
            })),
        ));
    }
}

fn reported((id, node): (&NodeId, &Node)) -> Option<(WallTime, NodeId)> {
    Some((node.report.as_ref()?.at, *id))
}

impl Node {
    /// The order that begins or ends its test, if it is to be sent to a node that has all up to `after`.
    pub(crate) fn prove_order(&self, after: Generation) -> Option<Order> {
        let row = self.prove.as_ref().filter(|row| row.is_open())?;
        let wanted = row.generation > after && row.generation > self.progress.applied;
        wanted.then(|| Order {
            node: self.row.id,
            epoch: row.epoch,
            generation: row.generation,
            issued_at: row.at,
            attempt: None,
            what: OrderKind::Prove(match &row.stopped_by {
                None => Prove {
                    run: row.run,
                    by: row.by.clone(),
                    ask: Some(row.ask.clone()),
                },
                Some(by) => Prove {
                    run: row.run,
                    by: by.clone(),
                    ask: None,
                },
            }),
        })
    }
}

impl State {
    /// A node's newest test and its last report.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn prove(&self, name: &str, now: Now) -> Result<ProveView, Refused> {
        self.prove_view(self.node_named(name)?, now)
    }

    fn prove_view(&self, id: NodeId, now: Now) -> Result<ProveView, Refused> {
        let node = self.nodes.get(&id);
        let node = node.ok_or_else(|| Refused::NodeUnknown(id.to_string()))?;
        Ok(ProveView {
            run: node.prove.clone(),
            last: node.report.clone(),
            silence: self.silence(node, now),
        })
    }
}
