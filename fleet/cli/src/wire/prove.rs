//! The calls about interference tests.

use loadline_model::{ProveAsk, ProveId, Span, WallTime};
use loadline_proto::fleet::v1 as pb;
use loadline_proto::types::v1 as types;

use super::client::{Client, node_ref};
use super::failure::CallError;
use crate::view::{Moment, ProveLast, ProveRun, ProveView};

impl Client {
    /// Has a node tested.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn prove(&mut self, node: &str, ask: &ProveAsk) -> Result<ProveView, CallError> {
        let request = pb::ProveRequest {
            name: node.into(),
            ask: Some(types::ProveAsk {
                stand_in: ask.stand_in,
                rate_per_s: ask.rate,
                resources: ask.resources.iter().map(ToString::to_string).collect(),
                rounds: ask.rounds,
                round_us: ask.round.0,
                limit_us: ask.limit.0,
                with_workers: ask.with_workers,
            }),
        };
        Ok(view(self.nodes.prove(request).await?.into_inner()))
    }

    /// Ends a node's test.
    ///
    /// # Errors
    /// When the call fails, for instance because none runs.
    pub async fn stop_prove(&mut self, node: &str) -> Result<ProveView, CallError> {
        Ok(view(self.nodes.stop_prove(node_ref(node)).await?.into_inner()))
    }

    /// Where a node's newest test stands, and its last report, with all its texts if asked for.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn see_prove(&mut self, node: &str, report: bool) -> Result<ProveView, CallError> {
        let name = node.into();
        let reply = self.nodes.see_prove(pb::SeeProveRequest { name, report }).await?;
        Ok(view(reply.into_inner()))
    }
}

/// For people; what is no id is shown as it came.
fn id(bytes: &[u8]) -> String {
    ProveId::from_slice(bytes).map_or_else(|error| error.text, |id| id.to_string())
}

fn view(reply: pb::ProveReply) -> ProveView {
    ProveView {
        run: reply.run.map(run),
        last: reply.last.map(last),
    }
}

fn run(run: pb::ProveRun) -> ProveRun {
    ProveRun {
        run_id: id(&run.run_id),
        by: run.by,
        begun_at: Moment(WallTime(run.begun_us)),
        stage: run.stage,
        sentence: run.sentence,
        silence: Span(run.node_silent_us),
    }
}

fn last(last: pb::ProveLast) -> ProveLast {
    let report = last.report.unwrap_or_default();
    ProveLast {
        run_id: id(&last.run_id),
        by: last.by,
        at: Moment(WallTime(last.at_us)),
        text: report.text,
        json: report.json,
        html: report.html,
        whole: report.whole,
        cost: report.cost,
    }
}
