//! The service Sharing.

use std::sync::Arc;

use loadline_proto::fleet::v1 as fleet;
use loadline_proto::fleet::v1::sharing_server::Sharing;
use tonic::{Request, Response, Status};

use super::answer;
use crate::api::Edge;
use crate::wire;

#[derive(Debug, Clone)]
pub(crate) struct SharingService(pub(crate) Arc<Edge>);

#[tonic::async_trait]
impl Sharing for SharingService {
    async fn list_teams(
        &self,
        request: Request<fleet::ListTeamsRequest>,
    ) -> Result<Response<fleet::ListTeamsReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let teams = self.0.list_teams(&call).await?;
            Ok(fleet::ListTeamsReply {
                teams: teams.iter().map(wire::write_team).collect(),
            })
        })
        .await
    }

    async fn get_team(&self, request: Request<fleet::TeamRef>) -> Result<Response<fleet::Team>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let name = request.into_inner().name;
            Ok(wire::write_team(&self.0.see_team(&call, name).await?))
        })
        .await
    }

    async fn set_team(
        &self,
        request: Request<fleet::SetTeamRequest>,
    ) -> Result<Response<fleet::Team>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let request = request.into_inner();
            let name = request.name.clone();
            let change = wire::read_team_change(request)?;
            Ok(wire::write_team(&self.0.set_team(&call, name, change).await?))
        })
        .await
    }

    async fn remove_team(
        &self,
        request: Request<fleet::TeamRef>,
    ) -> Result<Response<fleet::RemoveTeamReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            self.0.remove_team(&call, request.into_inner().name).await?;
            Ok(fleet::RemoveTeamReply {})
        })
        .await
    }

    async fn set_quota(
        &self,
        request: Request<fleet::SetQuotaRequest>,
    ) -> Result<Response<fleet::Team>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let request = request.into_inner();
            let team = request.team.clone();
            let change = wire::read_quota_change(request)?;
            Ok(wire::write_team(&self.0.set_quota(&call, team, change).await?))
        })
        .await
    }
}
