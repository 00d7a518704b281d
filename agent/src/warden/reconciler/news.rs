//! What wakes the loop, and what it was told since its last round.

use std::sync::Arc;

use loadline_model::Generation;
use loadline_policy::ceiling::Wish;
use loadline_policy::headroom::Decision;
use tokio::sync::{mpsc, oneshot, watch};

use super::{CeilingError, Command, Incoming, ProveSeen};
use crate::host::systemd::Signal;
use crate::ledger::LedgerError;

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
