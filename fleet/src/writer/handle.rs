//! The handle: commands, reads and subscriptions enter one bounded queue and are answered by the writer.

use std::sync::Arc;
use std::time::Duration;

use loadline_model::{NodeId, Sequence};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::stats::Stats;
use crate::trust::Directory;

use crate::state::{
    Command, Hello, JobChange, JobDetail, JobRef, Now, Order, Refused, Reply, SessionId, State,
};

/// So many orders may wait for one connection; a node that takes them slower is disconnected and resumes.
const OUTGOING_MAX: usize = 1024;
/// So many changes may wait for one watcher; a slower one is cut off and starts again from the state.
const CHANGES_MAX: usize = 1024;

/// Silence is counted in seconds.
const TICK: Duration = Duration::from_secs(1);

/// The way to the writer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fleet {
    queue: mpsc::Sender<Envelope>,
    directory: watch::Receiver<Arc<Directory>>,
    stats: Arc<Stats>,
}

/// A change on its way.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Reply, Refused>>);

impl Pending {
    /// Waits until the change is durable, or refused.
    ///
    /// # Errors
    /// Why nothing changed.
    pub async fn answer(self) -> Result<Reply, Refused> {
        self.0.await.unwrap_or(Err(Refused::Stopped))
    }
}

pub(crate) type Answer = oneshot::Sender<Result<Reply, Refused>>;
type Read = Box<dyn FnOnce(&State, Now) + Send>;

/// What waits in the queue.
pub(crate) enum Envelope {
    /// A change.
    Command(Command, Answer),
    /// A change that also subscribes to a node's orders.
    Open(Box<Hello>, mpsc::Sender<Outgoing>, Answer),
    /// A look at the committed state.
    Read(Read),
    /// A look and a subscription.
    Watch(Box<Watching>),
}

/// A job to be looked at and watched from then on.
pub(crate) struct Watching {
    pub(crate) job: JobRef,
    pub(crate) changes: mpsc::Sender<JobChange>,
    pub(crate) answer: oneshot::Sender<Result<JobDetail, Refused>>,
}

/// An open session of a node.
#[derive(Debug)]
pub struct NodeLink {
    /// Which node.
    pub node: NodeId,
    /// Goes into everything the node says on this connection.
    pub session: SessionId,
    /// The leader's term.
    pub epoch: u64,
    /// Events of the node's ledger up to here are durable.
    pub acked: Sequence,
    /// What to send. Ends (`None`) when fleetd stops; the session then closes.
    pub outgoing: mpsc::Receiver<Outgoing>,
}

/// What goes down to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// Orders of ascending generations, durable, not yet known to be applied.
    Orders(Vec<Order>),
    /// The last word: close the stream.
    Close(CloseReason),
}

/// Why fleetd ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The node was banned.
    Banned,
    /// A newer session of the node took over.
    Replaced,
}

/// A watched job.
#[derive(Debug)]
pub struct JobWatch {
    /// The job when the watch began.
    pub detail: JobDetail,
    /// Every change since. Ends after the job is done, or early if the watcher is too slow: then watch again.
    pub changes: mpsc::Receiver<JobChange>,
}

impl Fleet {
    pub(crate) const fn new(
        queue: mpsc::Sender<Envelope>,
        directory: watch::Receiver<Arc<Directory>>,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            queue,
            directory,
            stats,
        }
    }

    /// Asks for a change; answers once it is durable.
    ///
    /// # Errors
    /// Why nothing changed.
    pub async fn submit(&self, command: Command) -> Result<Reply, Refused> {
        let (answer, answered) = oneshot::channel();
        self.send(Envelope::Command(command, answer)).await?;
        answered.await.unwrap_or(Err(Refused::Stopped))
    }

    /// Asks for a change without waiting for its answer: a node's messages are handed on in their order, and
    /// several of them may share one commit.
    ///
    /// # Errors
    /// When fleetd is stopping.
    pub async fn enqueue(&self, command: Command) -> Result<Pending, Refused> {
        let (answer, answered) = oneshot::channel();
        self.send(Envelope::Command(command, answer)).await?;
        Ok(Pending(answered))
    }

    /// Opens a session for a node and subscribes to its orders.
    ///
    /// # Errors
    /// When the node is unknown or banned, or the change could not be made durable.
    pub async fn open_session(&self, hello: Hello) -> Result<NodeLink, Refused> {
        let node = hello.node;
        let (sender, outgoing) = mpsc::channel(OUTGOING_MAX);
        let (answer, answered) = oneshot::channel();
        self.send(Envelope::Open(Box::new(hello), sender, answer)).await?;
        match answered.await.unwrap_or(Err(Refused::Stopped))? {
            Reply::Welcome {
                session,
                epoch,
                acked,
            } => Ok(NodeLink {
                node,
                session,
                epoch,
                acked,
                outgoing,
            }),
            _ => Err(Refused::Stopped),
        }
    }

    /// Looks at the committed state, on the writer's thread: keep it short.
    ///
    /// # Errors
    /// When fleetd is stopping.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, Now) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let (answer, answered) = oneshot::channel();
        let read = Box::new(move |state: &State, now: Now| {
            // Whoever asked may have gone; then nobody misses the answer.
            answer.send(look(state, now)).ok();
        });
        self.send(Envelope::Read(read)).await?;
        answered.await.map_err(|_| Refused::Stopped)
    }

    /// A job now, and every change after it, without a gap between the two.
    ///
    /// # Errors
    /// When there is no such job.
    pub async fn watch_job(&self, job: JobRef) -> Result<JobWatch, Refused> {
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        let (answer, answered) = oneshot::channel();
        let watching = Box::new(Watching {
            job,
            changes: sender,
            answer,
        });
        self.send(Envelope::Watch(watching)).await?;
        let detail = answered.await.unwrap_or(Err(Refused::Stopped))?;
        Ok(JobWatch { detail, changes })
    }

    /// The people and bans that trust checks, always the newest durable ones.
    pub fn directory(&self) -> watch::Receiver<Arc<Directory>> {
        self.directory.clone()
    }

    /// What the writer counts about itself.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Sends the writer the time, once a second, until it ends. Run it once.
    pub async fn tick(self) {
        let mut interval = tokio::time::interval(TICK);
        // A tick that was missed is not made up for: the writer reads the clock itself.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            // A full disk is reported by the writer; the next tick tries again.
            if let Err(Refused::Stopped) = self.submit(Command::Tick).await {
                return;
            }
        }
    }

    /// Returns when the writer has ended: fleetd has to end too.
    pub async fn ended(&self) {
        self.queue.closed().await;
    }

    async fn send(&self, envelope: Envelope) -> Result<(), Refused> {
        self.queue.send(envelope).await.map_err(|_| Refused::Stopped)
    }
}
