//! What operators let nodes do: an order like any other, but about the node, and said again to one that forgot.
//!
//! Only the newest word about a node counts, so it is a row of its own rather than a queue of orders: a node that was
//! away gets the last one. The owner has the last word all the same; what goes beyond it is refused here by name, and
//! would have no effect there.

use std::sync::Arc;

use loadline_model::{NodeId, PerMille};

use super::change::Change;
use super::command::Reply;
use super::node_types::LendMode;
use super::order::{Ceiling, Order, OrderKind};
use super::refused::Refused;
use super::rows::CeilingRow;
use super::tx::Tx;
use super::{Generation, Node};

impl Tx<'_> {
    pub(crate) fn set_ceiling(
        &mut self,
        by: &str,
        name: &str,
        mode: Option<LendMode>,
        line: Option<PerMille>,
    ) -> Result<Reply, Refused> {
        let id = self.state.node_named(name)?;
        let node = self.node(id)?;
        let name = node.row.name.clone();
        let Some(inventory) = node.row.inventory.clone() else {
            return Err(Refused::NodeNeverSeen(name));
        };
        let Some(owners) = inventory.owner_mode else {
            return Err(Refused::NodeTooOld(name));
        };
        if mode.is_some_and(|mode| mode > owners) {
            return Err(Refused::BeyondOwner(name, owners.word()));
        }
        // A fleet with an older store may have said what it does not know any more; the node does.
        let held = inventory.ceilings.iter().find(|held| !held.here);
        let held = held.map_or((LendMode::Enforce, PerMille::ONE), |held| (held.mode, held.line));
        let before = node.ceiling.as_ref();
        let said = before.map_or(held, |row| (row.ceiling.mode, row.ceiling.line));
        let ceiling = Ceiling {
            mode: mode.unwrap_or(said.0),
            line: line.unwrap_or(said.1).min(PerMille::ONE),
            by: by.to_owned(),
        };
        let on_its_way = before.is_some_and(|row| row.generation > node.progress.applied);
        let wanted = (ceiling.mode, ceiling.line);
        if said != wanted || (held != wanted && !on_its_way) {
            let detail = format!("{} {}", ceiling.mode.word(), ceiling.line.0);
            self.log("node_ceiling", by, &name, detail);
            self.order_ceiling(id, ceiling)?;
        }
        self.shown(id)
    }

    /// A new ledger knows nothing of what was said before.
    pub(crate) fn say_ceiling_again(&mut self, id: NodeId) {
        let row = self.state.nodes.get(&id).and_then(|node| node.ceiling.clone());
        if let Some(row) = row.filter(|row| !row.ceiling.is_lifted()) {
            // It was there a moment ago.
            let _ = self.order_ceiling(id, row.ceiling.clone());
        }
    }

    fn order_ceiling(&mut self, id: NodeId, ceiling: Ceiling) -> Result<(), Refused> {
        let mut progress = self.node(id)?.progress;
        progress.generation = progress.generation.next();
        let row = CeilingRow {
            ceiling,
            epoch: self.state.epoch,
            at: self.now.wall,
            generation: progress.generation,
        };
        self.put(Change::Ceiling(id, Some(Arc::new(row))));
        self.put_progress(id, progress);
        Ok(())
    }
}

impl Node {
    /// The order that says what the node may do, if it is to be sent to one that has all up to `after`.
    pub(crate) fn ceiling_order(&self, after: Generation) -> Option<Order> {
        let row = self.ceiling.as_ref()?;
        let wanted = row.generation > after && row.generation > self.progress.applied;
        wanted.then(|| Order {
            node: self.row.id,
            epoch: row.epoch,
            generation: row.generation,
            issued_at: row.at,
            attempt: None,
            what: OrderKind::Ceiling(row.ceiling.clone()),
        })
    }
}
