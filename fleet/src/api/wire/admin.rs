//! The service Admin.

use std::sync::Arc;

use loadline_model::Span;
use loadline_proto::fleet::v1 as fleet;
use loadline_proto::fleet::v1::admin_server::Admin;
use tonic::{Request, Response, Status};

use super::answer;
use crate::api::admin::{Myself, NewPerson, NewToken};
use crate::api::{Edge, VERSION};
use crate::state::TokenId;
use crate::wire;

#[derive(Debug, Clone)]
pub(crate) struct AdminService(pub(crate) Arc<Edge>);

fn token_reply(token: NewToken) -> fleet::TokenReply {
    let NewToken {
        id,
        text,
        expires,
        command,
    } = token;
    fleet::TokenReply {
        token: text,
        expires_us: expires.0,
        command,
        token_id: id.0,
    }
}

fn identity(me: Myself) -> fleet::Identity {
    let Myself {
        user,
        role,
        unix_account,
        team,
        certificate_expires,
    } = me;
    fleet::Identity {
        user,
        role: role.word().to_owned(),
        unix_account,
        team,
        certificate_expires_us: certificate_expires.0,
    }
}

impl AdminService {
    async fn ban(
        &self,
        request: Request<fleet::UserRef>,
        banned: bool,
    ) -> Result<Response<fleet::User>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let user = self.0.ban_user(&call, request.into_inner().name, banned).await?;
            Ok(wire::write_user(&user))
        })
        .await
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn who_am_i(
        &self,
        request: Request<fleet::WhoAmIRequest>,
    ) -> Result<Response<fleet::Identity>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async { Ok(identity(self.0.who_am_i(&call)?)) }).await
    }

    async fn fleet_status(
        &self,
        request: Request<fleet::FleetStatusRequest>,
    ) -> Result<Response<fleet::FleetStatusReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let status = self.0.fleet_status(&call).await?;
            Ok(fleet::FleetStatusReply {
                version: VERSION.to_owned(),
                fleet_id: self.0.fleet_id.as_bytes().to_vec(),
                epoch: status.epoch,
                nodes_ready: status.nodes_ready,
                nodes_silent: status.nodes_silent,
                jobs_queued: status.jobs_queued,
                jobs_running: status.jobs_running,
                store: status.store,
                now_us: self.0.clock.now().0,
            })
        })
        .await
    }

    async fn create_node_token(
        &self,
        request: Request<fleet::CreateNodeTokenRequest>,
    ) -> Result<Response<fleet::TokenReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let fleet::CreateNodeTokenRequest { node, pool, life_us } = request.into_inner();
            Ok(token_reply(
                self.0.create_node_token(&call, node, pool, Span(life_us)).await?,
            ))
        })
        .await
    }

    async fn create_login_token(
        &self,
        request: Request<fleet::CreateLoginTokenRequest>,
    ) -> Result<Response<fleet::TokenReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            Ok(token_reply(
                self.0
                    .create_login_token(&call, request.into_inner().user)
                    .await?,
            ))
        })
        .await
    }

    async fn list_tokens(
        &self,
        request: Request<fleet::ListTokensRequest>,
    ) -> Result<Response<fleet::ListTokensReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let tokens = self.0.list_tokens(&call).await?;
            Ok(fleet::ListTokensReply {
                tokens: tokens.iter().map(wire::write_token).collect(),
            })
        })
        .await
    }

    async fn revoke_token(
        &self,
        request: Request<fleet::RevokeTokenRequest>,
    ) -> Result<Response<fleet::RevokeTokenReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            self.0
                .revoke_token(&call, TokenId(request.into_inner().token_id))
                .await?;
            Ok(fleet::RevokeTokenReply {})
        })
        .await
    }

    async fn add_user(
        &self,
        request: Request<fleet::AddUserRequest>,
    ) -> Result<Response<fleet::User>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let fleet::AddUserRequest {
                name,
                role,
                unix_account,
                team,
            } = request.into_inner();
            let person = NewPerson {
                name,
                role,
                unix_account,
                team,
            };
            Ok(wire::write_user(&self.0.add_user(&call, person).await?))
        })
        .await
    }

    async fn list_users(
        &self,
        request: Request<fleet::ListUsersRequest>,
    ) -> Result<Response<fleet::ListUsersReply>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let users = self.0.list_users(&call).await?;
            Ok(fleet::ListUsersReply {
                users: users.iter().map(wire::write_user).collect(),
            })
        })
        .await
    }

    async fn get_user(
        &self,
        request: Request<fleet::UserRef>,
    ) -> Result<Response<fleet::UserDetail>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let name = request.into_inner().name;
            Ok(wire::write_user_detail(&self.0.see_user(&call, name).await?))
        })
        .await
    }

    async fn set_user(
        &self,
        request: Request<fleet::SetUserRequest>,
    ) -> Result<Response<fleet::User>, Status> {
        let call = self.0.call(&request)?;
        answer(&call.id, async {
            let fleet::SetUserRequest { name, team, role } = request.into_inner();
            Ok(wire::write_user(&self.0.set_user(&call, name, team, role).await?))
        })
        .await
    }

    async fn ban_user(&self, request: Request<fleet::UserRef>) -> Result<Response<fleet::User>, Status> {
        self.ban(request, true).await
    }

    async fn unban_user(&self, request: Request<fleet::UserRef>) -> Result<Response<fleet::User>, Status> {
        self.ban(request, false).await
    }
}
