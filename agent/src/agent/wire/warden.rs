//! The warden on its socket, as the agent hears it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use loadline_model::{AttemptId, Generation, LedgerId, Sequence};
use loadline_proto::types::v1 as types;
use loadline_proto::warden::v1 as warden;
use loadline_proto::warden::v1::warden_client::WardenClient as Client;
use prost::Message;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::WireError;
use super::slo::{self, SloFound};
use super::status::WardenStatus;

/// The warden does not answer as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WardenError {
    #[error("the warden does not answer ({what}): {}", said(status))]
    Call {
        what: &'static str,
        status: Box<tonic::Status>,
    },
    #[error("the warden did not answer within {}s ({what})", after.as_secs())]
    TimedOut { what: &'static str, after: Duration },
    #[error("the warden speaks another version ({what})")]
    Wire {
        what: &'static str,
        #[source]
        source: WireError,
    },
}

impl WardenError {
    /// It was not done in time, as the warden says itself or by its silence.
    pub(crate) fn is_late(&self) -> bool {
        match self {
            Self::Call { status, .. } => status.code() == tonic::Code::DeadlineExceeded,
            Self::TimedOut { .. } => true,
            Self::Wire { .. } => false,
        }
    }
}

/// tonic says "transport error" and keeps what happened below it.
fn said(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = std::error::Error::source(status);
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    text
}

/// Orders of the fleet, signed for the warden; the agent only carries them.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    pub(crate) generation: Generation,
    pub(super) signed: Vec<types::SignedOrder>,
}

/// An event of the warden, and the little of it that the agent acts on.
#[derive(Debug, Clone)]
pub(crate) struct NodeEvent {
    pub(crate) ledger: LedgerId,
    pub(crate) sequence: Sequence,
    /// The attempt it is about, and whether that has ended.
    pub(crate) attempt: Option<(AttemptId, bool)>,
    /// As it travels.
    pub(crate) body: Vec<u8>,
}

impl TryFrom<types::Event> for NodeEvent {
    type Error = WireError;

    fn try_from(event: types::Event) -> Result<Self, Self::Error> {
        let attempt = match &event.what {
            Some(types::event::What::Attempt(state)) => {
                let ended = state.phase == i32::from(types::AttemptPhase::Ended);
                Some((AttemptId::from_slice(&state.attempt_id)?, ended))
            }
            _ => None,
        };
        Ok(Self {
            ledger: LedgerId::from_slice(&event.ledger_id)?,
            sequence: Sequence(event.sequence),
            attempt,
            body: event.encode_to_vec(),
        })
    }
}

/// The warden's events as they happen.
pub(crate) struct EventStream(tonic::Streaming<types::Event>);

impl EventStream {
    /// The next; none when the warden ended the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<NodeEvent>, WardenError> {
        let failed = |status| WardenError::Call {
            what: "events",
            status: Box::new(status),
        };
        let event = self.0.message().await.map_err(failed)?;
        event
            .map(NodeEvent::try_from)
            .transpose()
            .map_err(|source| WardenError::Wire {
                what: "events",
                source,
            })
    }
}

/// A connection that is made again whenever it is gone.
#[derive(Debug, Clone)]
pub(crate) struct WardenClient {
    client: Client<Channel>,
    patience: Duration,
}

/// Orders are durable only after a commit, which may wait for a slow disk.
const APPLY_PATIENCE: Duration = Duration::from_secs(30);

impl WardenClient {
    pub(crate) fn new(socket: PathBuf, patience: Duration) -> Self {
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move {
                let named =
                    |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", socket.display()));
                UnixStream::connect(&socket)
                    .await
                    .map(TokioIo::new)
                    .map_err(named)
            }
        });
        let channel = Endpoint::from_static("http://warden.loadline")
            .connect_timeout(patience)
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(256 * 1024)
            .connect_with_connector_lazy(connector);
        Self {
            client: Client::new(channel),
            patience,
        }
    }

    async fn call<T>(
        &self,
        what: &'static str,
        patience: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, WardenError> {
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(WardenError::Call {
                what,
                status: Box::new(status),
            }),
            Err(_) => Err(WardenError::TimedOut {
                what,
                after: patience,
            }),
        }
    }

    pub(crate) async fn status(&self) -> Result<WardenStatus, WardenError> {
        let mut client = self.client.clone();
        let reply = self
            .call("status", self.patience, client.status(warden::StatusRequest {}))
            .await?;
        WardenStatus::try_from(reply).map_err(|source| WardenError::Wire {
            what: "status",
            source,
        })
    }

    /// Answers when every order is durable in the warden's ledger.
    pub(crate) async fn apply(&self, orders: &Orders) -> Result<Generation, WardenError> {
        let mut client = self.client.clone();
        let request = warden::ApplyRequest {
            orders: orders.signed.clone(),
        };
        let reply = self.call("apply", APPLY_PATIENCE, client.apply(request)).await?;
        Ok(Generation(reply.applied_generation))
    }

    pub(crate) async fn events(&self, after: Sequence) -> Result<EventStream, WardenError> {
        let mut client = self.client.clone();
        let request = warden::EventsRequest {
            after_sequence: after.0,
        };
        self.call("events", self.patience, client.events(request))
            .await
            .map(EventStream)
    }

    pub(crate) async fn observe(&self, found: Vec<SloFound>) -> Result<(), WardenError> {
        let mut client = self.client.clone();
        let readings = found.into_iter().map(slo::reading).collect();
        let request = warden::ObserveRequest { readings };
        self.call("observe", self.patience, client.observe(request))
            .await
            .map(drop)
    }

    /// Answers once journald has read all that ended workers wrote.
    pub(crate) async fn read(&self, patience: Duration) -> Result<(), WardenError> {
        let mut client = self.client.clone();
        self.call("read", patience, client.read(warden::ReadRequest {}))
            .await
            .map(drop)
    }

    pub(crate) async fn acknowledge(&self, ledger: LedgerId, through: Sequence) -> Result<(), WardenError> {
        let mut client = self.client.clone();
        let request = warden::AcknowledgeRequest {
            ledger_id: ledger.as_bytes().to_vec(),
            through_sequence: through.0,
        };
        self.call("acknowledge", APPLY_PATIENCE, client.acknowledge(request))
            .await
            .map(|_| ())
    }
}
