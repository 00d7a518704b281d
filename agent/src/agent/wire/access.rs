//! Joining, as the fleet's port 7718 speaks it.

use loadline_model::{FleetId, NodeId};
use loadline_proto::fleet::v1::access_client::AccessClient;
use loadline_proto::fleet::v1::{JoinReply, JoinRequest};
use tokio_rustls::client::TlsStream;

use super::fleet::{Keepalive, channel};
use super::{Refusal, RefusalKind, WireError};
use crate::agent::tls::Io;

/// What the fleet answers a node that may join.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) node: NodeId,
    pub(crate) fleet: FleetId,
    pub(crate) certificate: String,
    pub(crate) ca: String,
    pub(crate) order_key_id: String,
    pub(crate) order_key: Vec<u8>,
    pub(crate) session_address: String,
    pub(crate) pool: String,
}

impl TryFrom<JoinReply> for Joined {
    type Error = WireError;

    fn try_from(reply: JoinReply) -> Result<Self, Self::Error> {
        let JoinReply {
            node_id,
            fleet_id,
            certificate_pem,
            ca_pem,
            order_key_id,
            order_public_key,
            session_address,
            pool,
        } = reply;
        for (what, text) in [
            ("certificate", &certificate_pem),
            ("CA", &ca_pem),
            ("session address", &session_address),
        ] {
            if text.is_empty() {
                return Err(WireError::Missing(what));
            }
        }
        Ok(Self {
            node: NodeId::from_slice(&node_id)?,
            fleet: FleetId::from_slice(&fleet_id)?,
            certificate: certificate_pem,
            ca: ca_pem,
            order_key_id,
            order_key: order_public_key,
            session_address,
            pool,
        })
    }
}

/// Asks to join, once.
pub(crate) async fn join(
    stream: TlsStream<Box<dyn Io>>,
    keepalive: Keepalive,
    secret: String,
    node: String,
    request: Vec<u8>,
) -> Result<Joined, Refusal> {
    let broken = |error: &dyn std::error::Error| Refusal {
        kind: RefusalKind::Unreachable,
        message: format!("the fleet's join port does not speak as expected: {error}"),
        reason: String::new(),
        next_step: "check that the fleet's version fits this agent's".into(),
    };
    let channel = channel(stream, keepalive).await.map_err(|error| broken(&error))?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let request = JoinRequest {
        secret,
        node,
        csr_der: request,
        version,
    };
    let reply = AccessClient::new(channel).join(request).await?.into_inner();
    Joined::try_from(reply).map_err(|error| broken(&error))
}
