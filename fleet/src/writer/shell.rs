//! What follows from a durable batch: orders to nodes, changes to watchers, people and bans to trust.
//!
//! Everything is derived from the changes and the state after them, so there is no second list of effects that
//! could say something else.

use std::collections::BTreeMap;
use std::sync::Arc;

use loadline_model::{Generation, JobId, NodeId};
use tokio::sync::{mpsc, watch};

use super::handle::{CloseReason, Outgoing};
use crate::state::rows::Standing;
use crate::state::{Change, JobChange, Now, SessionId, State};
use crate::trust::Directory;

/// Everyone who is to be told.
#[derive(Debug)]
pub(crate) struct Shell {
    links: BTreeMap<NodeId, OutLink>,
    watchers: BTreeMap<JobId, Vec<mpsc::Sender<JobChange>>>,
    directory: watch::Sender<Arc<Directory>>,
}

#[derive(Debug)]
struct OutLink {
    session: SessionId,
    sender: mpsc::Sender<Outgoing>,
    /// Orders up to here were handed over on this connection.
    sent: Generation,
}

impl OutLink {
    /// False if the connection is gone or too slow; dropping the link then ends its session.
    fn send(&self, outgoing: Outgoing) -> bool {
        self.sender.try_send(outgoing).is_ok()
    }
}

impl Shell {
    pub(crate) fn new(state: &State) -> (Self, watch::Receiver<Arc<Directory>>) {
        let (directory, receiver) = watch::channel(Arc::new(state.directory()));
        (
            Self {
                links: BTreeMap::new(),
                watchers: BTreeMap::new(),
                directory,
            },
            receiver,
        )
    }

    /// A session was opened durably; its orders are sent with the rest of the batch.
    pub(crate) fn open(&mut self, node: NodeId, session: SessionId, sender: mpsc::Sender<Outgoing>) {
        let link = OutLink {
            session,
            sender,
            sent: Generation(0),
        };
        if let Some(old) = self.links.insert(node, link) {
            old.send(Outgoing::Close(CloseReason::Replaced));
        }
    }

    /// Those who left are taken off here: of a job that waits for days nothing else would notice them.
    pub(crate) fn watch(&mut self, job: JobId, watcher: mpsc::Sender<JobChange>) {
        let watchers = self.watchers.entry(job).or_default();
        watchers.retain(|watcher| !watcher.is_closed());
        watchers.push(watcher);
    }

    /// A batch is durable.
    pub(crate) fn tell(&mut self, state: &State, changes: &[Change], opened: &[NodeId], now: Now) {
        self.send_orders(state, changes, opened);
        self.close_links(state, changes);
        self.tell_watchers(state, changes, now);
        let trusted = |change: &Change| match change {
            Change::User(..) => true,
            Change::Node(_, row) => row.as_ref().is_some_and(|row| row.standing == Standing::Banned),
            _ => false,
        };
        if changes.iter().any(trusted) {
            self.directory.send_replace(Arc::new(state.directory()));
        }
    }

    fn send_orders(&mut self, state: &State, changes: &[Change], opened: &[NodeId]) {
        let mut nodes: Vec<NodeId> = opened.to_vec();
        for change in changes {
            if let Change::Order(node, _, Some(_))
            | Change::Ceiling(node, Some(_))
            | Change::Prove(node, Some(_)) = change
                && !nodes.contains(node)
            {
                nodes.push(*node);
            }
        }
        for node in nodes {
            let Some(link) = self.links.get_mut(&node) else {
                continue;
            };
            let orders = state.orders(node, link.sent);
            let Some(last) = orders.last() else { continue };
            link.sent = last.generation;
            if !link.send(Outgoing::Orders(orders)) {
                self.links.remove(&node);
            }
        }
    }

    fn close_links(&mut self, state: &State, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Node(node, Some(row)) if row.standing == Standing::Banned => {
                    if let Some(link) = self.links.remove(node) {
                        link.send(Outgoing::Close(CloseReason::Banned));
                    }
                }
                Change::Link(node, _) => {
                    let open = self.links.get(node).map(|link| link.session);
                    if open.is_some() && open != state.session(*node) {
                        self.links.remove(node);
                    }
                }
                _ => {}
            }
        }
    }

    fn tell_watchers(&mut self, state: &State, changes: &[Change], now: Now) {
        if self.watchers.is_empty() {
            return;
        }
        for change in state.job_changes(changes, now) {
            let job = change.summary.id;
            let Some(watchers) = self.watchers.get_mut(&job) else {
                continue;
            };
            watchers.retain(|watcher| watcher.try_send(change.clone()).is_ok());
            if watchers.is_empty() || state.is_done(job) {
                self.watchers.remove(&job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Loaded;

    #[test]
    fn watchers_of_a_job_that_never_changes_do_not_pile_up() {
        let (state, _) = State::load(Loaded::default());
        let (mut shell, _directory) = Shell::new(&state);
        let job: JobId = "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap();
        let (stays, _changes) = mpsc::channel(1);
        shell.watch(job, stays);
        for _ in 0..100 {
            shell.watch(job, mpsc::channel(1).0);
        }
        // The one that stays, and the last one, which nobody has looked at since it left.
        assert_eq!(shell.watchers[&job].len(), 2);
    }
}
