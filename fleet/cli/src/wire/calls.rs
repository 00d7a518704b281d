//! The operators' calls, and the login.

use loadline_model::{FleetId, Span, WallTime};
use loadline_proto::fleet::v1 as pb;
use loadline_proto::fleet::v1::access_client::AccessClient;
use tonic::transport::Channel;

use super::client::{Client, channel, node_ref, node_row};
use super::failure::CallError;
use super::node::headroom;
use crate::tls;
use crate::view::{FleetStatus, HeadroomView, Me, Moment, NewToken, NodeRow, TokenRow, UserRow};

const fn moment(micros: i64) -> Moment {
    Moment(WallTime(micros))
}

impl Client {
    /// Places nothing new on a node.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn drain(&mut self, name: &str) -> Result<NodeRow, CallError> {
        node_row(self.nodes.drain(node_ref(name)).await?.into_inner())
    }

    /// Ends a drain.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn resume(&mut self, name: &str) -> Result<NodeRow, CallError> {
        node_row(self.nodes.resume(node_ref(name)).await?.into_inner())
    }

    /// Gives up a lost node.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn forget(&mut self, name: &str) -> Result<NodeRow, CallError> {
        node_row(self.nodes.forget(node_ref(name)).await?.into_inner())
    }

    /// Shuts a node out.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn ban_node(&mut self, name: &str) -> Result<NodeRow, CallError> {
        node_row(self.nodes.ban(node_ref(name)).await?.into_inner())
    }

    /// Sets labels and taints of a node and takes them away.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn mark(
        &mut self,
        name: &str,
        labels: Vec<String>,
        taints: Vec<String>,
    ) -> Result<NodeRow, CallError> {
        let name = name.into();
        let request = pb::MarkRequest { name, labels, taints };
        node_row(self.nodes.mark(request).await?.into_inner())
    }

    /// Lets a node do no more than a mode.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_mode(&mut self, name: &str, mode: &str) -> Result<NodeRow, CallError> {
        let request = pb::SetCeilingRequest {
            name: name.into(),
            mode: Some(mode.into()),
            line_per_mille: None,
        };
        node_row(self.nodes.set_ceiling(request).await?.into_inner())
    }

    /// Lets a node lend at most a part of its line, in per cent.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_line(&mut self, name: &str, percent: u16) -> Result<NodeRow, CallError> {
        let request = pb::SetCeilingRequest {
            name: name.into(),
            mode: None,
            line_per_mille: Some(u32::from(percent) * 10),
        };
        node_row(self.nodes.set_ceiling(request).await?.into_inner())
    }

    /// What nodes keep, lend and have cost.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn headroom(&mut self, node: Option<String>) -> Result<Vec<HeadroomView>, CallError> {
        let node = node.unwrap_or_default();
        let reply = self.nodes.headroom(pb::HeadroomRequest { node }).await?;
        reply.into_inner().nodes.into_iter().map(headroom).collect()
    }

    /// Who one is.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn who_am_i(&mut self) -> Result<Me, CallError> {
        let me = self.admin.who_am_i(pb::WhoAmIRequest {}).await?.into_inner();
        Ok(Me {
            user: me.user,
            role: me.role,
            unix_account: me.unix_account,
            team: me.team,
            certificate_expires_at: moment(me.certificate_expires_us),
        })
    }

    /// How the fleet is.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn status(&mut self) -> Result<FleetStatus, CallError> {
        let status = self
            .admin
            .fleet_status(pb::FleetStatusRequest {})
            .await?
            .into_inner();
        Ok(FleetStatus {
            version: status.version,
            fleet_id: FleetId::from_slice(&status.fleet_id)
                .map_or_else(|_| String::new(), |id| id.to_string()),
            nodes_ready: status.nodes_ready,
            nodes_silent: status.nodes_silent,
            jobs_queued: status.jobs_queued,
            jobs_running: status.jobs_running,
            store: status.store,
            now: (status.now_us != 0).then_some(moment(status.now_us)),
        })
    }

    /// Makes a token for a node.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn node_token(
        &mut self,
        node: &str,
        pool: Option<String>,
        life: Option<Span>,
    ) -> Result<NewToken, CallError> {
        let request = pb::CreateNodeTokenRequest {
            node: node.into(),
            pool: pool.unwrap_or_default(),
            life_us: life.unwrap_or_default().0,
        };
        let reply = self.admin.create_node_token(request).await?.into_inner();
        Ok(new_token("node", node, reply))
    }

    /// Makes a token for a person.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn login_token(&mut self, user: &str) -> Result<NewToken, CallError> {
        let request = pb::CreateLoginTokenRequest { user: user.into() };
        let reply = self.admin.create_login_token(request).await?.into_inner();
        Ok(new_token("login", user, reply))
    }

    /// Lists tokens.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn tokens(&mut self) -> Result<Vec<TokenRow>, CallError> {
        let reply = self
            .admin
            .list_tokens(pb::ListTokensRequest {})
            .await?
            .into_inner();
        let row = |token: pb::Token| TokenRow {
            token_id: token.token_id,
            kind: token.kind,
            bound_to: token.bound_to,
            pool: token.pool,
            expires_at: moment(token.expires_us),
            state: token.state,
        };
        Ok(reply.tokens.into_iter().map(row).collect())
    }

    /// Makes a token useless.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn revoke_token(&mut self, token: &str) -> Result<(), CallError> {
        let request = pb::RevokeTokenRequest {
            token_id: token.into(),
        };
        self.admin.revoke_token(request).await?;
        Ok(())
    }

    /// Adds a person.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn add_user(&mut self, new: UserRow) -> Result<UserRow, CallError> {
        let request = pb::AddUserRequest {
            name: new.name,
            role: new.role,
            unix_account: new.unix_account,
            team: new.team,
        };
        Ok(user(self.admin.add_user(request).await?.into_inner()))
    }

    /// Lists people.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn users(&mut self) -> Result<Vec<UserRow>, CallError> {
        let reply = self.admin.list_users(pb::ListUsersRequest {}).await?.into_inner();
        Ok(reply.users.into_iter().map(user).collect())
    }

    /// Shuts a person out, or lets them in again.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_banned(&mut self, name: &str, banned: bool) -> Result<UserRow, CallError> {
        let request = pb::UserRef { name: name.into() };
        let reply = match banned {
            true => self.admin.ban_user(request).await?,
            false => self.admin.unban_user(request).await?,
        };
        Ok(user(reply.into_inner()))
    }
}

pub(super) fn user(user: pb::User) -> UserRow {
    UserRow {
        name: user.name,
        role: user.role,
        unix_account: user.unix_account,
        team: user.team,
        banned: user.banned,
    }
}

fn new_token(kind: &'static str, bound_to: &str, reply: pb::TokenReply) -> NewToken {
    NewToken {
        token_id: reply.token_id,
        token: reply.token,
        expires_at: moment(reply.expires_us),
        command: reply.command,
        bound_to: bound_to.into(),
        kind,
    }
}

/// The access port: login only.
#[derive(Debug)]
pub struct Access(AccessClient<Channel>);

/// What a login gives.
#[derive(Debug)]
pub struct Login {
    /// As whom.
    pub user: String,
    /// What they may do.
    pub role: String,
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The authority, PEM.
    pub ca_pem: String,
    /// Where to go from now on.
    pub session_address: String,
    /// When the certificate ends.
    pub expires: Moment,
}

impl Access {
    /// Takes over a connection.
    ///
    /// # Errors
    /// When the other side does not speak HTTP/2.
    pub async fn new(stream: tls::Stream) -> Result<Self, CallError> {
        Ok(Self(AccessClient::new(channel(stream).await?)))
    }

    /// Trades the secret of a token for a certificate.
    ///
    /// # Errors
    /// When the call fails, for instance because the token was used.
    pub async fn login(&mut self, secret: String, csr_der: Vec<u8>) -> Result<Login, CallError> {
        let reply = self
            .0
            .login(pb::LoginRequest { secret, csr_der })
            .await?
            .into_inner();
        Ok(Login {
            user: reply.user,
            role: reply.role,
            certificate_pem: reply.certificate_pem,
            ca_pem: reply.ca_pem,
            session_address: reply.session_address,
            expires: moment(reply.expires_us),
        })
    }
}
