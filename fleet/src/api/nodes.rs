//! What people do with nodes.

use super::Edge;
use super::call::{Call, Change};
use super::failure::Failure;
use crate::state::{Command, NodeDetail, NodeReceipt, NodeSummary, NodeVerb, Reply};
use crate::trust::Action;

/// A page of receipts.
const RECEIPTS_MOST: u32 = 10_000;

const fn word(verb: NodeVerb) -> &'static str {
    match verb {
        NodeVerb::Drain => "node.drain",
        NodeVerb::Resume => "node.resume",
        NodeVerb::Forget => "node.forget",
        NodeVerb::Ban => "node.ban",
    }
}

impl Edge {
    pub(super) async fn list_nodes(&self, call: &Call) -> Result<Vec<NodeSummary>, Failure> {
        call.may(Action::SeeFleet)?;
        Ok(self.fleet.read(|state, now| state.nodes(now)).await?)
    }

    pub(super) async fn see_node(&self, call: &Call, name: String) -> Result<NodeDetail, Failure> {
        call.may(Action::SeeFleet)?;
        Ok(self
            .fleet
            .read(move |state, now| state.node(&name, now))
            .await??)
    }

    pub(super) async fn receipts(
        &self,
        call: &Call,
        node: String,
        last: u32,
    ) -> Result<Vec<NodeReceipt>, Failure> {
        call.may(Action::SeeFleet)?;
        let last = usize::try_from(last.min(RECEIPTS_MOST)).unwrap_or(usize::MAX);
        let one = move || (!node.is_empty()).then_some(node);
        Ok(self
            .fleet
            .read(move |state, _| state.receipts(one().as_deref(), last))
            .await??)
    }

    pub(super) async fn operate_node(
        &self,
        call: &Call,
        node: String,
        verb: NodeVerb,
    ) -> Result<NodeSummary, Failure> {
        let by = call.person()?;
        let change = Change {
            action: Action::OperateNode,
            word: word(verb),
            object: format!("node/{node}"),
        };
        match self
            .change(call, change, Command::Operate { by, node, verb })
            .await?
        {
            Reply::Node(node) => Ok(*node),
            _ => Err(Failure::internal(
                "an operation on a node was answered with something else",
            )),
        }
    }
}
