//! The service Access, port 7718.

use std::sync::Arc;

use loadline_proto::fleet::v1 as fleet;
use loadline_proto::fleet::v1::access_server::Access;
use tonic::{Request, Response, Status};

use super::answer;
use crate::api::Edge;
use crate::api::access::{Joined, LoggedIn};
use crate::api::call::{newcomer, request_id};

#[derive(Debug, Clone)]
pub(crate) struct AccessService(pub(crate) Arc<Edge>);

#[tonic::async_trait]
impl Access for AccessService {
    async fn join(&self, request: Request<fleet::JoinRequest>) -> Result<Response<fleet::JoinReply>, Status> {
        answer(&request_id(&request), async {
            let author = newcomer(&request, &request.get_ref().secret)?;
            let fleet::JoinRequest {
                secret,
                node,
                csr_der,
                ..
            } = request.into_inner();
            let Joined {
                node,
                pool,
                certificate,
                ca_pem,
            } = self.0.join_node(&author, &secret, &node, &csr_der).await?;
            Ok(fleet::JoinReply {
                node_id: node.as_bytes().to_vec(),
                fleet_id: self.0.fleet_id.as_bytes().to_vec(),
                certificate_pem: certificate.pem,
                ca_pem,
                order_key_id: self.0.order_key.id().to_owned(),
                order_public_key: self.0.order_key.public_key().to_vec(),
                session_address: self.0.session_address.clone(),
                pool,
            })
        })
        .await
    }

    async fn login(
        &self,
        request: Request<fleet::LoginRequest>,
    ) -> Result<Response<fleet::LoginReply>, Status> {
        answer(&request_id(&request), async {
            let author = newcomer(&request, &request.get_ref().secret)?;
            let fleet::LoginRequest { secret, csr_der } = request.into_inner();
            let LoggedIn {
                user,
                certificate,
                ca_pem,
            } = self.0.login(&author, &secret, &csr_der).await?;
            Ok(fleet::LoginReply {
                user: user.name,
                role: user.role.word().to_owned(),
                certificate_pem: certificate.pem,
                ca_pem,
                session_address: self.0.session_address.clone(),
                expires_us: certificate.expires.0,
            })
        })
        .await
    }
}
