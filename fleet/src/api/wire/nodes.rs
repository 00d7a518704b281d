//! The service Nodes.

use std::sync::Arc;

use loadline_proto::fleet::v1 as fleet;
use loadline_proto::fleet::v1::nodes_server::Nodes;
use tonic::{Request, Response, Status};

use super::answer;
use crate::api::Edge;
use crate::api::failure::Failure;
use crate::state::{LendMode, Marks, NodeVerb};
use crate::wire;

#[derive(Debug, Clone)]
pub(crate) struct NodesService(pub(crate) Arc<Edge>);

impl NodesService {
    async fn operate(
        &self,
        request: Request<fleet::NodeRef>,
        verb: NodeVerb,
    ) -> Result<Response<fleet::NodeReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let node = self
                .0
                .operate_node(&call, request.into_inner().name, verb)
                .await?;
            Ok(fleet::NodeReply {
                summary: Some(wire::write_node_summary(&node)),
            })
        })
        .await
    }
}

fn read_mode(word: &str) -> Result<LendMode, Failure> {
    LendMode::from_word(word).ok_or_else(|| {
        let sentence = format!("there is no mode `{word}`");
        Failure::invalid(sentence, "use off, shadow or enforce")
    })
}

#[tonic::async_trait]
impl Nodes for NodesService {
    async fn list(
        &self,
        request: Request<fleet::ListNodesRequest>,
    ) -> Result<Response<fleet::ListNodesReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let nodes = self.0.list_nodes(&call).await?;
            Ok(fleet::ListNodesReply {
                nodes: nodes.iter().map(wire::write_node_summary).collect(),
            })
        })
        .await
    }

    async fn get(&self, request: Request<fleet::NodeRef>) -> Result<Response<fleet::NodeDetail>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            Ok(wire::write_node_detail(
                &self.0.see_node(&call, request.into_inner().name).await?,
            ))
        })
        .await
    }

    async fn receipts(
        &self,
        request: Request<fleet::ReceiptsRequest>,
    ) -> Result<Response<fleet::ReceiptsReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let fleet::ReceiptsRequest { node, last } = request.into_inner();
            let receipts = self.0.receipts(&call, node, last).await?;
            Ok(fleet::ReceiptsReply {
                receipts: receipts.iter().map(wire::write_node_receipt).collect(),
            })
        })
        .await
    }

    async fn drain(&self, request: Request<fleet::NodeRef>) -> Result<Response<fleet::NodeReply>, Status> {
        self.operate(request, NodeVerb::Drain).await
    }

    async fn resume(&self, request: Request<fleet::NodeRef>) -> Result<Response<fleet::NodeReply>, Status> {
        self.operate(request, NodeVerb::Resume).await
    }

    async fn forget(&self, request: Request<fleet::NodeRef>) -> Result<Response<fleet::NodeReply>, Status> {
        self.operate(request, NodeVerb::Forget).await
    }

    async fn set_ceiling(
        &self,
        request: Request<fleet::SetCeilingRequest>,
    ) -> Result<Response<fleet::NodeReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let fleet::SetCeilingRequest {
                name,
                mode,
                line_per_mille,
            } = request.into_inner();
            let mode = mode.map(|word| read_mode(&word)).transpose()?;
            let line = line_per_mille.map(wire::read_share).transpose()?;
            let node = self.0.set_ceiling(&call, name, mode, line).await?;
            Ok(fleet::NodeReply {
                summary: Some(wire::write_node_summary(&node)),
            })
        })
        .await
    }

    async fn mark(&self, request: Request<fleet::MarkRequest>) -> Result<Response<fleet::NodeReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let fleet::MarkRequest { name, labels, taints } = request.into_inner();
            let marks = Marks {
                labels: wire::read_marks("labels", &labels)?,
                taints: wire::read_marks("taints", &taints)?,
            };
            let node = self.0.mark_node(&call, name, marks).await?;
            Ok(fleet::NodeReply {
                summary: Some(wire::write_node_summary(&node)),
            })
        })
        .await
    }

    async fn headroom(
        &self,
        request: Request<fleet::HeadroomRequest>,
    ) -> Result<Response<fleet::HeadroomReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let nodes = self.0.headroom(&call, request.into_inner().node).await?;
            Ok(fleet::HeadroomReply {
                nodes: nodes.iter().map(wire::write_headroom).collect(),
            })
        })
        .await
    }

    async fn prove(
        &self,
        request: Request<fleet::ProveRequest>,
    ) -> Result<Response<fleet::ProveReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let fleet::ProveRequest { name, ask } = request.into_inner();
            let ask = wire::read_ask(&ask.unwrap_or_default())?;
            let view = self.0.begin_prove(&call, name, ask).await?;
            Ok(wire::write_prove(&view, false))
        })
        .await
    }

    async fn stop_prove(
        &self,
        request: Request<fleet::NodeRef>,
    ) -> Result<Response<fleet::ProveReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let view = self.0.stop_prove(&call, request.into_inner().name).await?;
            Ok(wire::write_prove(&view, false))
        })
        .await
    }

    async fn see_prove(
        &self,
        request: Request<fleet::SeeProveRequest>,
    ) -> Result<Response<fleet::ProveReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let fleet::SeeProveRequest { name, report } = request.into_inner();
            let view = self.0.see_prove(&call, name).await?;
            Ok(wire::write_prove(&view, report))
        })
        .await
    }

    async fn ban(&self, request: Request<fleet::NodeRef>) -> Result<Response<fleet::NodeReply>, Status> {
        self.operate(request, NodeVerb::Ban).await
    }
}
