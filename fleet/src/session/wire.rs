//! The stream's messages in fleetd's own words, and the generated service trait, filled.

use std::pin::Pin;
use std::sync::Arc;

use loadline_model::{FleetId, Generation, LedgerId, NodeSample, Sequence};
use loadline_proto::node::v1::node_session_server::NodeSession;
use loadline_proto::node::v1::{self as node, fleet_message, node_message};
use loadline_proto::types::v1 as types;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};

use super::logs::LogChunk;
use super::registry::LogStart;
use super::stream;
use crate::api::call::{RequestId, request_id};
use crate::api::failure::Failure;
use crate::api::{Edge, VERSION};
use crate::state::{Event, Inventory, Order, Word};
use crate::wire::{self, ReadHello, WireError};

pub(crate) use loadline_proto::node::v1::node_session_server::NodeSessionServer;

/// Lines of output, passed on as they came.
#[derive(Debug, Default)]
pub(crate) struct LogLines(pub(crate) Vec<types::LogLine>);

/// What a node says after its hello.
#[derive(Debug)]
pub(super) enum Up {
    Alive {
        sample: Option<NodeSample>,
        word: Option<Box<Word>>,
        inventory: Option<Box<Inventory>>,
        warden_problem: Option<String>,
    },
    Events(Vec<Event>),
    Applied(Generation),
    Log {
        request: u64,
        chunk: LogChunk,
    },
    /// A second hello, or a message of a newer version.
    Unknown,
}

/// What fleetd says.
#[derive(Debug)]
pub(super) enum Down {
    Welcome { epoch: u64, acked: Sequence },
    Orders(Vec<Order>),
    Ack { ledger: LedgerId, sequence: Sequence },
    LogRequest { request: u64, start: LogStart },
    LogCancel { request: u64 },
}

impl Up {
    /// The label under which it is counted.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Alive { .. } => "liveness",
            Self::Events(_) => "events",
            Self::Applied(_) => "applied",
            Self::Log { .. } => "logs",
            Self::Unknown => "unknown",
        }
    }
}

fn read_up(message: node::NodeMessage) -> Result<Up, WireError> {
    Ok(match message.what {
        Some(node_message::What::Liveness(node::Liveness {
            sample,
            inventory,
            warden_problem,
        })) => Up::Alive {
            word: sample.as_ref().and_then(wire::read_word).map(Box::new),
            sample: sample.map(wire::read_sample).transpose()?,
            inventory: inventory.map(wire::read_inventory).transpose()?.map(Box::new),
            warden_problem: Some(warden_problem).filter(|problem| !problem.is_empty()),
        },
        Some(node_message::What::Events(batch)) => Up::Events(wire::read_events(batch)?),
        Some(node_message::What::Applied(node::OrdersApplied { generation })) => {
            Up::Applied(Generation(generation))
        }
        Some(node_message::What::Logs(node::LogChunk {
            request_id,
            lines,
            end,
            error,
            cursor,
        })) => Up::Log {
            request: request_id,
            chunk: LogChunk {
                lines: LogLines(lines),
                end,
                error,
                cursor,
            },
        },
        Some(node_message::What::Hello(_)) | None => Up::Unknown,
    })
}

fn write_down(edge: &Edge, down: Down) -> node::FleetMessage {
    let fleet: FleetId = edge.fleet_id;
    let what = match down {
        Down::Welcome { epoch, acked } => fleet_message::What::Welcome(node::Welcome {
            version: VERSION.to_owned(),
            fleet_id: fleet.as_bytes().to_vec(),
            epoch,
            acked_sequence: acked.0,
        }),
        Down::Orders(orders) => fleet_message::What::Desired(node::Desired {
            generation: orders.last().map_or(0, |order| order.generation.0),
            orders: orders
                .iter()
                .map(|order| wire::sign_order(fleet, &edge.order_key, order))
                .collect(),
        }),
        Down::Ack { ledger, sequence } => fleet_message::What::Ack(node::EventAck {
            ledger_id: ledger.as_bytes().to_vec(),
            sequence: sequence.0,
        }),
        Down::LogRequest { request, start } => fleet_message::What::LogRequest(node::LogRequest {
            request_id: request,
            attempt_id: start.attempt.as_bytes().to_vec(),
            follow: start.follow,
            tail: start.tail,
            after_cursor: start.after.unwrap_or_default(),
        }),
        Down::LogCancel { request } => {
            fleet_message::What::LogCancel(node::LogCancel { request_id: request })
        }
    };
    node::FleetMessage { what: Some(what) }
}

/// The service NodeSession.
#[derive(Debug, Clone)]
pub(crate) struct NodeSessionService(pub(crate) Arc<Edge>);

/// The way up, hello included or not.
pub(super) type Ups = Pin<Box<dyn Stream<Item = Result<Result<Up, WireError>, Status>> + Send>>;

impl NodeSessionService {
    async fn open(
        &self,
        id: &RequestId,
        request: Request<Streaming<node::NodeMessage>>,
    ) -> Result<<Self as NodeSession>::SessionStream, Failure> {
        let call = self.0.call_of(&request)?;
        let speaker = call.node()?;
        let mut messages = request.into_inner();
        let first = tokio::time::timeout(stream::HELLO_WAIT, messages.message()).await;
        let hello = match first {
            Ok(Ok(Some(node::NodeMessage {
                what: Some(node_message::What::Hello(hello)),
            }))) => hello,
            Ok(Ok(_)) => return Err(stream::no_hello("the first message was not Hello")),
            Ok(Err(status)) => return Err(stream::no_hello(status.message())),
            Err(_) => return Err(stream::no_hello("no Hello in time")),
        };
        let ReadHello { hello, left_out } = wire::read_hello(speaker, hello)?;
        let ups: Ups = Box::pin(messages.map(|message| message.map(read_up)));
        let downs = stream::open(self.0.clone(), &call, hello, left_out, ups).await?;
        let (edge, id) = (self.0.clone(), id.clone());
        Ok(Box::pin(downs.map(move |down| match down {
            Ok(down) => Ok(write_down(&edge, down)),
            Err(failure) => Err(failure.into_status(&id.0)),
        })))
    }
}

#[tonic::async_trait]
impl NodeSession for NodeSessionService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<node::FleetMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<node::NodeMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let id = request_id(&request);
        let opened = self.open(&id, request).await;
        opened
            .map(Response::new)
            .map_err(|failure| failure.into_status(&id.0))
    }

    async fn renew(
        &self,
        request: Request<node::RenewRequest>,
    ) -> Result<Response<node::RenewReply>, Status> {
        let call = self.0.call(&request)?;
        let renewed = self.0.renew(&call, &request.into_inner().csr_der).await;
        renewed
            .map(|issued| {
                Response::new(node::RenewReply {
                    certificate_pem: issued.pem,
                })
            })
            .map_err(|failure| failure.into_status(&call.id.0))
    }
}

/// True for the ways in which a stream simply ends.
pub(super) fn is_quiet(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Cancelled | Code::Unavailable | Code::Unknown | Code::Ok
    )
}
