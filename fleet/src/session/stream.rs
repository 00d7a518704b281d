//! One session, from its hello to its end.
//!
//! Three loops run side by side: *up* hands a node's messages to the writer in their order, *answers* waits for
//! their commits and acknowledges, *down* sends orders. None waits for another, so an order is not held up by a
//! batch of events that is being committed, and several messages of a node share one commit.

use std::sync::Arc;
use std::time::Duration;

use loadline_model::NodeId;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tracing::{debug, info, warn};

use super::logs::{After, LogTable};
use super::registry::{DownSender, Open};
use super::wire::{Down, Up, Ups, is_quiet};
use crate::api::Edge;
use crate::api::call::Call;
use crate::api::failure::Failure;
use crate::state::{Command, Hello, Refused, Reply};
use crate::writer::{CloseReason, NodeLink, Outgoing, Pending};

/// A node says hello at once; whoever does not is not a node.
pub(super) const HELLO_WAIT: Duration = Duration::from_secs(10);
/// So many messages may wait for the way down.
const DOWN_MAX: usize = 64;
/// So many of a node's messages may wait for their commit; more wait on the node.
const PENDING_MAX: usize = 32;

pub(super) fn no_hello(why: &str) -> Failure {
    Failure::new(
        Code::InvalidArgument,
        "NO_HELLO",
        format!("a session begins with Hello: {why}"),
        "use an agent of the same minor version as fleetd",
    )
}

/// Opens the session and answers its way down.
pub(super) async fn open(
    edge: Arc<Edge>,
    call: &Call,
    hello: Hello,
    left_out: Vec<String>,
    ups: Ups,
) -> Result<ReceiverStream<Result<Down, Failure>>, Failure> {
    let (node, boot_id, version) = (hello.node, hello.boot_id.clone(), hello.version.clone());
    for problem in &left_out {
        edge.metrics.wire_problem("hello");
        warn!(%node, %problem, "an attempt in the node's hello is not understood");
    }
    let link = edge.fleet.open_session(hello).await?;
    let id = link.session;
    info!(%node, address = %call.address, %boot_id, %version, session = id.0, "node connected");
    let (down, downs) = mpsc::channel(DOWN_MAX);
    let NodeLink {
        epoch,
        acked,
        outgoing,
        ..
    } = link;
    // First of all, before anyone can find this session and ask it for logs. The channel is empty.
    down.try_send(Ok(Down::Welcome { epoch, acked })).ok();
    let open = Arc::new(Open {
        id,
        boot_id,
        down,
        logs: LogTable::default(),
    });
    edge.sessions.insert(node, open.clone());
    let session = Session {
        edge,
        node,
        open,
        drain: call.drain.clone(),
    };
    tokio::spawn(session.run(outgoing, ups));
    Ok(ReceiverStream::new(downs))
}

struct Session {
    edge: Arc<Edge>,
    node: NodeId,
    open: Arc<Open>,
    drain: watch::Receiver<bool>,
}

/// Why a session ended: the node's doing, or fleetd's with a last word.
enum End {
    ByNode,
    ByFleet(Failure),
}

impl Session {
    async fn run(self, outgoing: mpsc::Receiver<Outgoing>, ups: Ups) {
        let (pending, answers) = mpsc::channel(PENDING_MAX);
        // Whichever ends first ends the session. What the others held is resumed in the next one.
        let end = tokio::select! {
            end = self.up(ups, pending) => end,
            end = self.answers(answers) => end,
            end = self.down(outgoing) => end,
            end = self.drained() => end,
            () = self.open.down.closed() => End::ByNode,
        };
        self.edge.sessions.remove(self.node, self.open.id);
        self.open.logs.close();
        match end {
            End::ByNode => info!(node = %self.node, session = self.open.id.0, "node disconnected"),
            End::ByFleet(failure) => {
                info!(node = %self.node, session = self.open.id.0, reason = failure.reason, "session closed");
                // If the way down is full or gone the node notices the end of the stream all the same.
                self.open.down.try_send(Err(failure)).ok();
            }
        }
        let bye = Command::Bye {
            node: self.node,
            session: self.open.id,
        };
        if let Err(refused) = self.edge.fleet.submit(bye).await {
            debug!(node = %self.node, %refused, "the end of the session was not noted");
        }
    }

    async fn drained(&self) -> End {
        let mut drain = self.drain.clone();
        // An error means that the connection is gone, which the way up notices with its own words.
        if drain.wait_for(|drain| *drain).await.is_err() {
            std::future::pending::<()>().await;
        }
        End::ByFleet(Failure::draining())
    }

    async fn down(&self, mut outgoing: mpsc::Receiver<Outgoing>) -> End {
        loop {
            let down = match outgoing.recv().await {
                Some(Outgoing::Orders(orders)) => Down::Orders(orders),
                Some(Outgoing::Close(reason)) => return End::ByFleet(closed(reason)),
                None => return End::ByFleet(Failure::from(Refused::Stopped)),
            };
            if self.open.down.send(Ok(down)).await.is_err() {
                return End::ByNode;
            }
        }
    }

    async fn up(&self, mut ups: Ups, pending: mpsc::Sender<Pending>) -> End {
        // Unknown at first: what an earlier session left behind has to be corrected.
        let mut warden: Option<Option<String>> = None;
        loop {
            let up = match ups.next().await {
                None => return End::ByNode,
                Some(Err(status)) => {
                    if !is_quiet(&status) {
                        warn!(node = %self.node, code = ?status.code(), problem = status.message(),
                            "the node's stream broke");
                    }
                    return End::ByNode;
                }
                Some(Ok(Err(problem))) => {
                    self.edge.metrics.wire_problem("message");
                    warn!(node = %self.node, %problem, "a message of the node is not understood");
                    continue;
                }
                Some(Ok(Ok(up))) => up,
            };
            self.edge.metrics.session_message(up.kind());
            let changed = match &up {
                Up::Alive { warden_problem, .. } if warden.as_ref() != Some(warden_problem) => {
                    warden = Some(warden_problem.clone());
                    Some(self.warden_said(warden_problem.clone()))
                }
                _ => None,
            };
            for command in changed.into_iter().chain(self.command(up)) {
                if let Err(refused) = self.hand_on(command, &pending).await {
                    return End::ByFleet(Failure::from(refused));
                }
            }
        }
    }

    async fn hand_on(&self, command: Command, pending: &mpsc::Sender<Pending>) -> Result<(), Refused> {
        let answer = self.edge.fleet.enqueue(command).await?;
        pending.send(answer).await.map_err(|_| Refused::Stopped)
    }

    fn warden_said(&self, problem: Option<String>) -> Command {
        if let Some(problem) = &problem {
            warn!(node = %self.node, %problem, "the node's warden does not answer: nothing is placed there");
        }
        Command::Warden {
            node: self.node,
            session: self.open.id,
            problem,
        }
    }

    fn command(&self, up: Up) -> Option<Command> {
        let (node, session) = (self.node, self.open.id);
        match up {
            Up::Alive {
                sample,
                word,
                inventory,
                ..
            } => Some(Command::Alive {
                node,
                session,
                sample,
                word,
                inventory,
            }),
            Up::Events(events) if events.is_empty() => None,
            Up::Events(events) => Some(Command::Events {
                node,
                session,
                events,
            }),
            Up::Applied(generation) => Some(Command::Applied {
                node,
                session,
                generation,
            }),
            Up::Log { request, chunk } => {
                if self.open.logs.deliver(request, chunk) == After::Cancel {
                    cancel_log(&self.open.down, request);
                }
                None
            }
            Up::Unknown => {
                self.edge.metrics.wire_problem("unknown");
                None
            }
        }
    }

    async fn answers(&self, mut answers: mpsc::Receiver<Pending>) -> End {
        while let Some(answer) = answers.recv().await {
            match answer.answer().await {
                Ok(Reply::Acked { ledger, sequence }) => {
                    if self
                        .open
                        .down
                        .send(Ok(Down::Ack { ledger, sequence }))
                        .await
                        .is_err()
                    {
                        return End::ByNode;
                    }
                }
                Ok(_) => {}
                // A full disk: nothing is acknowledged, the node keeps its events and sends them again in the
                // next session, which begins after its back-off.
                Err(refused) => return End::ByFleet(Failure::from(refused)),
            }
        }
        // The way up has ended and says why.
        std::future::pending().await
    }
}

fn cancel_log(down: &DownSender, request: u64) {
    // If this does not get through, the node's next chunk is answered the same.
    down.try_send(Ok(Down::LogCancel { request })).ok();
}

fn closed(reason: CloseReason) -> Failure {
    match reason {
        CloseReason::Banned => Failure::new(
            Code::PermissionDenied,
            "NODE_BANNED",
            "this node is banned from the fleet",
            "ask an operator; to come back it joins anew",
        ),
        CloseReason::Replaced => Failure::from(Refused::SessionReplaced),
    }
}
