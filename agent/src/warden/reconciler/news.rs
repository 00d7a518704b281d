//! What is asked of the loop, what wakes it, and what it was told since its last round.

use std::sync::Arc;

use loadline_model::{AttemptId, Generation};
use loadline_policy::ceiling::Wish;
use loadline_policy::headroom::Decision;
use loadline_policy::week::Known;
use tokio::sync::{mpsc, oneshot, watch};

use super::{CeilingError, Incoming, Node, ProveSeen, Snapshot};
use crate::host::systemd::Signal;
use crate::ledger::LedgerError;

/// What others ask of the reconciler.
#[derive(Debug)]
pub enum Command {
    /// Take these orders; answered once they are durable.
    Apply {
        /// The orders.
        orders: Vec<Incoming>,
        /// The generation that is durable now.
        reply: oneshot::Sender<Result<Generation, Arc<LedgerError>>>,
    },
    /// How things stand.
    Status {
        /// How.
        reply: oneshot::Sender<Snapshot>,
    },
    /// The owner changed the policy, or the machine changed; answered once whoever has to go for it was told.
    Replace(Box<Node>, oneshot::Sender<()>),
    /// Root on this node lets it do no more than this; answered once it is durable.
    Ceiling {
        /// What they want.
        wish: Wish,
        /// Done, or why not.
        reply: oneshot::Sender<Result<(), CeilingError>>,
    },
    /// This is what is known of production's week now.
    Week(Known),
    /// The fleet's test moved on; answered once that is durable.
    Proved(ProveSeen),
    /// End every worker by name, and start none any more.
    Drain {
        /// Who was told to end.
        reply: oneshot::Sender<Vec<AttemptId>>,
    },
}

/// What the loop is woken by.
pub(super) struct Wakers {
    pub(super) signals: mpsc::Receiver<Signal>,
    pub(super) records: mpsc::Receiver<()>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) wanted: watch::Receiver<Option<Decision>>,
}

type Durable = Result<Generation, Arc<LedgerError>>;

/// What came since the last round and has to be durable before it is answered.
#[derive(Default)]
pub(super) struct News {
    pub(super) orders: Vec<Incoming>,
    pub(super) wishes: Vec<(Wish, oneshot::Sender<Result<(), CeilingError>>)>,
    pub(super) seen: Vec<ProveSeen>,
    pub(super) waiting: Vec<oneshot::Sender<Durable>>,
    pub(super) replaced: Vec<oneshot::Sender<()>>,
}

impl News {
    /// True if somebody waits for an answer.
    pub(super) fn wants_durability(&self) -> bool {
        !self.waiting.is_empty() || !self.wishes.is_empty() || !self.seen.is_empty()
    }
}
