//! The other end of the local socket, for the warden's own commands.

use std::io;
use std::path::Path;

use loadline_model::AttemptId;
use loadline_proto::warden::v1::warden_client::WardenClient;
use loadline_proto::warden::v1::{DrainRequest, StatusRequest};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// A running warden.
#[derive(Debug)]
pub struct LocalWarden(WardenClient<Channel>);

impl LocalWarden {
    /// Connects; none if no warden listens there.
    pub async fn connect(socket: &Path) -> Option<Self> {
        let socket = socket.to_owned();
        let dial = move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(UnixStream::connect(socket).await?)) }
        };
        // The address is a formality: the connector dials the socket.
        let endpoint = Endpoint::from_static("http://warden");
        let channel = endpoint.connect_with_connector(tower::service_fn(dial)).await;
        channel.ok().map(|channel| Self(WardenClient::new(channel)))
    }

    /// Asks it to end all workers.
    ///
    /// # Errors
    /// When it refuses or is gone.
    pub async fn drain(&mut self) -> Result<(), tonic::Status> {
        self.0.drain(DrainRequest {}).await.map(drop)
    }

    /// Where its ladder stands, in its own word; none before its first look.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn level(&mut self) -> Result<Option<String>, tonic::Status> {
        let status = self.0.status(StatusRequest {}).await?.into_inner();
        Ok(status.headroom.map(|headroom| headroom.level))
    }

    /// The units of workers that have not ended.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn workers(&mut self) -> Result<Vec<String>, tonic::Status> {
        let status = self.0.status(StatusRequest {}).await?.into_inner();
        let name = |id: &[u8]| AttemptId::from_slice(id).map_or_else(|_| "?".into(), |id| id.unit_name());
        Ok(status
            .attempts
            .iter()
            .map(|state| name(&state.attempt_id))
            .collect())
    }
}
