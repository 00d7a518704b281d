//! What people do with nodes.

use loadline_model::{Mark, PerMille, ProveAsk};

use super::Edge;
use super::call::{Call, Change};
use super::failure::Failure;
use crate::state::{
    Command, LendMode, Marks, NodeDetail, NodeHeadroom, NodeReceipt, NodeSummary, NodeVerb, ProveView, Reply,
};
use crate::trust::Action;

/// A page of receipts.
const RECEIPTS_MOST: u32 = 10_000;

fn tested(reply: Reply) -> Result<ProveView, Failure> {
    match reply {
        Reply::Prove(view) => Ok(*view),
        _ => Err(Failure::internal("a test was answered with something else")),
    }
}

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

    pub(super) async fn headroom(&self, call: &Call, node: String) -> Result<Vec<NodeHeadroom>, Failure> {
        call.may(Action::SeeFleet)?;
        let one = move || (!node.is_empty()).then_some(node);
        Ok(self
            .fleet
            .read(move |state, now| state.headroom(one().as_deref(), now))
            .await??)
    }

    /// The most a node may do from now on.
    pub(super) async fn set_ceiling(
        &self,
        call: &Call,
        node: String,
        mode: Option<LendMode>,
        line: Option<PerMille>,
    ) -> Result<NodeSummary, Failure> {
        let by = call.person()?;
        let mode_word = mode.map_or_else(String::new, |mode| format!(" mode {}", mode.word()));
        let line_word = line.map_or_else(String::new, |line| format!(" line {} ‰", line.0));
        let change = Change {
            action: Action::OperateNode,
            word: "node.ceiling",
            object: format!("node/{node}{mode_word}{line_word}"),
        };
        let command = Command::SetCeiling { by, node, mode, line };
        match self.change(call, change, command).await? {
            Reply::Node(node) => Ok(*node),
            _ => Err(Failure::internal("a ceiling was answered with something else")),
        }
    }

    /// What a node's labels and taints are from now on.
    pub(super) async fn mark_node(
        &self,
        call: &Call,
        node: String,
        marks: Marks,
    ) -> Result<NodeSummary, Failure> {
        let by = call.person()?;
        let all = |what: &str, marks: &[Mark]| {
            let marks = marks.iter().map(|mark| format!(" {what} {mark}"));
            marks.collect::<String>()
        };
        let change = Change {
            action: Action::OperateNode,
            word: "node.mark",
            object: format!(
                "node/{node}{}{}",
                all("label", &marks.labels),
                all("taint", &marks.taints)
            ),
        };
        let command = Command::Mark { by, node, marks };
        match self.change(call, change, command).await? {
            Reply::Node(node) => Ok(*node),
            _ => Err(Failure::internal("a label was answered with something else")),
        }
    }

    /// A node is tested from now on. What node.toml there says is asked before it is ordered, and again there.
    pub(super) async fn begin_prove(
        &self,
        call: &Call,
        node: String,
        ask: ProveAsk,
    ) -> Result<ProveView, Failure> {
        let by = call.person()?;
        ask.check().map_err(|problem| {
            Failure::invalid(
                problem.to_string(),
                "root on the node may do more: `loadline-warden prove`",
            )
        })?;
        let change = Change {
            action: Action::OperateNode,
            word: "node.prove",
            object: format!("node/{node}"),
        };
        let command = Command::BeginProve { by, node, ask };
        tested(self.change(call, change, command).await?)
    }

    pub(super) async fn stop_prove(&self, call: &Call, node: String) -> Result<ProveView, Failure> {
        let by = call.person()?;
        let change = Change {
            action: Action::OperateNode,
            word: "node.prove_stop",
            object: format!("node/{node}"),
        };
        tested(self.change(call, change, Command::StopProve { by, node }).await?)
    }

    pub(super) async fn see_prove(&self, call: &Call, node: String) -> Result<ProveView, Failure> {
        call.may(Action::SeeFleet)?;
        Ok(self
            .fleet
            .read(move |state, now| state.prove(&node, now))
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
