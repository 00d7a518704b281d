//! The session with the fleet, as port 7717 speaks it.

use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use loadline_model::{AttemptId, FleetId, Generation, LedgerId, Sequence, WallTime};
use loadline_proto::node::v1::node_session_client::NodeSessionClient;
use loadline_proto::node::v1::{self as node, fleet_message, node_message};
use loadline_proto::types::v1 as types;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::status::WardenStatus;
use super::warden::Orders;
use super::{Refusal, WireError};
use crate::agent::trust::FleetFile;
use crate::spool::{Broken, Record};

/// How a dead connection is noticed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keepalive {
    pub(crate) every: Duration,
    pub(crate) answer: Duration,
}

/// Small windows: a fleet cannot make a node hold more than this for a stream and for the connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 128 * 1024;

/// gRPC over a connection that stands. When it breaks it stays broken: who dials again decides when and how.
pub(super) async fn channel<T>(stream: T, keepalive: Keepalive) -> Result<Channel, tonic::transport::Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let once = Mutex::new(Some(TokioIo::new(stream)));
    let connector = tower::service_fn(move |_: Uri| {
        let taken = once
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        std::future::ready(taken.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    Endpoint::from_static("http://fleetd.loadline")
        .http2_keep_alive_interval(keepalive.every)
        .keep_alive_timeout(keepalive.answer)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_with_connector(connector)
        .await
}

/// What the node says first.
#[derive(Debug)]
pub(crate) struct Hello(node::Hello);

/// What this agent can do that an older one cannot.
const CAPABILITIES: [&str; 1] = ["log_cursor"];
/// Orders that say what the node may do; its warden must know them.
const CEILING: &str = "ceiling";

impl Hello {
    /// `first`: the oldest event that can still be told; `None`: not known just now.
    pub(crate) fn new(file: &FleetFile, status: &WardenStatus, first: Option<Sequence>) -> Self {
        Self(node::Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: capabilities(status),
            node_id: file.node_id.as_bytes().to_vec(),
            name: file.node.clone(),
            boot_id: status.boot_id.clone(),
            ledger_id: status.ledger.as_bytes().to_vec(),
            applied_generation: status.applied.0,
            last_sequence: status.last_sequence.0,
            first_sequence: first.map_or(0, |first| first.0),
            inventory: status.inventory.clone(),
            attempts: status.attempts.clone(),
        })
    }
}

/// A warden that says what its owner wants knows orders that lower it. It may be older than this agent.
fn capabilities(status: &WardenStatus) -> Vec<String> {
    let inventory = status.inventory.as_ref();
    let knows = inventory.is_some_and(|inventory| !inventory.owner_mode.is_empty());
    let all = CAPABILITIES.into_iter().chain(knows.then_some(CEILING));
    all.map(str::to_owned).collect()
}

/// What the fleet answers it.
#[derive(Debug, Clone)]
pub(crate) struct Welcome {
    pub(crate) version: String,
    pub(crate) fleet: FleetId,
    pub(crate) epoch: u64,
    pub(crate) acked: Sequence,
}

/// Someone wants to read an attempt's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogRequest {
    pub(crate) id: u64,
    pub(crate) attempt: AttemptId,
    pub(crate) follow: bool,
    pub(crate) tail: Option<u32>,
    pub(crate) after_cursor: Option<String>,
}

/// What the fleet sends.
#[derive(Debug)]
pub(crate) enum Down {
    Welcome(Welcome),
    Desired(Orders),
    Ack {
        ledger: LedgerId,
        sequence: Sequence,
    },
    LogRequest(LogRequest),
    LogCancel(u64),
    /// Of a newer fleet.
    Unknown,
}

impl TryFrom<node::FleetMessage> for Down {
    type Error = WireError;

    fn try_from(message: node::FleetMessage) -> Result<Self, Self::Error> {
        use fleet_message::What;
        Ok(match message.what {
            Some(What::Welcome(node::Welcome {
                version,
                fleet_id,
                epoch,
                acked_sequence,
            })) => {
                let fleet = FleetId::from_slice(&fleet_id)?;
                Self::Welcome(Welcome {
                    version,
                    fleet,
                    epoch,
                    acked: Sequence(acked_sequence),
                })
            }
            Some(What::Desired(node::Desired { generation, orders })) => Self::Desired(Orders {
                generation: Generation(generation),
                signed: orders,
            }),
            Some(What::Ack(node::EventAck { ledger_id, sequence })) => Self::Ack {
                ledger: LedgerId::from_slice(&ledger_id)?,
                sequence: Sequence(sequence),
            },
            Some(What::LogRequest(node::LogRequest {
                request_id,
                attempt_id,
                follow,
                tail,
                after_cursor,
            })) => Self::LogRequest(LogRequest {
                id: request_id,
                attempt: AttemptId::from_slice(&attempt_id)?,
                follow,
                tail,
                after_cursor: Some(after_cursor).filter(|cursor| !cursor.is_empty()),
            }),
            Some(What::LogCancel(node::LogCancel { request_id })) => Self::LogCancel(request_id),
            None => Self::Unknown,
        })
    }
}

/// Events ready to go.
#[derive(Debug)]
pub(crate) struct EventBatch(Vec<types::Event>);

impl EventBatch {
    /// From the spool. An event of no known form cannot come out of a record whose checksum holds, unless a
    /// newer agent wrote it: it is left out and named.
    pub(crate) fn new(records: &[Record]) -> (Self, Vec<Sequence>) {
        let mut unknown = Vec::new();
        let mut events = Vec::with_capacity(records.len());
        for record in records {
            match types::Event::decode(record.body.as_slice()) {
                Ok(event) => events.push(event),
                Err(_) => unknown.push(record.sequence),
            }
        }
        (Self(events), unknown)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The event that takes the place of one that the spool could no longer read.
pub(crate) fn stand_in(broken: &Broken, boot_id: &str, now: WallTime) -> Option<Vec<u8>> {
    let sentence = format!(
        "event {} of this node was unreadable in its agent's spool ({}) and is kept aside there; what it said is lost",
        broken.sequence, broken.why
    );
    let receipt = types::Receipt {
        at_us: now.0,
        action: loadline_model::ReceiptAction::RecordSetAside.word().to_owned(),
        attempt_id: Vec::new(),
        subject: "spool.db".to_owned(),
        sentence,
    };
    let event = types::Event {
        ledger_id: broken.ledger?.as_bytes().to_vec(),
        sequence: broken.sequence.0,
        boot_id: boot_id.to_owned(),
        at_us: now.0,
        what: Some(types::event::What::Receipt(receipt)),
    };
    Some(event.encode_to_vec())
}

/// One line of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) at: WallTime,
    pub(crate) stderr: bool,
    pub(crate) by_warden: bool,
    pub(crate) text: Vec<u8>,
}

/// Some lines of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogChunk {
    pub(crate) request: u64,
    pub(crate) lines: Vec<LogLine>,
    pub(crate) cursor: String,
    pub(crate) end: bool,
    pub(crate) error: String,
}

/// What the node sends.
#[derive(Debug)]
pub(crate) enum Up {
    Liveness(Box<node::Liveness>),
    Events(EventBatch),
    Applied(Generation),
    Logs(LogChunk),
}

/// Builds liveness messages: a sample only once, the inventory only when it changed.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    sampled_at: Option<i64>,
    inventory: Option<types::Inventory>,
}

impl Reporter {
    /// Remembers what the Hello already said.
    pub(crate) fn after_hello(status: &WardenStatus) -> Self {
        Self {
            sampled_at: None,
            inventory: status.inventory.clone(),
        }
    }

    pub(crate) fn liveness(&mut self, status: Option<&WardenStatus>, problem: Option<&str>) -> Up {
        let sample = status
            .filter(|_| problem.is_none())
            .and_then(|status| status.raw_sample.clone())
            .filter(|sample| self.sampled_at != Some(sample.at_us));
        if let Some(sample) = &sample {
            self.sampled_at = Some(sample.at_us);
        }
        let inventory = status
            .and_then(|status| status.inventory.clone())
            .filter(|now| self.inventory.as_ref() != Some(now));
        if inventory.is_some() {
            self.inventory.clone_from(&inventory);
        }
        let warden_problem = problem.unwrap_or_default().to_owned();
        Up::Liveness(Box::new(node::Liveness {
            sample,
            inventory,
            warden_problem,
        }))
    }
}

fn encode(up: Up) -> node::NodeMessage {
    use node_message::What;
    let what = match up {
        Up::Liveness(liveness) => What::Liveness(*liveness),
        Up::Events(EventBatch(events)) => What::Events(node::EventBatch { events }),
        Up::Applied(generation) => What::Applied(node::OrdersApplied {
            generation: generation.0,
        }),
        Up::Logs(LogChunk {
            request,
            lines,
            cursor,
            end,
            error,
        }) => What::Logs(node::LogChunk {
            request_id: request,
            lines: lines.into_iter().map(line).collect(),
            end,
            error,
            cursor,
        }),
    };
    node::NodeMessage { what: Some(what) }
}

fn line(line: LogLine) -> types::LogLine {
    let LogLine {
        at,
        stderr,
        by_warden,
        text,
    } = line;
    types::LogLine {
        at_us: at.0,
        stderr,
        text,
        by_warden,
    }
}

/// What is sent, most urgent lane first: a slow link or a talkative worker never delays liveness by more than
/// one message.
#[derive(Debug)]
pub(crate) struct Outgoing {
    hello: Option<Hello>,
    lanes: [mpsc::Receiver<Up>; 3],
}

/// Where each kind of message is put in.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    /// Liveness and applied orders.
    pub(crate) urgent: mpsc::Sender<Up>,
    pub(crate) events: mpsc::Sender<Up>,
    pub(crate) logs: mpsc::Sender<Up>,
}

/// Lanes are short: what waits, waits where it came from (the spool, the journal).
pub(crate) fn lanes(hello: Hello) -> (Lanes, Outgoing) {
    let (urgent, first) = mpsc::channel(4);
    let (events, second) = mpsc::channel(1);
    let (logs, third) = mpsc::channel(1);
    (
        Lanes { urgent, events, logs },
        Outgoing {
            hello: Some(hello),
            lanes: [first, second, third],
        },
    )
}

impl Stream for Outgoing {
    type Item = node::NodeMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(Hello(hello)) = self.hello.take() {
            return Poll::Ready(Some(node::NodeMessage {
                what: Some(node_message::What::Hello(hello)),
            }));
        }
        let mut closed = 0;
        for lane in &mut self.lanes {
            match lane.poll_recv(context) {
                Poll::Ready(Some(up)) => return Poll::Ready(Some(encode(up))),
                Poll::Ready(None) => closed += 1,
                Poll::Pending => {}
            }
        }
        if closed == self.lanes.len() {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

/// What the fleet sends, in order.
pub(crate) struct Inbox(tonic::Streaming<node::FleetMessage>);

impl Inbox {
    /// The next; none when the fleet ended the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Result<Down, WireError>>, Refusal> {
        Ok(self.0.message().await?.map(Down::try_from))
    }
}

/// Single calls beside the stream.
#[derive(Debug, Clone)]
pub(crate) struct Calls(NodeSessionClient<Channel>);

impl Calls {
    /// A new certificate for this node.
    pub(crate) async fn renew(&self, request: Vec<u8>) -> Result<String, Refusal> {
        let reply = self
            .0
            .clone()
            .renew(node::RenewRequest { csr_der: request })
            .await?;
        Ok(reply.into_inner().certificate_pem)
    }
}

/// Opens the stream on a connection that stands.
pub(crate) async fn open<T>(
    stream: T,
    keepalive: Keepalive,
    outgoing: Outgoing,
) -> Result<(Calls, Inbox), Refusal>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let channel = channel(stream, keepalive)
        .await
        .map_err(|error| Refusal::from(tonic::Status::unavailable(error.to_string())))?;
    let mut client = NodeSessionClient::new(channel);
    let inbox = client.session(outgoing).await?.into_inner();
    Ok((Calls(client), Inbox(inbox)))
}
