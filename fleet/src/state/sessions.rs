//! What nodes say: hello, I live, this happened, your orders are in my ledger, and silence.
//!
//! Events are told at least once and counted once: (ledger, sequence) names each. A gap in the sequence is
//! recorded and passed over, since blocking all later events of a node on one lost record would be worse. What a
//! lost event may have told, the next Hello tells: attempts that the node neither runs nor explains any more are
//! swept.

use std::collections::BTreeSet;
use std::sync::Arc;

use loadline_model::{
    AttemptId, EndReason, Ended, Generation, LedgerId, NodeId, NodeSample, Peaks, Sequence,
};

use super::change::Change;
use super::command::{Reply, SessionId};
use super::link::{Link, Sweep};
use super::node_types::{Event, Happening, Hello, Inventory, Receipt, Word};
use super::refused::Refused;
use super::rows::{AttemptRow, NodeRow, OrderWhat, Progress, Standing};
use super::tx::Tx;

impl Tx<'_> {
    pub(crate) fn hello(&mut self, hello: Hello) -> Result<Reply, Refused> {
        let id = hello.node;
        let booted = self.recognise(&hello)?;
        let node = self.node(id)?;
        let before = node.progress;
        let new_ledger = before.ledger.is_some_and(|ledger| ledger != hello.ledger);
        self.state.last_session += 1;
        let session = SessionId(self.state.last_session);
        self.put_progress(
            id,
            Progress {
                generation: before.generation.max(hello.applied),
                // A new ledger begins at zero, but what the old one had applied will not be sent again.
                applied: before.applied.max(hello.applied),
                ledger: Some(hello.ledger),
                last_seen: Some(self.now.wall),
            },
        );
        self.put_link(
            id,
            Link {
                session: Some(session),
                ..Link::default()
            },
        );
        self.hear(id);
        if new_ledger {
            self.log("ledger_new", id.to_string().as_str(), id, hello.ledger);
        }
        self.settle_orders(id, hello.applied);
        for report in &hello.attempts {
            self.reported(id, report, self.now.wall);
        }
        if booted {
            self.forget_prove_of_boot(id);
        }
        if new_ledger {
            self.stop_again(&hello);
            self.say_ceiling_again(id);
        }
        self.withdraw_needless(id);
        self.begin_sweep(&hello, new_ledger);
        let acked = self.acked(id, hello.ledger);
        Ok(Reply::Welcome {
            session,
            epoch: self.state.epoch,
            acked,
        })
    }

    /// Makes sure the node is in the books. One with a good certificate that the store does not know is a node
    /// of this fleet all the same: the store is empty or older (design: nothing stops by absence).
    /// True if its machine was started anew since it was last seen.
    fn recognise(&mut self, hello: &Hello) -> Result<bool, Refused> {
        let row = match self.state.nodes.get(&hello.node) {
            Some(node) if node.row.standing == Standing::Banned => {
                return Err(Refused::NodeBanned(node.row.name.clone()));
            }
            Some(node) => (*node.row).clone(),
            None => {
                let name = self.state.free_name(&hello.name, hello.node);
                self.log("node_unknown_returned", &name, hello.node, "");
                NodeRow {
                    id: hello.node,
                    name,
                    pool: "default".into(),
                    standing: Standing::Member,
                    joined_at: self.now.wall,
                    version: String::new(),
                    boot_id: String::new(),
                    inventory: None,
                    labels: loadline_model::Labels::new(),
                    taints: loadline_model::Labels::new(),
                }
            }
        };
        let inventory = match &hello.inventory {
            Some(new) if row.inventory.as_deref() != Some(new) => Some(Arc::new(new.clone())),
            _ => row.inventory.clone(),
        };
        let standing = if row.standing == Standing::Forgotten {
            Standing::Member
        } else {
            row.standing
        };
        let next = NodeRow {
            version: hello.version.clone(),
            boot_id: hello.boot_id.clone(),
            inventory,
            standing,
            ..row.clone()
        };
        if next != row || !self.state.nodes.contains_key(&row.id) {
            self.put_node(next);
        }
        Ok(row.boot_id != hello.boot_id)
    }

    fn acked(&self, node: NodeId, ledger: LedgerId) -> Sequence {
        self.state
            .ledgers
            .get(&(node, ledger))
            .copied()
            .unwrap_or_default()
    }

    /// Orders in the node's ledger need no sending any more.
    fn settle_orders(&mut self, id: NodeId, applied: Generation) {
        let done: Vec<Generation> = self
            .state
            .nodes
            .get(&id)
            .into_iter()
            .flat_map(|node| node.orders.range(..=applied))
            .map(|(generation, _)| *generation)
            .collect();
        for generation in done {
            self.put(Change::Order(id, generation, None));
        }
    }

    /// An attempt that was never started on its node, and is not wanted any more, is taken back: starting it only
    /// to stop it would run the command for a moment.
    fn withdraw_needless(&mut self, id: NodeId) {
        let Some(node) = self.state.nodes.get(&id) else {
            return;
        };
        let unstarted: Vec<AttemptId> = node
            .orders
            .values()
            .filter(|order| order.what == OrderWhat::Start)
            .map(|order| order.attempt)
            .collect();
        for attempt in unstarted {
            let Some(row) = self.state.attempts.get(&attempt).cloned() else {
                continue;
            };
            if row.stop.is_none() && row.is_live() {
                continue;
            }
            let ended = row.ended().cloned().unwrap_or_else(|| Ended {
                reason: EndReason::Cancelled,
                at: self.now.wall,
                peaks: Peaks::default(),
                detail: "cancelled before its node got the order".into(),
            });
            self.over(&row, ended);
        }
    }

    /// What runs on and was to be stopped: the new ledger knows nothing of that.
    fn stop_again(&mut self, hello: &Hello) {
        for report in &hello.attempts {
            let Some(row) = self.state.attempts.get(&report.attempt).cloned() else {
                continue;
            };
            let Some(why) = row.stop.filter(|_| row.node == hello.node && row.occupies()) else {
                continue;
            };
            let pending = self.state.pending(hello.node, row.id);
            if !pending.iter().any(|what| matches!(what, OrderWhat::Stop(_))) {
                self.put_attempt(AttemptRow {
                    stop: None,
                    ..(*row).clone()
                });
                self.order_stop(row.id, why);
            }
        }
    }

    /// Which attempts should be on the node and were not named. A Hello is one look at the ledger, perhaps some
    /// time ago: nothing follows for orders that it had not applied then.
    fn begin_sweep(&mut self, hello: &Hello, new_ledger: bool) {
        let Some(node) = self.state.nodes.get(&hello.node) else {
            return;
        };
        let named: BTreeSet<AttemptId> = hello.attempts.iter().map(|report| report.attempt).collect();
        let told = |id: &AttemptId| {
            let row = self.state.attempts.get(id);
            new_ledger || row.is_some_and(|row| row.generation <= hello.applied)
        };
        let missing: BTreeSet<AttemptId> = node
            .books
            .attempts
            .difference(&named)
            .copied()
            .filter(told)
            .collect();
        if missing.is_empty() || !hello.complete {
            return;
        }
        let acked = self.acked(hello.node, hello.ledger);
        let none_to_come = hello
            .first_sequence
            .is_some_and(|first| first > hello.last_sequence);
        if new_ledger || none_to_come || acked >= hello.last_sequence {
            self.sweep(&missing);
            return;
        }
        let sweep = Some(Sweep {
            due: hello.last_sequence,
            missing,
        });
        if let Some(link) = self
            .state
            .nodes
            .get(&hello.node)
            .and_then(|node| node.link.clone())
        {
            self.put_link(
                hello.node,
                Link {
                    sweep,
                    ..(*link).clone()
                },
            );
        }
    }

    /// These attempts are neither on their node nor explained by it.
    fn sweep(&mut self, missing: &BTreeSet<AttemptId>) {
        for id in missing {
            let Some(row) = self.state.attempts.get(id).cloned().filter(|row| row.occupies()) else {
                continue;
            };
            let ended = row.ended().cloned().unwrap_or_else(|| Ended {
                reason: EndReason::NodeLost,
                at: self.now.wall,
                peaks: Peaks::default(),
                detail: "its node came back and does not know it any more".into(),
            });
            self.over(&row, ended);
        }
    }

    /// Sweeps once all events that existed at the Hello have come, or will not come.
    fn sweep_due(&mut self, id: NodeId) {
        let Some((link, ledger)) = self
            .state
            .nodes
            .get(&id)
            .and_then(|node| Some((Arc::clone(node.link.as_ref()?), node.progress.ledger?)))
        else {
            return;
        };
        let Some(sweep) = link.sweep.as_ref().filter(|_| link.session.is_some()) else {
            return;
        };
        if self.acked(id, ledger) >= sweep.due {
            self.put_link(
                id,
                Link {
                    sweep: None,
                    ..(*link).clone()
                },
            );
            self.sweep(&sweep.missing);
        }
    }

    pub(crate) fn bye(&mut self, id: NodeId, session: SessionId) -> Result<Reply, Refused> {
        let node = self.node(id)?;
        let Some(link) = node.link.clone().filter(|link| link.session == Some(session)) else {
            return Ok(Reply::Done);
        };
        let progress = Progress {
            last_seen: node.pulse.heard_at.or(node.progress.last_seen),
            ..node.progress
        };
        self.put_link(
            id,
            Link {
                session: None,
                ..(*link).clone()
            },
        );
        self.put_progress(id, progress);
        Ok(Reply::Done)
    }

    pub(crate) fn alive(
        &mut self,
        (id, session): (NodeId, SessionId),
        sample: Option<NodeSample>,
        word: Option<Box<Word>>,
        inventory: Option<Box<Inventory>>,
    ) -> Result<Reply, Refused> {
        self.in_session(id, session)?;
        let row = Arc::clone(&self.node(id)?.row);
        if let Some(new) = inventory.filter(|new| row.inventory.as_deref() != Some(&**new)) {
            self.put_node(NodeRow {
                inventory: Some(Arc::from(new)),
                ..(*row).clone()
            });
        }
        if let Some(sample) = sample {
            self.measured(id, sample);
        }
        if let Some(word) = word {
            self.heard_word(id, *word);
        }
        Ok(Reply::Done)
    }

    pub(crate) fn applied(&mut self, id: NodeId, generation: Generation) -> Result<Reply, Refused> {
        let progress = self.node(id)?.progress;
        // A node cannot have applied what was not made: such a number is a mistake and changes nothing.
        let applied = generation.min(progress.generation);
        if applied > progress.applied {
            self.put_progress(id, Progress { applied, ..progress });
            self.settle_orders(id, applied);
        }
        Ok(Reply::Done)
    }

    pub(crate) fn events(&mut self, id: NodeId, events: Vec<Event>) -> Result<Reply, Refused> {
        let current = self
            .node(id)?
            .progress
            .ledger
            .unwrap_or_else(|| LedgerId::from_uuid(uuid::Uuid::nil()));
        let ledger = events.last().map_or(current, |event| event.ledger);
        for event in events {
            let known = self.acked(id, event.ledger);
            if event.sequence <= known {
                continue;
            }
            if event.sequence > known.next() {
                let first = known.next();
                let last = event.sequence.0 - 1;
                self.log(
                    "events_missing",
                    &id.to_string(),
                    event.ledger,
                    format!("{first}-{last}"),
                );
            }
            self.put(Change::Ledger(id, event.ledger, Some(event.sequence)));
            self.happened(id, event);
        }
        self.sweep_due(id);
        Ok(Reply::Acked {
            ledger,
            sequence: self.acked(id, ledger),
        })
    }

    fn happened(&mut self, id: NodeId, event: Event) {
        let Event {
            ledger,
            sequence,
            boot_id: _,
            at,
            what,
        } = event;
        match what {
            Happening::Attempt(report) => self.reported(id, &report, at),
            Happening::Receipt(receipt) => {
                self.put(Change::Receipt(id, ledger, sequence, Some(Arc::new(receipt))));
            }
            Happening::Prove(news) => self.proved(id, news),
            Happening::Unreadable(why) => {
                self.log("event_unreadable", &id.to_string(), sequence, &why);
                let receipt = Receipt {
                    at,
                    action: "event_unreadable".into(),
                    attempt: None,
                    subject: format!("event {sequence}"),
                    sentence: format!("An event of this node could not be understood: {why}."),
                };
                self.put(Change::Receipt(id, ledger, sequence, Some(Arc::new(receipt))));
            }
        }
    }
}
