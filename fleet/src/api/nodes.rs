//! What people do with nodes.

use super::Edge;
use super::call::{Call, Change};
use super::failure::Failure;
use crate::state::{Command, NodeDetail, NodeSummary, NodeVerb, Reply};
use crate::trust::Action;

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
