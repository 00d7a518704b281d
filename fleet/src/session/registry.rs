//! Which node is connected, and through what.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use loadline_model::{AttemptId, NodeId};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::logs::{LogReader, LogTable};
use super::wire::Down;
use crate::api::failure::Failure;
use crate::state::SessionId;

/// What goes down one stream; an error is its last word.
pub(super) type DownSender = mpsc::Sender<Result<Down, Failure>>;

/// The open sessions of all nodes.
#[derive(Debug, Clone)]
pub struct Sessions {
    open: Arc<Mutex<HashMap<NodeId, Arc<Open>>>>,
    changed: watch::Sender<u64>,
}

/// One open session.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: SessionId,
    pub(super) boot_id: String,
    pub(super) down: DownSender,
    pub(super) logs: LogTable,
}

/// The node has no session now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotConnected;

/// What of an attempt's output is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogStart {
    pub(crate) attempt: AttemptId,
    pub(crate) follow: bool,
    pub(crate) tail: Option<u32>,
    /// Only what comes after this place; wins over `tail`.
    pub(crate) after: Option<String>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            open: Arc::default(),
            changed: watch::channel(0).0,
        }
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Open>>> {
        // Nothing under this lock can leave the map half-changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many nodes are connected.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// A session began. The same certificate from another boot while the older session still looks alive is
    /// either a quick reboot or a copied key: the older one is closed by the writer, and said here. Two that begin
    /// at once may come in either order; the writer numbered them, and the newer one counts.
    pub(super) fn insert(&self, node: NodeId, open: Arc<Open>) {
        let boot_id = open.boot_id.clone();
        let older = {
            let mut held = self.lock();
            if held.get(&node).is_some_and(|held| held.id > open.id) {
                return;
            }
            held.insert(node, open)
        };
        if let Some(older) = older
            && older.boot_id != boot_id
        {
            warn!(%node, older_boot = %older.boot_id, newer_boot = %boot_id,
                "a second session with this node's certificate from another boot: the older one is closed");
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// A session ended, unless a newer one took its place.
    pub(super) fn remove(&self, node: NodeId, id: SessionId) {
        let mut open = self.lock();
        if open.get(&node).is_some_and(|held| held.id == id) {
            open.remove(&node);
        }
    }

    /// Asks a node for an attempt's output.
    pub(crate) fn read_logs(&self, node: NodeId, start: LogStart) -> Result<LogReader, NotConnected> {
        let open = self.lock().get(&node).cloned().ok_or(NotConnected)?;
        LogReader::start(open, start).ok_or(NotConnected)
    }

    /// Returns once the node has a session.
    pub(crate) async fn connected(&self, node: NodeId) {
        let mut changed = self.changed.subscribe();
        while !self.lock().contains_key(&node) {
            // The sender lives as long as `self`.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(id: u64) -> Arc<Open> {
        Arc::new(Open {
            id: SessionId(id),
            boot_id: String::new(),
            down: mpsc::channel(1).0,
            logs: LogTable::default(),
        })
    }

    #[test]
    fn the_newer_session_counts_in_whatever_order_two_are_registered() {
        let node: NodeId = "00000000-0000-0000-0000-00000000000a".parse().unwrap();
        let sessions = Sessions::default();
        sessions.insert(node, open(2));
        sessions.insert(node, open(1));
        // The older one ends, as the writer told it to.
        sessions.remove(node, SessionId(1));
        assert_eq!(sessions.lock().get(&node).map(|held| held.id), Some(SessionId(2)));
        sessions.insert(node, open(3));
        sessions.remove(node, SessionId(2));
        assert_eq!(sessions.count(), 1);
    }
}
