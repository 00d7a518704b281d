//! What operators decide about nodes, and what silence decides.

use std::sync::Arc;

use loadline_model::{NodeId, OnNodeLost, Span};

use super::change::Change;
use super::command::{Now, Reply};
use super::link::{LOST_AFTER, Link, SUSPECT_AFTER};
use super::refused::Refused;
use super::rows::{NodeRow, Standing};
use super::tx::Tx;
use super::view::NodeCondition;
use super::{Node, State};

impl State {
    /// How long a node has been silent, by the clock that stands still while the fleet is what is lost.
    pub(crate) fn silence(&self, node: &Node, now: Now) -> Span {
        self.steady.at(now.mono).minus(node.pulse.heard)
    }

    /// Where a node stands at this moment.
    pub(crate) fn condition(&self, node: &Node, now: Now) -> NodeCondition {
        match node.row.standing {
            Standing::Banned => return NodeCondition::Banned,
            Standing::Forgotten => return NodeCondition::Forgotten,
            Standing::Member | Standing::Draining => {}
        }
        if node.progress.ledger.is_none() {
            return NodeCondition::NeverSeen;
        }
        let unheard = node.pulse.heard_at.is_none();
        match self.silence(node, now) {
            silence if silence >= LOST_AFTER => NodeCondition::Lost,
            silence if silence >= SUSPECT_AFTER || unheard => NodeCondition::Suspect,
            _ if node.row.standing == Standing::Draining => NodeCondition::Draining,
            _ => NodeCondition::Ready,
        }
    }

    /// True if it speaks: an open session that was heard of within the last 15 s.
    pub(crate) fn is_connected(&self, node: &Node, now: Now) -> bool {
        let open = node.link.as_ref().is_some_and(|link| link.session.is_some());
        open && self.silence(node, now) < SUSPECT_AFTER
    }

    pub(crate) fn node_named(&self, name: &str) -> Result<NodeId, Refused> {
        self.node_names
            .get(name)
            .copied()
            .ok_or_else(|| Refused::NodeUnknown(name.to_owned()))
    }

    /// The name if it is free, else one that says whose it is.
    pub(crate) fn free_name(&self, name: &str, node: NodeId) -> String {
        if !name.is_empty() && !self.node_names.contains_key(name) {
            return name.to_owned();
        }
        let mut id = node.hex();
        id.truncate(8);
        let long = format!("{name}-{id}");
        if self.node_names.contains_key(&long) {
            node.to_string()
        } else {
            long
        }
    }
}

impl Tx<'_> {
    pub(crate) fn drain(&mut self, by: &str, id: NodeId) -> Result<Reply, Refused> {
        self.stand(by, id, Standing::Draining, "node_drained")
    }

    pub(crate) fn resume(&mut self, by: &str, id: NodeId) -> Result<Reply, Refused> {
        self.stand(by, id, Standing::Member, "node_resumed")
    }

    /// Gives up a silent node: whatever was on it goes on elsewhere.
    pub(crate) fn forget(&mut self, by: &str, id: NodeId) -> Result<Reply, Refused> {
        let node = self.node(id)?;
        if self.state.is_connected(node, self.now) {
            return Err(Refused::NodeConnected(node.row.name.clone()));
        }
        let reply = self.stand(by, id, Standing::Forgotten, "node_forgotten")?;
        self.give_up_all(id, |_| true, "an operator gave its node up");
        Ok(self.shown(id).unwrap_or(reply))
    }

    /// Refuses a node for ever.
    pub(crate) fn ban(&mut self, by: &str, id: NodeId) -> Result<Reply, Refused> {
        let reply = self.stand(by, id, Standing::Banned, "node_banned")?;
        let orders: Vec<_> = self.node(id)?.orders.keys().copied().collect();
        for generation in orders {
            self.put(Change::Order(id, generation, None));
        }
        self.put_link(id, Link::default());
        self.give_up_all(id, |_| true, "its node was banned");
        Ok(self.shown(id).unwrap_or(reply))
    }

    fn stand(
        &mut self,
        by: &str,
        id: NodeId,
        standing: Standing,
        kind: &'static str,
    ) -> Result<Reply, Refused> {
        let row = Arc::clone(&self.node(id)?.row);
        if row.standing != standing {
            self.log(kind, by, &row.name, id);
            self.put_node(NodeRow {
                standing,
                ..(*row).clone()
            });
        }
        self.shown(id)
    }

    pub(crate) fn shown(&self, id: NodeId) -> Result<Reply, Refused> {
        Ok(Reply::Node(Box::new(
            self.state.node_summary(self.node(id)?, self.now),
        )))
    }

    fn give_up_all(&mut self, id: NodeId, which: impl Fn(OnNodeLost) -> bool, detail: &str) {
        let mut on_it = self.state.attempts_on(id);
        on_it.retain(|row| {
            let job = self.state.jobs.get(&row.job);
            row.is_live() && job.is_some_and(|job| which(job.row.spec.on_node_lost))
        });
        for row in on_it {
            self.give_up(&row, detail);
        }
    }

    /// Time passed.
    pub(crate) fn tick(&mut self) -> Reply {
        self.move_clock();
        let ids: Vec<NodeId> = self.state.nodes.keys().copied().collect();
        for id in ids {
            self.notice_lost(id);
            self.give_up_prove(id);
        }
        self.forget_old_buckets();
        self.state.notice_pauses(self.now);
        Reply::Done
    }

    fn move_clock(&mut self) {
        let now = self.now;
        let state = &mut *self.state;
        let counted = |node: &&Node| {
            let standing = matches!(node.row.standing, Standing::Member | Standing::Draining);
            standing && node.progress.ledger.is_some()
        };
        // Silence by the plain clock: the steady one may be standing because of these very nodes.
        let silent = |node: &&Node| {
            let heard = node.pulse.heard_mono;
            now.mono.minus(heard) >= SUSPECT_AFTER
        };
        let all = state.nodes.values().filter(counted).count();
        let quiet = state.nodes.values().filter(counted).filter(silent).count();
        state.steady.tick(now.mono, quiet, all);
    }

    fn notice_lost(&mut self, id: NodeId) {
        let Some(node) = self.state.nodes.get(&id) else {
            return;
        };
        let lost = self.state.condition(node, self.now) == NodeCondition::Lost;
        let link = node.link.clone().unwrap_or_default();
        if lost != link.lost {
            let name = node.row.name.clone();
            self.log(if lost { "node_lost" } else { "node_found" }, "fleet", name, id);
            self.put_link(
                id,
                Link {
                    lost,
                    ..(*link).clone()
                },
            );
        }
        if lost {
            let replaces = |choice| choice == OnNodeLost::Replace;
            self.give_up_all(id, replaces, "its node has been silent for 60 s");
        }
    }
}
